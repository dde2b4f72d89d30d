//! `[[sink]]` and `[[source]]`: from a tree to specifications, with every mistake at its place.
//! Values that a variable holds as text become what their option takes; secrets may be in files.
//! Knows no option: the connectors' rows do.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value as Json};
use tidings_connectors::rows::{Kind, OF_EVERY_SINK, OF_EVERY_SOURCE, OptionRow, Takes};
use tidings_connectors::specification::{self, BadOption, SinkSpecification, SourceSpecification};
use tidings_connectors::{SINKS, SOURCES};
use tidings_frontends::auth::is_pathlike;

use super::environment::connector_variable;
use super::mistakes::{Problem, are_urls};
use super::paths::general;
use super::schema::CONNECTORS;
use super::value::{Member, Node, Place, Step, Table, Value, steps};
use super::variables::read_secret;
use crate::limits::VALUE_SHOWN_CHARS_MAX;

/// The end of an option's name that says where its value is.
const FILE: &str = "_file";

/// The sinks and sources of a configuration.
#[derive(Default)]
pub(super) struct Connectors {
    pub(super) sinks: Vec<SinkSpecification>,
    pub(super) sources: Vec<SourceSpecification>,
}

/// Reads all of them, as far as they can be, and everything that is wrong.
pub(super) fn read(tree: &Node) -> (Connectors, Vec<Problem>) {
    let mut connectors = Connectors::default();
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for list in CONNECTORS {
        for element in elements(tree, list, &mut problems) {
            let mut reading = Element::new(list, element);
            let value = reading.table("", element);
            let name = match list {
                "sink" => reading.accept(specification::sink(&value)).map(|sink| {
                    connectors.sinks.push(sink.clone());
                    sink.name
                }),
                _ => reading.accept(specification::source(&value)).map(|source| {
                    connectors.sources.push(source.clone());
                    source.name
                }),
            };
            if let Some(name) = name.filter(|name| !names.insert(name.clone())) {
                let place = element.place_of("name");
                let message = format!("another sink or source is called {name:?}");
                let hint = "its place in the history is kept under its name: choose another";
                reading.problems.push(Problem::new(place, message).hint(hint));
            }
            problems.append(&mut reading.problems);
        }
    }
    (connectors, problems)
}

fn elements<'a>(tree: &'a Node, list: &str, problems: &mut Vec<Problem>) -> &'a [Node] {
    match tree.find(&[Step::Key(list.to_owned())]) {
        Some(Node { value: Value::List(elements), .. }) => elements,
        Some(other) => {
            let kind = other.value.kind();
            let message = format!("`{list}` takes a list of tables: write [[{list}]], not {kind}");
            problems.push(Problem::new(other.place.clone(), message));
            &[]
        }
        None => &[],
    }
}

/// The kinds of a list, and what all of them take.
pub(super) fn kinds(list: &str) -> (&'static [Kind], &'static [OptionRow]) {
    if list == "sink" { (SINKS, OF_EVERY_SINK) } else { (SOURCES, OF_EVERY_SOURCE) }
}

/// The rows that an element goes by: of its kind, or of all where the kind is not known.
fn rows(list: &str, element: &Node) -> Vec<&'static OptionRow> {
    let (kinds, every) = kinds(list);
    let kind = match element.find(&[Step::Key("kind".to_owned())]).map(|node| &node.value) {
        Some(Value::Text(text)) => kinds.iter().find(|kind| kind.name == text),
        _ => None,
    };
    let own: Vec<&OptionRow> = match kind {
        Some(kind) => kind.options.iter().collect(),
        None => kinds.iter().flat_map(|kind| kind.options).collect(),
    };
    every.iter().chain(own).collect()
}

/// One sink or source on its way to JSON.
struct Element<'a> {
    list: &'static str,
    element: &'a Node,
    rows: Vec<&'static OptionRow>,
    problems: Vec<Problem>,
    /// Options whose value could not be had, which is told.
    unread: Vec<String>,
}

impl Element<'_> {
    fn new<'a>(list: &'static str, element: &'a Node) -> Element<'a> {
        let rows = rows(list, element);
        Element { list, element, rows, problems: Vec::new(), unread: Vec::new() }
    }

    /// The specification, or what is wrong with it.
    fn accept<T>(&mut self, read: Result<T, Vec<BadOption>>) -> Option<T> {
        match read {
            Ok(specification) => Some(specification).filter(|_| self.problems.is_empty()),
            Err(bad) => {
                let is_told = |bad: &BadOption| {
                    let path = bad.path.split('[').next().unwrap_or_default();
                    self.unread.iter().any(|unread| unread == path)
                };
                let news = bad.into_iter().filter(|bad| !is_told(bad));
                let placed: Vec<Problem> = news.map(|bad| self.placed(bad)).collect();
                self.problems.extend(placed);
                None
            }
        }
    }

    fn row(&self, path: &str) -> Option<&'static OptionRow> {
        self.rows.iter().copied().find(|row| row.path == path)
    }

    fn is_table(&self, path: &str) -> bool {
        let prefix = format!("{path}.");
        self.rows.iter().any(|row| row.path.starts_with(&prefix))
    }

    fn value(&mut self, path: &str, node: &Node) -> Json {
        match &node.value {
            Value::Text(text) if matches!(node.place, Place::Variable(_)) => {
                self.written(path, text).unwrap_or_else(|message| {
                    self.unread(path, Problem::new(node.place.clone(), message))
                })
            }
            Value::Text(text) => Json::String(text.clone()),
            Value::Integer(number) => Json::from(*number),
            Value::Boolean(value) => Json::Bool(*value),
            Value::List(list) => list.iter().map(|element| self.value("", element)).collect(),
            Value::Table(_) => self.table(path, node),
            // JSON has neither dates nor this program's fractions; the mistake says their name.
            Value::Foreign(_) => Json::Null,
        }
    }

    fn table(&mut self, path: &str, node: &Node) -> Json {
        let Value::Table(table) = &node.value else { return self.value(path, node) };
        let mut object = Map::new();
        for (name, member) in table {
            let below = join(path, name);
            match self.file_of(&below, member) {
                Some(row) => {
                    let name = name.strip_suffix(FILE).unwrap_or(name);
                    let value = self.read_file(row, name, table, member);
                    object.insert(name.to_owned(), value);
                }
                None => {
                    let value = self.value(&below, &member.node);
                    object.entry(name.clone()).or_insert(value);
                }
            }
        }
        Json::Object(object)
    }

    /// The option whose value is in a file that this names: a secret, or anything in a variable.
    fn file_of(&self, path: &str, member: &Member) -> Option<&'static OptionRow> {
        if self.row(path).is_some() {
            return None;
        }
        let row = self.row(path.strip_suffix(FILE)?)?;
        let is_variable = matches!(member.node.place, Place::Variable(_));
        (row.is_secret || is_variable).then_some(row)
    }

    fn read_file(&mut self, row: &OptionRow, name: &str, table: &Table, member: &Member) -> Json {
        let place = &member.node.place;
        let mut wrong = |message: String, hint: &str| {
            self.unread(row.path, Problem::new(place.clone(), message).hint(hint))
        };
        if table.contains_key(name) {
            return wrong(format!("`{name}` is set, too"), "set one of them");
        }
        let Value::Text(path) = &member.node.value else {
            let kind = member.node.value.kind();
            let message = format!("`{name}{FILE}` takes the path of a file, not {kind}");
            return wrong(message, "a file with the value alone");
        };
        match read_secret(Path::new(path)) {
            Ok(text) if matches!(row.takes, Takes::Texts | Takes::Keys) => {
                text.lines().filter(|line| !line.is_empty()).collect()
            }
            Ok(text) if row.takes == Takes::Pairs => serde_json::from_str(&text)
                .unwrap_or_else(|_| wrong(format!("`{name}{FILE}` is no JSON object"), "{…}")),
            Ok(text) => Json::String(text),
            Err(message) => wrong(message, "a file with the value alone"),
        }
    }

    /// Notes why a value could not be had. What stands for it is not judged.
    fn unread(&mut self, path: &str, problem: Problem) -> Json {
        self.problems.push(problem);
        self.unread.push(path.to_owned());
        Json::Null
    }

    /// What a text in a variable stands for.
    fn written(&self, path: &str, text: &str) -> Result<Json, String> {
        let trimmed = text.trim();
        let json = || serde_json::from_str(trimmed).map_err(|_| "is not JSON".to_owned());
        let Some(row) = self.row(path) else {
            // A whole table, or a name that means nothing, which is told later.
            return if self.is_table(path) { json() } else { Ok(Json::String(text.to_owned())) };
        };
        match row.takes {
            Takes::Boolean => Ok(match trimmed {
                "true" | "1" => Json::Bool(true),
                "false" | "0" => Json::Bool(false),
                _ => Json::String(text.to_owned()),
            }),
            Takes::Number { .. } => Ok(number(trimmed)),
            Takes::Pairs => json(),
            takes
                if (takes.is_list() || takes == Takes::Replace)
                    && trimmed.starts_with(['[', '{']) =>
            {
                json()
            }
            Takes::Statuses => Ok(parts(trimmed).map(number).collect()),
            // The second text may be empty.
            Takes::Replace => Ok(trimmed.split(',').map(str::trim).collect()),
            takes if takes.is_list() => Ok(parts(trimmed).collect()),
            _ => Ok(Json::String(text.to_owned())),
        }
    }

    fn placed(&self, bad: BadOption) -> Problem {
        let found = self.found(&bad);
        let message = match found.map(|(_, node)| &node.value) {
            Some(Value::Foreign(name)) => bad.message.replace("not null", &format!("not {name}")),
            _ => bad.message,
        };
        let mut hint = bad.hint;
        let place = match found {
            Some((place, _)) => place.clone(),
            None => self.element.place_of(&bad.path),
        };
        // What is missing in a sink of variables is not the fault of one of them.
        let (place, message) = match (place, found) {
            (Place::Variable(_), None) if !bad.path.contains(['[', '"']) => {
                let name = self.name();
                let variable = connector_variable(self.list, &name, &bad.path);
                hint = Some(format!("set {variable}"));
                (Place::Whole, format!("{} {name:?}: {message}", self.list))
            }
            (place, _) => (place, message),
        };
        let problem = Problem::new(place, message);
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }

    /// What the mistake is about, if it is written: its place, and what stands there.
    fn found(&self, bad: &BadOption) -> Option<(&Place, &Node)> {
        let path = steps(&bad.path);
        let node = self.element.find(&path).or_else(|| {
            let (first, _) = bad.path.split_once('[').unwrap_or((&bad.path, ""));
            self.element.find(&steps(&format!("{first}{FILE}")))
        })?;
        let Some((Step::Key(name), parent)) = path.split_last().filter(|_| bad.is_unknown) else {
            return Some((&node.place, node));
        };
        match &self.element.find(parent)?.value {
            Value::Table(table) => Some((&table.get(name)?.place, node)),
            _ => Some((&node.place, node)),
        }
    }

    fn name(&self) -> String {
        match self.element.find(&[Step::Key("name".to_owned())]).map(|node| &node.value) {
            Some(Value::Text(name)) => name.clone(),
            _ => String::new(),
        }
    }
}

fn number(text: &str) -> Json {
    text.parse::<u64>().map_or_else(|_| Json::String(text.to_owned()), Json::from)
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Whether a report may show the value at a concrete path such as `sink[0].retry.first`: its option
/// is a secret in no kind, and it does not look like one.
pub(super) fn is_showable(path: &str, value: &Value) -> bool {
    let general = general(path);
    let Some((list, rest)) = CONNECTORS
        .into_iter()
        .find_map(|list| Some((list, general.strip_prefix(list)?.strip_prefix("[].")?)))
    else {
        return false;
    };
    let rest = rest.replace("[]", "");
    let (kinds, every) = kinds(list);
    let rows: Vec<&OptionRow> =
        every.iter().chain(kinds.iter().flat_map(|kind| kind.options)).collect();
    let is_at = |row: &&&OptionRow| {
        rest.strip_prefix(row.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let found: Vec<&&OptionRow> = rows.iter().filter(is_at).collect();
    let names_file = rest
        .strip_suffix(FILE)
        .is_some_and(|base| found.is_empty() && rows.iter().any(|row| row.path == base))
        || found.iter().any(|row| row.takes == Takes::File);
    let is_open = !found.is_empty() && found.iter().all(|row| !row.is_secret);
    match value {
        Value::Text(text) if names_file => is_pathlike(text),
        Value::Text(text) => {
            let is_short = text.chars().count() <= VALUE_SHOWN_CHARS_MAX;
            let is_whole = rest != "url" || are_urls(text);
            (is_open || rest == "kind") && is_short && is_whole && !text.contains('@')
        }
        _ => is_open,
    }
}

#[cfg(test)]
mod tests;
