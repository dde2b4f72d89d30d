//! `tidings sink`: asks the admin listener of a running hub about its sinks, and shows the answers
//! to people. Knows no sink; what is done the hub decides.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidings_connectors::sinks::replay::{Replay, State};

use super::revocations::{AdminArguments, json};
use super::{ClientProblem, printable};
use crate::admin::{
    AttemptDocument, AttemptsDocument, LetterDocument, LettersDocument, RedrivenDocument,
    ReplayRequest, ReplaysDocument, SelectionDocument, SinkDocument, SinksDocument, TrialDocument,
};
use crate::config::AdminOptions;
use crate::token::dates;

/// Which dead letters.
#[derive(clap::Args)]
pub struct ChosenArguments {
    /// All of them
    #[arg(long, required_unless_present = "numbers", conflicts_with = "numbers")]
    all: bool,
    /// Those with these numbers
    #[arg(value_name = "NUMBER")]
    numbers: Vec<u64>,
}

/// What is delivered once more.
#[derive(clap::Args)]
#[group(required = true, multiple = true)]
pub struct ReplayArguments {
    /// From here on: an id, a place in the history (1 is the begin), or a time, as 2027-01-15 or
    /// 2027-01-15T08:00:00Z
    #[arg(long, value_name = "ID|PLACE|TIME")]
    from: Option<String>,
    /// Up to here
    #[arg(long, value_name = "ID|PLACE|TIME")]
    until: Option<String>,
    /// Only what failed and was not delivered since
    #[arg(long)]
    failed: bool,
    /// The update with this id; again for more
    #[arg(long = "id", value_name = "ID", conflicts_with_all = ["from", "until"])]
    ids: Vec<String>,
}

/// The admin listener of a hub.
struct Hub<'a> {
    options: &'a AdminOptions,
    admin: &'a AdminArguments,
}

impl Hub<'_> {
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientProblem> {
        json(self.ask(Method::GET, path, query, None).await?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientProblem> {
        let body = serde_json::to_vec(body).unwrap_or_default();
        json(self.ask(Method::POST, path, &[], Some(body)).await?).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<reqwest::Response, ClientProblem> {
        let path = format!("/tidings/admin/sinks{path}");
        self.admin.request(self.options, method, &path, query, body).await
    }
}

/// The path of a sink. A name that is none stays one segment.
fn of(name: &str, more: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/{name}{more}")
}

/// Lists sinks and how they stand.
///
/// # Errors
/// When the hub says no or cannot be reached, as in all of these.
pub async fn sinks(
    options: &AdminOptions,
    admin: &AdminArguments,
) -> Result<String, ClientProblem> {
    let hub = Hub { options, admin };
    let (mut text, mut after) = (String::new(), Some(String::new()));
    while let Some(behind) = after {
        let page: SinksDocument = hub.get("", &[("after", &behind)]).await?;
        page.sinks.iter().for_each(|sink| text.push_str(&sink_line(sink)));
        after = page.after;
    }
    if text.is_empty() {
        return Ok("there are no sinks\n".to_owned());
    }
    Ok(printable(&text))
}

fn sink_line(sink: &SinkDocument) -> String {
    let mut line = format!("{} ({}, {}): {}", sink.name, sink.kind, sink.origin, sink.state);
    // Nobody fails to write to a text.
    let mut say = |words: std::fmt::Arguments<'_>| {
        // A text always has room.
        let _ = line.write_fmt(words);
    };
    if let Some(reason) = &sink.reason {
        say(format_args!(" ({reason})"));
    }
    if sink.resting {
        say(format_args!(", resting"));
    }
    say(format_args!(", {} behind", sink.behind));
    if sink.parked > 0 {
        say(format_args!(", {} set aside", sink.parked));
    }
    if sink.dead_letters > 0 {
        say(format_args!(", {} dead letters", sink.dead_letters));
    }
    if let Some(failure) = &sink.last_failure {
        say(format_args!("; last failure: {failure}"));
    }
    line + "\n"
}

/// Shows everything about a sink, as JSON.
///
/// # Errors
/// As all of these.
pub async fn show(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
) -> Result<String, ClientProblem> {
    let sink: Value = Hub { options, admin }.get(&of(name, ""), &[]).await?;
    Ok(printable(&format!("{sink:#}\n")))
}

/// Lists what was tried, the newest first.
///
/// # Errors
/// As all of these.
pub async fn attempts(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    failed: bool,
    before: Option<u64>,
) -> Result<String, ClientProblem> {
    let before = before.map(|before| before.to_string());
    let mut query = vec![("failed", if failed { "true" } else { "false" })];
    query.extend(before.as_deref().map(|before| ("before", before)));
    let page: AttemptsDocument = Hub { options, admin }.get(&of(name, "/attempts"), &query).await?;
    let mut text: String = page.attempts.iter().map(attempt_line).collect();
    match page.before {
        Some(before) => text.push_str(&format!("there is more: --before {before}\n")),
        None if text.is_empty() => text.push_str("nothing was tried\n"),
        None => {}
    }
    Ok(printable(&text))
}

fn attempt_line(attempt: &AttemptDocument) -> String {
    let status = attempt.status.map(|status| format!(" {status}")).unwrap_or_default();
    let became = match (&attempt.fault, &attempt.reason) {
        (Some(fault), Some(reason)) => format!("{fault}{status}: {reason}"),
        _ => format!("delivered{status}"),
    };
    let (time, took) = (at(attempt.time), attempt.took);
    format!("{time} {} try {} in {took} ms: {became}\n", attempt.entry, attempt.tries)
}

/// Lists dead letters, the oldest first.
///
/// # Errors
/// As all of these.
pub async fn dead_letters(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    after: Option<u64>,
) -> Result<String, ClientProblem> {
    let after = after.unwrap_or(0).to_string();
    let path = of(name, "/dead-letters");
    let page: LettersDocument = Hub { options, admin }.get(&path, &[("after", &after)]).await?;
    let mut text: String = page.dead_letters.iter().map(letter_line).collect();
    match page.after {
        Some(after) => text.push_str(&format!("there is more: --after {after}\n")),
        None if text.is_empty() => text.push_str("there are no dead letters\n"),
        None => {}
    }
    Ok(printable(&text))
}

fn letter_line(letter: &LetterDocument) -> String {
    let what = match (&letter.topic, letter.places) {
        (Some(topic), _) => topic.clone(),
        (None, Some((first, last))) => format!("places {first} to {last}"),
        (None, None) => String::new(),
    };
    let status = letter.status.map(|status| format!(" {status}")).unwrap_or_default();
    let (number, kind, tries) = (letter.number, &letter.kind, letter.tries);
    let (time, reason) = (at(letter.time), &letter.reason);
    format!("{number} {time} {kind} {what}, tries: {tries},{status} {reason}\n")
}

/// Has dead letters delivered again.
///
/// # Errors
/// As all of these.
pub async fn redrive(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    chosen: &ChosenArguments,
) -> Result<String, ClientProblem> {
    let told = choose(&Hub { options, admin }, &of(name, "/dead-letters/redrive"), chosen).await?;
    let mut text = format!("to be delivered again: {}; left: {}\n", told.taken, told.left);
    if told.empty > 0 {
        text.push_str(&format!("{} hold nothing that could be delivered\n", told.empty));
    }
    if told.goes_on {
        text.push_str("it goes on, as fast as the sink takes them\n");
    }
    Ok(printable(&(text + &rest(&told))))
}

/// Deletes dead letters.
///
/// # Errors
/// As all of these.
pub async fn forget(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    chosen: &ChosenArguments,
) -> Result<String, ClientProblem> {
    let told = choose(&Hub { options, admin }, &of(name, "/dead-letters/forget"), chosen).await?;
    let text = format!("deleted: {}; left: {}\n", told.taken, told.left);
    Ok(printable(&(text + &rest(&told))))
}

async fn choose(
    hub: &Hub<'_>,
    path: &str,
    chosen: &ChosenArguments,
) -> Result<RedrivenDocument, ClientProblem> {
    let document = SelectionDocument { numbers: chosen.numbers.clone(), all: chosen.all };
    hub.post(path, &document).await
}

fn rest(told: &RedrivenDocument) -> String {
    let mut text = String::new();
    if told.unknown > 0 {
        text.push_str(&format!("{} numbers belong to no dead letter\n", told.unknown));
    }
    if let Some(failure) = &told.failure {
        text.push_str(&format!("it ended: {failure}\n"));
    }
    text
}

/// Begins a replay.
///
/// # Errors
/// As all of these.
pub async fn replay(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    wanted: &ReplayArguments,
) -> Result<String, ClientProblem> {
    let request = ReplayRequest {
        ids: wanted.ids.clone(),
        from: wanted.from.clone().map(Value::String),
        until: wanted.until.clone().map(Value::String),
        failed: wanted.failed,
    };
    let replay: Replay = Hub { options, admin }.post(&of(name, "/replays"), &request).await?;
    Ok(format!("{}see how far it is with `tidings sink replays`\n", replay_line(&replay)))
}

/// Lists replays, the newest first.
///
/// # Errors
/// As all of these.
pub async fn replays(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
) -> Result<String, ClientProblem> {
    let page: ReplaysDocument = Hub { options, admin }.get(&of(name, "/replays"), &[]).await?;
    if page.replays.is_empty() {
        return Ok("nothing was replayed\n".to_owned());
    }
    Ok(printable(&page.replays.iter().map(replay_line).collect::<String>()))
}

fn replay_line(replay: &Replay) -> String {
    let state = match replay.state {
        State::Running => "running",
        State::Done => "done",
        State::Stopped => "stopped",
    };
    let reason = replay.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let Replay { number, position, until, taken, missed, .. } = replay;
    let missed = match missed {
        0 => String::new(),
        missed => format!(", {missed} places are no longer in the history"),
    };
    let at = at(replay.made);
    format!("{number} {at} {state}{reason}: at {position} of {until}, sent {taken}{missed}\n")
}

/// Ends a replay.
///
/// # Errors
/// As all of these.
pub async fn stop_replay(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
    number: u64,
) -> Result<String, ClientProblem> {
    let path = of(name, &format!("/replays/{number}"));
    Hub { options, admin }.ask(Method::DELETE, &path, &[], None).await?;
    Ok("stopped\n".to_owned())
}

/// Has a sink go on.
///
/// # Errors
/// As all of these.
pub async fn resume(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
) -> Result<String, ClientProblem> {
    let path = of(name, "/resume");
    let sink: SinkDocument = Hub { options, admin }.post(&path, &Value::Null).await?;
    Ok(printable(&sink_line(&sink)))
}

/// Delivers a made-up update.
///
/// # Errors
/// As all of these, and when it is not delivered.
pub async fn test(
    options: &AdminOptions,
    admin: &AdminArguments,
    name: &str,
) -> Result<String, ClientProblem> {
    let path = of(name, "/test");
    let trial: TrialDocument = Hub { options, admin }.post(&path, &Value::Null).await?;
    let status = trial.status.map(|status| format!(" {status}")).unwrap_or_default();
    if trial.delivered {
        return Ok(format!("delivered in {} ms:{status}\n", trial.took));
    }
    let (fault, reason) = (trial.fault.unwrap_or_default(), trial.reason.unwrap_or_default());
    let answer: String = trial.answer.chars().take(ANSWER_CHARS).collect();
    let words = format!("{fault}{status} after {} ms: {reason}\n{answer}", trial.took);
    Err(ClientProblem::NotDelivered(printable(words.trim_end())))
}

/// Characters of an answer on the terminal.
const ANSWER_CHARS: usize = 500;

/// A time for people.
fn at(milliseconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let shown = dates::shown(signed(milliseconds / 1_000), signed(now)).unwrap_or_default();
    shown.split(',').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_a_line_that_says_what_is_wrong() {
        let sink: SinkDocument = serde_json::from_value(serde_json::json!({
            "name": "cache", "kind": "webhook", "origin": "configuration", "state": "disabled",
            "reason": "gone", "position": 3, "behind": 4, "waiting": 0, "sending": 0, "parked": 2,
            "dead_letters": 1, "resting": true, "last_failure": "410",
        }))
        .unwrap();
        assert_eq!(
            sink_line(&sink),
            "cache (webhook, configuration): disabled (gone), resting, 4 behind, 2 set aside, \
             1 dead letters; last failure: 410\n"
        );
    }

    #[test]
    fn a_name_that_is_none_stays_one_segment() {
        assert_eq!(of("a/../b?c", "/test"), "/a%2F..%2Fb%3Fc/test");
        assert_eq!(at(1_800_000_000_000), "2027-01-15T08:00:00Z");
    }
}
