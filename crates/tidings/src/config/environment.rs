//! `TIDINGS_…` variables as values of settings. Which setting a name means is decided by the
//! schema, so `_` and `__` both separate. `…_FILE` reads the value from a file.

use std::path::Path;

use tidings_connectors::nearest::nearest;

use super::mistakes::Problem;
use super::schema::{self, KEYS, LISTS};
use super::value::{Node, Place, Step, Table, Value, steps};
use super::variables::{Variables, read_secret};

const PREFIX: &str = "TIDINGS_";
const FILE: &str = "_FILE";

/// Variables with our prefix that are no settings: the configuration file, and what the client
/// commands read.
const NOT_SETTINGS: [&str; 4] =
    ["TIDINGS_CONFIG", "TIDINGS_TOKEN", "TIDINGS_TOKEN_FILE", "TIDINGS_URL"];

/// Lays the variables over `tree`.
pub(super) fn apply(tree: &mut Node, variables: &Variables) -> Vec<Problem> {
    let mut problems = Vec::new();
    let ours = variables.iter().filter(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in ours.filter(|(name, _)| !NOT_SETTINGS.contains(name)) {
        let place = Place::Variable(name.to_owned());
        let rest = name.strip_prefix(PREFIX).unwrap_or(name);
        if let Some(target) = connector(rest) {
            problems.extend(put_connector(tree, &target, Node::text(value, place)));
        } else if let Some(list) = LISTS.iter().find(|list| variable(list) == rest) {
            match json_list(value, &place) {
                Some(node) => {
                    tree.put(&steps(list), node);
                }
                None => problems.push(
                    Problem::new(place, "is not a JSON list of objects")
                        .hint(r#"write it as in [{"id": "https://example.com", …}]"#),
                ),
            }
        } else if let Some(path) = resolve(rest) {
            put(tree, &path, Node::text(value, place), &mut problems);
        } else if let Some(path) = rest.strip_suffix(FILE).and_then(resolve) {
            let plain = name.strip_suffix(FILE).unwrap_or(name);
            if variables.get(plain).is_some() {
                problems.push(Problem::new(place, format!("{plain} is set, too: set one of them")));
                continue;
            }
            match read_secret(Path::new(value)) {
                Ok(text) => put(tree, &path, Node::text(text, place), &mut problems),
                Err(error) => problems.push(Problem::new(place, error)),
            }
        } else if !is_service_link(rest, value) {
            problems.push(unknown(name, place));
        }
    }
    problems
}

/// Whether Kubernetes or Docker set it because something beside us is called "tidings".
fn is_service_link(rest: &str, value: &str) -> bool {
    let port = rest.strip_prefix("PORT");
    rest == "SERVICE_HOST"
        || rest.starts_with("SERVICE_PORT")
        || port.is_some_and(|port| port.is_empty() && value.contains("://"))
        || port
            .and_then(|port| port.strip_prefix('_'))
            .is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

fn put(tree: &mut Node, path: &str, node: Node, problems: &mut Vec<Problem>) {
    let place = node.place.clone();
    if !tree.put(&steps(path), node) {
        let hint = "elements are numbered from 0, without a gap";
        problems.push(Problem::new(place, format!("there is no place for `{path}`")).hint(hint));
    }
}

/// The name of a path as it stands in variables: `HISTORY_KEEP_AGE`.
fn variable(path: &str) -> String {
    path.replace('.', "_").to_ascii_uppercase()
}

/// The setting that a variable without its prefix means, as a path.
fn resolve(rest: &str) -> Option<String> {
    let name = single(rest);
    KEYS.iter().find_map(|key| match key.path.split_once("[].") {
        None => (variable(key.path) == name).then(|| key.path.to_owned()),
        Some((list, member)) => {
            let rest = name.strip_prefix(&variable(list))?.strip_prefix('_')?;
            let (index, rest) = rest.split_once('_')?;
            let index: usize = index.parse().ok()?;
            (variable(member) == rest).then(|| format!("{list}[{index}].{member}"))
        }
    })
}

/// With one `_` between names.
fn single(name: &str) -> String {
    let mut single = name.to_owned();
    while single.contains("__") {
        single = single.replace("__", "_");
    }
    single
}

/// What a connector's variable means: `SINK__<NAME>__URL`.
struct Connector {
    list: &'static str,
    name: String,
    option: Vec<Step>,
}

fn connector(rest: &str) -> Option<Connector> {
    let mut parts = rest.split("__");
    let first = parts.next()?.to_ascii_lowercase();
    let list = schema::CONNECTORS.into_iter().find(|list| *list == first)?;
    let name = parts.next()?.to_ascii_lowercase();
    let option: Vec<Step> = parts.map(|part| Step::Key(part.to_ascii_lowercase())).collect();
    (!option.is_empty()).then_some(Connector { list, name, option })
}

/// Sets an option of the connector with that name; a dash or dot in a name is an underscore in a
/// variable. The connector is added when there is none.
fn put_connector(tree: &mut Node, target: &Connector, node: Node) -> Option<Problem> {
    let place = node.place.clone();
    let list = match tree.find(&[Step::Key(target.list.to_owned())]).map(|node| &node.value) {
        Some(Value::List(list)) => list.as_slice(),
        _ => &[],
    };
    let named = |node: &Node| match node.find(&[Step::Key("name".to_owned())]) {
        Some(Node { value: Value::Text(name), .. }) => plain_name(name) == target.name,
        _ => false,
    };
    if target.option == [Step::Key("name".to_owned())]
        && !matches!(&node.value, Value::Text(name) if plain_name(name) == target.name)
    {
        let hint = "leave it out, or write the same name with `-` or `.` in place of `_`";
        return Some(Problem::new(place, "is another name than that of the variable").hint(hint));
    }
    let index = list.iter().position(named).unwrap_or(list.len());
    let mut path = vec![Step::Key(target.list.to_owned()), Step::Index(index)];
    if index == list.len() {
        let name = [path.as_slice(), &[Step::Key("name".to_owned())]].concat();
        tree.put(&name, Node::text(&target.name, place.clone()));
    }
    path.extend(target.option.iter().cloned());
    if tree.put(&path, node) {
        return None;
    }
    Some(Problem::new(place, "a part of this is set as a whole").hint("set one of them"))
}

/// A connector's name as variables have it.
fn plain_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

/// The variable of a connector's option.
pub(super) fn connector_variable(list: &str, name: &str, path: &str) -> String {
    let name = plain_name(name);
    format!("{PREFIX}{list}__{name}__{}", path.replace('.', "__")).to_ascii_uppercase()
}

fn json_list(text: &str, place: &Place) -> Option<Node> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let objects = json.as_array()?.iter().all(serde_json::Value::is_object);
    objects.then(|| node(&json, place))
}

fn node(json: &serde_json::Value, place: &Place) -> Node {
    let value = match json {
        serde_json::Value::Null => Value::Foreign("null"),
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or(Value::Foreign("a fraction"), Value::Integer)
        }
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(list) => {
            Value::List(list.iter().map(|element| node(element, place)).collect())
        }
        serde_json::Value::Object(members) => {
            let member = |(name, value): (&String, &serde_json::Value)| {
                let node = node(value, place);
                (name.clone(), super::value::Member { place: place.clone(), node })
            };
            Value::Table(members.iter().map(member).collect::<Table>())
        }
    };
    Node::new(value, place.clone())
}

fn unknown(name: &str, place: Place) -> Problem {
    let plain = single(name);
    let names: Vec<String> = KEYS.iter().map(|key| name_of(key.path)).collect();
    // Numbers of elements do not count when names are compared.
    let general: String = plain
        .split('_')
        .map(|part| if part.parse::<usize>().is_ok() { "0" } else { part })
        .collect::<Vec<_>>()
        .join("_");
    let problem = Problem::new(place, "is not a setting");
    if let Some(list) = schema::CONNECTORS
        .into_iter()
        .find(|list| plain.starts_with(&format!("{PREFIX}{}_", list.to_ascii_uppercase())))
    {
        return problem.hint(format!("write {}", connector_variable(list, "NAME", "OPTION")));
    }
    match nearest(&general, names.iter().map(String::as_str)) {
        Some(near) => problem.hint(format!("did you mean {near}?")),
        None => problem.hint("`tidings config` lists all settings"),
    }
}

/// The variable of a setting, with prefix; the first element of a list stands for all.
pub(super) fn name_of(path: &str) -> String {
    format!("{PREFIX}{}", variable(&path.replace("[]", ".0")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(variables: &Variables) -> (Node, Vec<Problem>) {
        let mut tree = Node::table(Place::Whole);
        let problems = apply(&mut tree, variables);
        (tree, problems)
    }

    fn text(tree: &Node, path: &str) -> Option<String> {
        match &tree.find(&steps(path))?.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    #[test]
    fn single_and_double_underscores_name_the_same_setting() {
        for name in ["TIDINGS_HISTORY_KEEP_AGE", "TIDINGS_HISTORY__KEEP__AGE"] {
            let (tree, problems) = tree(&[(name, "1d")].into());
            assert_eq!(problems, []);
            assert_eq!(text(&tree, "history.keep.age").as_deref(), Some("1d"));
        }
    }

    #[test]
    fn no_two_settings_have_the_same_variable() {
        let mut names: Vec<String> = KEYS.iter().map(|key| name_of(key.path)).collect();
        for name in &names {
            let rest = name.strip_prefix(PREFIX).unwrap();
            assert_eq!(name_of(&schema::general(&resolve(rest).unwrap())), *name);
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn issuers_are_numbered_and_connectors_named() {
        let (tree, problems) = tree(
            &[
                ("TIDINGS_AUTH_ISSUER_0_ID", "https://a"),
                ("TIDINGS_AUTH_ISSUER__0__PUBLISH__KEY_FILE", "/k"),
                ("TIDINGS_SINK__NEXT_CACHE__URL", "http://n"),
                ("TIDINGS_SINK__NEXT_CACHE__KIND", "webhook"),
            ]
            .into(),
        );
        assert_eq!(problems, []);
        assert_eq!(text(&tree, "auth.issuer[0].id").as_deref(), Some("https://a"));
        assert_eq!(text(&tree, "auth.issuer[0].publish.key_file").as_deref(), Some("/k"));
        assert_eq!(text(&tree, "sink[0].name").as_deref(), Some("next_cache"));
        assert_eq!(text(&tree, "sink[0].url").as_deref(), Some("http://n"));
        assert!(tree.find(&steps("sink[1]")).is_none());
    }

    #[test]
    fn a_gap_between_issuers_is_a_mistake() {
        let (_, problems) = tree(&[("TIDINGS_AUTH_ISSUER_1_ID", "https://a")].into());
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn issuers_come_as_json_too() {
        let json = r#"[{"id": "https://a", "accept": ["0.x"]}]"#;
        let (tree, problems) = tree(&[("TIDINGS_AUTH_ISSUER", json)].into());
        assert_eq!(problems, []);
        let accept = tree.find(&steps("auth.issuer[0].accept")).unwrap();
        assert!(matches!(&accept.value, Value::List(list) if list.len() == 1));
        let (_, problems) = self::tree(&[("TIDINGS_AUTH_ISSUER", "hunter2")].into());
        assert!(!format!("{problems:?}").contains("hunter2"));
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn values_are_read_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        let path = path.to_str().unwrap();
        let (tree, problems) = tree(&[("TIDINGS_PUBLIC_URL_FILE", path)].into());
        assert_eq!(problems, []);
        assert_eq!(text(&tree, "public_url").as_deref(), Some("hunter2"));
        let both = [("TIDINGS_PUBLIC_URL_FILE", path), ("TIDINGS_PUBLIC_URL", "x")];
        assert_eq!(self::tree(&both.into()).1.len(), 1);
        let missing = [("TIDINGS_PUBLIC_URL_FILE", "/does/not/exist")];
        let (_, problems) = self::tree(&missing.into());
        assert!(problems[0].message.contains("/does/not/exist"), "{problems:?}");
    }

    #[test]
    fn unknown_variables_get_the_nearest_name() {
        for (name, hint) in [
            ("TIDINGS_HISTORY_DURABILTY", "TIDINGS_HISTORY_DURABILITY"),
            ("TIDINGS_AUTH_ISSUER_3_PUBLISH_KYE", "TIDINGS_AUTH_ISSUER_0_PUBLISH_KEY"),
            ("TIDINGS_WHATEVER", "tidings config"),
        ] {
            let (_, problems) = tree(&[(name, "secret")].into());
            assert_eq!(problems.len(), 1, "{name}");
            assert!(problems[0].hint.as_ref().unwrap().contains(hint), "{problems:?}");
            assert!(!problems[0].message.contains("secret"));
        }
        assert!(tree(&[("TIDINGS_TOKEN", "x"), ("HOME", "/")].into()).1.is_empty());
    }

    #[test]
    fn variables_of_a_service_called_tidings_are_not_ours() {
        let variables = [
            ("TIDINGS_SERVICE_HOST", "10.0.0.1"),
            ("TIDINGS_SERVICE_PORT_HTTP", "80"),
            ("TIDINGS_PORT", "tcp://10.0.0.1:80"),
            ("TIDINGS_PORT_80_TCP_ADDR", "10.0.0.1"),
        ];
        assert_eq!(tree(&variables.into()).1, []);
        assert_eq!(tree(&[("TIDINGS_PORT", "3000")].into()).1.len(), 1);
    }
}
