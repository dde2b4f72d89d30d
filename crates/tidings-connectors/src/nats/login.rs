//! How we log in at a NATS server: not at all, by user and password, token, nkey, or a credentials
//! file. Knows no socket. Nothing of it is ever shown.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::limits::NATS_FILE_BYTES_MAX;
use crate::nats::nkey::UserKey;
use crate::nats::options::{ServerOptions, bad};
use crate::nats::server::{Addresses, InUrl};
use crate::specification::BadOption;

/// What a server says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Greeting {
    /// Its version.
    pub(super) version: String,
    /// Whether it knows headers.
    pub(super) headers: bool,
    /// The largest message in bytes, headers included.
    pub(super) max_payload: usize,
    /// It speaks nothing but TLS from here on.
    pub(super) tls_required: bool,
    /// It speaks TLS if we want.
    pub(super) tls_available: bool,
    /// What is signed to log in by a key.
    pub(super) nonce: Option<String>,
    /// Others of its cluster.
    pub(super) connect_urls: Option<Vec<String>>,
    /// It is about to send everybody away: "lame duck mode".
    pub(super) ldm: bool,
}

/// How we log in.
pub(super) enum Login {
    /// As nobody.
    Nobody,
    /// By name.
    Password(String, String),
    /// By a word.
    Token(String),
    /// By a key alone.
    Key(UserKey),
    /// By a JWT and its key, read at each login: somebody else renews them.
    File(PathBuf),
}

impl Login {
    /// What the options say. All that is wrong with them otherwise.
    pub(super) fn new(
        options: &ServerOptions,
        addresses: &Addresses,
    ) -> Result<Login, Vec<BadOption>> {
        let ServerOptions { user, password, token, nkey_seed, creds_file, .. } = options;
        let mut found: Vec<(&str, Login)> = Vec::new();
        let mut problems = Vec::new();
        match (user, password) {
            (Some(user), Some(password)) => {
                let password = password.expose().to_owned();
                found.push(("user", Login::Password(user.clone(), password)));
            }
            (Some(_), None) => problems.push(bad("password", "missing beside user", None)),
            (None, Some(_)) => problems.push(bad("user", "missing beside password", None)),
            (None, None) => {}
        }
        if let Some(token) = token {
            found.push(("token", Login::Token(token.expose().to_owned())));
        }
        match nkey_seed.as_ref().map(|seed| UserKey::parse(seed.expose())) {
            Some(Ok(key)) => found.push(("nkey_seed", Login::Key(key))),
            Some(Err(wrong)) => problems.push(bad("nkey_seed", &wrong.to_string(), None)),
            None => {}
        }
        match creds_file.as_ref().map(|path| (path, credentials(path))) {
            Some((path, Ok(_))) => found.push(("creds_file", Login::File(path.clone()))),
            Some((_, Err(wrong))) => problems.push(bad("creds_file", &wrong, None)),
            None => {}
        }
        match addresses.login.clone() {
            Some(InUrl::Token(token)) => found.push(("url", Login::Token(token))),
            Some(InUrl::Password(user, password)) => {
                found.push(("url", Login::Password(user, password)));
            }
            None => {}
        }
        if let [(first, _), (second, _), ..] = found.as_slice() {
            let message = format!("there is another way to log in already, in {first}");
            problems.push(bad(second, &message, Some("keep one of them")));
        }
        match problems.is_empty() {
            true => Ok(found.pop().map_or(Login::Nobody, |(_, login)| login)),
            false => Err(problems),
        }
    }

    /// The options of `CONNECT`, in one line. The error says what to do.
    pub(super) fn connect(
        &self,
        client: &str,
        greeting: &Greeting,
        is_tls: bool,
    ) -> Result<String, String> {
        let mut options = json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": is_tls,
            "name": client,
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "echo": true,
            "headers": true,
            "no_responders": greeting.headers,
        });
        let nonce = || {
            greeting.nonce.as_deref().ok_or_else(|| {
                "the server does not ask for a signature: is it set up for keys?".to_owned()
            })
        };
        match self {
            Login::Nobody => {}
            Login::Password(user, password) => {
                set(&mut options, "user", user);
                set(&mut options, "pass", password);
            }
            Login::Token(token) => set(&mut options, "auth_token", token),
            Login::Key(key) => {
                set(&mut options, "nkey", &key.public());
                set(&mut options, "sig", &key.sign(nonce()?));
            }
            Login::File(path) => {
                let (jwt, key) = credentials(path)?;
                set(&mut options, "jwt", &jwt);
                set(&mut options, "nkey", &key.public());
                set(&mut options, "sig", &key.sign(nonce()?));
            }
        }
        Ok(options.to_string())
    }
}

fn set(options: &mut Value, name: &str, value: &str) {
    if let Some(options) = options.as_object_mut() {
        options.insert(name.to_owned(), value.into());
    }
}

/// Reads a file of bounded size. The error names it.
pub(super) fn file(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let length = std::fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?.len();
    if length > NATS_FILE_BYTES_MAX {
        return Err(format!("{shown}: larger than {NATS_FILE_BYTES_MAX} bytes"));
    }
    let mut bytes = Vec::new();
    // The length of what is no plain file says nothing.
    let file = std::fs::File::open(path).map_err(|error| format!("{shown}: {error}"))?;
    let read = file.take(NATS_FILE_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| format!("{shown}: {error}"))?;
    Ok(bytes)
}

/// The JWT and the key of a credentials file.
fn credentials(path: &Path) -> Result<(String, UserKey), String> {
    let text =
        String::from_utf8(file(path)?).map_err(|_| format!("{}: is no text", path.display()))?;
    let missing = |what: &str| format!("{}: has no {what} between its lines", path.display());
    let jwt = section(&text, "JWT").ok_or_else(|| missing("JWT"))?;
    let seed = section(&text, "SEED").ok_or_else(|| missing("seed"))?;
    let key = UserKey::parse(seed).map_err(|wrong| format!("{}: {wrong}", path.display()))?;
    Ok((jwt.to_owned(), key))
}

/// What stands between a line of dashes that says `BEGIN` and the name, and the next line of
/// dashes.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(name))?;
    lines.find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::nkey::seed_of;
    use crate::secret::Secret;

    fn login(options: &ServerOptions) -> Result<Login, Vec<BadOption>> {
        let addresses = Addresses::parse(&options.url).unwrap();
        Login::new(options, &addresses)
    }

    fn connect(options: &ServerOptions) -> Value {
        let nonce = Some("once".to_owned());
        let greeting = Greeting { headers: true, nonce, ..Greeting::default() };
        let line = login(options).ok().unwrap().connect("me", &greeting, false).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn local() -> ServerOptions {
        ServerOptions { url: "localhost".into(), ..ServerOptions::default() }
    }

    #[test]
    fn each_way_to_log_in_says_what_the_server_wants() {
        let nobody = connect(&local());
        assert_eq!((&nobody["user"], &nobody["headers"]), (&Value::Null, &Value::Bool(true)));
        let user = Some("u".to_owned());
        let password = Some(Secret::new(""));
        let named = connect(&ServerOptions { user, password, ..local() });
        assert_eq!((&named["user"], &named["pass"]), (&json!("u"), &json!("")));
        let in_url = connect(&ServerOptions { url: "nats://a:b@h".into(), ..local() });
        assert_eq!((&in_url["user"], &in_url["pass"]), (&json!("a"), &json!("b")));
        let token = connect(&ServerOptions { token: Some(Secret::new("t")), ..local() });
        assert_eq!(token["auth_token"], "t");
        let (seed, public) = seed_of([3; 32]);
        let key =
            connect(&ServerOptions { nkey_seed: Some(Secret::new(seed.as_str())), ..local() });
        assert_eq!(key["nkey"], json!(public));
        assert_eq!(key["sig"].as_str().unwrap().len(), 86);

        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(file.path(), text).unwrap();
        let creds_file = Some(file.path().to_owned());
        let creds = connect(&ServerOptions { creds_file, ..local() });
        assert_eq!((&creds["jwt"], &creds["nkey"]), (&json!("a.b.c"), &json!(public)));
    }

    #[test]
    fn a_login_that_is_not_one_is_refused() {
        let wrong = |options: ServerOptions| {
            let problems = login(&options).err().unwrap();
            problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        let token = || Some(Secret::new("t"));
        let user = Some("u".to_owned());
        assert_eq!(wrong(ServerOptions { user, ..local() }), ["password"]);
        assert_eq!(wrong(ServerOptions { password: token(), ..local() }), ["user"]);
        assert_eq!(wrong(ServerOptions { nkey_seed: token(), ..local() }), ["nkey_seed"]);
        let creds_file = Some(PathBuf::from("/nowhere/x.creds"));
        assert_eq!(wrong(ServerOptions { creds_file, ..local() }), ["creds_file"]);
        let twice = ServerOptions { url: "nats://a:b@h".into(), token: token(), ..local() };
        assert_eq!(wrong(twice), ["url"]);
    }

    #[test]
    fn a_key_needs_something_to_sign() {
        let options = ServerOptions { nkey_seed: Some(Secret::new(seed_of([3; 32]).0)), ..local() };
        let login = login(&options).ok().unwrap();
        assert!(login.connect("me", &Greeting::default(), false).is_err());
    }
}
