//! One table against the rows of its options: unknown names, wrong values and missing ones are all
//! found in one walk. Knows no option's meaning.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::forms::{self, shown};
use crate::limits::OPTION_SHOWN_CHARS_MAX;
use crate::nearest::nearest;
use crate::rows::OptionRow;
use crate::specification::BadOption;

/// What a table holds, as far as it could be read, and everything that is wrong with it.
pub(crate) struct Reading {
    rows: Vec<&'static OptionRow>,
    taken: BTreeMap<&'static str, Value>,
    pub(crate) problems: Vec<BadOption>,
}

impl Reading {
    /// Reads `table`. Names that are in `elsewhere` alone belong to another kind, which the hint
    /// says; `None` leaves unknown names be, where it is not known which kind it is.
    pub(crate) fn new(
        rows: Vec<&'static OptionRow>,
        table: &Map<String, Value>,
        elsewhere: Option<&[(&'static str, &'static [OptionRow])]>,
    ) -> Reading {
        let mut reading = Reading { rows, taken: BTreeMap::new(), problems: Vec::new() };
        reading.walk("", table, elsewhere);
        reading.missing(table);
        reading
    }

    /// The value at a path, in its one form.
    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        self.taken.get(path)
    }

    /// Whether something stands at a path, right or wrong.
    pub(crate) fn is_written(&self, path: &str) -> bool {
        let below = |bad: &BadOption| bad.path == path || bad.path.starts_with(&format!("{path}["));
        self.taken.contains_key(path) || self.problems.iter().any(below)
    }

    /// Notes something that is wrong.
    pub(crate) fn wrong(&mut self, path: &str, message: String, hint: impl Into<String>) {
        let hint = Some(hint.into());
        self.problems.push(BadOption { path: path.to_owned(), message, hint, is_unknown: false });
    }

    /// The values of `rows` alone, as a tree.
    pub(crate) fn tree(&self, rows: &[OptionRow]) -> Map<String, Value> {
        let mut tree = Map::new();
        for (path, value) in rows.iter().filter_map(|row| self.taken.get_key_value(row.path)) {
            put(&mut tree, path, value.clone());
        }
        tree
    }

    fn walk(
        &mut self,
        parent: &str,
        table: &Map<String, Value>,
        elsewhere: Option<&[(&'static str, &'static [OptionRow])]>,
    ) {
        for (name, value) in table {
            let path = join(parent, name);
            // A dot in a name is not the dot between names.
            let row = self.rows.iter().copied().find(|row| row.path == path && is_plain(name));
            if let Some(row) = row {
                self.take(row, value);
            } else if self.is_table(&path) && is_plain(name) {
                match value {
                    Value::Object(below) => self.walk(&path, below, elsewhere),
                    value => {
                        let kind = forms::kind(value);
                        let message = format!("`{name}` takes a table, not {kind}");
                        let hint = self.example(&path);
                        self.wrong(&path, message, hint);
                    }
                }
            } else if let Some(elsewhere) = elsewhere {
                let problem = self.unknown(parent, name, elsewhere);
                self.problems.push(problem);
            }
        }
    }

    fn take(&mut self, row: &'static OptionRow, value: &Value) {
        match forms::take(row.takes, value, row.is_secret) {
            Ok(value) => {
                self.taken.insert(row.path, value);
            }
            Err(flaws) => self.problems.extend(flaws.into_iter().map(|flaw| BadOption {
                path: format!("{}{}", row.path, flaw.below),
                message: format!("`{}` {}", last(row.path), flaw.message),
                hint: Some(flaw.hint.unwrap_or_else(|| written(row))),
                is_unknown: false,
            })),
        }
    }

    /// Whether options are below `path`.
    fn is_table(&self, path: &str) -> bool {
        let prefix = format!("{path}.");
        self.rows.iter().any(|row| row.path.starts_with(&prefix))
    }

    /// The first option below `path`, written.
    fn example(&self, path: &str) -> String {
        let prefix = format!("{path}.");
        let row = self.rows.iter().find(|row| row.path.starts_with(&prefix));
        row.map_or_else(String::new, |row| written(row))
    }

    fn missing(&mut self, table: &Map<String, Value>) {
        let rows = self.rows.clone();
        for row in rows.iter().filter(|row| row.is_required) {
            let first = row.path.split('.').next().unwrap_or_default();
            let is_asked_for = match table.get(first) {
                // What is no table is wrong already.
                Some(value) => first != row.path && value.is_object(),
                None => first == row.path,
            };
            if is_asked_for && !self.is_written(row.path) {
                let message = format!("`{}` is missing here", row.path);
                self.wrong(row.path, message, format!("{} = {}", row.path, row.example));
            }
        }
    }

    fn unknown(
        &self,
        parent: &str,
        name: &str,
        elsewhere: &[(&'static str, &'static [OptionRow])],
    ) -> BadOption {
        let start: String = name.chars().take(OPTION_SHOWN_CHARS_MAX).collect();
        let names = self.members(parent);
        let path = join(parent, name);
        let kind = elsewhere.iter().find(|(_, rows)| rows.iter().any(|row| is_at(row, &path)));
        let hint = match (nearest(&start, names.iter().copied()), kind) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some((kind, _))) => format!("this is an option of kind \"{kind}\""),
            (None, None) => format!("known here: {}", names.join(", ")),
        };
        let shown = shown(name);
        let place = if parent.is_empty() { String::new() } else { format!(" in `{parent}`") };
        let message = format!("unknown key `{}`{place}", shown.trim_matches('"'));
        BadOption { path, message, hint: Some(hint), is_unknown: true }
    }

    /// Names that may stand in the table at `parent`.
    fn members(&self, parent: &str) -> Vec<&'static str> {
        let prefix = if parent.is_empty() { String::new() } else { format!("{parent}.") };
        let mut names: Vec<&'static str> = Vec::new();
        for rest in self.rows.iter().filter_map(|row| row.path.strip_prefix(prefix.as_str())) {
            let name = rest.split('.').next().unwrap_or(rest);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Puts a value at a dotted path.
pub(crate) fn put(tree: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            tree.insert(path.to_owned(), value);
        }
        Some((name, rest)) => {
            let below = tree.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(below) = below {
                put(below, rest, value);
            }
        }
    }
}

/// The value at a dotted path.
pub(crate) fn find<'a>(tree: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    match path.split_once('.') {
        None => tree.get(path),
        Some((name, rest)) => find(tree.get(name)?.as_object()?, rest),
    }
}

/// Takes the value at a dotted path out.
pub(crate) fn remove(tree: &mut Map<String, Value>, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => tree.remove(path),
        Some((name, rest)) => remove(tree.get_mut(name)?.as_object_mut()?, rest),
    }
}

/// An option as it is written.
fn written(row: &OptionRow) -> String {
    format!("as in {} = {}", row.path, row.example)
}

fn is_plain(name: &str) -> bool {
    !name.contains(['.', '['])
}

/// Whether a row is the option at `path`, or one below it.
fn is_at(row: &OptionRow, path: &str) -> bool {
    row.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
