//! The hub's own name for a connection. Random, so that it says nothing of who is behind it and
//! nobody can choose it.

use std::fmt;

/// A version 4 UUID (RFC 9562 section 5.4), written as `urn:uuid:…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Subscriber(u128);

impl Subscriber {
    /// Before every other one.
    pub(super) const FIRST: Subscriber = Subscriber(0);

    /// One that nobody has had before.
    pub(super) fn random() -> Subscriber {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!(%error, "no random bytes for a subscriber");
        }
        let random = u128::from_be_bytes(bytes);
        Subscriber(random & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62)
    }

    /// The one that `text` is, if it could be one. Only the written form counts.
    pub(super) fn parse(text: &str) -> Option<Subscriber> {
        let digits: String = text.strip_prefix("urn:uuid:")?.split('-').collect();
        let subscriber = Subscriber(u128::from_str_radix(&digits, 16).ok()?);
        (subscriber.to_string() == text).then_some(subscriber)
    }
}

impl fmt::Display for Subscriber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b, c) = (self.0 >> 96, self.0 >> 80 & 0xffff, self.0 >> 64 & 0xffff);
        let (d, e) = (self.0 >> 48 & 0xffff, self.0 & 0xffff_ffff_ffff);
        write!(formatter, "urn:uuid:{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m68_a_subscriber_is_a_random_uuid_in_one_spelling() {
        let one = Subscriber::random();
        let text = one.to_string();
        assert_eq!(text.len(), 45);
        assert_eq!(&text[23..24], "4");
        assert!("89ab".contains(&text[28..29]), "{text}");
        assert_eq!(Subscriber::parse(&text), Some(one));
        assert_ne!(Subscriber::random(), one);
        let others = ["", "urn:uuid:", &text[9..], &text.to_uppercase(), &text.replace('-', "")];
        for other in others {
            assert_eq!(Subscriber::parse(other), None, "{other}");
        }
        assert_eq!(Subscriber::parse(&format!("{text}0")), None);
    }
}
