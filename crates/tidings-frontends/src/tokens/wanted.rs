//! What a request to exchange a key asks for, as JSON or as a form. Knows no key.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::refusal::Refusal;
use crate::auth::{DETAIL_TYPE, Generation, KeptPattern, Portion, Role};
use crate::limits::ISSUED_SUBJECT_BYTES_MAX;
use crate::problem::shown_name;

/// What a request asks for; everything has a default.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// Topics and what comes with them; `None` for all that the key has.
    pub(super) portions: Option<Vec<Portion>>,
    /// In seconds.
    pub(super) lifetime: Option<u64>,
    /// The `sub` of the token.
    pub(super) subject: Option<String>,
    /// Of the token.
    pub(super) generation: Option<Generation>,
    /// Who the client says it is, beside its key.
    pub(super) client_id: Option<String>,
    /// Whom the token is meant for (RFC 8707 and RFC 8693): this hub, or nobody who is known here.
    pub(super) targets: Vec<String>,
}

/// The fields of a body. Any other one is a mistake that could widen a token, so it is not read
/// over, as RFC 6749 section 3.2 wants it.
const FIELDS: [&str; 11] = [
    "topics",
    "authorization_details",
    "lifetime",
    "subject",
    "generation",
    "grant_type",
    "client_id",
    "client_secret",
    "scope",
    "resource",
    "audience",
];

/// The body as JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Document {
    #[serde(deserialize_with = "there")]
    topics: Option<Vec<TopicDocument>>,
    #[serde(deserialize_with = "there")]
    authorization_details: Option<Vec<Value>>,
    lifetime: Option<u64>,
    subject: Option<String>,
    generation: Option<Generation>,
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    scope: Option<String>,
    #[serde(deserialize_with = "texts")]
    resource: Vec<String>,
    #[serde(deserialize_with = "texts")]
    audience: Vec<String>,
}

/// One text or several.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Option::deserialize(from)? {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Several(texts)) => texts,
    })
}

/// What is named has to be there: `null` would be taken for all that the key has.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// A topic: its text, or a pattern with its language.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TopicDocument {
    Text(String),
    Pattern(PatternDocument),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PatternDocument {
    #[serde(rename = "match")]
    pattern: String,
    match_type: Option<String>,
}

/// An authorization detail of Mercure's type. What else one may have (RFC 9396 section 2.2), a
/// token of this hub would not keep, so it is refused (section 5).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DetailDocument {
    #[serde(rename = "type")]
    kind: String,
    actions: Vec<String>,
    topics: Vec<PatternDocument>,
    #[serde(default)]
    payload: Option<Map<String, Value>>,
}

impl From<PatternDocument> for KeptPattern {
    fn from(document: PatternDocument) -> KeptPattern {
        let match_type = document.match_type.unwrap_or_else(|| "exact".to_owned());
        KeptPattern { pattern: document.pattern, match_type }
    }
}

impl From<TopicDocument> for KeptPattern {
    fn from(document: TopicDocument) -> KeptPattern {
        match document {
            TopicDocument::Text(text) => exact(text),
            TopicDocument::Pattern(pattern) => pattern.into(),
        }
    }
}

fn exact(text: String) -> KeptPattern {
    KeptPattern { pattern: text, match_type: "exact".to_owned() }
}

const BAD_JSON: Refusal = Refusal::Bad(
    "the body is no JSON object of `topics`, `authorization_details`, `lifetime` (seconds), \
     `subject` and `generation`",
);

/// Reads a body in JSON.
pub(super) fn json(body: &[u8]) -> Result<Asked, Refusal> {
    // A list would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(BAD_JSON);
    }
    match serde_json::from_slice(body) {
        Ok(document) => complete(document),
        Err(_) => Err(unknown_field(body).unwrap_or(BAD_JSON)),
    }
}

/// The first field of an object in JSON that has no meaning here, as a refusal.
fn unknown_field(body: &[u8]) -> Option<Refusal> {
    let named: BTreeMap<String, IgnoredAny> = serde_json::from_slice(body).ok()?;
    let unknown = named.keys().find(|name| !FIELDS.contains(&name.as_str()))?;
    Some(Refusal::UnknownField(shown_name(unknown)))
}

/// Reads a form: `topic`, `resource` and `audience` may stand in it several times, everything else
/// once.
pub(super) fn form(body: &[u8]) -> Result<Asked, Refusal> {
    let mut document = Document::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let text = value.into_owned();
        let twice = match &*name {
            "topic" => {
                document.topics.get_or_insert_default().push(TopicDocument::Text(text));
                false
            }
            // Also as some libraries write lists: `topic[]` and `topic[0]`.
            name if name == "topics"
                || name.starts_with("topic[")
                || name.starts_with("topics[") =>
            {
                return Err(Refusal::Bad("in a form, each topic is a field `topic`"));
            }
            name if name.starts_with("authorization_details[") => {
                return Err(Refusal::Details("authorization_details is no JSON array"));
            }
            "authorization_details" => {
                let details = serde_json::from_str(&text)
                    .map_err(|_| Refusal::Details("authorization_details is no JSON array"))?;
                document.authorization_details.replace(details).is_some()
            }
            "lifetime" => {
                let seconds = text.parse().map_err(|_| BAD_LIFETIME)?;
                document.lifetime.replace(seconds).is_some()
            }
            "subject" => document.subject.replace(text).is_some(),
            "generation" => {
                let generation = serde_json::from_value(Value::String(text));
                let generation =
                    generation.map_err(|_| Refusal::Bad("`generation` is none of 1.0 and 0.x"))?;
                document.generation.replace(generation).is_some()
            }
            "grant_type" => document.grant_type.replace(text).is_some(),
            "client_id" => document.client_id.replace(text).is_some(),
            "client_secret" => document.client_secret.replace(text).is_some(),
            "scope" => document.scope.replace(text).is_some(),
            "resource" => {
                document.resource.push(text);
                false
            }
            "audience" => {
                document.audience.push(text);
                false
            }
            unknown => return Err(Refusal::UnknownField(shown_name(unknown))),
        };
        if twice {
            return Err(Refusal::Bad("a field stands there twice"));
        }
    }
    complete(document)
}

const BAD_LIFETIME: Refusal = Refusal::Bad("`lifetime` is no number of seconds, 1 at least");

fn complete(document: Document) -> Result<Asked, Refusal> {
    // Fields of OAuth without a value are as if they were not there (RFC 6749 section 3.2).
    let has = |field: &Option<String>| field.as_ref().is_some_and(|text| !text.is_empty());
    if has(&document.grant_type) && document.grant_type.as_deref() != Some("client_credentials") {
        return Err(Refusal::GrantType);
    }
    if has(&document.client_secret) {
        return Err(Refusal::Bad(
            "send the API key in a header, by HTTP Basic or as a bearer token, and not in the body",
        ));
    }
    if has(&document.scope) {
        return Err(Refusal::Scope);
    }
    if document.lifetime == Some(0) {
        return Err(BAD_LIFETIME);
    }
    if document.subject.as_ref().is_some_and(|subject| !is_subject(subject)) {
        return Err(Refusal::Bad(
            "`subject` has 1 to 255 bytes and no control characters, and does not begin with key:",
        ));
    }
    let portions = match (document.topics, document.authorization_details) {
        (Some(_), Some(_)) => {
            return Err(Refusal::Bad("send `topics` or `authorization_details`, not both"));
        }
        (Some(topics), None) => {
            let topics = topics.into_iter().map(KeptPattern::from).collect();
            Some(vec![Portion { topics, payload: None }])
        }
        (None, Some(details)) => Some(details.into_iter().map(portion).collect::<Result<_, _>>()?),
        (None, None) => None,
    };
    let Document { lifetime, subject, generation, resource, audience, .. } = document;
    let targets = [resource, audience].concat().into_iter().filter(|text| !text.is_empty());
    let client_id = document.client_id.filter(|text| !text.is_empty());
    let targets = targets.collect();
    Ok(Asked { portions, lifetime, subject, generation, client_id, targets })
}

/// Names that keys give themselves are not for their visitors.
fn is_subject(text: &str) -> bool {
    let bounded = !text.is_empty() && text.len() <= ISSUED_SUBJECT_BYTES_MAX;
    bounded && !text.starts_with("key:") && !text.chars().any(char::is_control)
}

fn portion(detail: Value) -> Result<Portion, Refusal> {
    let detail: DetailDocument = serde_json::from_value(detail).map_err(|_| {
        Refusal::Details("a detail is no object of `type`, `actions`, `topics` and `payload`")
    })?;
    if detail.kind != DETAIL_TYPE {
        return Err(Refusal::Details("a detail is of another type than Mercure's"));
    }
    if detail.actions != [Role::Subscribe.action()] {
        return Err(Refusal::Details("the only action is subscribe"));
    }
    if detail.topics.is_empty() {
        return Err(Refusal::Details("a detail has no topics"));
    }
    let topics = detail.topics.into_iter().map(KeptPattern::from).collect();
    Ok(Portion { topics, payload: detail.payload })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn topics(asked: Asked) -> Vec<(String, String)> {
        let portions = asked.portions.unwrap();
        let topics = portions.into_iter().flat_map(|portion| portion.topics);
        topics.map(|topic| (topic.pattern, topic.match_type)).collect()
    }

    fn pair(pattern: &str, match_type: &str) -> (String, String) {
        (pattern.to_owned(), match_type.to_owned())
    }

    #[test]
    fn json_names_topics_by_text_or_by_pattern() {
        let body = json!({
            "topics": ["a", { "match": "b/+", "match_type": "mqtt" }, { "match": "c" }],
            "lifetime": 60, "subject": "alice", "generation": "0.x", "scope": "",
            "grant_type": "client_credentials", "client_id": "id", "audience": ["a", "b"],
            "resource": "c",
        });
        let asked = json(body.to_string().as_bytes()).unwrap();
        assert_eq!((asked.lifetime, asked.subject.as_deref()), (Some(60), Some("alice")));
        assert_eq!(asked.generation, Some(Generation::Draft));
        assert_eq!((asked.client_id.as_deref(), asked.targets.len()), (Some("id"), 3));
        assert_eq!(topics(asked), [pair("a", "exact"), pair("b/+", "mqtt"), pair("c", "exact")]);
        assert_eq!(json(b"{}").unwrap(), Asked::default());
    }

    #[test]
    fn details_grant_reading_alone() {
        let detail = |change: fn(&mut Value)| {
            let mut detail = json!({
                "type": DETAIL_TYPE,
                "actions": ["subscribe"],
                "topics": [{ "match": "a", "match_type": "uritemplate" }],
                "payload": { "name": "Alice" },
            });
            change(&mut detail);
            json(json!({ "authorization_details": [detail] }).to_string().as_bytes())
        };
        let asked = detail(|_| ()).unwrap();
        let portion = asked.portions.as_ref().unwrap().first().unwrap();
        assert_eq!(portion.detail()["payload"]["name"], "Alice");
        assert_eq!(topics(asked), [pair("a", "uritemplate")]);
        for bad in [
            detail(|one| one["type"] = json!("other")),
            detail(|one| one["actions"] = json!(["publish"])),
            detail(|one| one["actions"] = json!(["subscribe", "publish"])),
            detail(|one| one["actions"] = json!([])),
            detail(|one| one["topics"] = json!([])),
            detail(|one| one["topics"] = json!(["a"])),
            detail(|one| one["payload"] = json!(1)),
            detail(|one| one["locations"] = json!(["https://e.com"])),
            detail(|one| *one = json!("x")),
        ] {
            assert!(matches!(bad, Err(Refusal::Details(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_form_repeats_topics_and_nothing_else() {
        let asked = form(b"topic=a&topic=b+c&lifetime=5&resource=r&resource=s&scope=").unwrap();
        assert_eq!(asked.lifetime, Some(5));
        assert_eq!(asked.targets, ["r", "s"]);
        assert_eq!(topics(asked), [pair("a", "exact"), pair("b c", "exact")]);
        assert_eq!(form(b"").unwrap(), Asked::default());
        let details = json!([{
            "type": DETAIL_TYPE, "actions": ["subscribe"], "topics": [{ "match": "a" }],
        }]);
        let field = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("authorization_details", &details.to_string())
            .finish();
        assert_eq!(topics(form(field.as_bytes()).unwrap()), [pair("a", "exact")]);
        for bad in [
            "topics=a",
            "lifetime=5&lifetime=6",
            "lifetime=0",
            "lifetime=-1",
            "lifetime=x",
            "generation=2.0",
            "subject=",
            "subject=key:a",
            "subject=a%00",
            &format!("subject={}", "a".repeat(256)),
            &format!("topic=a&{field}"),
        ] {
            assert!(matches!(form(bad.as_bytes()), Err(Refusal::Bad(_))), "{bad}");
        }
        assert_eq!(form(b"grant_type=password").unwrap_err(), Refusal::GrantType);
    }

    #[test]
    fn an_unknown_field_is_refused_by_its_name() {
        let unknown = |name: &str| Err(Refusal::UnknownField(name.to_owned()));
        assert_eq!(form(b"Topic=a"), unknown("Topic"));
        assert_eq!(form(b"topic=a&t%22%0A%C3%A9=b"), unknown("t%22%0A%C3%A9"));
        assert_eq!(json(br#"{"Topics":["a"]}"#), unknown("Topics"));
        assert_eq!(json(br#"{"topics":["a"],"topic":"a"}"#), unknown("topic"));
        for name in FIELDS {
            let read = json(json!({ name: {} }).to_string().as_bytes());
            assert_eq!(read, Err(BAD_JSON), "{name} is known, and no object");
        }
    }

    #[test]
    fn what_oauth_has_beside_is_taken_at_its_word() {
        for (name, refusal) in [("scope", Refusal::Scope), ("grant_type", Refusal::GrantType)] {
            assert_eq!(form(format!("{name}=x").as_bytes()), Err(refusal.clone()));
            assert_eq!(json(json!({ name: "x" }).to_string().as_bytes()), Err(refusal));
        }
        let secret = form(b"client_id=a&client_secret=b");
        assert!(matches!(secret, Err(Refusal::Bad(_))), "{secret:?}");
        let empty = form(b"grant_type=&client_id=&client_secret=&scope=&resource=&audience=");
        assert_eq!(empty, Ok(Asked::default()));
    }

    #[test]
    fn what_could_widen_a_token_by_mistake_is_refused() {
        for bad in [
            "",
            "[]",
            "null",
            "1",
            r#"{"topics":["a"],"topics":["b"]}"#,
            r#"{"topics":"a"}"#,
            r#"{"topics":null}"#,
            r#"{"authorization_details":null}"#,
            r#"{"topics":[1]}"#,
            r#"{"topics":[{"match":"a","type":"mqtt"}]}"#,
            r#"{"lifetime":-1}"#,
            r#"{"lifetime":"60"}"#,
            r#"{"lifetime":0}"#,
            r#"{"subject":1}"#,
            r#"{"generation":"1"}"#,
            r#"{"topics":["a"],"authorization_details":[]}"#,
        ] {
            assert!(matches!(json(bad.as_bytes()), Err(Refusal::Bad(_))), "{bad}");
        }
        for bad in ["topics=a", "topic[]=a", "topic%5B0%5D=a", "topics[]=a", "topic=a&topic[1]=b"] {
            assert!(matches!(form(bad.as_bytes()), Err(Refusal::Bad(_))), "{bad}");
        }
    }
}
