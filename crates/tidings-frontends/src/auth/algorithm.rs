//! The signature algorithms of RFC 7518 and RFC 8037 that tokens may use. There is no `none`.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    VerificationAlgorithm,
};

/// A signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of RFC 7518 section 3.1 and RFC 8037")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// How signatures of an algorithm are verified.
pub(super) enum Verification {
    /// With the secret that made them.
    Secret(hmac::Algorithm),
    /// With a public key.
    Public(&'static dyn VerificationAlgorithm),
}

impl Algorithm {
    /// Every algorithm, in the order in which people read them.
    pub const ALL: [Algorithm; 13] = [
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::EdDsa,
    ];

    /// The algorithm of this JOSE name, which is case-sensitive. `Ed25519` (RFC 9864) is the newer
    /// name of what `EdDSA` means here.
    pub fn parse(name: &str) -> Option<Algorithm> {
        if name == "Ed25519" {
            return Some(Algorithm::EdDsa);
        }
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its JOSE name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// Whether its keys are public ones.
    pub(super) fn is_public(self) -> bool {
        !matches!(self, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512)
    }

    /// Whether its keys are RSA keys.
    pub(super) fn is_rsa(self) -> bool {
        matches!(
            self,
            Algorithm::Rs256
                | Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512
        )
    }

    pub(super) fn verification(self) -> Verification {
        use Verification::{Public, Secret};
        match self {
            Algorithm::Hs256 => Secret(hmac::HMAC_SHA256),
            Algorithm::Hs384 => Secret(hmac::HMAC_SHA384),
            Algorithm::Hs512 => Secret(hmac::HMAC_SHA512),
            Algorithm::Rs256 => Public(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Public(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Public(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Public(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Public(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Public(&RSA_PSS_2048_8192_SHA512),
            Algorithm::Es256 => Public(&ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => Public(&ECDSA_P384_SHA384_FIXED),
            Algorithm::Es512 => Public(&ECDSA_P521_SHA512_FIXED),
            Algorithm::EdDsa => Public(&ED25519),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_case_sensitive_and_none_is_no_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
        for name in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "RSA1_5", "ES256K"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }
}
