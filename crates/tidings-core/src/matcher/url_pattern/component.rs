//! The compiled pattern of one component. Fixed text and wildcards are matched on the parts
//! themselves; a regular expression exists only where the pattern's author wrote one.

use crate::limits::PATTERN_PARTS_MAX;
use crate::matcher::Steps;
use crate::matcher::places::{Follows, Places};
use crate::matcher::url_pattern::expression::Expression;
use crate::matcher::url_pattern::parts::{Body, Part, Repeat, Section, parts};
use crate::matcher::url_pattern::{Fault, too_many_groups};

/// What one part costs beside the bytes that it looks at.
const STEPS_PER_PART: usize = 64;
/// What one byte costs for a part that may stand more than once.
const STEPS_PER_REPEATED_BYTE: usize = 8;

/// The schemes whose URLs have a host and a path of segments ("special scheme" of the URL
/// Standard).
const SPECIAL_SCHEMES: [&str; 6] = ["ftp", "file", "http", "https", "ws", "wss"];

/// The pattern of one component.
#[derive(Debug)]
pub(super) enum Component {
    /// `*`
    Any,
    /// Fixed text only.
    Literal(Box<str>),
    /// Fixed text around something else.
    Between { prefix: Box<str>, middle: Middle, suffix: Box<str> },
}

#[derive(Debug)]
pub(super) enum Middle {
    Parts(Box<[Part]>),
    /// Matches the whole component, prefix and suffix included: an author's `^` means its begin.
    Expression(Box<Expression>),
}

impl Component {
    /// Reads `pattern`. Errors say what is wrong.
    pub(super) fn compile(pattern: &str, section: Section) -> Result<Component, Fault> {
        let mut parts = flatten(parts(pattern, section)?);
        let groups = parts.iter().filter(|part| !is_literal(part)).count();
        if groups > PATTERN_PARTS_MAX {
            return Err(too_many_groups());
        }
        if groups == 0 {
            let text: String = parts.into_iter().map(|part| part.prefix).collect();
            return Ok(Component::Literal(text.into()));
        }
        if let [Part { prefix, body: Body::Everything, suffix, .. }] = parts.as_slice()
            && prefix.is_empty()
            && suffix.is_empty()
        {
            return Ok(Component::Any);
        }
        let expression = match parts.iter().any(|part| matches!(part.body, Body::Regexp(_))) {
            true => Some(Box::new(Expression::compile(&parts)?)),
            false => None,
        };
        let suffix = parts.pop_if(|part| is_literal(part)).map(|part| part.prefix);
        let prefix = match parts.first_mut() {
            Some(first) if is_literal(first) => Some(parts.remove(0).prefix),
            _ => None,
        };
        Ok(Component::Between {
            prefix: prefix.unwrap_or_default().into(),
            middle: expression.map_or_else(|| Middle::Parts(parts.into()), Middle::Expression),
            suffix: suffix.unwrap_or_default().into(),
        })
    }

    /// Whether the component's text matches, found out within `steps`.
    pub(super) fn matches(&self, text: &str, steps: &mut Steps) -> bool {
        match self {
            Component::Any => true,
            Component::Literal(literal) => **literal == *text,
            Component::Between { prefix, middle, suffix } => {
                let Some(inside) = text.strip_prefix(&**prefix) else { return false };
                let Some(inside) = inside.strip_suffix(&**suffix) else { return false };
                match middle {
                    Middle::Parts(parts) => parts_match(parts, inside.as_bytes(), steps),
                    Middle::Expression(expression) => expression.matches(text.as_bytes(), steps),
                }
            }
        }
    }

    /// Whether this is the pattern of a protocol that allows a special scheme.
    pub(super) fn matches_special_scheme(&self) -> bool {
        SPECIAL_SCHEMES.iter().any(|scheme| self.matches(scheme, &mut Steps::unlimited()))
    }

    /// What every matching text begins with; may be empty.
    pub(super) fn literal_prefix(&self) -> &str {
        match self {
            Component::Any => "",
            Component::Literal(literal) => literal,
            Component::Between { prefix, .. } => prefix,
        }
    }

    /// What every matching text ends with; may be empty.
    pub(super) fn literal_suffix(&self) -> &str {
        match self {
            Component::Any => "",
            Component::Literal(literal) => literal,
            Component::Between { suffix, .. } => suffix,
        }
    }

    /// How many steps a byte may take, about.
    pub(super) fn steps_per_byte(&self) -> usize {
        match self {
            Component::Any | Component::Literal(_) => 0,
            Component::Between { middle: Middle::Parts(parts), .. } => {
                parts.iter().map(steps_per_byte).sum()
            }
            Component::Between { middle: Middle::Expression(expression), .. } => {
                expression.steps_per_byte()
            }
        }
    }

    /// What the limit on parts counts. A regular expression is one: its compiled size is limited.
    pub(super) fn groups(&self) -> usize {
        match self {
            Component::Any | Component::Literal(_) => 0,
            Component::Between { middle: Middle::Parts(parts), .. } => {
                parts.iter().filter(|part| !is_literal(part)).count()
            }
            Component::Between { middle: Middle::Expression(_), .. } => 1,
        }
    }
}

fn is_literal(part: &Part) -> bool {
    part.body == Body::Nothing && part.repeat == Repeat::Once
}

fn literal(text: String) -> Part {
    Part { prefix: text, body: Body::Nothing, suffix: String::new(), repeat: Repeat::Once }
}

/// Takes prefixes and suffixes of parts that stand exactly once as the fixed text they are, and
/// joins fixed text that meets.
fn flatten(parts: Vec<Part>) -> Vec<Part> {
    let mut flat: Vec<Part> = Vec::with_capacity(parts.len());
    let mut push = |part: Part| match flat.last_mut() {
        _ if is_literal(&part) && part.prefix.is_empty() => {}
        Some(last) if is_literal(last) && is_literal(&part) => last.prefix.push_str(&part.prefix),
        _ => flat.push(part),
    };
    for mut part in parts {
        if part.repeat == Repeat::Once {
            let suffix = std::mem::take(&mut part.suffix);
            if part.body != Body::Nothing {
                push(literal(std::mem::take(&mut part.prefix)));
            }
            push(part);
            push(literal(suffix));
        } else {
            push(part);
        }
    }
    flat
}

fn steps_per_byte(part: &Part) -> usize {
    match part.repeat {
        Repeat::Once | Repeat::Optional => 1,
        Repeat::AnyTimes | Repeat::OnceOrMore => {
            STEPS_PER_REPEATED_BYTE + (part.prefix.len() + part.suffix.len()) / 16
        }
    }
}

/// Whether the parts match the whole of `text`. The cost follows parts times bytes, most of it in
/// searches for single bytes and fixed text.
fn parts_match(parts: &[Part], text: &[u8], steps: &mut Steps) -> bool {
    // One wildcard between fixed texts is what most patterns are.
    if let [Part { prefix, body, repeat: Repeat::Once, .. }] = parts
        && prefix.is_empty()
    {
        return steps.take(text.len() / 8)
            && match body {
                Body::Everything => true,
                Body::Segment(None) => !text.is_empty(),
                Body::Segment(Some(stop)) => !text.is_empty() && !text.contains(stop),
                Body::Nothing | Body::Regexp(_) => text.is_empty(),
            };
    }
    let mut places = Places::beginning(text.len());
    for (at, part) in parts.iter().enumerate() {
        places = advance(part, text, &places, follows(parts.get(at + 1)), steps);
        if places.is_empty() || steps.are_used_up() {
            return false;
        }
    }
    places.holds_end()
}

/// What a literal has to know about the part behind it.
fn follows(next: Option<&Part>) -> Follows {
    match next {
        // What stands once has its prefix before it, as fixed text.
        Some(Part { body, repeat: Repeat::Once, .. }) => match body {
            Body::Everything => Follows::Everything,
            Body::Segment(Some(stop)) => Follows::Run(*stop),
            Body::Segment(None) | Body::Nothing | Body::Regexp(_) => Follows::Anything,
        },
        _ => Follows::Anything,
    }
}

/// Where `part` may end when it may begin at the places `from`.
fn advance(part: &Part, text: &[u8], from: &Places, next: Follows, steps: &mut Steps) -> Places {
    let (prefix, suffix) = (part.prefix.as_bytes(), part.suffix.as_bytes());
    let looks = text.len() / 4 + (prefix.len() + suffix.len()) / 4 + STEPS_PER_PART;
    if !steps.take(looks) {
        return Places::none(text.len());
    }
    if matches!(part.repeat, Repeat::AnyTimes | Repeat::OnceOrMore) {
        return advance_again(part, text, from, steps);
    }
    if is_literal(part) {
        return from.after_literal(text, prefix, next, steps);
    }
    let entered;
    let entered = match prefix {
        [] => from,
        _ => {
            entered = from.after_literal(text, prefix, Follows::Anything, steps);
            &entered
        }
    };
    let passed = match part.body {
        Body::Nothing => entered.clone(),
        Body::Segment(Some(stop)) => entered.after_run(text, stop, steps),
        Body::Segment(None) => entered.after_anything(1),
        // Regular expressions are not matched by parts.
        Body::Everything | Body::Regexp(_) => entered.after_anything(0),
    };
    let mut ends = match suffix {
        [] => passed,
        _ => passed.after_literal(text, suffix, Follows::Anything, steps),
    };
    if part.repeat == Repeat::Optional {
        ends.add_all(from);
    }
    ends
}

/// [`advance`] for parts that may stand more than once, in one pass over the text.
fn advance_again(part: &Part, text: &[u8], from: &Places, steps: &mut Steps) -> Places {
    const BEGINS: u8 = 1;
    const ENTERED: u8 = 2;
    const RUNNING: u8 = 4;
    const ENDS: u8 = 8;
    let (prefix, suffix) = (part.prefix.as_bytes(), part.suffix.as_bytes());
    if !steps.take(text.len().saturating_mul(steps_per_byte(part))) {
        return Places::none(text.len());
    }
    let (stop, empty) = match part.body {
        Body::Nothing => (None, true),
        Body::Segment(stop) => (stop, false),
        // Regular expressions are not matched by parts.
        Body::Everything | Body::Regexp(_) => (None, true),
    };
    let runs = part.body != Body::Nothing;
    // What is true of each place.
    let mut marks = vec![0_u8; text.len() + 1];
    from.iter().for_each(|place| mark(&mut marks, place, BEGINS));
    for place in 0..=text.len() {
        let here = marks.get(place).copied().unwrap_or_default();
        if here == 0 {
            continue;
        }
        let rest = text.get(place..).unwrap_or_default();
        let satisfied = |here: u8| here & RUNNING != 0 || (empty && here & ENTERED != 0);
        if suffix.is_empty() && satisfied(here) {
            mark(&mut marks, place, ENDS | BEGINS);
        }
        let here = marks.get(place).copied().unwrap_or_default();
        if here & BEGINS != 0 && begins_with(rest, prefix) {
            mark(&mut marks, place + prefix.len(), ENTERED);
        }
        // Looked at again: without a prefix the body was entered just now.
        let here = marks.get(place).copied().unwrap_or_default();
        if satisfied(here) && begins_with(rest, suffix) {
            mark(&mut marks, place + suffix.len(), ENDS | BEGINS);
        }
        let inside = here & (RUNNING | ENTERED) != 0;
        if runs && inside && rest.first().is_some_and(|byte| stop != Some(*byte)) {
            mark(&mut marks, place + 1, RUNNING);
        }
    }
    let mut ends = Places::none(text.len());
    for (place, mark) in marks.iter().enumerate() {
        if mark & ENDS != 0 {
            ends.add(place);
        }
    }
    if part.repeat == Repeat::AnyTimes {
        ends.add_all(from);
    }
    ends
}

/// Notes something about a place; there is none behind the text.
fn mark(marks: &mut [u8], place: usize, what: u8) {
    if let Some(mark) = marks.get_mut(place) {
        *mark |= what;
    }
}

/// Most places differ in the first byte already.
fn begins_with(rest: &[u8], literal: &[u8]) -> bool {
    literal.is_empty() || (rest.first() == literal.first() && rest.starts_with(literal))
}
