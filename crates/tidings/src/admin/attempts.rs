//! `/tidings/admin/sinks/{name}/attempts`: what was tried, the newest first. Knows no storage.

use http::{Response, StatusCode};
use tidings_connectors::attempts::Attempt;
use tidings_frontends::http::Body;

use super::answers::{bad, failed, json, no_sink};
use super::documents::{AttemptDocument, AttemptsDocument};
use super::routes::Asked;
use super::sinks::{begin, found};

/// A page from before the number `before` on; with `failed=true` only of failures.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let Ok(before) = asked.query("before").map(|before| before.parse::<u64>()).transpose() else {
        return bad("Not a number", "`before` takes the number of an attempt.");
    };
    let only_failed = match asked.query("failed").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return bad("Not a choice", "`failed` takes true or false."),
    };
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let (attempts, name) = (sinks.attempts().clone(), asked.name().to_owned());
    let listing =
        tokio::task::spawn_blocking(move || attempts.list(&name, before, only_failed)).await;
    let Ok(page) = listing else { return failed() };
    let attempts = page.attempts.into_iter().map(document).collect();
    json(StatusCode::OK, &AttemptsDocument { attempts, before: page.before })
}

fn document(attempt: Attempt) -> AttemptDocument {
    let (fault, reason) = attempt.failure.unzip();
    AttemptDocument {
        number: attempt.number,
        time: attempt.time,
        entry: attempt.entry,
        place: attempt.places.0,
        delivered: attempt.delivered,
        tries: attempt.tries,
        took: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        status: attempt.status,
        fault,
        reason,
        answer: begin(&attempt.answer),
    }
}
