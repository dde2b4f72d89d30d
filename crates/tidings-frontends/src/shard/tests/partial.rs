//! Sockets that take what they want when they want: whatever that is, each client gets exactly what
//! is for it, whole, once and in order.

use proptest::prelude::*;

use super::*;
use crate::shard::receiver::Phase;

/// A client of the property below.
#[derive(Debug, Clone)]
struct Client {
    topic: &'static str,
    has_token: bool,
    framing: Framing,
    /// Before which update it comes, and whether it asks for those before.
    joins: usize,
    from_earliest: bool,
    takes: Vec<Option<usize>>,
    /// When it has so many bytes it is gone.
    leaves_at: Option<usize>,
}

/// An update of it: how large, and whether the shard has its turn behind it.
#[derive(Debug, Clone)]
struct Published {
    topic: &'static str,
    is_private: bool,
    length: usize,
    is_seen: bool,
}

fn takes() -> impl Strategy<Value = Vec<Option<usize>>> {
    let take = prop_oneof![
        2 => Just(None),
        2 => (1..40_usize).prop_map(Some),
        2 => (1..40_000_usize).prop_map(Some),
    ];
    proptest::collection::vec(take, 0..60)
}

fn client() -> impl Strategy<Value = Client> {
    let framing = prop_oneof![3 => Just(Framing::Chunked), 1 => Just(Framing::Bare)];
    let topic = prop_oneof![Just("*"), Just("a"), Just("b")];
    let leaves_at = proptest::option::weighted(0.3, 0..60_000_usize);
    (topic, any::<bool>(), framing, 0..12_usize, any::<bool>(), takes(), leaves_at).prop_map(
        |(topic, has_token, framing, joins, from_earliest, takes, leaves_at)| Client {
            topic,
            has_token,
            framing,
            joins,
            from_earliest,
            takes,
            leaves_at,
        },
    )
}

fn published() -> impl Strategy<Value = Published> {
    let length = prop_oneof![4 => 1..300_usize, 1 => 1..100_000_usize];
    let topic = prop_oneof![Just("a"), Just("b")];
    (topic, any::<bool>(), length, any::<bool>()).prop_map(
        |(topic, is_private, length, is_seen)| Published { topic, is_private, length, is_seen },
    )
}

impl Client {
    fn gets(&self, update: &Published) -> bool {
        let asked = self.topic == "*" || self.topic == update.topic;
        asked && (!update.is_private || self.has_token)
    }

    /// The numbers of what it is to get.
    fn expected(&self, updates: &[Published]) -> Vec<usize> {
        let begin = if self.from_earliest { 0 } else { self.joins };
        let behind = updates.iter().enumerate().skip(begin);
        behind.filter(|(_, update)| self.gets(update)).map(|(at, _)| at + 1).collect()
    }
}

fn check(clients: &[Client], updates: &[Published]) {
    let mut driven = Driven::new();
    let mut scripts: Vec<Option<Script>> = vec![None; clients.len()];
    let mut join = |driven: &mut Driven, place: usize| {
        for (client, script) in clients.iter().zip(&mut scripts) {
            if client.joins.min(updates.len()) != place {
                continue;
            }
            let start = if client.from_earliest { Start::Earliest } else { Start::Now };
            let (topic, framing) = (client.topic, client.framing);
            let token = client.has_token.then_some("somebody");
            let taking = Script::taking(client.takes.iter().copied());
            taking.lock().leaves_at = client.leaves_at;
            driven.join(&Asks { topic, token, start, framing, ..Asks::default() }, &taking);
            *script = Some(taking);
        }
    };
    for (at, update) in updates.iter().enumerate() {
        join(&mut driven, at);
        if update.is_private {
            driven.publish_private(update.topic, at + 1, update.length);
        } else {
            driven.publish(update.topic, at + 1, update.length);
        }
        if update.is_seen {
            driven.turn();
        }
    }
    join(&mut driven, updates.len());
    for (client, script) in clients.iter().zip(&scripts) {
        let (expected, script) = (client.expected(updates), script.clone().unwrap());
        driven.until("somebody waits for something", |_| {
            let heard = script.heard(client.framing);
            let is_wrong = !expected.starts_with(&heard.numbers);
            is_wrong || heard.numbers.len() == expected.len() || script.lock().is_gone
        });
    }
    driven.settle();
    for (client, script) in clients.iter().zip(&scripts) {
        let script = script.as_ref().unwrap();
        let (heard, expected) = (script.heard(client.framing), client.expected(updates));
        if script.lock().is_gone {
            assert!(expected.starts_with(&heard.numbers), "{client:?} {:?}", heard.numbers);
            continue;
        }
        assert_eq!(heard.numbers, expected, "{client:?}");
        assert!(heard.text.starts_with(":\n") && !heard.ended);
    }
    driven.until("all have everything", |driven| {
        let is_done =
            |receiver: &Receiver| receiver.rest.is_none() && receiver.phase == Phase::Live;
        driven.shard.receivers.iter().all(|(_, receiver)| is_done(receiver))
    });
    driven.settle();
    driven.assert_idle();
    for script in scripts.iter().flatten() {
        script.lock().is_gone = true;
    }
    driven.turn();
    driven.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn everybody_gets_all_that_is_for_it_once_and_in_order_whatever_the_sockets_take(
        clients in proptest::collection::vec(client(), 1..7),
        updates in proptest::collection::vec(published(), 1..14),
    ) {
        check(&clients, &updates);
    }
}

/// The length of what a client gets of three updates, and what it hears then.
fn three(driven: &mut Driven, script: &Script, framing: Framing) -> usize {
    driven.until("three come", |_| script.heard(framing).numbers.len() == 3);
    script.lock().taken.len()
}

fn publish_three(driven: &Driven) {
    for (number, length) in [(1, 10), (2, 70), (3, 1)] {
        driven.publish("t", number, length);
    }
}

#[test]
fn a_socket_may_be_full_before_any_single_byte_of_what_comes_live() {
    for framing in [Framing::Chunked, Framing::Bare] {
        for times in [1, 4] {
            let asks = Asks { framing, ..Asks::default() };
            let mut driven = Driven::new();
            let script = Script::default();
            driven.join(&asks, &script);
            publish_three(&driven);
            let length = three(&mut driven, &script, framing);
            script.lock().is_gone = true;
            // All at once, behind one subscription: the place is another one for each.
            let scripts: Vec<Script> = (0..=length)
                .map(|at| {
                    let script = Script::default();
                    script.lock().full_at = Some((at, times));
                    driven.join(&asks, &script);
                    script
                })
                .collect();
            driven.publish("t", 1, 10);
            driven.turn();
            driven.publish("t", 2, 70);
            driven.turn();
            driven.publish("t", 3, 1);
            driven.until("all hear all", |_| {
                scripts.iter().all(|script| script.heard(framing).numbers.len() >= 3)
            });
            driven.settle();
            for (at, script) in scripts.iter().enumerate() {
                assert_eq!(script.heard(framing).numbers, [1, 2, 3], "full at {at}");
                assert_eq!(script.lock().taken.len(), length, "full at {at}");
            }
            driven.assert_idle();
        }
    }
}

#[test]
fn a_socket_may_be_full_before_any_single_byte_of_what_is_read() {
    for framing in [Framing::Chunked, Framing::Bare] {
        let limits = Limits { lifetime: Some(Duration::from_millis(1_500)), ..FOREVER };
        let start = Start::Earliest;
        let asks = Asks { framing, start, limits, ..Asks::default() };
        let mut driven = Driven::new();
        publish_three(&driven);
        let script = Script::default();
        driven.join(&asks, &script);
        let length = three(&mut driven, &script, framing) + framing.end().len();
        let scripts: Vec<Script> = (0..=length)
            .map(|at| {
                let script = Script::default();
                script.lock().full_at = Some((at, 2));
                driven.join(&asks, &script);
                script
            })
            .collect();
        driven.until("all end", |driven| driven.shard.receivers.is_empty());
        for (at, script) in scripts.iter().enumerate() {
            let heard = script.heard(framing);
            assert_eq!(heard.numbers, [1, 2, 3], "full at {at}");
            assert_eq!(script.lock().taken.len(), length, "full at {at}");
            assert_eq!(heard.ended, framing == Framing::Chunked, "full at {at}");
            assert!(script.lock().is_closed);
        }
        driven.assert_empty();
    }
}

#[test]
fn the_head_the_comment_and_what_is_told_first_leave_together() {
    let mut driven = Driven::new();
    let script = Script::taking([Some(10_000), None]);
    script.lock().room = Some(10_000);
    driven.join(&Asks { tells: Some(Continuity::Live), ..Asks::default() }, &script);
    let heard = script.heard(Framing::Chunked);
    let id = driven.hub.cursor(driven.hub.end());
    assert!(heard.text.starts_with(&format!(":\nevent: tidings\nid: {id}\ndata: {{")));
    assert!(heard.text.ends_with("}\n\n"), "{}", heard.text);
    let scripted = script.lock();
    assert_eq!(scripted.takes.len(), 1, "one write");
}

#[test]
fn everything_that_waits_leaves_in_one_write() {
    let mut driven = Driven::new();
    let script = Script::default();
    driven.join(&Asks::default(), &script);
    for number in 1..=20 {
        driven.publish("t", number, 1);
    }
    driven.until_fanned_out();
    script.lock().takes = [Some(100_000); 10].into();
    driven.turn();
    assert_eq!(script.heard(Framing::Chunked).numbers, (1..=20).collect::<Vec<_>>());
    assert_eq!(script.lock().takes.len(), 9, "one write");
    let script = Script::taking([Some(100_000); 10]);
    let asks = Asks { start: Start::Earliest, ..Asks::default() };
    driven.join(&asks, &script);
    driven.until("what is read comes", |_| script.heard(Framing::Chunked).numbers.len() == 20);
    assert_eq!(script.lock().takes.len(), 8, "one write for the head, one for all that was read");
}

#[test]
fn who_joins_in_the_middle_of_what_waits_gets_the_rest_alone() {
    let mut driven = Driven::new();
    let (early, late) = (Script::default(), Script::default());
    driven.join(&Asks::default(), &early);
    for number in 1..=3 {
        driven.publish("t", number, 1);
    }
    driven.until_fanned_out();
    // One portion for both: the later one has had its first part already.
    driven.join(&Asks::default(), &late);
    for number in 4..=6 {
        driven.publish("t", number, 1);
    }
    driven.until_fanned_out();
    driven.turn();
    driven.settle();
    assert_eq!(early.heard(Framing::Chunked).numbers, [1, 2, 3, 4, 5, 6]);
    assert_eq!(late.heard(Framing::Chunked).numbers, [4, 5, 6]);
    assert_eq!(driven.shard.audiences.len(), 1);
}

#[test]
fn tokens_of_others_make_no_other_audience_and_other_rights_do() {
    let mut driven = Driven::new();
    let scripts: Vec<Script> = (0..5).map(|_| Script::default()).collect();
    for (script, token) in scripts.iter().zip([None, None, Some("a"), Some("b"), None]) {
        driven.join(&Asks { token, ..Asks::default() }, script);
    }
    driven.join(&Asks { topic: "t", ..Asks::default() }, &Script::default());
    assert_eq!(driven.shard.audiences.len(), 3);
    driven.publish_private("t", 1, 1);
    driven.publish("t", 2, 1);
    driven.until("all hear it", |_| {
        scripts.iter().all(|script| script.heard(Framing::Chunked).numbers.ends_with(&[2]))
    });
    let heard = |at: usize| scripts[at].heard(Framing::Chunked).numbers;
    assert_eq!((heard(0), heard(2), heard(3)), (vec![2], vec![1, 2], vec![1, 2]));
}
