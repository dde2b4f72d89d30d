//! Regular expressions as parts of URL patterns. Knows what each costs for a byte: that of most is
//! one look into a table, and of the others it is bounded by their size.

use std::fmt::Write;

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::dfa::{Automaton, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::{primitives::StateID, start, syntax};
use regex_automata::{Anchored, MatchKind};

use crate::limits::{
    EXPRESSION_BYTES_MAX, EXPRESSION_STATES_MAX, EXPRESSION_TABLE_BYTES_MAX,
    EXPRESSION_TABLE_WORK_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX,
};
use crate::matcher::Steps;
use crate::matcher::url_pattern::parts::{Body, Part, Repeat};
use crate::matcher::url_pattern::{Fault, ecmascript};

/// What one byte costs in a table.
const STEPS_PER_TABLE_BYTE: usize = 2;
/// What one byte costs for each state that the expression may be in at once.
const STEPS_PER_STATE: usize = 10;

/// A compiled expression for a whole component.
#[derive(Debug)]
pub(super) enum Expression {
    /// Each byte leads from one state to the next.
    Table(Box<Table>),
    /// Too large for a table: what each byte costs grows with the number of states.
    Engine { regexp: Regex, states: usize },
}

/// A table of states, and the one that it begins with.
#[derive(Debug)]
pub(super) struct Table {
    states: dense::DFA<Vec<u32>>,
    begin: StateID,
}

impl Expression {
    /// Compiles the parts of a component. Errors say what is wrong.
    pub(super) fn compile(parts: &[Part]) -> Result<Expression, Fault> {
        let source = source(parts)?;
        // Components of URLs are ASCII, and the classes were translated for that.
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let parsed = syntax::parse_with(&source, &syntax)
            .map_err(|_| Fault::Invalid("a group is no valid regular expression".to_owned()))?;
        let config = thompson::Config::new()
            .utf8(false)
            .nfa_size_limit(Some(PATTERN_COMPILED_BYTES_MAX))
            .which_captures(thompson::WhichCaptures::None);
        let states = thompson::Compiler::new()
            .configure(config)
            .build_from_hir(&parsed)
            .map_err(|_| too_large())?;
        if let Some(table) = Table::build(&states) {
            return Ok(Expression::Table(Box::new(table)));
        }
        let states = states.states().len();
        if states > EXPRESSION_STATES_MAX {
            return Err(too_large());
        }
        let regexp = RegexBuilder::new(&source)
            .unicode(false)
            .size_limit(PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(PATTERN_COMPILED_BYTES_MAX)
            .build()
            .map_err(|_| too_large())?;
        Ok(Expression::Engine { regexp, states })
    }

    /// How many steps a byte may take at most.
    pub(super) fn steps_per_byte(&self) -> usize {
        match self {
            Expression::Table(_) => STEPS_PER_TABLE_BYTE,
            Expression::Engine { states, .. } => states.saturating_mul(STEPS_PER_STATE),
        }
    }

    /// Whether it matches the whole of `text`, found out within `steps`.
    pub(super) fn matches(&self, text: &[u8], steps: &mut Steps) -> bool {
        // The states are visited once more behind the last byte.
        steps.take((text.len() + 1).saturating_mul(self.steps_per_byte()))
            && match self {
                Expression::Table(table) => table.matches(text),
                Expression::Engine { regexp, .. } => regexp.is_match(text),
            }
    }
}

impl Table {
    /// `None` when the table would be too large.
    fn build(states: &thompson::NFA) -> Option<Table> {
        let config = dense::Config::new()
            .match_kind(MatchKind::LeftmostFirst)
            .start_kind(regex_automata::dfa::StartKind::Anchored)
            .dfa_size_limit(Some(EXPRESSION_TABLE_BYTES_MAX))
            .determinize_size_limit(Some(EXPRESSION_TABLE_WORK_BYTES_MAX));
        let states = dense::Builder::new().configure(config).build_from_nfa(states).ok()?;
        let begin = states.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        Some(Table { states, begin })
    }

    fn matches(&self, text: &[u8]) -> bool {
        let mut at = self.begin;
        for byte in text {
            at = self.states.next_state(at, *byte);
            if self.states.is_special_state(at) && self.states.is_dead_state(at) {
                return false;
            }
        }
        // The end of the text is what the expression ends with.
        self.states.is_match_state(self.states.next_eoi_state(at))
    }
}

fn too_large() -> Fault {
    Fault::TooComplex("a regular expression is too large".to_owned())
}

/// "Generate a regular expression" of the URL Pattern Standard, in this crate's dialect.
fn source(parts: &[Part]) -> Result<String, Fault> {
    let groups = parts.iter().map(|part| match &part.body {
        Body::Regexp(group) => group.len(),
        _ => 0,
    });
    if groups.sum::<usize>() > EXPRESSION_BYTES_MAX {
        return Err(Fault::TooComplex("regular expressions are too long".to_owned()));
    }
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
    Ok(source)
}
