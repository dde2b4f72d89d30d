//! Who is known: audiences by name and the topics that they have noted down, kept in the hub's
//! state. Knows no token and no request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tidings_core::{Clock, Hub, StateError, Table, Write};

use crate::limits::{AUDIENCE_TEXT_CHARACTERS_MAX, AUDIENCE_TOPICS_MAX, AUDIENCES_MAX};
use crate::mercure::lent::fresh_name;

/// The version of rows.
const VERSION: u32 = 1;
/// What keys begin with that are no audience's.
const BESIDE: u8 = 0;
/// How far what was brought from elsewhere has come.
const IMPORTED: &[u8] = b"\0imported";

/// A tenant: whoever is in it is alone with its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// A UUID, as it is written.
    pub id: String,
    /// What tokens call it in `aud`; at most 255 characters, unique.
    pub name: String,
    /// When it was made and changed.
    pub dates: Dates,
}

/// A topic that an audience has noted down. Others can be used all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedTopic {
    /// A UUID, as it is written.
    pub id: String,
    /// What the audience calls it; at most 255 characters, unique in the audience.
    pub topic: String,
    /// When it was made and changed.
    pub dates: Dates,
}

/// In milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dates {
    /// When it was made.
    pub created: u64,
    /// When it was changed last.
    pub updated: u64,
    /// When somebody deleted it, which has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
}

impl Dates {
    /// Those of something that is made at this time.
    pub fn new(now: u64) -> Dates {
        Dates { created: now, updated: now, deleted: None }
    }
}

#[derive(Serialize, Deserialize)]
struct AudienceRow {
    version: u32,
    name: String,
    #[serde(flatten)]
    dates: Dates,
}

#[derive(Serialize, Deserialize)]
struct TopicRow {
    version: u32,
    id: String,
    #[serde(flatten)]
    dates: Dates,
}

/// Nothing was made or read.
#[derive(Debug, thiserror::Error)]
pub enum AudienceProblem {
    /// The client's: a name that nobody can have.
    #[error("a name has 1 to {AUDIENCE_TEXT_CHARACTERS_MAX} characters")]
    BadName,
    /// The client's: a topic that cannot be noted down.
    #[error("a topic has {AUDIENCE_TEXT_CHARACTERS_MAX} characters at most")]
    BadTopic,
    /// The operator's matter.
    #[error("there are {AUDIENCES_MAX} audiences already")]
    TooManyAudiences,
    /// The client's: it has noted down too many.
    #[error("the audience has noted down {AUDIENCE_TOPICS_MAX} topics already")]
    TooManyTopics,
    /// The operator's matter: the hub's storage.
    #[error("the audiences cannot be stored: {0}")]
    Storage(#[from] StateError),
    /// A row is none of this program's.
    #[error(
        "a stored audience is damaged or of a newer version of this program: restore the data \
         folder from a copy, or take the newer program"
    )]
    Damaged,
}

/// All of them.
pub struct Audiences {
    hub: Hub,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    /// Held by who writes: one at a time.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<String, Arc<Audience>>,
    by_id: HashMap<String, Arc<Audience>>,
}

impl Known {
    fn add(&mut self, audience: Audience) -> Arc<Audience> {
        let audience = Arc::new(audience);
        self.by_name.insert(audience.name.clone(), Arc::clone(&audience));
        self.by_id.insert(audience.id.clone(), Arc::clone(&audience));
        audience
    }
}

fn is_short(text: &str) -> bool {
    text.chars().nth(AUDIENCE_TEXT_CHARACTERS_MAX).is_none()
}

/// A UUID that nobody has had before.
pub(super) fn fresh_id() -> String {
    fresh_name().trim_start_matches("urn:uuid:").to_owned()
}

impl Audiences {
    /// Those of this hub.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn open(hub: Hub, clock: Arc<dyn Clock>) -> Result<Audiences, AudienceProblem> {
        let mut known = Known::default();
        let from = [BESIDE + 1];
        for (id, row) in hub.state().range(Table::Audiences, &from, None, AUDIENCES_MAX)? {
            let id = String::from_utf8(id).map_err(|_| AudienceProblem::Damaged)?;
            let row: AudienceRow = read(&row)?;
            if row.version != VERSION {
                return Err(AudienceProblem::Damaged);
            }
            known.add(Audience { id, name: row.name, dates: row.dates });
        }
        Ok(Audiences { hub, clock, known: RwLock::new(known), writing: Mutex::default() })
    }

    /// The one of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Audience>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name).cloned()
    }

    /// The one of this id.
    pub fn find_id(&self, id: &str) -> Option<Arc<Audience>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The one of this name, made where there is none. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`AudienceProblem`].
    pub fn make(&self, name: &str) -> Result<Arc<Audience>, AudienceProblem> {
        let dates = Dates::new(self.clock.wall());
        self.take(Audience { id: fresh_id(), name: name.to_owned(), dates })
    }

    /// Takes this one, unless one of its name is there: that is answered then. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`AudienceProblem`].
    pub fn take(&self, audience: Audience) -> Result<Arc<Audience>, AudienceProblem> {
        if audience.name.is_empty() || !is_short(&audience.name) {
            return Err(AudienceProblem::BadName);
        }
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.find(&audience.name) {
            return Ok(known);
        }
        if self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.len() >= AUDIENCES_MAX {
            return Err(AudienceProblem::TooManyAudiences);
        }
        let (name, dates) = (audience.name.clone(), audience.dates);
        let row = written(&AudienceRow { version: VERSION, name, dates });
        let key = audience.id.as_bytes();
        self.hub.state().commit(&[Write { table: Table::Audiences, key, value: Some(&row) }])?;
        Ok(self.known.write().unwrap_or_else(PoisonError::into_inner).add(audience))
    }

    /// The topics that this audience has noted down, in the order of their texts. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn topics(&self, audience: &str) -> Result<Vec<NotedTopic>, AudienceProblem> {
        let (from, until) = (topic_key(audience, ""), [audience.as_bytes(), &[1]].concat());
        let state = self.hub.state();
        let rows = state.range(Table::AudienceTopics, &from, Some(&until), AUDIENCE_TOPICS_MAX)?;
        let topic = |(key, row): (Vec<u8>, Vec<u8>)| {
            let text = key.get(from.len()..).and_then(|text| std::str::from_utf8(text).ok());
            noted(text.ok_or(AudienceProblem::Damaged)?, &row)
        };
        rows.into_iter().map(topic).collect()
    }

    /// The topic that this audience calls so, noted down where it is not yet. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// See [`AudienceProblem`].
    pub fn make_topic(&self, audience: &str, text: &str) -> Result<NotedTopic, AudienceProblem> {
        let dates = Dates::new(self.clock.wall());
        let topic = NotedTopic { id: fresh_id(), topic: text.to_owned(), dates };
        self.take_topic(audience, topic)
    }

    /// Takes this topic, unless one of its text is there: that is answered then. Blocks on the
    /// disk.
    ///
    /// # Errors
    ///
    /// See [`AudienceProblem`].
    pub fn take_topic(
        &self,
        audience: &str,
        topic: NotedTopic,
    ) -> Result<NotedTopic, AudienceProblem> {
        if !is_short(&topic.topic) {
            return Err(AudienceProblem::BadTopic);
        }
        let key = topic_key(audience, &topic.topic);
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.hub.state();
        if let Some(row) = state.get(Table::AudienceTopics, &key)? {
            return noted(&topic.topic, &row);
        }
        if self.topics(audience)?.len() >= AUDIENCE_TOPICS_MAX {
            return Err(AudienceProblem::TooManyTopics);
        }
        let NotedTopic { id, dates, .. } = topic.clone();
        let row = written(&TopicRow { version: VERSION, id, dates });
        state.commit(&[Write { table: Table::AudienceTopics, key: &key, value: Some(&row) }])?;
        Ok(topic)
    }

    /// How far what was brought from elsewhere has come, as whoever brings it has noted it down.
    ///
    /// # Errors
    ///
    /// When the storage cannot be read.
    pub fn imported(&self) -> Result<Option<Vec<u8>>, AudienceProblem> {
        Ok(self.hub.state().get(Table::Audiences, IMPORTED)?)
    }

    /// Notes that down. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the storage cannot be written.
    pub fn note_imported(&self, place: &[u8]) -> Result<(), AudienceProblem> {
        let write = Write { table: Table::Audiences, key: IMPORTED, value: Some(place) };
        Ok(self.hub.state().commit(&[write])?)
    }
}

/// Topics of one audience stand together, in the order of their texts.
fn topic_key(audience: &str, text: &str) -> Vec<u8> {
    [audience.as_bytes(), &[0], text.as_bytes()].concat()
}

fn noted(text: &str, row: &[u8]) -> Result<NotedTopic, AudienceProblem> {
    let row: TopicRow = read(row)?;
    match row.version {
        VERSION => Ok(NotedTopic { id: row.id, topic: text.to_owned(), dates: row.dates }),
        _ => Err(AudienceProblem::Damaged),
    }
}

fn read<'r, T: Deserialize<'r>>(row: &'r [u8]) -> Result<T, AudienceProblem> {
    serde_json::from_slice(row).map_err(|_| AudienceProblem::Damaged)
}

fn written<T: Serialize>(row: &T) -> Vec<u8> {
    // Texts and numbers, into memory: nothing of it can fail.
    serde_json::to_vec(row).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{hub, stopped};
    use super::*;

    #[test]
    fn of_one_name_there_is_one_audience() {
        let hub = hub();
        let audiences = Audiences::open(hub.clone(), stopped()).unwrap();
        let one = audiences.make("a.example").unwrap();
        let again = audiences.make("a.example").unwrap();
        assert_eq!(one, again);
        assert_ne!(audiences.make("A.example").unwrap().id, one.id);
        assert_eq!((one.id.len(), one.dates.deleted), (36, None));
        let reopened = Audiences::open(hub, stopped()).unwrap();
        assert_eq!(reopened.find("a.example").unwrap(), one);
        assert_eq!(reopened.find_id(&one.id).unwrap(), one);
        assert!(reopened.find("b").is_none() && reopened.find_id("b").is_none());
    }

    #[test]
    fn names_and_topics_have_a_length() {
        let audiences = Audiences::open(hub(), stopped()).unwrap();
        let long = "é".repeat(255);
        assert!(audiences.make(&long).is_ok());
        for bad in [String::new(), "x".repeat(256)] {
            assert!(matches!(audiences.make(&bad), Err(AudienceProblem::BadName)));
        }
        let id = audiences.make("a").unwrap().id.clone();
        assert!(audiences.make_topic(&id, &long).is_ok());
        assert!(audiences.make_topic(&id, "").is_ok());
        let problem = audiences.make_topic(&id, &"x".repeat(256));
        assert!(matches!(problem, Err(AudienceProblem::BadTopic)));
    }

    #[test]
    fn topics_of_an_audience_are_listed_without_those_of_others() {
        let audiences = Audiences::open(hub(), stopped()).unwrap();
        let [one, other] = ["a", "b"].map(|name| audiences.make(name).unwrap().id.clone());
        let topic = audiences.make_topic(&one, "z/\0/\u{10FFFF}").unwrap();
        assert_eq!(audiences.make_topic(&one, "z/\0/\u{10FFFF}").unwrap(), topic, "once");
        audiences.make_topic(&one, "").unwrap();
        audiences.make_topic(&other, "z/\0/\u{10FFFF}").unwrap();
        let listed = audiences.topics(&one).unwrap();
        let texts: Vec<_> = listed.iter().map(|topic| topic.topic.as_str()).collect();
        assert_eq!(texts, ["", "z/\0/\u{10FFFF}"]);
        assert_eq!(listed[1], topic);
        assert!(audiences.topics("nobody").unwrap().is_empty());
    }

    #[test]
    fn what_was_brought_stands_beside_audiences() {
        let hub = hub();
        let audiences = Audiences::open(hub.clone(), stopped()).unwrap();
        assert_eq!(audiences.imported().unwrap(), None);
        audiences.note_imported(b"far").unwrap();
        audiences.make("a").unwrap();
        let reopened = Audiences::open(hub.clone(), stopped()).unwrap();
        assert_eq!(reopened.imported().unwrap().as_deref(), Some(&b"far"[..]));
        let write = Write { table: Table::Audiences, key: b"x", value: Some(b"{}") };
        hub.state().commit(&[write]).unwrap();
        let opened = Audiences::open(hub, stopped());
        assert!(matches!(opened, Err(AudienceProblem::Damaged)));
    }
}
