//! `[courier]`: tenants of an application over bare WebSockets, and the configuration of `tidings
//! courier`, which is a hub with nothing else.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tidings_frontends::courier::check_key_secret;
use tidings_frontends::limits::{COURIER_SECRET_BYTES_USUAL, SIGN_LIFETIME_DEFAULT};
use url::Url;

use super::load::{Meaning, from_text};
use super::mistakes::Mistakes;
use super::schema::{Default, Key, Kind, bound, unset};
use super::variables::read_secret;
use super::{Config, Durability, duration};
use crate::courier::CourierSettings;

/// Settings of `[courier]`.
pub(super) const KEYS: [Key; 7] = [
    unset(
        "courier.jwt_secret",
        Kind::Secret,
        r#""the secret of the application's tokens""#,
        "The secret that verifies the tokens of Courier's clients (HS256). With it, Courier is
served; without it, it is not.",
    ),
    unset(
        "courier.jwt_secret_file",
        Kind::File,
        r#""/run/secrets/courier.jwt""#,
        "The file with that secret.",
    ),
    unset(
        "courier.key_secret",
        Kind::Secret,
        r#""0123456789abcdef0123456789abcdef""#,
        "The key of URLs that an older program signed, 16, 24 or 32 bytes. Only where such URLs are
still in use: they count as long as the token in them.",
    ),
    unset(
        "courier.key_secret_file",
        Kind::File,
        r#""/run/secrets/courier.key""#,
        "The file with that key.",
    ),
    unset(
        "courier.ws_url",
        Kind::Text,
        r#""wss://hub.example.com/ws""#,
        "The URL that signed URLs begin with. Unset, it is `/ws` below `public_url` and
`courier.path`.",
    ),
    unset(
        "courier.path",
        Kind::UrlPath,
        r#""/courier""#,
        "What stands before /v1 and /ws, below the path of `public_url`. Unset, nothing does.",
    ),
    bound(
        "courier.sign_lifetime",
        Kind::Duration,
        Default::Span(SIGN_LIFETIME_DEFAULT),
        "How long a signed URL opens connections. They last as long as the token
that asked for it.",
    ),
];

/// `[courier]` as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CourierTable {
    #[serde(default)]
    jwt_secret: Option<Hidden>,
    #[serde(default)]
    jwt_secret_file: Option<PathBuf>,
    #[serde(default)]
    key_secret: Option<Hidden>,
    #[serde(default)]
    key_secret_file: Option<PathBuf>,
    #[serde(default)]
    ws_url: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(deserialize_with = "duration::deserialize")]
    sign_lifetime: Duration,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Hidden")
    }
}

/// `[courier]`, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct CourierOptions {
    /// The secret of the application's tokens.
    pub jwt_secret: String,
    /// The key of URLs that an older program signed: 16, 24 or 32 bytes.
    pub key_secret: Option<String>,
    /// What signed URLs begin with: a ws or wss URL.
    pub ws_url: Url,
    /// What stands before all paths, that of the public URL included; may be empty.
    pub path: String,
    /// How long a signed URL opens connections.
    pub sign_lifetime: Duration,
}

// By hand: secrets never reach a log through `{:?}`.
impl fmt::Debug for CourierOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("CourierOptions");
        shown.field("path", &self.path).field("sign_lifetime", &self.sign_lifetime);
        shown.finish_non_exhaustive()
    }
}

/// Whether tokens under this secret are hard to forge; what is to be said where they are not.
pub(crate) fn short_secret(secret: &str) -> Option<String> {
    (secret.len() < COURIER_SECRET_BYTES_USUAL).then(|| {
        format!(
            "the secret of Courier's tokens has fewer than {COURIER_SECRET_BYTES_USUAL} bytes: \
             whoever has one token can guess it. Take another one, in the application as well"
        )
    })
}

/// A URL of WebSockets; one of HTTP means the one at the same place.
pub(crate) fn socket_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return None,
    };
    let is_plain = url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    // Between these schemes a URL may change.
    (is_plain && url.set_scheme(scheme).is_ok()).then_some(url)
}

impl Meaning<'_> {
    /// `None` where Courier is not served.
    pub(super) fn courier(
        &mut self,
        table: CourierTable,
        public_url: &Url,
        notes: &mut Vec<String>,
    ) -> Option<CourierOptions> {
        let CourierTable { jwt_secret, jwt_secret_file, key_secret, key_secret_file, .. } = table;
        let jwt_secret = self.secret("courier.jwt_secret", jwt_secret, jwt_secret_file);
        let key_secret = self.secret("courier.key_secret", key_secret, key_secret_file);
        if let Some(Err(bad)) = key_secret.as_deref().map(check_key_secret) {
            let hint = "it is COURIER_KEY_SECRET of the program that signed the URLs";
            self.wrong("courier.key_secret", bad.to_string(), hint);
        }
        if table.sign_lifetime.is_zero() {
            let hint = "some minutes: a page opens it at once";
            self.wrong("courier.sign_lifetime", "`sign_lifetime` is zero", hint);
        }
        let base = public_url.path().trim_end_matches('/');
        let path = format!("{base}{}", table.path.unwrap_or_default());
        let ws_url = match &table.ws_url {
            Some(text) => socket_url(text),
            None => {
                let mut url = public_url.clone();
                url.set_path(&format!("{path}/ws"));
                socket_url(url.as_str())
            }
        };
        if ws_url.is_none() {
            let hint = "as in wss://hub.example.com/ws";
            self.wrong("courier.ws_url", "`ws_url` is no URL of a WebSocket", hint);
        }
        let jwt_secret = jwt_secret?;
        notes.extend(short_secret(&jwt_secret));
        let sign_lifetime = table.sign_lifetime;
        Some(CourierOptions { jwt_secret, key_secret, ws_url: ws_url?, path, sign_lifetime })
    }

    /// A secret, wherever it comes from.
    fn secret(
        &mut self,
        name: &str,
        written: Option<Hidden>,
        file: Option<PathBuf>,
    ) -> Option<String> {
        let Some(path) = file else { return written.map(|Hidden(secret)| secret) };
        let place = format!("{name}_file");
        if written.is_some() {
            self.wrong(&place, "the secret itself is set, too", "set one of them");
        }
        match read_secret(&path) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.wrong(&place, message, "a file with the secret alone");
                None
            }
        }
    }
}

/// What a hub has that serves Courier alone.
const BASE: &str = r#"
public_url = "PUBLIC_URL"
[history]
durability = "memory"
keep = { age = "7d", size = "256 MiB" }
[[auth.issuer]]
id = "https://courier.invalid"
accept = ["1.0"]
publish = { key = "KEY", algorithm = "HS256" }
[admin]
listen = "off"
"#;
/// Bytes of the history in a data folder: as of any hub.
const KEPT_BYTES: u64 = 10 * 1024 * 1024 * 1024;

/// The configuration of `tidings courier` for these settings.
///
/// # Errors
///
/// What is wrong with them beyond what [`CourierSettings`] knows.
pub fn courier(settings: &CourierSettings) -> Result<Config, Mistakes> {
    // Nobody else publishes: the key is known nowhere.
    let key = super::relay::fresh_key();
    let key = key.map_err(|error| Mistakes::one(error.to_string(), "try again"))?;
    let mut public_url = settings.ws_url.clone();
    public_url.set_path("");
    public_url.set_query(None);
    let http = if public_url.scheme() == "wss" { "https" } else { "http" };
    let public_url = public_url.as_str().replacen(settings.ws_url.scheme(), http, 1);
    let base = BASE.replace("PUBLIC_URL", &public_url).replace("KEY", &key);
    let mut config = from_text("courier", &base, &settings.http)?;
    config.is_courier = true;
    config.listen.clone_from(&settings.listen);
    config.admin.listen = settings.admin_listen;
    config.admin.token.clone_from(&settings.admin_token);
    if let Some(log) = &settings.log {
        config.log.level.clone_from(log);
    }
    match &settings.data {
        Some(data) => {
            config.history.path = Some(data.clone());
            config.history.durability = Durability::Fsync;
            config.history.keep.size = Some(KEPT_BYTES);
        }
        None => config.notes.push(
            "audiences, topics and messages are lost when this process ends: TIDINGS_DATA names a \
             folder where they are kept"
                .to_owned(),
        ),
    }
    config.notes.extend(short_secret(&settings.jwt_secret));
    if settings.has_database {
        config.notes.push(
            "COURIER_DATABASE_URL is for `tidings courier import`, which brings what is there"
                .to_owned(),
        );
    }
    config.courier = Some(CourierOptions {
        jwt_secret: settings.jwt_secret.clone(),
        key_secret: settings.key_secret.clone(),
        ws_url: settings.ws_url.clone(),
        path: String::new(),
        sign_lifetime: SIGN_LIFETIME_DEFAULT,
    });
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Variables;

    fn load(more: &str) -> Result<Config, String> {
        let text = format!(
            "public_url = \"https://hub.example/base\"\n[history]\ndurability = \"memory\"\n\
             [[auth.issuer]]\nid = \"a\"\npublish = {{ key = \
             \"0123456789abcdef0123456789abcdef\" }}\n[courier]\n{more}"
        );
        from_text("a.toml", &text, &Variables::default()).map_err(|bad| bad.report(false))
    }

    const SECRET: &str = "jwt_secret = \"0123456789abcdef0123456789abcdef\"\n";

    #[test]
    fn courier_is_served_where_there_is_a_secret() {
        assert_eq!(load("").unwrap().courier, None);
        let options = load(SECRET).unwrap().courier.unwrap();
        assert_eq!(options.ws_url.as_str(), "wss://hub.example/base/ws");
        assert_eq!((options.path.as_str(), options.key_secret.as_ref()), ("/base", None));
        assert_eq!(options.sign_lifetime, Duration::from_secs(300));
        let options = load(&format!("{SECRET}path = \"/c\"")).unwrap().courier.unwrap();
        assert_eq!(options.ws_url.as_str(), "wss://hub.example/base/c/ws");
        let options = load(&format!("{SECRET}ws_url = \"http://a/x\"")).unwrap().courier.unwrap();
        assert_eq!(options.ws_url.as_str(), "ws://a/x");
        assert!(!format!("{options:?}").contains("0123"));
    }

    #[test]
    fn mistakes_are_explained_without_the_secrets() {
        for (more, part) in [
            ("key_secret = \"0123456789\"", "has 10 bytes: AES takes 16, 24 or 32"),
            ("ws_url = \"ftp://a\"", "no URL of a WebSocket"),
            ("sign_lifetime = \"0s\"", "is zero"),
            ("jwt_secret_file = \"/x\"", "the secret itself is set, too"),
            ("key_secret_file = \"/nowhere/at/all\"", "cannot read /nowhere/at/all"),
        ] {
            let report = load(&format!("{SECRET}{more}")).unwrap_err();
            assert!(report.contains(part), "{report}");
            assert!(!report.contains("0123456789abcdef"), "{report}");
        }
        let short = load("jwt_secret = \"short\"").unwrap();
        assert!(short.notes.iter().any(|note| note.contains("fewer than 32 bytes")));
    }
}
