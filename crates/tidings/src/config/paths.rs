//! Where settings are: what stands at a path, and what may stand in a table. Knows no setting; the
//! schema does.

use super::schema::{CONNECTORS, KEYS, Key};

/// The setting at a concrete path such as `auth.issuer[3].id`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let general = general(path);
    KEYS.iter().find(|key| key.path == general)
}

/// The path with every index left out: `auth.issuer[].id`.
pub(super) fn general(path: &str) -> String {
    let mut general = String::with_capacity(path.len());
    let mut index = false;
    for c in path.chars() {
        index = if c == '[' { true } else { index && c != ']' };
        if !index || c == '[' {
            general.push(c);
        }
    }
    general
}

/// Names that may stand directly in the table at `path` (general form; empty for the top).
pub(super) fn members(path: &str) -> Vec<&'static str> {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let connectors = if path.is_empty() { CONNECTORS.as_slice() } else { &[] };
    let mut names: Vec<&'static str> = KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(prefix.as_str()))
        .filter_map(|rest| rest.split(['.', '[']).next())
        .chain(connectors.iter().copied())
        .collect();
    names.dedup();
    names
}

/// Whether a table is at `path` (general form).
pub(super) fn is_table(path: &str) -> bool {
    !members(path).is_empty()
}
