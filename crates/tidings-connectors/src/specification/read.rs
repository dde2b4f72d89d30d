//! From a JSON value to a specification. Everything that is wrong is found at once; no value of a
//! secret is repeated. Knows what options mean together, and nothing of what a system makes of its
//! own.

use serde_json::{Map, Value};

use super::{BadOption, KeyOf, Pick, Replace, Retry, SystemOptions, Then};
use super::{SinkSpecification, SourceSpecification};
use crate::forms::{self, shown};
use crate::kinds::{ENDPOINTS, SINKS, SOURCES};
use crate::limits::{CONCURRENCY_DEFAULT, NAME_BYTES_MAX};
use crate::nearest::nearest;
use crate::reader::Reading;
use crate::rows::{Kind, OF_EVERY_SINK, OF_EVERY_SOURCE, OptionRow};
use crate::span::{self, Span};

/// Reads a sink.
///
/// # Errors
///
/// Everything that is wrong, at least one thing.
pub fn sink(value: &Value) -> Result<SinkSpecification, Vec<BadOption>> {
    sink_of("sink", value, SINKS)
}

/// Reads a sink that somebody else than the operator makes, over the API: a webhook that names no
/// file of this machine and opens no network.
///
/// # Errors
///
/// As [`sink`].
pub fn endpoint(value: &Value) -> Result<SinkSpecification, Vec<BadOption>> {
    sink_of("endpoint", value, ENDPOINTS)
}

fn sink_of(
    what: &str,
    value: &Value,
    kinds: &'static [Kind],
) -> Result<SinkSpecification, Vec<BadOption>> {
    let (mut reading, kind) = table(what, value, kinds, OF_EVERY_SINK)?;
    name(&mut reading);
    let key = reading.get("key").and_then(Value::as_str).and_then(|text| KeyOf::read(text).ok());
    let concurrency = concurrency(&mut reading, key.is_some());
    let retry = retry(&mut reading);
    let topics = topics(&mut reading);
    let then = reading.get("then.publish.replace").and_then(|pair| Replace::read(pair).ok());
    let rate = reading.get("rate").and_then(Value::as_u64);
    let name = text(&reading, "name").unwrap_or_default();
    let Some(kind) = kind.filter(|_| reading.problems.is_empty()) else {
        return Err(reading.problems);
    };
    Ok(SinkSpecification {
        name,
        topics,
        key,
        concurrency,
        rate: rate.and_then(|rate| u32::try_from(rate).ok()),
        retry,
        then: then.map(|publish| Then { publish }),
        to: options(&reading, kind),
    })
}

/// Reads a source. Without a name, it is called by its kind.
///
/// # Errors
///
/// As [`sink`].
pub fn source(value: &Value) -> Result<SourceSpecification, Vec<BadOption>> {
    let (mut reading, kind) = table("source", value, SOURCES, OF_EVERY_SOURCE)?;
    name(&mut reading);
    let Some(kind) = kind.filter(|_| reading.problems.is_empty()) else {
        return Err(reading.problems);
    };
    Ok(SourceSpecification {
        name: text(&reading, "name").unwrap_or_else(|| kind.name.to_owned()),
        private: reading.get("private").and_then(Value::as_bool).unwrap_or(false),
        from: options(&reading, kind),
    })
}

/// Any bytes as the JSON of an endpoint: must end in a specification that is read again from its
/// own form, or in mistakes.
#[doc(hidden)]
pub fn fuzz_endpoint(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return };
    match endpoint(&value) {
        Ok(told) => assert!(endpoint(&told.to_json()).is_ok_and(|again| again == told)),
        Err(problems) => assert!(!problems.is_empty()),
    }
}

/// Whether a text may be the name of a sink or source.
pub fn is_name(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_first = text.bytes().next().is_some_and(is_letter);
    let rest = |byte| is_letter(byte) || b"._-".contains(&byte);
    is_first && text.len() <= NAME_BYTES_MAX && text.bytes().all(rest)
}

/// The table with its kind, which is one of `kinds` unless that is wrong.
fn table(
    what: &str,
    value: &Value,
    kinds: &'static [Kind],
    every: &'static [OptionRow],
) -> Result<(Reading, Option<&'static Kind>), Vec<BadOption>> {
    let Value::Object(table) = value else {
        let message = format!("a {what} is a table, not {}", forms::kind(value));
        let path = String::new();
        return Err(vec![BadOption { path, message, hint: None, is_unknown: false }]);
    };
    let found = kind(what, table, kinds);
    let mut rest = table.clone();
    rest.remove("kind");
    let own = found.as_ref().map_or(&[] as &[OptionRow], |kind| kind.options);
    let rows = every.iter().chain(own).collect();
    let all: Vec<(&str, &[OptionRow])> =
        kinds.iter().map(|kind| (kind.name, kind.options)).collect();
    // Without a kind, nobody knows what is unknown.
    let elsewhere = found.is_ok().then_some(all.as_slice());
    let mut reading = Reading::new(rows, &rest, elsewhere);
    let found = found.map_err(|bad| reading.problems.insert(0, bad)).ok();
    if let Some(kind) = found.filter(|kind| !has_problem(&reading, kind.options)) {
        let problems = (kind.check)(&reading.tree(kind.options));
        reading.problems.extend(problems.into_iter().map(named));
    }
    Ok((reading, found))
}

/// A problem whose message says which option it is about.
fn named(bad: BadOption) -> BadOption {
    let message = match bad.path.as_str() {
        "" => bad.message,
        path => format!("`{path}`: {}", bad.message),
    };
    BadOption { message, ..bad }
}

/// Whether something is wrong with the form of an option that is in `rows`.
fn has_problem(reading: &Reading, rows: &[OptionRow]) -> bool {
    let first = |path: &str| path.split(['.', '[']).next().map(str::to_owned);
    let is_of = |bad: &BadOption| rows.iter().any(|row| first(row.path) == first(&bad.path));
    reading.problems.iter().any(is_of)
}

fn kind(
    what: &str,
    table: &Map<String, Value>,
    kinds: &'static [Kind],
) -> Result<&'static Kind, BadOption> {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
    let list = format!("kinds of {what}: {}", names.join(", "));
    let (message, hint) = match table.get("kind") {
        Some(Value::String(text)) => match kinds.iter().find(|kind| kind.name == text) {
            Some(kind) => return Ok(kind),
            None => {
                let near = nearest(&text.chars().take(32).collect::<String>(), names);
                let hint = near.map(|near| format!("did you mean {near:?}? {list}"));
                (format!("unknown kind {}", shown(text)), hint.unwrap_or(list))
            }
        },
        Some(other) => (format!("`kind` takes a text, not {}", forms::kind(other)), list),
        None => (format!("this {what} has no `kind`"), list),
    };
    let path = "kind".to_owned();
    Err(BadOption { path, message, hint: Some(hint), is_unknown: false })
}

fn text(reading: &Reading, path: &str) -> Option<String> {
    reading.get(path).and_then(Value::as_str).map(str::to_owned)
}

fn options(reading: &Reading, kind: &Kind) -> SystemOptions {
    SystemOptions { kind: kind.name.to_owned(), options: reading.tree(kind.options) }
}

fn name(reading: &mut Reading) {
    let written = text(reading, "name");
    if let Some(text) = written.filter(|text| !is_name(text)) {
        let message = format!("`name` does not take {}", shown(&text));
        let hint = format!("up to {NAME_BYTES_MAX} of a-z, 0-9, `.`, `_` and `-`, as in \"cms\"");
        reading.wrong("name", message, hint);
    }
}

fn topics(reading: &mut Reading) -> Vec<Pick> {
    let list = reading.get("topics").and_then(Value::as_array);
    let Some(list) = list else { return Vec::new() };
    let topics: Vec<Pick> = list.iter().filter_map(|value| Pick::read(value).ok()).collect();
    if topics.is_empty() {
        let message = "`topics` is empty: nothing would be delivered".to_owned();
        reading.wrong("topics", message, "topics = [\"*\"] takes every update");
    }
    topics
}

fn concurrency(reading: &mut Reading, has_key: bool) -> usize {
    let written = reading.get("concurrency").and_then(Value::as_u64);
    if written.is_some_and(|number| number > 1) && !reading.is_written("key") {
        let message = "`concurrency` needs a `key`: without one, each update waits for the one \
                       before"
            .to_owned();
        reading.wrong("concurrency", message, "key = \"topic\" keeps the order of each topic");
    }
    let default = if has_key { CONCURRENCY_DEFAULT } else { 1 };
    written.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

fn retry(reading: &mut Reading) -> Retry {
    let read = |path: &str, default: Span| {
        let text = reading.get(path).and_then(Value::as_str);
        text.and_then(|text| span::parse(text).ok()).map_or(default, Span)
    };
    let default = Retry::default();
    let retry = Retry {
        first: read("retry.first", default.first),
        max: read("retry.max", default.max),
        give_up_after: read("retry.give_up_after", default.give_up_after),
    };
    if retry.first > retry.max {
        let path = if reading.is_written("retry.max") { "retry.max" } else { "retry.first" };
        let (first, max) = (retry.first, retry.max);
        let message = format!("the longest wait `max` is {max}, and the `first` is {first}");
        reading.wrong(path, message, "as in retry = { first = \"1s\", max = \"5m\" }");
    }
    retry
}
