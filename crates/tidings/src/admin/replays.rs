//! `/tidings/admin/sinks/{name}/replays`: what a sink delivers once more. Knows no history.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use tidings_connectors::sinks::Sinks;
use tidings_connectors::sinks::replay::{Edge, ReplayProblem, Wish};
use tidings_frontends::http::Body;
use tidings_frontends::problem::problem;

use super::answers::{self, bad, done, failed, json, no_sink, not_running, not_stored};
use super::documents::{ReplayRequest, ReplaysDocument};
use super::routes::Asked;
use super::sinks::{failure, found};
use crate::token::dates;

const TITLE: &str = "Not a replay";
const HINT: &str = "Send JSON with `ids`, a list of ids; or with `from`, `until` or both, each an \
                    id, a place in the history or a time as 2027-01-15T08:00:00Z; and with \
                    `failed` (true or false) if you like. All that the history has is \
                    `{\"from\": 1}`.";

/// Those that are remembered.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let name = asked.name().to_owned();
    match tokio::task::spawn_blocking(move || sinks.replays_of(&name)).await {
        Ok(Ok(Some(replays))) => json(StatusCode::OK, &ReplaysDocument { replays }),
        Ok(Ok(None)) => no_sink(asked.name()),
        Ok(Err(error)) => not_stored(&error),
        Err(_) => failed(),
    }
}

/// Begins one.
pub(super) async fn make(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let name = asked.name().to_owned();
    let path = asked.request.head.uri.path().to_owned();
    let request: ReplayRequest = match answers::body(asked, TITLE, HINT).await {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    let Some(wish) = wish(request) else { return bad(TITLE, HINT) };
    match sinks.replay(&name, wish).await {
        Ok(replay) => {
            tracing::info!(sink = name, number = replay.number, "a replay begins");
            let mut answer = json(StatusCode::CREATED, &replay);
            let place = HeaderValue::from_str(&format!("{path}/{}", replay.number));
            if let Ok(place) = place {
                answer.headers_mut().insert(header::LOCATION, place);
            }
            answer
        }
        Err(error) => refused(&sinks, &name, &error),
    }
}

/// Ends one.
pub(super) async fn stop(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let stopped = match asked.number() {
        Some(number) => sinks.stop_replay(asked.name(), number).await,
        None => Err(ReplayProblem::NoReplay),
    };
    match stopped {
        Ok(()) => done(),
        Err(error) => refused(&sinks, asked.name(), &error),
    }
}

/// `None` when it makes no sense, or says nothing: a mistake must not send everything once more.
fn wish(request: ReplayRequest) -> Option<Wish> {
    let ReplayRequest { ids, from, until, failed } = &request;
    if ids.is_empty() && from.is_none() && until.is_none() && !failed {
        return None;
    }
    let edge = |value: Option<Value>| value.as_ref().map(edge);
    Some(Wish {
        ids: request.ids,
        from: edge(request.from).map_or(Some(None), |edge| edge.map(Some))?,
        until: edge(request.until).map_or(Some(None), |edge| edge.map(Some))?,
        only_failed: request.failed,
    })
}

/// A place as a number, or in a text a place, a time or an id.
fn edge(value: &Value) -> Option<Edge> {
    let text = match value {
        Value::Number(number) => return number.as_u64().map(Edge::Place),
        Value::String(text) => text.trim(),
        _ => return None,
    };
    if let Ok(place) = text.parse() {
        return Some(Edge::Place(place));
    }
    if let Some(seconds) = dates::parsed(text) {
        return Some(Edge::Time(seconds.saturating_mul(1_000)));
    }
    (!text.is_empty()).then(|| Edge::Id(text.to_owned()))
}

fn refused(sinks: &Sinks, name: &str, error: &ReplayProblem) -> Response<Body> {
    let (status, title) = match error {
        ReplayProblem::NoSink => return not_running(name, failure(sinks, name)),
        ReplayProblem::Unsaved(error) => return not_stored(error),
        ReplayProblem::NoReplay => (StatusCode::NOT_FOUND, "No such replay"),
        ReplayProblem::NoEntry(_) => (StatusCode::NOT_FOUND, "No such entry"),
        ReplayProblem::Gone(_) => (StatusCode::GONE, "No longer kept"),
        ReplayProblem::TooMany => (StatusCode::CONFLICT, "Too many replays"),
        ReplayProblem::TooManyIds | ReplayProblem::Both => (StatusCode::BAD_REQUEST, TITLE),
    };
    problem(status, title, &format!("{error}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn borders_are_places_times_or_ids() {
        let time = Edge::Time(1_800_000_000_000);
        for (value, wanted) in [
            (json!(7), Some(Edge::Place(7))),
            (json!("7"), Some(Edge::Place(7))),
            (json!("2027-01-15T08:00:00Z"), Some(time)),
            (json!("urn:uuid:1"), Some(Edge::Id("urn:uuid:1".into()))),
            (json!(-1), None),
            (json!(""), None),
            (json!(true), None),
        ] {
            assert_eq!(edge(&value), wanted, "{value}");
        }
        let one = ReplayRequest { from: Some(json!(null)), ..ReplayRequest::default() };
        assert!(wish(one).is_none());
        assert_eq!(wish(ReplayRequest::default()), None);
        let failed = ReplayRequest { failed: true, ..ReplayRequest::default() };
        assert_eq!(wish(failed), Some(Wish { only_failed: true, ..Wish::default() }));
    }
}
