//! Key sets (RFC 7517) as issuers publish them: which of their keys verify signatures here. What is
//! of no use is left out, never an error: sets carry keys for other purposes and of kinds to come.
//! Knows no address and no network.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::keys::{Key, bits};
use crate::limits::{KEY_SET_KEYS_MAX, KID_BYTES_MAX, RSA_BITS_MAX, RSA_BITS_MIN};

/// The issuer's fault: what stands at the address is no key set that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    /// Not JSON: an error page, or a part of a set.
    #[error("this is not JSON")]
    NotJson,
    /// JSON, but not an object with a list `keys`.
    #[error("this is no key set: it has no list `keys`")]
    NoList,
    /// No key in it can verify a token.
    #[error("no key in it verifies signatures here")]
    NoKey,
    /// More keys than are used.
    #[error("it has more than {KEY_SET_KEYS_MAX} keys")]
    TooMany,
}

/// The keys of a set that are of use.
pub(super) struct ReadSet {
    /// One for each algorithm that a key may be used with.
    pub(super) keys: Vec<Key>,
    /// Why others were left out, once for each of them.
    pub(super) left_out: Vec<&'static str>,
}

/// Reads a key set.
pub(super) fn read_set(bytes: &[u8]) -> Result<ReadSet, BadKeySet> {
    let set: Value = serde_json::from_slice(bytes).map_err(|_| BadKeySet::NotJson)?;
    let list = set.get("keys").and_then(Value::as_array).ok_or(BadKeySet::NoList)?;
    let mut read = ReadSet { keys: Vec::new(), left_out: Vec::new() };
    let mut usable = 0;
    for key in list {
        match read_key(key) {
            Ok(keys) => {
                usable += 1;
                if usable > KEY_SET_KEYS_MAX {
                    return Err(BadKeySet::TooMany);
                }
                read.keys.extend(keys);
            }
            Err(_) if read.left_out.len() == KEY_SET_KEYS_MAX => {}
            Err(reason) => read.left_out.push(reason),
        }
    }
    if read.keys.is_empty() { Err(BadKeySet::NoKey) } else { Ok(read) }
}

fn read_key(key: &Value) -> Result<Vec<Key>, &'static str> {
    let key = key.as_object().ok_or("no object")?;
    if text(key, "use").is_some_and(|usage| usage != "sig") {
        return Err("not for signatures (`use`)");
    }
    let operations = key.get("key_ops").and_then(Value::as_array);
    if operations.is_some_and(|list| !list.iter().any(|one| one.as_str() == Some("verify"))) {
        return Err("not for verifying (`key_ops`)");
    }
    if key.contains_key("d") {
        return Err("a private key, which everybody can read now: replace it at the issuer");
    }
    let (algorithms, material) = match text(key, "kty").ok_or("no `kty`")? {
        "RSA" => rsa(key)?,
        "EC" => curve(key)?,
        "OKP" => edwards(key)?,
        "oct" => return Err("a secret, which no set of public keys holds"),
        _ => return Err("of an unknown kind (`kty`)"),
    };
    let kid = text(key, "kid").filter(|kid| kid.len() <= KID_BYTES_MAX).map(Box::<str>::from);
    let bound = match key.get("alg") {
        None | Some(Value::Null) => None,
        Some(name) => Some(name.as_str().and_then(Algorithm::parse).ok_or("of another `alg`")?),
    };
    let fitting = algorithms.iter().filter(|one| bound.is_none_or(|bound| bound == **one));
    let keys: Vec<Key> =
        fitting.filter_map(|one| Key::public(*one, kid.clone(), &material)).collect();
    if keys.is_empty() { Err("not a key that fits its `alg`") } else { Ok(keys) }
}

type Material = (&'static [Algorithm], Vec<u8>);

/// RFC 7518 section 6.3.
fn rsa(key: &Map<String, Value>) -> Result<Material, &'static str> {
    const ALGORITHMS: [Algorithm; 6] = [
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
    ];
    let modulus = number(key, "n")?;
    let exponent = number(key, "e")?;
    let bits = bits(&modulus).ok_or("an RSA key without a modulus")?;
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err("an RSA key of a size that is not taken");
    }
    let components = RsaPublicKeyComponents { n: modulus, e: exponent };
    let der = components.as_der().map_err(|_| "no valid RSA key")?;
    Ok((&ALGORITHMS, der.as_ref().to_vec()))
}

/// RFC 7518 section 6.2: a point, uncompressed.
fn curve(key: &Map<String, Value>) -> Result<Material, &'static str> {
    let (algorithm, length): (&'static [Algorithm], usize) =
        match text(key, "crv").ok_or("no `crv`")? {
            "P-256" => (&[Algorithm::Es256], 32),
            "P-384" => (&[Algorithm::Es384], 48),
            "P-521" => (&[Algorithm::Es512], 66),
            _ => return Err("on an unknown curve (`crv`)"),
        };
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = octets(key, name)?;
        if coordinate.len() != length {
            return Err("a point of a wrong length");
        }
        point.extend(coordinate);
    }
    Ok((algorithm, point))
}

/// RFC 8037 section 2. Ed448 is not known here.
fn edwards(key: &Map<String, Value>) -> Result<Material, &'static str> {
    if text(key, "crv") != Some("Ed25519") {
        return Err("on an unknown curve (`crv`)");
    }
    let bytes = octets(key, "x")?;
    if bytes.len() == 32 { Ok((&[Algorithm::EdDsa], bytes)) } else { Err("of a wrong length") }
}

fn text<'k>(key: &'k Map<String, Value>, name: &str) -> Option<&'k str> {
    key.get(name).and_then(Value::as_str)
}

fn octets(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let text = text(key, name).ok_or("incomplete")?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "not base64url")
}

/// Without leading zeros, which some issuers write.
fn number(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, &'static str> {
    let octets = octets(key, name)?;
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    Ok(octets.into_iter().skip(zeros).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rsa::PublicKey;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    fn rsa(pem: &str) -> Value {
        let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let key = PublicKey::from_der(&STANDARD.decode(body).unwrap()).unwrap();
        let parts = RsaPublicKeyComponents::<Vec<u8>>::from(&key);
        // Some issuers write the zero that DER has in front.
        let modulus = [&[0], parts.n.as_slice()].concat();
        let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(parts.e));
        json!({ "kty": "RSA", "kid": "r", "n": n, "e": e })
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn algorithms(key: &Value) -> Result<Vec<&'static str>, BadKeySet> {
        let set = json!({ "keys": [key] }).to_string();
        let read = read_set(set.as_bytes())?;
        Ok(read.keys.iter().map(|key| key.algorithm.name()).collect())
    }

    #[test]
    fn the_alg_of_a_key_binds_it_and_without_one_it_fits_all_of_its_kind() {
        let key = rsa(include_str!("../../tests-data/rsa2048.public.pem"));
        assert_eq!(algorithms(&key).unwrap().len(), 6);
        assert_eq!(algorithms(&with(key.clone(), "alg", json!("PS256"))).unwrap(), ["PS256"]);
        assert_eq!(algorithms(&with(key.clone(), "key_ops", json!(["verify"]))).unwrap().len(), 6);
        for (name, value) in [
            ("alg", json!("ES256")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("HS256")),
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("kty", json!("EC")),
            ("d", json!("AQAB")),
            ("n", json!("AQAB")),
            ("n", json!("")),
            ("n", json!("not base64!")),
        ] {
            let refused = algorithms(&with(key.clone(), name, value.clone()));
            assert_eq!(refused, Err(BadKeySet::NoKey), "{name}: {value}");
        }
        let small = rsa(include_str!("../../tests-data/rsa1024.public.pem"));
        assert_eq!(algorithms(&small), Err(BadKeySet::NoKey));
    }

    #[test]
    fn keys_of_one_name_are_all_kept_and_their_number_is_bounded() {
        let key =
            with(rsa(include_str!("../../tests-data/rsa2048.public.pem")), "alg", json!("RS256"));
        let set = |count| json!({ "keys": vec![key.clone(); count] }).to_string();
        assert_eq!(read_set(set(2).as_bytes()).unwrap().keys.len(), 2);
        assert!(read_set(set(KEY_SET_KEYS_MAX).as_bytes()).is_ok());
        let many = read_set(set(KEY_SET_KEYS_MAX + 1).as_bytes());
        assert_eq!(many.err(), Some(BadKeySet::TooMany));
    }

    fn point(pem: &str, curve: &str) -> Value {
        let body: String = pem.lines().filter(|line| !line.starts_with("--")).collect();
        let der = STANDARD.decode(body).unwrap();
        let length = match curve {
            "P-256" => 32,
            "P-384" => 48,
            _ => 66,
        };
        let (x, y) = der[der.len() - 2 * length..].split_at(length);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": curve, "x": x, "y": y })
    }

    #[test]
    fn points_are_keys_of_their_curve_alone() {
        let keys = [
            ("P-256", "ES256", include_str!("../../tests-data/p256.public.pem")),
            ("P-384", "ES384", include_str!("../../tests-data/p384.public.pem")),
            ("P-521", "ES512", include_str!("../../tests-data/p521.public.pem")),
        ];
        for (curve, algorithm, pem) in keys {
            let key = point(pem, curve);
            assert_eq!(algorithms(&key).unwrap(), [algorithm]);
            for (other, _, _) in keys.iter().filter(|other| other.0 != curve) {
                let moved = with(key.clone(), "crv", json!(other));
                assert_eq!(algorithms(&moved), Err(BadKeySet::NoKey), "{curve} as {other}");
            }
            let bent = with(key.clone(), "x", key["y"].clone());
            assert_eq!(algorithms(&bent), Err(BadKeySet::NoKey), "not on {curve}");
        }
    }

    fn left_out(keys: &[Value]) -> Vec<&'static str> {
        let good = point(include_str!("../../tests-data/p256.public.pem"), "P-256");
        let keys = [&[good], keys].concat();
        let set = json!({ "keys": keys }).to_string();
        read_set(set.as_bytes()).unwrap().left_out
    }

    #[test]
    fn why_a_key_is_left_out_is_said_of_as_many_as_are_used() {
        let good = point(include_str!("../../tests-data/p256.public.pem"), "P-256");
        let secret = json!({ "kty": "oct", "k": "AAAA" });
        assert_eq!(
            left_out(std::slice::from_ref(&secret)),
            ["a secret, which no set of public keys holds"]
        );
        assert_eq!(left_out(&[json!({ "kty": "new" })]), ["of an unknown kind (`kty`)"]);
        let short = with(good.clone(), "x", json!("AAAA"));
        assert_eq!(left_out(&[short]), ["a point of a wrong length"]);
        let many = vec![secret; KEY_SET_KEYS_MAX + 1];
        assert_eq!(left_out(&many).len(), KEY_SET_KEYS_MAX);
        assert_eq!(left_out(&[]), [""; 0]);
    }

    #[test]
    fn a_name_that_is_too_long_is_none() {
        let name = |bytes: usize| {
            let good = point(include_str!("../../tests-data/p256.public.pem"), "P-256");
            let set = json!({ "keys": [with(good, "kid", json!("k".repeat(bytes)))] }).to_string();
            let key = read_set(set.as_bytes()).unwrap().keys.remove(0);
            key.kid.map(|kid| kid.len())
        };
        assert_eq!(name(KID_BYTES_MAX), Some(KID_BYTES_MAX));
        assert_eq!(name(KID_BYTES_MAX + 1), None);
    }
}
