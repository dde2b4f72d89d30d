//! What strangers' patterns cost: reading them, asking them about topics, and taking many of them
//! out of the index at once. Prints figures; judges nothing.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_core::matcher::index::{Budget, Index, MatcherId};
use tidings_core::{Candidate, Language, Matcher, Namespace};

fn namespace() -> Namespace {
    Namespace::new("https://hub.example/.well-known/mercure".parse().expect("a URL"))
}

fn main() {
    reading();
    asking();
    leaving();
}

/// One pattern of the greatest length, in the shapes that cost most.
fn reading() {
    let namespace = namespace();
    let filled = |head: &str, piece: &str| {
        head.to_owned() + &piece.repeat((4096 - head.len()) / piece.len())
    };
    for (name, pattern) in [
        ("fixed text", filled("https://e.com/", "a/")),
        ("fixed text, not ASCII", filled("https://e.com/", "é/")),
        ("wildcards", filled("https://e.com/", "*a")),
        (
            "63 wildcards in 4 KiB",
            format!("https://e.com/{}", format!("*{}", "a".repeat(63)).repeat(63)),
        ),
        ("braces", filled("https://e.com/", "{a}?")),
        ("open groups", filled("https://e.com/", "(")),
        ("128 open groups", format!("{}{}", "(".repeat(128), "a".repeat(3900))),
        ("groups inside groups", format!("/({})", "(?:a".repeat(64) + &")".repeat(64))),
        ("plain braces", filled("https://e.com/", "{a}")),
        ("host not ASCII", filled("https://", "é") + "/"),
        ("host of labels", filled("https://", "é.") + "/"),
        ("scheme", filled("a", "b") + "://x/"),
        ("escapes", filled("/", "\\a")),
        ("names not ASCII", filled("/:", "é")),
        ("properties", format!("/({})", "\\p{L}".repeat(800))),
        (
            "distinct properties",
            format!(
                "/({})",
                [
                    "L",
                    "Lu",
                    "Ll",
                    "N",
                    "P",
                    "S",
                    "Z",
                    "Greek",
                    "Latin",
                    "Alphabetic",
                    "Nd",
                    "Sc",
                    "Sm",
                    "ASCII",
                    "Any",
                    "Han"
                ]
                .map(|name| format!("\\p{{{name}}}"))
                .concat()
            ),
        ),
        ("classes", format!("/({})", "[a-z]".repeat(810))),
        ("words", format!("/({})", "\\w".repeat(1_900))),
        ("scattered classes", format!("/({})", "[acegikmoqsuwy02468ACEGIKMOQ]+".repeat(130))),
        ("repeats", format!("/({})", "[a-z]{2,30}".repeat(30))),
        ("no table", "/((?:.*a.{500})+)".to_owned()),
        ("a late refusal", "/((?:.*a.{2000})+)".to_owned()),
        ("a table at its limit", "/((?:.*a.{8})+[^b]+c)".to_owned()),
        (
            "fifty words",
            format!(
                "/({}x)",
                (0..50)
                    .map(|n| format!("{:08x}|", n * 0x9e37_79b9_u64 % 0xffff_ffff))
                    .collect::<String>()
            ),
        ),
        (
            "words in a list",
            format!("/({})", (0..500).map(|n| format!("word{n:03}|")).collect::<String>() + "x"),
        ),
        ("63 groups", (0..63).map(|n| format!("/:g{n}([a-f0-9]{{4}})")).collect::<String>()),
        ("user names", filled("https://", "é") + "@x/"),
        ("query", filled("?q=", "é*")),
        ("alternatives", format!("/({}a)", "a|".repeat(2000))),
    ] {
        let pattern = pattern.get(..pattern.floor_char_boundary(4096)).unwrap_or_default();
        let begin = Instant::now();
        let mut rounds = 0;
        let mut parsed = true;
        while begin.elapsed() < Duration::from_millis(60) {
            parsed = Matcher::parse(Language::UrlPattern, pattern, &namespace).is_ok();
            rounds += 1;
        }
        let each = begin.elapsed() / rounds;
        println!("read {name}: {each:?} ({})", if parsed { "ok" } else { "refused" });
    }
}

/// One update of 1,000 topics of 1 KB against 100 patterns that differ.
fn asking() {
    type Shape = (&'static str, Language, fn(usize) -> String);
    let shapes: [Shape; 17] = [
        (":sN://*:*/*?*#*", Language::UrlPattern, |n| format!(":s{n}://*:*/*?*#*")),
        ("https://e.com/:aN/*", Language::UrlPattern, |n| format!("https://e.com/:a{n}/*")),
        ("https://e.com/*/N", Language::UrlPattern, |n| format!("https://e.com/*/{n}")),
        ("https://e.com/*/N/*", Language::UrlPattern, |n| format!("https://e.com/*/{n}/*")),
        ("*://*/*N*", Language::UrlPattern, |n| format!("*://*/*{n}*")),
        ("*://*/*/aN/:b/*", Language::UrlPattern, |n| format!("*://*/*/a{n}/:b/*")),
        ("*://*/{*a}x30 N", Language::UrlPattern, |n| format!("*://*/{}{n}*", "*a".repeat(30))),
        ("*://*/:a-:b…N", Language::UrlPattern, |n| format!("*://*/:a-:b-:c/{n}*")),
        ("*://*/:xN+/a*", Language::UrlPattern, |n| format!("*://*/:x{n}+/a*")),
        ("*://*{/a/:xN}*/:y*", Language::UrlPattern, |n| format!("*://*{{/a/:x{n}}}*/a{n}*")),
        ("*://*{/:x}* x10", Language::UrlPattern, |n| format!("*://*/{}N{n}*", "{a*}+".repeat(10))),
        ("*://*/(a|b|/)*N", Language::UrlPattern, |n| format!("*://*/((?:a|b|/)*N{n})")),
        ("(.*a){10}", Language::UrlPattern, |n| format!("*://*/((?:.*a.{{{}}})+b)", 3 + n % 6)),
        ("(.*a.{100})", Language::UrlPattern, |n| format!("*://*/((?:.*a.{{{}}})+b)", 60 + n)),
        ("{+x}aN{+y}", Language::UriTemplate, |n| format!("{{+x}}b{n}{{+y}}")),
        ("{scheme}://{+host}/N/{x}", Language::UriTemplate, |n| {
            format!("{{scheme}}://{{+host}}/{n}/{{x}}")
        }),
        ("{+x,…}x30 aN{+y}", Language::UriTemplate, |n| {
            format!("{}b{n}{{+y}}", "{+x}a".repeat(30))
        }),
    ];
    let namespace = namespace();
    for (filling, topic) in [
        ("a/", format!("https://e.com/{}", "a/".repeat(500))),
        ("a", format!("https://e.com/{}", "a".repeat(1_000))),
    ] {
        for (name, language, pattern) in &shapes {
            let mut index = Index::default();
            for number in 0..100 {
                let matcher = Matcher::parse(*language, &pattern(number), &namespace);
                index.insert(MatcherId::new(number), &Arc::new(matcher.expect("a pattern")));
            }
            let begin = Instant::now();
            let mut found = Vec::new();
            let mut asked = 0;
            while asked < 1_000 && begin.elapsed() < Duration::from_millis(300) {
                asked += 1;
                index.find(
                    &Candidate::new(&topic, &namespace),
                    &mut Budget::unlimited(),
                    &mut found,
                );
            }
            let whole = begin.elapsed() * 1_000 / asked;
            let begin = Instant::now();
            let mut budget = Budget::for_update();
            for _ in 0..1_000 {
                index.find(&Candidate::new(&topic, &namespace), &mut budget, &mut found);
            }
            let bounded = begin.elapsed();
            println!(
                "ask {name} about {filling:?}: {whole:?} for 1,000 topics, bounded {bounded:?}"
            );
        }
        let begin = Instant::now();
        for _ in 0..1_000 {
            Candidate::new(&topic, &namespace).url();
        }
        println!("resolve {filling:?}: {:?} for 1,000 topics", begin.elapsed());
    }
}

/// 100,000 patterns go in and come out again.
fn leaving() {
    type Shape = (&'static str, fn(usize) -> String);
    let shapes: [Shape; 4] = [
        ("*://*/*N*", |n| format!("*://*/*{n}*")),
        (":sN://*:*/*?*#*", |n| format!(":s{n}://*:*/*?*#*")),
        ("https://e.com/:a/N", |n| format!("https://e.com/:a/{n}")),
        ("https://e.com/N", |n| format!("https://e.com/{n}/:a")),
    ];
    let namespace = namespace();
    for (name, pattern) in shapes {
        let matchers: Vec<Arc<Matcher>> = (0..100_000)
            .map(|n| Matcher::parse(Language::UrlPattern, &pattern(n), &namespace))
            .map(|matcher| Arc::new(matcher.expect("a pattern")))
            .collect();
        let mut index = Index::default();
        let begin = Instant::now();
        for (number, matcher) in matchers.iter().enumerate() {
            index.insert(MatcherId::new(number), matcher);
        }
        let inserted = begin.elapsed();
        let begin = Instant::now();
        for (number, matcher) in matchers.iter().enumerate() {
            index.remove(MatcherId::new(number), matcher);
        }
        println!("100,000 x {name}: insert {inserted:?}, remove {:?}", begin.elapsed());
    }
}
