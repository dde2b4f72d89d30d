//! What is said to a `JetStream` server, and what it says: questions and answers as bytes. Knows no
//! connection and no time.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tidings_core::Line;

use crate::limits::{NATS_LATER, NATS_PULL_EXPIRES};
use crate::nats::options::JetStreamOptions;
use crate::nats::published::{Given, Place};

/// A refusal of a `JetStream` server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ApiError {
    /// As a status of HTTP.
    pub(super) code: u16,
    /// More exactly.
    pub(super) err_code: u32,
    /// In words.
    pub(super) description: String,
}

/// An answer about a consumer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    error: Option<ApiError>,
    config: Configuration,
    delivered: Sequence,
    ack_floor: Sequence,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sequence {
    /// A number of the stream.
    stream_seq: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Configuration {
    deliver_subject: Option<String>,
    ack_policy: String,
    /// In nanoseconds.
    ack_wait: u64,
    filter_subject: String,
    filter_subjects: Vec<String>,
}

/// What is taken from where.
pub(super) struct Wanted {
    pub(super) stream: JetStreamOptions,
    pub(super) subjects: Vec<String>,
    /// Positions of what the hub has, oldest first.
    pub(super) known: Vec<Line>,
}

/// What a server says about the consumer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Consumer {
    /// It is there, and gives a message again after so long; and what it has given.
    There(Duration, Given),
    /// It has to be made.
    Missing,
    /// It cannot be used, in words for the operator.
    Unusable(String),
}

/// The server does not know a consumer of that name.
const NO_CONSUMER: u32 = 10_014;

pub(super) fn looked_at(stream: &JetStreamOptions) -> String {
    format!("$JS.API.CONSUMER.INFO.{}.{}", stream.stream, stream.consumer)
}

pub(super) fn made_at(stream: &JetStreamOptions) -> String {
    format!("$JS.API.CONSUMER.DURABLE.CREATE.{}.{}", stream.stream, stream.consumer)
}

pub(super) fn pulled_at(stream: &JetStreamOptions) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", stream.stream, stream.consumer)
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// The question that makes the consumer.
pub(super) fn make(stream: &JetStreamOptions, subjects: &[String]) -> Vec<u8> {
    let mut config = json!({
        "durable_name": stream.consumer,
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(stream.ack_wait.0),
        "deliver_policy": stream.deliver.policy(),
        "max_ack_pending": stream.max_ack_pending,
        "replay_policy": "instant",
    });
    if let Some(config) = config.as_object_mut() {
        match subjects {
            [] => {}
            [one] => drop(config.insert("filter_subject".to_owned(), one.clone().into())),
            // Servers before 2.10 do not know this one, and say so.
            many => drop(config.insert("filter_subjects".to_owned(), many.into())),
        }
    }
    json!({ "stream_name": stream.stream, "config": config }).to_string().into_bytes()
}

/// The question for messages.
pub(super) fn pull(batch: usize) -> Vec<u8> {
    json!({ "batch": batch, "expires": nanoseconds(NATS_PULL_EXPIRES) }).to_string().into_bytes()
}

/// What the server says about the consumer.
pub(super) fn consumer(stream: &JetStreamOptions, subjects: &[String], answer: &[u8]) -> Consumer {
    let JetStreamOptions { stream, consumer, .. } = stream;
    let Ok(Answer { error, config, delivered, ack_floor }) = serde_json::from_slice(answer) else {
        return Consumer::Unusable("the server's answer about the consumer makes no sense".into());
    };
    match error {
        Some(error) if error.err_code == NO_CONSUMER => return Consumer::Missing,
        Some(ApiError { description, .. }) => {
            let reason = format!("stream {stream:?}, consumer {consumer:?}: {description}");
            return Consumer::Unusable(reason);
        }
        None => {}
    }
    if config.deliver_subject.is_some_and(|subject| !subject.is_empty()) {
        let reason = format!("the consumer {consumer:?} is a push consumer: name another one");
        return Consumer::Unusable(reason);
    }
    if config.ack_policy != "explicit" {
        let reason = format!(
            "the consumer {consumer:?} does not want each message acknowledged: name another one"
        );
        return Consumer::Unusable(reason);
    }
    let mut filters = config.filter_subjects;
    filters.extend(Some(config.filter_subject).filter(|filter| !filter.is_empty()));
    let (has, wanted): (BTreeSet<&String>, BTreeSet<&String>) =
        (filters.iter().collect(), subjects.iter().collect());
    if !wanted.is_empty() && has != wanted {
        let reason = format!(
            "the consumer {consumer:?} is there and its filter is {filters:?}: name another one, \
             or make `subjects` the same"
        );
        return Consumer::Unusable(reason);
    }
    let given = Given { acknowledged: ack_floor.stream_seq, until: delivered.stream_seq };
    Consumer::There(Duration::from_nanos(config.ack_wait), given)
}

/// What a stream answers to a message that is published to it.
pub(super) fn published(answer: &[u8]) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Published {
        error: Option<ApiError>,
        #[serde(default)]
        stream: String,
    }
    match serde_json::from_slice(answer) {
        Ok(Published { error: None, stream }) if !stream.is_empty() => Ok(()),
        Ok(Published { error: Some(error), .. }) => Err(error),
        _ => Err(ApiError {
            code: 500,
            description: "the answer is not the one of a JetStream stream".to_owned(),
            ..ApiError::default()
        }),
    }
}

/// The server keeps the message back for a while.
pub(super) fn later() -> Vec<u8> {
    let delay: Value = json!({ "delay": nanoseconds(NATS_LATER) });
    format!("-NAK {delay}").into_bytes()
}

/// Where a message stands in its stream, from the subject for its acknowledgement.
pub(super) fn place(reply: &[u8]) -> Option<Place> {
    let text = std::str::from_utf8(reply).ok()?;
    let mut tokens = text.strip_prefix("$JS.ACK.")?.split('.');
    // With a domain and an account in front: stream, consumer, deliveries, number, its number for
    // the consumer, time, what is left. Newer servers may add something behind.
    if tokens.clone().count() >= 9 {
        tokens.next();
        tokens.next();
    }
    let number: u64 = tokens.nth(3)?.parse().ok()?;
    let time: u64 = tokens.nth(1)?.parse().ok()?;
    Some(Place { number, time })
}

/// Whether a conflict ends by itself: others of the same consumer are at work, or its server moves.
pub(super) fn is_passing(words: &str) -> bool {
    let words = words.to_ascii_lowercase().replace(' ', "");
    ["maxackpending", "maxwaiting", "leadershipchange", "servershutdown"]
        .iter()
        .any(|known| words.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> JetStreamOptions {
        JetStreamOptions {
            stream: "CMS".into(),
            consumer: "hub".into(),
            ..JetStreamOptions::default()
        }
    }

    #[test]
    fn a_place_is_number_and_time() {
        for (reply, expected) in [
            ("$JS.ACK.CMS.hub.1.42.7.1600000000000000000.0", Some((42, 1600000000000000000))),
            ("$JS.ACK.dom.acc.CMS.hub.1.42.7.16.0", Some((42, 16))),
            ("$JS.ACK.dom.acc.CMS.hub.1.42.7.16.0.random", Some((42, 16))),
            ("$JS.ACK.CMS.hub.1.x.7.16.0", None),
            ("$JS.ACK.CMS", None),
            ("_INBOX.1", None),
        ] {
            let place = place(reply.as_bytes()).map(|Place { number, time }| (number, time));
            assert_eq!(place, expected, "{reply}");
        }
    }

    #[test]
    fn answers_about_a_consumer_are_understood() {
        let there = br#"{"config":{"ack_policy":"explicit","ack_wait":30000000000},
            "delivered":{"consumer_seq":9,"stream_seq":7},"ack_floor":{"stream_seq":3}}"#;
        let given = Given { acknowledged: 3, until: 7 };
        let expected = Consumer::There(Duration::from_secs(30), given);
        assert_eq!(consumer(&stream(), &[], there), expected);
        let missing = br#"{"error":{"code":404,"err_code":10014,"description":"x"}}"#;
        assert_eq!(consumer(&stream(), &[], missing), Consumer::Missing);
        for unusable in [
            r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#,
            r#"{"config":{"ack_policy":"none"}}"#,
            r#"{"config":{"ack_policy":"explicit","deliver_subject":"x"}}"#,
            "hello",
        ] {
            let said = consumer(&stream(), &[], unusable.as_bytes());
            assert!(matches!(said, Consumer::Unusable(_)), "{unusable}");
        }
    }

    #[test]
    fn a_consumer_with_another_filter_is_not_used() {
        let answer = br#"{"config":{"ack_policy":"explicit","filter_subject":"a.>"}}"#;
        let with = |subjects: &[&str]| {
            let subjects: Vec<String> = subjects.iter().map(|&subject| subject.into()).collect();
            consumer(&stream(), &subjects, answer)
        };
        assert!(matches!(with(&[]), Consumer::There(..)));
        assert!(matches!(with(&["a.>"]), Consumer::There(..)));
        assert!(matches!(with(&["b"]), Consumer::Unusable(_)));
        assert!(matches!(with(&["a.>", "b"]), Consumer::Unusable(_)));
    }

    #[test]
    fn a_filter_is_one_subject_or_several() {
        let made = |subjects: &[&str]| {
            let subjects: Vec<String> = subjects.iter().map(|&subject| subject.into()).collect();
            serde_json::from_slice::<Value>(&make(&stream(), &subjects)).unwrap()
        };
        assert_eq!(made(&[])["config"].get("filter_subject"), None);
        assert_eq!(made(&["a.>"])["config"]["filter_subject"], "a.>");
        assert_eq!(made(&["a", "b"])["config"]["filter_subjects"], json!(["a", "b"]));
        assert_eq!(made(&[])["config"]["ack_wait"], 30_000_000_000_u64);
        assert_eq!(later(), br#"-NAK {"delay":5000000000}"#);
    }

    #[test]
    fn only_a_stream_acknowledges() {
        assert_eq!(published(br#"{"stream":"S","seq":1}"#), Ok(()));
        assert_eq!(published(br#"{"stream":"S","seq":1,"duplicate":true}"#), Ok(()));
        let full = br#"{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"S"}"#;
        assert_eq!(published(full).unwrap_err().code, 503);
        for other in ["", "hello", "{}", "[]"] {
            assert_eq!(published(other.as_bytes()).unwrap_err().code, 500, "{other}");
        }
    }
}
