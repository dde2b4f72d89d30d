//! What the Mercure journeys share: the exact shape of an answer in each generation of the
//! protocol, and a witness of what was delivered and stored.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::{Event, EventStream, Pairs, Reply, encode, form, request};
use crate::hub::{END_OF_HISTORY, HUB, TestHub};
use crate::tokens::{Role, bearer, token_final};

/// The test configuration without a file: nothing here depends on the disk.
pub(crate) const MEMORY: &str = "[history]\ndurability = \"memory\"\n";

/// Where challenges of protocol 1.0 point to.
pub(crate) const METADATA: &str =
    "https://hub.example/.well-known/oauth-protected-resource/.well-known/mercure";

/// A topic that only marks how far a reader has come.
pub(crate) const END: &str = "https://tests.example/end";

/// A refusal of protocol 1.0 that is about tokens: a challenge that points to the hub's metadata
/// and says this error code, or none, and a body that does not repeat it.
#[track_caller]
pub(crate) fn expect_challenge(reply: &Reply, status: u16, error: Option<&str>, case: &str) {
    assert_eq!(reply.status, status, "{case}: {reply:?} {}", reply.text());
    let challenge = reply.header("www-authenticate");
    let challenge = challenge.unwrap_or_else(|| panic!("{case}: no challenge in {reply:?}"));
    let parameters = challenge.strip_prefix("Bearer ");
    let parameters = parameters.unwrap_or_else(|| panic!("{case}: {challenge:?}"));
    let mut parameters: Vec<&str> = parameters.split(", ").collect();
    parameters.sort_unstable();
    let mut expected: Vec<String> = vec![format!("resource_metadata=\"{METADATA}\"")];
    expected.extend(error.map(|code| format!("error=\"{code}\"")));
    expected.sort_unstable();
    assert_eq!(parameters, expected, "{case}");
    expect_document(reply, status, case);
    let text = reply.text();
    for code in ["invalid_token", "invalid_request", "insufficient_scope"] {
        assert!(!text.contains(code), "{case}: {code} belongs into the challenge only: {text}");
    }
}

/// Any other refusal of protocol 1.0: problem details and no challenge.
#[track_caller]
pub(crate) fn expect_problem(reply: &Reply, status: u16, case: &str) {
    assert_eq!(reply.status, status, "{case}: {reply:?} {}", reply.text());
    assert_eq!(reply.header("www-authenticate"), None, "{case}");
    expect_document(reply, status, case);
}

#[track_caller]
fn expect_document(reply: &Reply, status: u16, case: &str) {
    let kind = reply.header("content-type");
    assert_eq!(kind.as_deref(), Some("application/problem+json"), "{case}");
    let document = reply.json();
    assert_eq!(document["status"], status, "{case}: {document}");
    for member in ["type", "title", "detail"] {
        let text = document[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{case}: no {member} in {document}");
    }
}

/// A refusal of protocol 0.x: one line of plain text, never a challenge.
#[track_caller]
pub(crate) fn expect_draft(reply: &Reply, status: u16, line: &str, case: &str) {
    assert_eq!(reply.status, status, "{case}: {reply:?} {}", reply.text());
    assert_eq!(reply.text(), format!("{line}\n"), "{case}");
    let kind = reply.header("content-type");
    assert_eq!(kind.as_deref(), Some("text/plain; charset=utf-8"), "{case}");
    assert_eq!(reply.header("x-content-type-options").as_deref(), Some("nosniff"), "{case}");
    assert_eq!(reply.header("www-authenticate"), None, "{case}");
}

/// What every refusal of protocol 0.x that is about tokens looks like.
#[track_caller]
pub(crate) fn expect_unauthorized(reply: &Reply, case: &str) {
    expect_draft(reply, 401, "Unauthorized", case);
}

/// A header pair with a token.
pub(crate) fn with_token(pair: &(String, String)) -> (&str, &str) {
    (pair.0.as_str(), pair.1.as_str())
}

/// GET of the hub with this query and token; the answer has to end, so it must be a refusal.
#[track_caller]
pub(crate) fn refused_get(hub: &TestHub, token: &str, query: &str) -> Reply {
    let mut stream = hub.stream(&format!("{HUB}?{query}"), &[with_token(&bearer(token))]);
    if stream.head.status != 200 {
        stream.until_end();
    }
    stream.head.body = stream.raw;
    stream.head
}

/// The same without a token.
#[track_caller]
pub(crate) fn refused_get_without(hub: &TestHub, query: &str) -> Reply {
    let mut stream = hub.stream(&format!("{HUB}?{query}"), &[]);
    if stream.head.status != 200 {
        stream.until_end();
    }
    stream.head.body = stream.raw;
    stream.head
}

/// Sees everything that is published from now on, private updates too.
pub(crate) struct Witness {
    stream: EventStream,
}

impl Witness {
    #[track_caller]
    pub(crate) fn new(hub: &TestHub) -> Witness {
        Witness { stream: hub.subscribe("match=*") }
    }

    /// What was delivered since the last time.
    #[track_caller]
    pub(crate) fn seen(&mut self, hub: &TestHub) -> Vec<Event> {
        let end = publish_end(hub);
        let mut seen = Vec::new();
        loop {
            let event = self.stream.event();
            if event.data == end {
                return seen;
            }
            if !event.data.starts_with(END_OF_HISTORY) {
                seen.push(event);
            }
        }
    }

    /// Says no if anything was delivered or is in the history.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self, hub: &TestHub) {
        assert_eq!(self.seen(hub), [], "delivered");
        assert_eq!(hub.history(), [], "stored");
    }
}

/// Publishes a mark; gives its data.
#[track_caller]
pub(crate) fn publish_end(hub: &TestHub) -> String {
    static ENDS: AtomicU64 = AtomicU64::new(0);
    let end = format!("{END_OF_HISTORY}of-reader-{}", ENDS.fetch_add(1, Ordering::Relaxed));
    hub.publish(&[("topic", END), ("data", &end)]);
    end
}

/// Events up to the first mark that is published now. The subscriber has to match [`END`].
#[track_caller]
pub(crate) fn until_mark(hub: &TestHub, stream: &mut EventStream) -> Vec<Event> {
    let end = publish_end(hub);
    let mut events = Vec::new();
    loop {
        let event = stream.event();
        if event.data == end {
            return events;
        }
        if !event.data.starts_with(END_OF_HISTORY) {
            events.push(event);
        }
    }
}

/// The data of the same.
#[track_caller]
pub(crate) fn data_until_mark(hub: &TestHub, stream: &mut EventStream) -> Vec<String> {
    until_mark(hub, stream).into_iter().map(|event| event.data).collect()
}

/// A subscriber's query with the matcher for marks.
pub(crate) fn marked(query: &str) -> String {
    let name = if query.starts_with("topic=") { "topic" } else { "match" };
    format!("{query}&{name}={}", encode(END))
}

/// Which of these topics a subscriber picks: all are published to it, each with itself as data.
#[track_caller]
pub(crate) fn picked(hub: &TestHub, mut stream: EventStream, topics: &[&str]) -> Vec<String> {
    for topic in topics {
        hub.publish(&[("topic", topic), ("data", topic)]);
    }
    data_until_mark(hub, &mut stream)
}

/// The head of a POST whose headers say by themselves how long the body is.
pub(crate) fn post_head(headers: Pairs<'_>) -> Vec<u8> {
    let head = request("GET", HUB, headers, b"");
    [b"POST", head.get(3..).unwrap()].concat()
}

/// POST of a form with a 1.0 token for everything; whatever comes back.
#[track_caller]
pub(crate) fn try_publish(hub: &TestHub, fields: Pairs<'_>) -> Reply {
    try_publish_bytes(hub, form(fields).as_bytes())
}

/// The same with a body that may be no form.
#[track_caller]
pub(crate) fn try_publish_bytes(hub: &TestHub, body: &[u8]) -> Reply {
    let authorization = bearer(&token_final(Role::Publish, &["*"]));
    hub.post_body(&[with_token(&authorization)], body)
}
