//! A tree against the schema: unknown names, wrong kinds and missing values are all found in one
//! walk, and defaults are filled in. What remains deserializes. Knows no setting's meaning, and
//! neither sinks nor sources.

use tidings_connectors::nearest::nearest;

use super::mistakes::Problem;
use super::scalar;
use super::schema::{self, CONNECTORS, Default, KEYS, Key, LISTS};
use super::value::{Member, Node, Place, Table, Value};

/// The complete settings, as far as they could be made, and everything that is wrong.
pub(super) fn check(tree: &Node) -> (toml::Table, Vec<Problem>) {
    let mut walk = Walk { problems: Vec::new() };
    let complete = match &tree.value {
        Value::Table(table) => walk.table("", &tree.place, table),
        _ => toml::Table::new(),
    };
    (complete, walk.problems)
}

struct Walk {
    problems: Vec<Problem>,
}

impl Walk {
    fn table(&mut self, path: &str, place: &Place, table: &Table) -> toml::Table {
        let mut complete = toml::Table::new();
        for (name, member) in table {
            let below = join(path, name);
            if let Some(value) = self.member(&below, path, name, member) {
                complete.insert(name.clone(), value);
            }
        }
        self.fill(path, place, table, &mut complete);
        complete
    }

    fn member(
        &mut self,
        path: &str,
        parent: &str,
        name: &str,
        member: &Member,
    ) -> Option<toml::Value> {
        let general = schema::general(path);
        let node = &member.node;
        if CONNECTORS.contains(&general.as_str()) {
            // Read by the rows of their kind, beside the settings.
            return None;
        }
        if LISTS.contains(&general.as_str()) {
            return Some(self.list(path, node));
        }
        if schema::is_table(&general) {
            let Value::Table(table) = &node.value else {
                self.kind(path, node, "a table");
                return None;
            };
            return Some(toml::Value::Table(self.table(path, &member.place, table)));
        }
        let Some(key) = schema::find(path) else {
            self.problems.push(unknown(parent, name, &member.place));
            return None;
        };
        self.leaf(key, node)
    }

    fn leaf(&mut self, key: &Key, node: &Node) -> Option<toml::Value> {
        match scalar::convert(key.kind, node) {
            Ok(value) => Some(value),
            Err(problems) => {
                self.problems.extend(problems.into_iter().map(|problem| Problem {
                    message: format!("`{}` {}", name(key.path), problem.message),
                    ..problem
                }));
                None
            }
        }
    }

    fn list(&mut self, path: &str, node: &Node) -> toml::Value {
        let mut complete = Vec::new();
        match &node.value {
            Value::List(list) => {
                for (index, element) in list.iter().enumerate() {
                    let below = format!("{path}[{index}]");
                    match &element.value {
                        Value::Table(table) => {
                            let table = self.table(&below, &element.place, table);
                            complete.push(toml::Value::Table(table));
                        }
                        _ => self.kind(path, element, "a table"),
                    }
                }
            }
            _ => {
                let wanted = format!("a list of tables: write [[{path}]]");
                self.kind(path, node, &wanted);
            }
        }
        toml::Value::Array(complete)
    }

    fn kind(&mut self, path: &str, node: &Node, wanted: &str) {
        let message = format!("`{}` takes {wanted}, not {}", name(path), node.value.kind());
        self.problems.push(Problem::new(node.place.clone(), message));
    }

    /// Defaults of what is missing in the table at `path`.
    fn fill(&mut self, path: &str, place: &Place, table: &Table, complete: &mut toml::Table) {
        let general = schema::general(path);
        for key in KEYS.iter().filter(|key| parent(key.path) == general) {
            let name = name(key.path);
            if table.contains_key(name) {
                continue;
            }
            if let Default::Required(example) = key.default {
                self.problems.push(
                    Problem::new(place.clone(), format!("`{name}` is missing here"))
                        .hint(format!("{name} = {example}")),
                );
            }
            if let Some(value) = key.default.value().and_then(|text| scalar::literal(&text)) {
                // Through the same door as a written value, so that it has one form.
                complete.extend(self.leaf(key, &value).map(|value| (name.into(), value)));
            }
        }
        // Tables that are always there, and the empty lists of tables.
        for name in schema::members(&general) {
            let below = join(path, name);
            let general = schema::general(&below);
            let absent = !table.contains_key(name) && !CONNECTORS.contains(&general.as_str());
            if absent && LISTS.contains(&general.as_str()) {
                complete.insert(name.to_owned(), toml::Value::Array(Vec::new()));
            } else if absent && schema::is_table(&general) && !general.contains('[') {
                let below = self.table(&below, place, &Table::new());
                complete.insert(name.to_owned(), toml::Value::Table(below));
            }
        }
    }
}

fn unknown(parent: &str, written: &str, place: &Place) -> Problem {
    let general = schema::general(parent);
    let whole = if parent.is_empty() { String::new() } else { format!(" in [{parent}]") };
    let problem = Problem::new(place.clone(), format!("unknown key `{written}`{whole}"));
    let names = schema::members(&general);
    if let Some(name) = nearest(written, names.iter().copied()) {
        return problem.hint(format!("did you mean `{name}`?"));
    }
    let elsewhere = KEYS.iter().find(|key| name(key.path) == written);
    match elsewhere {
        Some(key) => problem.hint(format!("did you mean `{}`?", key.path)),
        None if general == "auth.issuer[].publish" || general == "auth.issuer[].subscribe" => {
            problem.hint("keys come from `key`, `key_file` or `jwks`, the address of a key set")
        }
        None => problem.hint(format!("known here: {}", names.join(", "))),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The last name of a path.
fn name(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// The path of the table that a setting is in.
fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}
