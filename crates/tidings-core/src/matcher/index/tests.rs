//! The index against asking everybody, and what it costs.

use std::collections::BTreeMap;

use proptest::prelude::*;
use url::Url;

use super::*;
use crate::matcher::Language;
use crate::namespace::Namespace;

fn namespace() -> Namespace {
    Namespace::new(Url::parse("https://h/.well-known/mercure").unwrap())
}

fn parse(language: Language, pattern: &str) -> Option<Arc<Matcher>> {
    Matcher::parse(language, pattern, &namespace()).ok().map(Arc::new)
}

fn found(index: &Index, topic: &str) -> (Vec<usize>, usize) {
    let namespace = namespace();
    let mut ids = Vec::new();
    let asked =
        index.search(&Candidate::new(topic, &namespace), &mut Budget::unlimited(), &mut ids);
    let mut ids: Vec<usize> = ids.into_iter().map(MatcherId::index).collect();
    ids.sort_unstable();
    (ids, asked)
}

fn filled(language: Language, pattern: impl Fn(usize) -> String, count: usize) -> Index {
    let mut index = Index::default();
    for number in 0..count {
        let matcher = parse(language, &pattern(number)).unwrap();
        index.insert(MatcherId::new(number), &matcher);
    }
    index
}

#[test]
fn patterns_with_distinct_prefixes_are_not_asked() {
    let index = filled(Language::UrlPattern, |n| format!("https://h/u{n}/:x"), 2_000);
    assert_eq!(found(&index, "https://h/u7/a"), (vec![7], 1));
    assert_eq!(found(&index, "https://h/v/a"), (vec![], 0));
    // The prefix of another one is all that is asked beside.
    assert_eq!(found(&index, "https://h/u77/a"), (vec![77], 1));
}

#[test]
fn patterns_with_one_prefix_and_distinct_suffixes_are_not_asked() {
    let index = filled(Language::UrlPattern, |n| format!("https://h/u/:x/s{n}"), 2_000);
    assert_eq!(found(&index, "https://h/u/a/s7?q"), (vec![7], 1));
    assert_eq!(found(&index, "https://h/u/a/t"), (vec![], 0));
    let index = filled(Language::UriTemplate, |n| format!("https://h/u/{{x}}/s{n}"), 2_000);
    assert_eq!(found(&index, "https://h/u/a/s7"), (vec![7], 1));
    let index = filled(Language::UriTemplate, |n| format!("{{scheme}}://{{+host}}/s{n}"), 2_000);
    assert_eq!(found(&index, "https://h/s7"), (vec![7], 1));
}

#[test]
fn exact_topics_and_levels_are_looked_up() {
    let index = filled(Language::Exact, |n| format!("https://h/{n}"), 2_000);
    assert_eq!(found(&index, "https://h/7"), (vec![7], 0));
    let index = filled(Language::Mqtt, |n| format!("a/{n}/#"), 2_000);
    assert_eq!(found(&index, "a/7"), (vec![7], 0));
    assert_eq!(found(&index, "a/7/b/c"), (vec![7], 0));
    let index = filled(Language::Nats, |n| format!("a.{n}.>"), 2_000);
    assert_eq!(found(&index, "a.7.b"), (vec![7], 0));
    assert_eq!(found(&index, "a.7"), (vec![], 0));
}

#[test]
fn m26_wildcards_of_other_protocols_do_not_reach_reserved_topics() {
    let mut index = Index::default();
    for (number, (language, pattern)) in
        [(Language::Mqtt, "#"), (Language::Nats, ">"), (Language::Exact, "*")].iter().enumerate()
    {
        index.insert(MatcherId::new(number), &parse(*language, pattern).unwrap());
    }
    assert_eq!(found(&index, "/.well-known/mercure/subscriptions/x").0, [2]);
    assert_eq!(found(&index, "mercure").0, [2]);
    assert_eq!(found(&index, "other").0, [0, 1, 2]);
    assert_eq!(found(&index, "$SYS").0, [1, 2]);
}

#[test]
fn levels_without_end_do_not_use_the_stack() {
    let deep = vec!["+"; 2_000].join("/");
    let mut index = Index::default();
    let matcher = parse(Language::Mqtt, &deep).unwrap();
    index.insert(MatcherId::new(1), &matcher);
    assert_eq!(found(&index, &vec!["a"; 2_000].join("/")).0, [1]);
    index.remove(MatcherId::new(1), &matcher);
    assert!(is_bare(&index));
}

/// Asks about `count` equal topics on one budget: how many patterns were asked, and what was found.
fn asked_within(index: &Index, budget: &mut Budget, topic: &str, count: usize) -> (usize, usize) {
    let namespace = namespace();
    let candidate = Candidate::new(topic, &namespace);
    let mut found = Vec::new();
    let asked = (0..count).map(|_| index.search(&candidate, budget, &mut found)).sum();
    (asked, found.len())
}

#[test]
fn m22_one_update_asks_no_more_than_its_steps_allow() {
    let index = filled(Language::UrlPattern, |n| format!("*://*:*/{}*#*", "{a}+".repeat(n)), 60);
    let topic = format!("https://e.com/{}", "a".repeat(4_000));
    let (asked, found) = asked_within(&index, &mut Budget::for_update(), &topic, 1_000);
    // What is not asked does not match, and the topics that come later ask nobody.
    assert!(asked < 60 * 20, "{asked} were asked");
    assert!(found < asked);
    // A usual update is far from the bound.
    assert_eq!(asked_within(&index, &mut Budget::for_update(), "https://e.com/aaaa", 100).0, 6_000);
}

#[test]
fn m22_patterns_for_any_host_use_up_nothing_of_those_that_name_theirs() {
    let mut index = filled(Language::UrlPattern, |n| format!("*://*/*{n}*"), 1_000);
    let named = parse(Language::UrlPattern, "https://e.com/:a").unwrap();
    index.insert(MatcherId::new(1_000), &named);
    let template = parse(Language::UriTemplate, "https://e.com/{a}").unwrap();
    index.insert(MatcherId::new(1_001), &template);
    let mut budget = Budget { loose: Steps::exactly(10_000), ..Budget::for_update() };
    let (asked, found) = asked_within(&index, &mut budget, "https://e.com/x", 100);
    assert!(budget.loose.are_used_up());
    assert_eq!(found, 200);
    assert!(asked < 200 + 10_000 / 64, "{asked} were asked");
}

#[test]
fn m22_costly_patterns_use_up_nothing_of_plain_ones() {
    let costly = ["{:a$}*{-:b$}*".repeat(8), "(.*(?:.*a.{$})+)".to_owned()];
    for costly in costly {
        let text = |n: usize| {
            // A name may stand once, and so each copy gets names of its own.
            let pieces: Vec<&str> = costly.split('$').collect();
            let joined = pieces.iter().enumerate().map(|(at, piece)| match at {
                0 => (*piece).to_owned(),
                _ if costly.starts_with('(') => format!("{}{piece}", 300 + n),
                _ => format!("{n}x{at}{piece}"),
            });
            format!("https://e.com/{}", joined.collect::<String>())
        };
        let mut index = filled(Language::UrlPattern, text, 100);
        let plain = parse(Language::UrlPattern, "https://e.com/:a").unwrap();
        index.insert(MatcherId::new(100), &plain);
        let mut budget = Budget::for_update();
        let topic = format!("https://e.com/{}", "a".repeat(1_000));
        let (asked, found) = asked_within(&index, &mut budget, &topic, 50);
        assert!(budget.costly.are_used_up() && !budget.anchored.are_used_up());
        assert!((50..2_000).contains(&found) && asked < 5_000, "{found} of {asked}");
    }
}

#[test]
fn the_longest_prefix_is_asked_first() {
    let mut index = filled(Language::UrlPattern, |n| format!("https://e.com/:a{n}/b"), 100);
    index.insert(
        MatcherId::new(100),
        &parse(Language::UrlPattern, "https://e.com/users/:a").unwrap(),
    );
    let mut budget = Budget { anchored: Steps::exactly(1_000), ..Budget::for_update() };
    let mut found = Vec::new();
    let namespace = namespace();
    index.find(&Candidate::new("https://e.com/users/b", &namespace), &mut budget, &mut found);
    assert!(budget.anchored.are_used_up());
    assert_eq!(found.first(), Some(&MatcherId::new(100)));
}

#[test]
fn patterns_with_equal_literals_leave_in_any_order() {
    let pattern = |n: usize| format!(":s{n}://*:*/*?*#*");
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let matchers: Vec<_> =
            (0..4).map(|n| parse(Language::UrlPattern, &pattern(n)).unwrap()).collect();
        let mut index = Index::default();
        for (number, matcher) in matchers.iter().enumerate() {
            index.insert(MatcherId::new(number), matcher);
        }
        assert_eq!(index.bare_patterns(), 4);
        let mut left: Vec<usize> = (0..4).collect();
        for number in order {
            index.remove(MatcherId::new(number), &matchers[number]);
            // Once more does nothing.
            index.remove(MatcherId::new(number), &matchers[number]);
            left.retain(|other| *other != number);
            assert_eq!(found(&index, "https://e.com/x").0, left);
        }
        assert!(is_bare(&index));
    }
}

#[test]
fn templates_with_distinct_prefixes_are_not_asked() {
    let index = filled(Language::UriTemplate, |n| format!("https://h/u{n}/{{x}}"), 20);
    assert_eq!(found(&index, "https://h/u7/a"), (vec![7], 1));
}

#[test]
fn patterns_without_literal_text_are_counted_whatever_they_cost() {
    let mut index = Index::default();
    for (number, (language, pattern)) in [
        (Language::UrlPattern, ":s://*:*/*?*#*".to_owned()),
        (Language::UrlPattern, ":s://*/{:a-}*{:b-}*{:c-}*{:d-}*{:e-}*".to_owned()),
        (Language::UriTemplate, "{+any}".to_owned()),
        (Language::UriTemplate, "{scheme}://{+host}/{id}".to_owned()),
        (Language::UriTemplate, "{a*}".repeat(9)),
        (Language::UriTemplate, "{a*}".repeat(10)),
        // These have literal text.
        (Language::UrlPattern, "*://*/x".to_owned()),
        (Language::UrlPattern, "https://h/:x".to_owned()),
        (Language::UriTemplate, "{+any}/x".to_owned()),
        (Language::UriTemplate, "x/{+any}".to_owned()),
    ]
    .iter()
    .enumerate()
    {
        index.insert(MatcherId::new(number), &parse(*language, pattern).unwrap());
    }
    assert_eq!(index.bare_patterns(), 6);
}

#[test]
fn m22_each_pattern_is_asked_on_the_budget_of_its_kind() {
    type Part = fn(&mut Budget) -> &mut Steps;
    const PARTS: [Part; 3] = [|all| &mut all.anchored, |all| &mut all.loose, |all| &mut all.costly];
    const ANCHORED: usize = 0;
    const LOOSE: usize = 1;
    const COSTLY: usize = 2;
    let host = "https://e.com/";
    let long = format!("a{}", "b".repeat(300));
    for (language, pattern, path, kind) in [
        (Language::UrlPattern, "https://e.com/:a".to_owned(), "x", ANCHORED),
        (Language::UrlPattern, "*://e.com/:a".to_owned(), "x", LOOSE),
        (Language::UrlPattern, "https://*.com/:a".to_owned(), "x", LOOSE),
        // The most that is not costly: four groups that may repeat.
        (Language::UrlPattern, format!("{host}{{:a-}}*{{:b-}}*{{:c-}}*{{:d-}}*x"), "x", ANCHORED),
        (Language::UrlPattern, format!("{host}{{:a-}}*{{:b-}}*{{:c-}}*{{:d-}}*:e"), "x", COSTLY),
        // A table, and what is too large for one.
        (Language::UrlPattern, format!("{host}(x+)"), "x", ANCHORED),
        (Language::UrlPattern, format!("{host}((?:.*a.{{300}})+)"), &long, COSTLY),
        (Language::UriTemplate, format!("{host}{{a}}"), "x", ANCHORED),
        (Language::UriTemplate, "https://{host}/x".to_owned(), "x", LOOSE),
        (Language::UriTemplate, "{+any}".to_owned(), "x", LOOSE),
        // 7 * 4 + 2 steps for a byte and two more, and then one for the literal.
        (Language::UriTemplate, format!("{host}{{a,b,c,d,e,f,g,h}}{{i}}"), "x", ANCHORED),
        (Language::UriTemplate, format!("{host}{{a,b,c,d,e,f,g,h}}x{{i}}"), "x", COSTLY),
        (Language::UriTemplate, format!("{host}{}", "{a*}".repeat(8)), "x", ANCHORED),
        (Language::UriTemplate, format!("{host}{}", "{a*}".repeat(9)), "x", COSTLY),
    ] {
        let mut index = Index::default();
        index.insert(MatcherId::new(0), &parse(language, &pattern).unwrap());
        for (number, part) in PARTS.iter().enumerate() {
            let mut budget = Budget::unlimited();
            *part(&mut budget) = Steps::exactly(0);
            let (_, found) = asked_within(&index, &mut budget, &format!("{host}{path}"), 1);
            assert_eq!(found, usize::from(number != kind), "{pattern} without {number}");
        }
    }
}

#[test]
fn a_list_that_was_long_gives_its_memory_back() {
    let list = |length: usize| {
        let mut list = Vec::with_capacity(400);
        list.extend(0..length);
        shrink(&mut list);
        list.capacity()
    };
    // Some room stays, so that who comes and goes does not move the list each time.
    assert!((198..400).contains(&list(99)), "{}", list(99));
    assert_eq!(list(100), 400);
    assert_eq!(list(399), 400);
    let map = |length: usize| {
        let mut map = HashMap::with_capacity(800);
        let before = map.capacity();
        map.extend((0..length).map(|number| (MatcherId::new(number), ())));
        shrink_map(&mut map);
        (before, map.capacity())
    };
    let (before, after) = map(100);
    assert!((200..before / 2).contains(&after), "{before} {after}");
    let (before, after) = map(before / 8);
    assert_eq!(before, after);
}

/// Whether nothing at all is left in memory.
fn is_bare(index: &Index) -> bool {
    index.any.is_empty()
        && index.everything.is_empty()
        && index.exact.is_empty()
        && [&index.anchored, &index.loose, &index.costly]
            .iter()
            .all(|patterns| patterns.urls.is_empty() && patterns.templates.is_empty())
        && index.mqtt.is_empty()
        && index.nats.is_empty()
}

fn pattern() -> impl Strategy<Value = (Language, String)> {
    let joined = |parts: Vec<&'static str>, most: usize| {
        prop::collection::vec(prop::sample::select(parts), 0..most).prop_map(|parts| parts.concat())
    };
    let url = joined(
        vec!["/", "a", "b", "/a", ":x", "*", "{/b}?", "(a|b)", "{a:y}*", "?", "/:z", "https://h"],
        6,
    );
    let template = joined(vec!["/", "a", "b", "{x}", "{/y}", "{+z}", "{?q,r*}", "{#f}", "é"], 6);
    let filter = prop::collection::vec("[ab+]?|\\$", 0..4)
        .prop_flat_map(|levels| any::<bool>().prop_map(move |rest| (levels.clone(), rest)))
        .prop_map(|(mut levels, rest)| {
            levels.extend(rest.then(|| "#".to_owned()));
            levels.join("/")
        });
    let subject = prop::collection::vec("[ab*]", 0..4)
        .prop_flat_map(|tokens| any::<bool>().prop_map(move |rest| (tokens.clone(), rest)))
        .prop_map(|(mut tokens, rest)| {
            tokens.extend(rest.then(|| ">".to_owned()));
            tokens.join(".")
        });
    prop_oneof![
        "[ab/]{0,3}|\\*".prop_map(|text| (Language::Exact, text)),
        url.clone().prop_map(|text| (Language::UrlPattern, text)),
        template.clone().prop_map(|text| (Language::UriTemplate, text)),
        template.prop_map(|text| (Language::UriTemplate, format!("urn:tidings:audience:{text}"))),
        url.clone().prop_map(|text| (Language::UrlPattern, format!("urn:tidings:audience:{text}"))),
        filter.prop_map(|text| (Language::Mqtt, text)),
        subject.prop_map(|text| (Language::Nats, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn finding_is_asking_everybody(
        patterns in prop::collection::vec(pattern(), 0..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        topics in prop::collection::vec(
            prop_oneof![
                "[ab/]{0,6}|[ab.]{0,6}|\\$[ab/]{0,3}|urn:[ab]",
                "https://h/[ab/?é]{0,5}|/[ab/]{0,5}|[ab/#?=&,é]{0,8}",
                "urn:tidings:audience:[ab:/]{0,6}",
            ],
            1..20,
        ),
    ) {
        let namespace = namespace();
        let mut index = Index::default();
        let mut all = BTreeMap::new();
        for (number, (language, text)) in patterns.iter().enumerate() {
            let Some(matcher) = parse(*language, text) else { continue };
            index.insert(MatcherId::new(number), &matcher);
            all.insert(number, matcher);
        }
        let everything = Arc::new(Matcher::Everything);
        index.insert(MatcherId::new(patterns.len()), &everything);
        all.insert(patterns.len(), everything);
        for place in removed {
            let Some(number) = all.keys().nth(place.index(40)).copied() else { continue };
            let matcher = all.remove(&number).unwrap();
            index.remove(MatcherId::new(number), &matcher);
        }
        for topic in &topics {
            let candidate = Candidate::new(topic, &namespace);
            let expected: Vec<usize> = all.iter()
                .filter(|(_, matcher)| matcher.matches(&candidate))
                .map(|(number, _)| *number)
                .collect();
            prop_assert_eq!(found(&index, topic).0, expected, "{:?} {:?}", topic, patterns);
        }
        for (number, matcher) in all {
            index.remove(MatcherId::new(number), &matcher);
        }
        prop_assert!(is_bare(&index));
    }
}
