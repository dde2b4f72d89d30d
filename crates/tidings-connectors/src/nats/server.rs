//! Addresses of NATS servers: those that the options name, and those that the servers name. Knows
//! no connection.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::limits::NATS_SERVERS_MAX;
use crate::nats::options::bad;
use crate::specification::BadOption;

const PORT: u16 = 4222;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address, an IPv6 address without brackets.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// Without TLS it is not spoken to.
    pub(super) needs_tls: bool,
    /// The name that its certificate has to have.
    pub(super) certified: String,
    /// Whether a server told of it, and not the configuration.
    pub(super) is_told: bool,
}

impl Server {
    /// For logs.
    pub(super) fn shown(&self) -> String {
        let scheme = if self.needs_tls { "tls" } else { "nats" };
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// What stands before the `@` of an address.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum InUrl {
    /// `token@`.
    Token(String),
    /// `user:password@`.
    Password(String, String),
}

/// What `url` says.
#[derive(Clone)]
pub(super) struct Addresses {
    /// At least one.
    pub(super) servers: Vec<Server>,
    /// The first login in it.
    pub(super) login: Option<InUrl>,
}

impl Addresses {
    /// Reads addresses that are separated by commas.
    pub(super) fn parse(list: &str) -> Result<Addresses, BadOption> {
        let hint = "write for example \"nats://localhost:4222\", several separated by commas";
        let mut addresses = Addresses { servers: Vec::new(), login: None };
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let (server, login) = address(text).map_err(|why| bad("url", why, Some(hint)))?;
            addresses.servers.push(server);
            addresses.login = addresses.login.or(login);
        }
        match addresses.servers.len() {
            0 => Err(bad("url", "no server is named", Some(hint))),
            1..=NATS_SERVERS_MAX => Ok(addresses),
            _ => Err(bad("url", &format!("more than {NATS_SERVERS_MAX} servers"), None)),
        }
    }

    /// All servers, without what is secret.
    pub(super) fn shown(&self) -> String {
        self.servers.iter().map(Server::shown).collect::<Vec<_>>().join(",")
    }
}

/// One address. The error never repeats the text, which may hold a password.
fn address(text: &str) -> Result<(Server, Option<InUrl>), &'static str> {
    let not_one = "one of the servers is no address";
    let with_scheme = match text.contains("://") {
        true => text.to_owned(),
        false => format!("nats://{text}"),
    };
    let url = Url::parse(&with_scheme).map_err(|_| not_one)?;
    let needs_tls = match url.scheme() {
        "nats" => false,
        "tls" => true,
        _ => return Err("servers are named by nats:// or tls://"),
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("nothing may stand behind the port of a server");
    }
    let host = match url.host().ok_or(not_one)? {
        Host::Domain(name) => percent_decode_str(name).decode_utf8_lossy().into_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    if host.is_empty() {
        return Err(not_one);
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    // An empty password is one as well, which the parser does not tell from none.
    let before = with_scheme.rsplit_once('@').and_then(|(before, _)| before.split_once("://"));
    let is_empty = before.is_some_and(|(_, login)| login.ends_with(':'));
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (user, None) if is_empty => Some(InUrl::Password(decoded(user), String::new())),
        (token, None) => Some(InUrl::Token(decoded(token))),
        (user, Some(password)) => Some(InUrl::Password(decoded(user), decoded(password))),
    };
    let port = url.port().unwrap_or(PORT);
    let certified = host.clone();
    Ok((Server { certified, host, port, needs_tls, is_told: false }, login))
}

/// All servers that are known, and whose turn it is.
#[derive(Debug)]
pub(super) struct Servers {
    configured: Vec<Server>,
    named: Vec<Server>,
    turn: usize,
}

impl Servers {
    pub(super) fn new(configured: Vec<Server>) -> Servers {
        Servers { configured, named: Vec::new(), turn: 0 }
    }

    /// How many are known.
    pub(super) fn count(&self) -> usize {
        self.configured.len() + self.named.len()
    }

    /// Whose turn it is to be tried.
    pub(super) fn next(&mut self) -> Option<Server> {
        let at = self.turn % self.count().max(1);
        self.turn = at + 1;
        self.configured.iter().chain(&self.named).nth(at).cloned()
    }

    /// The one that was tried last is tried first again: it was good.
    pub(super) fn stay(&mut self) {
        self.turn = self.turn.saturating_sub(1);
    }

    /// Remembers what a server said who else is there, in place of what one said before. They are
    /// trusted as the configured ones are: the same TLS, and for an address the same certificate.
    pub(super) fn learn(&mut self, names: &[String]) {
        let Some(first) = self.configured.first().cloned() else { return };
        let mut named: Vec<Server> = Vec::new();
        for name in names.iter().take(NATS_SERVERS_MAX) {
            let Ok((server, _)) = address(name) else { continue };
            let is_known = |known: &Server| known.host == server.host && known.port == server.port;
            if self.configured.iter().chain(&named).any(is_known) {
                continue;
            }
            let is_address = server.host.parse::<std::net::IpAddr>().is_ok();
            let certified =
                if is_address { first.certified.clone() } else { server.certified.clone() };
            let needs_tls = first.needs_tls || server.needs_tls;
            named.push(Server { certified, needs_tls, is_told: true, ..server });
        }
        self.named = named;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(list: &str) -> Result<String, String> {
        Addresses::parse(list).map(|addresses| addresses.shown()).map_err(|bad| bad.message)
    }

    #[test]
    fn addresses_are_read_with_and_without_scheme_and_port() {
        for (list, expected) in [
            ("localhost", "nats://localhost:4222"),
            ("localhost:4333", "nats://localhost:4333"),
            ("nats://a", "nats://a:4222"),
            ("tls://a:1", "tls://a:1"),
            ("10.0.0.1", "nats://10.0.0.1:4222"),
            ("[::1]:1", "nats://[::1]:1"),
            ("a, b:2 ,tls://c", "nats://a:4222,nats://b:2,tls://c:4222"),
            ("nats://me:secret@a/", "nats://a:4222"),
        ] {
            assert_eq!(shown(list).as_deref(), Ok(expected), "{list}");
        }
        for bad in ["", ",", "http://a", "ws://a", "nats://a/b", "nats://a?x", "nats://", "a:99999"]
        {
            assert!(shown(bad).is_err(), "{bad}");
        }
        assert!(!shown("nats://me:secret@a:99999").unwrap_err().contains("secret"));
    }

    #[test]
    fn a_login_may_stand_in_the_address() {
        let login = |list: &str| Addresses::parse(list).unwrap().login;
        let pair = |user: &str, password: &str| Some(InUrl::Password(user.into(), password.into()));
        assert!(login("nats://me:p%40ss@a") == pair("me", "p@ss"));
        assert!(login("a,nats://me:@b") == pair("me", ""));
        assert!(login("nats://token@a") == Some(InUrl::Token("token".into())));
        assert!(login("a").is_none());
    }

    #[test]
    fn each_server_has_its_turn() {
        let configured = Addresses::parse("tls://a,b").unwrap().servers;
        let mut servers = Servers::new(configured);
        servers.learn(&["b:4222".into(), "10.0.0.1:5".into(), "c:6".into(), "/".into()]);
        let turn = |servers: &mut Servers| servers.next().unwrap().shown();
        let round: Vec<_> = (0..4).map(|_| turn(&mut servers)).collect();
        assert_eq!(round, ["tls://a:4222", "nats://b:4222", "tls://10.0.0.1:5", "tls://c:6"]);
        assert_eq!(turn(&mut servers), "tls://a:4222");
        servers.stay();
        assert_eq!(turn(&mut servers), "tls://a:4222");
        assert_eq!(servers.configured.len() + servers.named.len(), servers.count());
        servers.learn(&[]);
        assert_eq!(servers.count(), 2);
    }
}
