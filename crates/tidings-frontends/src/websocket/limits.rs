//! Every bound of sockets, with its reason.

use std::time::Duration;

/// Payload of a control frame in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Fragments of one message that may be as small as they like: libraries that cut messages make
/// pieces of kilobytes.
pub const FRAGMENTS_MAX: usize = 1_024;
/// Bytes of a message for which it may have one fragment more: heads cost less than what they
/// stand before.
pub const FRAGMENT_BYTES_USUAL: usize = 64;
/// Bytes of all messages of all sockets that are not whole yet: little beside a machine's memory,
/// and in half of it, which is for the first bytes of each message, five hundred clients can say as
/// much as strangers may at the same time.
pub const ASSEMBLING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a message of somebody who may not publish: a token, or as many matchers as one command
/// may have.
pub const SOCKET_MESSAGE_BYTES_DEFAULT: usize = 64 * 1024;
/// Bytes of a publisher's message unless the operator says otherwise: the largest update by
/// default, whose text may take twice its bytes in JSON.
pub const SOCKET_PUBLISH_BYTES_DEFAULT: usize = 2 * 1024 * 1024;
/// Matchers of all subscriptions of one socket unless the operator says otherwise, as of a stream.
pub const SOCKET_SUBSCRIPTIONS_DEFAULT: usize = 100;
/// The most that the operator can allow: to add one looks at all of them.
pub const SOCKET_SUBSCRIPTIONS_MAX: usize = 1_000;
/// Frames that a client may send in a second, in the long run, unless the operator says otherwise.
pub const SOCKET_PER_SECOND_DEFAULT: u32 = 50;
/// Frames at a time after silence unless the operator says otherwise: a page that subscribes to
/// everything it shows.
pub const SOCKET_BURST_DEFAULT: u32 = 200;
/// Bytes of a subscription's name.
pub const SOCKET_NAME_BYTES_MAX: usize = 128;
/// Bytes of what a client calls a command, where that is a text.
pub const SOCKET_REFERENCE_BYTES_MAX: usize = 64;
/// Where numbers end that every JSON library reads as they are.
pub const SOCKET_REFERENCE_END: u64 = 1 << 53;
/// Commands without sense in a row that a client is told about. Then it is not one that learns.
pub const SOCKET_MISTAKES_MAX: u32 = 100;
/// Time for a token where nobody is let in without: it is sent as soon as the socket is open.
pub const SOCKET_LOGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a message where everything is said back: as much as suites of tests send.
pub(crate) const SOCKET_SUITE_MESSAGE_BYTES: usize = 17 * 1024 * 1024;
/// Frames in a second there: as many as come.
pub(crate) const SOCKET_PER_SECOND_SUITE: u32 = 1_000_000;
