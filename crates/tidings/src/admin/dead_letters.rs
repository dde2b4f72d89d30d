//! `/tidings/admin/sinks/{name}/dead-letters`: listed, delivered again, deleted. Knows no storage.

use http::{Response, StatusCode};
use tidings_connectors::limits::LETTERS_NAMED_MAX;
use tidings_connectors::sinks::Sinks;
use tidings_connectors::sinks::letters::{Letter, LettersProblem, Which};
use tidings_frontends::http::Body;
use tidings_frontends::problem::problem;

use super::answers::{self, bad, done, failed, json, no_sink, not_running, not_stored};
use super::documents::{LetterDocument, LettersDocument, RedrivenDocument, SelectionDocument};
use super::routes::Asked;
use super::sinks::{begin, failure, found};

const TITLE: &str = "Not a choice of dead letters";
const HINT: &str =
    "Send JSON: {\"numbers\": [1, 2]} with at most 10,000 numbers, or {\"all\": true}.";

/// A page, behind the number `after`.
pub(super) async fn list(asked: Asked) -> Response<Body> {
    let after = match asked.query("after").map(|after| after.parse::<u64>()) {
        None => 0,
        Some(Ok(after)) => after,
        Some(Err(_)) => return bad("Not a number", "`after` takes the number of a dead letter."),
    };
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let name = asked.name().to_owned();
    match tokio::task::spawn_blocking(move || sinks.dead_letters(&name, after)).await {
        Ok(Ok(Some(page))) => {
            let dead_letters = page.letters.into_iter().map(document).collect();
            json(StatusCode::OK, &LettersDocument { dead_letters, after: page.after })
        }
        Ok(Ok(None)) => no_sink(asked.name()),
        Ok(Err(error)) => not_stored(&error),
        Err(_) => failed(),
    }
}

/// Has them delivered again.
pub(super) async fn redrive(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let name = asked.name().to_owned();
    let which = match chosen(asked).await {
        Ok(which) => which,
        Err(answer) => return *answer,
    };
    let told = match sinks.redrive(&name, which).await {
        Ok(told) => told,
        Err(error) => return refused(&sinks, &name, &error),
    };
    let left = sinks.status(&name).await.map_or(0, |status| status.dead);
    tracing::info!(sink = name, taken = told.taken, left, "dead letters are delivered again");
    let goes_on = !told.is_over;
    let (taken, empty, unknown) = (told.taken, told.empty, told.unknown);
    let failure = told.failure;
    json(StatusCode::OK, &RedrivenDocument { taken, empty, unknown, left, goes_on, failure })
}

/// Deletes them.
pub(super) async fn forget(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let name = asked.name().to_owned();
    let which = match chosen(asked).await {
        Ok(which) => which,
        Err(answer) => return *answer,
    };
    let unknown = match &which {
        Which::All => 0,
        Which::Numbers(numbers) => numbers.len(),
    };
    let taken = match sinks.forget(&name, which).await {
        Ok(taken) => taken,
        Err(error) => return refused(&sinks, &name, &error),
    };
    let left = sinks.status(&name).await.map_or(0, |status| status.dead);
    tracing::warn!(sink = name, deleted = taken, left, "dead letters were deleted");
    let unknown = unknown.saturating_sub(taken);
    let (empty, goes_on, failure) = (0, false, None);
    json(StatusCode::OK, &RedrivenDocument { taken, empty, unknown, left, goes_on, failure })
}

/// Deletes one.
pub(super) async fn forget_one(asked: Asked) -> Response<Body> {
    let Some((sinks, _)) = found(&asked) else { return no_sink(asked.name()) };
    let Some(number) = asked.number() else { return no_letter() };
    match sinks.forget(asked.name(), Which::Numbers(vec![number])).await {
        Ok(0) => no_letter(),
        Ok(_) => {
            tracing::warn!(sink = asked.name(), number, "a dead letter was deleted");
            done()
        }
        Err(error) => refused(&sinks, asked.name(), &error),
    }
}

async fn chosen(asked: Asked) -> Result<Which, Box<Response<Body>>> {
    let document: SelectionDocument = answers::body(asked, TITLE, HINT).await?;
    match (document.all, document.numbers) {
        (true, numbers) if numbers.is_empty() => Ok(Which::All),
        (false, mut numbers) if (1..=LETTERS_NAMED_MAX).contains(&numbers.len()) => {
            numbers.sort_unstable();
            numbers.dedup();
            Ok(Which::Numbers(numbers))
        }
        _ => Err(Box::new(bad(TITLE, HINT))),
    }
}

fn no_letter() -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "No such dead letter", "GET the list to see those there are.")
}

fn refused(sinks: &Sinks, name: &str, error: &LettersProblem) -> Response<Body> {
    match error {
        LettersProblem::NoSink => not_running(name, failure(sinks, name)),
        LettersProblem::Busy => problem(StatusCode::CONFLICT, "Busy", &format!("{error}.")),
        LettersProblem::State(error) => not_stored(error),
    }
}

fn document(letter: Letter) -> LetterDocument {
    LetterDocument {
        number: letter.number,
        kind: letter.kind.to_owned(),
        time: letter.time,
        tries: letter.tries,
        reason: letter.reason,
        fault: letter.fault.map(str::to_owned),
        status: letter.status,
        answer: begin(&letter.answer),
        entry: letter.entry,
        topic: letter.topic,
        places: letter.places,
        size: letter.size,
    }
}
