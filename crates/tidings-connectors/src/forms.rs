//! One value against the form that its row says, and what is wrong with it. Knows no option.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use url::Url;

use crate::limits::{OPTION_LIST_MAX, OPTION_SHOWN_CHARS_MAX, OPTION_TEXT_BYTES_MAX};
use crate::nearest::nearest;
use crate::rows::Takes;
use crate::span;
use crate::specification::{KeyOf, Pick, Replace};

/// What is wrong with a value. The message goes on after the option's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Where within the value: `[1]`, or nothing for the whole.
    pub(crate) below: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Flaw {
    pub(crate) fn new(message: impl Into<String>) -> Flaw {
        Flaw { below: String::new(), message: message.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Flaw {
        Flaw { hint: Some(hint.into()), ..self }
    }
}

/// The value in its one form: a list where several may stand, otherwise as it is. Messages repeat
/// no value of a secret.
pub(crate) fn take(takes: Takes, value: &Value, is_secret: bool) -> Result<Value, Vec<Flaw>> {
    match (takes, value) {
        (Takes::Pairs, Value::Object(pairs)) => {
            if pairs.len() > OPTION_LIST_MAX {
                return Err(vec![Flaw::new(format!("has more than {OPTION_LIST_MAX} names"))]);
            }
            let flaws: Vec<Flaw> = pairs
                .iter()
                .filter_map(|(name, value)| {
                    let flaw = one(Takes::AnyText, value, true).err()?;
                    Some(Flaw { below: format!(".{}", shown(name)), ..flaw })
                })
                .collect();
            if flaws.is_empty() { Ok(value.clone()) } else { Err(flaws) }
        }
        (takes, Value::Array(list)) if takes.is_list() => each(takes, list, is_secret),
        (takes, value) if takes.is_list() => each(takes, std::slice::from_ref(value), is_secret),
        (takes, value) => match one(takes, value, is_secret) {
            Ok(()) => Ok(value.clone()),
            Err(flaw) => Err(vec![flaw]),
        },
    }
}

fn each(takes: Takes, list: &[Value], is_secret: bool) -> Result<Value, Vec<Flaw>> {
    if list.len() > OPTION_LIST_MAX {
        return Err(vec![Flaw::new(format!("has more than {OPTION_LIST_MAX} elements"))]);
    }
    let flaws: Vec<Flaw> = list
        .iter()
        .enumerate()
        .filter_map(|(index, element)| {
            let flaw = one(takes, element, is_secret).err()?;
            Some(Flaw { below: format!("[{index}]"), ..flaw })
        })
        .collect();
    if flaws.is_empty() { Ok(Value::Array(list.to_vec())) } else { Err(flaws) }
}

fn one(takes: Takes, value: &Value, is_secret: bool) -> Result<(), Flaw> {
    let foreign = || Err(Flaw::new(format!("takes {}, not {}", takes.words(), kind(value))));
    match (takes, value) {
        (Takes::Boolean, Value::Bool(_)) => Ok(()),
        (Takes::Number { min, max }, Value::Number(number)) => match number.as_u64() {
            Some(number) => within(number, min, max),
            None if number.is_i64() => Err(Flaw::new(format!("is negative, and {min} at least"))),
            None => foreign(),
        },
        (Takes::Statuses, Value::Number(number)) => match number.as_u64() {
            Some(200..=599) => Ok(()),
            _ => Err(Flaw::new("takes statuses of HTTP, 200 to 599")),
        },
        (Takes::Picks, value @ (Value::String(_) | Value::Object(_))) => {
            Pick::read(value).map(|_| ())
        }
        // Its members are judged with the other keys.
        (Takes::Keys, Value::Object(_)) => Ok(()),
        (Takes::Replace, value @ Value::Array(_)) => Replace::read(value).map(|_| ()),
        (Takes::Boolean | Takes::Number { .. } | Takes::Statuses, _) => foreign(),
        (Takes::Pairs | Takes::Replace, _) => foreign(),
        (takes, Value::String(text)) => bounded(text)
            .and_then(|()| written(takes, text))
            .map_err(|flaw| if is_secret { without_value(flaw, text) } else { flaw }),
        _ => foreign(),
    }
}

/// A text of a form that is written as one.
fn written(takes: Takes, text: &str) -> Result<(), Flaw> {
    match takes {
        Takes::AnyText => Ok(()),
        _ if text.is_empty() => Err(Flaw::new("is empty")),
        Takes::Url => url(text),
        Takes::Span { min, max } => match span::parse(text) {
            Ok(time) if time < min => {
                Err(Flaw::new(format!("is {text}, and {} at least", span::render(min))))
            }
            Ok(time) if time > max => {
                Err(Flaw::new(format!("is {text}, and {} at most", span::render(max))))
            }
            Ok(_) => Ok(()),
            Err(_) => Err(Flaw::new(format!("has {}, which is not a duration", shown(text)))
                .hint("write a number with a unit, as in \"15s\" or \"1h30m\"")),
        },
        Takes::Networks => {
            let network = text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok();
            let flaw = || Flaw::new(format!("has {}, which is not a network", shown(text)));
            let hint = "write an address or a network, as in 10.0.0.0/8 or fd00::/8";
            if network { Ok(()) } else { Err(flaw().hint(hint)) }
        }
        Takes::Choice(words) => choice(text, words),
        Takes::KeyOf => KeyOf::read(text).map(|_| ()),
        _ => Ok(()),
    }
}

fn within(number: u64, min: u64, max: u64) -> Result<(), Flaw> {
    if number < min {
        return Err(Flaw::new(format!("is {number}, and {min} at least")));
    }
    if number > max {
        return Err(Flaw::new(format!("is {number}, and {max} at most")));
    }
    Ok(())
}

/// What no text of an option has: too many bytes, or what ends a line in a header.
fn bounded(text: &str) -> Result<(), Flaw> {
    if text.len() > OPTION_TEXT_BYTES_MAX {
        return Err(Flaw::new(format!("is longer than {OPTION_TEXT_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        let flaw = Flaw::new("has a control character, such as the end of a line");
        return Err(flaw.hint("write it on one line"));
    }
    Ok(())
}

fn url(text: &str) -> Result<(), Flaw> {
    let hint = "as in \"https://app.example.com/hook\"";
    let url =
        Url::parse(text).map_err(|error| Flaw::new(format!("is not a URL: {error}")).hint(hint))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Flaw::new("takes an http:// or https:// URL").hint(hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let flaw = Flaw::new("must not have a user name or password in it");
        return Err(flaw.hint("basic = { user = \"…\", password_file = \"…\" }"));
    }
    if url.fragment().is_some() {
        return Err(Flaw::new("has a fragment (`#…`), which is never sent"));
    }
    Ok(())
}

fn choice(text: &str, words: &[&str]) -> Result<(), Flaw> {
    if words.contains(&text) {
        return Ok(());
    }
    let takes = words.join(", ");
    let hint = match nearest(&start(text), words.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? It takes {takes}"),
        None => format!("it takes {takes}"),
    };
    Err(Flaw::new(format!("does not take {}", shown(text))).hint(hint))
}

/// A flaw that does not repeat the text, whatever it found.
fn without_value(flaw: Flaw, text: &str) -> Flaw {
    let repeats = !text.is_empty()
        && (flaw.message.contains(text)
            || flaw.hint.as_ref().is_some_and(|hint| hint.contains(text)));
    if repeats { Flaw { message: "is wrong".to_owned(), hint: None, ..flaw } } else { flaw }
}

/// As much of a text as names are compared with.
fn start(text: &str) -> String {
    text.chars().take(OPTION_SHOWN_CHARS_MAX).collect()
}

/// A text as a mistake repeats it: in quotes, unless it is so long that it may be a secret.
pub(crate) fn shown(text: &str) -> String {
    let length = text.chars().count();
    if length > OPTION_SHOWN_CHARS_MAX || text.contains('@') {
        return format!("a text of {length} characters");
    }
    format!("{text:?}")
}

/// A value's kind in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
