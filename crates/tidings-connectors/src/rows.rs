//! What a sink or source can be told, option by option: the rows that the reader, the variables of
//! the environment and the printed reference all go by. Knows no system; each brings its rows.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits::{CONCURRENCY_MAX, OPTION_SPAN_MAX, RETRY_FIRST_MIN};
use crate::specification::BadOption;

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// Dotted path within the table of the sink or source.
    pub path: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it is when nobody says; in TOML.
    pub default: Option<&'static str>,
    /// A value to begin with; in TOML.
    pub example: &'static str,
    /// What it does, in sentences. Lines of the reference.
    pub about: &'static str,
    /// Whether the value is never shown.
    pub is_secret: bool,
    /// Whether it must be there, once the table that it is in is there.
    pub is_required: bool,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A text that is not empty.
    Text,
    /// A text that may be empty.
    AnyText,
    /// An `http://` or `https://` URL.
    Url,
    /// The path of a file.
    File,
    /// True or false.
    Boolean,
    /// A whole number.
    Number {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A duration, see [`crate::span`].
    Span {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Texts that are not empty: one, or a list.
    Texts,
    /// Keys that sign: texts, or tables of a key and its end; one, or a list.
    Keys,
    /// Networks or addresses: one, or a list.
    Networks,
    /// Statuses of HTTP: one, or a list.
    Statuses,
    /// Texts by their names.
    Pairs,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// [`crate::specification::Pick`]s: one, or a list.
    Picks,
    /// A [`crate::specification::KeyOf`].
    KeyOf,
    /// Two texts: the begin that goes, and what comes in its place.
    Replace,
}

impl Takes {
    /// The form in words, to go on after "takes".
    pub fn words(self) -> String {
        match self {
            Takes::Text | Takes::AnyText => "a text".to_owned(),
            Takes::Url => "a URL as in \"https://app.example.com/hook\"".to_owned(),
            Takes::File => "the path of a file".to_owned(),
            Takes::Boolean => "true or false".to_owned(),
            Takes::Number { .. } => "a whole number".to_owned(),
            Takes::Span { .. } => "a duration as in \"15s\"".to_owned(),
            Takes::Texts => "a list of texts".to_owned(),
            Takes::Keys => "a list of keys".to_owned(),
            Takes::Networks => "networks as in [\"10.0.0.0/8\"]".to_owned(),
            Takes::Statuses => "statuses as in [200, 204]".to_owned(),
            Takes::Pairs => "a table of texts".to_owned(),
            Takes::Choice(words) => format!("\"{}\"", words.join("\", \"")),
            Takes::Picks => "topics, patterns as in { nats = \"cms.>\" }, or \"*\"".to_owned(),
            Takes::KeyOf => "\"topic\" or \"attribute:NAME\"".to_owned(),
            Takes::Replace => "two texts as in [\"cms.cache\", \"relayed.cache\"]".to_owned(),
        }
    }

    /// Whether several values may stand in a list.
    pub fn is_list(self) -> bool {
        use Takes::{Keys, Networks, Picks, Statuses, Texts};
        matches!(self, Texts | Keys | Networks | Statuses | Picks)
    }
}

/// A kind of sink or source.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name, as `kind` in a specification.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// What it is told beside what every sink or source is.
    pub options: &'static [OptionRow],
    /// What is wrong with options of which each has its form.
    pub check: fn(&Map<String, Value>) -> Vec<BadOption>,
}

/// An option that is unset when nobody sets it.
pub(crate) const fn row(
    path: &'static str,
    takes: Takes,
    example: &'static str,
    about: &'static str,
) -> OptionRow {
    let (default, is_secret, is_required) = (None, false, false);
    OptionRow { path, takes, default, example, about, is_secret, is_required }
}

impl OptionRow {
    pub(crate) const fn or(self, default: &'static str) -> OptionRow {
        OptionRow { default: Some(default), ..self }
    }

    pub(crate) const fn secret(self) -> OptionRow {
        OptionRow { is_secret: true, ..self }
    }

    pub(crate) const fn required(self) -> OptionRow {
        OptionRow { is_required: true, ..self }
    }
}

/// Every time in an option that may be as short as it likes.
pub(crate) const ANY_SPAN: Takes = Takes::Span { min: Duration::ZERO, max: OPTION_SPAN_MAX };

/// What every sink is told beside its kind.
pub const OF_EVERY_SINK: &[OptionRow] = &[
    row(
        "name",
        Takes::Text,
        r#""next-cache""#,
        "What it is called in logs, metrics and commands, and what its place in the history is
kept under: up to 64 of a-z, 0-9, `.`, `_` and `-`. No other sink or source has it.",
    )
    .required(),
    row(
        "topics",
        Takes::Picks,
        r#"[{ nats = "cms.cache.>" }, "https://example.com/books/1"]"#,
        "Which updates it gets: topics, \"*\" for all of them, or patterns, each as a table of its
language: { nats = … }, { mqtt = … }, { url_pattern = … } or { uri_template = … }.",
    )
    .required(),
    row(
        "key",
        Takes::KeyOf,
        r#""topic""#,
        "What keeps its order: \"topic\", or \"attribute:NAME\" for the value of an attribute.
Updates with different keys are delivered side by side, and a key that fails does not hold up
the others. Unset, there is one order: each update waits for the one before.",
    ),
    row(
        "concurrency",
        Takes::Number { min: 1, max: CONCURRENCY_MAX as u64 },
        "32",
        "Deliveries at the same time, up to 1024. Needs a `key`; without one there is one at a
time.",
    )
    .or("32"),
    row(
        "rate",
        Takes::Number { min: 1, max: u32::MAX as u64 },
        "100",
        "Deliveries in a second at most. Unset, there is no limit.",
    ),
    row(
        "retry.first",
        Takes::Span { min: RETRY_FIRST_MIN, max: OPTION_SPAN_MAX },
        r#""1s""#,
        "The wait before a failed delivery is tried again. It doubles each time.",
    )
    .or(r#""1s""#),
    row("retry.max", ANY_SPAN, r#""5m""#, "The longest such wait.").or(r#""5m""#),
    row(
        "retry.give_up_after",
        ANY_SPAN,
        r#""3d""#,
        "How long an update is tried again, from when it was published. Then it is put aside as a
dead letter. What is older gets one try.",
    )
    .or(r#""3d""#),
    row(
        "then.publish.replace",
        Takes::Replace,
        r#"["cms.cache", "relayed.cache"]"#,
        "Publishes each update again once it is delivered, under the topic whose begin is the second
text in place of the first.",
    )
    .required(),
];

/// What every source is told beside its kind.
pub const OF_EVERY_SOURCE: &[OptionRow] = &[
    row(
        "name",
        Takes::Text,
        r#""cms""#,
        "What it is called in logs, metrics and commands: up to 64 of a-z, 0-9, `.`, `_` and `-`.
Unset, its kind. No other sink or source has it.",
    ),
    row(
        "private",
        Takes::Boolean,
        "true",
        "Whether its updates are private: only for subscribers whose token grants their topic.",
    )
    .or("false"),
];
