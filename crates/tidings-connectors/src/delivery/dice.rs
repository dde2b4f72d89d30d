//! Chance for waits, so that a thousand sinks do not come back in the same instant. Not for
//! secrets.

use std::time::Duration;

/// A small generator of even numbers (SplitMix64): the same seed gives the same waits.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A wait between the half and the whole of `wait`.
    pub(super) fn shorten(&mut self, wait: Duration) -> Duration {
        let part = u32::try_from(self.roll() >> 32).unwrap_or(u32::MAX);
        let fraction = 0.5 + f64::from(part) / f64::from(u32::MAX) / 2.0;
        wait.mul_f64(fraction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_evenly_over_the_upper_half() {
        let mut dice = Dice::new(7);
        let waits: Vec<_> = (0..1000).map(|_| dice.shorten(Duration::from_secs(1))).collect();
        let half = Duration::from_millis(500);
        assert!(waits.iter().all(|wait| (half..=2 * half).contains(wait)));
        for tenth in 0..10 {
            let from = half + half / 10 * tenth;
            let inside =
                waits.iter().filter(|wait| (from..from + half / 10).contains(*wait)).count();
            assert!((50..200).contains(&inside), "{inside} in part {tenth}");
        }
    }
}
