//! The compiled pattern of one component. Fixed text and wildcards are matched on the parts
//! themselves; a regular expression exists only where the pattern's author wrote one.

use std::fmt::Write;

use regex::bytes::{Regex, RegexBuilder};

use crate::limits::{PATTERN_COMPILED_BYTES_MAX, PATTERN_PARTS_MAX};
use crate::matcher::places::Places;
use crate::matcher::url_pattern::parts::{Body, Part, Repeat, Section, parts};
use crate::matcher::url_pattern::{Fault, ecmascript, too_many_groups};

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
    Regexp(Box<Regex>),
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
        let regexp = match parts.iter().any(|part| matches!(part.body, Body::Regexp(_))) {
            true => Some(Box::new(compile_regexp(&parts)?)),
            false => None,
        };
        let suffix = parts.pop_if(|part| is_literal(part)).map(|part| part.prefix);
        let prefix = match parts.first_mut() {
            Some(first) if is_literal(first) => Some(parts.remove(0).prefix),
            _ => None,
        };
        Ok(Component::Between {
            prefix: prefix.unwrap_or_default().into(),
            middle: regexp.map_or_else(|| Middle::Parts(parts.into()), Middle::Regexp),
            suffix: suffix.unwrap_or_default().into(),
        })
    }

    /// Whether the component's text matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Component::Any => true,
            Component::Literal(literal) => **literal == *text,
            Component::Between { prefix, middle, suffix } => {
                let Some(inside) = text.strip_prefix(&**prefix) else { return false };
                let Some(inside) = inside.strip_suffix(&**suffix) else { return false };
                match middle {
                    Middle::Parts(parts) => parts_match(parts, inside.as_bytes()),
                    Middle::Regexp(regexp) => regexp.is_match(text.as_bytes()),
                }
            }
        }
    }

    /// Whether this is the pattern of a protocol that allows a special scheme.
    pub(super) fn matches_special_scheme(&self) -> bool {
        SPECIAL_SCHEMES.iter().any(|scheme| self.matches(scheme))
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

    /// What the limit on parts counts. A regular expression is one: its compiled size is limited.
    pub(super) fn groups(&self) -> usize {
        match self {
            Component::Any | Component::Literal(_) => 0,
            Component::Between { middle: Middle::Parts(parts), .. } => {
                parts.iter().filter(|part| !is_literal(part)).count()
            }
            Component::Between { middle: Middle::Regexp(_), .. } => 1,
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

fn parts_match(parts: &[Part], text: &[u8]) -> bool {
    // One wildcard between fixed texts is what most patterns are.
    if let [Part { prefix, body, repeat: Repeat::Once, .. }] = parts
        && prefix.is_empty()
    {
        return match body {
            Body::Everything => true,
            Body::Segment(stop) => {
                !text.is_empty() && !text.iter().any(|byte| stop == &Some(*byte))
            }
            Body::Nothing | Body::Regexp(_) => text.is_empty(),
        };
    }
    let mut places = Places::beginning(text.len());
    for part in parts {
        places = advance(part, text, &places);
        if places.is_empty() {
            return false;
        }
    }
    places.holds_end()
}

/// Where `part` may end when it may begin at the places `from`, in one pass over the text.
fn advance(part: &Part, text: &[u8], from: &Places) -> Places {
    if is_literal(part) {
        return from.after_literal(text, part.prefix.as_bytes());
    }
    let (prefix, suffix) = (part.prefix.as_bytes(), part.suffix.as_bytes());
    let (stop, empty) = match part.body {
        Body::Nothing => (None, true),
        Body::Segment(stop) => (stop, false),
        // Regular expressions are not matched by parts.
        Body::Everything | Body::Regexp(_) => (None, true),
    };
    let runs = part.body != Body::Nothing;
    let again = matches!(part.repeat, Repeat::AnyTimes | Repeat::OnceOrMore);
    let mut begins = from.clone();
    // Inside the body: with nothing of it passed yet, and with at least one character.
    let mut entered = Places::none(text.len());
    let mut running = Places::none(text.len());
    let mut ends = Places::none(text.len());
    for place in 0..=text.len() {
        let rest = text.get(place..).unwrap_or_default();
        let satisfied = running.holds(place) || (empty && entered.holds(place));
        if suffix.is_empty() && satisfied {
            ends.add(place);
            if again {
                begins.add(place);
            }
        }
        if begins.holds(place) && rest.starts_with(prefix) {
            entered.add(place + prefix.len());
        }
        // Looked at again: without a prefix the body was entered just now.
        let satisfied = running.holds(place) || (empty && entered.holds(place));
        if satisfied && rest.starts_with(suffix) {
            ends.add(place + suffix.len());
            if again {
                begins.add(place + suffix.len());
            }
        }
        let inside = running.holds(place) || entered.holds(place);
        if runs && inside && rest.first().is_some_and(|byte| stop != Some(*byte)) {
            running.add(place + 1);
        }
    }
    if matches!(part.repeat, Repeat::Optional | Repeat::AnyTimes) {
        ends.add_all(from);
    }
    ends
}

/// "Generate a regular expression" of the URL Pattern Standard, in this crate's dialect.
fn compile_regexp(parts: &[Part]) -> Result<Regex, Fault> {
    let mut source = String::from("^");
    for part in parts {
        let prefix = regex::escape(&part.prefix);
        let suffix = regex::escape(&part.suffix);
        let body = match &part.body {
            Body::Nothing => String::new(),
            Body::Everything => ".*".to_owned(),
            Body::Segment(None) => "(?s:.)+".to_owned(),
            // Delimiters have no meaning inside a class.
            Body::Segment(Some(stop)) => format!("[^{}]+", char::from(*stop)),
            Body::Regexp(group) => format!("(?:{})", ecmascript::translate(group)?),
        };
        let repeat = match part.repeat {
            Repeat::Once => "",
            Repeat::Optional => "?",
            Repeat::AnyTimes => "*",
            Repeat::OnceOrMore => "+",
        };
        // Writing to a string cannot fail.
        let _ = write!(source, "(?:{prefix}{body}{suffix}){repeat}");
    }
    source.push('$');
    RegexBuilder::new(&source)
        // Components of URLs are ASCII, and the classes were translated for that.
        .unicode(false)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                Fault::TooComplex("a regular expression is too large".to_owned())
            }
            _ => Fault::Invalid("a group is no valid regular expression".to_owned()),
        })
}
