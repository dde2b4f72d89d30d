//! What must not get out: order and time in ids, alternate topics on streams, tokens and topics in
//! the log.

use crate::http::encode;
use crate::hub::{HUB, TestHub};
use crate::mercure::{MEMORY, with_token};
use crate::tokens::{Role, bearer, token_draft, token_final};

const TOPIC: &str = "https://privacy.example/canonical";
const ALTERNATE: &str = "https://privacy.example/alternate-of-somebody";

#[test]
fn m77_encrypted_data_is_carried_as_it_is() {
    // A JWE in compact form (RFC 7516 appendix A.3): five parts, nothing that the hub reads.
    let encrypted = "eyJhbGciOiJBMTI4S1ciLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.6KB707dM9YTIgHtLvtgWQ8mKwboJ\
                     W3of9locizkDTHzBC2IlrT1oOQ.AxY8DCtDaGlsbGljb3RoZQ.KDlTtXchhZTGufMYmOYGS4HffxPS\
                     UrfmqCHXaI9wOGY.U0m_YmjN04DJvceFICbCVQ";
    let hub = TestHub::start(MEMORY);
    let mut live = hub.subscribe(&format!("match={}", encode(TOPIC)));
    for private in [false, true] {
        let mut fields = vec![("topic", TOPIC), ("data", encrypted)];
        fields.extend(private.then_some(("private", "on")));
        hub.publish(&fields);
        assert_eq!(live.event().data, encrypted);
    }
    let kept: Vec<String> = hub.history().into_iter().map(|event| event.data).collect();
    assert_eq!(kept, [encrypted, encrypted], "in the history as well");
}

#[test]
fn m80_ids_disclose_neither_order_nor_rate_nor_time() {
    let hub = TestHub::start(MEMORY);
    let ids: Vec<String> =
        (0..64).map(|_| hub.publish(&[("topic", TOPIC), ("data", "same")])).collect();
    let hex: Vec<String> =
        ids.iter().map(|id| id.strip_prefix("urn:uuid:").unwrap().replace('-', "")).collect();
    for id in &hex {
        assert_eq!((id.len(), &id[12..13]), (32, "4"), "a random UUID by its version: {id}");
        assert!("89ab".contains(&id[16..17]), "{id}");
    }
    // Neighbours share no more than chance would have them share, at the front or at the back.
    let common = |pair: &[String]| {
        let (one, two) = (pair[0].as_bytes(), pair[1].as_bytes());
        let front = one.iter().zip(two).take_while(|(a, b)| a == b).count();
        front.max(one.iter().rev().zip(two.iter().rev()).take_while(|(a, b)| a == b).count())
    };
    assert!(hex.windows(2).all(|pair| common(pair) < 6), "{hex:?}");
    // Sorted by their text they are in another order than they were made in.
    let rising = hex.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((12..=51).contains(&rising), "{rising} of 63 rise");
    // Every one of 120 free bits is now set and now not.
    for digit in (0..32).filter(|digit| ![12, 16].contains(digit)) {
        let digits: std::collections::BTreeSet<&str> =
            hex.iter().map(|id| &id[digit..=digit]).collect();
        assert!(digits.len() >= 8, "digit {digit} is one of {digits:?}");
    }
}

#[test]
fn alternate_topics_are_on_no_stream() {
    let hub = TestHub::start(MEMORY);
    for (token, query) in [
        (token_final(Role::Subscribe, &["*"]), format!("match={}", encode(ALTERNATE))),
        (token_draft(Role::Subscribe, &["*"]), format!("topic={}", encode(ALTERNATE))),
    ] {
        let live = hub.subscribe_with(&token, &format!("{query}&continuity=1"), &[]);
        let fields =
            [("topic", TOPIC), ("topic", ALTERNATE), ("data", "to both"), ("private", "on")];
        hub.publish(&fields);
        let past = hub.subscribe_with(&token, &format!("{query}&last_event_id=earliest"), &[]);
        for mut stream in [live, past] {
            while stream.event().data != "to both" {}
            let raw = String::from_utf8(stream.raw.clone()).unwrap();
            assert!(!raw.contains("alternate-of-somebody"), "{raw}");
            let head = format!("{:?}", stream.head.headers);
            assert!(!head.contains("alternate-of-somebody"), "{head}");
        }
    }
}

/// Does a bit of everything with tokens in every place, and gives the log and the tokens.
fn busy(toml: &str) -> (String, Vec<String>) {
    let hub = TestHub::start(&format!(
        "{MEMORY}[mercure]\npublish_origins = [\"https://app.example\"]\n[log]\nlevel = \"trace\"\n{toml}"
    ));
    let subscribe = token_final(Role::Subscribe, &[TOPIC]);
    let draft = token_draft(Role::Subscribe, &[TOPIC]);
    let publish = token_final(Role::Publish, &[TOPIC]);
    let forged = format!("{subscribe}A");
    let topic = encode(TOPIC);
    let _stream = hub.subscribe_with(&subscribe, &format!("match={topic}&continuity=1"), &[]);
    let cookie = format!("__Secure-mercure_access_token={subscribe}");
    hub.stream(&format!("{HUB}?match={topic}"), &[("Cookie", &cookie)]).until_open();
    hub.stream(&format!("{HUB}?topic={topic}&authorization={draft}"), &[]).until_open();
    hub.publish_with(&publish, &[("topic", TOPIC), ("data", "data")]).expect(200);
    hub.publish_with(&publish, &[("topic", ALTERNATE), ("data", "data")]).expect(403);
    let cookie = format!("__Secure-mercure_access_token={publish}");
    let fields = [("topic", TOPIC)];
    hub.post(&[("Cookie", &cookie), ("Origin", "https://app.example")], &fields).expect(200);
    hub.post(&[("Cookie", &cookie), ("Origin", "https://evil.example")], &fields).expect(400);
    let header = bearer(&forged);
    hub.get(&format!("{HUB}?match={topic}"), &[with_token(&header)]).expect(401);
    let header = bearer(&subscribe);
    let bad = format!("{HUB}?match_urlpattern={}", encode("https://privacy.example/canonical/:("));
    hub.get(&bad, &[with_token(&header)]).expect(400);
    hub.get(&format!("{HUB}?match={topic}&authorization={draft}"), &[]);
    let log = hub.log();
    (log, vec![subscribe, draft, publish, forged])
}

/// A log line must hold no part of a token that is worth having.
#[track_caller]
fn expect_no_token(log: &str, tokens: &[String]) {
    for token in tokens {
        for part in token.split('.').skip(1) {
            assert!(!log.contains(part), "a part of a token is in the log");
        }
    }
    assert!(!log.contains("__Secure-"), "a cookie is in the log:\n{log}");
}

#[test]
fn a_log_at_its_most_talkative_has_no_token_and_no_topic() {
    let (log, tokens) = busy("");
    expect_no_token(&log, &tokens);
    assert!(log.contains("refused") && log.contains("answered"), "{log}");
    assert!(!log.contains("privacy.example"), "a topic is in the log:\n{log}");
}

#[test]
fn topics_are_in_the_log_where_the_operator_wants_them_and_tokens_are_not() {
    let (log, tokens) = busy("topics = true\n");
    expect_no_token(&log, &tokens);
    assert!(log.contains("privacy.example"), "no topic is in the log:\n{log}");
}
