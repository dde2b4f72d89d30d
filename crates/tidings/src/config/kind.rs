//! The kinds of values that settings take. Knows no setting, and not how a value is read.

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A text that is never shown.
    Secret,
    File,
    Url,
    UrlPath,
    Boolean,
    Number {
        min: i64,
        max: i64,
    },
    Count,
    Duration,
    DurationOrOff,
    Size {
        min: u64,
        max: u64,
    },
    SizeOrOff,
    AddressOrOff,
    /// The name of a cookie.
    CookieOrOff,
    Addresses,
    Networks,
    Origins,
    Texts,
    Choice(&'static [&'static str]),
    Choices(&'static [&'static str]),
}

impl Kind {
    /// Whether several values may be given.
    pub(super) fn is_list(self) -> bool {
        matches!(
            self,
            Kind::Addresses | Kind::Networks | Kind::Origins | Kind::Texts | Kind::Choices(_)
        )
    }
}
