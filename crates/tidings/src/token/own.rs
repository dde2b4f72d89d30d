//! What a token of the hub's own issuer says. Only the hub that runs knows the secret, so nobody
//! judges the signature here, and this never says that a token is good.

use serde_json::{Map, Value};
use tidings_core::{Language, Matcher, Namespace};
use tidings_frontends::auth::{DETAIL_TYPE, Generation, Role, language};
use tidings_frontends::limits::TOKEN_BYTES_MAX;

use super::explain::{ExplainArguments, judge};
use super::{dates, decode};
use crate::client::printable;

/// A token that names the hub itself as its issuer.
pub(crate) struct OwnToken {
    header: Value,
    claims: Map<String, Value>,
}

/// The token, if it names this issuer; `None` for any other.
pub(crate) fn own(token: &str, issuer: &str) -> Option<OwnToken> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split('.');
    let mut part = || decode::part(parts.next()?);
    let (header, Value::Object(claims)) = (part()?, part()?) else { return None };
    let is_own = claims.get("iss").and_then(Value::as_str) == Some(issuer);
    is_own.then_some(OwnToken { header, claims })
}

impl OwnToken {
    fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    /// The id of the API key that it was made for.
    pub(crate) fn client(&self) -> Option<&str> {
        self.text("client_id")
    }

    /// All that can be said of it at the time `now`, in milliseconds since 1970, line by line.
    /// `key` is how its API key stands.
    pub(crate) fn words(
        &self,
        key: &str,
        asked: &ExplainArguments,
        namespace: &Namespace,
        now: u64,
    ) -> String {
        let mut lines = vec!["A token of the hub itself, or one that says so".to_owned()];
        let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
        lines.push(format!("  iss: {}", shown(self.claims.get("iss"))));
        lines.push(format!("  kid: {}", shown(self.header.get("kid"))));
        lines.push("  signature: not judged, only the hub that runs knows the secret".to_owned());
        lines.push(format!("  client_id: {}", shown(self.claims.get("client_id"))));
        lines.push(format!("  API key: {key}"));
        for name in ["sub", "jti"] {
            lines.push(format!("  {name}: {}", shown(self.claims.get(name))));
        }
        let hub_url = namespace.hub_url().as_str();
        let audience = self.claims.get("aud");
        if audience.is_some_and(|audience| audience != hub_url) {
            lines.push(format!("  FAIL  aud: {}", shown(audience)));
            lines.push(format!("        it is for another hub; would pass: {hub_url}"));
        } else {
            lines.push(format!("  aud: {}", shown(audience)));
        }
        lines.extend(self.times(now));
        let granted = self.granted(namespace);
        let judged = granted.iter().map(|(matcher, words)| (matcher, words.as_str())).collect();
        let judged = (self.generation(), judged);
        for (_, words) in &granted {
            lines.push(format!("  would grant, where its signature holds: {words}"));
        }
        for topic in &asked.subscribe {
            let what = "read private updates of";
            lines.push(match judge(topic, Role::Subscribe, Some(&judged), namespace) {
                Ok(words) => format!("  might {what} {topic:?}, by {words}"),
                Err(reason) => format!("  may NOT {what} {topic:?}: {reason}"),
            });
        }
        for topic in &asked.publish {
            lines.push(format!("  may NOT publish to {topic:?}: the hub's own tokens only read"));
        }
        printable(&(lines.join("\n") + "\n"))
    }

    fn times(&self, now: u64) -> Vec<String> {
        let now = i64::try_from(now / 1_000).unwrap_or(i64::MAX);
        let mut lines = Vec::new();
        for name in ["iat", "exp"] {
            let Some(seconds) = self.claims.get(name).and_then(Value::as_i64) else {
                lines.push(format!("  FAIL  {name}: no time"));
                continue;
            };
            let date = dates::shown(seconds, now).unwrap_or_else(|| seconds.to_string());
            if name == "exp" && seconds <= now {
                lines.push(format!("  FAIL  exp: {date}"));
            } else {
                lines.push(format!("  {name}: {date}"));
            }
        }
        lines
    }

    fn generation(&self) -> Generation {
        match self.claims.contains_key("mercure") {
            true => Generation::Draft,
            false => Generation::Final,
        }
    }

    /// What it says that may be read, with the words for it.
    fn granted(&self, namespace: &Namespace) -> Vec<(Matcher, String)> {
        let selectors = self.claims.get("mercure").and_then(|claim| claim.get("subscribe"));
        let selectors = selectors.and_then(Value::as_array).into_iter().flatten();
        let selected = selectors.filter_map(|one| {
            let text = one.as_str()?;
            let is_template = text.contains('{');
            Some((if is_template { "uritemplate" } else { "exact" }, text))
        });
        let details = self.claims.get("authorization_details").and_then(Value::as_array);
        let details = details.into_iter().flatten().filter(|detail| detail["type"] == DETAIL_TYPE);
        let topics = details.filter_map(|detail| detail["topics"].as_array()).flatten();
        let detailed = topics.filter_map(|topic| {
            let kind = topic["match_type"].as_str().unwrap_or("exact");
            Some((kind, topic["match"].as_str()?))
        });
        let made = |(kind, text): (&str, &str)| {
            let matcher = Matcher::parse(language(kind)?, text, namespace).ok()?;
            let words = match (kind, text) {
                (_, "*") if language(kind) == Some(Language::Exact) => "every topic".to_owned(),
                _ => format!("{kind} {text:?}"),
            };
            Some((matcher, words))
        };
        selected.chain(detailed).filter_map(made).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    const ISSUER: &str = "https://hub.example/.well-known/tidings";
    const HUB: &str = "https://hub.example/.well-known/mercure";

    fn token(claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": "tidings-3" });
        format!("{}.{}.c2lnbmF0dXJl", encode(&header), encode(claims))
    }

    fn words(claims: &Value, subscribe: &[&str], publish: &[&str]) -> String {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let asked =
            ExplainArguments { token: None, publish: texts(publish), subscribe: texts(subscribe) };
        let namespace = Namespace::new(HUB.parse().unwrap());
        own(&token(claims), ISSUER).unwrap().words("stands", &asked, &namespace, 2_000_000)
    }

    #[test]
    fn an_own_token_is_told_without_a_verdict() {
        let detail = json!({ "type": DETAIL_TYPE, "actions": ["subscribe"], "topics": [
            { "match": "a\u{1b}" }, { "match": "b/#", "match_type": "mqtt" }] });
        let claims = json!({ "iss": ISSUER, "aud": HUB, "sub": "alice", "jti": "x", "iat": 1_000,
            "exp": 3_000, "client_id": "0123456789abcdef", "authorization_details": [detail] });
        let text = words(&claims, &["b/c", "c"], &["b/c"]);
        for line in [
            "  iss: \"https://hub.example/.well-known/tidings\"",
            "  kid: \"tidings-3\"",
            "  client_id: \"0123456789abcdef\"",
            "  API key: stands",
            "  exp: 1970-01-01T00:50:00Z, in 16m40s",
            "  would grant, where its signature holds: exact \"a\\u{1b}\"",
            "  might read private updates of \"b/c\", by mqtt \"b/#\"",
            "  may NOT read private updates of \"c\": nothing that it grants matches the topic",
            "  may NOT publish to \"b/c\": the hub's own tokens only read",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
        assert!(!text.contains("FAIL") && !text.contains("c2lnbmF0dXJl"), "{text}");
    }

    #[test]
    fn what_fails_without_any_secret_is_said() {
        let claims = json!({ "iss": ISSUER, "aud": "https://other.example", "exp": 1_500,
            "mercure": { "subscribe": ["*", "https://e.com/{id}"] } });
        let text = words(&claims, &[], &[]);
        for line in [
            "  FAIL  aud: \"https://other.example\"",
            "  FAIL  exp: 1970-01-01T00:25:00Z, 8m20s ago",
            "  FAIL  iat: no time",
            "  would grant, where its signature holds: every topic",
            "  would grant, where its signature holds: uritemplate \"https://e.com/{id}\"",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
        }
    }

    #[test]
    fn other_tokens_are_not_its_own() {
        for other in ["", "a.b.c", &token(&json!({ "iss": "https://other.example" }))] {
            assert!(own(other, ISSUER).is_none());
        }
        assert!(own(&token(&json!({})), ISSUER).is_none());
    }
}
