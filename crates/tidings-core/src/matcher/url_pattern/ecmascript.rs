//! Regular expressions as authors of URL patterns write them (ECMAScript with the `v` flag), put
//! into the dialect of the linear-time engine. Works on ASCII, which is all that components of
//! URLs contain, so that every class is a set of 128 characters.
//!
//! Refused, because no linear-time engine has them: look-ahead, look-behind and back references.
//! Refused as well: inline modifiers, for matching must not ignore case, and classes of strings.

use regex::Regex;

use crate::limits::{PATTERN_PARTS_MAX, PROPERTIES_MAX};
use crate::matcher::url_pattern::Fault;

/// Bit n stands for the character n.
type Set = u128;

const ALL: Set = Set::MAX;
const DIGIT: Set = range(b'0', b'9');
const WORD: Set = DIGIT | range(b'A', b'Z') | range(b'a', b'z') | range(b'_', b'_');
const SPACE: Set = range(b'\t', b'\r') | range(b' ', b' ');

const fn range(first: u8, last: u8) -> Set {
    (ALL >> (127 - last)) & (ALL << first)
}

struct Translator<'p> {
    rest: &'p str,
    out: String,
    /// Whether a quantifier may follow.
    quantifiable: bool,
    depth: usize,
    /// Properties that were looked up already: each costs more than all that surrounds it.
    properties: Vec<(&'p str, Set)>,
}

/// The same expression in the engine's dialect.
pub(super) fn translate(group: &str) -> Result<String, Fault> {
    let mut translator = Translator {
        rest: group,
        out: String::new(),
        quantifiable: false,
        depth: 0,
        properties: Vec::new(),
    };
    while let Some(character) = translator.next() {
        translator.term(character)?;
    }
    match translator.depth {
        0 => Ok(translator.out),
        _ => Err(invalid("a group is not closed")),
    }
}

fn invalid(reason: &str) -> Fault {
    Fault::Invalid(format!("{reason} in a regular expression"))
}

impl<'p> Translator<'p> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn term(&mut self, character: char) -> Result<(), Fault> {
        let quantifiable = match character {
            '*' | '+' | '?' => return self.quantifier(character.encode_utf8(&mut [0; 4])),
            '{' => {
                let counts = self.counts()?;
                return self.quantifier(&counts);
            }
            '^' | '$' | '|' => {
                self.out.push(character);
                false
            }
            '.' => {
                self.out.push('.');
                true
            }
            '(' => {
                self.open()?;
                false
            }
            ')' => {
                self.depth = self.depth.checked_sub(1).ok_or_else(|| invalid("a ) too many"))?;
                self.out.push(')');
                true
            }
            '[' => {
                let set = self.class(0)?;
                self.push_set(set);
                true
            }
            ']' | '}' => return Err(invalid("a bracket too many")),
            '\\' if self.take("b") => self.boundary("\\b"),
            '\\' if self.take("B") => self.boundary("\\B"),
            '\\' => {
                let set = self.escape(false)?;
                self.push_set(set);
                true
            }
            _ => {
                self.push_set(set_of(character));
                true
            }
        };
        self.quantifiable = quantifiable;
        Ok(())
    }

    fn boundary(&mut self, sign: &str) -> bool {
        self.out.push_str(sign);
        false
    }

    fn quantifier(&mut self, sign: &str) -> Result<(), Fault> {
        if !self.quantifiable {
            return Err(invalid("nothing to repeat"));
        }
        self.out.push_str(sign);
        // Reluctance changes what is captured, never whether something matches.
        self.take("?");
        self.quantifiable = false;
        Ok(())
    }

    /// What follows `{`: the counts of a quantifier.
    fn counts(&mut self) -> Result<String, Fault> {
        let (counts, rest) =
            self.rest.split_once('}').ok_or_else(|| invalid("a { is not closed"))?;
        let (least, most) = match counts.split_once(',') {
            Some((least, most)) => (least, most),
            None => (counts, counts),
        };
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(least) || !(most.is_empty() || is_number(most)) {
            return Err(invalid("the counts in braces are no numbers"));
        }
        // As many digits as the engine can read; no expression with more could be compiled.
        if least.len().max(most.len()) > 9 {
            return Err(Fault::TooComplex(
                "a count in a regular expression is too large".to_owned(),
            ));
        }
        self.rest = rest;
        Ok(format!("{{{counts}}}"))
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > PATTERN_PARTS_MAX {
            return Err(Fault::TooComplex("groups are nested too deeply".to_owned()));
        }
        if self.take("?:") {
        } else if self.take("?=") || self.take("?!") || self.take("?<=") || self.take("?<!") {
            return Err(invalid("look-around is not supported"));
        } else if self.take("?<") {
            let (name, rest) =
                self.rest.split_once('>').ok_or_else(|| invalid("a name is not closed"))?;
            let starts = |first: char| first.is_ascii_alphabetic() || "$_".contains(first);
            let part = |other: char| other.is_ascii_alphanumeric() || "$_".contains(other);
            if !name.starts_with(starts) || !name.chars().all(part) {
                return Err(invalid("a group has no valid name"));
            }
            self.rest = rest;
        } else {
            return Err(invalid("this kind of group is not supported"));
        }
        self.out.push_str("(?:");
        Ok(())
    }

    fn push_set(&mut self, set: Set) {
        if set == 0 {
            // A class that nothing is in.
            self.out.push_str("[a&&b]");
            return;
        }
        self.out.push('[');
        let mut from = 0;
        while from < 128 {
            if set >> from & 1 == 0 {
                from += 1;
                continue;
            }
            let length = (set >> from).trailing_ones();
            let last = from + length - 1;
            self.out.push_str(&format!("\\x{from:02x}-\\x{last:02x}"));
            from = last + 1;
        }
        self.out.push(']');
    }

    /// What follows `[`, up to and with its `]`.
    fn class(&mut self, depth: usize) -> Result<Set, Fault> {
        if depth > PATTERN_PARTS_MAX {
            return Err(Fault::TooComplex("classes are nested too deeply".to_owned()));
        }
        let negated = self.take("^");
        let mut set = 0;
        // The operator of this class, once it has one, and how many operands stand before it.
        let mut operator = None;
        let mut operands = 0;
        loop {
            if self.take("]") {
                return Ok(if negated { !set } else { set });
            }
            let found = if self.take("--") {
                Some('-')
            } else if self.take("&&") {
                Some('&')
            } else {
                None
            };
            if found.is_some() {
                if operands != 1 && operator.is_none() || operator.is_some_and(|o| found != Some(o))
                {
                    return Err(invalid("operators and lists are mixed in a class"));
                }
                operator = found;
            } else if operator.is_some() {
                return Err(invalid("operators and lists are mixed in a class"));
            }
            let (operand, single) = self.operand(depth)?;
            operands += 1;
            set = match operator {
                Some('-') => set & !operand,
                Some(_) => set & operand,
                None => set | operand,
            };
            if let Some(first) = single
                && !self.rest.starts_with("--")
                && self.take("-")
            {
                let (_, last) = self.operand(depth)?;
                let last = last.ok_or_else(|| invalid("a range ends in a class"))?;
                if operator.is_some() || last < first {
                    return Err(invalid("a range is out of order or an operand"));
                }
                set |= clamped_range(first, last);
                operands += 1;
            }
        }
    }

    /// One operand of a class, and its code point when it is a single character.
    fn operand(&mut self, depth: usize) -> Result<(Set, Option<u32>), Fault> {
        let character = self.next().ok_or_else(|| invalid("a class is not closed"))?;
        match character {
            '[' => Ok((self.class(depth + 1)?, None)),
            '\\' => self.class_escape(),
            '(' | ')' | ']' | '{' | '}' | '/' | '-' | '|' => {
                Err(invalid("a sign must be escaped in a class"))
            }
            _ if "&!#$%*+,.:;<=>?@^`~".contains(character) && self.rest.starts_with(character) => {
                Err(invalid("a doubled sign must be escaped in a class"))
            }
            _ => Ok((set_of(character), Some(character.into()))),
        }
    }

    fn class_escape(&mut self) -> Result<(Set, Option<u32>), Fault> {
        let sign = self.rest.chars().next().unwrap_or_default();
        if sign == 'b' {
            self.next();
            return Ok((1 << 8, Some(8)));
        }
        if "dDwWsSpP".contains(sign) {
            return Ok((self.escape(true)?, None));
        }
        let code = self.code(true)?;
        Ok((clamped_range(code, code), Some(code)))
    }

    /// What follows a backslash.
    fn escape(&mut self, in_class: bool) -> Result<Set, Fault> {
        let sign = self.rest.chars().next().unwrap_or_default();
        let set = match sign {
            'd' => DIGIT,
            'D' => !DIGIT,
            'w' => WORD,
            'W' => !WORD,
            's' => SPACE,
            'S' => !SPACE,
            'p' | 'P' => return self.property(),
            _ => {
                let code = self.code(in_class)?;
                return Ok(clamped_range(code, code));
            }
        };
        self.next();
        Ok(set)
    }

    /// What follows `\\p`: a property of Unicode, as far as it holds for ASCII.
    fn property(&mut self) -> Result<Set, Fault> {
        let unknown = || invalid("a property is not known");
        let sign = self.next().ok_or_else(unknown)?;
        let braced = self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (name, rest) = braced.ok_or_else(unknown)?;
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"_=".contains(&byte);
        if name.is_empty() || !name.bytes().all(named) {
            return Err(unknown());
        }
        self.rest = rest;
        let known = self.properties.iter().find(|(known, _)| *known == name);
        if known.is_none() && self.properties.len() >= PROPERTIES_MAX {
            return Err(Fault::TooComplex("too many properties in a group".to_owned()));
        }
        let known = known.map(|(_, set)| *set);
        let set = known.or_else(|| property_set(name)).ok_or_else(unknown)?;
        if known.is_none() {
            self.properties.push((name, set));
        }
        Ok(if sign == 'P' { !set } else { set })
    }

    /// A single character behind a backslash, as its code point.
    fn code(&mut self, in_class: bool) -> Result<u32, Fault> {
        let unknown = || invalid("an escape is not known");
        let sign = self.next().ok_or_else(unknown)?;
        let syntax = if in_class { "^$\\.*+?()[]{}|/-&!#%,:;<=>@`~" } else { "^$\\.*+?()[]{}|/" };
        match sign {
            't' => Ok(9),
            'n' => Ok(10),
            'v' => Ok(11),
            'f' => Ok(12),
            'r' => Ok(13),
            '0' if !self.rest.starts_with(|next: char| next.is_ascii_digit()) => Ok(0),
            'c' => {
                let letter = self.next().filter(char::is_ascii_alphabetic).ok_or_else(unknown)?;
                Ok(u32::from(letter) % 32)
            }
            'x' => self.hexadecimal(2).ok_or_else(unknown),
            'u' => match self.rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                Some((digits, rest)) => {
                    self.rest = rest;
                    let digits = Some(digits).filter(|digits| is_hexadecimal(digits));
                    let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    code.filter(|code| *code <= 0x10ffff).ok_or_else(unknown)
                }
                None => self.hexadecimal(4).ok_or_else(unknown),
            },
            '1'..='9' | 'k' => Err(invalid("back references are not supported")),
            _ if syntax.contains(sign) => Ok(sign.into()),
            _ => Err(unknown()),
        }
    }

    fn hexadecimal(&mut self, length: usize) -> Option<u32> {
        let (digits, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        if !is_hexadecimal(digits) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    }
}

/// The ASCII characters with a property of Unicode; `None` when there is no such property.
fn property_set(name: &str) -> Option<Set> {
    // Only ASCII is compiled: the tables of a whole property are much larger.
    let regexp = Regex::new(&format!("^[\\p{{{name}}}&&\\x00-\\x7f]$")).ok()?;
    let mut set = 0;
    for code in 0..128u8 {
        if regexp.is_match(char::from(code).encode_utf8(&mut [0; 4])) {
            set |= 1 << code;
        }
    }
    Some(set)
}

fn is_hexadecimal(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn set_of(character: char) -> Set {
    let code = u32::from(character);
    clamped_range(code, code)
}

/// The ASCII part of a range of code points.
fn clamped_range(first: u32, last: u32) -> Set {
    match (u8::try_from(first), u8::try_from(last.min(127))) {
        (Ok(first), Ok(last)) if first <= last => range(first, last),
        _ => 0,
    }
}
