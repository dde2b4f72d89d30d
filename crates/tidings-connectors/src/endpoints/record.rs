//! Endpoints as rows of the hub's state: one without secrets, and one for each secret, sealed for
//! its place. Knows no endpoint that runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidings_core::{State, StateError, Table};
use url::Url;

use super::{BadEndpoints, Endpoint};
use crate::book::Change;
use crate::kinds::SINKS;
use crate::reader::{put, remove};
use crate::rows::OptionRow;
use crate::secret::{BadKeyFile, KeyFile, NotSealed};
use crate::specification::{self, SinkSpecification};

const FORMAT: u8 = 1;
/// The one secret that is written in another form than it is kept in: each key may have an end.
pub(super) const SIGNING: &str = "secrets";
/// The option that says where an endpoint is.
pub(super) const URL: &str = "url";

/// An endpoint as it is kept, without its secrets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u8,
    specification: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    creator: Option<Value>,
    made: u64,
    changed: u64,
    version: u64,
    /// The options that are kept sealed.
    secrets: Vec<String>,
}

/// The options of a kind.
pub(super) fn options(kind: &str) -> &'static [OptionRow] {
    SINKS.iter().find(|one| one.name == kind).map_or(&[], |one| one.options)
}

/// What a sink is told without its secrets, and these by their options. The URL is one of them: its
/// path is often all that an endpoint asks of who posts there.
pub(super) fn apart(told: &SinkSpecification) -> (Value, BTreeMap<&'static str, Value>) {
    let mut told = told.clone();
    let mut secrets = told.to.take_secrets(options(&told.to.kind));
    secrets.extend(remove(&mut told.to.options, URL).map(|url| (URL, url)));
    (told.to_json(), secrets)
}

/// As much of a URL as is shown.
pub(super) fn shown_url(url: &Value) -> Option<Value> {
    let url = Url::parse(url.as_str()?).ok()?;
    Some(format!("{}/…", url.origin().ascii_serialization()).into())
}

/// What is kept apart, together again. `None` when it does not fit.
fn together(mut written: Value, secrets: Vec<(String, Value)>) -> Option<SinkSpecification> {
    let mut keys = None;
    let tree = written.as_object_mut()?;
    for (path, value) in secrets {
        match path.as_str() {
            SIGNING => keys = Some(value),
            path => put(tree, path, value),
        }
    }
    let mut told = specification::sink(&written).ok()?;
    if let Some(keys) = keys {
        told.to.put_secret(SIGNING, keys);
    }
    Some(told)
}

/// The row of a secret.
fn secret_key(name: &str, path: &str) -> Vec<u8> {
    [name.as_bytes(), &[0], path.as_bytes()].concat()
}

/// What a secret is sealed for: it opens nowhere else.
fn place(key: &[u8]) -> Vec<u8> {
    [b"secrets\0", key].concat()
}

/// The rows of an endpoint, also those to be removed of what was there `before`.
///
/// # Errors
///
/// When a secret cannot be sealed.
pub(super) fn rows(
    endpoint: &Endpoint,
    before: Option<&Endpoint>,
    key: &KeyFile,
) -> Result<Vec<Change>, NotSealed> {
    let name = &endpoint.told.name;
    let (specification, secrets) = apart(&endpoint.told);
    let mut rows = Vec::new();
    for (path, value) in &secrets {
        let row = secret_key(name, path);
        let sealed = key.seal(&place(&row), value.to_string().as_bytes())?;
        rows.push((Table::Secrets, row, Some(sealed)));
    }
    let old = before.map(|before| apart(&before.told).1).unwrap_or_default();
    let gone = old.keys().filter(|path| !secrets.contains_key(*path));
    rows.extend(gone.map(|path| (Table::Secrets, secret_key(name, path), None)));
    let record = Record {
        format: FORMAT,
        specification,
        creator: endpoint.creator.clone(),
        made: endpoint.made,
        changed: endpoint.changed,
        version: endpoint.version,
        secrets: secrets.into_keys().map(str::to_owned).collect(),
    };
    // It has texts and numbers only.
    let value = serde_json::to_vec(&record).unwrap_or_default();
    rows.push((Table::Endpoints, name.as_bytes().to_vec(), Some(value)));
    Ok(rows)
}

/// The rows of an endpoint, removed.
pub(super) fn gone(endpoint: &Endpoint) -> Vec<Change> {
    let name = &endpoint.told.name;
    let secrets = apart(&endpoint.told).1;
    let mut rows: Vec<Change> =
        secrets.keys().map(|path| (Table::Secrets, secret_key(name, path), None)).collect();
    rows.push((Table::Endpoints, name.as_bytes().to_vec(), None));
    rows
}

/// An endpoint from its row.
///
/// # Errors
///
/// When a row of it is damaged or missing, or its secrets do not open with this key.
pub(super) fn read(
    state: &State,
    name: &[u8],
    row: &[u8],
    keys: &Keys,
) -> Result<Endpoint, BadEndpoints> {
    let name = String::from_utf8_lossy(name).into_owned();
    let damaged = || BadEndpoints::Damaged { name: name.clone() };
    let record: Record = serde_json::from_slice(row).map_err(|_| damaged())?;
    if record.format != FORMAT {
        return Err(damaged());
    }
    let mut secrets = Vec::new();
    for path in record.secrets {
        let row = secret_key(&name, &path);
        let sealed = state.get(Table::Secrets, &row)?.ok_or_else(damaged)?;
        let opened = keys.get()?.open_sealed(&place(&row), &sealed);
        let bytes = opened.map_err(|reason| keys.wrong(&name, reason))?;
        secrets.push((path, serde_json::from_slice(&bytes).map_err(|_| damaged())?));
    }
    let told = together(record.specification, secrets).filter(|told| told.name == name);
    let (made, changed, version) = (record.made, record.changed, record.version);
    let creator = record.creator;
    Ok(Endpoint { told: told.ok_or_else(damaged)?, creator, made, changed, version })
}

/// Whether anything is sealed.
pub(super) fn has_sealed(state: &State) -> Result<bool, StateError> {
    Ok(!state.rows(Table::Secrets, 1)?.is_empty())
}

/// The key that seals, once somebody needs it.
pub(super) struct Keys {
    path: Option<PathBuf>,
    key: OnceLock<Arc<KeyFile>>,
}

impl Keys {
    /// The key in the file at `path`, or, without one, of this process. Where something was sealed
    /// before, or a file is there, it is read now.
    pub(super) fn open(path: Option<PathBuf>, has_sealed: bool) -> Result<Keys, BadKeyFile> {
        let keys = Keys { path, key: OnceLock::new() };
        if let Some(path) = &keys.path
            && (has_sealed || path.exists())
        {
            let _ = keys.key.set(Arc::new(KeyFile::open(path)?));
        }
        Ok(keys)
    }

    /// The key. Made, if this is the first secret to be sealed.
    pub(super) fn get(&self) -> Result<Arc<KeyFile>, BadKeyFile> {
        if let Some(key) = self.key.get() {
            return Ok(Arc::clone(key));
        }
        let made = match &self.path {
            Some(path) => KeyFile::open_or_make(path)?,
            None => KeyFile::of_this_process()?,
        };
        // Of two that come at once, both take the one that is kept.
        Ok(Arc::clone(self.key.get_or_init(|| Arc::new(made))))
    }

    fn wrong(&self, name: &str, reason: crate::secret::NotOpened) -> BadEndpoints {
        let path = self.path.clone().unwrap_or_default();
        BadEndpoints::Sealed { name: name.to_owned(), path, reason }
    }
}
