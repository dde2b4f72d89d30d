//! RFC 6570 URI templates, matched in reverse: which texts could be an expansion of the template
//! for some values. Names of variables play no part, and neither do maximum lengths. Knows no URL:
//! a template looks at the topic's text. It also matches itself: whoever publishes to the template
//! reaches those who subscribe to it.
//!
//! What an expression accepts is what clients of the older protocol rely on, and wider than what
//! expansion produces: every expression may be empty, and a named one accepts any names.

use crate::limits::PATTERN_PARTS_MAX;
use crate::matcher::places::{Follows, Places};
use crate::matcher::{BadPattern, Steps};

/// What asking a template costs, however little it looks at.
const STEPS_PER_TEMPLATE: usize = 128;
/// What a run of a value's characters costs, and each of its bytes.
const STEPS_PER_RUN: usize = 16;
/// See [`STEPS_PER_RUN`].
const STEPS_PER_RUN_BYTE: usize = 2;

/// A template with at least one expression.
#[derive(Debug)]
pub struct UriTemplate {
    text: Box<str>,
    prefix: Box<str>,
    steps: Box<[Step]>,
    suffix: Box<str>,
}

#[derive(Debug)]
enum Step {
    Literal(Box<str>),
    Expression(Expression),
}

/// `(?: first values (?: separator values ){0,more} )?`, where values are characters of a class.
#[derive(Debug, Clone, Copy)]
struct Expression {
    first: Option<u8>,
    /// Whether reserved characters may stand in values.
    reserved: bool,
    /// Whether `=` may stand in the first value, and in the ones that follow.
    equals: bool,
    equals_later: bool,
    separator: u8,
    more: More,
}

/// How often a separator and another value may follow.
#[derive(Debug, Clone, Copy)]
enum More {
    AtMost(usize),
    Unlimited,
}

/// Which characters a value may have, besides percent-encoded bytes.
#[derive(Debug, Clone, Copy)]
struct Class {
    reserved: bool,
    equals: bool,
    also: Option<u8>,
}

impl UriTemplate {
    /// Reads a template. `None` when `text` has no expression or is no valid template: then it
    /// stands for itself.
    ///
    /// Errors: more than [`PATTERN_PARTS_MAX`] variables.
    pub fn parse(text: &str) -> Result<Option<UriTemplate>, BadPattern> {
        let Some(mut steps) = parse_steps(text) else { return Ok(None) };
        let variables: usize = steps.iter().map(|(_, variables)| variables).sum();
        if variables == 0 {
            return Ok(None);
        }
        if variables > PATTERN_PARTS_MAX {
            let reason = format!("more than {PATTERN_PARTS_MAX} variables");
            return Err(BadPattern::TooComplex { reason });
        }
        let suffix = match steps.pop_if(|(step, _)| matches!(step, Step::Literal(_))) {
            Some((Step::Literal(literal), _)) => literal,
            _ => Box::default(),
        };
        let mut steps: Vec<Step> = steps.into_iter().map(|(step, _)| step).collect();
        let prefix = match steps.first_mut() {
            Some(Step::Literal(literal)) => std::mem::take(literal),
            _ => Box::default(),
        };
        if matches!(steps.first(), Some(Step::Literal(_))) {
            steps.remove(0);
        }
        Ok(Some(UriTemplate { text: text.into(), prefix, steps: steps.into(), suffix }))
    }

    /// Whether `text` could be an expansion of this template, or is the template itself.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_within(text, &mut Steps::unlimited())
    }

    /// [`UriTemplate::matches`], found out within `steps`.
    pub(super) fn matches_within(&self, text: &str, steps: &mut Steps) -> bool {
        if !steps.take(STEPS_PER_TEMPLATE) {
            return false;
        }
        if *text == *self.text {
            return true;
        }
        let Some(middle) = text.strip_prefix(&*self.prefix) else { return false };
        let Some(middle) = middle.strip_suffix(&*self.suffix) else { return false };
        let middle = middle.as_bytes();
        let mut places = Places::beginning(middle.len());
        for step in &self.steps {
            places = match step {
                Step::Literal(literal) if steps.take((middle.len() + literal.len()) / 4) => {
                    places.after_literal(middle, literal.as_bytes(), Follows::Anything, steps)
                }
                Step::Literal(_) => return false,
                Step::Expression(expression) => expression.advance(middle, &places, steps),
            };
            if places.is_empty() || steps.are_used_up() {
                return false;
            }
        }
        places.holds_end()
    }

    /// How many steps a byte of a topic may take, about.
    pub(super) fn steps_per_byte(&self) -> usize {
        let each = |step: &Step| match step {
            Step::Literal(_) => 1,
            Step::Expression(Expression { more: More::Unlimited, .. }) => 4,
            Step::Expression(Expression { more: More::AtMost(count), .. }) => 4 * count + 2,
        };
        self.steps.iter().map(each).sum()
    }

    /// Whether it begins with more than a scheme, so that other topics are nothing to it.
    pub(super) fn is_anchored(&self) -> bool {
        let prefix = self.prefix.split_once("://").map_or(&*self.prefix, |(_, behind)| behind);
        !prefix.is_empty()
    }

    /// What every matching text begins with; may be empty.
    pub(super) fn literal_prefix(&self) -> &str {
        &self.prefix
    }

    /// What every matching text ends with; may be empty.
    pub(super) fn literal_suffix(&self) -> &str {
        &self.suffix
    }
}

impl Expression {
    fn advance(&self, text: &[u8], from: &Places, steps: &mut Steps) -> Places {
        let sign = |sign: u8, from: &Places, steps: &mut Steps| {
            from.after_literal(text, &[sign], Follows::Anything, steps)
        };
        let mut inner = match self.first {
            Some(first) => sign(first, from, steps),
            None => from.clone(),
        };
        let class = Class { reserved: self.reserved, equals: self.equals, also: None };
        class.advance(text, &mut inner, steps);
        let later = Class { equals: self.equals_later, ..class };
        match self.more {
            // Values and separators in any number and order are one longer run, once a first
            // value with the same characters has been passed.
            More::Unlimited => {
                let mut repeated = sign(self.separator, &inner, steps);
                let either = Class { also: Some(self.separator), ..later };
                either.advance(text, &mut repeated, steps);
                inner.add_all(&repeated);
            }
            More::AtMost(count) => {
                let mut repeated = inner.clone();
                for _ in 0..count {
                    repeated = sign(self.separator, &repeated, steps);
                    if repeated.is_empty() {
                        break;
                    }
                    later.advance(text, &mut repeated, steps);
                    inner.add_all(&repeated);
                }
            }
        }
        inner.add_all(from);
        inner
    }
}

impl Class {
    /// Adds every place that a run of this class reaches, empty runs included.
    fn advance(self, text: &[u8], places: &mut Places, steps: &mut Steps) {
        let mut from = places.next(0);
        while let Some(first) = from {
            let rest = text.get(first..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| self.contains(**byte)).count();
            if !steps.take(STEPS_PER_RUN + length * STEPS_PER_RUN_BYTE) {
                break;
            }
            let last = first + length;
            places.add_all_between(first, last);
            if rest.get(length..).is_some_and(starts_with_encoded) {
                places.add(last + 3);
            }
            from = places.next(last + 1);
        }
    }

    fn contains(self, byte: u8) -> bool {
        match byte {
            b'-' | b'.' | b'_' | b'~' | b',' => true,
            b'=' => self.reserved || self.equals,
            b'!' | b'#' | b'$' | b'&'..=b'+' | b'/' | b':' | b';' | b'?' | b'@' | b'[' | b']' => {
                self.reserved || self.also == Some(byte)
            }
            _ => byte.is_ascii_alphanumeric(),
        }
    }
}

fn starts_with_encoded(rest: &[u8]) -> bool {
    matches!(rest, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The steps of a template, each with the number of its variables.
fn parse_steps(text: &str) -> Option<Vec<(Step, usize)>> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (literal, behind) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
        if !literal.is_empty() {
            is_literal(literal).then_some(())?;
            steps.push((Step::Literal(literal.into()), 0));
        }
        let Some(behind) = behind.strip_prefix('{') else { break };
        let (inside, behind) = behind.split_once('}')?;
        let (expression, variables) = parse_expression(inside)?;
        steps.push((Step::Expression(expression), variables));
        rest = behind;
    }
    Some(steps)
}

/// RFC 6570 section 2.1, and the private use characters that go with it.
fn is_literal(text: &str) -> bool {
    let well_encoded = text.bytes().enumerate().all(|(place, byte)| {
        byte != b'%' || text.as_bytes().get(place..).is_some_and(starts_with_encoded)
    });
    well_encoded
        && text.chars().all(|character| match character {
            '!' | '#'..='&' | '('..=';' | '=' | '?'..='[' | ']' | '_' | 'a'..='z' | '~' => true,
            '\u{a0}'..='\u{fdcf}' | '\u{fdf0}'..='\u{ffef}' => true,
            // The last two code points of each plane are no characters.
            '\u{10000}'.. => {
                let code = u32::from(character);
                code & 0xffff <= 0xfffd && !(0xe0000..0xe1000).contains(&code)
            }
            _ => false,
        })
}

/// RFC 6570 section 2.2: an operator and a list of variables.
fn parse_expression(inside: &str) -> Option<(Expression, usize)> {
    let operator = inside.chars().next()?;
    let (first, separator, reserved, named) = match operator {
        '+' => (None, b',', true, false),
        '#' => (Some(b'#'), b',', true, false),
        '.' => (Some(b'.'), b'.', false, false),
        '/' => (Some(b'/'), b'/', false, false),
        ';' => (Some(b';'), b';', false, true),
        '?' => (Some(b'?'), b'&', false, true),
        '&' => (Some(b'&'), b'&', false, true),
        // An operator that RFC 6570 reserves is refused below: no variable begins with it.
        _ => (None, b',', false, false),
    };
    let simple = first.is_none() && !reserved;
    let list = if simple { inside } else { inside.get(1..)? };
    let exploded: Vec<bool> = list.split(',').map(parse_variable).collect::<Option<_>>()?;
    let any_exploded = exploded.contains(&true);
    let first_exploded = exploded.first().copied().unwrap_or_default();
    let more = if any_exploded { More::Unlimited } else { More::AtMost(exploded.len() - 1) };
    let equals = named || first_exploded;
    let equals_later = named || any_exploded;
    let expression = Expression { first, reserved, equals, equals_later, separator, more };
    Some((expression, exploded.len()))
}

/// Whether a variable has the explode modifier; `None` when it is no variable.
fn parse_variable(text: &str) -> Option<bool> {
    let (name, exploded) = match text.split_once(':') {
        Some((name, length)) => {
            let valid = (1..=4).contains(&length.len())
                && !length.starts_with('0')
                && length.bytes().all(|byte| byte.is_ascii_digit());
            valid.then_some((name, false))?
        }
        None => match text.strip_suffix('*') {
            Some(name) => (name, true),
            None => (text, false),
        },
    };
    name.split('.').all(is_variable_name).then_some(exploded)
}

/// One part of a variable's name between dots.
fn is_variable_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.iter().enumerate().all(|(place, byte)| match byte {
            b'%' => bytes.get(place..).is_some_and(starts_with_encoded),
            _ => byte.is_ascii_alphanumeric() || *byte == b'_',
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::limits::TOPIC_BYTES_MAX;

    fn matches(template: &str, text: &str) -> bool {
        UriTemplate::parse(template).unwrap().expect("a template").matches(text)
    }

    #[test]
    fn templates_match_what_clients_of_the_older_protocol_expect() {
        for (template, text, expected) in [
            ("https://e.com/users/foo/{?topic}", "https://e.com/users/foo/", true),
            (
                "https://e.com/users/foo/{?topic}",
                "https://e.com/users/foo/?topic=https%3A%2F%2Fx",
                true,
            ),
            ("https://e.com/users/foo/{?topic}", "https://e.com/users/foo/?other=x", true),
            ("https://e.com/users/foo/{?topic}", "https://e.com/users/foo/?topic=a/b", false),
            (
                "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
                "/.well-known/mercure/subscriptions/https%3A%2F%2Fe.com/urn%3Auuid%3A1",
                true,
            ),
            (
                "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
                "/.well-known/mercure/subscriptions",
                true,
            ),
            (
                "/.well-known/mercure/subscriptions{/topic}{/subscriber}",
                "/.well-known/mercure/subscriptions/a/b/c",
                false,
            ),
            (
                "{scheme}://{+host}/demo/books/{id}.jsonld",
                "https://e.com/demo/books/1.jsonld",
                true,
            ),
            (
                "{scheme}://{+host}/demo/books/{id}.jsonld",
                "https://e.com:8/x/demo/books/1.jsonld",
                true,
            ),
            (
                "{scheme}://{+host}/demo/books/{id}.jsonld",
                "https://e.com/demo/books/1/2.jsonld",
                false,
            ),
            ("https://e.com/books/{id}", "https://e.com/books/1", true),
            ("https://e.com/books/{id}", "https://e.com/books/", true),
            ("https://e.com/books/{id}", "https://e.com/books/1/2", false),
            ("https://e.com/books/{id}", "https://e.com/books/é", false),
            ("https://e.com/books/{id}", "https://e.com/books/%C3%A9", true),
            ("https://e.com/books/{id}", "https://e.com/books/%C", false),
            ("https://e.com/books/{id:3}", "https://e.com/books/12345", true),
            ("https://e.com/books/{id}x", "https://e.com/books/axx", true),
            ("{+any}", "https://e.com/a?b#c[]@!$&'()*+,;=", true),
            ("{+any}", "a b", false),
            ("{#frag}", "#a/b", true),
            ("{#frag}", "a", false),
            ("x{.ext}", "x.json", true),
            ("x{.ext}", "x", true),
            ("x{.ext}", "xjson", false),
            ("x{;a,b}", "x;a=1;b=2", true),
            ("x{;a,b}", "x;a=1;b=2;c=3", false),
            ("x{?a,b}", "x?a=1&b=2", true),
            ("x{?a,b}", "x?a=1&b=2&c=3", false),
            ("x{?a*}", "x?a=1&b=2&c=3", true),
            ("x{&a}", "x&a=1", true),
            ("x{/a,b}", "x/1/2", true),
            ("x{/a,b}", "x/1/2/3", false),
            ("x{/a*}", "x/1/2/3", true),
            ("{a}", "b=c", false),
            ("{a*}", "b=c,d", true),
            ("{a,b*}", "b=c", false),
            ("{a,b*}", "b,d=c", true),
            ("é{a}ü", "éaü", true),
            ("é{a}ü", "éa", false),
            ("a{b}a", "a", false),
            ("https://e.com/books/{id}", "https://e.com/books/{id}", true),
            ("{a}", "{a}", true),
            ("{a}", "{b}", false),
        ] {
            assert_eq!(matches(template, text), expected, "{template} {text}");
        }
    }

    #[test]
    fn what_is_no_template_stands_for_itself() {
        for text in [
            "",
            "plain",
            "https://e.com/a",
            "{",
            "}",
            "a{",
            "a}",
            "{}",
            "{a",
            "{a}}",
            "{{a}}",
            "a b{c}",
            "{a b}",
            "{=a}",
            "{,a}",
            "{!a}",
            "{@a}",
            "{|a}",
            "{a,}",
            "{,}",
            "{a:}",
            "{a:0}",
            "{a:01}",
            "{a:10000}",
            "{a:3*}",
            "{a*:3}",
            "{a**}",
            "{.a.}",
            "{a..b}",
            "{+}",
            "{a-b}",
            "{é}",
            "%{a}",
            "%4{a}",
            "{%4}",
            "<{a}",
            "'{a}",
            "\"{a}",
            "^{a}",
            "`{a}",
            "\\{a}",
            "|{a}",
            "\u{7f}{a}",
            "\u{e0001}{a}",
            "{?}",
            "{*}",
            "{a}%",
        ] {
            assert!(UriTemplate::parse(text).unwrap().is_none(), "{text:?}");
        }
        for text in ["{a}", "{a.b}", "{%41}", "{a_1,B:9999}", "%41{a}", "\u{e1000}{a}", "{..a}"] {
            let template = UriTemplate::parse(text).unwrap().is_some();
            assert_eq!(template, text != "{..a}", "{text:?}");
        }
    }

    #[test]
    fn the_number_of_variables_is_bounded() {
        assert!(UriTemplate::parse(&"{a}".repeat(PATTERN_PARTS_MAX)).unwrap().is_some());
        for hostile in ["{a}".repeat(PATTERN_PARTS_MAX + 1), format!("{{a{}}}", ",a".repeat(64))] {
            let refused = UriTemplate::parse(&hostile);
            assert!(matches!(refused, Err(BadPattern::TooComplex { .. })));
        }
    }

    #[test]
    fn hostile_templates_cost_no_more_than_variables_times_bytes() {
        let template = UriTemplate::parse(&"{a*}a".repeat(PATTERN_PARTS_MAX)).unwrap().unwrap();
        assert!(!template.matches(&format!("{}!a", "a".repeat(TOPIC_BYTES_MAX - 2))));
        assert!(template.matches(&"a".repeat(TOPIC_BYTES_MAX)));
    }

    /// How many steps it takes to see whether `template` matches `text`.
    fn steps(template: &str, text: &str) -> u64 {
        let template = UriTemplate::parse(template).unwrap().expect("a template");
        let mut steps = Steps::exactly(1 << 40);
        template.matches_within(text, &mut steps);
        (1 << 40) - steps.left()
    }

    #[test]
    fn m22_a_byte_costs_a_template_about_what_looking_at_it_does() {
        // A run of a value's characters, and a search for fixed text that is not there.
        let cost = |bytes: usize| steps("{a}xxxxxxxx{b}", &"a".repeat(bytes));
        assert_eq!(cost(4_000) - cost(2_000), 2_000 * 2 + 2_000 / 4);
        let cost = |literal: usize| steps(&format!("{{a}}{}{{b}}", "x".repeat(literal)), "aaaa");
        assert_eq!(cost(804) - cost(4), 800 / 4 + 800 / 16);
    }

    #[test]
    fn m22_what_a_template_cannot_find_out_within_its_steps_does_not_match() {
        let letters = "a".repeat(1_000);
        for (template, text) in [
            ("{a}", letters.clone()),
            ("{+a}{b}", letters.clone()),
            ("{+a}b{c}", format!("{letters}b{letters}")),
            ("{a,b,c}", format!("{letters},{letters}")),
            ("x{?a*}", format!("x?{letters}=1&{letters}=2")),
        ] {
            let needed = steps(template, &text);
            let parsed = UriTemplate::parse(template).unwrap().expect("a template");
            assert!(parsed.matches_within(&text, &mut Steps::exactly(needed)), "{template}");
            for fewer in [0, 1, needed / 2, needed - 1] {
                let mut few = Steps::exactly(fewer);
                assert!(!parsed.matches_within(&text, &mut few), "{template} {fewer} of {needed}");
                assert!(few.are_used_up(), "{template} {fewer} of {needed}");
            }
        }
    }

    /// The expression as a regular expression, written down independently of the matcher.
    fn regexp_of(operator: &str, variables: &[(&str, bool)]) -> String {
        let (first, separator, reserved, named) = match operator {
            "" => ("", ",", false, false),
            "+" => ("", ",", true, false),
            "#" => ("#", ",", true, false),
            "." => ("\\.", "\\.", false, false),
            "/" => ("/", "/", false, false),
            ";" => (";", ";", false, true),
            "?" => ("\\?", "&", false, true),
            _ => ("&", "&", false, true),
        };
        let class = |equals: bool| {
            let set = match (reserved, equals) {
                (true, _) => r"!#$&-,/:;=?@\[\]\-.0-9A-Z_a-z~",
                (false, true) => r",=\-.0-9A-Z_a-z~",
                (false, false) => r",\-.0-9A-Z_a-z~",
            };
            format!("(?:[{set}]|%[0-9A-Fa-f]{{2}})*")
        };
        let any = variables.iter().any(|(_, exploded)| *exploded);
        let mut inner = class(named || variables[0].1);
        if any {
            inner.push_str(&format!("(?:{separator}{})*", class(true)));
        } else if variables.len() > 1 {
            let more = variables.len() - 1;
            inner.push_str(&format!("(?:{separator}{}){{0,{more}}}", class(named)));
        }
        format!("(?:{first}{inner})?")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn matching_by_places_is_matching_by_regular_expression(
            parts in prop::collection::vec(
                (
                    "[a/é.]{0,2}",
                    prop::sample::select(vec!["", "+", "#", ".", "/", ";", "?", "&"]),
                    prop::collection::vec(
                        (prop::sample::select(vec!["a", "b.c", "d:3"]), any::<bool>()), 1..4),
                ),
                1..4,
            ),
            tail in "[a/]{0,2}",
            text in "([aé/.;?&#,=%]|%2F|%f|a|a){0,12}",
        ) {
            let (mut template, mut model) = (String::new(), String::from("^"));
            for (literal, operator, variables) in &parts {
                let variables: Vec<(&str, bool)> = variables.iter()
                    .map(|(name, exploded)| (*name, *exploded && !name.contains(':'))).collect();
                let list: Vec<String> = variables.iter()
                    .map(|(name, exploded)| format!("{name}{}", if *exploded { "*" } else { "" }))
                    .collect();
                template.push_str(&format!("{literal}{{{operator}{}}}", list.join(",")));
                model.push_str(&regex::escape(literal));
                model.push_str(&regexp_of(operator, &variables));
            }
            template.push_str(&tail);
            model.push_str(&format!("{}$", regex::escape(&tail)));
            let expected = Regex::new(&model).unwrap().is_match(&text);
            prop_assert_eq!(matches(&template, &text), expected, "{} {}", template, model);
            // The literals are what the index relies on.
            if expected {
                let parsed = UriTemplate::parse(&template).unwrap().unwrap();
                prop_assert!(text.starts_with(parsed.literal_prefix()));
                prop_assert!(text.ends_with(parsed.literal_suffix()));
            }
        }
    }
}
