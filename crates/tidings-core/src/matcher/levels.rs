//! Patterns over levels with two wildcards, as MQTT filters and NATS subjects are. Knows neither
//! protocol's separator nor signs.

/// One level of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level<'p> {
    /// This word.
    Word(&'p str),
    /// Any one word.
    One,
    /// All words that follow; always the last level.
    Rest,
}
