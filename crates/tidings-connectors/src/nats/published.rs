//! Which messages of a stream the hub has already: one that the server gives again is known by its
//! place, however much came in between. Knows no server and no hub.

use std::collections::{BTreeMap, HashMap, VecDeque};

use tidings_core::Line;

use crate::limits::{NATS_OWED_MAX, NATS_PUBLISHED_MAX};

/// Where a message stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// Its number.
    pub(super) number: u64,
    /// When the stream took it, in nanoseconds since 1970. It tells a stream from one of the same
    /// name that was there before, and from one that lost its end and gave the number again.
    pub(super) time: u64,
}

impl Place {
    /// The place of a position in this stream, as [`Place::position`] writes it.
    fn parse(position: &str, stream: &str) -> Option<Place> {
        let (number, time) = position.strip_prefix(stream)?.strip_prefix('/')?.split_once('/')?;
        Some(Place { number: number.parse().ok()?, time: time.parse().ok()? })
    }

    /// The position of the message in the upstream system.
    pub(super) fn position(self, stream: &str) -> String {
        let Place { number, time } = self;
        format!("{stream}/{number}/{time}")
    }
}

/// What a server says of its consumer: messages behind the first number, up to the second, were
/// given, and some of them may not be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Given {
    /// Up to here all are acknowledged.
    pub(super) acknowledged: u64,
    /// Up to here all were given.
    pub(super) until: u64,
}

/// Places of messages that the hub has: those that the server may give again, as far as bounds
/// allow. It never says so of one that the hub does not have.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// What the server had given and may give again, however much comes before that.
    owed: BTreeMap<u64, u64>,
    /// Times of what came since, by number.
    recent: HashMap<u64, u64>,
    /// Their numbers, as they came.
    order: VecDeque<u64>,
}

impl Published {
    /// What the hub has from an earlier run, oldest first.
    pub(super) fn recalled(stream: &str, positions: &[Line]) -> Published {
        let mut published = Published::default();
        let places = positions.iter().filter_map(|line| Place::parse(line.as_str(), stream));
        places.for_each(|place| published.add(place));
        published
    }

    /// The hub has this one.
    pub(super) fn add(&mut self, Place { number, time }: Place) {
        // What has the number now is another message than what had it before.
        self.owed.remove(&number);
        if self.recent.insert(number, time).is_none() {
            self.order.push_back(number);
        }
        if self.order.len() > NATS_PUBLISHED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.recent.remove(&oldest);
        }
    }

    /// Whether the hub has it for certain.
    pub(super) fn has(&self, place: Place) -> bool {
        let of = |time: &u64| *time == place.time;
        self.recent.get(&place.number).is_some_and(of)
            || self.owed.get(&place.number).is_some_and(of)
    }

    /// Forgets what the server never gives again, and what it has not given yet: a consumer that is
    /// made anew begins where its maker wants, and is meant to bring all of that. The rest is not
    /// pushed out by what comes from now on.
    pub(super) fn keep(&mut self, given: Given) {
        self.order.clear();
        self.owed.extend(self.recent.drain());
        self.owed.retain(|number, _| *number > given.acknowledged && *number <= given.until);
        while self.owed.len() > NATS_OWED_MAX {
            self.owed.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_of_this_stream_are_recalled() {
        let lines = ["CMS/1/10", "CMSX/2/10", "CMS/3", "CMS/x/1", "CMS/4/10", "CMS/4/11"];
        let lines = lines.map(|text| Line::parse(text).unwrap());
        let published = Published::recalled("CMS", &lines);
        let has = |number, time| published.has(Place { number, time });
        assert!(has(1, 10) && has(4, 11));
        assert!(!has(2, 10) && !has(3, 10) && !has(4, 10));
        assert_eq!(Place { number: 1, time: 10 }.position("CMS"), "CMS/1/10");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_go() {
        let mut published = Published::default();
        let place = |number| Place { number, time: 1 };
        let max = NATS_PUBLISHED_MAX as u64;
        (0..max + 10).for_each(|number| published.add(place(number)));
        assert!(!published.has(place(9)) && published.has(place(10)));
        assert_eq!((published.recent.len(), published.order.len()), (max as usize, max as usize));
        // What is owed stays, whatever comes behind it.
        let kept = max + 5;
        published.keep(Given { acknowledged: kept, until: u64::MAX });
        (0..max + 10).map(|number| place(2 * max + number)).for_each(|new| published.add(new));
        assert!(published.has(place(kept + 1)) && !published.has(place(kept)));
        for _ in 0..4 {
            published.keep(Given { acknowledged: 0, until: u64::MAX });
            (0..max).for_each(|number| published.add(place(10 * max + number)));
        }
        assert!(published.owed.len() <= NATS_OWED_MAX);
    }

    /// What happens to a consumer.
    #[derive(Debug, Clone)]
    enum Event {
        /// The hub takes a message.
        Published(u64, u64),
        /// The server is asked how its consumer stands.
        Asked(u64, u64),
        /// The consumer is made anew.
        MadeAnew,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => (0..40_u64, 0..3_u64).prop_map(|(number, time)| Event::Published(number, time)),
            3 => (0..40_u64, 0..40_u64).prop_map(|(from, until)| Event::Asked(from, until)),
            1 => Just(Event::MadeAnew),
        ]
    }

    proptest! {
        #[test]
        fn only_what_the_hub_has_is_known_and_all_that_may_come_again(
            events in prop::collection::vec(event(), 0..60),
        ) {
            let mut published = Published::default();
            // All that the hub ever took, and what of that may come again under each number.
            let (mut taken, mut open) = (HashSet::new(), HashMap::new());
            for event in events {
                match event {
                    Event::Published(number, time) => {
                        taken.insert((number, time));
                        open.insert(number, time);
                        published.add(Place { number, time });
                    }
                    Event::Asked(acknowledged, until) => {
                        open.retain(|number, _| (acknowledged + 1..=until).contains(number));
                        published.keep(Given { acknowledged, until });
                    }
                    Event::MadeAnew => {
                        open.clear();
                        published.keep(Given { acknowledged: 0, until: 0 });
                    }
                }
                for number in 0..41 {
                    for time in 0..4 {
                        let has = published.has(Place { number, time });
                        prop_assert!(!has || taken.contains(&(number, time)));
                        prop_assert_eq!(has, open.get(&number) == Some(&time));
                    }
                }
            }
        }
    }
}
