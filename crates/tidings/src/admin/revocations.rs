//! `/tidings/admin/revocations`: lists, adds and withdraws revocations, for operators who present
//! the admin token. Knows no storage.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use tidings_frontends::auth::{Revocation, Revoked, Secret};
use tidings_frontends::http::{Body, Request};
use tidings_frontends::problem::problem;

use super::answers::{self, done, failed, json};
use super::routes::Asked;
use crate::ledger::{Ledger, LedgerProblem};

/// Where they are.
pub const REVOCATIONS_PATH: &str = "/tidings/admin/revocations";

/// What a request that makes no sense is called.
const TITLE: &str = "Not a revocation";

/// A revocation in requests and answers: one of the first four names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationDocument {
    /// A token's `jti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The `sub` of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The `client_id` of tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The `kid` of the key that verified tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whose tokens; absent for those of every issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it ends, in seconds since 1970; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl RevocationDocument {
    /// What it revokes; `None` unless it names exactly one thing.
    pub fn revocation(self) -> Option<Revocation> {
        let revoked = match (self.token_id, self.subject, self.client, self.key) {
            (Some(name), None, None, None) => Revoked::TokenId(name),
            (None, Some(name), None, None) => Revoked::Subject(name),
            (None, None, Some(name), None) => Revoked::Client(name),
            (None, None, None, Some(name)) => Revoked::Key(name),
            _ => return None,
        };
        Some(Revocation { revoked, issuer: self.issuer, until: self.until })
    }
}

impl From<Revocation> for RevocationDocument {
    fn from(one: Revocation) -> RevocationDocument {
        let mut document =
            RevocationDocument { issuer: one.issuer, until: one.until, ..Self::default() };
        match one.revoked {
            Revoked::TokenId(name) => document.token_id = Some(name),
            Revoked::Subject(name) => document.subject = Some(name),
            Revoked::Client(name) => document.client = Some(name),
            Revoked::Key(name) => document.key = Some(name),
        }
        document
    }
}

/// The answer to a revocation.
#[derive(Debug, Serialize, Deserialize)]
pub struct RevokedDocument {
    /// What is revoked now.
    pub revocation: RevocationDocument,
    /// Subscriptions that ended by it.
    pub ended: usize,
    /// `"disk"`, or `"memory"` when it ends with the process.
    pub kept: String,
}

/// The answer to a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct ListDocument {
    /// Everything that is revoked now.
    pub revocations: Vec<RevocationDocument>,
    /// `"disk"`, or `"memory"` when they end with the process.
    pub kept: String,
}

/// The answer to who does not present the admin token; `None` lets in. `token` is `None` where none
/// is configured.
pub(super) fn turned_away(token: Option<&Secret>, request: &Request) -> Option<Response<Body>> {
    let Some(token) = token else {
        let detail = "Set admin.token or admin.token_file to use this.";
        return Some(problem(StatusCode::FORBIDDEN, "No admin token is configured", detail));
    };
    let mut fields = request.head.headers.get_all(header::AUTHORIZATION).iter();
    let presented = fields.next().and_then(|value| value.to_str().ok());
    let presented = presented.and_then(|value| value.split_once(' '));
    let presented = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if fields.next().is_none() && presented.is_some_and(|(_, given)| token.is(given.trim())) {
        return None;
    }
    let detail = "Send the admin token as `Authorization: Bearer <token>`.";
    let mut answer = problem(StatusCode::UNAUTHORIZED, "Not the admin token", detail);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(answer)
}

/// Lists what is revoked.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let own = Arc::clone(&asked.admin.ledger);
    match tokio::task::spawn_blocking(move || document(&own)).await {
        Ok(list) => json(StatusCode::OK, &list),
        Err(_) => failed(),
    }
}

fn kept(ledger: &Ledger) -> String {
    if ledger.is_durable() { "disk" } else { "memory" }.to_owned()
}

fn document(ledger: &Ledger) -> ListDocument {
    let revocations = ledger.list().into_iter().map(RevocationDocument::from).collect();
    ListDocument { revocations, kept: kept(ledger) }
}

/// What a revocation has to say.
const HINT: &str = "Send JSON with one of `token_id`, `subject`, `client` and `key`, and with \
                    `issuer` and `until` (seconds since 1970) if you like.";
/// The same for a query.
const QUERY_HINT: &str = "Name one of `token_id`, `subject`, `client` and `key` in the query.";

/// Revokes.
pub(super) async fn revoke(asked: Asked) -> Response<Body> {
    let ledger = Arc::clone(&asked.admin.ledger);
    let document: RevocationDocument = match answers::body(asked, TITLE, HINT).await {
        Ok(document) => document,
        Err(answer) => return *answer,
    };
    let Some(revocation) = document.revocation() else { return bad(HINT) };
    let (own, one) = (Arc::clone(&ledger), revocation.clone());
    match tokio::task::spawn_blocking(move || own.revoke(one)).await {
        Ok(Ok(ended)) => {
            tracing::warn!(?revocation, ended, "revoked: such tokens no longer count");
            let revocation = revocation.into();
            let answer = RevokedDocument { revocation, ended, kept: kept(&ledger) };
            json(StatusCode::CREATED, &answer)
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => failed(),
    }
}

/// Takes a revocation back.
pub(super) async fn withdraw(asked: Asked) -> Response<Body> {
    let ledger = &asked.admin.ledger;
    let query = asked.request.head.uri.query().unwrap_or_default();
    let mut document = RevocationDocument::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match &*name {
            "token_id" => &mut document.token_id,
            "subject" => &mut document.subject,
            "client" => &mut document.client,
            "key" => &mut document.key,
            "issuer" => &mut document.issuer,
            _ => return bad(QUERY_HINT),
        };
        if place.replace(value.into_owned()).is_some() {
            return bad("A parameter stands there twice.");
        }
    }
    let Some(one) = document.revocation() else { return bad(QUERY_HINT) };
    let (own, known) = (Arc::clone(ledger), one.clone());
    let withdrawing = move || own.withdraw(&known.revoked, known.issuer.as_deref());
    match tokio::task::spawn_blocking(withdrawing).await {
        Ok(Ok(true)) => {
            tracing::warn!(revocation = ?one, "a revocation was withdrawn");
            done()
        }
        Ok(Ok(false)) => {
            let detail = "There is no such revocation: GET lists them.";
            problem(StatusCode::NOT_FOUND, "Not revoked", detail)
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => failed(),
    }
}

fn bad(detail: &str) -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, TITLE, detail)
}

fn refused(error: &LedgerProblem) -> Response<Body> {
    let (status, title) = match error {
        LedgerProblem::Bad(_) => (StatusCode::BAD_REQUEST, TITLE),
        LedgerProblem::Full => (StatusCode::CONFLICT, "Too many revocations"),
        LedgerProblem::Storage(_) => {
            tracing::error!(%error, "not revoked");
            (StatusCode::SERVICE_UNAVAILABLE, "Not stored")
        }
    };
    problem(status, title, &format!("{error}."))
}
