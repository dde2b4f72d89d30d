//! Where topics of audiences are among all topics. Knows nobody who uses them.

use std::fmt::Write;

use tidings_core::{AUDIENCE_PREFIX, BadText, Topic};

/// The topic of what is for everybody of an audience. No topic of the audience equals it.
pub(super) fn broadcast(audience: &str) -> String {
    format!("{AUDIENCE_PREFIX}{audience}")
}

/// What an audience calls `text`, as a topic of the hub: every byte is encoded that is not
/// unreserved in a URI (RFC 3986 section 2.3), so nothing in it means anything.
///
/// # Errors
///
/// When it is longer than topics are.
pub fn topic(audience: &str, text: &str) -> Result<Topic, BadText> {
    let mut encoded = broadcast(audience);
    encoded.push(':');
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Topic::parse(&encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_topic_is_called_means_nothing_to_the_hub() {
        let shown = |text| topic("a-1", text).unwrap().as_str().to_owned();
        assert_eq!(shown("system/events"), "urn:tidings:audience:a-1:system%2Fevents");
        assert_eq!(shown("/../*:\0\n é"), "urn:tidings:audience:a-1:%2F..%2F%2A%3A%00%0A%20%C3%A9");
        assert_eq!(shown(""), "urn:tidings:audience:a-1:");
        assert_eq!(broadcast("a-1"), "urn:tidings:audience:a-1");
        assert!(topic("a-1", &"é".repeat(255)).is_ok(), "whatever can be noted down");
        assert!(topic("a-1", &"x".repeat(4_096)).is_err());
    }
}
