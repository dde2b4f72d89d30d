//! JSON in which every member has one name of its own. Two readers that pick different ones of two
//! equal names would see two different tokens (RFC 7515 section 4, RFC 7519 section 4). Knows
//! nothing of tokens.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

/// Why bytes are no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadObject {
    /// Not JSON, or not an object.
    Malformed,
    /// An object names a member twice, at whatever depth.
    DuplicateMember,
}

/// Reads one JSON object. Nesting is limited by the parser to 128 levels.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, BadObject> {
    match serde_json::from_slice::<Unique>(bytes) {
        Ok(Unique(Value::Object(members))) => Ok(members),
        Ok(Unique(_)) => Err(BadObject::Malformed),
        // The visitor takes every type, so what it refuses is a name it has seen before.
        Err(error) if error.classify() == Category::Data => Err(BadObject::DuplicateMember),
        Err(_) => Err(BadObject::Malformed),
    }
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unique(value))) = entries.next_entry::<String, Unique>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_once_at_every_depth() {
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
        ] {
            assert_eq!(object(twice.as_bytes()), Err(BadObject::DuplicateMember), "{twice}");
        }
        for other in ["", "[]", "1", "{", r#"{"a":1e999}"#, "{} {}", "\u{feff}{}"] {
            assert_eq!(object(other.as_bytes()), Err(BadObject::Malformed), "{other}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(BadObject::Malformed));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1_000), "}".repeat(1_000));
        assert_eq!(object(deep.as_bytes()), Err(BadObject::Malformed));
    }

    #[test]
    fn values_are_kept_as_they_are() {
        let text = r#"{"a":[1,-2,3.5,true,null,"x"],"b":{"a":{"a":18446744073709551615}}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(Value::Object(object(text.as_bytes()).unwrap()), expected);
    }
}
