//! How much looking may cost. Patterns come from strangers, and what many of them cost together is
//! no longer bounded by what one of them does. Knows no pattern and no clock: a step is what costs
//! about a nanosecond.

use crate::limits::MATCH_STEPS_MAX;

/// What is left of the steps that somebody may take. Once they are used up, nothing matches.
#[derive(Debug, Clone)]
pub struct Steps {
    left: u64,
    /// Whether more were asked for than were left.
    exceeded: bool,
}

impl Steps {
    /// What one update may cost.
    pub fn for_update() -> Steps {
        Steps { left: MATCH_STEPS_MAX, exceeded: false }
    }

    /// No bound: for patterns of the operator.
    pub fn unlimited() -> Steps {
        Steps { left: u64::MAX, exceeded: false }
    }

    /// Exactly so many.
    #[cfg(test)]
    pub(crate) fn exactly(left: u64) -> Steps {
        Steps { left, exceeded: false }
    }

    /// Whether somebody needed more than there were.
    pub fn are_used_up(&self) -> bool {
        self.exceeded
    }

    /// How many are left.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Takes `count` steps before they are walked; false, now and from now on, when there are
    /// fewer.
    pub(crate) fn take(&mut self, count: usize) -> bool {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => self.exceeded = true,
        }
        !self.exceeded
    }
}
