//! What need not be kept any more, in whole segments. Decides only; deletes nothing.

use std::sync::Arc;

use super::segment::Segment;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::options::Keep;

/// Of a limit on age, size or number, one segment takes up so small a part.
const PARTS: u64 = 8;

/// The size of a new segment, so that whole segments are a fine enough measure.
pub(crate) fn segment_bytes(keep: &Keep, wanted: u64) -> u64 {
    let kept = keep.bytes.map_or(u64::MAX, |bytes| bytes / PARTS);
    wanted.min(kept).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// Whether the oldest segment need not be kept. `observed` is how long the hub has been running,
/// in milliseconds.
pub(crate) fn is_expired(keep: &Keep, segments: &[Arc<Segment>], observed: u64) -> bool {
    let (Some(oldest), true) = (segments.first(), segments.len() > 1) else { return false };
    let (closed, count) = {
        let contents = oldest.contents();
        (contents.closed, contents.count)
    };
    let old = keep
        .age
        .zip(closed)
        .is_some_and(|(age, closed)| u128::from(observed.saturating_sub(closed)) > age.as_millis());
    let total: u64 = segments.iter().map(|segment| segment.bytes()).sum();
    let large = keep.bytes.is_some_and(|bytes| total > bytes);
    let all: u64 = segments.iter().map(|segment| segment.contents().count).sum();
    let many = keep.entries.is_some_and(|entries| all - count >= entries);
    old || large || many
}

/// Whether the segment that is written should end, so that what it holds can expire.
pub(crate) fn is_due(keep: &Keep, active: &Segment, observed: u64) -> bool {
    let age = u128::from(observed.saturating_sub(active.header.observed));
    let count = active.contents().count;
    let old = keep.age.is_some_and(|most| age * u128::from(PARTS) > most.as_millis());
    let many = keep.entries.is_some_and(|most| count > (most / PARTS).max(1));
    count > 0 && (old || many)
}
