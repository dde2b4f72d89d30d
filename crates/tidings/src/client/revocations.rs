//! `tidings token revoke`, `unrevoke` and `revocations`: ask the admin listener of a running hub.
//! Knows the listener's address and token; what is revoked the hub decides.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Method, StatusCode};
use url::Url;

use super::healthcheck::reachable;
use super::{ClientProblem, client, printable, refused};
use crate::admin::{ListDocument, REVOCATIONS_PATH, RevocationDocument, RevokedDocument};
use crate::config::{AdminOptions, duration};
use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ADMIN_TIMEOUT};
use crate::token::dates;

/// Whose tokens are meant.
#[derive(clap::Args)]
pub struct RevokedArguments {
    /// The token with this id (its `jti`)
    #[arg(
        long,
        value_name = "JTI",
        required_unless_present_any = ["subject", "client", "key"],
        conflicts_with_all = ["subject", "client", "key"]
    )]
    id: Option<String>,
    /// All tokens of this subject (their `sub`)
    #[arg(long, value_name = "SUB", conflicts_with_all = ["client", "key"])]
    subject: Option<String>,
    /// All tokens that were made for this application (their `client_id`)
    #[arg(long, value_name = "ID", conflicts_with = "key")]
    client: Option<String>,
    /// All tokens that this key verified (its `kid`; without one, `publish` or `subscribe`)
    #[arg(long, value_name = "KID")]
    key: Option<String>,
    /// Only tokens of this issuer
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
}

/// How long a revocation holds.
#[derive(clap::Args)]
pub struct EndArguments {
    /// Until this time, as 2027-01-15 or 2027-01-15T08:00:00Z; the token's own end is enough
    #[arg(long, value_name = "DATE", value_parser = date)]
    until: Option<u64>,
    /// For this long, as 1h or 7d
    #[arg(
        long = "for",
        value_name = "DURATION",
        value_parser = duration::parse,
        conflicts_with = "until"
    )]
    lasting: Option<Duration>,
}

/// Which hub.
#[derive(clap::Args)]
pub struct AdminArguments {
    /// The hub's admin listener, as 127.0.0.1:3001 [default: admin.listen of the configuration]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
}

fn date(text: &str) -> Result<u64, String> {
    dates::parsed(text)
        .ok_or_else(|| "write a date as 2027-01-15 or 2027-01-15T08:00:00Z".to_owned())
}

impl RevokedArguments {
    fn document(&self, until: Option<u64>) -> RevocationDocument {
        RevocationDocument {
            token_id: self.id.clone(),
            subject: self.subject.clone(),
            client: self.client.clone(),
            key: self.key.clone(),
            issuer: self.issuer.clone(),
            until,
        }
    }
}

impl EndArguments {
    fn until(&self) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.until.or(self.lasting.map(|lasting| now.saturating_add(lasting).as_secs()))
    }
}

impl AdminArguments {
    async fn ask(
        &self,
        options: &AdminOptions,
        method: Method,
        query: &[(&str, &str)],
        body: Option<&RevocationDocument>,
    ) -> Result<reqwest::Response, ClientProblem> {
        let body = body.map(|body| serde_json::to_vec(body).unwrap_or_default());
        self.request(options, method, REVOCATIONS_PATH, query, body).await
    }

    /// Asks the admin listener of a hub; what is no success is a problem.
    pub(super) async fn request(
        &self,
        options: &AdminOptions,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, ClientProblem> {
        let address = self.admin.or(options.listen).ok_or(ClientProblem::NoAdminListener)?;
        let token = options.token.as_deref().ok_or(ClientProblem::NoAdminToken)?;
        let mut url = Url::parse(&format!("http://{}{path}", reachable(address)))
            .map_err(ClientProblem::BadUrl)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = client(Some(ADMIN_TIMEOUT))?.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }
}

/// Revokes, and says what came of it.
///
/// # Errors
/// When the hub says no or cannot be reached.
pub async fn revoke(
    options: &AdminOptions,
    admin: &AdminArguments,
    revoked: &RevokedArguments,
    end: &EndArguments,
) -> Result<String, ClientProblem> {
    let document = revoked.document(end.until());
    let response = admin.ask(options, Method::POST, &[], Some(&document)).await?;
    let answer: RevokedDocument = json(response).await?;
    let lost = if answer.kept == "memory" { "\nThe hub forgets this when it ends." } else { "" };
    Ok(format!(
        "revoked: {}\nopen subscriptions ended: {}{lost}\n",
        line(&answer.revocation),
        answer.ended
    ))
}

/// Takes a revocation back.
///
/// # Errors
/// When the hub says no, as when there is none, or cannot be reached.
pub async fn unrevoke(
    options: &AdminOptions,
    admin: &AdminArguments,
    revoked: &RevokedArguments,
) -> Result<String, ClientProblem> {
    let document = revoked.document(None);
    let named = [
        ("token_id", &revoked.id),
        ("subject", &revoked.subject),
        ("client", &revoked.client),
        ("key", &revoked.key),
        ("issuer", &revoked.issuer),
    ];
    let query: Vec<_> =
        named.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    admin.ask(options, Method::DELETE, &query, None).await?;
    Ok(format!("no longer revoked: {}\n", line(&document)))
}

/// Lists what is revoked.
///
/// # Errors
/// When the hub says no or cannot be reached.
pub async fn revocations(
    options: &AdminOptions,
    admin: &AdminArguments,
) -> Result<String, ClientProblem> {
    let response = admin.ask(options, Method::GET, &[], None).await?;
    let list: ListDocument = json(response).await?;
    if list.revocations.is_empty() {
        return Ok("nothing is revoked\n".to_owned());
    }
    Ok(list.revocations.iter().map(|one| format!("{}\n", line(one))).collect())
}

pub(super) async fn json<T: serde::de::DeserializeOwned>(
    mut response: reqwest::Response,
) -> Result<T, ClientProblem> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > ADMIN_ANSWER_BYTES_MAX {
            break;
        }
    }
    serde_json::from_slice(&bytes).map_err(|_| ClientProblem::Refused {
        status: StatusCode::OK,
        text: "not an answer of a Tidings admin listener: is this its address?".to_owned(),
    })
}

fn line(one: &RevocationDocument) -> String {
    let named = [
        ("token id", &one.token_id),
        ("subject", &one.subject),
        ("client", &one.client),
        ("key", &one.key),
    ];
    let named =
        named.iter().find_map(|(kind, name)| Some(format!("{kind} {:?}", (*name).as_ref()?)));
    let issuer = one.issuer.as_ref().map(|id| format!(" of {id:?}")).unwrap_or_default();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let until = one.until.map(|until| match dates::shown(signed(until), signed(now)) {
        Some(date) => format!(" until {date}"),
        None => format!(" until {until}"),
    });
    printable(&format!("{}{issuer}{}", named.unwrap_or_default(), until.unwrap_or_default()))
}
