//! How many files and sockets this process may have open. Knows no listener.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::DESCRIPTORS_RESERVED;

/// Raises the limit of open descriptors as far as the system lets this process: the usual soft
/// limit of 1,024 is for programs of another kind. Gives the limit that holds now; `None` is
/// without one.
pub(super) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            current
        }
    }
}

/// Connections of clients that `limit` descriptors leave room for, so that clients who take all
/// of them cannot keep the history from opening a file. A very low limit is halved.
pub(super) fn connections_possible(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(DESCRIPTORS_RESERVED).max(limit / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_history() {
        assert_eq!(connections_possible(Some(20_000)), 20_000 - DESCRIPTORS_RESERVED);
        assert_eq!(connections_possible(Some(64)), 32);
        assert_eq!(connections_possible(Some(0)), 1);
        assert!(connections_possible(None) > 1_000_000);
    }
}
