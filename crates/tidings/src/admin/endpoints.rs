//! `/tidings/admin/sinks`: makes, changes, removes and rotates endpoints. Knows no storage and no
//! token.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use tidings_connectors::endpoints::{Changed, EndpointProblem, Endpoints};
use tidings_connectors::limits::KEY_OVERLAP_DEFAULT;
use tidings_connectors::span;
use tidings_connectors::webhook::signature::{BadRotation, public_half};
use tidings_frontends::auth::KeptGrant;
use tidings_frontends::http::Body;
use tidings_frontends::problem::problem;

use super::Admin;
use super::answers::{done, json, no_sink};
use super::documents::{CreatorDocument, EndpointDocument};
use super::routes::Asked;
use super::sinks::{configured, described, entity_tag, found};
use super::written::{Refusal, TITLE, mistake, mistakes, read, version, written};
use crate::limits::ADMIN_BODY_BYTES_MAX;

type Answered = Result<Response<Body>, Refusal>;

/// The one form of either.
fn either(answered: Answered) -> Response<Body> {
    answered.unwrap_or_else(|refusal| *refusal)
}

/// Makes an endpoint.
pub(super) async fn create(asked: Asked) -> Response<Body> {
    either(try_create(asked).await)
}

async fn try_create(mut asked: Asked) -> Answered {
    let endpoints = endpoints(&asked)?;
    let (written, creator) = written(&mut asked).await?;
    let made = endpoints.create(written, creator).await.map_err(|error| refused(&error))?;
    let name = &made.endpoint.told.name;
    tracing::info!(sink = name, "an endpoint was made over the API");
    let place = HeaderValue::from_str(&format!("/tidings/admin/sinks/{name}"));
    let mut answer = changed(&asked.admin, StatusCode::CREATED, &made).await?;
    answer.headers_mut().extend(place.ok().map(|place| (header::LOCATION, place)));
    Ok(answer)
}

/// Changes an endpoint. Whoever does not know what is there now changes nothing.
pub(super) async fn change(asked: Asked) -> Response<Body> {
    either(try_change(asked).await)
}

async fn try_change(mut asked: Asked) -> Answered {
    let (endpoints, name) = (endpoints(&asked)?, asked.name().to_owned());
    is_endpoint(&asked, &endpoints)?;
    if !asked.request.head.headers.contains_key(header::IF_MATCH) {
        let detail = "Read the sink first, and send its ETag as `If-Match`.";
        let status = StatusCode::PRECONDITION_REQUIRED;
        return Err(Box::new(problem(status, "The version is missing", detail)));
    }
    let version = version(&asked)?;
    let (written, creator) = written(&mut asked).await?;
    let change = endpoints.change(name.clone(), version, written, creator).await;
    let change = change.map_err(|error| refused(&error))?;
    tracing::info!(sink = name, "an endpoint was changed over the API");
    changed(&asked.admin, StatusCode::OK, &change).await
}

/// Removes an endpoint with all that is kept of it.
pub(super) async fn remove(asked: Asked) -> Response<Body> {
    either(try_remove(asked).await)
}

async fn try_remove(asked: Asked) -> Answered {
    let (endpoints, name) = (endpoints(&asked)?, asked.name().to_owned());
    is_endpoint(&asked, &endpoints)?;
    let version = version(&asked)?;
    endpoints.remove(name.clone(), version).await.map_err(|error| refused(&error))?;
    tracing::info!(sink = name, "an endpoint was removed over the API");
    Ok(done())
}

/// How the signing key is changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rotation {
    #[serde(default)]
    overlap: Option<String>,
}

/// Gives an endpoint a new signing key.
pub(super) async fn rotate(asked: Asked) -> Response<Body> {
    either(try_rotate(asked).await)
}

async fn try_rotate(mut asked: Asked) -> Answered {
    const TITLE: &str = "Not a rotation";
    let (endpoints, name) = (endpoints(&asked)?, asked.name().to_owned());
    is_endpoint(&asked, &endpoints)?;
    let version = version(&asked)?;
    let Rotation { overlap } = read(&mut asked, ADMIN_BODY_BYTES_MAX, TITLE).await?;
    let overlap = overlap.as_deref().map_or(Ok(KEY_OVERLAP_DEFAULT), span::parse);
    let overlap = overlap.map_err(|message| mistakes(TITLE, &[mistake("overlap", message)]))?;
    let turned = endpoints.rotate(name.clone(), version, overlap).await;
    let turned = turned.map_err(|error| refused(&error))?;
    tracing::info!(sink = name, "an endpoint has a new signing key");
    changed(&asked.admin, StatusCode::OK, &turned).await
}

fn endpoints(asked: &Asked) -> Result<Arc<Endpoints>, Refusal> {
    asked.endpoints().ok_or_else(not_running)
}

fn not_running() -> Refusal {
    let detail = "Sinks do not run just now. Try again later.";
    Box::new(problem(StatusCode::SERVICE_UNAVAILABLE, "No sinks", detail))
}

/// Whose it is comes before what is written.
fn is_endpoint(asked: &Asked, endpoints: &Endpoints) -> Result<(), Refusal> {
    match (endpoints.has(asked.name()), found(asked)) {
        (true, _) => Ok(()),
        (false, Some(_)) => Err(Box::new(configured(asked.name()))),
        (false, None) => Err(Box::new(no_sink(asked.name()))),
    }
}

/// What is said of an endpoint beside how it stands. No secret is in it.
pub(super) fn of(admin: &Admin, name: &str) -> Option<EndpointDocument> {
    let endpoint = admin.sinks.get()?.endpoints.get(name)?;
    let kept = if admin.ledger.is_durable() { "disk" } else { "memory" };
    Some(EndpointDocument {
        version: endpoint.version,
        kept: kept.to_owned(),
        made: endpoint.made,
        changed: endpoint.changed,
        secrets: endpoint.secrets().into_iter().map(str::to_owned).collect(),
        creator: endpoint
            .creator
            .and_then(|kept| Some(creator(serde_json::from_value(kept).ok()?))),
        secret: None,
        public_key: None,
    })
}

fn creator(kept: KeptGrant) -> CreatorDocument {
    CreatorDocument {
        issuer: kept.issuer,
        subject: kept.subject,
        token_id: kept.token_id,
        client: kept.client,
        key: kept.key,
        topics: kept.topics,
    }
}

/// The endpoint after a change, and its new signing key if it has one.
async fn changed(admin: &Admin, status: StatusCode, changed: &Changed) -> Answered {
    let name = &changed.endpoint.told.name;
    let running = admin.sinks.get().ok_or_else(not_running)?;
    let known = running.sinks.known(name).ok_or_else(not_running)?;
    let mut document = described(admin, &running.sinks, &known).await.ok_or_else(not_running)?;
    if let (Some(secret), Some(endpoint)) = (&changed.secret, &mut document.endpoint) {
        // Of a pair, the other half signs here and nowhere else.
        endpoint.public_key = public_half(secret);
        let is_shared = endpoint.public_key.is_none();
        endpoint.secret = is_shared.then(|| secret.expose().to_owned());
    }
    let mut answer = json(status, &document);
    let tag = entity_tag(changed.endpoint.version);
    answer.headers_mut().extend(tag.map(|tag| (header::ETAG, tag)));
    Ok(answer)
}

/// The answer to what cannot be done.
pub(super) fn refused(error: &EndpointProblem) -> Refusal {
    let (status, title) = match error {
        EndpointProblem::Bad(found) => return mistakes(TITLE, found),
        EndpointProblem::Rotation(BadRotation::Overlap) => {
            return mistakes("Not a rotation", &[mistake("overlap", error.to_string())]);
        }
        EndpointProblem::Unknown => (StatusCode::NOT_FOUND, "No such sink"),
        EndpointProblem::Taken | EndpointProblem::Left => (StatusCode::CONFLICT, "Name taken"),
        EndpointProblem::Configured => (StatusCode::CONFLICT, "Configured sink"),
        EndpointProblem::Full => (StatusCode::CONFLICT, "Too many endpoints"),
        EndpointProblem::Fallen => (StatusCode::CONFLICT, "Taken back"),
        EndpointProblem::Rotation(BadRotation::TooMany) => (StatusCode::CONFLICT, "Too many keys"),
        EndpointProblem::Version { .. } => (StatusCode::PRECONDITION_FAILED, "Another version"),
        EndpointProblem::Ending => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
        EndpointProblem::State(_) => (StatusCode::SERVICE_UNAVAILABLE, "Not stored"),
        EndpointProblem::Random
        | EndpointProblem::Key(_)
        | EndpointProblem::Sealed(_)
        | EndpointProblem::Run(_)
        | EndpointProblem::Interrupted => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    };
    if status.is_server_error() {
        tracing::error!(%error, "an endpoint could not be changed");
    }
    let mut detail = format!("{error}.");
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Box::new(problem(status, title, &detail))
}
