//! What need not be kept any more, in whole segments. Decides only; deletes nothing.

use std::sync::Arc;

use super::segment::Segment;
use crate::hold::Holds;
use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::options::Keep;

/// Of a limit on age, size or number, one segment takes up so small a part.
const PARTS: u64 = 8;

/// The size of a new segment, so that whole segments are a fine enough measure.
pub(crate) fn segment_bytes(keep: &Keep, wanted: u64) -> u64 {
    let kept = keep.bytes.map_or(u64::MAX, |bytes| bytes / PARTS);
    wanted.min(kept).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
}

/// How many of the oldest segments need not be kept, whoever needs them. `observed` is how long the
/// hub has been running, in milliseconds. The one that is written always stays.
fn expired(keep: &Keep, segments: &[Arc<Segment>], observed: u64) -> usize {
    let Some((_, ended)) = segments.split_last() else { return 0 };
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes()).sum();
    let mut entries: u64 = segments.iter().map(|segment| segment.contents().count).sum();
    let is_expired = |segment: &&Arc<Segment>| {
        let (closed, count) = {
            let contents = segment.contents();
            (contents.closed, contents.count)
        };
        let old = keep.age.zip(closed).is_some_and(|(age, closed)| {
            u128::from(observed.saturating_sub(closed)) > age.as_millis()
        });
        let large = keep.bytes.is_some_and(|most| bytes > most);
        entries = entries.saturating_sub(count);
        bytes = bytes.saturating_sub(segment.bytes());
        let many = keep.entries.is_some_and(|least| entries >= least);
        old || large || many
    };
    ended.iter().take_while(is_expired).count()
}

/// How many of the oldest segments are let go: who need not be kept, except those that somebody
/// still needs, unless these are too large.
pub(crate) fn let_go(
    keep: &Keep,
    holds: &Holds,
    segments: &[Arc<Segment>],
    observed: u64,
) -> usize {
    let expired = segments.get(..expired(keep, segments, observed)).unwrap_or_default();
    let sum = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.bytes()).sum();
    let (mut all, mut beyond): (u64, u64) = (sum(segments), sum(expired));
    let goes = |segment: &&Arc<Segment>| {
        let larger = keep.bytes.map_or(beyond, |most| all.saturating_sub(most));
        all = all.saturating_sub(segment.bytes());
        beyond = beyond.saturating_sub(segment.bytes());
        !holds.keep(segment.contents().last, larger)
    };
    expired.iter().take_while(goes).count()
}

/// Whether the segment that is written should end, so that what it holds can expire.
pub(crate) fn is_due(keep: &Keep, active: &Segment, observed: u64) -> bool {
    let age = u128::from(observed.saturating_sub(active.header.observed));
    let count = active.contents().count;
    let old = keep.age.is_some_and(|most| age * u128::from(PARTS) > most.as_millis());
    let many = keep.entries.is_some_and(|most| count > (most / PARTS).max(1));
    count > 0 && (old || many)
}
