//! The machine against a made-up system with a made-up clock: thousands of runs with failures,
//! crashes and late saves.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use tidings_core::{Grant, Line, Selection, Start, Topic, Update};

use super::*;
use crate::connector::{Answer, Failure, Fault, Outcome, RetryAfter};
use crate::in_memory::{self, Still};
use crate::space::Space;
use crate::specification::KeyOf;

/// Entries whose keys are these, one after the other.
fn entries(keys: &[u8]) -> Vec<Arc<Entry>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hub = in_memory::hub(Arc::new(Still(1_000_000)), 1 << 20);
    let grant = Arc::new(Grant::operator());
    let matchers = grant.subscribe.clone();
    let selection = Selection { matchers, grant: Arc::clone(&grant), scope: None };
    let mut subscription = hub.subscribe(selection, Start::Earliest);
    let mut taken = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        let topic = Topic::parse(&format!("a.{key}")).unwrap();
        let mut update = Update::new(topic, number.to_string());
        update.attributes = vec![(Line::parse("key").unwrap(), key.to_string())];
        runtime.block_on(hub.publish(&grant, update)).unwrap();
    }
    let mut batch = Batch::new();
    while taken.len() < keys.len() {
        runtime.block_on(subscription.next(&mut batch)).unwrap();
        taken.extend(batch.iter().cloned());
        batch.clear();
    }
    taken
}

fn rules(key: Option<KeyOf>) -> Rules {
    let concurrency = if key.is_some() { 4 } else { 1 };
    let retry = Retry {
        first: Duration::from_secs(1),
        max: Duration::from_secs(60),
        give_up_after: Duration::from_secs(3600),
    };
    let name = "tests".to_owned();
    Rules { name, key, concurrency, rate: None, retry, then: None, run_max: 1 }
}

/// The state as it is saved: what a machine that begins again gets.
#[derive(Default)]
struct Disk {
    position: Offset,
    standing: Standing,
    held: Held,
    rows: BTreeMap<RowKey, (Row, Arc<Entry>)>,
    dead: BTreeMap<u64, DeadLetter>,
    dead_last: u64,
}

impl Disk {
    fn commit(&mut self, changes: Changes) {
        self.position = changes.position.unwrap_or(self.position);
        self.standing = changes.standing.unwrap_or(self.standing.clone());
        self.held = changes.held.unwrap_or(self.held);
        for (key, row) in changes.copies {
            match row {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
        for letter in changes.dead {
            self.dead_last = letter.number;
            self.dead.insert(letter.number, letter);
        }
        for number in changes.revived {
            self.dead.remove(&number);
        }
    }

    fn saved(&self) -> Saved {
        Saved {
            position: self.position,
            standing: self.standing.clone(),
            held: self.held,
            rows: self.rows.values().map(|(row, _)| *row).collect(),
            dead: DeadTotal {
                last: self.dead_last,
                rows: self.dead.len(),
                bytes: self.dead.values().map(DeadLetter::weight).sum(),
            },
            part: Arc::new(Space::default()).part("tests", self.bytes()),
            followed: HashSet::new(),
        }
    }

    fn bytes(&self) -> usize {
        let copies = self.rows.values().map(|(row, _)| row.weight).sum::<usize>();
        copies + self.dead.values().map(DeadLetter::weight).sum::<usize>()
    }

    fn buried(&self) -> BTreeSet<u64> {
        let numbers = self.dead.values().filter_map(|letter| match &letter.about {
            About::Entry { entry, .. } => Some(entry.offset.durable),
            _ => None,
        });
        numbers.collect()
    }
}

/// One machine with everything around it.
struct World {
    history: Vec<Arc<Entry>>,
    disk: Disk,
    rules: Rules,
    delivery: Delivery,
    unsaved: Vec<Changes>,
    now: Now,
    /// Runs that were sent and not answered.
    sent: Vec<(u64, Run)>,
    /// Every success, in order.
    delivered: Vec<u64>,
    sends: Vec<(Duration, u64)>,
    /// Given up once, be it that a crash came before that was saved.
    given_up: BTreeSet<u64>,
}

impl World {
    fn new(history: Vec<Arc<Entry>>, rules: Rules) -> World {
        let now = Now { monotonic: Duration::ZERO, wall: 1_000_000 };
        let disk = Disk {
            position: Offset::durable(history.first().map_or(0, |entry| entry.offset.durable - 1)),
            ..Disk::default()
        };
        let delivery = Delivery::new(rules.clone(), disk.saved(), 1, now);
        World {
            history,
            disk,
            rules,
            delivery,
            unsaved: Vec::new(),
            now,
            sent: Vec::new(),
            delivered: Vec::new(),
            sends: Vec::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// Everything that was not saved is gone, and what was on its way with it.
    fn crash(&mut self) {
        self.unsaved.clear();
        self.sent.clear();
        self.delivery = Delivery::new(self.rules.clone(), self.disk.saved(), 2, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now.monotonic += time;
        self.now.wall += answers::milliseconds(time);
    }

    fn take(&mut self, most: usize, from: &mut usize) {
        if !self.delivery.wants_more(self.now) {
            return;
        }
        for entry in self.history.iter().skip(*from).take(most) {
            self.delivery.take_in(entry, self.now);
            self.delivery.window.taken(entry.offset);
            *from += 1;
        }
    }

    /// Asks what to do until there is nothing.
    fn act(&mut self) {
        while let Some(action) = self.delivery.next(self.now) {
            match action {
                Action::Send { lane, run } => {
                    let first = run.entries[0].offset.durable;
                    self.sends.push((self.now.monotonic, first));
                    self.sent.push((lane, run));
                }
                Action::Load { lane, keys } => {
                    // What is not saved yet is read as well: the run waits for its own commit.
                    self.save();
                    let read = |key: &RowKey| self.disk.rows.get(key).map(|row| Arc::clone(&row.1));
                    let rows = keys.iter().map(|key| (*key, read(key))).collect();
                    self.delivery.loaded(lane, rows, self.now);
                }
                Action::Follow { lane, .. } => self.delivery.followed(lane, Ok(()), self.now),
            }
        }
        self.note();
    }

    fn note(&mut self) {
        let changes = self.delivery.changes();
        for letter in &changes.dead {
            if let About::Entry { entry, .. } = &letter.about {
                self.given_up.insert(entry.offset.durable);
            }
        }
        if !changes.is_empty() {
            self.unsaved.push(changes);
        }
    }

    fn save(&mut self) {
        self.note();
        for changes in std::mem::take(&mut self.unsaved) {
            self.disk.commit(changes);
        }
        self.check_position();
    }

    /// Nothing up to the saved position is without a delivery, a copy or a dead letter.
    fn check_position(&self) {
        let done: BTreeSet<u64> = self.delivered.iter().copied().collect();
        let copied: BTreeSet<u64> = self.disk.rows.keys().map(|key| key.number).collect();
        let buried = self.disk.buried();
        for entry in &self.history {
            let number = entry.offset.durable;
            let is_passed = number <= self.disk.position.durable;
            let is_kept =
                done.contains(&number) || copied.contains(&number) || buried.contains(&number);
            assert!(!is_passed || is_kept, "{number} is owed and passed");
        }
    }

    fn answer(&mut self, at: usize, outcome: Outcome) {
        let (lane, run) = self.sent.swap_remove(at % self.sent.len());
        for entry in run.entries.iter().take(outcome.delivered) {
            self.delivered.push(entry.offset.durable);
        }
        self.delivery.answered(lane, outcome, self.now);
    }
}

fn success() -> Outcome {
    Outcome { delivered: 1, failure: None, answer: Answer::default() }
}

fn failing(fault: Fault) -> Outcome {
    let failure = Failure { fault, reason: "made up".into(), retry_after: None };
    Outcome { delivered: 0, failure: Some(failure), answer: Answer::default() }
}

fn asking(seconds: u64, is_for_all: bool) -> Outcome {
    let wait = Duration::from_secs(seconds);
    let mut outcome = failing(Fault::Busy);
    outcome.failure.as_mut().unwrap().retry_after = Some(RetryAfter { wait, is_for_all });
    outcome
}

#[derive(Debug, Clone)]
enum Step {
    Take(usize),
    Answer { at: usize, outcome: u8 },
    Pass(u64),
    Save,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_usize..40).prop_map(Step::Take),
        12 => (any::<usize>(), any::<u8>()).prop_map(|(at, outcome)| Step::Answer { at, outcome }),
        3 => (1_u64..5_000).prop_map(Step::Pass),
        2 => Just(Step::Save),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..300)
}

/// First successes, by key, in the order in which they came.
fn firsts(world: &World) -> HashMap<String, Vec<u64>> {
    let mut seen = BTreeSet::new();
    let mut by_key: HashMap<String, Vec<u64>> = HashMap::new();
    for number in &world.delivered {
        if seen.insert(*number) && !world.given_up.contains(number) {
            let entry = world.history.iter().find(|entry| entry.offset.durable == *number).unwrap();
            by_key.entry(entry.update.attributes[0].1.clone()).or_default().push(*number);
        }
    }
    by_key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 300 }))]

    #[test]
    fn nothing_is_lost_and_first_successes_are_in_order(
        keys in proptest::collection::vec(0_u8..6, 1..120),
        steps in steps(),
        has_key in any::<bool>(),
        rejects in any::<bool>(),
    ) {
        let history = entries(&keys);
        let rules = rules(has_key.then(|| KeyOf::Attribute("key".into())));
        let mut world = World::new(history, rules);
        let mut from = 0;
        for step in steps {
            match step {
                Step::Take(most) => world.take(most, &mut from),
                Step::Answer { at, outcome } if !world.sent.is_empty() => {
                    let outcome = match outcome {
                        0..30 => failing(Fault::Busy),
                        30..40 => failing(Fault::Unreachable),
                        40..60 if rejects => failing(Fault::Rejected),
                        60..65 => asking(u64::from(outcome), true),
                        65..70 => asking(u64::from(outcome), false),
                        _ => success(),
                    };
                    world.answer(at, outcome);
                }
                Step::Answer { .. } => {}
                Step::Pass(wait) => world.pass(Duration::from_millis(wait)),
                Step::Save => world.save(),
                Step::Crash => {
                    world.crash();
                    let position = world.disk.position.durable;
                    from = world.history.partition_point(|entry| entry.offset.durable <= position);
                }
            }
            world.act();
        }
        // From here on the system works, and time passes.
        for _ in 0..2_000 {
            world.take(64, &mut from);
            world.act();
            while !world.sent.is_empty() {
                world.answer(0, success());
                world.act();
            }
            world.pass(Duration::from_secs(1));
        }
        world.save();
        let last = world.history.last().unwrap().offset;
        prop_assert_eq!(world.disk.position, last);
        prop_assert!(world.disk.rows.is_empty());
        let buried = world.disk.buried();
        prop_assert!(rejects || buried.is_empty());
        let delivered: BTreeSet<u64> = world.delivered.iter().copied().collect();
        for entry in &world.history {
            let number = entry.offset.durable;
            prop_assert!(delivered.contains(&number) || buried.contains(&number), "{}", number);
        }
        for (key, numbers) in firsts(&world) {
            prop_assert!(numbers.is_sorted(), "{}: {:?}", key, numbers);
        }
        let mut seen = BTreeSet::new();
        let whole: Vec<u64> =
            world.delivered.iter().copied().filter(|number| seen.insert(*number)).collect();
        let whole: Vec<u64> =
            whole.into_iter().filter(|number| !world.given_up.contains(number)).collect();
        prop_assert!(has_key || whole.is_sorted(), "{:?}", whole);
    }
}

#[test]
fn other_keys_go_on_while_one_fails() {
    let keys: Vec<u8> = (0..200).map(|n| n % 10).collect();
    let mut world = World::new(entries(&keys), rules(Some(KeyOf::Topic)));
    let mut from = 0;
    for _ in 0..200 {
        world.take(64, &mut from);
        world.act();
        while let Some((_, run)) = world.sent.first() {
            let is_bad = run.entries[0].update.topics[0].as_str() == "a.3";
            world.answer(0, if is_bad { failing(Fault::Busy) } else { success() });
            world.act();
        }
        world.pass(Duration::from_millis(10));
    }
    world.save();
    assert_eq!(world.delivered.len(), 180);
    assert_eq!(world.disk.position, world.history.last().unwrap().offset, "nothing holds it");
    assert_eq!(world.disk.rows.len(), 20);
}

#[test]
fn a_sink_without_keys_waits_and_copies_nothing() {
    let mut world = World::new(entries(&[1; 50]), rules(None));
    let (start, mut from) = (world.disk.position, 0);
    for _ in 0..100 {
        world.take(64, &mut from);
        world.act();
        while !world.sent.is_empty() {
            world.answer(0, failing(Fault::Unreachable));
            world.act();
        }
        world.pass(Duration::from_secs(1));
    }
    world.save();
    assert_eq!(world.disk.position, start);
    assert!(world.disk.rows.is_empty() && world.disk.dead.is_empty());
    assert!(world.sends.iter().all(|(_, number)| *number == start.durable + 1));
    assert!(world.sends.len() < 20, "{:?}", world.sends.len());
}

#[test]
fn what_the_system_asks_for_is_obeyed_to_the_millisecond() {
    for (is_for_all, expected) in [(true, 7_000), (false, 0)] {
        let mut world = World::new(entries(&[1, 2]), rules(Some(KeyOf::Topic)));
        let mut from = 0;
        world.take(1, &mut from);
        world.act();
        world.answer(0, asking(7, is_for_all));
        world.take(1, &mut from);
        for _ in 0..9_000 {
            world.act();
            world.pass(Duration::from_millis(1));
        }
        let first = world.history[0].offset.durable;
        let at = |number| {
            let mut sends = world.sends.iter().filter(|(_, sent)| *sent == number);
            sends.next_back().unwrap().0
        };
        assert_eq!(at(first), Duration::from_secs(7));
        assert_eq!(at(first + 1), Duration::from_millis(expected), "for all: {is_for_all}");
    }
}

#[test]
fn an_answer_that_it_is_gone_disables_and_keeps_the_entry() {
    let mut world = World::new(entries(&[1, 1]), rules(None));
    world.take(9, &mut 0);
    world.act();
    world.answer(0, failing(Fault::Gone));
    world.act();
    world.pass(Duration::from_secs(100_000));
    world.act();
    world.save();
    assert!(world.sent.is_empty());
    assert!(matches!(world.disk.standing, Standing::Disabled(_)));
    world.crash();
    world.take(9, &mut 0);
    world.act();
    assert!(world.sent.is_empty(), "it stays so over a restart");
    world.delivery.resume(world.now);
    world.take(9, &mut 0);
    world.act();
    assert_eq!(world.sent.len(), 1);
}

#[test]
fn patience_ends_in_a_dead_letter_that_can_be_delivered_again() {
    let mut world = World::new(entries(&[1, 1, 1]), rules(None));
    world.take(9, &mut 0);
    for _ in 0..7_200 {
        world.act();
        if !world.sent.is_empty() {
            world.answer(0, failing(Fault::Busy));
        }
        world.pass(Duration::from_secs(1));
    }
    world.act();
    world.save();
    assert_eq!(world.disk.buried().len(), 3, "each has had its time");
    let letters: Vec<_> = world.disk.dead.values().cloned().collect();
    let again: Vec<Again> = letters
        .iter()
        .filter_map(|letter| match &letter.about {
            About::Entry { entry, .. } => Some(Again {
                entry: Arc::clone(entry),
                letter: Some((letter.number, letter.weight())),
            }),
            _ => None,
        })
        .collect();
    assert_eq!(world.delivery.again(&again, world.now), 3);
    world.delivery.resume(world.now);
    world.act();
    world.save();
    assert!(world.disk.dead.is_empty());
    assert_eq!(world.disk.rows.len() + world.delivered.len(), 3);
    while !world.sent.is_empty() {
        world.answer(0, success());
        world.act();
    }
    world.save();
    assert_eq!(world.delivered.len(), 3);
    assert!(world.disk.rows.is_empty());
    assert_eq!(world.delivery.dead.bytes, 0);
}

#[test]
fn what_is_sent_again_does_not_hold_up_what_comes_the_first_time() {
    let history = entries(&[1; 40]);
    let mut world = World::new(history.clone(), rules(None));
    let mut from = 20;
    let again: Vec<Again> = history[..20]
        .iter()
        .map(|entry| Again { entry: Arc::clone(entry), letter: None })
        .collect();
    assert_eq!(world.delivery.again(&again, world.now), 20);
    world.delivery.window.taken(history[19].offset);
    world.take(20, &mut from);
    world.act();
    let mut live = Vec::new();
    for _ in 0..40 {
        assert_eq!(world.sent.len(), 1, "one at a time");
        live.push(world.sent[0].0 & AGAIN == 0);
        world.answer(0, success());
        world.act();
    }
    assert!(live.chunks(2).all(|two| two[0] != two[1]), "by turns: {live:?}");
    assert_eq!(world.delivered.len(), 40);
}

#[test]
fn a_gap_is_recorded_once() {
    let mut world = World::new(entries(&[1]), rules(None));
    world.take(1, &mut 0);
    world.act();
    world.answer(0, success());
    let missed = Missed { after: Offset::durable(3), until: Offset::durable(9) };
    world.delivery.missed(missed, "made up", world.now);
    world.save();
    let about = world.disk.dead.values().map(|letter| letter.about.clone()).collect::<Vec<_>>();
    assert!(matches!(about.as_slice(), [About::Gap(gap)] if *gap == missed));
    assert!(world.disk.position >= Offset::durable(9));
}

#[test]
fn a_clock_that_jumps_neither_freezes_nor_storms() {
    let mut world = World::new(entries(&[1, 2, 3]), rules(Some(KeyOf::Topic)));
    world.take(9, &mut 0);
    for _ in 0..3 {
        world.act();
        while !world.sent.is_empty() {
            world.answer(0, failing(Fault::TimedOut));
        }
        world.pass(Duration::from_secs(1));
    }
    world.act();
    world.save();
    let rows = world.disk.rows.len();
    assert!(rows > 0);
    // Back by a year, then a new process: no wait is longer than what was planned.
    world.now.wall = 0;
    world.crash();
    let planned = world.disk.rows.values().map(|(row, _)| row.wait).max().unwrap();
    world.pass(planned);
    world.act();
    let again = world.sent.len();
    assert!(again > 0, "they are tried again");
}

#[test]
fn what_waited_for_room_is_tried_once_more_with_what_is_delivered_again() {
    let mut world = World::new(entries(&[1, 1, 1]), rules(None));
    world.delivery.dead.rows = crate::limits::DEAD_LETTERS_MAX - 1;
    world.take(9, &mut 0);
    world.act();
    world.answer(0, failing(Fault::Never));
    world.act();
    world.answer(0, failing(Fault::Never));
    world.pass(Duration::from_secs(5));
    world.act();
    assert!(world.delivery.lacks().is_some() && world.sent.is_empty(), "{:?}", world.sent);
    world.save();
    let letter = world.disk.dead.values().next().unwrap().clone();
    let About::Entry { entry, .. } = &letter.about else { panic!("{letter:?}") };
    let letter = Some((letter.number, letter.weight()));
    let again = Again { entry: Arc::clone(entry), letter };
    assert_eq!(world.delivery.again(&[again], world.now), 1);
    world.act();
    while !world.sent.is_empty() {
        world.answer(0, success());
        world.act();
    }
    world.save();
    assert_eq!(world.delivered.len(), 3);
    assert!(world.disk.dead.is_empty() && world.delivery.lacks().is_none());
}
