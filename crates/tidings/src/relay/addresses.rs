//! Where a relay takes messages from and where it sends them: addresses as people write them. Knows
//! no variable.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// The port of a NATS server that none is written for.
const NATS_PORT: u16 = 4222;
/// Names that each machine has for itself (RFC 6761), and that containers have for theirs.
const OWN_NAMES: [&str; 3] = ["localhost", "host.docker.internal", "host.containers.internal"];

/// A destination without the user in it, and that user with its password.
pub(super) type Destination = (Url, Option<(String, String)>);

/// A destination, if it is an http or https URL.
pub(super) fn destination(text: &str) -> Option<Destination> {
    let mut url = Url::parse(text).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let has_user = !url.username().is_empty() || url.password().is_some();
    let basic =
        has_user.then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
    // Which is for browsers, and is never sent.
    url.set_fragment(None);
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    Some((url, basic))
}

/// A server's address with its scheme and port.
pub(super) fn server(text: &str) -> Option<String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url = Url::parse(&whole).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
    let is_known = matches!(url.scheme(), "nats" | "tls") && url.fragment().is_none();
    if !is_bare || !is_known || url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    if url.port().is_none() {
        url.set_port(Some(NATS_PORT)).ok()?;
    }
    Some(url.as_str().trim_end_matches('/').to_owned())
}

/// The same servers, without who logs in there.
pub(super) fn without_login(servers: Vec<String>) -> Vec<String> {
    let without = |server: String| {
        let (Some((scheme, _)), Some((_, host))) =
            (server.split_once("://"), server.rsplit_once('@'))
        else {
            return server;
        };
        format!("{scheme}://{host}")
    };
    servers.into_iter().map(without).collect()
}

/// Whether a URL means another place on each machine.
pub(super) fn is_of_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            OWN_NAMES.contains(&name) || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
        Some(Host::Ipv6(address)) => {
            address.to_canonical().is_loopback() || address.is_unspecified()
        }
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_names_and_addresses_are_of_each_machine() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST.", true),
            ("app.localhost", true),
            ("host.docker.internal", true),
            ("127.0.0.1", true),
            ("127.8.0.1", true),
            ("0.0.0.0", true),
            ("[::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("example.com", false),
            ("next", false),
            ("frontend.default.svc.cluster.local", false),
            ("192.168.1.2", false),
            ("[fd00::1]", false),
        ] {
            let url = Url::parse(&format!("http://{host}:3000/api")).unwrap();
            assert_eq!(is_of_machine(&url), expected, "{host}");
        }
    }
}
