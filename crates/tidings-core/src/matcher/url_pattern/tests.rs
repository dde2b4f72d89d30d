//! What browsers answer for the same patterns, and what only this code promises.

use proptest::prelude::*;
use url::Url;

use super::component::Component;
use super::parts::Section;
use super::{UrlPattern, ecmascript, reach};
use crate::limits::{
    EXPRESSION_BYTES_MAX, EXPRESSION_STATES_MAX, PATTERN_PARTS_MAX, PROPERTIES_MAX, TOPIC_BYTES_MAX,
};
use crate::matcher::{BadPattern, Steps};
use Answer::{Match, Pass, Refuse};

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Match,
    Pass,
    Refuse,
}

fn base() -> Url {
    Url::parse("https://hub.example/.well-known/mercure").unwrap()
}

fn ask(pattern: &str, base: &Url, url: &str) -> Answer {
    match (UrlPattern::parse(pattern, base), base.join(url)) {
        (Err(_), _) => Refuse,
        (Ok(pattern), Ok(url)) if pattern.matches(&url) => Match,
        _ => Pass,
    }
}

/// Each row holds for `new URLPattern(pattern, base).test(url, base)` in Chromium.
#[rustfmt::skip]
const ROWS: &[(&str, &str, Answer)] = &[
    ("/books/:id", "/books/1", Match),
    ("/books/:id", "https://hub.example/books/1?x=2#3", Match),
    ("/books/:id", "/books/", Pass),
    ("/books/:id", "/books/1/2", Pass),
    ("/books/:id", "http://hub.example/books/1", Pass),
    ("/books/:id", "https://other.example/books/1", Pass),
    ("/books/:id", "https://hub.example:8443/books/1", Pass),
    ("books/:id", "books/1", Match),
    ("books/:id", "/.well-known/books/1", Match),
    ("../books", "/books", Match),
    ("/books/:id?", "/books", Match),
    ("/books/:id?", "/books/", Pass),
    ("/books/:id*", "/books/1/2/3", Match),
    ("/books/:id*", "/books", Match),
    ("/books/:id+", "/books", Pass),
    ("/books/{:id}?", "/books/", Match),
    ("/books/:id.jsonld", "/books/7.jsonld", Match),
    ("/books/:id.jsonld", "/books/.jsonld", Pass),
    ("/books/*", "/books/", Match),
    ("/books/*", "/books", Pass),
    ("/a{/b}*/c", "/a/b/b/c", Match),
    ("/a{/b}*/c", "/a/c", Match),
    ("/a{/b}+/c", "/a/c", Pass),
    ("/a{-:x}*", "/a-b-c", Match),
    ("/a{-:x}*", "/a", Match),
    ("/:a-:b", "/x-y-z", Match),
    ("*", "/anything", Pass),
    ("https://example.com", "https://example.com/a?b#c", Match),
    ("https://example.com/", "https://example.com/a", Pass),
    ("https://example.com/?q=*", "https://example.com/?q=1", Match),
    ("https://example.com/\\?q=*", "https://example.com/?q=1", Match),
    ("https://example.com/a?q=*", "https://example.com/a", Pass),
    ("https://example.com/a#x", "https://example.com/a#x", Match),
    ("https://example.com/a#x", "https://example.com/a?q#x", Pass),
    ("https://example.com:443/a", "https://example.com/a", Match),
    ("https://example.com:8080/a", "https://example.com:8080/a", Match),
    ("https://example.com:*/a", "https://example.com:8080/a", Match),
    ("https://example.com/a", "https://example.com:8080/a", Pass),
    ("http{s}?://example.com/*", "http://example.com/a", Match),
    ("http{s}?://*/x", "https://a.example/x", Match),
    ("(http|https)://example.com/a", "http://example.com/a", Match),
    ("*://*/a", "https://example.com/a", Match),
    ("*://*:*/a", "foo://example.com:1/a", Match),
    ("https://*.example.com/a", "https://x.y.example.com/a", Match),
    ("https://*.example.com/a", "https://example.com/a", Pass),
    ("https://:tenant.example.com/a", "https://x.example.com/a", Match),
    ("https://:tenant.example.com/a", "https://x.y.example.com/a", Pass),
    ("https://{:sub.}?example.com/", "https://example.com/", Match),
    ("https://EXAMPLE.com/A", "https://example.com/A", Match),
    ("https://example.com/A", "https://example.com/a", Pass),
    ("https://café.example/", "https://xn--caf-dma.example/", Match),
    ("https://example.com/café", "https://example.com/caf%C3%A9", Match),
    ("https://example.com/%41", "https://example.com/A", Pass),
    ("https://example.com/a b", "https://example.com/a%20b", Match),
    ("https://u:p@example.com/", "https://u:p@example.com/", Pass),
    ("https://u:p@example.com/", "https://example.com/", Pass),
    ("https://example.com/", "https://u:p@example.com/", Match),
    ("https://[\\:\\:1]/", "https://[::1]/", Match),
    ("https://[::1]:8080/a", "https://[::1]:8080/a", Refuse),
    ("https://example.com{/:id}?", "https://example.com/7", Match),
    ("https://a]b/", "https://ab/", Refuse),
    ("foo://host/a/:id", "foo://host/a/b/c", Match),
    ("foo://host/a/:id?", "foo://host/a", Pass),
    ("urn:*", "urn:isbn:1", Pass),
    ("urn:isbn:1", "urn:isbn:1", Pass),
    ("data\\:text/*", "data:text/plain", Pass),
    ("?q=:v", "?q=1", Match),
    ("#x", "#x", Match),
    ("", "mercure", Pass),
    ("", ".", Match),
    ("{/x}?/y", "/x/y", Match),
    ("/:a/(\\d+)", "/x/12", Match),
    ("/(\\d+)", "/12", Match),
    ("/(\\d+)", "/x", Pass),
    ("/:id([0-9a-f]{4})", "/00ff", Match),
    ("/:id([0-9a-f]{4})", "/00fg", Pass),
    ("/(a|b)", "/b", Match),
    ("/x(.*)", "/x", Match),
    ("/([^\\/]+?)", "/a", Match),
    ("/([^\\/]+?)", "/a/b", Pass),
    ("/(^a)", "/a", Pass),
    ("/(a$)", "/a", Match),
    ("/(\\bb)", "/b", Match),
    ("/:café", "/x", Match),
    ("/:a/:a", "/x/y", Refuse),
    ("/{a:b:c}", "/x", Refuse),
    ("/(", "/x", Refuse),
    ("/{a", "/x", Refuse),
    ("/a}", "/a", Refuse),
    ("/+", "/x", Refuse),
    ("/(?:a)", "/x", Refuse),
    ("/\\", "/x", Refuse),
    ("/(())", "/x", Refuse),
    ("/a\\*", "/a*", Match),
    ("/a/../b", "/b", Match),
    ("/*/../b", "/b", Pass),
    ("/:a..b", "/x..b", Match),
    ("//x", "//x", Pass),
    ("https://example.com/%2e/a", "https://example.com/a", Match),
    ("https://example.com?x", "https://example.com/?x", Match),
    ("https:example.com/a", "https://example.com/a", Pass),
    ("foo:bar", "foo:bar", Pass),
    ("https://example.com/'", "https://example.com/'", Match),
    ("/a:b", "/ax", Match),
    ("/a\\:b", "/a:b", Refuse),
    ("/a::b", "/a:x", Refuse),
    ("ws://example.com:80/a", "ws://example.com/a", Match),
    ("wss://example.com:443/a", "wss://example.com/a", Match),
    ("ftp://example.com:21/a", "ftp://example.com/a", Match),
    ("https://example.com:80/a", "https://example.com/a", Pass),
    ("https://[/a", "https://example.com/a", Refuse),
    ("https://[2001\\:DB8\\:\\::id]/", "https://[2001:db8::7]/", Match),
    ("https://[2001\\:db8\\:\\::id]/", "https://[2001:db9::7]/", Pass),
    ("https://[\\:\\:1]:8080/a", "https://[::1]:8080/a", Match),
    ("https://[\\:\\:1]:8080/a", "https://[::1]/a", Pass),
    ("https://example.com/?q='", "https://example.com/?q='", Match),
    ("foo://host/?q='", "foo://host/?q='", Match),
    ("https://example.com/a??x", "https://example.com/a?x", Match),
    ("https://example.com/a??x", "https://example.com/a??x", Pass),
    ("https://example.com/a##x", "https://example.com/a#x", Match),
    ("https://example.com/a##x", "https://example.com/a##x", Pass),
    ("https://example.com?a=b@c", "https://example.com/?a=b@c", Match),
    ("https://example.com#a@b", "https://example.com/#a@b", Match),
    ("https://example.com/a@b", "https://example.com/a@b", Match),
    ("https://u@example.com/", "https://u@example.com/", Match),
    ("https://u@example.com/", "https://example.com/", Pass),
    ("https://u\\:p@example.com/", "https://u:p@example.com/", Match),
    ("https://u\\:p@example.com/", "https://u:q@example.com/", Pass),
    ("foo:/a", "foo:/a", Match),
    ("foo:/a", "foo:/b", Pass),
    ("foo:/a", "foo://host/a", Pass),
    ("/a?x=:v", "/a?x=1", Match),
    ("/a?x=:v", "/a?x=", Pass),
    ("/a?x=:v#h", "/a?x=1#h", Match),
    ("https://example.com?x", "https://example.com/a?x", Pass),
    ("https://example.com#x", "https://example.com/a#x", Pass),
    ("https://example.com/a#(x*)", "https://example.com/a", Match),
    ("/(a\\)b)", "/a)b", Match),
    ("/(a\\(b)", "/a(b", Match),
    ("/(é)", "/x", Refuse),
    ("/()", "/", Refuse),
    ("/(a(b))", "/ab", Refuse),
    ("/*{a}?", "/bb", Match),];

#[test]
fn m20_url_patterns_answer_as_browsers_do() {
    for (pattern, url, expected) in ROWS {
        assert_eq!(ask(pattern, &base(), url), *expected, "{pattern:?} {url:?}");
    }
}

#[test]
fn m20_the_folder_of_the_base_stands_before_relative_patterns_as_plain_text() {
    let base = Url::parse("https://hub.example:8443/a+b(c):d/hub?x=1#y").unwrap();
    assert_eq!(ask("e/:id", &base, "https://hub.example:8443/a+b(c):d/e/1"), Match);
    assert_eq!(ask("e/:id", &base, "https://hub.example:8443/aab(c):d/e/1"), Pass);
    assert_eq!(ask("/e/:id", &base, "https://hub.example:8443/e/1"), Match);
    assert_eq!(ask("/e/:id", &base, "https://hub.example/e/1"), Pass);
    assert_eq!(ask("?q=:v", &base, "?q=1"), Match);
    assert_eq!(ask("#z", &base, "#z"), Match);
    assert_eq!(ask("#z", &base, "?x=2#z"), Pass);
}

#[test]
fn regular_expressions_are_ecmascript() {
    for (group, path, expected) in [
        ("[a-z]{2,3}", "abc", Match),
        ("[a-z]{2,3}", "abcd", Pass),
        ("a{2}?", "aa", Match),
        ("[\\w\\-]+", "a-b_c", Match),
        ("[^\\d]+", "ab", Match),
        ("[^\\d]+", "a1", Pass),
        ("\\D\\S\\W", "a.-", Match),
        ("(?:a|b)+", "abba", Match),
        ("(?<year>\\d{4})", "2026", Match),
        ("\\x61\\u0062\\u{63}", "abc", Match),
        ("\\p{Lu}\\P{Lu}", "Ab", Match),
        ("\\p{Lu}\\P{Lu}", "ab", Pass),
        ("[a-z--[aeiou]]", "b", Refuse),
        ("[[a-z]--[aeiou]]", "b", Match),
        ("[[a-z]--[aeiou]]", "e", Pass),
        ("[\\w&&\\D]+", "a_", Match),
        ("[\\w&&\\D]+", "a1", Pass),
        ("[:alpha:]+", "palh:", Match),
        ("[[:alpha:]]+", "z", Pass),
        ("[^]", "x", Match),
        ("[]", "x", Pass),
        ("[\\u00e9]", "x", Pass),
        ("[^\\u00e9]", "x", Match),
        ("a\\/b", "a/b", Match),
        ("^x", "x", Pass),
        ("x$", "x", Match),
        ("\\bx", "x", Match),
        (".", "x", Match),
        ("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "0", Pass),
        ("[\\w\\-]{1,255}", "x", Match),
        ("a#b", "ab", Pass),
        ("[a-c-e]", "b", Refuse),
        ("[a-\\d]", "b", Refuse),
        ("[z-a]", "b", Refuse),
        ("[a--b]", "a", Match),
        ("[a&&b&&]", "a", Refuse),
        ("[/]", "a", Refuse),
        ("[&&]", "a", Refuse),
        ("[a!!]", "a", Refuse),
        ("[", "a", Refuse),
        ("]", "a", Refuse),
        ("a{", "a", Refuse),
        ("a{,3}", "a", Refuse),
        ("a}", "a", Refuse),
        ("a{2,1}", "a", Refuse),
        ("a++", "a", Refuse),
        ("a**", "a", Refuse),
        ("*", "a", Refuse),
        ("^*", "a", Refuse),
        ("\\-", "-", Refuse),
        ("\\_", "_", Refuse),
        ("\\a", "a", Refuse),
        ("\\A", "a", Refuse),
        ("\\z", "a", Refuse),
        ("\\<a", "a", Refuse),
        ("\\pL", "a", Refuse),
        ("\\p{Nonsense}", "a", Refuse),
        ("\\u{110000}", "a", Refuse),
        ("\\u12", "a", Refuse),
        ("\\x{61}", "a", Refuse),
        ("(?P<a>b)", "b", Refuse),
        ("(?<1>b)", "b", Refuse),
        ("(?i)a", "A", Refuse),
        ("a\\Bb", "ab", Match),
        ("a\\bb", "ab", Pass),
        ("\\b+x", "x", Refuse),
        ("a{000000002}", "aa", Match),
        // Browsers read any number of digits.
        ("a{0000000002}", "aa", Refuse),
        ("[[a-z]--a--b]", "c", Match),
        ("[[a-z]--a--b]", "b", Pass),
        ("[[a-z]--a&&b]", "c", Refuse),
        ("[a-a]", "a", Match),
        ("[a-zb--c]", "d", Refuse),
        ("\\p{^L}", "1", Refuse),
        ("\\p{sc!=Greek}", "1", Refuse),
        ("\\p{Lu}\\p{Ll}", "Ab", Match),
        ("\\x+4", "a", Refuse),
        ("\\u{+41}", "A", Refuse),
        ("\\01", "a", Refuse),
        ("\\c1", "a", Refuse),
    ] {
        let pattern = format!("/:g({group})");
        assert_eq!(ask(&pattern, &base(), &format!("/{path}")), expected, "{group} {path}");
    }
}

#[test]
fn m22_what_needs_more_than_linear_time_is_refused() {
    for group in ["(?=a)a", "(?!a)b", "(?<=a)b", "(?<!a)b", "(?:a)\\1", "(?<n>a)\\k<n>", "(?i:a)"] {
        let pattern = format!("/:g({group})");
        assert_eq!(ask(&pattern, &base(), "/a"), Refuse, "{group}");
    }
    for group in ["a{1000000000}", "(?:(?:a{1000}){1000}){1000}", "(?:\\p{L}{500}){500}"] {
        let refused = UrlPattern::parse(&format!("/:g({group})"), &base());
        assert!(matches!(refused, Err(BadPattern::TooComplex { .. })), "{group} {refused:?}");
    }
}

#[test]
fn m22_the_number_of_groups_is_bounded() {
    let pattern = |count: usize| -> String { (0..count).map(|n| format!("/:v{n}")).collect() };
    // The base and fixed text cost nothing.
    assert!(UrlPattern::parse(&pattern(PATTERN_PARTS_MAX), &base()).is_ok());
    let refused = UrlPattern::parse(&pattern(PATTERN_PARTS_MAX + 1), &base());
    assert!(matches!(refused, Err(BadPattern::TooComplex { .. })), "{refused:?}");
    for repeated in ["(", "{", "(?(", "{a}?", ":a", "*", "(a)", "([", "(a*)*", "[", "]", "\\", "+"]
    {
        let hostile = repeated.repeat(TOPIC_BYTES_MAX / repeated.len());
        for pattern in [hostile.clone(), format!("/{hostile}"), format!("https://{hostile}/")] {
            if let Ok(pattern) = UrlPattern::parse(&pattern, &base()) {
                pattern.matches(&base());
            }
        }
    }
}

#[test]
fn m22_hostile_wildcards_cost_no_more_than_parts_times_bytes() {
    let pattern = format!("/{}b", "*a".repeat(PATTERN_PARTS_MAX - 1));
    let pattern = UrlPattern::parse(&pattern, &base()).unwrap();
    let url = base().join(&format!("/{}", "a".repeat(TOPIC_BYTES_MAX - 1))).unwrap();
    assert!(!pattern.matches(&url));
    let url = base().join(&format!("/{}b", "a".repeat(TOPIC_BYTES_MAX - 2))).unwrap();
    assert!(pattern.matches(&url));
}

/// How many steps it takes to see whether `pattern` matches the path.
fn steps(pattern: &str, path: &str) -> u64 {
    let pattern = UrlPattern::parse(pattern, &base()).unwrap();
    let mut steps = Steps::exactly(1 << 40);
    pattern.matches_within(&base().join(path).unwrap(), &mut steps);
    (1 << 40) - steps.left()
}

#[test]
fn m22_wildcards_and_names_cost_less_than_a_step_for_a_byte() {
    for pattern in
        [":s://*:*/*?*#*", "https://hub.example/:a/*", "/*/n", "/*/n/*", "*://*/*n*", "/:a-:b"]
    {
        for filling in ["a/", "a", "n/", "-"] {
            let path = |bytes: usize| format!("/{}", filling.repeat(bytes / filling.len()));
            let (short, long) = (steps(pattern, &path(1_000)), steps(pattern, &path(4_000)));
            assert!(short < 1_500, "{pattern} {filling}: {short}");
            assert!(long < short + 3_000, "{pattern} {filling}: {short} {long}");
        }
    }
}

#[test]
fn m22_what_cannot_be_found_out_within_the_steps_does_not_match() {
    let letters = "a".repeat(1_000);
    for (pattern, path) in [
        ("/*a*", format!("/{letters}")),
        ("/{a}+", format!("/{letters}")),
        ("/(a+)", format!("/{letters}")),
        ("/((?:.*a.{40})+)", format!("/{letters}")),
        ("/:a/*", format!("/{letters}/{letters}")),
        ("/*{a}?", format!("/{letters}")),
    ] {
        let needed = steps(pattern, &path);
        let parsed = UrlPattern::parse(pattern, &base()).unwrap();
        let url = base().join(&path).unwrap();
        assert!(parsed.matches_within(&url, &mut Steps::exactly(needed)), "{pattern}");
        for fewer in [0, 1, needed / 2, needed - 1] {
            let mut few = Steps::exactly(fewer);
            assert!(!parsed.matches_within(&url, &mut few), "{pattern} {fewer} of {needed}");
            assert!(few.are_used_up(), "{pattern} {fewer} of {needed}");
        }
    }
}

#[test]
fn m22_regular_expressions_are_bounded_in_length_size_and_properties() {
    let refused = |group: &str| {
        let parsed = UrlPattern::parse(&format!("/({group})"), &base());
        matches!(parsed, Err(BadPattern::TooComplex { .. }))
    };
    assert!(!refused(&"a".repeat(EXPRESSION_BYTES_MAX)));
    assert!(refused(&"a".repeat(EXPRESSION_BYTES_MAX + 1)));
    let words: Vec<String> = (0..50).map(|number| format!("word{number:03}")).collect();
    assert!(!refused(&words.join("|")));
    assert!(!refused("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"));
    // Neither small as a table nor as states.
    assert!(refused("(?:.*a.{2000})+"));
    assert!(!refused(&"\\p{L}".repeat(100)));
    let names = ["L", "Lu", "Ll", "N", "Nd", "P", "S", "Z", "Greek"];
    let properties = |count: usize| -> String {
        names.iter().take(count).map(|name| format!("\\p{{{name}}}")).collect()
    };
    assert!(!refused(&properties(PROPERTIES_MAX)));
    assert!(refused(&properties(PROPERTIES_MAX + 1)));
}

#[test]
fn literals_are_what_every_matching_url_has() {
    for (pattern, prefix, suffix) in [
        ("/books/:id", "https\0hub.example\0\0/books/", ""),
        ("/books/:id?", "https\0hub.example\0\0/books", ""),
        ("/books/:id.json", "https\0hub.example\0\0/books/", ".json"),
        ("https://example.com", "https\0example.com\0\0", ""),
        ("https://example.com/a", "https\0example.com\0\0/a\0", "/a"),
        ("https://example.com/a?x=:v", "https\0example.com\0\0/a\0x=", "/a"),
        ("https://*.example.com/a", "https\0", "/a"),
        ("http{s}?://example.com/a/(b+)c", "http", "c"),
        ("*", "https\0hub.example\0\0/.well-known/", ""),
        ("*://*/x", "", "/x"),
    ] {
        let parsed = UrlPattern::parse(pattern, &base()).unwrap();
        assert_eq!(parsed.literal_prefix(), prefix, "{pattern}");
        assert_eq!(parsed.literal_suffix(), suffix, "{pattern}");
    }
}

#[test]
fn escapes_stand_for_their_characters() {
    for (escape, expected) in [
        ("\\t", "\\x09-\\x09"),
        ("\\n", "\\x0a-\\x0a"),
        ("\\v", "\\x0b-\\x0b"),
        ("\\f", "\\x0c-\\x0c"),
        ("\\r", "\\x0d-\\x0d"),
        ("\\0", "\\x00-\\x00"),
        ("\\cJ", "\\x0a-\\x0a"),
        ("[\\b]", "\\x08-\\x08"),
        ("\\d", "\\x30-\\x39"),
        ("\\w", "\\x30-\\x39\\x41-\\x5a\\x5f-\\x5f\\x61-\\x7a"),
        ("\\s", "\\x09-\\x0d\\x20-\\x20"),
    ] {
        assert_eq!(ecmascript::translate(escape).unwrap(), format!("[{expected}]"), "{escape}");
    }
}

#[test]
fn a_refusal_says_what_is_wrong_with_the_group() {
    for (group, expected) in [
        ("(?=a)a", "look-around is not supported"),
        ("(?!a)b", "look-around is not supported"),
        ("(?<=a)b", "look-around is not supported"),
        ("(?<!a)b", "look-around is not supported"),
        ("(?:a)\\1", "back references are not supported"),
        ("(?<n>a)\\k<n>", "back references are not supported"),
        ("a{b}", "the counts in braces are no numbers"),
        ("a{b,2}", "the counts in braces are no numbers"),
        ("a{}", "the counts in braces are no numbers"),
        ("a(b)", "a group inside a group must begin with ?"),
        ("?:a", "a group must not begin with ?"),
        ("\\é", "a group may contain ASCII only behind a backslash"),
    ] {
        // Braces, for outside of them a ? may begin the query.
        let pattern = format!("/{{({group})}}");
        let refused = UrlPattern::parse(&pattern, &base()).unwrap_err().to_string();
        assert!(refused.contains(expected), "{group} {refused}");
    }
}

/// All texts of up to `longest` of the characters.
fn texts(characters: &str, longest: usize) -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut from = 0;
    for _ in 0..longest {
        let longer = texts[from..]
            .iter()
            .flat_map(|text| characters.chars().map(move |character| format!("{text}{character}")));
        let longer: Vec<String> = longer.collect();
        from = texts.len();
        texts.extend(longer);
    }
    texts
}

#[test]
fn repeated_groups_match_every_short_text_as_regular_expressions_do() {
    let all = texts("ab/", 5);
    for (group, regexp) in [
        ("{ab}*", "(ab)*"),
        ("{a}+", "a+"),
        ("{aba}*", "(aba)*"),
        ("{:n}*", "([^/]+)*"),
        ("{a:n}*", "(a[^/]+)*"),
        ("{:n\\b}+", "([^/]+b)+"),
        ("{/:n\\b}*", "(/[^/]+b)*"),
        ("{/:n\\ba}+", "(/[^/]+ba)+"),
        ("{ab:n\\b}*", "(ab[^/]+b)*"),
        ("/:n*", "(/[^/]+)*"),
        ("{*}+", "(.*)+"),
        ("{*b}*", "(.*b)*"),
        ("{b*}*", "(b.*)*"),
        ("{a*b}*", "(a.*b)*"),
        ("{ab*/a}+", "(ab.*/a)+"),
    ] {
        for (behind, behind_regexp) in [("", ""), ("{b}?", "b?"), ("{a}+", "a+"), ("-", "-")] {
            let pattern = format!("{group}{behind}");
            let compiled = Component::compile(&pattern, Section::Pathname).unwrap();
            let model = regex::Regex::new(&format!("^{regexp}{behind_regexp}$")).unwrap();
            for text in &all {
                let matches = compiled.matches(text, &mut Steps::unlimited());
                assert_eq!(matches, model.is_match(text), "{pattern} {text}");
            }
        }
    }
}

#[test]
fn m22_a_byte_costs_a_pattern_about_what_looking_at_it_does() {
    let (long, short) = ("x".repeat(32), "-".repeat(16));
    for (pattern, thousand) in [
        ("/*".to_owned(), 125),
        ("/:a".to_owned(), 125),
        // Two parts, for the third does not begin.
        ("/*x*".to_owned(), 500),
        ("/{x:a-}*".to_owned(), 8_250),
        (format!("/{{{long}:a{short}}}*"), 11_250),
        ("/(y+)".to_owned(), 2_000),
    ] {
        let cost = |bytes: usize| steps(&pattern, &format!("/{}", "y".repeat(bytes)));
        assert_eq!((cost(5_000) - cost(1_000)) / 4, thousand, "{pattern}");
    }
}

#[test]
fn m22_long_fixed_text_and_text_without_bytes_cost_something() {
    let cost = |prefix: usize, suffix: usize| {
        let pattern = format!("/{{{}:a{}}}?", "x".repeat(prefix), "-".repeat(suffix));
        steps(&pattern, &format!("/{}", "y".repeat(1_000)))
    };
    assert_eq!(cost(64, 32) - cost(4, 4), (96 - 8) / 4 + 64 / 16);
    // Every state is looked at, even where there is no fragment.
    assert!(steps("/a#((?:.*a.{300})+)", "/a") > 3_000);
}

#[test]
fn m22_the_groups_of_all_components_count_together() {
    let pattern = |path: usize, query: usize| -> String {
        let path: String = (0..path).map(|n| format!("/:p{n}")).collect();
        let query: String = (0..query).map(|n| format!("-:q{n}")).collect();
        format!("{path}/?{query}")
    };
    let half = PATTERN_PARTS_MAX / 2;
    assert!(UrlPattern::parse(&pattern(half, half), &base()).is_ok());
    for (path, query) in [(half, half + 1), (half + 1, half)] {
        let refused = UrlPattern::parse(&pattern(path, query), &base());
        assert!(matches!(refused, Err(BadPattern::TooComplex { .. })), "{refused:?}");
    }
    // Fixed text before, between and behind them counts for nothing.
    let surrounded: String = (0..PATTERN_PARTS_MAX).map(|n| format!(":v{n}-")).collect();
    assert!(UrlPattern::parse(&format!("/x-{surrounded}"), &base()).is_ok());
}

#[test]
fn m22_what_is_nested_or_reads_everything_again_is_bounded() {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("/({}a{})", open.repeat(depth), close.repeat(depth))
    };
    let max = PATTERN_PARTS_MAX;
    for (good, bad) in [
        (nested("(?:", ")", max), nested("(?:", ")", max + 1)),
        // The outermost class is not nested.
        (nested("[", "]", max + 1), nested("[", "]", max + 2)),
        (format!("/{}", "\\(".repeat(2 * max)), format!("/{}", "\\(".repeat(2 * max + 1))),
    ] {
        assert!(UrlPattern::parse(&good, &base()).is_ok(), "{good}");
        let refused = UrlPattern::parse(&bad, &base());
        assert!(matches!(refused, Err(BadPattern::TooComplex { .. })), "{bad} {refused:?}");
    }
}

#[test]
fn m22_an_expression_has_as_many_states_as_are_allowed_and_no_more() {
    let largest = (EXPRESSION_STATES_MAX - 20..)
        .map_while(|count| UrlPattern::parse(&format!("/((?:.*a.{{{count}}})+)"), &base()).ok())
        .last()
        .expect("the first is small enough");
    // Ten steps for each.
    assert_eq!(largest.steps_per_byte(), 10 * EXPRESSION_STATES_MAX);
}

fn part() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "/", "/a", "a", ":x", ":y", "*", "{/a}?", "{a:z}*", "{:w/}+", "?", "(a+)", "(a|b)*", "b",
        ".", "{", "}", "(", ")", "\\", "+", "#", ":", "@", "[", "]", "https://", "foo:", "ex.com",
        "é", "%41",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_matching_url_has_the_literals(
        pattern in prop::collection::vec(part(), 0..8).prop_map(|parts| parts.concat()),
        url in "(https://(ex.com|u:p@a)|foo:|)[/ab.?#]{0,8}",
    ) {
        let Ok(parsed) = UrlPattern::parse(&pattern, &base()) else { return Ok(()) };
        let Ok(url) = base().join(&url) else { return Ok(()) };
        if parsed.matches(&url) {
            prop_assert!(reach(&url).starts_with(&parsed.literal_prefix()));
            prop_assert!(url.path().ends_with(parsed.literal_suffix()));
        }
    }

    #[test]
    fn matching_by_parts_is_matching_by_regular_expression(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                ("/", "/"), ("a", "a"), ("/b", "/b"), ("{:A}", "[^/]+"), ("/:A", "/[^/]+"),
                ("/:A?", "(/[^/]+)?"), ("/:A*", "(/[^/]+)*"), ("/:A+", "(/[^/]+)+"),
                ("{*}", ".*"), ("{*}?", ".*"), ("{a}?", "a?"), ("{ab}*", "(ab)*"), ("{a}+", "a+"),
                ("{a:A}*", "(a[^/]+)*"), ("{:Aa}+", "([^/]+a)+"), ("{a*b}*", "(a.*b)*"),
                ("{a*b}+", "(a.*b)+"), ("{a*}?", "(a.*)?"), ("{:A}*", "[^/]*"),
                ("{/:Ab}*", "(/[^/]+b)*"), ("{*b}*", "(.*b)*"), ("{b*}*", "(b.*)*"),
            ]),
            0..5,
        ),
        path in "/[/ab]{0,9}",
    ) {
        let mut pattern = String::from("https://h/");
        let mut model = String::from("^/");
        for (number, (part, regexp)) in parts.iter().enumerate() {
            // A name ends where the next letter would belong to it.
            pattern.push_str(&part.replace(":Aa", ":A\\a").replace(":Ab", ":A\\b")
                .replace(":A", &format!(":n{number}")));
            // Fixed text between the parts, so that names and modifiers do not run together.
            pattern.push('-');
            model.push_str(regexp);
            model.push('-');
        }
        model.push('$');
        let path = path.replace("aa", "-").replace("bb", "a-");
        let url = Url::parse(&format!("https://h{path}")).unwrap();
        let parsed = UrlPattern::parse(&pattern, &base()).unwrap();
        let expected = regex::Regex::new(&model).unwrap().is_match(url.path());
        prop_assert_eq!(parsed.matches(&url), expected, "{} {} {}", pattern, model, url.path());
    }
}
