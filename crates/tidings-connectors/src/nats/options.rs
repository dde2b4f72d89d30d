//! What a NATS sink and a NATS source are told. Knows no connection; secrets in it are never shown.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits::{
    NATS_ACK_PENDING_DEFAULT, NATS_ACK_WAIT_DEFAULT, NATS_ACK_WAIT_MIN, NATS_BATCH_DEFAULT,
    NATS_BATCH_MAX, NATS_SUBJECTS_MAX, NATS_TIMEOUT_DEFAULT,
};
use crate::nats::login::Login;
use crate::nats::server::Addresses;
use crate::nats::subject::{is_name, is_pattern, is_queue_group, overlap};
use crate::nats::tls::Tls;
use crate::secret::Secret;
use crate::specification::{BadOption, Span};
use tidings_core::matcher::NatsSubject;

/// Which servers, and how to log in. One way at most of those to log in.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerOptions {
    /// Servers of one cluster, separated by commas: `nats://host:4222`, `tls://host` (never without
    /// TLS), or without a scheme. May hold a user name and password, or a token.
    pub url: String,
    /// With `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// With `user`. May be empty.
    #[serde(skip_serializing)]
    pub password: Option<Secret>,
    /// A token alone.
    #[serde(skip_serializing)]
    pub token: Option<Secret>,
    /// An nkey's seed, which begins with `SU`.
    #[serde(skip_serializing)]
    pub nkey_seed: Option<Secret>,
    /// A file with a user's JWT and seed. It is read again at each login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creds_file: Option<PathBuf>,
    /// A PEM file with certificates to trust besides those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A PEM file with our own certificate and its chain; with `key_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// A PEM file with the key of `cert_file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

impl fmt::Debug for ServerOptions {
    /// Without any value that may be a secret; a URL may hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Addresses::parse(&self.url).map(|addresses| addresses.shown());
        formatter
            .debug_struct("ServerOptions")
            .field("url", &shown.unwrap_or_default())
            .field("creds_file", &self.creds_file)
            .field("ca_file", &self.ca_file)
            .field("cert_file", &self.cert_file)
            .finish_non_exhaustive()
    }
}

impl ServerOptions {
    /// What is wrong, as far as it can be said without a connection. Reads the files.
    pub fn problems(&self) -> Vec<BadOption> {
        let mut problems = match Addresses::parse(&self.url) {
            Ok(addresses) => Login::new(self, &addresses).err().unwrap_or_default(),
            Err(bad) => vec![bad],
        };
        problems.extend(Tls::new(self).err().unwrap_or_default());
        problems
    }
}

/// Another begin of a topic or subject: `{ replace = ["from", "to"] }`. What does not begin with
/// `from` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// The begin that goes, not empty, and what comes in its place.
    pub replace: (String, String),
}

impl Rewrite {
    pub(super) fn apply<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let (from, to) = &self.replace;
        match text.strip_prefix(from.as_str()) {
            Some(rest) => Cow::Owned([to, rest].concat()),
            None => Cow::Borrowed(text),
        }
    }

    fn problem(rewrite: Option<&Rewrite>, path: &str) -> Option<BadOption> {
        let (from, to) = &rewrite?.replace;
        let message = match () {
            () if from.is_empty() => "the begin that is replaced is empty",
            () if from == to => "the begin is replaced by itself",
            () => return None,
        };
        let hint = format!("write for example {path} = {{ replace = [\"cms\", \"relayed\"] }}");
        Some(bad(&format!("{path}.replace"), message, Some(&hint)))
    }
}

/// What a NATS sink is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkOptions {
    /// Which servers, and how to log in.
    #[serde(flatten)]
    pub server: ServerOptions,
    /// How topics become subjects; as they are, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Rewrite>,
    /// Whether a `JetStream` stream has to take each message.
    pub jetstream: bool,
    /// Whether attributes, content type, id and hops are sent as headers.
    pub headers: bool,
    /// Time for one delivery, a connection included; not zero.
    pub timeout: Span,
}

impl Default for SinkOptions {
    fn default() -> SinkOptions {
        SinkOptions {
            server: ServerOptions::default(),
            subject: None,
            jetstream: false,
            headers: true,
            timeout: Span(NATS_TIMEOUT_DEFAULT),
        }
    }
}

impl SinkOptions {
    /// Reads what was written.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(written: &Map<String, Value>) -> Result<SinkOptions, Vec<BadOption>> {
        let options: SinkOptions = read(written)?;
        let problems = options.problems();
        if problems.is_empty() { Ok(options) } else { Err(problems) }
    }

    /// What is wrong, as far as it can be said without a connection. Reads the files.
    pub fn problems(&self) -> Vec<BadOption> {
        let mut problems = self.server.problems();
        problems.extend(Rewrite::problem(self.subject.as_ref(), "subject"));
        if self.timeout.0.is_zero() {
            problems.push(bad("timeout", "no time at all", Some("write for example \"10s\"")));
        }
        problems
    }
}

/// What a NATS source is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceOptions {
    /// Which servers, and how to log in.
    #[serde(flatten)]
    pub server: ServerOptions,
    /// Subjects, with `*` for one token and `>` for the rest. At least one without `jetstream`;
    /// with it, what the consumer is made to filter by.
    pub subjects: Vec<String>,
    /// Which of those do not come: as `subjects`.
    pub except: Vec<String>,
    /// Members of one group share the messages. Not with `jetstream`, whose consumers are shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_group: Option<String>,
    /// How subjects become topics; as they are, without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Rewrite>,
    /// Takes messages from a `JetStream` stream instead of what is published at the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jetstream: Option<JetStreamOptions>,
}

/// Which stream a source takes its messages from, and by which consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JetStreamOptions {
    /// The stream. It has to be there.
    pub stream: String,
    /// The durable pull consumer. It is made if it is not there.
    pub consumer: String,
    /// Messages that are asked for at a time, `1..=1024`.
    pub batch: usize,
    /// For a new consumer: after so long a message comes again that was not acknowledged; at least
    /// a second.
    pub ack_wait: Span,
    /// For a new consumer: messages that may wait for their acknowledgement; at least 1.
    pub max_ack_pending: usize,
    /// For a new consumer: where it begins.
    pub deliver: Deliver,
}

impl Default for JetStreamOptions {
    fn default() -> JetStreamOptions {
        JetStreamOptions {
            stream: String::new(),
            consumer: String::new(),
            batch: NATS_BATCH_DEFAULT,
            ack_wait: Span(NATS_ACK_WAIT_DEFAULT),
            max_ack_pending: NATS_ACK_PENDING_DEFAULT,
            deliver: Deliver::All,
        }
    }
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// With the oldest message of the stream.
    All,
    /// With what is published from now on.
    New,
}

impl Deliver {
    pub(super) fn policy(self) -> &'static str {
        match self {
            Deliver::All => "all",
            Deliver::New => "new",
        }
    }
}

impl SourceOptions {
    /// Reads what was written.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn read(written: &Map<String, Value>) -> Result<SourceOptions, Vec<BadOption>> {
        let options: SourceOptions = read(written)?;
        let problems = options.problems();
        if problems.is_empty() { Ok(options) } else { Err(problems) }
    }

    /// What is wrong, as far as it can be said without a connection. Reads the files.
    pub fn problems(&self) -> Vec<BadOption> {
        let mut problems = self.server.problems();
        problems.extend(Rewrite::problem(self.topic.as_ref(), "topic"));
        problems.extend(self.bad_subjects());
        for (number, text) in self.except.iter().enumerate() {
            if NatsSubject::parse(text).is_err() || number >= NATS_SUBJECTS_MAX {
                let path = format!("except[{number}]");
                problems.push(bad(&path, "is no subject, or one too many", None));
            }
        }
        if self.queue_group.as_ref().is_some_and(|group| !is_queue_group(group)) {
            problems.push(bad("queue_group", "a queue group is a word without white space", None));
        }
        match &self.jetstream {
            Some(jetstream) => {
                problems.extend(jetstream.problems());
                if self.queue_group.is_some() {
                    let hint = "remove it: who uses the same consumer shares its messages";
                    problems.push(bad("queue_group", "not together with jetstream", Some(hint)));
                }
            }
            None if self.subjects.is_empty() => {
                let hint = "write for example subjects = [\"cms.cache.>\"]";
                problems.push(bad("subjects", "no subject is named", Some(hint)));
            }
            None => {}
        }
        problems
    }

    fn bad_subjects(&self) -> Vec<BadOption> {
        let mut problems = Vec::new();
        if self.subjects.len() > NATS_SUBJECTS_MAX {
            let message = format!("more than {NATS_SUBJECTS_MAX} subjects");
            problems.push(bad("subjects", &message, Some("use * and > for many")));
            return problems;
        }
        for (number, subject) in self.subjects.iter().enumerate() {
            let path = format!("subjects[{number}]");
            if !is_pattern(subject) {
                let message = format!("{subject:?} is no NATS subject");
                let hint = "tokens between dots are not empty, and > is the last one";
                problems.push(bad(&path, &message, Some(hint)));
            } else if let Some(other) =
                self.subjects.iter().take(number).find(|other| overlap(other, subject))
            {
                let message = format!("{subject:?} and {other:?} have subjects in common");
                let hint = "name each subject once, or its messages would be taken twice";
                problems.push(bad(&path, &message, Some(hint)));
            }
        }
        problems
    }
}

impl JetStreamOptions {
    fn problems(&self) -> Vec<BadOption> {
        let mut problems = Vec::new();
        for (path, name) in [("stream", &self.stream), ("consumer", &self.consumer)] {
            if !is_name(name) {
                let message = format!("{name:?} is no name of a {path}");
                let hint = "a name has no white space and none of . * > / \\";
                problems.push(bad(&format!("jetstream.{path}"), &message, Some(hint)));
            }
        }
        if !(1..=NATS_BATCH_MAX).contains(&self.batch) {
            let message = format!("not between 1 and {NATS_BATCH_MAX}");
            problems.push(bad("jetstream.batch", &message, None));
        }
        if self.ack_wait.0 < NATS_ACK_WAIT_MIN {
            problems.push(bad("jetstream.ack_wait", "less than a second", None));
        }
        if self.max_ack_pending == 0 {
            problems.push(bad("jetstream.max_ack_pending", "has to be 1 or more", None));
        }
        problems
    }
}

fn read<T: DeserializeOwned>(written: &Map<String, Value>) -> Result<T, Vec<BadOption>> {
    let read = serde_json::from_value(Value::Object(written.clone()));
    read.map_err(|error| vec![bad("", &error.to_string(), None)])
}

pub(super) fn bad(path: &str, message: &str, hint: Option<&str>) -> BadOption {
    BadOption {
        path: path.to_owned(),
        message: message.to_owned(),
        hint: hint.map(str::to_owned),
        is_unknown: false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(problems: &[BadOption]) -> Vec<&str> {
        problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[test]
    fn options_are_read_and_written_in_the_same_form() {
        let mut value = json!({
            "url": "nats://localhost:4222",
            "user": "u",
            "password": "",
            "subject": { "replace": ["cms", "relayed"] },
            "jetstream": true,
            "headers": false,
            "timeout": "3s",
        });
        let sink = SinkOptions::read(value.as_object().unwrap()).unwrap();
        value.as_object_mut().unwrap().remove("password");
        assert_eq!(serde_json::to_value(&sink).unwrap(), value);
        let source = SourceOptions::read(
            json!({
                "url": "a,b",
                "subjects": ["cms.>"],
                "topic": { "replace": ["cms.", ""] },
                "jetstream": { "stream": "CMS", "consumer": "hub" },
            })
            .as_object()
            .unwrap(),
        )
        .unwrap();
        assert_eq!(source.jetstream.unwrap().batch, NATS_BATCH_DEFAULT);
        assert_eq!(source.topic.unwrap().apply("cms.cms.a"), "cms.a");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let source: SourceOptions = serde_json::from_value(json!({
            "url": "http://a",
            "subjects": ["a.>", "a.b", "a..b", "x y"],
            "queue_group": "q q",
            "topic": { "replace": ["", "b"] },
            "jetstream": {
                "consumer": "a.b", "batch": 0, "ack_wait": "10ms", "max_ack_pending": 0
            },
        }))
        .unwrap();
        assert_eq!(
            paths(&source.problems()),
            [
                "url",
                "topic.replace",
                "subjects[1]",
                "subjects[2]",
                "subjects[3]",
                "queue_group",
                "jetstream.stream",
                "jetstream.consumer",
                "jetstream.batch",
                "jetstream.ack_wait",
                "jetstream.max_ack_pending",
                "queue_group"
            ]
        );
        assert_eq!(paths(&SourceOptions::default().problems()), ["url", "subjects"]);
    }

    #[test]
    fn no_secret_is_shown() {
        let value = json!({
            "url": "nats://me:hidden@a,nats://hidden@b",
            "user": "hidden",
            "password": "hidden",
            "token": "hidden",
            "nkey_seed": "hidden",
        });
        let sink: SinkOptions = serde_json::from_value(value).unwrap();
        let shown = format!("{sink:?} {:?}", sink.problems());
        assert!(!shown.contains("hidden") && shown.contains("nats://a:4222"), "{shown}");
    }
}
