//! Sockets that change what they hear while they hear: whatever they want when, and however slowly
//! they take it, each gets exactly what it wants, once and in order.

use std::collections::HashMap;

use proptest::prelude::*;

use super::talking::{LIMITS, Talking, answer};
use super::*;
use crate::shard::talk::Order;

const TOPICS: [&str; 4] = ["a", "b", "c", "*"];

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// An update of one of the first three topics; whether the shard has its turn behind it.
    Publish {
        topic: usize,
        is_private: bool,
        length: usize,
        is_seen: bool,
    },
    /// A socket wants what these pick; from so many updates before the last one on, if not from now.
    Join {
        socket: usize,
        topics: Vec<usize>,
        back: Option<usize>,
    },
    Leave {
        socket: usize,
        topics: Vec<usize>,
    },
    Grant {
        socket: usize,
        may_read: bool,
    },
    Turn,
}

fn step(sockets: usize) -> impl Strategy<Value = Step> {
    let topics = || proptest::collection::vec(0..4_usize, 1..3);
    let length = prop_oneof![6 => 1..100_usize, 1 => 1..40_000_usize];
    let publish = (0..3_usize, any::<bool>(), length, any::<bool>()).prop_map(
        |(topic, is_private, length, is_seen)| Step::Publish { topic, is_private, length, is_seen },
    );
    let back = proptest::option::weighted(0.7, 0..30_usize);
    let join = (0..sockets, topics(), back).prop_map(|(socket, topics, back)| Step::Join {
        socket,
        topics,
        back,
    });
    let leave = (0..sockets, topics()).prop_map(|(socket, topics)| Step::Leave { socket, topics });
    let grant =
        (0..sockets, any::<bool>()).prop_map(|(socket, may_read)| Step::Grant { socket, may_read });
    prop_oneof![8 => publish, 3 => join, 1 => leave, 1 => grant, 2 => Just(Step::Turn)]
}

fn takes() -> impl Strategy<Value = Vec<Option<usize>>> {
    let take = prop_oneof![
        2 => Just(None),
        2 => (1..60_usize).prop_map(Some),
        2 => (1..40_000_usize).prop_map(Some),
    ];
    proptest::collection::vec(take, 0..60)
}

/// What was published.
struct Published {
    place: u64,
    topic: usize,
    is_private: bool,
}

/// A wish, and what became of it.
#[derive(Debug)]
struct Wish {
    topics: Vec<usize>,
    since: u64,
    /// Which order of its socket it was.
    order: usize,
}

/// An order of a socket that is no wish.
#[derive(Debug)]
enum Other {
    Left { topics: Vec<usize>, order: usize },
    Granted { may_read: bool, order: usize },
}

struct Client {
    talking: Talking,
    wishes: Vec<Wish>,
    others: Vec<Other>,
    orders: usize,
}

/// What came to a client, by the order in which it came.
#[derive(Debug, Default)]
struct Came {
    /// Numbers of updates, and whether each came as past.
    updates: Vec<(usize, bool)>,
    /// By order: how many were answered before, its place, and whether it was cancelled.
    answers: HashMap<usize, (usize, u64, bool)>,
}

fn came(client: &Client) -> Came {
    let (mut came, mut is_past) = (Came::default(), false);
    for text in client.talking.texts() {
        let words: Vec<&str> = text.split(' ').take(4).collect();
        match words[0] {
            "past" | "live" => {
                assert_ne!(is_past, words[0] == "past", "parts of the past do not nest");
                is_past = words[0] == "past";
            }
            "done" => {
                assert!(!is_past, "an answer within the past");
                let (order, place) = (words[1].parse().unwrap(), words[2].parse().unwrap());
                let answer = (came.answers.len(), place, words[3] == "true");
                assert!(came.answers.insert(order, answer).is_none(), "answered twice");
            }
            number => came.updates.push((number.parse().unwrap(), is_past)),
        }
    }
    came
}

fn picks(topics: &[usize], update: &Published) -> bool {
    topics.iter().any(|topic| *topic == 3 || *topic == update.topic)
}

/// Checks what came to one client against what it wanted.
fn check_client(client: &Client, all: &[Published]) {
    let came = came(client);
    assert_eq!(came.answers.len(), client.orders, "every order is answered once");
    let place_of = |order: usize| came.answers[&order].1;
    // Places at which a matcher was let go of, and at which rights changed. What was let go of
    // while its past was brought need not have come at all.
    let left = |wish: &Wish, topic: usize| {
        let places = client.others.iter().filter_map(|other| match other {
            Other::Left { topics, order } if *order > wish.order && topics.contains(&topic) => {
                let was_on_its_way = came.answers[&wish.order].0 > came.answers[order].0;
                Some(if was_on_its_way { 0 } else { place_of(*order) })
            }
            Other::Left { .. } | Other::Granted { .. } => None,
        });
        places.min().unwrap_or(u64::MAX)
    };
    let may_read_at = |place: u64| {
        let mut may_read = false;
        for other in &client.others {
            if let Other::Granted { may_read: then, order } = other
                && place_of(*order) < place
            {
                may_read = *then;
            }
        }
        may_read
    };
    // Rights that change while a past is brought decide by the moment: not checked here.
    let mut grants = client.others.iter().filter_map(|other| match other {
        Other::Granted { may_read, order } => Some((*order, *may_read)),
        Other::Left { .. } => None,
    });
    let (first, later) = (grants.next(), grants.next());
    let keeps_rights = later.is_none() && first.is_none_or(|(order, _)| order == 0);
    let has_rights = keeps_rights && first == Some((0, true));
    let live: Vec<usize> =
        came.updates.iter().filter(|(_, is_past)| !is_past).map(|(number, _)| *number).collect();
    assert!(live.is_sorted_by(|one, other| one < other), "live order: {live:?}");
    let has_left = client.others.iter().any(|other| matches!(other, Other::Left { .. }));
    for (index, update) in all.iter().enumerate() {
        let number = index + 1;
        let times = came.updates.iter().filter(|(one, _)| *one == number).count();
        let is_live = live.contains(&number);
        let reaches = |wish: &&Wish| {
            let own = |topic: &usize| {
                let until = left(wish, *topic);
                picks(&[*topic], update) && wish.since < update.place && update.place <= until
            };
            wish.topics.iter().any(own)
        };
        let is_done = |wish: &&Wish| !came.answers[&wish.order].2;
        let wished = client.wishes.iter().filter(reaches).any(|wish| is_done(&wish));
        // The past of a wish that was taken back may have come in part.
        let justified = client
            .wishes
            .iter()
            .any(|wish| picks(&wish.topics, update) && wish.since < update.place);
        let what = || {
            format!(
                "{number} of {update_place} in {came:?} for {:?} {:?}",
                client.wishes,
                client.others,
                update_place = update.place
            )
        };
        assert!(times == 0 || justified, "not wanted: {}", what());
        if update.is_private {
            assert!(!is_live || may_read_at(update.place), "not allowed: {}", what());
            if wished && has_rights {
                assert!(times > 0, "lost: {}", what());
            }
        } else if wished {
            assert!(times > 0, "lost: {}", what());
        }
        if !has_left && (!update.is_private || keeps_rights) {
            assert!(times <= 1, "repeated: {}", what());
        }
    }
}

fn run(sockets: usize, steps: &[Step], takes: &[Vec<Option<usize>>], rights: &[bool]) {
    let mut driven = Driven::new();
    let mut all: Vec<Published> = Vec::new();
    let matchers: Vec<_> = TOPICS.iter().map(|topic| driven.exact(topic)).collect();
    let pick = |topics: &[usize]| -> Vec<_> {
        topics.iter().map(|topic| Arc::clone(&matchers[*topic])).collect()
    };
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let mut clients: Vec<Client> = takes
        .iter()
        .take(sockets)
        .map(|takes| {
            let script = Script::taking(takes.iter().copied());
            let talking = driven.talk(&asks, LIMITS, &script);
            Client { talking, wishes: Vec::new(), others: Vec::new(), orders: 0 }
        })
        .collect();
    let grant = |driven: &Driven, client: &mut Client, may_read: bool| {
        let token = may_read.then_some("somebody");
        let grant = driven.selection(&Asks { token, ..Asks::default() }).grant;
        let (order, scope, expires) = (client.orders, None, None);
        client.orders += 1;
        client.others.push(Other::Granted { may_read, order });
        let answer = answer(&order.to_string());
        client.talking.order(Order::Grant { grant, scope, expires, answer });
    };
    for (client, may_read) in clients.iter_mut().zip(rights) {
        if *may_read {
            grant(&driven, client, true);
        }
    }
    driven.turn();
    for step in steps {
        match step {
            Step::Publish { topic, is_private, length, is_seen } => {
                let number = all.len() + 1;
                if *is_private {
                    driven.publish_private(TOPICS[*topic], number, *length);
                } else {
                    driven.publish(TOPICS[*topic], number, *length);
                }
                let place = driven.hub.end().durable;
                all.push(Published { place, topic: *topic, is_private: *is_private });
                if *is_seen {
                    driven.turn();
                }
            }
            Step::Join { socket, topics, back } => {
                let client = &mut clients[*socket];
                let since = match back {
                    None => driven.hub.end(),
                    Some(back) => {
                        let number = all.len().saturating_sub(*back);
                        let first = driven.hub.before_first().durable;
                        let place = all.get(number).map_or(first, |update| update.place);
                        tidings_core::Offset::durable(place.min(driven.hub.end().durable))
                    }
                };
                let start = back.map_or(Start::Now, |_| Start::After(since));
                let order = client.orders;
                client.orders += 1;
                let (topics, since) = (topics.clone(), since.durable);
                client.talking.join(&order.to_string(), &pick(&topics), start);
                client.wishes.push(Wish { topics, since, order });
                driven.turn();
            }
            Step::Leave { socket, topics } => {
                let client = &mut clients[*socket];
                let order = client.orders;
                client.orders += 1;
                client.talking.leave(&order.to_string(), &pick(topics));
                client.others.push(Other::Left { topics: topics.clone(), order });
                driven.turn();
            }
            Step::Grant { socket, may_read } => {
                grant(&driven, &mut clients[*socket], *may_read);
                driven.turn();
            }
            Step::Turn => driven.turn(),
        }
    }
    for client in &clients {
        driven.until("every order is answered", |_| came(client).answers.len() >= client.orders);
    }
    driven.until("all have everything", |driven| {
        let mut receivers = driven.shard.receivers.iter();
        receivers.all(|(_, receiver)| receiver.rest.is_none() && !receiver.is_behind())
    });
    driven.settle();
    for client in &clients {
        check_client(client, &all);
    }
    driven.assert_idle();
    for client in &clients {
        client.talking.script.lock().is_gone = true;
    }
    driven.turn();
    driven.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn sockets_get_what_they_want_however_often_they_change_it(
        steps in proptest::collection::vec(step(3), 1..60),
        takes in proptest::collection::vec(takes(), 3),
        rights in proptest::collection::vec(any::<bool>(), 3),
    ) {
        run(3, &steps, &takes, &rights);
    }
}

#[test]
fn a_past_ends_also_while_others_publish_without_end() {
    let mut driven = Driven::new();
    for number in 1..=300 {
        driven.publish("a", number, 1_000);
    }
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let all = driven.exact("*");
    socket.join("0", &[all], Start::Earliest);
    let mut number = 300;
    driven.until("the past has come", |driven| {
        for _ in 0..3 {
            number += 1;
            driven.publish("a", number, 1_000);
        }
        socket.texts().iter().any(|text| text.starts_with("done"))
    });
    driven.until("everybody has everything", |driven| {
        driven.receiver(socket.number).is_some_and(|one| !one.is_behind())
    });
    driven.settle();
    let numbers: Vec<usize> =
        socket.texts().iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=number).collect::<Vec<_>>());
}

#[test]
fn a_wish_for_the_past_of_what_is_wanted_already_brings_only_what_lies_before_that() {
    let mut driven = Driven::new();
    (1..=3).for_each(|number| driven.publish("a", number, 1));
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let matcher = [driven.exact("a")];
    socket.join("now", &matcher, Start::Now);
    driven.turn();
    (4..=6).for_each(|number| driven.publish("a", number, 1));
    driven.until("live", |_| socket.texts().len() == 4);
    socket.join("past", &matcher, Start::Earliest);
    driven.until("past", |_| socket.texts().last().is_some_and(|text| text.starts_with("done p")));
    let firsts: Vec<String> =
        socket.texts().iter().map(|text| text.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(firsts, ["done", "4", "5", "6", "past", "1", "2", "3", "live", "done"]);
    socket.join("again", &matcher, Start::Earliest);
    driven.until("nothing", |_| socket.texts().last().is_some_and(|text| text.contains("again")));
    assert_eq!(socket.texts().len(), 11, "everything was brought already");
}

#[test]
fn a_slow_reader_hears_a_later_wish_from_its_moment_on() {
    let mut driven = Driven::new();
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let (a, b) = (driven.exact("a"), driven.exact("b"));
    socket.join("a", &[a], Start::Now);
    driven.turn();
    socket.script.set_full(true);
    for number in 1..=20 {
        driven.publish(if number % 2 == 0 { "b" } else { "a" }, number, 30_000);
        driven.turn();
    }
    socket.join("b", &[b], Start::Now);
    driven.turn();
    for number in 21..=24 {
        driven.publish(if number % 2 == 0 { "b" } else { "a" }, number, 10);
        driven.turn();
    }
    socket.script.set_full(false);
    let numbers = || -> Vec<usize> {
        socket.texts().iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect()
    };
    driven.until("the last", |_| numbers().last() == Some(&24));
    let expected: Vec<usize> = (1..=24).filter(|number| number % 2 == 1 || *number > 20).collect();
    assert_eq!(numbers(), expected);
}

#[test]
fn a_wish_that_is_taken_back_is_answered_as_such_before_that() {
    let mut driven = Driven::new();
    for number in 1..=50 {
        driven.publish("a", number, 5_000);
    }
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let hold = driven.hold_readers();
    let a = [driven.exact("a")];
    socket.join("0", &a, Start::Earliest);
    socket.join("1", &[driven.exact("b")], Start::Earliest);
    driven.turn();
    socket.leave("2", &a);
    driven.turn();
    drop(hold);
    driven.until("all are answered", |_| {
        socket.texts().iter().filter(|text| text.starts_with("done")).count() == 3
    });
    let done: Vec<String> = socket
        .texts()
        .iter()
        .filter(|text| text.starts_with("done"))
        .map(|text| {
            text.split(' ')
                .enumerate()
                .filter(|(at, _)| *at == 1 || *at == 3)
                .map(|(_, word)| word.to_owned())
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(done, ["0 true", "2 false", "1 false"]);
    driven.publish("a", 51, 1);
    driven.settle();
    assert!(!socket.texts().iter().any(|text| text.starts_with("51 ")));
}

#[test]
fn a_past_is_taken_back_though_its_matcher_is_wanted_by_others_too() {
    let mut driven = Driven::new();
    for number in 1..=50 {
        driven.publish("a", number, 5_000);
    }
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let a = [driven.exact("a")];
    let order = |order| socket.order(order);
    let join = |number, start, name: &str| {
        let (matchers, around) = (a.clone().into(), None);
        order(Order::Join { number, matchers, start, around, answer: answer(name) });
    };
    let hold = driven.hold_readers();
    join(1, Start::Now, "live");
    join(2, Start::Earliest, "past");
    join(3, Start::Earliest, "other");
    driven.turn();
    order(Order::Leave { number: Some(3), matchers: Box::default(), answer: answer("left") });
    order(Order::Leave { number: Some(2), matchers: Box::default(), answer: answer("left") });
    driven.turn();
    drop(hold);
    driven.publish("a", 51, 1);
    driven.settle();
    let texts = socket.texts();
    let cancelled = texts.iter().filter(|text| text.starts_with("done") && text.contains("true"));
    assert_eq!(cancelled.count(), 2, "{texts:?}");
    let numbers = texts.iter().filter_map(|text| text.split(' ').next()?.parse::<usize>().ok());
    assert_eq!(numbers.collect::<Vec<_>>(), [51], "nothing of the past, and what comes");
}

#[test]
fn a_past_of_which_a_part_is_let_go_of_brings_the_rest() {
    let mut driven = Driven::new();
    for number in 1..=50 {
        driven.publish(if number % 2 == 0 { "a" } else { "b" }, number, 5_000);
    }
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let (a, b) = (driven.exact("a"), driven.exact("b"));
    let hold = driven.hold_readers();
    socket.join("both", &[Arc::clone(&a), b], Start::Earliest);
    driven.turn();
    socket.leave("one", &[a]);
    driven.turn();
    drop(hold);
    driven.until("both are answered", |_| {
        socket.texts().iter().filter(|text| text.starts_with("done")).count() == 2
    });
    let texts = socket.texts();
    assert!(!texts.iter().any(|text| text.starts_with("done") && text.contains("true")));
    let numbers: Vec<usize> =
        texts.iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
    assert_eq!(numbers, (1..=50).step_by(2).collect::<Vec<_>>());
}

#[test]
fn ten_thousand_changes_leave_nothing_behind() {
    let mut driven = Driven::new();
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let sockets: Vec<Talking> =
        (0..10).map(|_| driven.talk(&asks, LIMITS, &Script::default())).collect();
    let room = |driven: &Driven| {
        let shard = &driven.shard;
        (shard.receivers.capacity(), shard.audiences.capacity(), shard.alike.capacity())
    };
    let change = |driven: &mut Driven, round: usize| {
        for (number, socket) in sockets.iter().enumerate() {
            let topic = [driven.exact(&format!("{}", (round + number) % 7))];
            socket.join("j", &topic, Start::Now);
            socket.leave("l", &topic);
            socket.script.lock().taken.clear();
        }
        driven.turn_alone();
    };
    (0..100).for_each(|round| change(&mut driven, round));
    let before = room(&driven);
    (0..900).for_each(|round| change(&mut driven, round));
    assert_eq!(room(&driven), before);
    assert_eq!(driven.shard.audiences.len(), 1, "who wants nothing wants the same");
    assert!(driven.shard.readers_line.is_empty());
    driven.assert_idle();
}

#[test]
fn a_place_that_a_past_was_begun_for_is_not_gone_back_behind() {
    let mut driven = Driven::new();
    (1..=3).for_each(|number| driven.publish("c", number, 1));
    let asks = Asks { framing: Framing::Raw, ..Asks::default() };
    let socket = driven.talk(&asks, LIMITS, &Script::default());
    let place = driven.hub.end();
    socket.join("0", &[driven.exact("a")], Start::Now);
    driven.turn();
    (4..=5).for_each(|number| driven.publish("b", number, 1));
    driven.until_fanned_out();
    driven.turn();
    let hold = driven.hold_readers();
    socket.join("1", &[driven.exact("*")], Start::After(place));
    driven.turn();
    // Something waits for its socket, and then it is behind its audience.
    socket.script.set_full(true);
    socket.order(Order::Say(crate::websocket::frame::text(b"waits")));
    driven.turn();
    driven.publish("a", 6, 1);
    driven.until_fanned_out();
    driven.turn();
    socket.join("2", &[driven.exact("b")], Start::After(place));
    driven.turn();
    drop(hold);
    socket.script.set_full(false);
    driven.until("all are answered", |_| {
        socket.texts().iter().filter(|text| text.starts_with("done")).count() == 3
    });
    driven.settle();
    let mut numbers: Vec<usize> =
        socket.texts().iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
    numbers.sort_unstable();
    // 0 is the test's own witness.
    assert_eq!(numbers.iter().filter(|number| **number > 0).collect::<Vec<_>>(), [&4, &5, &6]);
}

#[test]
fn what_is_let_go_of_while_a_past_is_brought_is_not_brought_once_more() {
    for is_next in [false, true] {
        let mut driven = Driven::new();
        let asks = Asks { framing: Framing::Raw, ..Asks::default() };
        let socket = driven.talk(&asks, LIMITS, &Script::default());
        let a = [driven.exact("a")];
        (1..=10).for_each(|number| driven.publish("c", number, 30_000));
        socket.join("0", &a, Start::Now);
        driven.turn();
        (11..=13).for_each(|number| driven.publish("a", number, 1));
        driven.until("live", |_| socket.texts().len() == 4);
        let hold = driven.hold_readers();
        if is_next {
            // Another past is brought first, and the one of everything waits for it.
            socket.join("3", &[driven.exact("b")], Start::Earliest);
        }
        socket.join("1", &[driven.exact("*")], Start::Earliest);
        driven.turn();
        socket.leave("2", &a);
        driven.turn();
        drop(hold);
        let orders = if is_next { 4 } else { 3 };
        driven.until("all are answered", |_| {
            socket.texts().iter().filter(|text| text.starts_with("done")).count() == orders
        });
        let mut numbers: Vec<usize> =
            socket.texts().iter().filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=13).collect::<Vec<_>>(), "{is_next}");
    }
}
