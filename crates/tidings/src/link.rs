//! `tidings link`: the `Link` header by which an application behind the hub lets its clients find
//! it (RFC 8288; Mercure 1.0, "Discovery"). Knows the hub's URL only.

use url::Url;

/// What `tidings link` is told.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LinkArguments {
    /// The topic of what the answer carries: an IRI
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// The id of the last update that the answer reflects: clients begin behind it
    #[arg(long, value_name = "ID")]
    pub(crate) last_event_id: Option<String>,
}

/// A part that a header cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadLink {
    /// Not a URI reference in ASCII.
    #[error("{0:?} cannot stand in a Link header: percent-encode what is not allowed in a URI")]
    Topic(String),
    /// With characters that a quoted string of a header has no place for.
    #[error("the id cannot stand in a header: only visible ASCII characters and spaces can")]
    Id,
}

/// The header's value. `rel` comes first and one space behind each semicolon: the clients in use
/// look for exactly that.
///
/// # Errors
/// When a part has characters that it must not have.
pub(crate) fn link(hub: &Url, arguments: &LinkArguments) -> Result<String, BadLink> {
    let mut value = format!("<{hub}>; rel=\"mercure\"");
    if let Some(id) = &arguments.last_event_id {
        if !id.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(BadLink::Id);
        }
        let escaped = id.replace('\\', "\\\\").replace('"', "\\\"");
        value.push_str(&format!("; last-event-id=\"{escaped}\""));
    }
    if let Some(topic) = &arguments.topic {
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
        if topic.is_empty() || !topic.bytes().all(plain) {
            return Err(BadLink::Topic(topic.clone()));
        }
        value.push_str(&format!(", <{topic}>; rel=\"self\""));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(topic: Option<&str>, id: Option<&str>) -> Result<String, BadLink> {
        let hub = Url::parse("https://hub.example/.well-known/mercure").unwrap();
        let arguments =
            LinkArguments { topic: topic.map(str::to_owned), last_event_id: id.map(str::to_owned) };
        link(&hub, &arguments)
    }

    #[test]
    fn m76_the_relation_comes_first_behind_one_space() {
        let hub = "<https://hub.example/.well-known/mercure>; rel=\"mercure\"";
        assert_eq!(made(None, None).unwrap(), hub);
        let id = "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb";
        let with_id = format!("{hub}; last-event-id=\"{id}\"");
        assert_eq!(made(None, Some(id)).unwrap(), with_id);
        let topic = "https://example.com/books/1?a=%20";
        let both = format!("{with_id}, <{topic}>; rel=\"self\"");
        assert_eq!(made(Some(topic), Some(id)).unwrap(), both);
        let quoted = format!("{hub}; last-event-id=\"a\\\"b\\\\c\"");
        assert_eq!(made(None, Some("a\"b\\c")).unwrap(), quoted);
    }

    #[test]
    fn what_a_header_cannot_carry_is_refused() {
        for topic in ["", "a b", "a>b", "é", "a\r\nb", "{a}"] {
            assert!(made(Some(topic), None).is_err(), "{topic:?}");
        }
        for id in ["a\r\nSet-Cookie: b", "é", "\u{7f}"] {
            assert_eq!(made(None, Some(id)), Err(BadLink::Id), "{id:?}");
        }
    }
}
