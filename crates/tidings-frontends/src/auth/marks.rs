//! Marks that tell one of the operator's keys from another without saying anything about it: hashes
//! under a secret of this process.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

/// The mark of a value in this process.
pub(super) fn mark<T: Hash>(value: &T) -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_mark_and_another_value_another() {
        assert_eq!(mark(&"a"), mark(&"a"));
        assert_ne!(mark(&"a"), mark(&"b"));
    }
}
