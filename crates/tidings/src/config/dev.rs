//! The configuration of `tidings dev`: open to this machine, with a key of its own and the key of
//! the Mercure documentation. Insecure on purpose, and says so.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tidings_core::Clock;
use tidings_frontends::auth::WELL_KNOWN_SECRET;

use super::mistakes::Mistakes;
use super::schema::Kind;
use super::value::{Node, Place, Value, steps};
use super::variables::{Variables, read_secret};
use super::{Config, environment, load, scalar};
use crate::clock::SystemClock;
use crate::limits::{DEV_KEY_BYTES, DEV_TOKEN_AGE};

/// Where a development hub listens unless told otherwise: for this machine only.
const LISTEN: &str = "127.0.0.1:3000";
/// Where its data is unless told otherwise.
const DATA: &str = ".tidings";
/// The file with the hub's own key, in that folder.
const KEY: &str = "dev.key";
/// The issuer of the tokens that `tidings dev` makes.
const OWN_ISSUER: &str = "urn:tidings:dev";
/// The issuer in the examples of the Mercure documentation.
const EXAMPLE_ISSUER: &str = "https://localhost";
/// The audience in those examples.
const EXAMPLE_AUDIENCE: &str = "https://localhost/.well-known/mercure";
/// Pages of this machine, which get credentials; all others go without.
const ORIGINS: [&str; 6] = [
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://[::1]:*",
    "https://[::1]:*",
];

/// What only a development hub has.
#[derive(Clone)]
pub struct Dev {
    /// A 1.0 token for everything.
    pub token: String,
    /// A 0.x token for everything.
    pub draft_token: String,
    /// An API key for every topic, the same in every run of this folder.
    pub api_key: String,
}

impl std::fmt::Debug for Dev {
    /// Without the tokens.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dev").finish_non_exhaustive()
    }
}

/// The configuration of a development hub that listens on `listen` and keeps its history, and its
/// key for tokens, in `data` (made when missing). Variables set what is `None` and everything else.
pub fn dev(listen: Option<SocketAddr>, data: Option<&Path>) -> Result<Config, Mistakes> {
    let (variables, problems) = Variables::of_process(Path::new("."));
    if !problems.is_empty() {
        return Err(Mistakes::new(None, problems));
    }
    dev_under(listen, data, &variables)
}

/// As [`dev`], for a hub that has been started in this folder before: makes nothing.
pub fn dev_again(listen: Option<SocketAddr>, data: Option<&Path>) -> Result<Config, Mistakes> {
    let folder = data.unwrap_or(Path::new(DATA));
    if !folder.join(KEY).exists() {
        return Err(Mistakes::one(
            format!("{}: no development hub has been here", folder.display()),
            "go to the folder where `tidings dev` was started, or name its data: --data DIR",
        ));
    }
    dev(listen, data)
}

fn dev_under(
    listen: Option<SocketAddr>,
    data: Option<&Path>,
    variables: &Variables,
) -> Result<Config, Mistakes> {
    let folder = data.unwrap_or(Path::new(DATA));
    let key = own_key(folder).map_err(|error| {
        let message = format!("{}: {error}", folder.display());
        Mistakes::one(message, "choose a folder for the data: tidings dev --data DIR")
    })?;
    let written = Written { listen: listen.map(|address| address.to_string()), data };
    let mut tree = tree(written.port(variables), folder, &key);
    let problems = environment::apply(&mut tree, variables);
    written.lay_over(&mut tree);
    let notes = vec!["development mode: everybody on this machine may do everything".to_owned()];
    let mut config =
        load::finish(&tree, problems, notes).map_err(|problems| Mistakes::new(None, problems))?;
    let is_open = |address: &&SocketAddr| !address.ip().to_canonical().is_loopback();
    config.notes.extend(config.listen.iter().filter(is_open).map(|address| {
        format!(
            "INSECURE: {address} is not a loopback address. Everybody who reaches this machine \
             can publish with the well-known development key"
        )
    }));
    let now = SystemClock::new().wall() / 1_000;
    config.dev = Some(tokens(&config, &key, now).map_err(|error| {
        Mistakes::one(format!("no token could be made: {error}"), "this is not your fault")
    })?);
    Ok(config)
}

/// What the command line says. It is over the variables.
struct Written<'a> {
    listen: Option<String>,
    data: Option<&'a Path>,
}

impl Written<'_> {
    /// The port that the hub will listen on, which its own URLs need before anything is checked.
    /// Addresses that cannot be read are reported later, whatever the port.
    fn port(&self, variables: &Variables) -> u16 {
        let mut addresses = Node::table(Place::Whole);
        addresses.set("listen", Value::Text(LISTEN.to_owned()), Place::Argument("dev"));
        environment::apply(&mut addresses, variables);
        self.lay_over(&mut addresses);
        let node = addresses.find(&steps("listen"));
        let listen = node.and_then(|node| scalar::convert(Kind::Addresses, node).ok());
        let first = listen.as_ref().and_then(|listen| listen.get(0)?.as_str());
        let first = first.and_then(|text| text.parse::<SocketAddr>().ok());
        first.map_or(0, |address| address.port())
    }

    fn lay_over(&self, tree: &mut Node) {
        if let Some(listen) = &self.listen {
            tree.set("listen", Value::Text(listen.clone()), Place::Argument("--listen"));
        }
        if let Some(data) = self.data {
            tree.set("history.path", history(data), Place::Argument("--data"));
        }
    }
}

fn history(data: &Path) -> Value {
    Value::Text(data.join("history").to_string_lossy().into_owned())
}

/// The settings of a development hub, as if they had been written.
fn tree(port: u16, data: &Path, key: &str) -> Node {
    let text = |text: &str| Value::Text(text.to_owned());
    let texts = |texts: &[&str]| {
        let node = |text: &&str| Node::text(*text, Place::Argument("dev"));
        Value::List(texts.iter().map(node).collect())
    };
    let own = |host: &str| format!("http://{host}:{port}/.well-known/mercure");
    let (localhost, ipv4, ipv6) = (own("localhost"), own("127.0.0.1"), own("[::1]"));
    let audience = [EXAMPLE_AUDIENCE, &localhost, &ipv4, &ipv6];
    let mut tree = Node::table(Place::Default);
    for (path, value, place) in [
        ("listen", text(LISTEN), "--listen"),
        ("public_url", text(&format!("http://localhost:{port}")), "--listen"),
        ("history.path", history(data), "--data"),
        // A development history is small: smaller files are reserved and opened faster.
        ("history.segment_size", text("8 MiB"), "--data"),
        // Several of them run beside each other; nobody scrapes them.
        ("admin.listen", text("off"), "dev"),
        ("auth.anonymous", Value::Boolean(true), "dev"),
        ("auth.allow_weak_keys", Value::Boolean(true), "dev"),
        ("auth.issuer[0].id", text(OWN_ISSUER), "dev"),
        ("auth.issuer[0].accept", texts(&["1.0", "0.x"]), "dev"),
        ("auth.issuer[0].audience", texts(&audience), "dev"),
        ("auth.issuer[0].publish.key", text(key), "--data"),
        ("auth.issuer[0].subscribe.key", text(key), "--data"),
        ("auth.issuer[1].id", text(EXAMPLE_ISSUER), "dev"),
        ("auth.issuer[1].accept", texts(&["1.0", "0.x"]), "dev"),
        ("auth.issuer[1].audience", texts(&audience), "dev"),
        ("auth.issuer[1].publish.key", text(WELL_KNOWN_SECRET), "dev"),
        ("auth.issuer[1].subscribe.key", text(WELL_KNOWN_SECRET), "dev"),
        ("mercure.publish_origins", texts(&ORIGINS), "dev"),
        ("mercure.subscriptions", Value::Boolean(true), "dev"),
        ("tokens.mercure_info", Value::Boolean(true), "dev"),
        ("tokens.cors_origins", texts(&ORIGINS), "dev"),
        ("mercure.cors_origins", texts(&[ORIGINS.as_slice(), &["*"]].concat()), "dev"),
    ] {
        tree.set(path, value, Place::Argument(place));
    }
    tree
}

/// The hub's own key: read from the data folder, or made there for its owner only.
fn own_key(data: &Path) -> std::io::Result<String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    let path: PathBuf = data.join(KEY);
    let mut random = [0; DEV_KEY_BYTES];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let key = URL_SAFE_NO_PAD.encode(random);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            file.write_all(key.as_bytes())?;
            // The key must not end up in somebody's repository.
            fs::write(data.join(".gitignore"), "*\n")?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read_secret(&path).map_err(std::io::Error::other)
        }
        Err(error) => Err(error),
    }
}

/// Tokens of both generations for every topic, made at `now` (seconds since 1970).
fn tokens(config: &Config, key: &str, now: u64) -> Result<Dev, jsonwebtoken::errors::Error> {
    let key = EncodingKey::from_secret(key.as_bytes());
    let api_key = api_key(&key)?;
    let exp = now + DEV_TOKEN_AGE.as_secs();
    let mut header = Header::new(Algorithm::HS256);
    let draft = json!({
        "iss": OWN_ISSUER,
        "exp": exp,
        "mercure": { "publish": ["*"], "subscribe": ["*"] },
    });
    let draft_token = jsonwebtoken::encode(&header, &draft, &key)?;
    header.typ = Some("at+jwt".to_owned());
    let claims = json!({
        "iss": OWN_ISSUER,
        "aud": config.hub_url().as_str(),
        "iat": now,
        "exp": exp,
        "authorization_details": [{
            "type": "https://mercure.rocks/authorization-detail",
            "actions": ["publish", "subscribe"],
            "topics": [{ "match": "*" }],
        }],
    });
    Ok(Dev { token: jsonwebtoken::encode(&header, &claims, &key)?, draft_token, api_key })
}

/// An API key that follows from the hub's own key, so that it can be told at every start.
fn api_key(key: &EncodingKey) -> Result<String, jsonwebtoken::errors::Error> {
    let derived = |text: &[u8]| jsonwebtoken::crypto::sign(text, key, Algorithm::HS256);
    let id = derived(b"the id of the API key")?;
    let id = id.bytes().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(format!("tk_{id}_{}", derived(b"the secret of the API key")?))
}

/// What `tidings dev` says when it listens on `bound`: that it is insecure, where it is, a token,
/// and lines to paste. Only for a terminal of the one who started it: it holds the token.
pub fn banner(config: &Config, bound: SocketAddr) -> String {
    let host = match bound.ip().to_canonical() {
        ip if ip.is_loopback() || ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let root = format!("http://{host}:{}", bound.port());
    let hub = format!("{root}{}", config.hub_path);
    let token = config.dev.as_ref().map_or("", |dev| dev.token.as_str());
    let api_key = config.dev.as_ref().map_or("", |dev| dev.api_key.as_str());
    let data = config.history.path.as_deref().unwrap_or(Path::new("memory"));
    let own = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    let reach = if config.listen.iter().all(own) {
        "everybody on this machine may publish and subscribe,\n  and so may any web page that a \
         browser on this machine opens"
    } else {
        "EVERYBODY WHO REACHES THIS MACHINE may publish and subscribe,\n  and so may any web page \
         that a browser on this machine opens"
    };
    format!(
        "\n  Tidings for development. Insecure: {reach}.\n\
         \n  Page     {root}/\n  Hub      {hub}\n  History  {}\n\
         \n  API key  {api_key}\n\
         \n  Token, for a week:\n\nexport TIDINGS_TOKEN={token}\n\
         \n  Subscribe:\n\n\
         curl -N --get --data-urlencode 'match=https://example.com/books/1' {hub}\n\
         \n  Publish:\n\ncurl -H \"Authorization: Bearer $TIDINGS_TOKEN\" \\\n  \
         --data-urlencode 'topic=https://example.com/books/1' \\\n  \
         --data-urlencode 'data={{\"status\": \"back in stock\"}}' {hub}\n\n",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use tidings_frontends::auth::Generation;

    use super::*;

    fn start(listen: &str, data: &Path) -> Config {
        start_under(Some(listen), data, &Variables::default())
    }

    fn start_under(listen: Option<&str>, data: &Path, variables: &Variables) -> Config {
        let listen = listen.map(|text| text.parse().unwrap());
        dev_under(listen, Some(data), variables).unwrap()
    }

    fn claims(token: &str) -> serde_json::Value {
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn key_is_made_once_and_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("new/data");
        let first = own_key(&data).unwrap();
        assert_eq!(own_key(&data).unwrap(), first);
        assert_eq!(first.len(), 43);
        let mode = fs::metadata(data.join("dev.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        assert_ne!(own_key(&folder.path().join("other")).unwrap(), first);
    }

    #[test]
    fn folder_without_a_hub_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        assert!(dev_again(None, Some(&data)).unwrap_err().report(false).contains("--data"));
        assert!(!data.exists());
        let key = own_key(&data).unwrap();
        let config = dev_again(None, Some(&data)).unwrap();
        assert_eq!(config.auth.issuer[0].publish.as_ref().unwrap().key, Some(key));
    }

    #[test]
    fn development_hub_accepts_its_own_key_and_the_one_of_the_examples() {
        let folder = tempfile::tempdir().unwrap();
        let config = start("127.0.0.1:3000", folder.path());
        assert_eq!(config.hub_url().as_str(), "http://localhost:3000/.well-known/mercure");
        assert!(config.auth.anonymous && config.auth.allow_weak_keys && config.auth.query_token);
        assert_eq!(config.mercure.heartbeat, Some(Duration::from_secs(15)));
        let [own, example] = config.auth.issuer.as_slice() else { panic!("two issuers") };
        for issuer in [own, example] {
            assert_eq!(issuer.accept, [Generation::Final, Generation::Draft]);
            assert!(issuer.audience.iter().any(|audience| audience == EXAMPLE_AUDIENCE));
        }
        assert_eq!(example.id, "https://localhost");
        assert_eq!(example.publish.as_ref().unwrap().key.as_deref(), Some(WELL_KNOWN_SECRET));
        assert_ne!(own.publish.as_ref().unwrap().key.as_deref(), Some(WELL_KNOWN_SECRET));
        assert_eq!(config.notes.len(), 1);
    }

    #[test]
    fn tokens_are_of_one_generation_each() {
        let folder = tempfile::tempdir().unwrap();
        let config = start("127.0.0.1:3000", folder.path());
        let dev = config.dev.unwrap();
        let claims_final = claims(&dev.token);
        assert_eq!(claims_final["aud"], "http://localhost:3000/.well-known/mercure");
        assert!(claims_final["mercure"].is_null());
        let claims_draft = claims(&dev.draft_token);
        assert_eq!(claims_draft["mercure"]["publish"][0], "*");
        assert!(claims_draft["authorization_details"].is_null());
    }

    #[test]
    fn other_machines_are_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let config = start("0.0.0.0:3000", folder.path());
        assert!(config.notes[1].contains("INSECURE"));
        assert!(banner(&config, config.listen[0]).contains("EVERYBODY WHO REACHES THIS MACHINE"));
        let config = start("[::1]:3000", folder.path());
        assert_eq!(config.notes.len(), 1);
    }

    #[test]
    fn variable_that_opens_the_hub_to_others_is_warned_about() {
        let folder = tempfile::tempdir().unwrap();
        let open = [("TIDINGS_LISTEN", "127.0.0.1:3000,0.0.0.0:3100")].into();
        let config = start_under(None, folder.path(), &open);
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.notes.len(), 2, "{:?}", config.notes);
        assert!(config.notes[1].contains("INSECURE: 0.0.0.0:3100"), "{:?}", config.notes);
        assert!(banner(&config, config.listen[0]).contains("EVERYBODY WHO REACHES THIS MACHINE"));
    }

    #[test]
    fn arguments_win_over_variables() {
        let folder = tempfile::tempdir().unwrap();
        let variables =
            [("TIDINGS_LISTEN", "0.0.0.0:4000"), ("TIDINGS_HISTORY_PATH", "/elsewhere")].into();
        let config = start_under(Some("127.0.0.1:3000"), folder.path(), &variables);
        assert_eq!(config.listen, ["127.0.0.1:3000".parse().unwrap()]);
        assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
        assert_eq!(config.history.path.as_deref(), Some(folder.path().join("history").as_ref()));
        let config = start_under(None, folder.path(), &variables);
        assert_eq!(config.hub_url().as_str(), "http://localhost:4000/.well-known/mercure");
        assert!(config.auth.issuer[0].audience.contains(&config.hub_url().to_string()));
    }

    #[test]
    fn banner_has_the_url_a_token_and_lines_to_paste() {
        let folder = tempfile::tempdir().unwrap();
        let config = start("127.0.0.1:0", folder.path());
        let banner = banner(&config, "127.0.0.1:4567".parse().unwrap());
        assert!(banner.contains("Insecure") && banner.contains("any web page"), "{banner}");
        assert!(banner.contains("http://localhost:4567/\n"));
        let token = &config.dev.as_ref().unwrap().token;
        assert!(banner.contains(&format!("\nexport TIDINGS_TOKEN={token}\n")));
        let pasted = banner.lines().filter(|line| line.starts_with("curl ")).count();
        assert_eq!(pasted, 2);
        assert!(!banner.contains(WELL_KNOWN_SECRET));
    }

    #[test]
    fn variables_set_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let variables =
            [("TIDINGS_ADMIN_LISTEN", "127.0.0.1:4001"), ("TIDINGS_LOG_LEVEL", "debug")].into();
        let config = start_under(None, folder.path(), &variables);
        assert_eq!(config.admin.listen, Some("127.0.0.1:4001".parse().unwrap()));
        assert_eq!(start("127.0.0.1:3000", folder.path()).admin.listen, None);
        assert_eq!(config.log.level, "debug");
    }
}
