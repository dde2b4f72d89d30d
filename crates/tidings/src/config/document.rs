//! A TOML text as a tree with the place of every value. Knows no setting.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistakes::Problem;
use super::value::{Member, Node, Place, Table, Value};

/// Reads `text`. The problems are those of TOML's grammar, each at its place.
pub(super) fn parse(text: &str) -> (Node, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems = errors
        .into_iter()
        .map(|error| {
            let end = text.len();
            let span = error.span().unwrap_or(end..end);
            Problem::syntax(span, error.message())
        })
        .collect();
    (Node::new(Value::Table(members(table.get_ref())), Place::File(0..0)), problems)
}

fn members(table: &DeTable<'_>) -> Table {
    table
        .iter()
        .map(|(name, value)| {
            let member = Member { place: Place::File(name.span()), node: node(value) };
            (name.get_ref().to_string(), member)
        })
        .collect()
}

fn node(value: &Spanned<DeValue<'_>>) -> Node {
    let place = Place::File(value.span());
    let inner = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Foreign("a number too large"), Value::Integer),
        DeValue::Float(_) => Value::Foreign("a fraction"),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Foreign("a date"),
        DeValue::Array(list) => Value::List(list.iter().map(node).collect()),
        DeValue::Table(table) => Value::Table(members(table)),
    };
    Node::new(inner, place)
}

#[cfg(test)]
mod tests {
    use super::super::value::steps;
    use super::*;

    #[test]
    fn every_value_knows_its_bytes() {
        let text = "listen = \"a\"\n[history]\nkeep = { entries = 0x10 }\n[[sink]]\nname = 'x'\n";
        let (tree, problems) = parse(text);
        assert!(problems.is_empty());
        let entries = tree.find(&steps("history.keep.entries")).unwrap();
        assert_eq!(entries.value, Value::Integer(16));
        assert_eq!(
            entries.place,
            Place::File(text.find("0x10").unwrap()..text.find(" }").unwrap())
        );
        let name = tree.find(&steps("sink[0].name")).unwrap();
        assert_eq!(name.value, Value::Text("x".into()));
    }

    #[test]
    fn broken_text_is_reported_and_the_rest_is_still_read() {
        let (tree, problems) = parse("listen = \n[log]\nlevel = \"debug\"\n");
        assert_eq!(problems.len(), 1);
        assert!(tree.find(&steps("log.level")).is_some());
    }
}
