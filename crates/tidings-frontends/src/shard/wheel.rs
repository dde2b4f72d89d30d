//! When each of thousands of receivers is to be looked at. Knows no receiver: only numbers and
//! times. A number may come up when nothing is to be done for it; nobody is forgotten.

use std::time::Duration;

use crate::limits::{WHEEL_SLOTS, WHEEL_TICK};

/// A wheel of times, one turn of which is as long as most waits.
pub(super) struct Wheel {
    slots: Vec<Vec<u32>>,
    /// The next tick that has not come up.
    next: u64,
    /// Numbers in it.
    length: usize,
    /// Nothing comes up before this tick.
    soonest: u64,
}

impl Wheel {
    pub(super) fn new() -> Wheel {
        let slots = (0..WHEEL_SLOTS).map(|_| Vec::new()).collect();
        Wheel { slots, next: 0, length: 0, soonest: 0 }
    }

    /// The tick in which `time` lies, at its end.
    pub(super) fn tick(time: Duration) -> u64 {
        let tick = WHEEL_TICK.as_millis();
        u64::try_from(time.as_millis().div_ceil(tick)).unwrap_or(u64::MAX)
    }

    fn slot(tick: u64) -> usize {
        usize::try_from(tick % WHEEL_SLOTS as u64).unwrap_or_default()
    }

    /// Has `number` come up at `time`, or before when that is more than a turn away. Answers the
    /// tick in which that is.
    pub(super) fn add(&mut self, number: u32, time: Duration) -> u64 {
        let tick = Wheel::tick(time).clamp(self.next, self.next + WHEEL_SLOTS as u64 - 1);
        if let Some(slot) = self.slots.get_mut(Wheel::slot(tick)) {
            slot.push(number);
            self.length += 1;
            self.soonest = self.soonest.min(tick);
        }
        tick
    }

    /// Moves what comes up until `now` to `due`, each with its tick.
    pub(super) fn turn(&mut self, now: Duration, due: &mut Vec<(u32, u64)>) {
        let now = u64::try_from(now.as_millis() / WHEEL_TICK.as_millis()).unwrap_or(u64::MAX);
        if self.length == 0 {
            self.next = self.next.max(now.saturating_add(1));
        }
        while self.next <= now {
            let tick = self.next;
            if let Some(slot) = self.slots.get_mut(Wheel::slot(tick)) {
                self.length -= slot.len();
                due.extend(slot.drain(..).map(|number| (number, tick)));
                // What thousands at a time needed is given back.
                slot.shrink_to(64);
            }
            self.next += 1;
        }
    }

    /// When something comes up next.
    pub(super) fn next(&mut self) -> Option<Duration> {
        if self.length == 0 {
            return None;
        }
        let mut ticks = self.next.max(self.soonest)..self.next + WHEEL_SLOTS as u64;
        let tick = ticks
            .find(|tick| self.slots.get(Wheel::slot(*tick)).is_some_and(|slot| !slot.is_empty()))?;
        self.soonest = tick;
        Some(WHEEL_TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, milliseconds: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.turn(Duration::from_millis(milliseconds), &mut due);
        due.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn numbers_come_up_at_their_time_and_not_before() {
        let mut wheel = Wheel::new();
        wheel.turn(Duration::from_secs(5), &mut Vec::new());
        assert_eq!(wheel.next(), None);
        wheel.add(1, Duration::from_millis(5_500));
        wheel.add(2, Duration::from_millis(5_205));
        wheel.add(3, Duration::from_millis(1));
        assert_eq!(due(&mut wheel, 5_020), [3], "what is past comes up at once");
        assert_eq!(wheel.next(), Some(Duration::from_millis(5_210)));
        assert!(due(&mut wheel, 5_204).is_empty());
        assert_eq!(due(&mut wheel, 5_499), [2]);
        assert_eq!(due(&mut wheel, 9_000), [1]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn what_is_sooner_than_what_was_next_is_next() {
        let mut wheel = Wheel::new();
        wheel.add(1, Duration::from_secs(5));
        assert_eq!(wheel.next(), Some(Duration::from_secs(5)));
        wheel.add(2, Duration::from_secs(1));
        assert_eq!(wheel.next(), Some(Duration::from_secs(1)));
        assert_eq!(due(&mut wheel, 1_010), [2]);
        assert_eq!(wheel.next(), Some(Duration::from_secs(5)));
        wheel.add(3, Duration::from_secs(3));
        wheel.add(4, Duration::from_secs(4));
        assert_eq!(wheel.next(), Some(Duration::from_secs(3)));
        assert_eq!(due(&mut wheel, 5_010), [3, 4, 1]);
    }

    #[test]
    fn what_is_far_away_comes_up_within_a_turn() {
        let mut wheel = Wheel::new();
        let turn = WHEEL_TICK * WHEEL_SLOTS as u32;
        wheel.add(1, turn * 10);
        let next = wheel.next().unwrap();
        assert!(next < turn && next >= turn - WHEEL_TICK * 2, "{next:?}");
        let mut all = Vec::new();
        wheel.turn(turn, &mut all);
        assert_eq!(all.len(), 1);
    }
}
