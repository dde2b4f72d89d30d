//! An error in one line, with what lies behind it.

use std::error::Error;

/// An error with what caused it, which is where the reason stands.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the set cannot be read")]
    struct Unread(#[source] std::io::Error);

    #[test]
    fn every_cause_is_said_once_from_the_outside_in() {
        let inner = std::io::Error::other(std::io::Error::other("no route"));
        assert_eq!(causes(&Unread(inner)), "the set cannot be read: no route");
        assert_eq!(causes(&std::io::Error::other("alone")), "alone");
    }
}
