//! One connection as a machine without a socket: what a client says in, what is to be done out.
//! Knows no hub and no clock.

use std::collections::HashSet;

use tidings_core::{Topic, Update};

use super::spoken::Spoken;
use super::topic::{broadcast, topic};
use crate::limits::COURIER_SUBSCRIPTIONS_MAX;
use crate::shard::talk::Said;

/// Close codes (RFC 6455 section 7.4.1): it cannot be understood; a kind of message that is not
/// taken.
const UNREADABLE: u16 = 1007;
const NO_TEXT: u16 = 1003;

const TOO_LONG: Output = Output::Drop("its topic is longer than topics are");
const TOO_MANY: Output = Output::Drop("the connection has too many subscriptions");

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Begins to bring these from where subscriptions of the connection begin, and what is for all
    /// of the audience from now on, where it has been brought before.
    Join { topics: Vec<Topic>, again: Option<Topic> },
    /// Brings these no more.
    Leave(Vec<Topic>),
    /// Publishes this.
    Publish(Box<Update>),
    /// Nothing, for this reason, which no client is told.
    Drop(&'static str),
    /// Closes the connection with this code.
    End(u16),
}

/// A connection of an audience.
pub(super) struct Session {
    audience: Box<str>,
    topics: HashSet<Topic>,
    /// What is for all of the audience was brought from where subscriptions begin.
    has_begun: bool,
}

impl Session {
    pub(super) fn new(audience: &str) -> Session {
        Session { audience: audience.into(), topics: HashSet::new(), has_begun: false }
    }

    /// Takes one message. Nothing is answered, and what cannot be done is not done.
    pub(super) fn hear(&mut self, said: &Said) -> Option<Output> {
        let Said::Text(text) = said else { return Some(Output::End(NO_TEXT)) };
        let Some(spoken) = Spoken::read(text) else { return Some(Output::End(UNREADABLE)) };
        match spoken.action.as_deref() {
            Some("subscribe") => self.subscribe(spoken.topic()),
            Some("unsubscribe") => self.unsubscribe(spoken.topic()),
            action => match spoken.update(&self.audience) {
                Some(update) => Some(Output::Publish(Box::new(update))),
                None => (action == Some("publish")).then_some(TOO_LONG),
            },
        }
    }

    fn subscribe(&mut self, text: &str) -> Option<Output> {
        let Ok(topic) = topic(&self.audience, text) else { return Some(TOO_LONG) };
        if self.topics.contains(&topic) {
            return None;
        }
        if self.topics.len() >= COURIER_SUBSCRIPTIONS_MAX {
            return Some(TOO_MANY);
        }
        // With the first topic comes what is for all of the audience, once for the connection.
        let first = self.topics.is_empty().then(|| self.broadcast()).flatten();
        self.topics.insert(topic.clone());
        let (first, again) = match std::mem::replace(&mut self.has_begun, true) {
            false => (first, None),
            true => (None, first),
        };
        Some(Output::Join { topics: first.into_iter().chain([topic]).collect(), again })
    }

    fn unsubscribe(&mut self, text: &str) -> Option<Output> {
        let topic = topic(&self.audience, text).ok()?;
        if !self.topics.remove(&topic) {
            return None;
        }
        let last = self.topics.is_empty().then(|| self.broadcast()).flatten();
        Some(Output::Leave(last.into_iter().chain([topic]).collect()))
    }

    fn broadcast(&self) -> Option<Topic> {
        Topic::parse(&broadcast(&self.audience)).ok()
    }
}

/// Takes each line of `bytes` for a message of a client, in text or, behind a null byte, in binary:
/// nothing of it leads out of the audience.
pub(super) fn fuzz(bytes: &[u8]) {
    use bytes::Bytes;

    let mut session = Session::new("a-1");
    let is_own = |topic: &Topic| tidings_core::audience(topic.as_str()) == Some("a-1");
    let mut joined = HashSet::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let said = match line.split_first() {
            Some((0, binary)) => Said::Binary(Bytes::copy_from_slice(binary)),
            _ => Said::Text(Bytes::copy_from_slice(String::from_utf8_lossy(line).as_bytes())),
        };
        match session.hear(&said) {
            Some(Output::Join { topics, again }) => {
                let mut topics = topics.into_iter().chain(again);
                assert!(topics.clone().all(|topic| is_own(&topic)), "topics are the audience's");
                assert!(topics.all(|topic| joined.insert(topic)), "joined once");
            }
            Some(Output::Leave(topics)) => {
                assert!(topics.iter().all(|topic| joined.remove(topic)), "left what was joined");
            }
            Some(Output::Publish(update)) => {
                assert!(update.private && update.topics.iter().all(is_own));
                assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&update.data).is_ok());
            }
            Some(Output::End(_)) => return,
            Some(Output::Drop(_)) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(session: &mut Session, text: &str) -> Option<Output> {
        session.hear(&Said::Text(text.to_owned().into()))
    }

    fn names(topics: &[Topic]) -> Vec<&str> {
        topics.iter().map(Topic::as_str).collect()
    }

    #[test]
    fn the_first_subscription_brings_broadcasts_and_the_last_takes_them() {
        let mut session = Session::new("a");
        let joined = |output| match output {
            Some(Output::Join { topics, again: None }) => topics,
            other => panic!("{other:?}"),
        };
        let first = joined(hear(&mut session, r#"{"action":"subscribe","topic":"x"}"#));
        assert_eq!(names(&first), ["urn:tidings:audience:a", "urn:tidings:audience:a:x"]);
        let second = joined(hear(&mut session, r#"{"action":"subscribe"}"#));
        assert_eq!(names(&second), ["urn:tidings:audience:a:"]);
        assert_eq!(hear(&mut session, r#"{"action":"subscribe","topic":"x"}"#), None, "twice");
        let left = |output| match output {
            Some(Output::Leave(topics)) => topics,
            other => panic!("{other:?}"),
        };
        let one = left(hear(&mut session, r#"{"action":"unsubscribe","topic":"x"}"#));
        assert_eq!(names(&one), ["urn:tidings:audience:a:x"]);
        assert_eq!(hear(&mut session, r#"{"action":"unsubscribe","topic":"x"}"#), None);
        let last = left(hear(&mut session, r#"{"action":"unsubscribe","topic":""}"#));
        assert_eq!(names(&last), ["urn:tidings:audience:a", "urn:tidings:audience:a:"]);
        let once_more = hear(&mut session, r#"{"action":"subscribe","topic":"x"}"#);
        let Some(Output::Join { topics, again: Some(again) }) = once_more else { panic!() };
        assert_eq!(names(&topics), ["urn:tidings:audience:a:x"]);
        assert_eq!(again.as_str(), "urn:tidings:audience:a", "from now on");
    }

    #[test]
    fn what_cannot_be_read_ends_the_connection_and_what_is_unknown_does_not() {
        let mut session = Session::new("a");
        assert_eq!(hear(&mut session, "{"), Some(Output::End(1007)));
        assert_eq!(hear(&mut session, "[1]"), Some(Output::End(1007)));
        assert_eq!(session.hear(&Said::Binary("{}".into())), Some(Output::End(1003)));
        for ignored in ["{}", r#"{"action":"dance","topic":"x","message":{}}"#] {
            assert_eq!(hear(&mut session, ignored), None);
        }
        assert!(matches!(
            hear(&mut session, r#"{"action":"broadcast","message":{}}"#),
            Some(Output::Publish(_))
        ));
    }

    #[test]
    fn subscriptions_are_bounded() {
        let mut session = Session::new("a");
        for number in 0..COURIER_SUBSCRIPTIONS_MAX {
            let text = format!(r#"{{"action":"subscribe","topic":"{number}"}}"#);
            assert!(hear(&mut session, &text).is_some());
        }
        assert_eq!(hear(&mut session, r#"{"action":"subscribe","topic":"x"}"#), Some(TOO_MANY));
        assert!(hear(&mut session, r#"{"action":"unsubscribe","topic":"0"}"#).is_some());
        assert!(hear(&mut session, r#"{"action":"subscribe","topic":"x"}"#).is_some());
        let long = format!(r#"{{"action":"subscribe","topic":"{}"}}"#, "x".repeat(5_000));
        assert_eq!(hear(&mut session, &long), Some(TOO_LONG));
        assert_eq!(hear(&mut session, &long.replace("subscribe", "publish")), Some(TOO_LONG));
    }

    #[test]
    fn examples_are_taken() {
        fuzz(
            br#"{"action":"subscribe","topic":"system/events"}
{"action":"publish","topic":"/../:*","message":{}}
{"action":"unsubscribe","topic":"system/events"}
{"action":"broadcast","message":[1]}
nothing"#,
        );
    }
}
