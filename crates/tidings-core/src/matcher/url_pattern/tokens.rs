//! Tokens of a URL pattern ("Tokenizing" of the URL Pattern Standard). Knows no component.

use std::sync::LazyLock;

use regex::Regex;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Close,
    /// The inside of a `(…)` group.
    Regexp,
    /// A name without its colon.
    Name,
    Char,
    /// A character behind a backslash, without it.
    Escaped,
    /// `?` or `+`.
    Modifier,
    Asterisk,
    End,
    /// Only in lenient reading.
    Invalid,
}

/// A piece of a pattern.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'p> {
    pub(super) kind: Kind,
    /// Where it begins in the pattern, in bytes, signs included.
    pub(super) at: usize,
    /// What it stands for, without signs.
    pub(super) text: &'p str,
}

/// What happens with a character that cannot stand where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The pattern is refused.
    Strict,
    /// The character becomes an [`Kind::Invalid`] token.
    Lenient,
}

/// The tokens of `pattern`; the last one is always [`Kind::End`]. Errors say what is wrong.
pub(super) fn tokens(pattern: &str, reading: Reading) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let at = pattern.len() - rest.len();
        let (sign, behind) = rest.split_at(character.len_utf8());
        let read = match character {
            '*' => Ok((Kind::Asterisk, sign, behind)),
            '+' | '?' => Ok((Kind::Modifier, sign, behind)),
            '{' => Ok((Kind::Open, sign, behind)),
            '}' => Ok((Kind::Close, sign, behind)),
            '\\' => escaped(behind),
            ':' => name(behind),
            '(' => regexp(behind),
            // They mean nothing in a URL either.
            '\t' | '\r' | '\n' => {
                rest = behind;
                continue;
            }
            _ => Ok((Kind::Char, sign, behind)),
        };
        let (kind, text, behind) = match (read, reading) {
            (Ok(read), _) => read,
            (Err(_), Reading::Lenient) => (Kind::Invalid, sign, behind),
            (Err(reason), Reading::Strict) => return Err(format!("{reason} (at byte {at})")),
        };
        tokens.push(Token { kind, at, text });
        rest = behind;
    }
    tokens.push(Token { kind: Kind::End, at: pattern.len(), text: "" });
    Ok(tokens)
}

type Read<'p> = Result<(Kind, &'p str, &'p str), &'static str>;

fn escaped(rest: &str) -> Read<'_> {
    let character = rest.chars().next().ok_or("a backslash ends the pattern")?;
    let (text, behind) = rest.split_at(character.len_utf8());
    Ok((Kind::Escaped, text, behind))
}

fn name(rest: &str) -> Read<'_> {
    let end = rest
        .char_indices()
        .find(|(place, character)| !is_name_character(*character, *place == 0))
        .map_or(rest.len(), |(place, _)| place);
    let (text, behind) = rest.split_at(end);
    if text.is_empty() { Err("a colon without a name") } else { Ok((Kind::Name, text, behind)) }
}

fn regexp(rest: &str) -> Read<'_> {
    let mut depth = 1;
    let mut characters = rest.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        match character {
            _ if !character.is_ascii() => return Err("a group may contain ASCII only"),
            '?' if place == 0 => return Err("a group must not begin with ?"),
            '\\' => match characters.next() {
                Some((_, next)) if next.is_ascii() => {}
                _ => return Err("a group may contain ASCII only behind a backslash"),
            },
            '(' if characters.peek().is_some_and(|(_, next)| *next == '?') => depth += 1,
            '(' => return Err("a group inside a group must begin with ?"),
            ')' if depth > 1 => depth -= 1,
            ')' if place == 0 => return Err("a group is empty"),
            ')' => {
                let (text, behind) = rest.split_at(place);
                return Ok((Kind::Regexp, text, behind.get(1..).unwrap_or_default()));
            }
            _ => {}
        }
    }
    Err("a group is not closed")
}

/// `IdentifierStart` and `IdentifierPart` of ECMAScript.
fn is_name_character(character: char, first: bool) -> bool {
    static START: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\p{ID_Start}$").expect("the property is one that the crate has tables for")
    });
    static PART: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[\p{ID_Continue}\x{200c}\x{200d}]$")
            .expect("the property is one that the crate has tables for")
    });
    if character.is_ascii() {
        return character.is_ascii_alphabetic()
            || matches!(character, '$' | '_')
            || (!first && character.is_ascii_digit());
    }
    let class = if first { &START } else { &PART };
    class.is_match(character.encode_utf8(&mut [0; 4]))
}
