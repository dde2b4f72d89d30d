//! Which topics a key may hand on: its own, or fewer. Knows no request and no token.

use tidings_core::{Candidate, Language, Matcher, Namespace};

use super::refusal::Refusal;
use crate::auth::{ApiKey, KeptPattern, Portion, language};
use crate::limits::TOKEN_TOPICS_MAX;

/// Topics of a tenant of the Courier protocol begin so, and with the tenant's id behind it.
const TENANTS: &str = "urn:tidings:audience:";
/// Characters of such an id.
const TENANT_CHARS: usize = 36;

/// Whether all of these are covered by what the key has. A wanted pattern is covered by the same
/// one, and an exact topic by one that picks it; `*` covers all but the topics of tenants.
///
/// # Errors
/// What is wrong with them. No text of a pattern is in it.
pub(super) fn check(
    key: &ApiKey,
    wanted: &[Portion],
    namespace: &Namespace,
) -> Result<(), Refusal> {
    let wanted: Vec<_> = wanted.iter().flat_map(|portion| &portion.topics).collect();
    if wanted.is_empty() {
        return Err(Refusal::Details("name one topic at least, or none to get those of the key"));
    }
    if wanted.len() > TOKEN_TOPICS_MAX {
        return Err(Refusal::Details("a token has 100 topics at most"));
    }
    let own = Own::of(key, namespace);
    for one in wanted {
        let language = language_of(one).ok_or(Refusal::Details(
            "a match_type is none of exact, urlpattern, uritemplate, mqtt and nats",
        ))?;
        let matcher = Matcher::parse(language, &one.pattern, namespace);
        let matcher = matcher.map_err(|_| {
            Refusal::Details("a pattern is not valid in its language, too long or too complex")
        })?;
        if !own.cover(one, &matcher, namespace) {
            return Err(Refusal::Details("a topic is not among those of the API key"));
        }
    }
    Ok(())
}

/// The language of a pattern; the wildcard comes before it.
fn language_of(pattern: &KeptPattern) -> Option<Language> {
    match pattern.pattern.as_str() {
        "*" => Some(Language::Exact),
        _ => language(&pattern.match_type),
    }
}

/// What a key has, read once for all that is asked of it.
struct Own<'a> {
    topics: Vec<(&'a KeptPattern, Option<Matcher>)>,
}

impl Own<'_> {
    fn of<'a>(key: &'a ApiKey, namespace: &Namespace) -> Own<'a> {
        Own { topics: key.topics.iter().map(|own| (own, parsed(own, namespace))).collect() }
    }

    fn cover(&self, wanted: &KeptPattern, matcher: &Matcher, namespace: &Namespace) -> bool {
        let any = |matcher: &Matcher| matches!(matcher, Matcher::Any);
        let has_any = self.topics.iter().any(|(_, own)| own.as_ref().is_some_and(any));
        if self.topics.iter().any(|(own, _)| *own == wanted) || (has_any && any(matcher)) {
            return true;
        }
        let tenant = tenant(&wanted.pattern);
        if tenant.is_none() && may_name_a_tenant(&wanted.pattern) {
            return false;
        }
        if tenant.is_none() && has_any {
            return true;
        }
        let Matcher::Exact(topic) = matcher else { return false };
        let topic = Candidate::new(topic, namespace);
        self.topics.iter().any(|(own, parsed)| {
            tenant.is_none_or(|id| self::tenant(&own.pattern) == Some(id))
                && parsed.as_ref().is_some_and(|own| own.matches(&topic))
        })
    }
}

fn parsed(pattern: &KeptPattern, namespace: &Namespace) -> Option<Matcher> {
    Matcher::parse(language_of(pattern)?, &pattern.pattern, namespace).ok()
}

/// The id of the tenant whose topics this one, or a pattern, is written below.
fn tenant(text: &str) -> Option<&str> {
    text.strip_prefix(TENANTS)?.get(..TENANT_CHARS)
}

/// Whether a text may turn out to be about tenants, however it is escaped in its language. Says yes
/// rather too often: nobody else has such a name.
fn may_name_a_tenant(text: &str) -> bool {
    let plain = |character: &char| !character.is_control() && !" \\{}".contains(*character);
    let text: String = text.chars().filter(plain).collect();
    text.to_ascii_lowercase().contains("tidings:audience")
}

/// These topics as selectors of 0.x, which are topics and URI Templates; those that cannot be said
/// so are left out.
pub(super) fn selectors(portions: &[Portion], namespace: &Namespace) -> Vec<String> {
    let topics = portions.iter().flat_map(|portion| &portion.topics);
    topics.filter(|topic| is_selector(topic, namespace)).map(|one| one.pattern.clone()).collect()
}

/// Whether hubs of 0.x read this pattern as what it means here.
pub(super) fn is_selector(topic: &KeptPattern, namespace: &Namespace) -> bool {
    let as_selector = Matcher::parse(Language::UriTemplate, &topic.pattern, namespace);
    match (language_of(topic), as_selector) {
        (Some(Language::UriTemplate), Ok(_)) => true,
        // Braces in a topic would make a template of it.
        (Some(Language::Exact), Ok(Matcher::Exact(_) | Matcher::Any)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::WantedKey;

    const UUID: &str = "1b671a64-40d5-491e-99b0-da01ff1f3341";

    fn namespace() -> Namespace {
        Namespace::new("https://hub.example/.well-known/mercure".parse().unwrap())
    }

    fn topic((pattern, match_type): (&str, &str)) -> KeptPattern {
        KeptPattern { pattern: pattern.into(), match_type: match_type.into() }
    }

    fn key(topics: &[(&str, &str)]) -> ApiKey {
        let wanted = WantedKey {
            name: "k".into(),
            topics: topics.iter().copied().map(topic).collect(),
            lifetime_max: 60,
            per_minute: 1,
            expires: None,
        };
        ApiKey::make(wanted, &namespace(), 0).unwrap().0
    }

    fn allowed(own: &[(&str, &str)], wanted: (&str, &str)) -> bool {
        let portion = Portion { topics: vec![topic(wanted)], payload: None };
        check(&key(own), &[portion], &namespace()).is_ok()
    }

    #[test]
    fn a_key_hands_on_its_own_patterns_and_exact_topics_that_they_pick() {
        let own =
            [("https://e.com/books/{id}", "uritemplate"), ("a/+/c", "mqtt"), ("plain", "exact")];
        for wanted in [
            ("https://e.com/books/{id}", "uritemplate"),
            ("https://e.com/books/1", "exact"),
            ("a/+/c", "mqtt"),
            ("a/b/c", "exact"),
            ("plain", "exact"),
        ] {
            assert!(allowed(&own, wanted), "{wanted:?}");
        }
        for wanted in [
            ("*", "exact"),
            ("*", "mqtt"),
            ("https://e.com/books/{other}", "uritemplate"),
            ("https://e.com/books/1/2", "exact"),
            ("https://e.com/books/:id", "urlpattern"),
            ("a/#", "mqtt"),
            ("plain", "uritemplate"),
            ("plain", "nats"),
            ("plain", "regexp"),
            ("a/#/c", "mqtt"),
            ("", "exact"),
        ] {
            // A template without braces is an exact topic, whatever it is called.
            let is_exact = wanted == ("plain", "uritemplate");
            assert_eq!(allowed(&own, wanted), is_exact, "{wanted:?}");
        }
    }

    #[test]
    fn a_wildcard_hands_on_everything_but_the_topics_of_tenants() {
        let all = [("*", "exact")];
        for wanted in [
            ("*", "urlpattern"),
            ("x", "exact"),
            ("https://e.com/:a", "urlpattern"),
            ("a.>", "nats"),
        ] {
            assert!(allowed(&all, wanted), "{wanted:?}");
        }
        let below = format!("urn:tidings:audience:{UUID}:");
        for (text, kind) in [
            (format!("{below}x"), "exact"),
            (format!("{below}{{x}}"), "uritemplate"),
            (format!("{below}:x"), "urlpattern"),
            (format!("urn\\:tidings\\:audience\\:{UUID}:*"), "urlpattern"),
            (format!("URN:tid{{in}}gs:audi\tence:{UUID}:*"), "urlpattern"),
            ("urn:tidings:audience:short".to_owned(), "exact"),
        ] {
            assert!(!allowed(&all, (&text, kind)), "{text}");
            assert!(!allowed(&[("#", "mqtt"), (">", "nats")], (&text, kind)), "{text}");
        }
        let template = format!("{below}{{x}}");
        let own = [("*", "exact"), (&*template, "uritemplate")];
        assert!(allowed(&own, (&template, "uritemplate")));
        assert!(allowed(&own, (&format!("{below}x"), "exact")));
        let foreign = below.replace("1b67", "2b67");
        assert!(!allowed(&own, (&format!("{foreign}x"), "exact")));
    }

    #[test]
    fn there_are_not_too_few_and_not_too_many() {
        let check = |number: usize| {
            let portion = Portion { topics: vec![topic(("a", "exact")); number], payload: None };
            check(&key(&[("*", "exact")]), &[portion], &namespace()).is_ok()
        };
        assert_eq!([check(0), check(1), check(100), check(101)], [false, true, true, false]);
    }

    #[test]
    fn what_older_hubs_would_read_otherwise_is_left_out() {
        let topics = [
            ("*", "exact"),
            ("*", "mqtt"),
            ("a", "exact"),
            ("https://e.com/{id}", "uritemplate"),
            ("a{b}", "exact"),
            ("a{", "exact"),
            ("a/+", "mqtt"),
            ("a.>", "nats"),
            ("https://e.com/:id", "urlpattern"),
        ];
        let portion = Portion { topics: topics.into_iter().map(topic).collect(), payload: None };
        assert_eq!(
            selectors(&[portion], &namespace()),
            ["*", "*", "a", "https://e.com/{id}", "a{"]
        );
    }
}
