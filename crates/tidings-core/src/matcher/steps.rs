//! How much looking may cost. Patterns come from strangers, and what many of them cost together is
//! no longer bounded by what one of them does. Knows no pattern and no clock: a step is what costs
//! about a nanosecond.

use crate::limits::MATCH_STEPS_MAX;

/// What is left of the steps that somebody may take. Once they are used up, nothing matches.
#[derive(Debug, Clone)]
pub struct Steps {
    left: u64,
}

impl Steps {
    /// What one update may cost.
    pub fn for_update() -> Steps {
        Steps { left: MATCH_STEPS_MAX }
    }

    /// No bound: for patterns of the operator.
    pub fn unlimited() -> Steps {
        Steps { left: u64::MAX }
    }

    /// Exactly so many.
    #[cfg(test)]
    pub(crate) fn exactly(left: u64) -> Steps {
        Steps { left }
    }

    /// Whether none is left.
    pub fn are_used_up(&self) -> bool {
        self.left == 0
    }

    /// How many are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes `count` steps before they are walked; false, and none is left, when there are fewer.
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}
