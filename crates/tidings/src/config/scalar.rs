//! One written value as the kind its setting takes. Variables only have texts, so a text from
//! one may stand for a number, a truth value or a comma-separated list. Knows no setting.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tidings_connectors::nearest::nearest;
use url::Url;

use super::mistakes::Problem;
use super::schema::Kind;
use super::value::{Node, Place, Value};
use super::{document, duration, size};
use crate::limits::VALUE_SHOWN_CHARS_MAX;

/// The value in the one form that deserializes, or everything that is wrong with it. Messages
/// go on after the setting's name.
pub(super) fn convert(kind: Kind, node: &Node) -> Result<toml::Value, Vec<Problem>> {
    if kind.is_list() {
        return list(kind, node);
    }
    one(kind, node).map_err(|problem| vec![problem])
}

/// A TOML literal as a node in its default place.
pub(super) fn literal(text: &str) -> Option<Node> {
    let (tree, problems) = document::parse(&format!("value = {text}"));
    let Value::Table(mut table) = tree.value else { return None };
    let member = table.remove("value").filter(|_| problems.is_empty())?;
    Some(Node::new(member.node.value, Place::Default))
}

fn list(kind: Kind, node: &Node) -> Result<toml::Value, Vec<Problem>> {
    let elements = match &node.value {
        Value::List(list) => list.clone(),
        Value::Text(text) if matches!(node.place, Place::Variable(_) | Place::Argument(_)) => {
            split(text, &node.place)?
        }
        _ => vec![node.clone()],
    };
    let mut converted = Vec::new();
    let mut problems = Vec::new();
    for element in &elements {
        match one(kind, element) {
            Ok(value) => converted.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(toml::Value::Array(converted)) } else { Err(problems) }
}

/// A list in a variable: JSON when it begins with a bracket that closes at the end, otherwise
/// separated by commas.
fn split(text: &str, place: &Place) -> Result<Vec<Node>, Vec<Problem>> {
    let trimmed = text.trim();
    // `[::]:3000` begins with a bracket, too.
    if trimmed.starts_with('[') && trimmed.ends_with(']') {
        let list: Vec<String> = serde_json::from_str(trimmed).map_err(|_| {
            vec![
                Problem::new(place.clone(), "is not a JSON list of texts")
                    .hint("separate values by commas, or write a list as in [\"a\", \"b\"]"),
            ]
        })?;
        return Ok(list.into_iter().map(|text| Node::text(text, place.clone())).collect());
    }
    let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(parts.map(|part| Node::text(part, place.clone())).collect())
}

fn one(kind: Kind, node: &Node) -> Result<toml::Value, Problem> {
    let wrong = |message: String| Problem::new(node.place.clone(), message);
    let takes = |wanted: &str| wrong(format!("takes {wanted}, not {}", node.value.kind()));
    match (kind, &node.value) {
        (Kind::Boolean, Value::Boolean(value)) => Ok((*value).into()),
        (Kind::Boolean, Value::Text(text)) if from_text(&node.place) => match text.as_str() {
            "true" | "1" => Ok(true.into()),
            "false" | "0" => Ok(false.into()),
            _ => Err(wrong("takes true or false".to_owned())),
        },
        (Kind::Boolean, _) => Err(takes("true or false")),
        (Kind::Number { min, max }, value) => {
            let number = match value {
                Value::Integer(number) => Some(*number),
                Value::Text(text) if from_text(&node.place) => text.trim().parse().ok(),
                _ => None,
            };
            let number = number.ok_or_else(|| takes("a whole number"))?;
            within(number, min, max).map_err(wrong)
        }
        (Kind::Count, Value::Integer(number)) => within(*number, 0, i64::MAX).map_err(wrong),
        (Kind::Count, Value::Text(text)) if text == "off" => Ok(text.clone().into()),
        (Kind::Count, Value::Text(text)) if from_text(&node.place) => text
            .trim()
            .parse()
            .map_err(|_| wrong("takes a whole number or \"off\"".to_owned()))
            .and_then(|number| within(number, 0, i64::MAX).map_err(wrong)),
        (Kind::Count, _) => Err(takes("a whole number or \"off\"")),
        (Kind::Size { .. } | Kind::SizeOrOff, Value::Integer(number)) => {
            let (min, max) = size_bounds(kind);
            let bytes = u64::try_from(*number).map_err(|_| wrong("is negative".to_owned()))?;
            sized(bytes, min, max).map_err(wrong)
        }
        (_, Value::Text(text)) => written(kind, text).map_err(|(message, hint)| {
            let problem = wrong(without_secrets(&message, text));
            Problem { hint, ..problem }
        }),
        (kind, _) => Err(takes(wanted(kind))),
    }
}

/// The message without the value it repeats, if that is so long that it may be a secret.
fn without_secrets(message: &str, text: &str) -> String {
    let length = text.chars().count();
    if length <= VALUE_SHOWN_CHARS_MAX {
        return message.to_owned();
    }
    message.replace(&format!("{text:?}"), &format!("a text of {length} characters"))
}

fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Duration | Kind::DurationOrOff => "a duration as in \"15s\"",
        Kind::Size { .. } | Kind::SizeOrOff => "a size as in \"10 GiB\"",
        Kind::Addresses => "addresses as in \"0.0.0.0:3000\"",
        Kind::CookieOrOff => "the name of a cookie, or \"off\"",
        Kind::AddressOrOff => "an address as in \"127.0.0.1:3001\"",
        Kind::Networks => "networks as in [\"10.0.0.0/8\"]",
        Kind::Origins => "origins as in [\"https://app.example.com\"]",
        Kind::Texts | Kind::Choices(_) => "a list of texts",
        _ => "a text",
    }
}

/// Whether the place has nothing but texts.
fn from_text(place: &Place) -> bool {
    matches!(place, Place::Variable(_) | Place::Argument(_))
}

fn within(number: i64, min: i64, max: i64) -> Result<toml::Value, String> {
    if number < min {
        return Err(format!("is {number}, and {min} at least"));
    }
    if number > max {
        return Err(format!("is {number}, and {max} at most"));
    }
    Ok(number.into())
}

fn size_bounds(kind: Kind) -> (u64, u64) {
    match kind {
        Kind::Size { min, max } => (min, max),
        _ => (0, u64::MAX),
    }
}

fn sized(bytes: u64, min: u64, max: u64) -> Result<toml::Value, String> {
    if bytes < min || bytes > max {
        let bytes = size::render(bytes);
        return Err(format!(
            "is {bytes}, and takes {} to {}",
            size::render(min),
            size::render(max)
        ));
    }
    Ok(size::render(bytes).into())
}

type Wrong = (String, Option<String>);

/// Checks a text and gives it its one form.
fn written(kind: Kind, text: &str) -> Result<toml::Value, Wrong> {
    let plain = |message: String| (message, None);
    match kind {
        Kind::DurationOrOff | Kind::SizeOrOff | Kind::AddressOrOff | Kind::CookieOrOff
            if text == "off" =>
        {
            Ok(text.into())
        }
        Kind::CookieOrOff if !text.is_empty() && text.bytes().all(is_of_token) => Ok(text.into()),
        Kind::CookieOrOff => Err(plain(format!(
            "has {text:?}, which no cookie can be called: letters, digits, `-` and `_` are fine"
        ))),
        Kind::Duration | Kind::DurationOrOff => duration::parse(text)
            .map(|_| text.into())
            .map_err(|error| plain(format!("is wrong: {error}"))),
        Kind::Size { .. } | Kind::SizeOrOff => {
            let (min, max) = size_bounds(kind);
            let bytes = size::parse(text).map_err(|error| plain(format!("is wrong: {error}")))?;
            sized(bytes, min, max).map_err(plain)
        }
        Kind::AddressOrOff | Kind::Addresses => match text.parse::<SocketAddr>() {
            Ok(address) => Ok(address.to_string().into()),
            Err(_) => {
                Err((format!("has {text:?}, which is not an address"), Some(address_hint(text))))
            }
        },
        Kind::Networks => {
            network(text).map(|network| network.to_string().into()).ok_or_else(|| {
                let hint = "write networks as in 10.0.0.0/8 or fd00::/8".to_owned();
                (format!("has {text:?}, which is not a network"), Some(hint))
            })
        }
        Kind::Origins => match origin(text) {
            Ok(()) => Ok(text.into()),
            Err(hint) => {
                let shown = without_user(text);
                Err((format!("has {shown:?}, which is not an origin"), Some(hint)))
            }
        },
        Kind::Choice(choices) | Kind::Choices(choices) => choice(text, choices),
        Kind::Url => url(text).map(|()| text.into()).map_err(plain),
        Kind::UrlPath => url_path(text).map(|()| text.into()).map_err(plain),
        Kind::Secret | Kind::File | Kind::Text | Kind::Texts if text.is_empty() => {
            Err(plain("is empty".to_owned()))
        }
        Kind::Boolean | Kind::Number { .. } | Kind::Count => {
            Err(plain("takes a value without quotes".to_owned()))
        }
        Kind::Secret | Kind::File | Kind::Text | Kind::Texts => Ok(text.into()),
    }
}

/// Characters of a token (RFC 9110 section 5.6.2), which names of cookies are.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn choice(text: &str, choices: &[&str]) -> Result<toml::Value, Wrong> {
    if choices.contains(&text) {
        return Ok(text.into());
    }
    let hint = match nearest(text, choices.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? It takes {}", choices.join(", ")),
        None => format!("it takes {}", choices.join(", ")),
    };
    Err((format!("does not take {text:?}"), Some(hint)))
}

fn address_hint(text: &str) -> String {
    let port = text.rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    match (port, text) {
        (Some(port), text) if text.starts_with("localhost") => {
            format!("write the number: \"127.0.0.1:{port}\"")
        }
        (Some(port), _) => {
            format!(
                "write IP and port: \"0.0.0.0:{port}\" for every network, \
                 \"127.0.0.1:{port}\" for this machine"
            )
        }
        _ => "write IP and port, as in \"0.0.0.0:3000\" or \"[::]:3000\"".to_owned(),
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Checks an origin (RFC 6454, with the wildcards of the allow lists).
fn origin(text: &str) -> Result<(), String> {
    if matches!(text, "*" | "null") {
        return Ok(());
    }
    let hint = || "write scheme, host and port only, as in \"https://app.example.com\"".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(hint)?;
    let port_free = rest.strip_suffix(":*").unwrap_or(rest);
    let host = port_free.strip_prefix("*.").unwrap_or(port_free);
    if host.contains('*') {
        return Err("a wildcard is a whole first label (https://*.example.com) or port".to_owned());
    }
    let url = Url::parse(&format!("{scheme}://{host}")).map_err(|_| hint())?;
    let bare = url.path().trim_start_matches('/').is_empty() && !rest.ends_with('/');
    let plain = bare && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if plain && anonymous && url.has_host() { Ok(()) } else { Err(hint()) }
}

/// A text without what may be a password in it.
fn without_user(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://…"),
        _ => text.to_owned(),
    }
}

fn url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("takes an http:// or https:// URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment".to_owned());
    }
    if url.path().contains("//") {
        return Err("must not have two slashes in a row in its path".to_owned());
    }
    Ok(())
}

fn url_path(text: &str) -> Result<(), String> {
    let base = Url::parse("http://hub.invalid").map_err(|error| error.to_string())?;
    let same = base.join(text).is_ok_and(|url| url.path() == text && url.query().is_none());
    if !text.starts_with('/') || text.ends_with('/') || text.contains("//") || !same {
        return Err(format!(
            "has {text:?}: it takes a plain path that begins with a slash and does not end with one"
        ));
    }
    Ok(())
}
