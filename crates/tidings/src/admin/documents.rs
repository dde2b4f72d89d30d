//! What the operator's listener says of sinks, and what it is asked, as JSON. The commands read the
//! same. Times are in milliseconds since 1970-01-01.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_connectors::sinks::replay::Replay;
use tidings_frontends::auth::KeptPattern;

/// How a sink stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SinkDocument {
    /// Its name.
    pub name: String,
    /// Its kind, as `webhook`.
    pub kind: String,
    /// `configuration` or `api`.
    pub origin: String,
    /// `running`, `paused`, `disabled`, or `waiting` for room for dead letters and copies.
    pub state: String,
    /// Why it is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The place in the history up to which nothing is owed.
    pub position: u64,
    /// How many places of the history are behind that.
    pub behind: u64,
    /// Entries that were taken from the history and are not done.
    pub waiting: usize,
    /// Deliveries on their way.
    pub sending: usize,
    /// Copies set aside.
    pub parked: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Whether the system is left alone for a while, since it failed or asked for it.
    pub resting: bool,
    /// Why an entry failed last, since something was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// What it is told, without secrets; only where one sink is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specification: Option<Value>,
    /// What is known of an endpoint that was made over the API; only where one sink is asked for.
    #[serde(flatten)]
    pub endpoint: Option<EndpointDocument>,
}

/// What an endpoint is beside a sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndpointDocument {
    /// Grows with each change; the ETag is made of it.
    pub version: u64,
    /// `disk`, or `memory` when it ends with the process.
    pub kept: String,
    /// When it was made.
    pub made: u64,
    /// When it was changed last.
    pub changed: u64,
    /// The options that are set and never shown.
    pub secrets: Vec<String>,
    /// By which token it reads; absent for what the operator made for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<CreatorDocument>,
    /// A new signing key. This is the only time that it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// What receivers verify with where the new signing key is a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What was kept of a subscriber's token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CreatorDocument {
    /// Its issuer, as the configuration names it.
    pub issuer: String,
    /// Its `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Its `client_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The `kid` of the key that verified it, or `subscribe`.
    pub key: String,
    /// Which private updates it may read.
    pub topics: Vec<KeptPattern>,
}

/// Some sinks, in the order of their names.
#[derive(Debug, Serialize, Deserialize)]
pub struct SinksDocument {
    /// At most [`crate::limits::SINKS_PAGE_MAX`].
    pub sinks: Vec<SinkDocument>,
    /// Behind which name the next page begins, for `after=`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What was tried.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptDocument {
    /// Its number among all attempts.
    pub number: u64,
    /// When it was over.
    pub time: u64,
    /// The hub's id of the first entry that it was for.
    pub entry: String,
    /// The place of that entry.
    pub place: u64,
    /// How many entries it delivered.
    pub delivered: usize,
    /// The first try is 1.
    pub tries: u32,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// What the system answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Whose fault a failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The begin of the answer as text.
    pub answer: String,
}

/// Some attempts, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct AttemptsDocument {
    /// They may be none, though there are more.
    pub attempts: Vec<AttemptDocument>,
    /// Where the next page begins, for `before=`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// A dead letter, without what it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LetterDocument {
    /// Its number among those of its sink.
    pub number: u64,
    /// `update`, `follow-up`, `gap` or `unreadable`.
    pub kind: String,
    /// When it became one; 0 where that cannot be read.
    pub time: u64,
    /// How often it was tried.
    pub tries: u32,
    /// Why it is one.
    pub reason: String,
    /// Whose fault it was, of an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What the system answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The begin of that as text.
    pub answer: String,
    /// The hub's id of the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Its topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The first and the last place that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub places: Option<(u64, u64)>,
    /// Bytes of the update.
    pub size: usize,
}

/// Some dead letters, the oldest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct LettersDocument {
    /// At most a thousand.
    pub dead_letters: Vec<LetterDocument>,
    /// Behind which number the next page begins, for `after=`; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// Which dead letters are meant: one of both.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionDocument {
    /// Those with these numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<u64>,
    /// All of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// How far dead letters are delivered again, or deleted.
#[derive(Debug, Serialize, Deserialize)]
pub struct RedrivenDocument {
    /// They are none any more.
    pub taken: usize,
    /// Gaps and unreadable ones: there is nothing to deliver.
    pub empty: usize,
    /// Numbers that no dead letter has.
    pub unknown: usize,
    /// Dead letters that there are now.
    pub left: usize,
    /// Whether it goes on behind this answer.
    pub goes_on: bool,
    /// Why it ended before all were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What is to be delivered once more.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRequest {
    /// These entries, and no range.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// The begin: an id, a place, or a time as `2027-01-15T08:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The end, as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Value>,
    /// Only what failed and was not delivered since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// The replays of a sink, the newest first.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReplaysDocument {
    /// Those that are remembered.
    pub replays: Vec<Replay>,
}

/// What became of a made-up update.
#[derive(Debug, Serialize, Deserialize)]
pub struct TrialDocument {
    /// Whether the system took it.
    pub delivered: bool,
    /// How long that took, in milliseconds.
    pub took: u64,
    /// What the system answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Whose fault a failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The begin of the answer as text.
    pub answer: String,
}
