//! A secret that people present, such as the operator's token: kept as its hash, compared in
//! constant time, never shown. Knows no request.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};

/// The hash of a secret.
#[derive(Clone)]
pub struct Secret(Digest);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// The one with this text.
    pub fn new(text: &str) -> Secret {
        Secret(digest(&SHA256, text.as_bytes()))
    }

    /// Whether somebody presented it. Takes as long whatever is wrong with a wrong one.
    pub fn is(&self, presented: &str) -> bool {
        let presented = digest(&SHA256, presented.as_bytes());
        verify_slices_are_equal(self.0.as_ref(), presented.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_again_and_never_shown() {
        let secret = Secret::new("hunter2");
        assert!(secret.is("hunter2"));
        assert!(!secret.is("hunter") && !secret.is("hunter22") && !secret.is(""));
        assert_eq!(format!("{secret:?}"), "Secret");
    }
}
