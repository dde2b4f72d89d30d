//! What tells one of the operator's keys from another. Marks say nothing about it: they are hashes
//! under a secret of this process. Prints are the same in every process, and are not to be shown.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

use aws_lc_rs::digest::{Context, SHA256};

/// A hash of what a key is made of. Of a secret that can be guessed it is as good as the secret.
pub(super) type Print = [u8; 32];

/// The mark of a value in this process.
pub(super) fn mark<T: Hash>(value: &T) -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one(value)
}

/// The print of these parts, of which none can be taken for a part of another.
pub(super) fn print(parts: &[&[u8]]) -> Print {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut print = Print::default();
    print.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    print
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_mark_and_another_value_another() {
        assert_eq!(mark(&"a"), mark(&"a"));
        assert_ne!(mark(&"a"), mark(&"b"));
    }

    #[test]
    fn a_print_tells_parts_apart() {
        assert_eq!(print(&[b"ab", b"c"]), print(&[b"ab", b"c"]));
        assert_ne!(print(&[b"ab", b"c"]), print(&[b"a", b"bc"]));
        assert_ne!(print(&[b"abc"]), print(&[b"ab", b"c"]));
    }
}
