//! Reads the key sets of issuers and keeps them fresh: one task for each set, ended when nobody
//! needs it any more. Addresses that the operator named may be any; one that an issuer's metadata
//! names may not be internal unless the issuer is, and is asked where it was looked up. What comes
//! is bounded in bytes and time in any case. Knows no token.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::{Client, ClientBuilder, StatusCode};
use serde_json::Value;
use tidings_core::Clock;
use tidings_frontends::auth::{
    BadKeySet, KeyFlaw, KeySet, KeySetPlace, is_trustworthy, read_bounded,
};
use tidings_frontends::limits::KEY_SET_BYTES_MAX;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use url::Url;

use super::internal::{NoWay, Way, way};
use crate::limits::{
    CLIENT_CONNECT_TIMEOUT, KEY_SET_AGE_DEFAULT, KEY_SET_AGE_MAX, KEY_SET_AGE_MIN, KEY_SET_REST,
    KEY_SET_RETRY_MAX, KEY_SET_RETRY_MIN, KEY_SET_TIMEOUT, METADATA_BYTES_MAX,
};

/// A set that could not be read. The issuer's fault, the network's, or the operator's.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it cannot be reached: {}", tidings_frontends::causes(.0))]
    Unreachable(reqwest::Error),
    #[error("it was not there within {} s", KEY_SET_TIMEOUT.as_secs())]
    TooSlow,
    #[error("the answer is {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error(transparent)]
    Flawed(#[from] BadKeySet),
    #[error("the issuer's metadata {0}")]
    Metadata(&'static str),
    #[error("the issuer's metadata has a `jwks_uri` with {0}")]
    Elsewhere(#[from] NoWay),
    #[error(transparent)]
    File(KeyFlaw),
    #[error("the file could not be read to its end")]
    Interrupted,
}

impl From<reqwest::Error> for Unread {
    /// Without the URL, which may hold a secret.
    fn from(error: reqwest::Error) -> Unread {
        Unread::Unreachable(error.without_url())
    }
}

/// The readers of all sets in use.
pub(super) struct KeySetReaders {
    client: Client,
    clock: Arc<dyn Clock>,
    tasks: JoinSet<()>,
    running: Vec<(Arc<KeySet>, AbortHandle)>,
}

impl KeySetReaders {
    /// Without any.
    ///
    /// # Errors
    /// When the system's certificates cannot be used.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Result<KeySetReaders, reqwest::Error> {
        Ok(KeySetReaders { client: client()?, clock, tasks: JoinSet::new(), running: Vec::new() })
    }

    /// Reads these sets from now on and no others. One that was read before is read again at once.
    pub(super) fn follow(&mut self, sets: &[Arc<KeySet>]) {
        self.running.retain(|(known, task)| {
            let used = sets.iter().any(|set| Arc::ptr_eq(set, known));
            if used {
                known.ask();
            } else {
                task.abort();
            }
            used
        });
        while self.tasks.try_join_next().is_some() {}
        for set in sets {
            if self.running.iter().any(|(known, _)| Arc::ptr_eq(set, known)) {
                continue;
            }
            // At once, and not when the task gets its turn: requests that come first wait for it.
            set.begin_reading();
            let (own, clock) = (Arc::clone(set), Arc::clone(&self.clock));
            let task = self.tasks.spawn(keep_fresh(own, self.client.clone(), clock));
            self.running.push((Arc::clone(set), task));
        }
    }
}

/// Reads each of these sets once, for commands that look at a token and end. Says what could not
/// be read. Blocks.
pub(crate) fn read_key_sets(sets: &[Arc<KeySet>], now: u64) -> Vec<String> {
    if sets.is_empty() {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, client) = match (runtime, client()) {
        (Ok(runtime), Ok(client)) => (runtime, client),
        (Err(error), _) => return vec![error.to_string()],
        (_, Err(error)) => return vec![error.to_string()],
    };
    let mut problems = Vec::new();
    for set in sets {
        if let Err(error) = runtime.block_on(read_into(set, &client, || now)) {
            problems.push(format!("the key set {} was not read: {error}", set.place()));
        }
    }
    problems
}

fn client() -> Result<Client, reqwest::Error> {
    client_builder().build()
}

fn client_builder() -> ClientBuilder {
    Client::builder()
        .connect_timeout(CLIENT_CONNECT_TIMEOUT)
        // A set elsewhere than the operator said is another set.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidings/", env!("CARGO_PKG_VERSION")))
}

async fn keep_fresh(set: Arc<KeySet>, client: Client, clock: Arc<dyn Clock>) {
    let mut failures: u32 = 0;
    loop {
        set.begin_reading();
        let read = read_into(&set, &client, || clock.wall()).await;
        set.end_reading();
        let pause = match read {
            Ok(age) => {
                if failures > 0 {
                    let issuer = set.issuer();
                    tracing::info!(issuer, set = %set.place(), "the key set can be read again");
                }
                failures = 0;
                age
            }
            Err(error) => {
                tell_failure(&set, &error, clock.wall());
                failures = failures.saturating_add(1);
                let doubled =
                    KEY_SET_RETRY_MIN.saturating_mul(1 << failures.min(16).saturating_sub(1));
                doubled.min(KEY_SET_RETRY_MAX)
            }
        };
        let rest = pause.min(KEY_SET_REST);
        tokio::select! {
            () = sleep(rest) => set.end_rest(),
            // The operator need not wait.
            () = set.asked() => continue,
        }
        tokio::select! {
            () = sleep(pause - rest) => {}
            () = set.asked() => {}
        }
    }
}

fn tell_failure(set: &KeySet, error: &Unread, now: u64) {
    let (issuer, place) = (set.issuer(), set.place());
    match set.read_at() {
        None => tracing::warn!(
            issuer, set = %place, %error,
            "the key set cannot be read: tokens of this issuer are refused until it can"
        ),
        Some(at) => {
            let age = Duration::from_millis(now.saturating_sub(at));
            let age = crate::config::duration::render(Duration::from_secs(age.as_secs()));
            tracing::warn!(
                issuer, set = %place, %error, age,
                "the key set cannot be read: the keys from before stay in use"
            );
        }
    }
}

/// Reads a set, puts its keys to use, and says how long they stay fresh.
async fn read_into(
    set: &KeySet,
    client: &Client,
    now: impl Fn() -> u64,
) -> Result<Duration, Unread> {
    let read = timeout(KEY_SET_TIMEOUT, read(set, client)).await;
    let read = read.unwrap_or(Err(Unread::TooSlow));
    let replaced = read.and_then(|(bytes, age)| Ok((set.replace(&bytes, now())?, age)));
    match replaced {
        Ok((replaced, age)) => {
            if replaced.changed {
                let (issuer, keys) = (set.issuer(), replaced.keys);
                tracing::info!(issuer, set = %set.place(), keys, "a key set is in use");
                for reason in replaced.left_out {
                    tracing::info!(issuer, set = %set.place(), "a key of it is left out: {reason}");
                }
            }
            Ok(age)
        }
        Err(error) => {
            set.note_failure();
            Err(error)
        }
    }
}

/// The bytes of a set and how long they are fresh.
async fn read(set: &KeySet, client: &Client) -> Result<(Vec<u8>, Duration), Unread> {
    match set.place() {
        KeySetPlace::Url(url) => get(client, url, KEY_SET_BYTES_MAX).await,
        KeySetPlace::Discovered(issuer) => {
            let url = discover(client, issuer, set.issuer()).await?;
            match way(issuer, &url).await? {
                Way::AsBefore => get(client, &url, KEY_SET_BYTES_MAX).await,
                Way::Pinned(addresses) => {
                    let host = url.host_str().unwrap_or_default();
                    let pinned = client_builder().resolve_to_addrs(host, &addresses).build()?;
                    get(&pinned, &url, KEY_SET_BYTES_MAX).await
                }
            }
        }
        KeySetPlace::File(path) => {
            let path: Box<Path> = path.as_path().into();
            let reading = move || read_bounded(&path, KEY_SET_BYTES_MAX).map_err(Unread::File);
            let read = tokio::task::spawn_blocking(reading).await;
            Ok((read.unwrap_or(Err(Unread::Interrupted))?, KEY_SET_AGE_MIN))
        }
    }
}

async fn get(client: &Client, url: &Url, bytes_max: usize) -> Result<(Vec<u8>, Duration), Unread> {
    let request =
        client.get(url.clone()).header(ACCEPT, "application/jwk-set+json, application/json");
    let mut response = request.send().await?;
    if response.status() != StatusCode::OK {
        return Err(Unread::Status(response.status()));
    }
    let age = freshness(response.headers());
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if bytes.len() + piece.len() > bytes_max {
            return Err(Unread::TooLarge(bytes_max));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, age))
}

/// How long an answer is fresh (RFC 9111 section 5.2.2.1), within bounds.
fn freshness(headers: &HeaderMap) -> Duration {
    let fields = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let directives = fields.flat_map(|field| field.split(',')).map(str::trim);
    let seconds = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, "0"));
        let counts = ["max-age", "no-store", "no-cache"];
        let counts = counts.iter().any(|one| name.eq_ignore_ascii_case(one));
        counts.then(|| value.trim_matches('"').parse().unwrap_or(0))
    });
    let age = seconds.min().map_or(KEY_SET_AGE_DEFAULT, Duration::from_secs);
    age.clamp(KEY_SET_AGE_MIN, KEY_SET_AGE_MAX)
}

/// Where the key set of an issuer is, by its metadata (RFC 8414 section 3, else OpenID Connect
/// Discovery 1.0 section 4).
async fn discover(client: &Client, issuer: &Url, id: &str) -> Result<Url, Unread> {
    let [own, openid] = metadata_urls(issuer);
    let bytes = match get(client, &own, METADATA_BYTES_MAX).await {
        // Only who answers that there is none is asked in the other way.
        Err(Unread::Status(_)) => get(client, &openid, METADATA_BYTES_MAX).await?.0,
        other => other?.0,
    };
    named_in(&bytes, issuer, id)
}

/// Where metadata says that the issuer's key set is.
fn named_in(bytes: &[u8], issuer: &Url, id: &str) -> Result<Url, Unread> {
    let metadata: Value =
        serde_json::from_slice(bytes).map_err(|_| Unread::Metadata("is not JSON"))?;
    let text = |name| metadata.get(name).and_then(Value::as_str);
    // Exactly, or one issuer could speak for another (RFC 8414 section 3.3).
    if text("issuer") != Some(id) {
        return Err(Unread::Metadata("is another issuer's"));
    }
    let url = text("jwks_uri").ok_or(Unread::Metadata("names no key set (`jwks_uri`)"))?;
    let url = Url::parse(url).map_err(|_| Unread::Metadata("has a `jwks_uri` that is no URL"))?;
    // Who speaks TLS itself does not send us to an address without it.
    let safe = url.scheme() == "https" || (url.scheme() == issuer.scheme() && is_trustworthy(&url));
    if safe { Ok(url) } else { Err(Unread::Metadata("has a `jwks_uri` that is not https://")) }
}

fn metadata_urls(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    let at = |path: &str| {
        let mut url = issuer.clone();
        url.set_path(path);
        url
    };
    [
        at(&format!("/.well-known/oauth-authorization-server{path}")),
        at(&format!("{path}/.well-known/openid-configuration")),
    ]
}

/// Feeds outside bytes to the reader of issuers' metadata.
#[doc(hidden)]
pub fn fuzz_metadata(bytes: &[u8]) {
    let id = "https://issuer.example";
    if let Ok(issuer) = Url::parse(id) {
        let _place = named_in(bytes, &issuer, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_asked_for_where_both_specifications_put_it() {
        let urls = |issuer: &str| metadata_urls(&issuer.parse().unwrap()).map(String::from);
        assert_eq!(
            urls("https://example.com"),
            [
                "https://example.com/.well-known/oauth-authorization-server",
                "https://example.com/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            urls("https://example.com/realms/a/"),
            [
                "https://example.com/.well-known/oauth-authorization-server/realms/a",
                "https://example.com/realms/a/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn freshness_is_what_the_issuer_says_within_bounds() {
        let age = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, value.parse().unwrap());
            freshness(&headers)
        };
        assert_eq!(freshness(&HeaderMap::new()), KEY_SET_AGE_DEFAULT);
        assert_eq!(age("public, max-age=600"), Duration::from_secs(600));
        assert_eq!(age("Max-Age=\"600\""), Duration::from_secs(600));
        assert_eq!(age("max-age=1"), KEY_SET_AGE_MIN);
        assert_eq!(age("max-age=99999999"), KEY_SET_AGE_MAX);
        assert_eq!(age("max-age=600, no-store"), KEY_SET_AGE_MIN);
        assert_eq!(age("max-age=soon"), KEY_SET_AGE_MIN);
        assert_eq!(age("private"), KEY_SET_AGE_DEFAULT);
    }
}
