//! A tree of values, each with the place it came from, so that every later mistake can point
//! there. A layer is laid over what is there value by value. Knows no setting by name.

use std::collections::BTreeMap;
use std::ops::Range;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the program: a default.
    Default,
    /// Bytes of the configuration file.
    File(Range<usize>),
    /// A variable, and what in it when it holds more than one value.
    Variable(String),
    /// A command-line argument.
    Argument(&'static str),
    /// Nowhere in particular: something is missing.
    Whole,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What a place holds.
#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node>),
    Table(Table),
    /// Something no setting takes (a date, a fraction), by its name in TOML.
    Foreign(&'static str),
}

impl std::fmt::Debug for Value {
    /// Without contents: any of them may be a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::List(list) => formatter.debug_list().entries(list).finish(),
            Value::Table(table) => table.fmt(formatter),
            _ => formatter.write_str(self.kind()),
        }
    }
}

impl Value {
    /// The value's kind in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Integer(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Foreign(name) => name,
        }
    }
}

/// Members by name. The place is the name's own; the node has the value's.
pub(super) type Table = BTreeMap<String, Member>;

/// A table's member.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) node: Node,
}

/// One step on the way to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    pub(super) fn new(value: Value, place: Place) -> Node {
        Node { value, place }
    }

    pub(super) fn text(text: impl Into<String>, place: Place) -> Node {
        Node::new(Value::Text(text.into()), place)
    }

    pub(super) fn table(place: Place) -> Node {
        Node::new(Value::Table(Table::new()), place)
    }

    /// The node at `steps`, if all of them exist.
    pub(super) fn find(&self, steps: &[Step]) -> Option<&Node> {
        steps.iter().try_fold(self, |node, step| match (&node.value, step) {
            (Value::Table(table), Step::Key(name)) => table.get(name).map(|member| &member.node),
            (Value::List(list), Step::Index(index)) => list.get(*index),
            _ => None,
        })
    }

    /// The place of the value at a dotted path such as `auth.issuer[0].id`, else of the nearest
    /// thing around it that exists.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let steps = steps(path);
        (0..=steps.len())
            .rev()
            .filter_map(|length| self.find(steps.get(..length)?))
            .map(|node| node.place.clone())
            .next()
            .unwrap_or(Place::Whole)
    }

    /// Puts `node` at `steps`, making tables and the next element of a list on the way. `false`
    /// when something else than a table or list is in the way, or a list has a gap.
    pub(super) fn put(&mut self, steps: &[Step], node: Node) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            *self = node;
            return true;
        };
        let place = node.place.clone();
        match (step, &mut self.value) {
            (Step::Key(name), Value::Table(table)) => table
                .entry(name.clone())
                .or_insert_with(|| Member { place: place.clone(), node: empty(rest, place) })
                .node
                .put(rest, node),
            (Step::Index(index), Value::List(list)) => {
                if *index == list.len() {
                    list.push(empty(rest, place));
                }
                list.get_mut(*index).is_some_and(|element| element.put(rest, node))
            }
            _ => false,
        }
    }

    /// Puts a value at a dotted path.
    pub(super) fn set(&mut self, path: &str, value: Value, place: Place) {
        self.put(&steps(path), Node::new(value, place));
    }
}

/// What must stand where `rest` goes on.
fn empty(rest: &[Step], place: Place) -> Node {
    match rest.first() {
        Some(Step::Index(_)) => Node::new(Value::List(Vec::new()), place),
        _ => Node::table(place),
    }
}

/// The steps of a dotted path such as `auth.issuer[0].id`.
pub(super) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        steps.push(Step::Key(name.to_owned()));
        if let Ok(index) = index.trim_end_matches(']').parse() {
            steps.push(Step::Index(index));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn upper_layer_replaces_values_and_keeps_neighbours() {
        let mut tree = Node::table(Place::Default);
        tree.set("history.keep.age", text("7d"), Place::Default);
        tree.set("history.path", text("/a"), Place::Default);
        tree.set("history.path", text("/b"), Place::Variable("X".into()));
        assert_eq!(tree.find(&steps("history.path")).unwrap().value, text("/b"));
        assert_eq!(tree.place_of("history.path"), Place::Variable("X".into()));
        assert_eq!(tree.place_of("history.path.deeper"), Place::Variable("X".into()));
        assert_eq!(tree.find(&steps("history.keep.age")).unwrap().value, text("7d"));
    }

    #[test]
    fn lists_grow_by_one_and_never_with_a_gap() {
        let mut tree = Node::table(Place::Whole);
        assert!(tree.put(&steps("auth.issuer[0].id"), Node::text("a", Place::Whole)));
        assert!(tree.put(&steps("auth.issuer[0].publish.key"), Node::text("k", Place::Whole)));
        assert!(tree.put(&steps("auth.issuer[1].id"), Node::text("b", Place::Whole)));
        assert!(!tree.put(&steps("auth.issuer[5].id"), Node::text("c", Place::Whole)));
        assert_eq!(tree.find(&steps("auth.issuer[1].id")).unwrap().value, text("b"));
        assert!(!tree.put(&steps("auth.issuer[0].id.deeper"), Node::text("c", Place::Whole)));
    }

    #[test]
    fn debug_output_has_no_contents() {
        let node = Node::text("hunter2", Place::Whole);
        assert!(!format!("{node:?}").contains("hunter2"));
    }
}
