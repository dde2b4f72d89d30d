//! `/tidings/admin/sinks`: how sinks stand, and what an operator can do about one. Knows no rule of
//! delivery.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tidings_connectors::SINKS;
use tidings_connectors::delivery::run::Command;
use tidings_connectors::delivery::{Standing, Status};
use tidings_connectors::sinks::{Known, Origin, Sinks};
use tidings_connectors::specification::SinkSpecification;
use tidings_core::Hub;
use tidings_frontends::http::Body;
use tidings_frontends::problem::problem;
use url::Url;

use super::answers::{self, json, no_sink};
use super::documents::{SinkDocument, SinksDocument, TrialDocument};
use super::routes::Asked;
use super::{Admin, endpoints};
use crate::limits::{ANSWER_SHOWN_BYTES_MAX, SINKS_PAGE_MAX};

/// Lists sinks, from behind `after` on.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let mut page = SinksDocument { sinks: Vec::new(), after: None };
    let Some(sinks) = asked.sinks() else { return json(StatusCode::OK, &page) };
    let after = asked.query("after").unwrap_or_default();
    for known in sinks.all().into_iter().filter(|known| known.told.name > after) {
        if page.sinks.len() == SINKS_PAGE_MAX {
            page.after = page.sinks.last().map(|last| last.name.clone());
            break;
        }
        // One that ends meanwhile is none any more.
        if let Some(status) = sinks.status(&known.told.name).await {
            page.sinks.push(document(&asked.admin.hub, &known, status));
        }
    }
    json(StatusCode::OK, &page)
}

/// Shows one sink, with what it is told.
pub(super) async fn show(asked: Asked) -> Response<Body> {
    match found(&asked) {
        Some((sinks, known)) => shown(&asked, &sinks, &known).await,
        None => no_sink(asked.name()),
    }
}

async fn shown(asked: &Asked, sinks: &Sinks, known: &Known) -> Response<Body> {
    match described(&asked.admin, sinks, known).await {
        Some(document) => {
            let tag = document.endpoint.as_ref().map(|endpoint| entity_tag(endpoint.version));
            let mut answer = json(StatusCode::OK, &document);
            answer.headers_mut().extend(tag.flatten().map(|tag| (header::ETAG, tag)));
            answer
        }
        None => no_sink(asked.name()),
    }
}

/// All that is said of one sink, if it runs.
pub(super) async fn described(admin: &Admin, sinks: &Sinks, known: &Known) -> Option<SinkDocument> {
    let status = sinks.status(&known.told.name).await?;
    let mut document = document(&admin.hub, known, status);
    document.specification = Some(without_secrets(&known.told));
    document.endpoint = endpoints::of(admin, &known.told.name);
    Some(document)
}

/// The version of an endpoint, as a header.
pub(super) fn entity_tag(version: u64) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{version}\"")).ok()
}

/// Has a sink send nothing. Those of the configuration are what it says.
pub(super) async fn pause(asked: Asked) -> Response<Body> {
    match (found(&asked), asked.endpoints()) {
        (Some((sinks, known)), Some(endpoints)) if known.origin == Origin::Api => {
            match endpoints.pause(asked.name()).await {
                Ok(_) => shown(&asked, &sinks, &known).await,
                Err(problem) => *endpoints::refused(&problem),
            }
        }
        (Some(_), _) => configured(asked.name()),
        (None, _) => no_sink(asked.name()),
    }
}

/// Has a sink that is disabled, is paused or waits go on, at once with what waits for another try.
pub(super) async fn resume(asked: Asked) -> Response<Body> {
    let Some((sinks, known)) = found(&asked) else { return no_sink(asked.name()) };
    if let (Origin::Api, Some(endpoints)) = (known.origin, asked.endpoints()) {
        if let Err(problem) = endpoints.resume(asked.name().to_owned()).await {
            return *endpoints::refused(&problem);
        }
    } else if known.failure.is_some() {
        // It runs or is still listed with the reason, which the answer says.
        sinks.start_again(asked.name()).await;
    } else if !sinks.command(asked.name(), Command::Resume).await {
        return not_running(&asked);
    }
    tracing::info!(sink = asked.name(), "the sink goes on: somebody said so");
    shown(&asked, &sinks, &known).await
}

/// Delivers a made-up update, and says what became of it.
pub(super) async fn test(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let Some(trial) = sinks.test(asked.name()).await else { return not_running(&asked) };
    let (failure, answer) = (trial.outcome.failure, trial.outcome.answer);
    let document = TrialDocument {
        delivered: failure.is_none(),
        took: u64::try_from(trial.took.as_millis()).unwrap_or(u64::MAX),
        status: answer.status,
        fault: failure.as_ref().map(|failure| failure.fault.name().to_owned()),
        reason: failure.map(|failure| failure.reason),
        answer: begin(&answer.body),
    };
    json(StatusCode::OK, &document)
}

/// The answer to who wants something of a sink that does not run.
pub(super) fn not_running(asked: &Asked) -> Response<Body> {
    let sinks = asked.sinks();
    answers::not_running(asked.name(), sinks.and_then(|sinks| failure(&sinks, asked.name())))
}

/// Why a sink does not run, if there is one of this name and it does not.
pub(super) fn failure(sinks: &Sinks, name: &str) -> Option<String> {
    sinks.known(name)?.failure
}

/// The sink that the path names, if it runs or should.
pub(super) fn found(asked: &Asked) -> Option<(std::sync::Arc<Sinks>, Known)> {
    let sinks = asked.sinks()?;
    let known = sinks.known(asked.name())?;
    Some((sinks, known))
}

/// The answer to who would change what the configuration says.
pub(super) fn configured(name: &str) -> Response<Body> {
    let detail = format!(
        "The sink {name:?} belongs to the configuration: change it there, and reload the hub."
    );
    problem(StatusCode::CONFLICT, "Configured sink", &detail)
}

/// The begin of what a system answered.
pub(super) fn begin(body: &[u8]) -> String {
    let shown = body.get(..ANSWER_SHOWN_BYTES_MAX).unwrap_or(body);
    String::from_utf8_lossy(shown).into_owned()
}

/// The word for how a sink stands, and why it does.
fn state(status: &Status) -> (&'static str, Option<String>) {
    match &status.standing {
        _ if status.failure.is_some() => ("failed", status.failure.clone()),
        Standing::Paused => ("paused", None),
        Standing::Disabled(reason) => ("disabled", Some(reason.clone())),
        Standing::Running if status.is_full => ("waiting", None),
        Standing::Running => ("running", None),
    }
}

fn document(hub: &Hub, known: &Known, status: Status) -> SinkDocument {
    let (state, reason) = state(&status);
    let position = status.position.durable;
    SinkDocument {
        name: known.told.name.clone(),
        kind: known.told.to.kind.clone(),
        origin: match known.origin {
            Origin::Configuration => "configuration",
            Origin::Api => "api",
        }
        .to_owned(),
        state: state.to_owned(),
        reason,
        position,
        behind: hub.end().durable.saturating_sub(position),
        waiting: status.waiting,
        sending: status.sending,
        parked: status.parked,
        dead_letters: status.dead,
        resting: status.is_resting,
        last_failure: status.last_failure,
        specification: None,
        endpoint: None,
    }
}

/// What a sink is told, without what must not be shown. Of a URL the path may be a secret as well.
fn without_secrets(told: &SinkSpecification) -> Value {
    let mut told = told.clone();
    let kind = SINKS.iter().find(|kind| kind.name == told.to.kind);
    match kind {
        Some(kind) => drop(told.to.take_secrets(kind.options)),
        None => told.to.options.clear(),
    }
    let mut tree = told.to_json();
    if let Some(Value::String(text)) = tree.get_mut("url") {
        let servers: Vec<String> = text.split(',').map(server).collect();
        *text = servers.join(",");
    }
    tree
}

/// A URL without user and path. One that makes no sense is not shown at all.
fn server(text: &str) -> String {
    let Ok(url) = Url::parse(text.trim()) else { return "…".to_owned() };
    let host = url.host_str().unwrap_or("…");
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}/…", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sink_that_does_not_run_says_so_before_all_else() {
        let reason = || Some("stopped by an internal error".to_owned());
        let full = Status { is_full: true, ..Status::default() };
        let failed = Status { failure: reason(), standing: Standing::Paused, ..full.clone() };
        assert_eq!(state(&full), ("waiting", None));
        assert_eq!(state(&failed), ("failed", reason()));
    }

    #[test]
    fn what_is_shown_of_a_specification_holds_no_secret() {
        let tree = json!({
            "kind": "webhook", "name": "one", "topics": ["*"], "timeout": "3s",
            "url": "https://hook.example:8443/secret-1?token=secret-2",
            "bearer": "secret-3", "headers": { "x-key": "secret-4" },
            "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        });
        let told = tidings_connectors::specification::sink(&tree).unwrap();
        let shown = without_secrets(&told);
        assert_eq!(shown["url"], "https://hook.example:8443/…");
        assert_eq!((&shown["timeout"], &shown["name"]), (&json!("3s"), &json!("one")));
        let text = shown.to_string();
        for secret in ["secret-", "whsec"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
