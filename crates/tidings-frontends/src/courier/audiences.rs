//! Who is known: audiences by name and the topics that they have noted down, kept in the hub's
//! state. Knows no token and no request.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tidings_core::{Clock, Hub, StateError, Table, Write};

use super::known::{How, Known, Taken, is_name, is_short};
use crate::limits::{AUDIENCE_TEXT_CHARACTERS_MAX, AUDIENCE_TOPICS_MAX, AUDIENCES_MAX};
use crate::mercure::lent::fresh_name;

/// The version of rows.
const VERSION: u32 = 1;

/// A tenant: whoever is in it is alone with its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// A UUID, as it is written.
    pub id: String,
    /// What tokens call it in `aud`; at most 255 characters, unique. Empty where it has lost its
    /// name to another one: no token leads there then.
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

/// A topic that was to be noted down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenTopic {
    /// As it is noted down here.
    pub topic: NotedTopic,
    /// Whether it was not before.
    pub is_new: bool,
}

/// All of them.
pub struct Audiences {
    hub: Hub,
    clock: Arc<dyn Clock>,
    known: RwLock<Known>,
    /// Held by who writes: one at a time. How many topics an audience has noted down, by its id,
    /// once somebody has counted them.
    writing: Mutex<HashMap<String, usize>>,
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
        for (id, row) in hub.state().rows(Table::Audiences, AUDIENCES_MAX)? {
            let id = String::from_utf8(id).map_err(|_| AudienceProblem::Damaged)?;
            let row: AudienceRow = read(&row)?;
            if row.version != VERSION {
                return Err(AudienceProblem::Damaged);
            }
            known.put(Audience { id, name: row.name, dates: row.dates });
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
        if !is_name(name) {
            return Err(AudienceProblem::BadName);
        }
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        if self.known.read().unwrap_or_else(PoisonError::into_inner).by_id.len() >= AUDIENCES_MAX {
            return Err(AudienceProblem::TooManyAudiences);
        }
        let dates = Dates::new(self.clock.wall());
        let audience = Audience { id: fresh_id(), name: name.to_owned(), dates };
        let row = audience_row(&audience);
        let key = audience.id.as_bytes();
        self.hub.state().commit(&[Write { table: Table::Audiences, key, value: Some(&row) }])?;
        Ok(self.known.write().unwrap_or_else(PoisonError::into_inner).put(audience))
    }

    /// Takes audiences that have an id already, as they are called now: all that changes by it or
    /// nothing. An id that is known keeps what belongs to it, whatever it is called; a name leads
    /// to nobody any more who is not called so. Of one name there is one audience: the one that has
    /// it here, else the first of these. An answer for each, in their order. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When they cannot be stored. The answers tell of names that nobody can have, and of more
    /// audiences than there may be.
    pub fn take_all(
        &self,
        found: Vec<Audience>,
    ) -> Result<Vec<Result<Taken, AudienceProblem>>, AudienceProblem> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut changed = BTreeSet::new();
        // First of all, names that are no more: one of these may have taken one from another.
        for Audience { id, name, dates } in &found {
            if known.by_id.get(id).is_some_and(|before| before.name != *name) {
                known.put(Audience { id: id.clone(), name: String::new(), dates: *dates });
                changed.insert(id.clone());
            }
        }
        let taken: Vec<_> = found.into_iter().map(|audience| known.take(audience)).collect();
        let new = taken.iter().flatten().filter(|taken| taken.how == How::New);
        changed.extend(new.map(|taken| taken.id.clone()));
        let rows = changed.iter().filter_map(|id| Some((id, audience_row(known.by_id.get(id)?))));
        let rows: Vec<_> = rows.collect();
        let table = Table::Audiences;
        let writes =
            rows.iter().map(|(id, row)| Write { table, key: id.as_bytes(), value: Some(row) });
        self.hub.state().commit(&writes.collect::<Vec<_>>())?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(taken)
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
        let taken = self.take_topics(vec![(audience.to_owned(), topic)])?;
        // One answer for one topic.
        let taken = taken.into_iter().next().unwrap_or(Err(AudienceProblem::Damaged))?;
        Ok(taken.topic)
    }

    /// Notes down topics of audiences, by their ids, in one go; where one of its text is there,
    /// that is answered. An answer for each, in their order. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// When the storage fails. The answers tell of topics that cannot be noted down.
    pub fn take_topics(
        &self,
        topics: Vec<(String, NotedTopic)>,
    ) -> Result<Vec<Result<TakenTopic, AudienceProblem>>, AudienceProblem> {
        let mut counts = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = HashMap::new();
        let mut answers = Vec::with_capacity(topics.len());
        for (audience, topic) in topics {
            answers.push(match self.take_topic(&mut counts, &mut fresh, &audience, topic) {
                Err(problem @ (AudienceProblem::Storage(_) | AudienceProblem::Damaged)) => {
                    // What was counted is not written.
                    counts.clear();
                    return Err(problem);
                }
                answer => answer,
            });
        }
        let rows: Vec<_> = fresh.iter().map(|(key, topic)| (key, topic_row(topic))).collect();
        let table = Table::AudienceTopics;
        let writes = rows.iter().map(|(key, row)| Write { table, key, value: Some(row) });
        let committed = self.hub.state().commit(&writes.collect::<Vec<_>>());
        committed.inspect_err(|_| counts.clear())?;
        Ok(answers)
    }

    fn take_topic(
        &self,
        counts: &mut HashMap<String, usize>,
        fresh: &mut HashMap<Vec<u8>, NotedTopic>,
        audience: &str,
        topic: NotedTopic,
    ) -> Result<TakenTopic, AudienceProblem> {
        if !is_short(&topic.topic) {
            return Err(AudienceProblem::BadTopic);
        }
        let key = topic_key(audience, &topic.topic);
        if let Some(known) = fresh.get(&key) {
            return Ok(TakenTopic { topic: known.clone(), is_new: false });
        }
        if let Some(row) = self.hub.state().get(Table::AudienceTopics, &key)? {
            return Ok(TakenTopic { topic: noted(&topic.topic, &row)?, is_new: false });
        }
        let count = match counts.get_mut(audience) {
            Some(count) => count,
            // Once: as many rows as there may be topics.
            None => counts.entry(audience.to_owned()).or_insert(self.topics(audience)?.len()),
        };
        if *count >= AUDIENCE_TOPICS_MAX {
            return Err(AudienceProblem::TooManyTopics);
        }
        *count += 1;
        fresh.insert(key, topic.clone());
        Ok(TakenTopic { topic, is_new: true })
    }
}

fn audience_row(audience: &Audience) -> Vec<u8> {
    written(&AudienceRow { version: VERSION, name: audience.name.clone(), dates: audience.dates })
}

fn topic_row(topic: &NotedTopic) -> Vec<u8> {
    written(&TopicRow { version: VERSION, id: topic.id.clone(), dates: topic.dates })
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

    fn named(id: &str, name: &str) -> Audience {
        Audience { id: id.to_owned(), name: name.to_owned(), dates: Dates::new(1) }
    }

    /// Which audience each of these is, and how, when they are taken together.
    fn taken(audiences: &Audiences, found: &[(&str, &str)]) -> Vec<Option<(String, How)>> {
        let found = found.iter().map(|(id, name)| named(id, name)).collect();
        let taken = audiences.take_all(found).unwrap().into_iter();
        taken.map(|taken| taken.ok().map(|taken| (taken.id, taken.how))).collect()
    }

    fn is(id: &str, how: How) -> Option<(String, How)> {
        Some((id.to_owned(), how))
    }

    #[test]
    fn a_known_id_keeps_what_belongs_to_it_and_its_old_name_leads_there_no_more() {
        let hub = hub();
        let audiences = Audiences::open(hub.clone(), stopped()).unwrap();
        let found = [("1", "x"), ("2", "y"), ("3", "x"), ("4", "")];
        let expected = [is("1", How::New), is("2", How::New), is("1", How::Joined), None];
        assert_eq!(taken(&audiences, &found), expected);
        assert_eq!(taken(&audiences, &found[..1]), [is("1", How::Known)]);
        // Two change names, and a third one takes what is free.
        let moved = [("1", "y"), ("2", "z"), ("5", "x")];
        let expected = [is("1", How::Renamed), is("2", How::Renamed), is("5", How::New)];
        assert_eq!(taken(&audiences, &moved), expected);
        for audiences in [&audiences, &Audiences::open(hub.clone(), stopped()).unwrap()] {
            let ids = ["x", "y", "z"].map(|name| audiences.find(name).unwrap().id.clone());
            assert_eq!(ids, ["5", "1", "2"]);
            assert_eq!(audiences.find_id("1").unwrap().name, "y");
        }
        // Whoever is called by a name that another one has, or that nobody can have, has none.
        let joined = [("1", "x"), ("2", "")];
        assert_eq!(taken(&audiences, &joined), [is("5", How::Joined), None]);
        for audiences in [&audiences, &Audiences::open(hub.clone(), stopped()).unwrap()] {
            assert_eq!(audiences.find("x").unwrap().id, "5");
            assert!(["y", "z", ""].iter().all(|name| audiences.find(name).is_none()));
            assert_eq!(audiences.find_id("1").unwrap().name, "");
        }
        assert_eq!(taken(&audiences, &[("5", "v"), ("1", "x")])[1], is("1", How::Renamed));
        assert_eq!(audiences.make("y").unwrap().name, "y", "free again");
    }

    #[test]
    fn more_audiences_than_there_may_be_keep_no_other_out() {
        let audiences = Audiences::open(hub(), stopped()).unwrap();
        let text = |number: usize| number.to_string();
        let all = (0..=AUDIENCES_MAX).map(|number| named(&text(number), &text(number))).collect();
        let taken = audiences.take_all(all).unwrap();
        assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), AUDIENCES_MAX);
        assert!(matches!(taken.last(), Some(Err(AudienceProblem::TooManyAudiences))));
    }

    fn noted_anew(audiences: &Audiences, audience: &str, texts: std::ops::Range<usize>) -> usize {
        let topic = |number: usize| {
            let topic = NotedTopic {
                id: fresh_id(),
                topic: format!("topic {number}"),
                dates: Dates::new(1),
            };
            (audience.to_owned(), topic)
        };
        let taken = audiences.take_topics(texts.map(topic).collect()).unwrap();
        taken.iter().flatten().filter(|taken| taken.is_new).count()
    }

    #[test]
    fn topics_are_noted_down_up_to_a_bound_and_the_last_as_fast_as_the_first() {
        let audiences = Audiences::open(hub(), stopped()).unwrap();
        let [one, other] = ["a", "b"].map(|name| audiences.make(name).unwrap().id.clone());
        let fastest = |from: usize| {
            let timed = |number: usize| {
                let begun = std::time::Instant::now();
                audiences.make_topic(&one, &format!("topic {number}")).unwrap();
                begun.elapsed()
            };
            (from..from + 20).map(timed).min().unwrap()
        };
        let early = fastest(0);
        assert_eq!(noted_anew(&audiences, &one, 0..9_000), 8_980, "others were there");
        let late = fastest(9_000);
        assert!(late < 10 * early, "{late:?} after {early:?}");
        assert_eq!(noted_anew(&audiences, &one, 9_000..10_100), 980);
        assert_eq!(noted_anew(&audiences, &other, 0..1), 1, "of another audience");
        let full = audiences.make_topic(&one, "one more");
        assert!(matches!(full, Err(AudienceProblem::TooManyTopics)));
        assert!(audiences.make_topic(&one, "topic 9999").is_ok(), "which is there");
        assert_eq!(audiences.topics(&one).unwrap().len(), AUDIENCE_TOPICS_MAX);
    }

    #[test]
    fn a_row_that_is_none_is_said() {
        let hub = hub();
        let write = Write { table: Table::Audiences, key: b"x", value: Some(b"{}") };
        hub.state().commit(&[write]).unwrap();
        let opened = Audiences::open(hub, stopped());
        assert!(matches!(opened, Err(AudienceProblem::Damaged)));
    }
}
