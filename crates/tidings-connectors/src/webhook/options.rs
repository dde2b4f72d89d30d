//! What a webhook is told, from a file or over the API alike. Knows no file and no place in one;
//! what is wrong with it is found in `mistakes`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::mistakes;
use super::signature::SigningSecret;
use crate::limits::{REQUEST_BYTES_MAX, WEBHOOK_CONNECT_TIMEOUT, WEBHOOK_TIMEOUT};
use crate::secret::Secret;
use crate::specification::{BadOption, Span};

/// What stands in a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
pub enum Body {
    /// The update's data, as it is.
    #[default]
    #[serde(rename = "data")]
    Data,
    /// A JSON object with the data and all that the hub knows of it.
    #[serde(rename = "envelope")]
    Envelope,
    /// The data as it is, and headers that make it a CloudEvent (binary mode).
    #[serde(rename = "cloudevents")]
    CloudEvents,
    /// A CloudEvent as a JSON object (structured mode).
    #[serde(rename = "cloudevents-structured")]
    CloudEventsStructured,
}

/// A name and a password (RFC 7617).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// Without a colon.
    pub user: String,
    /// May be empty, but must be there when the webhook is made.
    #[serde(skip_serializing)]
    pub password: Option<Secret>,
}

/// What a webhook is told. Written out again it lacks its secrets, which [`Options::secrets`] gives
/// and [`Options::restore`] takes.
#[derive(Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Where to: `http` or `https`.
    pub url: String,
    /// What stands in the body.
    #[serde(default)]
    pub body: Body,
    /// The media type of updates that have none; `application/octet-stream` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Sent with every request, by their names. Values may be secrets.
    #[serde(default, skip_serializing, deserialize_with = "headers")]
    pub headers: BTreeMap<String, Secret>,
    /// Credentials: this or `bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "basic")]
    pub basic: Option<Basic>,
    /// A token (RFC 6750).
    #[serde(default, skip_serializing)]
    pub bearer: Option<Secret>,
    /// What signs the requests, newest first. Without any they are not signed.
    #[serde(default, skip_serializing, deserialize_with = "secrets")]
    pub secrets: Vec<SigningSecret>,
    /// Statuses that count as success; 200 to 299 when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<u16>,
    /// How long a request may take, to the last byte of the answer.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// How long of it the connection may take.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// Networks that may be reached besides the public ones: `10.1.0.0/16`, or one address.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "networks")]
    pub allow: Vec<IpNet>,
    /// A file with certificates (PEM) that are trusted besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Bytes of a request's body at most; a larger one is never sent.
    #[serde(default = "body_size_max")]
    pub body_size_max: usize,
    /// Requests have nothing of the hub's own: no id, no topic, no signature, and say that they are
    /// JSON whatever they are. Not for people to set.
    #[serde(skip)]
    pub plain: bool,
    /// A 307 or 308 is followed with the same request, and credentials only to the same origin. Not
    /// for people to set.
    #[serde(skip)]
    pub follows: bool,
}

impl fmt::Debug for Options {
    /// Without the URL, whose path and query may be a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("body", &self.body)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Which secret of a webhook it is, where secrets are kept apart.
const PASSWORD: &str = "password";
const BEARER: &str = "bearer";
const HEADERS: &str = "headers";
const SIGNING: &str = "secrets";

impl Options {
    /// Posts data as it is to `url`, and everything else as usual.
    pub fn new(url: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            body: Body::default(),
            content_type: None,
            headers: BTreeMap::new(),
            basic: None,
            bearer: None,
            secrets: Vec::new(),
            success: Vec::new(),
            timeout: timeout(),
            connect_timeout: connect_timeout(),
            allow: Vec::new(),
            ca_file: None,
            body_size_max: body_size_max(),
            plain: false,
            follows: false,
        }
    }

    /// Reads what was written, each option for itself.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(written: &Map<String, Value>) -> Result<Options, Vec<BadOption>> {
        let mut bad: Vec<BadOption> = written.iter().filter_map(unreadable).collect();
        if !written.contains_key("url") {
            let example = "url = \"https://shop.example.com/webhook\"";
            bad.push(mistakes::hinted("url", "a webhook needs a URL", example));
        }
        if !bad.is_empty() {
            return Err(bad);
        }
        let options: Options = serde_json::from_value(Value::Object(written.clone()))
            .map_err(|error| vec![mistakes::bad("", error.to_string())])?;
        let bad = options.problems();
        if bad.is_empty() { Ok(options) } else { Err(bad) }
    }

    /// What is wrong with it that its form does not show.
    pub fn problems(&self) -> Vec<BadOption> {
        mistakes::of(self)
    }

    /// The same for what did not come from the operator: which also must not name files of this
    /// machine, nor decide which networks may be reached.
    pub fn problems_over_api(&self) -> Vec<BadOption> {
        let mut bad = self.problems();
        bad.extend(mistakes::of_a_stranger(self));
        bad
    }

    /// Its secrets, each with what it is: to be sealed and kept apart from the rest.
    pub fn secrets(&self) -> Vec<(&'static str, Secret)> {
        let mut secrets = Vec::new();
        if let Some(password) = self.basic.as_ref().and_then(|basic| basic.password.clone()) {
            secrets.push((PASSWORD, password));
        }
        if let Some(bearer) = &self.bearer {
            secrets.push((BEARER, bearer.clone()));
        }
        if !self.headers.is_empty() {
            let exposed = |(name, value): (&String, &Secret)| (name.clone(), value.expose().into());
            let headers: Map<String, Value> = self.headers.iter().map(exposed).collect();
            secrets.push((HEADERS, Secret::new(Value::from(headers).to_string())));
        }
        if !self.secrets.is_empty() {
            let keys: Vec<Value> = self.secrets.iter().map(in_whole).collect();
            secrets.push((SIGNING, Secret::new(Value::from(keys).to_string())));
        }
        secrets
    }

    /// Takes back one of its secrets. `false` when it has no place for it, or it is none of them.
    pub fn restore(&mut self, which: &str, secret: &Secret) -> bool {
        let text = secret.expose();
        match which {
            PASSWORD => {
                let Some(basic) = &mut self.basic else { return false };
                basic.password = Some(secret.clone());
            }
            BEARER => self.bearer = Some(secret.clone()),
            HEADERS => {
                let Ok(headers) = serde_json::from_str(text) else { return false };
                self.headers = headers;
            }
            SIGNING => {
                let Ok(keys) = serde_json::from_str(text) else { return false };
                self.secrets = keys;
            }
            _ => return false,
        }
        true
    }
}

/// A signing key as it is kept.
fn in_whole(secret: &SigningSecret) -> Value {
    json!({ "key": secret.key.expose(), "until": secret.until })
}

/// What is wrong with the form of one option.
fn unreadable((name, value): (&String, &Value)) -> Option<BadOption> {
    let mut alone = Map::from_iter([("url".to_owned(), Value::from(""))]);
    alone.insert(name.clone(), value.clone());
    let error = serde_json::from_value::<Options>(Value::Object(alone)).err()?;
    Some(mistakes::bad(name, error.to_string()))
}

fn timeout() -> Span {
    Span(WEBHOOK_TIMEOUT)
}

fn connect_timeout() -> Span {
    Span(WEBHOOK_CONNECT_TIMEOUT)
}

fn body_size_max() -> usize {
    REQUEST_BYTES_MAX
}

/// Reads what holds secrets: a mistake says what belongs there, and not what stands there.
fn quiet<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    from: D,
    takes: &str,
) -> Result<T, D::Error> {
    let written = Value::deserialize(from)?;
    serde_json::from_value(written).map_err(|_| de::Error::custom(takes))
}

fn headers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    quiet(from, "names and values are written as in { x-shop = \"1\" }, each value as a text")
}

fn basic<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Basic>, D::Error> {
    quiet(from, "a name and a password are written as { user = \"…\", password = \"…\" }")
}

fn secrets<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SigningSecret>, D::Error> {
    quiet(from, "signing keys are a list of texts that begin with whsec_ or whsk_")
}

fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: &String| match (text.parse(), text.parse::<IpAddr>()) {
        (Ok(network), _) => Ok(network),
        (_, Ok(address)) => Ok(IpNet::from(address)),
        _ => Err(de::Error::custom(format!(
            "{text:?} is no network: write \"10.1.0.0/16\", \"fd00::/8\" or one address"
        ))),
    };
    Vec::<String>::deserialize(from)?.iter().map(network).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::specification;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    // JSON is written where it is passed.
    #[allow(clippy::needless_pass_by_value)]
    fn read(written: Value) -> Result<Options, Vec<BadOption>> {
        Options::read(written.as_object().unwrap())
    }

    fn full() -> Value {
        json!({
            "url": "https://shop.example/hook?token=hunter1",
            "body": "cloudevents-structured",
            "content_type": "application/json",
            "headers": { "x-key": "hunter2" },
            "basic": { "user": "Aladdin", "password": "hunter3" },
            "secrets": [KEY, { "key": KEY, "until": 7 }],
            "success": [200, 204],
            "timeout": "1m",
            "connect_timeout": "250ms",
            "allow": ["10.1.0.0/16", "fd00::1"],
            "ca_file": "/etc/own.pem",
            "body_size_max": 1024,
        })
    }

    #[test]
    fn a_url_is_enough() {
        let options = read(json!({ "url": "https://shop.example/" })).unwrap();
        assert_eq!(options, Options::new("https://shop.example/"));
        assert_eq!(options.timeout, Span(Duration::from_secs(15)));
        assert_eq!(options.body_size_max, 16 * 1024 * 1024);
    }

    #[test]
    fn everything_can_be_said() {
        let options = read(full()).unwrap();
        assert_eq!(options.body, Body::CloudEventsStructured);
        assert_eq!(options.secrets.len(), 2);
        assert_eq!(options.allow[1], "fd00::1/128".parse().unwrap());
        let bearer = read(json!({ "url": "http://a/", "bearer": "abc" })).unwrap();
        assert_eq!(bearer.bearer.unwrap().expose(), "abc");
    }

    #[test]
    fn options_are_written_without_secrets_and_take_them_back() {
        let mut options = read(full()).unwrap();
        options.bearer = Some(Secret::new("hunter4"));
        let written = serde_json::to_string(&options).unwrap();
        let secrets = options.secrets();
        let debugged = format!("{options:?} {:?} {secrets:?}", options.basic);
        for secret in ["hunter2", "hunter3", "hunter4", "MfKQ"] {
            assert!(!written.contains(secret), "{written}");
            assert!(!debugged.contains(secret), "{debugged}");
        }
        assert!(!debugged.contains("hunter1"), "a URL may be a secret");
        let mut again: Options = serde_json::from_str(&written).unwrap();
        assert_ne!(again, options);
        for (which, secret) in secrets {
            assert!(again.restore(which, &secret), "{which}");
        }
        assert_eq!(again, options);
        assert!(!again.restore("url", &Secret::new("x")));
        assert!(!again.restore("headers", &Secret::new("x")));
        assert!(!Options::new("http://a/").restore("password", &Secret::new("x")));
    }

    #[test]
    fn a_specification_of_a_webhook_is_read_to_its_end() {
        let mut written = full();
        let own = [("kind", json!("webhook")), ("name", json!("shop")), ("topics", json!("*"))];
        for (name, value) in own {
            written[name] = value;
        }
        written["secrets"] = json!([KEY]);
        written.as_object_mut().unwrap().remove("body_size_max");
        let read = specification::sink(&written).unwrap();
        let options = Options::read(&read.to.options).unwrap();
        assert_eq!(options.basic.unwrap().password, Some(Secret::new("hunter3")));
        assert_eq!((options.success, options.allow.len()), (vec![200, 204], 2));
    }

    #[test]
    fn what_is_only_for_the_program_cannot_be_written() {
        for name in ["plain", "follows", "nonsense"] {
            let bad = read(json!({ "url": "http://a/", name: true })).unwrap_err();
            assert_eq!(bad[0].path, name);
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_none_tells_a_secret() {
        let bad = read(json!({
            "body": "xml",
            "content_type": 5,
            "headers": { "x": 86_753_098 },
            "basic": "Aladdin:hunter2",
            "bearer": 86_753_098,
            "secrets": [86_753_098],
            "success": "ok",
            "timeout": "soon",
            "connect_timeout": 5,
            "allow": ["shop.example"],
            "ca_file": [],
            "body_size_max": -1,
            "boddy": 1,
        }))
        .unwrap_err();
        let mut paths: Vec<&str> = bad.iter().map(|bad| bad.path.as_str()).collect();
        paths.sort_unstable();
        let expected = [
            "allow",
            "basic",
            "bearer",
            "body",
            "body_size_max",
            "boddy",
            "ca_file",
            "connect_timeout",
            "content_type",
            "headers",
            "secrets",
            "success",
            "timeout",
            "url",
        ];
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(paths, expected);
        let told = format!("{bad:?}");
        assert!(!told.contains("86753098") && !told.contains("hunter2"), "{told}");
    }

    fn names() -> Vec<String> {
        full().as_object().unwrap().keys().cloned().collect()
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_panics(
            names in prop::collection::vec(prop::sample::select(names()), 0..6),
            values in prop::collection::vec(any_json(), 6),
        ) {
            let written: Map<String, Value> = names.into_iter().zip(values).collect();
            let _ = Options::read(&written);
        }
    }
}
