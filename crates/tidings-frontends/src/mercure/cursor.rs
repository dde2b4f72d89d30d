//! Where a subscription begins: what the client says it has, and what the hub says it starts
//! behind. Knows no matcher and no stream.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tidings_core::{Candidate, Entry, Grant, Hub, Located, Offset, Start};

use super::form::{self, Field};
use crate::auth::Generation;
use crate::sse::continuity::Continuity;

/// The cursor's response field in protocol 1.0.
const FINAL_HEADER: HeaderName = HeaderName::from_static("mercure-last-event-id");
/// The cursor's request field, and its response field in protocol 0.x.
const DRAFT_HEADER: HeaderName = HeaderName::from_static("last-event-id");
/// The cursor that means everything that is kept.
pub(crate) const EARLIEST: &str = "earliest";
/// Every spelling of the parameter in use: 1.0, 0.x, an EventSource polyfill, and 0.x before 0.14.
const PARAMETERS: [&str; 4] = ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"];

/// What the client says it has: `None` when it says nothing, empty when it has nothing. The header
/// wins over the query, the query over the body.
pub(super) fn asked(headers: &HeaderMap, query: &[Field], body: &[Field]) -> Option<String> {
    let header = headers.get(DRAFT_HEADER);
    let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let parameters = [query, body]
        .into_iter()
        .flat_map(|fields| PARAMETERS.iter().filter_map(move |name| form::first(fields, name)));
    let mut found =
        header.into_iter().chain(parameters.map(|text| text.readable().to_owned())).peekable();
    // An empty one is overruled by any other: polyfills send several, not all of them filled.
    let empty = found.peek().map(|_| String::new());
    found.find(|cursor| !cursor.is_empty()).or(empty)
}

/// Where to start, and what the answer says about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    pub(super) start: Start,
    /// The id of the event before the first one that is sent, when the protocol wants it said.
    pub(super) behind: Option<HeaderValue>,
    /// How this goes on from what the client has.
    pub(super) continuity: Continuity,
}

impl Beginning {
    /// With what comes, without a word.
    pub(super) const NOW: Beginning =
        Beginning { start: Start::Now, behind: None, continuity: Continuity::Live };

    /// Writes both spellings: each generation's clients read their own.
    pub(super) fn mark(&self, answer: &mut HeaderMap) {
        if let Some(behind) = &self.behind {
            answer.insert(FINAL_HEADER, behind.clone());
            answer.insert(DRAFT_HEADER, behind.clone());
        }
    }
}

/// Who begins.
pub(super) struct Reader {
    pub(super) generation: Generation,
    pub(super) grant: Arc<Grant>,
    /// Entries that are replayed at most when the cursor does not say where to start.
    pub(super) replay_max: Option<u64>,
}

/// Finds the beginning for a cursor. May read from the disk.
pub(super) fn begin(hub: &Hub, reader: &Reader, asked: &str) -> Beginning {
    match (asked, reader.generation) {
        ("", Generation::Draft) => Beginning::NOW,
        ("", Generation::Final) => at_the_end(hub, reader),
        (EARLIEST, _) => from_the_earliest(hub, reader),
        (cursor, generation) => match (hub.locate(cursor), generation) {
            (Located::Entry(offset), _) => {
                let named = HeaderValue::from_bytes(cursor.as_bytes()).ok();
                let behind = named.or_else(|| header(&hub.cursor(offset)));
                let continuity = Continuity::Resumed(cursor.to_owned());
                Beginning { start: Start::After(offset), behind, continuity }
            }
            (lost, generation) => {
                let continuity = match lost {
                    Located::Trimmed => Continuity::Gap(cursor.to_owned()),
                    _ => Continuity::Reset,
                };
                let beginning = match generation {
                    // Hubs of 0.x go live without a word; its clients do not expect a replay.
                    Generation::Draft => at_the_end(hub, reader),
                    Generation::Final => from_the_earliest(hub, reader),
                };
                Beginning { continuity, ..beginning }
            }
        },
    }
}

/// Live, behind an entry that the answer names. The subscription starts behind exactly that entry:
/// what is published in between would else be lost for a client that reconnects with the name.
fn at_the_end(hub: &Hub, reader: &Reader) -> Beginning {
    // Read first: what comes between here and the subscription stands behind these places.
    let (before_first, end, announced) = (hub.before_first(), hub.last(), hub.end());
    match hub.last_entry() {
        Some(last) => {
            let behind = name(hub, &reader.grant, &last).or_else(|| header(last.cursor()));
            // What was announced behind it is over as well, and so is what was in other runs.
            let start = Start::After(last.offset.max(announced));
            Beginning { start, behind, continuity: Continuity::Live }
        }
        None if before_first < end => behind(hub, end, Continuity::Live),
        None => Beginning {
            start: Start::After(before_first.max(announced)),
            behind: header(EARLIEST),
            continuity: Continuity::Live,
        },
    }
}

/// The entry's own id if this reader may know it and a header can carry it. The hub's opaque
/// cursor says nothing about a private entry.
fn name(hub: &Hub, grant: &Grant, entry: &Entry) -> Option<HeaderValue> {
    if entry.update.private {
        let topics: Vec<Candidate<'_>> = entry
            .update
            .topics
            .iter()
            .map(|topic| Candidate::new(topic.as_str(), hub.namespace()))
            .collect();
        if !grant.covers_reading(&topics) {
            return None;
        }
    }
    header(entry.id())
}

fn from_the_earliest(hub: &Hub, reader: &Reader) -> Beginning {
    let everything = || Beginning {
        start: Start::Earliest,
        behind: header(EARLIEST),
        continuity: Continuity::Resumed(EARLIEST.to_owned()),
    };
    let Some(max) = reader.replay_max else { return everything() };
    // Offsets only grow, so at most `max` entries stand behind this place.
    let place = Offset::durable(hub.last().durable.saturating_sub(max));
    if place <= hub.before_first() {
        return everything();
    }
    behind(hub, place, Continuity::Gap(EARLIEST.to_owned()))
}

/// Behind a place that is named by the hub's own cursor.
pub(super) fn behind(hub: &Hub, place: Offset, continuity: Continuity) -> Beginning {
    Beginning { start: Start::After(place), behind: header(&hub.cursor(place)), continuity }
}

fn header(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_core::{
        Batch, Clock, Durability, HistoryOptions, HubOptions, Keep, Language, Line, Namespace,
        Selection, Topic, Update,
    };

    struct Stopped;

    impl Clock for Stopped {
        fn wall(&self) -> u64 {
            0
        }

        fn monotonic(&self) -> std::time::Duration {
            std::time::Duration::ZERO
        }
    }

    fn check(header: Option<&str>, query: &str, body: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(DRAFT_HEADER, HeaderValue::from_bytes(header.as_bytes()).unwrap());
        }
        let fields = |text: &str| form::parse(text.as_bytes(), 10).unwrap();
        let found = asked(&headers, &fields(query), &fields(body));
        assert_eq!(found.as_deref(), expected, "{header:?} {query} {body}");
    }

    #[test]
    fn m61_every_spelling_of_the_cursor_is_read() {
        for name in PARAMETERS {
            check(None, &format!("{name}=x"), "", Some("x"));
            check(None, "", &format!("{name}=x"), Some("x"));
        }
        check(Some("é"), "", "", Some("é"));
        check(None, "last-event-id=x&LastEventID=y", "", None);
        check(None, "", "", None);
    }

    #[test]
    fn m04_the_header_wins_over_the_query_and_the_query_over_the_body() {
        check(Some("h"), "last_event_id=q", "last_event_id=b", Some("h"));
        check(None, "last_event_id=q", "last_event_id=b", Some("q"));
        check(None, "Last-Event-ID=q", "last_event_id=b", Some("q"));
        check(None, "lastEventID=q&last_event_id=p", "", Some("p"));
        check(Some(""), "last_event_id=q", "", Some("q"));
        check(Some(""), "last_event_id=", "", Some(""));
        check(None, "lastEventID=&Last-Event-ID=", "", Some(""));
        check(None, "last_event_id", "", Some(""));
    }

    fn hub(path: Option<&std::path::Path>) -> Hub {
        let url = url::Url::parse("https://hub.example/.well-known/mercure").unwrap();
        let history = HistoryOptions {
            hold_bytes: 0,
            path: path.map(Into::into),
            durability: if path.is_some() { Durability::Written } else { Durability::Memory },
            keep: Keep::default(),
            segment_bytes: 1024 * 1024,
        };
        let options =
            HubOptions { namespace: Namespace::new(url), update_bytes_max: 1 << 20, history };
        Hub::open(options, Arc::new(Stopped)).unwrap()
    }

    async fn publish(hub: &Hub, id: &str, private: bool) {
        let mut update = Update::new(Topic::parse("t").unwrap(), format!("data of {id}"));
        (update.id, update.private) = (Some(Line::parse(id).unwrap()), private);
        hub.publish(&Grant::operator(), update).await.unwrap();
    }

    fn reader(grant: Grant) -> Reader {
        Reader { generation: Generation::Final, grant: Arc::new(grant), replay_max: None }
    }

    #[tokio::test]
    async fn m62_the_last_id_is_named_to_those_who_may_read_it_and_sealed_for_others() {
        let hub = hub(None);
        for (id, private, grant, named) in [
            ("public", false, Grant::anonymous(), true),
            ("private", true, Grant::anonymous(), false),
            ("private-too", true, Grant::operator(), true),
        ] {
            publish(&hub, id, private).await;
            let beginning = begin(&hub, &reader(grant), "");
            assert_eq!(beginning.start, Start::After(hub.last()));
            let sealed = hub.cursor(hub.last());
            assert_eq!(beginning.behind, header(if named { id } else { &sealed }), "{id}");
        }
    }

    #[tokio::test]
    async fn a_last_entry_that_cannot_be_read_does_not_bring_the_whole_history_back() {
        let folder = tempfile::tempdir().unwrap();
        let first = hub(Some(folder.path()));
        publish(&first, "one", false).await;
        publish(&first, "two", false).await;
        drop(first);
        let log = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "log"))
            .unwrap();
        let mut bytes = std::fs::read(&log).unwrap();
        let data = b"data of two";
        let at = bytes.windows(data.len()).position(|window| window == data).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&log, bytes).unwrap();
        let hub = hub(Some(folder.path()));
        assert!(hub.last_entry().is_none() && hub.before_first() < hub.last());
        let beginning = begin(&hub, &reader(Grant::operator()), "");
        assert_eq!(beginning, behind(&hub, hub.last(), Continuity::Live));
    }

    #[tokio::test]
    async fn what_is_published_before_the_subscription_is_not_lost_in_an_empty_history() {
        let hub = hub(None);
        let reader = reader(Grant::operator());
        let grant = Arc::clone(&reader.grant);
        let beginning = begin(&hub, &reader, "");
        assert_eq!(beginning.behind, header(EARLIEST));
        let update = Update::new(Topic::parse("t").unwrap(), "between");
        hub.publish(&grant, update).await.unwrap();
        let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
        let mut subscription =
            hub.subscribe(Selection { matchers, grant, scope: None }, beginning.start);
        let mut batch = Batch::new();
        let next = subscription.next(&mut batch);
        tokio::time::timeout(std::time::Duration::from_secs(5), next).await.unwrap().unwrap();
        assert_eq!(batch.len(), 1);
    }
}
