//! The secrets that tokens and URLs count by, and what is opened by them stands on. Knows no
//! request, and not when there are others.

use std::time::Duration;

use super::signed::{NoSeal, Signer};
use super::token::Secret;
use super::{KEY, NoCourier, Options};
use crate::auth::mark_of;

/// What a reload replaces.
pub struct Keys {
    pub(super) secret: Secret,
    pub(super) signer: Signer,
    /// What grants of its tokens stand on.
    pub(super) mark: u64,
    /// What grants of URLs stand on that an older program signed.
    pub(super) old_mark: Option<u64>,
    pub(super) sign_lifetime: Duration,
}

impl Keys {
    pub(super) fn new(own: &[u8; 32], options: &Options) -> Result<Keys, NoCourier> {
        let Options { jwt_secret, key_secret, sign_lifetime, .. } = options;
        let signer = Signer::new(own, key_secret.as_deref(), jwt_secret)?;
        let parts = [KEY.as_bytes(), jwt_secret.as_bytes()];
        let with = |key: &String| mark_of(&[&parts[..], &[key.as_bytes()]].concat());
        Ok(Keys {
            secret: Secret::new(jwt_secret),
            signer: signer.ok_or(NoSeal::Damaged)?,
            mark: mark_of(&parts),
            old_mark: key_secret.as_ref().map(with),
            sign_lifetime: *sign_lifetime,
        })
    }
}
