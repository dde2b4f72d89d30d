//! Every bound of the load generator and the floors, with its reason. Knows nothing of scenarios:
//! how many subscribers there are is theirs.

use std::time::Duration;

/// The head of a request or answer, in bytes: a hub's longest answer has less than 1 KiB, and a
/// hundred patterns stand in one request.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A line of a stream, in bytes: beyond it the stream is not what we think it is.
pub(crate) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// What one read takes at most. A floor that coalesces sixteen frames of 330 bytes needs 6 KiB.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// Subscribers who tell how far the server is: one with a token and one without, since reading them
/// one update at a time costs as much as reading hundreds of others.
pub(crate) const WATCHERS: usize = 2;

/// What is kept of the bytes that many subscribers get alike, before it is asked who still needs
/// them: a few hundred frames, which stay in a CPU's cache.
pub(crate) const SCRIPT_BYTES: usize = 128 * 1024;

/// What is kept of them at most: a window of 64 updates of 64 KiB. Who is farther behind than half
/// of it is parsed again.
pub(crate) const SCRIPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Updates whose fate is remembered, a power of two: more than any window, and more than a hub that
/// falls behind at 20 updates a second is behind at the end of a slice.
pub(crate) const REMEMBERED_MAX: usize = 1 << 16;

/// Connections that are being opened at once, unless a storm is what is asked for.
pub(crate) const OPENING_MAX: usize = 100;

/// Connections from one loopback address: below hubs' limits for one address, and far below the
/// number of ephemeral ports.
pub(crate) const CONNECTIONS_PER_SOURCE_MAX: usize = 250;

/// Opening everybody may take so long. A million streams take a minute.
pub(crate) const OPEN_TIMEOUT: Duration = Duration::from_secs(300);

/// After a slice, what is on its way has so long to arrive; then it is lost. One update to a
/// million streams takes a quarter of it.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A server has so long until it accepts connections.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(20);

/// CPU that others used during a slice, in cores, above which its figures say nothing.
pub(crate) const FOREIGN_CORES_MAX: f64 = 0.25;

/// What a slow reader takes at each turn of its own, in bytes, and how often: about 1 KiB a second.
pub(crate) const SLOW_READ_BYTES_MAX: usize = 1024;

/// The receive buffer of a slow reader, in bytes: small, so that the hub notices soon.
pub(crate) const SLOW_BUFFER_BYTES_MAX: usize = 4096;

/// Visitors that are there at a time: enough for ten thousand a second, each of which takes less
/// than a millisecond.
pub(crate) const VISITORS_AT_ONCE: usize = 16;

/// Threads of sockets that change what they listen to: enough for ten thousand changes a second.
pub(crate) const CHANGERS_AT_ONCE: usize = 4;

/// A visitor waits so long for its answer; then the server does not answer.
pub(crate) const VISIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Events that one turn of a loop takes from the kernel.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Looks at the sockets in one turn of the batch floor: more than publishers are in flight.
pub(crate) const LOOKS_MAX: usize = 64;
