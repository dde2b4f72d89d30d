//! The commands that speak to a hub from outside: publish, subscribe, healthcheck, those of the
//! admin listener, and one that asks where webhooks may go.
//!
//! Knows the Mercure protocol as any client does and nothing of the hub in this program: what
//! works here works from another machine.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Response, StatusCode};
use tidings_frontends::auth::{KeyFlaw, read_key_file};
use tidings_frontends::causes;
use url::Url;

mod egress;
mod events;
mod healthcheck;
mod keys;
mod publish;
mod revocations;
mod sinks;
mod subscribe;

pub use egress::{EgressArguments, egress};
pub use healthcheck::healthcheck;
pub use keys::{KeyArguments, create_key, key_standing, keys, revoke_key, rotate_issuer};
pub use publish::PublishArguments;
pub use revocations::{
    AdminArguments, EndArguments, RevokedArguments, revocations, revoke, unrevoke,
};
pub use sinks::{
    ChosenArguments, ReplayArguments, attempts, dead_letters, forget, redrive, replay, replays,
    resume, show, sinks, stop_replay, test,
};
pub use subscribe::SubscribeArguments;

use crate::limits::{CLIENT_CONNECT_TIMEOUT, REFUSAL_TEXT_BYTES_MAX};

/// Where `tidings dev` listens.
const HUB_DEFAULT: &str = "http://localhost:3000";
/// Where a hub is on its server when the URL does not say.
const PATH_DEFAULT: &str = "/.well-known/mercure";
/// The variable that holds another hub's URL.
const URL_VARIABLE: &str = "TIDINGS_URL";
/// The variable that holds a token, so that it need not stand in a command line.
const TOKEN_VARIABLE: &str = "TIDINGS_TOKEN";
/// The variable that names a file with a token.
const TOKEN_FILE_VARIABLE: &str = "TIDINGS_TOKEN_FILE";

/// The hub and the right to use it.
#[derive(clap::Args)]
pub struct HubArguments {
    /// The hub's URL; without a scheme it is http://, without a path /.well-known/mercure
    /// [default: TIDINGS_URL, or where `tidings dev` listens]
    #[arg(value_name = "URL", value_parser = hub_url)]
    url: Option<Url>,
    /// The token. Other users of this machine can see it: better use the file, or the variables
    /// TIDINGS_TOKEN and TIDINGS_TOKEN_FILE
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file that contains the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientProblem {
    /// The hub said no, in its own words.
    #[error("the hub answered {status}: {text}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its text, shortened.
        text: String,
    },
    /// The hub sends its clients elsewhere; a token is not carried there by itself.
    #[error("the hub redirects to {0}: use that URL if you trust it")]
    Redirected(String),
    /// It answered, but not with a stream of events.
    #[error("the answer is {0}, not a stream of events: is this the hub's URL?")]
    NotEvents(String),
    /// An event larger than any hub may send.
    #[error("an event is larger than {0} bytes")]
    EventTooLarge(usize),
    /// The network, or nobody is there.
    #[error("the hub cannot be reached: {}", causes(.0))]
    Unreachable(#[source] reqwest::Error),
    /// The file with the token cannot be read.
    #[error(transparent)]
    TokenFile(KeyFlaw),
    /// A local file or stream.
    #[error("{what}: {source}")]
    Io {
        /// Which one.
        what: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The variable with the hub's URL holds none.
    #[error("TIDINGS_URL is not a URL: {0}")]
    BadUrl(url::ParseError),
    /// The token cannot be sent in a header.
    #[error("the token contains characters that no token has")]
    BadToken,
    /// A made-up update was not delivered.
    #[error("not delivered: {0}")]
    NotDelivered(String),
    /// Webhooks may not go there.
    #[error("not reachable for webhooks: {0}")]
    NotReachable(#[from] tidings_connectors::webhook::Refusal),
    /// Nothing to check: the admin listener is off.
    #[error("the admin listener is off: set admin.listen, as in \"127.0.0.1:3001\"")]
    NoAdminListener,
    /// Nobody may change anything on the admin listener.
    #[error(
        "there is no admin token: set admin.token_file (make one with `openssl rand -hex 32`), \
         and reload the hub"
    )]
    NoAdminToken,
}

impl From<reqwest::Error> for ClientProblem {
    /// Without the URL: a token may stand in it.
    fn from(error: reqwest::Error) -> ClientProblem {
        ClientProblem::Unreachable(error.without_url())
    }
}

impl HubArguments {
    fn url(&self) -> Result<Url, ClientProblem> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let named = set(std::env::var_os(URL_VARIABLE));
        let named = named.map(|text| text.to_string_lossy().into_owned());
        hub_url(named.as_deref().unwrap_or(HUB_DEFAULT)).map_err(ClientProblem::BadUrl)
    }

    /// The value of `Authorization`, if there is a token: from the arguments, else from the
    /// variables.
    fn authorization(&self) -> Result<Option<HeaderValue>, ClientProblem> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => Some(read_token(path)?),
            (None, None) => match set(std::env::var_os(TOKEN_FILE_VARIABLE)) {
                Some(path) => Some(read_token(&PathBuf::from(path))?),
                None => set(std::env::var_os(TOKEN_VARIABLE))
                    .map(|token| token.into_string().map_err(|_| ClientProblem::BadToken))
                    .transpose()?,
            },
        };
        let Some(token) = token else { return Ok(None) };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| ClientProblem::BadToken)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A variable's value; an empty one counts as not set, as in the configuration.
fn set(value: Option<OsString>) -> Option<OsString> {
    value.filter(|value| !value.is_empty())
}

/// The URL of a hub as people write it.
fn hub_url(text: &str) -> Result<Url, url::ParseError> {
    let mut url: Url =
        if text.contains("://") { text.parse()? } else { format!("http://{text}").parse()? };
    if url.path() == "/" {
        url.set_path(PATH_DEFAULT);
    }
    Ok(url)
}

fn read_token(path: &Path) -> Result<String, ClientProblem> {
    let bytes = read_key_file(path).map_err(ClientProblem::TokenFile)?;
    String::from_utf8(bytes).map_err(|_| ClientProblem::BadToken)
}

/// A client that follows nobody with a token in its hand.
fn client(time: Option<Duration>) -> Result<reqwest::Client, ClientProblem> {
    let builder = reqwest::Client::builder()
        .connect_timeout(CLIENT_CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")));
    let builder = match time {
        Some(time) => builder.timeout(time),
        None => builder,
    };
    Ok(builder.build()?)
}

/// The same request with the token, if there is one.
fn authorized(
    request: reqwest::RequestBuilder,
    authorization: Option<&HeaderValue>,
) -> reqwest::RequestBuilder {
    match authorization {
        Some(value) => request.header(AUTHORIZATION, value.clone()),
        None => request,
    }
}

/// What a response that is no success means.
async fn refused(mut response: Response) -> ClientProblem {
    let status = response.status();
    if status.is_redirection() {
        let location = response.headers().get("location").map(HeaderValue::as_bytes);
        let location = String::from_utf8_lossy(location.unwrap_or_default());
        return ClientProblem::Redirected(printable(&location));
    }
    let mut bytes = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        bytes.extend_from_slice(&piece);
        if bytes.len() >= REFUSAL_TEXT_BYTES_MAX {
            bytes.truncate(REFUSAL_TEXT_BYTES_MAX);
            break;
        }
    }
    let detail = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    ClientProblem::Refused { status, text: printable(detail.trim()) }
}

/// Text from outside for a terminal: control characters could give it orders.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| match character {
            '\n' | '\t' => vec![character],
            _ if character.is_control() => character.escape_default().collect(),
            _ => vec![character],
        })
        .collect()
}

/// Any bytes as a stream of events.
#[doc(hidden)]
pub fn fuzz_events(bytes: &[u8]) {
    events::fuzz(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_for_a_terminal_are_shown_not_given() {
        assert_eq!(printable("a\u{1b}[2J\tb\nc\r\u{9b}"), "a\\u{1b}[2J\tb\nc\\r\\u{9b}");
    }

    #[test]
    fn what_a_url_leaves_out_is_filled_in() {
        for (text, url) in [
            ("127.0.0.1:4100", "http://127.0.0.1:4100/.well-known/mercure"),
            ("localhost:3000", "http://localhost:3000/.well-known/mercure"),
            ("hub.example/a?b=1", "http://hub.example/a?b=1"),
            ("https://hub.example", "https://hub.example/.well-known/mercure"),
            ("https://hub.example/", "https://hub.example/.well-known/mercure"),
            ("https://hub.example/hub", "https://hub.example/hub"),
        ] {
            assert_eq!(hub_url(text).unwrap().as_str(), url);
        }
        assert!(hub_url("").is_err() && hub_url("http://").is_err());
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(set(Some(OsString::new())), None);
        assert_eq!(set(Some("a".into())), Some("a".into()));
    }

    #[test]
    fn a_token_from_a_file_is_used_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc.def.ghi\n").unwrap();
        let hub = HubArguments { url: None, token: None, token_file: Some(file.path().to_owned()) };
        assert_eq!(hub.url().unwrap().path(), "/.well-known/mercure");
        let value = hub.authorization().unwrap().unwrap();
        assert_eq!(value, "Bearer abc.def.ghi");
        assert!(value.is_sensitive());
        assert!(!format!("{value:?}").contains("abc"));
    }
}
