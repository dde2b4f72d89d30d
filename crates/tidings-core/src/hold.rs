//! Places in the history whose following entries are still needed. Knows neither who needs them nor
//! how the history is stored; what is needed for too long goes all the same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::hub::Hub;
use crate::update::Offset;

/// What is needed, as the history asks for it.
#[derive(Debug)]
pub(crate) struct Holds {
    /// Bytes beyond what is kept anyway that stay because of holds.
    bytes_max: u64,
    /// The number of the oldest place, so that asking costs no lock; the largest without a hold.
    oldest: AtomicU64,
    /// Places, and how many hold each.
    places: Mutex<BTreeMap<Offset, usize>>,
}

/// Needs what follows its place in the history, until it is dropped. Retention lets nothing behind
/// it go while what is kept because of all holds is no larger than
/// [`crate::HistoryOptions::hold_bytes`]; beyond that, the oldest goes and its reader misses it.
/// Ephemeral updates are not held.
#[derive(Debug)]
pub struct HistoryHold {
    holds: Arc<Holds>,
    position: Offset,
}

impl Hub {
    /// Holds what follows `position`, as far as it is still there. Needs little: a thousand of them
    /// cost the history no more than one. A start that has many places to look up holds
    /// [`Offset::ZERO`] first of all, until it has.
    pub fn hold_history(&self, position: Offset) -> HistoryHold {
        let holds = Arc::clone(&self.inner.shared.holds);
        holds.change(None, Some(position));
        HistoryHold { holds, position }
    }

    /// The smallest place that is held, if one is.
    pub fn oldest_hold(&self) -> Option<Offset> {
        let places = self.inner.shared.holds.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.first_key_value().map(|(place, _)| *place)
    }
}

impl HistoryHold {
    /// The place behind which it holds.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// From now on it holds what follows `position`. What a place before the old one needs may be
    /// gone already.
    pub fn move_to(&mut self, position: Offset) {
        if position != self.position {
            self.holds.change(Some(self.position), Some(position));
            self.position = position;
        }
    }
}

impl Drop for HistoryHold {
    fn drop(&mut self) {
        self.holds.change(Some(self.position), None);
    }
}

impl Holds {
    pub(crate) fn new(bytes_max: u64) -> Holds {
        Holds { bytes_max, oldest: AtomicU64::new(u64::MAX), places: Mutex::default() }
    }

    /// Whether the durable entry `number`, which need not be kept any more, stays for a hold.
    /// `beyond` is by how many bytes the history is larger than what is kept anyway.
    pub(crate) fn keep(&self, number: u64, beyond: u64) -> bool {
        number > self.oldest.load(Ordering::Acquire) && beyond <= self.bytes_max
    }

    fn change(&self, left: Option<Offset>, entered: Option<Offset>) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = entered {
            *places.entry(place).or_insert(0) += 1;
        }
        if let Some(place) = left
            && let Some(count) = places.get_mut(&place)
        {
            *count -= 1;
            if *count == 0 {
                places.remove(&place);
            }
        }
        let oldest = places.first_key_value().map_or(u64::MAX, |(place, _)| place.durable);
        self.oldest.store(oldest, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::hub_tests::{FakeClock, in_memory, options, publish, update};
    use crate::limits::SEGMENT_BYTES_MIN;
    use crate::*;

    #[test]
    fn the_oldest_of_all_holds_counts_until_it_moves_or_ends() {
        let hub = hub_tests::memory_hub();
        assert_eq!(hub.oldest_hold(), None);
        let mut first = hub.hold_history(Offset::durable(5));
        let same = hub.hold_history(Offset::durable(5));
        let later = hub.hold_history(Offset { durable: 5, sub: 3 });
        assert_eq!(hub.oldest_hold(), Some(Offset::durable(5)));
        first.move_to(Offset::durable(9));
        assert_eq!(hub.oldest_hold(), Some(same.position()));
        drop(same);
        assert_eq!(hub.oldest_hold(), Some(later.position()));
        drop(later);
        assert_eq!(hub.oldest_hold(), Some(Offset::durable(9)));
        first.move_to(Offset::ZERO);
        assert_eq!(hub.oldest_hold(), Some(Offset::ZERO));
        drop(first);
        assert_eq!(hub.oldest_hold(), None);
    }

    const KEPT_BYTES: u64 = 3 * 1024 * 1024;

    /// A hub that keeps so little of what is published that most of it goes at once.
    struct Place {
        folder: tempfile::TempDir,
        clock: Arc<FakeClock>,
        hub: Hub,
    }

    impl Place {
        fn open(on_disk: bool, keep: Keep, hold_bytes: u64) -> Place {
            let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(FakeClock::default()));
            let history = HistoryOptions { keep, hold_bytes, ..in_memory() };
            let history = match on_disk {
                false => history,
                true => HistoryOptions {
                    path: Some(folder.path().to_owned()),
                    durability: Durability::Written,
                    segment_bytes: SEGMENT_BYTES_MIN,
                    ..history
                },
            };
            let hub = Hub::open(options(history), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
            Place { folder, clock, hub }
        }

        /// Publishes so many entries of 16 KiB, a second apart.
        async fn publish(&self, count: usize) -> Offset {
            let mut last = Offset::ZERO;
            for _ in 0..count {
                last = publish(&self.hub, update("a", &"x".repeat(16 * 1024))).await.offset;
                self.clock.monotonic.fetch_add(1_000, Ordering::Relaxed);
            }
            // The writer lets go once in a while; nobody waits for that here.
            self.hub.inner.shared.history.maintain().unwrap();
            last
        }

        fn begins_behind(&self, place: Offset) -> bool {
            self.hub.before_first() > place
        }
    }

    fn keeps() -> [Keep; 3] {
        [
            Keep { bytes: Some(KEPT_BYTES), ..Keep::default() },
            Keep { age: Some(std::time::Duration::from_secs(50)), ..Keep::default() },
            Keep { entries: Some(100), ..Keep::default() },
        ]
    }

    #[tokio::test]
    async fn what_is_held_stays_until_the_hold_moves_or_ends() {
        for (on_disk, keep) in [false, true].into_iter().flat_map(|disk| keeps().map(|k| (disk, k)))
        {
            let place = Place::open(on_disk, keep, 1 << 30);
            place.publish(100).await;
            let mut hold = place.hub.hold_history(place.hub.last());
            let held = hold.position();
            let middle = place.publish(300).await;
            let end = place.publish(300).await;
            assert!(!place.begins_behind(held), "{on_disk} {keep:?}");
            assert!(place.begins_behind(Offset::durable(2)), "what nobody holds goes {keep:?}");
            hold.move_to(middle);
            place.publish(1).await;
            assert!(place.begins_behind(held), "{on_disk} {keep:?}");
            assert!(!place.begins_behind(middle), "{on_disk} {keep:?}");
            hold.move_to(end);
            let other = place.hub.hold_history(middle);
            place.publish(1).await;
            assert!(!place.begins_behind(middle), "{on_disk} {keep:?}");
            drop((hold, other));
            place.publish(1).await;
            assert!(place.begins_behind(middle), "{on_disk} {keep:?}");
        }
    }

    #[tokio::test]
    async fn what_is_held_for_too_long_goes_and_its_reader_is_told() {
        let hold_bytes = 2 * KEPT_BYTES;
        for on_disk in [false, true] {
            let keep = Keep { bytes: Some(KEPT_BYTES), ..Keep::default() };
            let place = Place::open(on_disk, keep, hold_bytes);
            let first = place.publish(1).await;
            let _hold = place.hub.hold_history(first);
            let mut gone = 0;
            while !place.begins_behind(first) {
                gone += 16 * 1024;
                place.publish(1).await;
            }
            let most = KEPT_BYTES + hold_bytes;
            assert!(gone > most - most / 8 && gone < most + most / 8, "{on_disk} {gone}");
            place.publish(500).await;
            let kept = place.hub.last().durable - place.hub.before_first().durable;
            assert!(kept * 16 * 1024 > most - most / 4, "the rest is held still {on_disk} {kept}");
            assert!(kept * 16 * 1024 < most + most / 4, "but not more {on_disk} {kept}");
            let missed = place.hub.gap_after(first).unwrap();
            assert_eq!(missed, Missed { after: first, until: place.hub.before_first() });
        }
    }

    #[tokio::test]
    async fn what_was_held_is_there_after_a_restart_that_holds_everything_first() {
        let keep = Keep { bytes: Some(KEPT_BYTES), ..Keep::default() };
        let mut place = Place::open(true, keep, 1 << 30);
        let first = place.publish(1).await;
        let hold = place.hub.hold_history(first);
        place.publish(500).await;
        drop(hold);
        let history = HistoryOptions {
            path: Some(place.folder.path().to_owned()),
            durability: Durability::Written,
            keep,
            hold_bytes: 1 << 30,
            segment_bytes: SEGMENT_BYTES_MIN,
        };
        // In the folder of before, once nobody has it open.
        place.hub = hub_tests::memory_hub();
        let clock = Arc::clone(&place.clock) as Arc<dyn Clock>;
        place.hub = Hub::open(options(history), clock).unwrap();
        let everything = place.hub.hold_history(Offset::ZERO);
        place.publish(1).await;
        assert!(!place.begins_behind(first));
        let _hold = place.hub.hold_history(first);
        drop(everything);
        place.publish(1).await;
        assert!(!place.begins_behind(first));
    }

    #[tokio::test]
    async fn without_a_limit_on_bytes_only_what_is_held_counts() {
        let keep = Keep { entries: Some(400), ..Keep::default() };
        let place = Place::open(true, keep, KEPT_BYTES);
        let first = place.publish(1).await;
        let _hold = place.hub.hold_history(first);
        place.publish(400 + 100).await;
        assert!(!place.begins_behind(first), "100 entries are less than what may be held");
        place.publish(300).await;
        assert!(place.begins_behind(first), "400 entries are more");
    }
}
