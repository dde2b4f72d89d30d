//! One issuer as the operator trusts it: for which generations, with which keys in which role, and
//! how its configuration is checked. Knows no token.

use std::net::IpAddr;
use std::sync::Arc;

use url::{Host, Url};

use super::algorithm::Algorithm;
use super::flaw::{BadKeys, KeyFlaw};
use super::jwk;
use super::key_set::{KeySet, KeySetPlace, Snapshot};
use super::keys::{Key, Weakness, read_bounded};
use super::marks::{Print, mark, print};
use super::options::{IssuerOptions, KeyOptions};
use super::own_secrets::OwnKeys;
use super::{Generation, Role};
use crate::limits::KEY_SET_BYTES_MAX;

/// One issuer with its keys.
pub(super) struct Issuer {
    pub(super) id: Box<str>,
    pub(super) accepts_draft: bool,
    pub(super) accepts_final: bool,
    pub(super) audience: Vec<String>,
    pub(super) discovers: bool,
    /// Whether it is the hub itself, and no issuer of the configuration.
    pub(super) is_own: bool,
    publish: Option<Keys>,
    subscribe: Option<Keys>,
}

/// What verifies the tokens of one role.
pub(super) enum Keys {
    /// The one key in the configuration.
    One(Arc<Snapshot>),
    /// Those of a set, with these algorithms.
    Set(Arc<KeySet>, Vec<Algorithm>),
    /// The hub's own secrets, of which there may be new ones.
    Own(Arc<OwnKeys>),
}

/// What stands for the hub's own secrets in marks and prints.
const OWN: &str = "the hub's own";

impl Keys {
    /// The algorithms that keys are used with.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        match self {
            Keys::One(one) => one.keys.iter().map(|key| key.algorithm).collect(),
            Keys::Set(_, algorithms) => algorithms.clone(),
            Keys::Own(_) => vec![Algorithm::Hs256],
        }
    }

    /// The keys of this moment; `None` for a set that was never read.
    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        match self {
            Keys::One(one) => Some(Arc::clone(one)),
            Keys::Set(set, _) => set.snapshot(),
            Keys::Own(own) => Some(Arc::clone(&own.now().verify)),
        }
    }

    pub(super) fn set(&self) -> Option<&Arc<KeySet>> {
        match self {
            Keys::One(_) | Keys::Own(_) => None,
            Keys::Set(set, _) => Some(set),
        }
    }

    /// Which key or set this is. A set stays itself whatever keys it holds; of its own secrets the
    /// hub knows which were ended.
    fn mark(&self) -> u64 {
        match self {
            Keys::One(one) => mark(&one.keys.iter().map(|key| key.print).collect::<Vec<_>>()),
            Keys::Set(set, _) => mark(set.place()),
            Keys::Own(_) => mark(&OWN),
        }
    }

    /// The same for every process. As secret as a key.
    fn print(&self) -> Print {
        match self {
            Keys::One(one) => {
                let prints: Vec<&[u8]> = one.keys.iter().map(|key| key.print.as_slice()).collect();
                print(&prints)
            }
            Keys::Set(set, _) => {
                let (kind, place) = set.place().written();
                print(&[kind.as_bytes(), place.as_bytes()])
            }
            Keys::Own(_) => print(&[OWN.as_bytes()]),
        }
    }
}

impl Issuer {
    /// The hub itself, whose tokens are for subscribers at `hub_url`.
    pub(super) fn own(id: &str, keys: &Arc<OwnKeys>, hub_url: &str, accepts_draft: bool) -> Issuer {
        Issuer {
            id: id.into(),
            accepts_draft,
            accepts_final: true,
            audience: vec![hub_url.to_owned()],
            discovers: false,
            is_own: true,
            publish: None,
            subscribe: Some(Keys::Own(Arc::clone(keys))),
        }
    }

    pub(super) fn keys(&self, role: Role) -> Option<&Keys> {
        match role {
            Role::Publish => self.publish.as_ref(),
            Role::Subscribe => self.subscribe.as_ref(),
        }
    }

    /// What a token of this issuer, role and generation stands on.
    pub(super) fn mark(&self, role: Role, generation: Generation) -> Option<u64> {
        let keys = self.keys(role)?.mark();
        Some(mark(&(&self.id, role, generation, keys)))
    }

    /// [`Issuer::mark`] for every process. As secret as a key.
    pub(super) fn print(&self, role: Role, generation: Generation) -> Option<Print> {
        if !self.accepts(generation) {
            return None;
        }
        let keys = self.keys(role)?.print();
        let generation = match generation {
            Generation::Draft => "0.x",
            Generation::Final => "1.0",
        };
        let parts = [self.id.as_bytes(), role.action().as_bytes(), generation.as_bytes(), &keys];
        Some(print(&parts))
    }

    pub(super) fn accepts(&self, generation: Generation) -> bool {
        match generation {
            Generation::Draft => self.accepts_draft,
            Generation::Final => self.accepts_final,
        }
    }

    /// All that tokens of this issuer may stand on.
    pub(super) fn marks(&self) -> Vec<u64> {
        let mut marks = Vec::new();
        for role in [Role::Publish, Role::Subscribe] {
            for generation in [Generation::Draft, Generation::Final] {
                let accepts = self.accepts(generation);
                marks.extend(self.mark(role, generation).filter(|_| accepts));
            }
        }
        marks
    }

    /// Checks what is configured and reads its keys. A set that `known` holds already stays the
    /// same one, with its keys.
    pub(super) fn new(
        options: &IssuerOptions,
        allow_weak: bool,
        hub_url: &str,
        known: &mut Vec<Arc<KeySet>>,
    ) -> Result<Issuer, BadKeys> {
        if options.id.is_empty() {
            return Err(BadKeys::EmptyIssuer);
        }
        if options.accept.is_empty() {
            return Err(BadKeys::NothingAccepted { issuer: options.id.clone() });
        }
        if options.publish.is_none() && options.subscribe.is_none() && !options.discover {
            return Err(BadKeys::NoKey { issuer: options.id.clone() });
        }
        let mut load = |role: Role| {
            let loaded = load(options, role, allow_weak, known);
            loaded.map_err(|flaw| BadKeys::Key { issuer: options.id.clone(), role, flaw })
        };
        let mut audience = vec![hub_url.to_owned()];
        audience.extend(options.audience.iter().cloned());
        Ok(Issuer {
            id: options.id.as_str().into(),
            accepts_draft: options.accept.contains(&Generation::Draft),
            accepts_final: options.accept.contains(&Generation::Final),
            audience,
            discovers: options.discover,
            is_own: false,
            publish: load(Role::Publish)?,
            subscribe: load(Role::Subscribe)?,
        })
    }
}

/// What is said about a secret that can be guessed where that is no error.
const SHORT_SECRET: &str = "the secret is shorter than its hash and can be guessed";

/// What is wrong with the key of one role, as a hub that starts judges it; nothing where there is
/// none. What it would only warn about is returned. Key sets in files are read, others are not.
///
/// # Errors
/// Why the key cannot be used.
pub fn check_key(
    options: &IssuerOptions,
    role: Role,
    allow_weak: bool,
) -> Result<Option<&'static str>, KeyFlaw> {
    match source(options, role, allow_weak)? {
        None => Ok(None),
        Some(Source::Set(place, _)) => read_file(&place).map(|_| None),
        Some(Source::Key(key)) => {
            let key = Key::load(key, weakness(options, allow_weak))?;
            Ok(key.is_short.then_some(SHORT_SECRET))
        }
    }
}

fn weakness(options: &IssuerOptions, allow_weak: bool) -> Weakness {
    match (allow_weak, options.accept.contains(&Generation::Draft)) {
        (true, _) => Weakness::Allowed,
        (false, true) => Weakness::Warned,
        (false, false) => Weakness::Refused,
    }
}

/// Where the keys of one role come from.
enum Source<'o> {
    Key(&'o KeyOptions),
    Set(KeySetPlace, Vec<Algorithm>),
}

fn source(
    options: &IssuerOptions,
    role: Role,
    allow_weak: bool,
) -> Result<Option<Source<'_>>, KeyFlaw> {
    let discovered = || -> Result<KeySetPlace, KeyFlaw> {
        Ok(KeySetPlace::Discovered(web_address(&options.id, allow_weak)?))
    };
    let Some(key) = options.key(role) else {
        if !options.discover {
            return Ok(None);
        }
        return Ok(Some(Source::Set(discovered()?, algorithms(&[])?)));
    };
    let given = [key.key.is_some(), key.key_file.is_some(), key.jwks.is_some()];
    match (given.iter().filter(|given| **given).count(), &key.jwks) {
        (0, _) if options.discover => {
            Ok(Some(Source::Set(discovered()?, algorithms(&key.algorithms)?)))
        }
        (0, _) => Err(KeyFlaw::Missing),
        (1, Some(address)) => {
            let place = place(address, allow_weak)?;
            Ok(Some(Source::Set(place, algorithms(&key.algorithms)?)))
        }
        (1, None) => Ok(Some(Source::Key(key))),
        _ => Err(KeyFlaw::Twice),
    }
}

/// The algorithms for keys of a set. Never one whose key is a secret: an issuer's public keys would
/// become secrets that everybody knows (RFC 8725 section 2.1).
fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, KeyFlaw> {
    if names.is_empty() {
        return Ok(Algorithm::ALL.into_iter().filter(|one| one.is_public()).collect());
    }
    let known = |name: &String| {
        let unknown = || KeyFlaw::UnknownAlgorithm { name: name.clone() };
        let algorithm = Algorithm::parse(name).ok_or_else(unknown)?;
        let secret = || KeyFlaw::SecretFromSet { name: name.clone() };
        algorithm.is_public().then_some(algorithm).ok_or_else(secret)
    };
    names.iter().map(known).collect()
}

fn bad_address(text: &str, reason: &'static str) -> KeyFlaw {
    // What stands behind a question mark or before an at sign may be a secret.
    let shown = match Url::parse(text) {
        Ok(mut url) if url.username().is_empty() && url.password().is_none() => {
            url.set_query(None);
            url.set_fragment(None);
            url.into()
        }
        _ => "(not shown)".to_owned(),
    };
    KeyFlaw::BadAddress { shown, reason }
}

fn place(address: &str, allow_weak: bool) -> Result<KeySetPlace, KeyFlaw> {
    let url = Url::parse(address).ok().filter(|url| url.scheme() == "file");
    let Some(url) = url else { return Ok(KeySetPlace::Url(web_address(address, allow_weak)?)) };
    let path = url.to_file_path().ok().filter(|_| url.query().is_none());
    let reason = "is no file of this machine: write file:///path/to/jwks.json";
    path.map(KeySetPlace::File).ok_or_else(|| bad_address(address, reason))
}

fn web_address(address: &str, allow_weak: bool) -> Result<Url, KeyFlaw> {
    let wrong = |reason| bad_address(address, reason);
    let url = Url::parse(address).map_err(|_| wrong("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not contain a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(wrong("must not have a fragment"));
    }
    if is_trustworthy(&url) || (allow_weak && url.scheme() == "http" && url.has_host()) {
        return Ok(url);
    }
    Err(wrong("is not https://: who is on the way could put other keys in its place"))
}

/// Whether what comes from an address is what stands there: by TLS, or from this machine.
pub fn is_trustworthy(url: &Url) -> bool {
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_local)
}

/// The bytes of a set in a file, which have been read once; `None` for a set elsewhere.
fn read_file(place: &KeySetPlace) -> Result<Option<Vec<u8>>, KeyFlaw> {
    let KeySetPlace::File(path) = place else { return Ok(None) };
    let bytes = read_bounded(path, KEY_SET_BYTES_MAX)?;
    let read = jwk::read_set(&bytes);
    read.map_err(|flaw| KeyFlaw::BadSet { path: path.clone(), flaw })?;
    Ok(Some(bytes))
}

fn load(
    options: &IssuerOptions,
    role: Role,
    allow_weak: bool,
    known: &mut Vec<Arc<KeySet>>,
) -> Result<Option<Keys>, KeyFlaw> {
    match source(options, role, allow_weak)? {
        None => Ok(None),
        Some(Source::Key(key)) => {
            let key = Key::load(key, weakness(options, allow_weak))?;
            if key.is_short {
                let (issuer, key) = (&options.id, role.action());
                tracing::warn!(issuer, key, "{SHORT_SECRET}");
            }
            Ok(Some(Keys::One(Arc::new(Snapshot::of(key)))))
        }
        Some(Source::Set(place, algorithms)) => {
            // A file is read here, so that its mistakes are those of the configuration.
            let bytes = read_file(&place)?;
            let same = |set: &&Arc<KeySet>| set.issuer() == options.id && *set.place() == place;
            if let Some(set) = known.iter().find(same) {
                return Ok(Some(Keys::Set(Arc::clone(set), algorithms)));
            }
            let set = Arc::new(KeySet::new(&options.id, place.clone()));
            if let (Some(bytes), KeySetPlace::File(path)) = (bytes, place) {
                // When it was read, the reader that follows it says.
                let read = set.replace(&bytes, 0);
                read.map_err(|flaw| KeyFlaw::BadSet { path, flaw })?;
            }
            known.push(Arc::clone(&set));
            Ok(Some(Keys::Set(set, algorithms)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn key_sets_come_by_tls_or_from_this_machine() {
        for good in [
            "https://issuer.example/keys?tenant=1",
            "http://localhost:1/keys",
            "http://127.0.0.9/keys",
            "http://[::1]/keys",
            "file:///etc/keys.json",
        ] {
            assert!(place(good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://issuer.example/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example/keys",
            "https://a:b@issuer.example/keys",
            "https://issuer.example/keys#1",
            "ftp://issuer.example/keys",
            "file://elsewhere/keys.json",
            "issuer.example/keys",
            "",
        ] {
            assert!(place(bad, false).is_err(), "{bad}");
        }
        assert!(place("http://issuer.example/keys", true).is_ok());
        let shown = place("http://issuer.example/keys?secret=1", false).unwrap_err().to_string();
        assert!(shown.contains("issuer.example") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn no_key_of_a_set_is_a_secret() {
        let flaw = algorithms(&["ES256".to_owned(), "HS256".to_owned()]).unwrap_err();
        assert!(flaw.to_string().contains("HS256 needs a secret"), "{flaw}");
        assert!(algorithms(&[]).unwrap().iter().all(|one| one.is_public()));
    }

    fn checked(issuer: serde_json::Value, role: Role) -> Result<Option<&'static str>, KeyFlaw> {
        check_key(&serde_json::from_value(issuer).unwrap(), role, false)
    }

    #[test]
    fn a_key_is_checked_as_a_hub_that_starts_does_and_what_it_would_warn_about_is_said() {
        let issuer = |accept: &str, key: &str| {
            let publish = json!({ "key": key });
            json!({ "id": "i", "accept": [accept], "publish": publish })
        };
        let long = "0123456789abcdef0123456789abcdef";
        assert_eq!(checked(issuer("0.x", long), Role::Publish).unwrap(), None);
        assert_eq!(checked(issuer("0.x", "short"), Role::Publish).unwrap(), Some(SHORT_SECRET));
        assert_eq!(checked(issuer("0.x", "short"), Role::Subscribe).unwrap(), None, "no key");
        let flaw = checked(issuer("1.0", "short"), Role::Publish).unwrap_err();
        assert!(matches!(flaw, KeyFlaw::TooShort { .. }), "{flaw}");
    }

    #[test]
    fn a_set_in_a_file_is_checked_before_anybody_needs_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let address = Url::from_file_path(&path).unwrap();
        let check = || {
            let issuer = json!({ "id": "i", "publish": { "jwks": address.as_str() } });
            checked(issuer, Role::Publish)
        };
        assert!(matches!(check(), Err(KeyFlaw::Unreadable { .. })));
        std::fs::write(&path, "{}").unwrap();
        assert!(matches!(check(), Err(KeyFlaw::BadSet { .. })));
        let key = json!({
            "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        });
        std::fs::write(&path, json!({ "keys": [key] }).to_string()).unwrap();
        assert_eq!(check().unwrap(), None);
    }

    #[test]
    fn nobodys_name_or_password_is_shown() {
        for (address, shown) in [
            ("https://e.com/keys?x=hush#hush", "https://e.com/keys"),
            ("https://hush@e.com/", "(not shown)"),
            ("https://:hush@e.com/", "(not shown)"),
            ("hush", "(not shown)"),
        ] {
            let KeyFlaw::BadAddress { shown: found, .. } = bad_address(address, "") else {
                panic!("another flaw");
            };
            assert_eq!(found, shown, "{address}");
        }
        assert!(web_address("https://:hush@e.com/", false).is_err());
        assert!(web_address("https://hush@e.com/", false).is_err());
    }

    fn sourced(key: Option<serde_json::Value>, discover: bool) -> String {
        let mut issuer = json!({ "id": "https://e.com/", "discover": discover });
        if let Some(key) = key {
            issuer["publish"] = key;
        }
        let options: IssuerOptions = serde_json::from_value(issuer).unwrap();
        match source(&options, Role::Publish, false) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(Source::Key(_))) => "a key".to_owned(),
            Ok(Some(Source::Set(place, algorithms))) => {
                format!("{} of {place}", algorithms.len())
            }
            Err(flaw) => flaw.to_string(),
        }
    }

    #[test]
    fn keys_come_from_one_place_and_else_from_the_metadata_if_that_may_be_asked() {
        let jwks = json!({ "jwks": "https://e.com/k", "algorithms": ["ES256", "RS256"] });
        let named = json!({ "algorithms": ["ES256"] });
        for discover in [false, true] {
            assert_eq!(sourced(Some(json!({ "key": "k" })), discover), "a key");
            assert_eq!(sourced(Some(jwks.clone()), discover), "2 of https://e.com/k");
            let both = json!({ "key": "k", "jwks": "https://e.com/k" });
            assert_eq!(sourced(Some(both), discover), KeyFlaw::Twice.to_string());
        }
        assert_eq!(sourced(Some(named.clone()), false), KeyFlaw::Missing.to_string());
        assert_eq!(sourced(Some(named), true), "1 of the metadata of https://e.com/");
        assert_eq!(sourced(None, false), "nothing");
        assert_eq!(sourced(None, true), "10 of the metadata of https://e.com/");
    }

    fn issuer(id: &str, role: &str, address: &str, known: &mut Vec<Arc<KeySet>>) -> Issuer {
        let key = json!({ "jwks": address });
        let options = json!({ "id": id, "accept": ["1.0", "0.x"], role: key });
        let options = serde_json::from_value(options).unwrap();
        Issuer::new(&options, false, "https://hub.example/hub", known).unwrap()
    }

    #[test]
    fn a_set_is_kept_for_the_same_issuer_at_the_same_place() {
        let (one, other) = ("https://e.com/1", "https://e.com/2");
        let mut known = Vec::new();
        let first = issuer("a", "publish", one, &mut known);
        let again = issuer("a", "subscribe", one, &mut known);
        assert_eq!(known.len(), 1);
        let set = |issuer: &Issuer, role| Arc::clone(issuer.keys(role).unwrap().set().unwrap());
        assert!(Arc::ptr_eq(&set(&first, Role::Publish), &set(&again, Role::Subscribe)));
        issuer("b", "publish", one, &mut known);
        assert_eq!(known.len(), 2);
        issuer("a", "publish", other, &mut known);
        assert_eq!(known.len(), 3);
    }

    #[test]
    fn marks_differ_by_issuer_role_generation_and_place() {
        let mut known = Vec::new();
        let mut marks = Vec::new();
        for id in ["a", "b"] {
            for address in ["https://e.com/1", "https://e.com/2"] {
                for role in ["publish", "subscribe"] {
                    let of = issuer(id, role, address, &mut known).marks();
                    assert_eq!(of.len(), 2, "one for each generation");
                    marks.extend(of);
                }
            }
        }
        let count = marks.len();
        marks.sort_unstable();
        marks.dedup();
        assert_eq!(marks.len(), count);
        assert_eq!(issuer("a", "publish", "https://e.com/1", &mut known).marks().len(), 2);
    }
}
