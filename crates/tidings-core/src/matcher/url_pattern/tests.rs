//! What browsers answer for the same patterns, and what only this code promises.

use proptest::prelude::*;
use url::Url;

use super::{UrlPattern, reach};
use crate::limits::{EXPRESSION_BYTES_MAX, PATTERN_PARTS_MAX, PROPERTIES_MAX, TOPIC_BYTES_MAX};
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
    ("/a::b", "/a:x", Refuse),];

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
