//! What clients say over a socket in `tidings.v1.json`: JSON becomes commands that cannot be wrong
//! in themselves. Knows no session, no token's content and no hub.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use tidings_core::limits::{FIELD_BYTES_MAX, MATCHERS_MAX, TOPICS_MAX};
use tidings_core::{Language, Line, Topic, Update};

use super::messages::{Code, Reference};
use crate::auth::language;
use crate::limits::{
    IDEMPOTENCY_KEY_BYTES_MAX, SOCKET_NAME_BYTES_MAX, SOCKET_REFERENCE_BYTES_MAX,
    SOCKET_REFERENCE_END,
};
use crate::mercure::lent;
use crate::shard::talk::Said;

/// A token as somebody showed it. Never printed.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Token(pub(super) String);

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Token")
    }
}

/// A pattern as a client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) language: Language,
    pub(super) text: String,
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begin {
    Now,
    /// Behind a cursor or id, or at the earliest.
    Behind(String),
}

/// What a client wants.
#[derive(Debug)]
pub(super) enum Command {
    Authenticate {
        reference: Reference,
        token: Token,
    },
    Subscribe {
        reference: Reference,
        name: String,
        /// Neither empty nor more than a receiver may have; none of them twice.
        patterns: Vec<Pattern>,
        begin: Begin,
    },
    Unsubscribe {
        reference: Reference,
        name: String,
    },
    Publish {
        reference: Reference,
        update: Box<Update>,
    },
    Ping {
        reference: Option<Reference>,
    },
}

/// The client's fault: no command came of what it said.
#[derive(Debug)]
pub(super) struct Mistake {
    /// As far as it could be read.
    pub(super) reference: Option<Reference>,
    pub(super) code: Code,
    /// For the client. Holds nothing that it said but names of fields.
    pub(super) reason: String,
}

/// Reads what a client said.
pub(super) fn read(said: &Said) -> Result<Command, Mistake> {
    match said {
        Said::Text(text) => read_json(text, None),
        Said::Binary(bytes) => {
            let wrong = |reason: &str| Mistake {
                reference: None,
                code: Code::BadCommand,
                reason: format!("a binary message is the length of a `publish` and {reason}"),
            };
            let (length, rest) =
                bytes.split_first_chunk::<4>().ok_or_else(|| wrong("has at least four bytes"))?;
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let (head, _) =
                rest.split_at_checked(length).ok_or_else(|| wrong("then as many bytes"))?;
            read_json(head, Some(bytes.slice(4 + length..)))
        }
    }
}

/// What every command has.
#[derive(Deserialize)]
struct Head<'j> {
    op: Option<String>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'j RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authenticate {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: IgnoredAny,
    token: Token,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: IgnoredAny,
    name: Option<String>,
    matchers: Vec<Matching>,
    #[serde(default)]
    start: Starting,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matching {
    #[serde(rename = "match")]
    text: String,
    match_type: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Starting {
    #[default]
    Now,
    Earliest,
    After(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: IgnoredAny,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(rename = "ref")]
    _reference: IgnoredAny,
    topics: Vec<String>,
    data: Option<String>,
    data_base64: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    private: bool,
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    retry: Option<u64>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ping {
    #[serde(rename = "op")]
    _op: IgnoredAny,
    #[serde(default, rename = "ref")]
    _reference: IgnoredAny,
}

/// A code and what to say about it.
type Wrong = (Code, String);

fn bad(reason: impl Into<String>) -> Wrong {
    (Code::BadCommand, reason.into())
}

/// Reads the JSON text of a command; `data` is that of an update where it stands aside.
fn read_json(text: &[u8], data: Option<Bytes>) -> Result<Command, Mistake> {
    let head = read_head(text).map_err(|(code, reason)| Mistake { reference: None, code, reason });
    let Head { op, reference } = head?;
    let reference = reference.map(read_reference).transpose();
    let reference =
        reference.map_err(|(code, reason)| Mistake { reference: None, code, reason })?;
    let (op, of_mistake) = (op.unwrap_or_default(), reference.clone());
    read_command(&op, reference, text, data).map_err(|(code, reason)| Mistake {
        reference: of_mistake,
        code,
        reason,
    })
}

fn read_head(text: &[u8]) -> Result<Head<'_>, Wrong> {
    // Lists would pass for objects otherwise.
    let is_object = text.trim_ascii_start().first() == Some(&b'{');
    match serde_json::from_slice::<Head<'_>>(text) {
        Ok(head) if is_object => Ok(head),
        Err(error) if !error.is_data() => {
            Err((Code::BadJson, format!("no JSON at column {}", error.column())))
        }
        _ => Err(bad("a command is a JSON object with `op` and `ref`")),
    }
}

fn read_reference(raw: &RawValue) -> Result<Reference, Wrong> {
    let number = serde_json::from_str::<u64>(raw.get()).ok();
    let is_good = match number {
        Some(number) => number < SOCKET_REFERENCE_END,
        None => text_of(raw).is_some_and(|text| text.len() <= SOCKET_REFERENCE_BYTES_MAX),
    };
    if !is_good {
        return Err(bad("`ref` is a whole number below 2^53, or a text of at most 64 bytes"));
    }
    Ok(Reference(raw.to_owned()))
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// Reads the fields of one kind of command.
fn fields<T: DeserializeOwned>(text: &[u8]) -> Result<T, Wrong> {
    serde_json::from_slice(text).map_err(|error| {
        if !error.is_data() {
            return (Code::BadJson, format!("no JSON at column {}", error.column()));
        }
        // What serde says names fields and kinds of values; an unknown field it quotes.
        bad(format!(
            "a field is missing, unknown, repeated or of another type, at column {}",
            error.column()
        ))
    })
}

fn read_command(
    op: &str,
    reference: Option<Reference>,
    text: &[u8],
    data: Option<Bytes>,
) -> Result<Command, Wrong> {
    if data.is_some() && op != "publish" {
        return Err(bad("a binary message carries a `publish`"));
    }
    if op == "ping" {
        let Ping { .. } = fields(text)?;
        return Ok(Command::Ping { reference });
    }
    if !matches!(op, "authenticate" | "subscribe" | "unsubscribe" | "publish") {
        return Err(bad("`op` is one of authenticate, subscribe, unsubscribe, publish and ping"));
    }
    let reference = reference.ok_or_else(|| bad("a command needs a `ref`"))?;
    match op {
        "authenticate" => {
            let Authenticate { token, .. } = fields(text)?;
            Ok(Command::Authenticate { reference, token })
        }
        "subscribe" => read_subscribe(reference, fields(text)?),
        "unsubscribe" => {
            let Unsubscribe { name, .. } = fields(text)?;
            Ok(Command::Unsubscribe { reference, name })
        }
        _ => {
            let update = Box::new(read_update(fields(text)?, data)?);
            Ok(Command::Publish { reference, update })
        }
    }
}

fn read_subscribe(reference: Reference, fields: Subscribe) -> Result<Command, Wrong> {
    let Subscribe { name, matchers, start, .. } = fields;
    let name = name
        .unwrap_or_else(|| text_of(&reference.0).unwrap_or_else(|| reference.0.get().to_owned()));
    if name.len() > SOCKET_NAME_BYTES_MAX {
        return Err(bad(format!("`name` has at most {SOCKET_NAME_BYTES_MAX} bytes")));
    }
    if matchers.is_empty() || matchers.len() > MATCHERS_MAX {
        return Err(bad(format!("`matchers` has 1 to {MATCHERS_MAX} elements")));
    }
    let mut patterns: Vec<Pattern> = Vec::with_capacity(matchers.len());
    for matching in matchers {
        let pattern = read_pattern(matching)?;
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    let begin = match start {
        Starting::Now => Begin::Now,
        Starting::Earliest => Begin::Behind(lent::EARLIEST.to_owned()),
        Starting::After(cursor) => {
            let is_good = !cursor.is_empty() && cursor.len() <= FIELD_BYTES_MAX;
            if !is_good {
                let reason = format!("a cursor has 1 to {FIELD_BYTES_MAX} bytes");
                return Err((Code::BadCursor, reason));
            }
            Begin::Behind(cursor)
        }
    };
    Ok(Command::Subscribe { reference, name, patterns, begin })
}

fn read_pattern(matching: Matching) -> Result<Pattern, Wrong> {
    let Matching { text, match_type } = matching;
    let language = match match_type {
        None => Language::Exact,
        Some(name) => language(&name).ok_or_else(|| {
            bad("`match_type` is one of exact, urlpattern, uritemplate, mqtt and nats")
        })?,
    };
    if !lent::is_plain(&text) {
        let reason = "a pattern has no control or format characters".to_owned();
        return Err((Code::BadPattern, reason));
    }
    // The wildcard comes before the language: `*` is every topic in each of them.
    let language = if text == "*" { Language::Exact } else { language };
    Ok(Pattern { language, text })
}

fn read_update(fields: Publish, aside: Option<Bytes>) -> Result<Update, Wrong> {
    if fields.topics.is_empty() {
        return Err(bad("`topics` names at least one topic"));
    }
    if fields.topics.len() > TOPICS_MAX {
        return Err((Code::TooLarge, format!("`topics` names at most {TOPICS_MAX} topics")));
    }
    let topics: Result<Vec<Topic>, Wrong> = fields
        .topics
        .iter()
        .map(|text| lent::topic(text).map_err(|reason| (Code::BadTopic, reason)))
        .collect();
    let data = match (fields.data, fields.data_base64, aside) {
        (Some(text), None, None) => text.into(),
        (None, Some(coded), None) => {
            let decoded = STANDARD.decode(coded);
            decoded.map_err(|_| bad("`data_base64` is base64 with padding (RFC 4648)"))?.into()
        }
        (None, None, Some(bytes)) => bytes,
        (None, None, None) => Bytes::new(),
        _ => return Err(bad("data stands in one place only")),
    };
    let line = |text: Option<String>, name: &str, bytes_max: usize| {
        let Some(text) = text else { return Ok(None) };
        let line = Line::parse(&text).ok().filter(|_| text.len() <= bytes_max);
        let wrong = || bad(format!("`{name}` is one line of 1 to {bytes_max} bytes"));
        line.map(Some).ok_or_else(wrong)
    };
    let id = fields.id.as_deref().map(lent::id).transpose();
    let event_type = fields.event_type.as_deref().map(lent::event_type).transpose();
    Ok(Update {
        topics: topics?,
        data,
        content_type: line(fields.content_type, "content_type", FIELD_BYTES_MAX)?,
        private: fields.private,
        id: id.map_err(bad)?,
        event_type: event_type.map_err(bad)?,
        retry: fields.retry,
        attributes: Vec::new(),
        idempotency_key: line(fields.key, "key", IDEMPOTENCY_KEY_BYTES_MAX)?,
        origin: None,
        ephemeral: false,
    })
}
