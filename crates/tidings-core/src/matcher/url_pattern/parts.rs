//! Reads the pattern of one component into parts ("Parsing" of the URL Pattern Standard). Does not
//! know how parts are matched.

use crate::limits::PATTERN_PARTS_MAX;
use crate::matcher::url_pattern::tokens::{Kind, Reading, Token, tokens};
use crate::matcher::url_pattern::{Fault, canonical, too_many_groups};

/// A component of a URL, as far as it decides how its pattern is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Protocol,
    Username,
    Password,
    Hostname,
    /// A host in brackets.
    Address,
    Port,
    /// A path of segments.
    Pathname,
    /// A path without structure, as of `urn:`.
    OpaquePathname,
    Search,
    /// The query of a scheme in whose queries an apostrophe is not encoded.
    OpaqueSearch,
    Hash,
}

/// What a part matches between its prefix and its suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing: the part is its prefix.
    Nothing,
    /// A run without the delimiter, at least one character long.
    Segment(Option<u8>),
    /// Anything.
    Everything,
    /// An ECMAScript regular expression.
    Regexp(String),
}

/// How often a part may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    Optional,
    AnyTimes,
    OnceOrMore,
}

/// A piece of a component's pattern: prefix, body and suffix, together repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) prefix: String,
    pub(super) body: Body,
    pub(super) suffix: String,
    pub(super) repeat: Repeat,
}

struct Reader<'p> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token<'p>>>,
    section: Section,
    parts: Vec<Part>,
    /// Fixed text that is not yet a part.
    text: String,
    names: Vec<&'p str>,
}

/// Reads `pattern`. Errors say what is wrong.
pub(super) fn parts(pattern: &str, section: Section) -> Result<Vec<Part>, Fault> {
    let tokens = tokens(pattern, Reading::Strict)?.into_iter().peekable();
    let mut reader =
        Reader { tokens, section, parts: Vec::new(), text: String::new(), names: Vec::new() };
    while reader.read()? {}
    Ok(reader.parts)
}

impl Section {
    /// Where a `:name` stops.
    pub(super) fn delimiter(self) -> Option<u8> {
        match self {
            Section::Hostname | Section::Address => Some(b'.'),
            Section::Pathname => Some(b'/'),
            _ => None,
        }
    }

    fn is_prefix(self, text: &str) -> bool {
        self == Section::Pathname && text == "/"
    }
}

impl<'p> Reader<'p> {
    /// Reads one part or one piece of fixed text; false at the end.
    fn read(&mut self) -> Result<bool, Fault> {
        let character = self.take(Kind::Char);
        let name = self.take(Kind::Name);
        let group = self.take_group(name.is_some());
        if name.is_some() || group.is_some() {
            let mut prefix = character.unwrap_or_default();
            if !self.section.is_prefix(prefix) {
                self.text.push_str(prefix);
                prefix = "";
            }
            self.flush()?;
            let repeat = self.take_repeat();
            self.add(prefix, name, group, "", repeat)?;
            return Ok(true);
        }
        if let Some(text) = character.or_else(|| self.take(Kind::Escaped)) {
            self.text.push_str(text);
            return Ok(true);
        }
        if self.take(Kind::Open).is_some() {
            let prefix = self.take_text();
            let name = self.take(Kind::Name);
            let group = self.take_group(name.is_some());
            let suffix = self.take_text();
            self.take(Kind::Close)
                .ok_or_else(|| "a { is not closed or holds more than one group".to_owned())?;
            let repeat = self.take_repeat();
            self.add(&prefix, name, group, &suffix, repeat)?;
            return Ok(true);
        }
        self.flush()?;
        match self.take(Kind::End) {
            Some(_) => Ok(false),
            None => Err(Fault::Invalid("a modifier or a } belongs to nothing".to_owned())),
        }
    }

    fn take(&mut self, kind: Kind) -> Option<&'p str> {
        self.tokens.next_if(|token| token.kind == kind).map(|token| token.text)
    }

    /// A regular expression, or an asterisk behind no name.
    fn take_group(&mut self, named: bool) -> Option<&'p str> {
        match self.take(Kind::Regexp) {
            None if !named => self.take(Kind::Asterisk).map(|_| ".*"),
            group => group,
        }
    }

    fn take_text(&mut self) -> String {
        let mut text = String::new();
        while let Some(piece) = self.take(Kind::Char).or_else(|| self.take(Kind::Escaped)) {
            text.push_str(piece);
        }
        text
    }

    fn take_repeat(&mut self) -> Repeat {
        match self.take(Kind::Modifier).or_else(|| self.take(Kind::Asterisk)) {
            Some("?") => Repeat::Optional,
            Some("*") => Repeat::AnyTimes,
            Some(_) => Repeat::OnceOrMore,
            None => Repeat::Once,
        }
    }

    /// Makes the collected fixed text a part.
    fn flush(&mut self) -> Result<(), Fault> {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return Ok(());
        }
        let prefix = canonical::encode(&text, self.section)?;
        self.push(Part { prefix, body: Body::Nothing, suffix: String::new(), repeat: Repeat::Once })
    }

    fn add(
        &mut self,
        prefix: &str,
        name: Option<&'p str>,
        group: Option<&'p str>,
        suffix: &str,
        repeat: Repeat,
    ) -> Result<(), Fault> {
        let nothing = name.is_none() && group.is_none();
        if nothing && repeat == Repeat::Once {
            self.text.push_str(prefix);
            return Ok(());
        }
        self.flush()?;
        if nothing && prefix.is_empty() {
            return Ok(());
        }
        let body = match group {
            None if nothing => Body::Nothing,
            None => Body::Segment(self.section.delimiter()),
            Some(".*") => Body::Everything,
            Some(group) => Body::Regexp(group.to_owned()),
        };
        if let Some(name) = name {
            if self.names.contains(&name) {
                return Err(Fault::Invalid(format!("the name {name:?} stands twice")));
            }
            self.names.push(name);
        }
        let prefix = canonical::encode(prefix, self.section)?;
        let suffix = canonical::encode(suffix, self.section)?;
        self.push(Part { prefix, body, suffix, repeat })
    }

    fn push(&mut self, part: Part) -> Result<(), Fault> {
        // Fixed text stands between parts, so that there is one more of it at most.
        if self.parts.len() > 2 * PATTERN_PARTS_MAX {
            return Err(too_many_groups());
        }
        self.parts.push(part);
        Ok(())
    }
}
