//! `tidings key create`, `list`, `revoke` and `rotate-issuer`: ask the admin listener of a running
//! hub. Knows the listener's address and token; what a key may do the hub decides.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use tidings_frontends::auth::KeptPattern;

use super::revocations::json;
use super::{AdminArguments, ClientProblem, printable};
use crate::admin::{
    IssuerDocument, KEYS_PATH, KeyDocument, KeyRequest, KeysDocument, MadeDocument, ROTATE_PATH,
    RevokedKeyDocument, RotationRequest, TopicDocument,
};
use crate::config::{AdminOptions, duration};
use crate::token::dates;

/// What a new key is to be.
#[derive(clap::Args)]
pub struct KeyArguments {
    /// What it is called, in lists and in the log
    name: String,
    /// What its tokens may read at most; may be repeated; `*` is everything
    #[arg(long, value_name = "PATTERN", required = true)]
    topic: Vec<String>,
    /// How these topics match: exact, urlpattern, uritemplate, mqtt or nats
    #[arg(long, value_name = "TYPE", default_value = "exact")]
    match_type: String,
    /// How long its tokens hold at most [default: 1d]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    lifetime_max: Option<Duration>,
    /// How often it may ask in a minute [default: 600]
    #[arg(long, value_name = "NUMBER")]
    per_minute: Option<u32>,
    /// After which time it ends, as 90d; without it, when it is revoked
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires: Option<Duration>,
}

impl KeyArguments {
    fn request(&self) -> KeyRequest {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let topic = |pattern: &String| {
            let (pattern, match_type) = (pattern.clone(), self.match_type.clone());
            TopicDocument::Pattern(KeptPattern { pattern, match_type })
        };
        KeyRequest {
            name: self.name.clone(),
            topics: self.topic.iter().map(topic).collect(),
            lifetime_max: self.lifetime_max.map(|lifetime| lifetime.as_secs()),
            per_minute: self.per_minute,
            expires: self.expires.map(|lasting| now.saturating_add(lasting).as_secs()),
        }
    }
}

/// Makes a key. Answers its text, and what is to be said beside it.
///
/// # Errors
/// When the hub says no or cannot be reached.
pub async fn create_key(
    options: &AdminOptions,
    admin: &AdminArguments,
    key: &KeyArguments,
) -> Result<(String, String), ClientProblem> {
    let body = serde_json::to_vec(&key.request()).unwrap_or_default();
    let response = admin.request(options, Method::POST, KEYS_PATH, &[], Some(body)).await?;
    let made: MadeDocument = json(response).await?;
    let lost = if made.kept == "memory" { " The hub forgets it when it ends." } else { "" };
    let beside = format!(
        "This is the only time that the key is shown: keep it like a password.{lost}\n{}\n",
        line(&made.document)
    );
    Ok((format!("{}\n", printable(&made.key)), beside))
}

/// Lists the keys.
///
/// # Errors
/// When the hub says no or cannot be reached.
pub async fn keys(options: &AdminOptions, admin: &AdminArguments) -> Result<String, ClientProblem> {
    let response = admin.request(options, Method::GET, KEYS_PATH, &[], None).await?;
    let list: KeysDocument = json(response).await?;
    if list.keys.is_empty() {
        return Ok("there are no keys\n".to_owned());
    }
    Ok(list.keys.iter().map(|one| format!("{}\n", line(one))).collect())
}

/// How the key of this id stands, in words; or why nobody says.
pub async fn key_standing(options: &AdminOptions, admin: &AdminArguments, id: &str) -> String {
    let listed = async {
        let response = admin.request(options, Method::GET, KEYS_PATH, &[], None).await?;
        json::<KeysDocument>(response).await
    };
    match listed.await {
        Ok(list) => match list.keys.iter().find(|key| key.id == id) {
            Some(key) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let is_over = key.expires.is_some_and(|end| end <= now.as_secs());
                let counts = !is_over && key.revoked.is_none();
                format!("{}: {}", if counts { "counts" } else { "counts NO longer" }, line(key))
            }
            None => "counts NOT: the hub that runs has no key of this id".to_owned(),
        },
        Err(problem @ (ClientProblem::NoAdminListener | ClientProblem::NoAdminToken)) => {
            format!("not asked for, {problem}")
        }
        Err(problem) => format!("not known, {}", printable(&problem.to_string())),
    }
}

/// Revokes a key, by its id or name, and says what came of it.
///
/// # Errors
/// When the hub says no, as when there is none, or cannot be reached.
pub async fn revoke_key(
    options: &AdminOptions,
    admin: &AdminArguments,
    named: &str,
) -> Result<String, ClientProblem> {
    let segment: String = url::form_urlencoded::byte_serialize(named.as_bytes()).collect();
    let path = format!("{KEYS_PATH}/{segment}");
    let response = admin.request(options, Method::DELETE, &path, &[], None).await?;
    let answer: RevokedKeyDocument = json(response).await?;
    let named = printable(&format!("{} ({})", answer.name, answer.id));
    Ok(format!("revoked: {named}\nopen subscriptions ended: {}\n", answer.ended))
}

/// Has the hub's own tokens signed by a new secret, and says what became of those before.
///
/// # Errors
/// When the hub says no, as when too many secrets count, or cannot be reached.
pub async fn rotate_issuer(
    options: &AdminOptions,
    admin: &AdminArguments,
    now: bool,
) -> Result<String, ClientProblem> {
    let body = serde_json::to_vec(&RotationRequest { now }).unwrap_or_default();
    let response = admin.request(options, Method::POST, ROTATE_PATH, &[], Some(body)).await?;
    let answer: IssuerDocument = json(response).await?;
    let mut text = format!("tokens are signed by {} from now on\n", answer.kid);
    for one in &answer.previous {
        text.push_str(&format!("{} counts until {} at most\n", one.kid, date(one.until)));
    }
    if now {
        let ended = answer.ended;
        text.push_str(&format!("no other counts\nopen subscriptions ended: {ended}\n"));
    }
    if answer.kept == "memory" {
        text.push_str("The hub forgets this when it ends.\n");
    }
    Ok(printable(&text))
}

/// Seconds since 1970 as people read them.
fn date(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    dates::shown(signed(seconds), signed(now)).unwrap_or_else(|| seconds.to_string())
}

fn line(key: &KeyDocument) -> String {
    let topic = |topic: &KeptPattern| match topic.match_type.as_str() {
        "exact" => format!("{:?}", topic.pattern),
        kind => format!("{kind} {:?}", topic.pattern),
    };
    let topics: Vec<_> = key.topics.iter().map(topic).collect();
    let end = match (key.revoked, key.expires) {
        (Some(at), _) => format!(", revoked {}", date(at)),
        (None, Some(at)) => format!(", until {}", date(at)),
        (None, None) => String::new(),
    };
    printable(&format!(
        "{} {} for {}; tokens of {} at most, {} a minute; made {}{end}",
        key.id,
        key.name,
        topics.join(", "),
        duration::render(Duration::from_secs(key.lifetime_max)),
        key.per_minute,
        date(key.made),
    ))
}
