//! From what somebody writes over the API to what an endpoint is told: checked as a whole, and what
//! is not written of its secrets is kept as it was.

use serde_json::{Map, Value, json};

use super::EndpointProblem;
use super::record::{self, SIGNING, URL};
use crate::reader::{find, put, remove};
use crate::specification::{self, BadOption, SinkSpecification};
use crate::webhook::signature::{BadKey, Scheme, generate};

/// The one kind that is made over the API: others name files of the machine, or what the guard of
/// addresses does not see.
const KIND: &str = "webhook";

/// Something that is wrong with the option at `path`.
pub(super) fn bad(path: &str, message: &str, hint: &str) -> BadOption {
    let hint = Some(hint.to_owned());
    BadOption { path: path.to_owned(), message: message.to_owned(), hint, is_unknown: false }
}

/// What is written for a new endpoint, and the signing key that it was given if it has none.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(super) fn new(written: &Value) -> Result<(SinkSpecification, Option<String>), EndpointProblem> {
    let mut told = read(written, None)?;
    if told.to.get(SIGNING).is_some() {
        return Ok((told, None));
    }
    let key = generate(Scheme::Shared).map_err(|_: BadKey| EndpointProblem::Random)?;
    told.to.put_secret(SIGNING, json!([key.expose()]));
    Ok((told, Some(key.expose().to_owned())))
}

/// What is written to change the endpoint that was told `before`. Secrets that it does not mention
/// stay, and `null` takes one away.
///
/// # Errors
///
/// Everything that is wrong with it.
pub(super) fn changed(
    written: &Value,
    before: &SinkSpecification,
) -> Result<SinkSpecification, EndpointProblem> {
    read(written, Some(before))
}

fn read(
    written: &Value,
    before: Option<&SinkSpecification>,
) -> Result<SinkSpecification, EndpointProblem> {
    let mut tree = written.clone();
    let mut found = Vec::new();
    let mut keys = None;
    if let Some(tree) = tree.as_object_mut() {
        found.extend(other_kind(tree));
        if let Some(before) = before {
            let name = tree.entry("name").or_insert_with(|| json!(before.name));
            if *name != json!(before.name) {
                found.push(bad("name", "cannot be changed", "make another endpoint"));
            }
            keys = carry_over(tree, before, &mut found);
        }
        without_null_secrets(tree);
    }
    match specification::sink(&tree) {
        Ok(mut told) if found.is_empty() => {
            if let Some(keys) = keys {
                told.to.put_secret(SIGNING, keys);
            }
            Ok(told)
        }
        Ok(_) => Err(EndpointProblem::Bad(found)),
        Err(more) => {
            // A kind of the configuration alone has options that are not the mistake.
            if found.iter().all(|bad| bad.path != "kind") {
                found.extend(more);
            }
            Err(EndpointProblem::Bad(found))
        }
    }
}

fn other_kind(tree: &Map<String, Value>) -> Option<BadOption> {
    let kind = tree.get("kind")?.as_str().filter(|kind| *kind != KIND)?;
    let known = crate::SINKS.iter().any(|one| one.name == kind);
    let message = "only webhooks can be made over the API";
    known.then(|| bad("kind", message, "other sinks stand in the hub's configuration"))
}

/// Secrets that are not mentioned stay. Answers the signing keys, which are not kept in the form in
/// which they are written.
fn carry_over(
    tree: &mut Map<String, Value>,
    before: &SinkSpecification,
    found: &mut Vec<BadOption>,
) -> Option<Value> {
    let (_, mut secrets) = record::apart(before);
    // Who read it was shown no more than that of the URL.
    if let Some(url) = secrets.remove(URL)
        && tree.get(URL) == record::shown_url(&url).as_ref()
    {
        tree.insert(URL.to_owned(), url);
    }
    let is_elsewhere = origin(tree.get(URL)) != origin(before.to.get(URL));
    let mut keys = None;
    for (path, value) in secrets {
        let has_table = path.split_once('.').is_none_or(|(table, _)| tree.contains_key(table));
        if find(tree, path).is_some() || !has_table {
            continue;
        }
        if path == SIGNING {
            keys = Some(value);
        } else if is_elsewhere {
            let message = "the URL leads to another server, which does not get what was meant for \
                           the one before";
            found.push(bad(path, message, "write it again, or null"));
        } else {
            put(tree, path, value);
        }
    }
    keys
}

fn origin(url: Option<&Value>) -> Option<String> {
    let url = url::Url::parse(url?.as_str()?).ok()?;
    Some(url.origin().ascii_serialization())
}

/// What is written as `null` is not there, and not kept either.
fn without_null_secrets(tree: &mut Map<String, Value>) {
    for row in record::options(KIND).iter().filter(|row| row.is_secret) {
        if find(tree, row.path).is_some_and(Value::is_null) {
            remove(tree, row.path);
        }
    }
}
