//! Splits a URL pattern into the patterns of its components ("Constructor string parsing" of the
//! URL Pattern Standard) and fills what is left out from a base URL. Compiles nothing but the
//! protocol, on which the splitting depends.

use url::Url;

use crate::matcher::url_pattern::Fault;
use crate::matcher::url_pattern::component::Component;
use crate::matcher::url_pattern::parts::Section;
use crate::matcher::url_pattern::tokens::{Kind, Reading, Token, tokens};

/// The patterns of a URL's components. `None` is a component that nothing was said about.
#[derive(Debug, Default)]
pub(super) struct Sections {
    pub(super) protocol: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) port: Option<String>,
    pub(super) pathname: Option<String>,
    pub(super) search: Option<String>,
    pub(super) hash: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Init,
    Protocol,
    Authority,
    Username,
    Password,
    Hostname,
    Port,
    Pathname,
    Search,
    Hash,
    Done,
}

struct Splitter<'p> {
    pattern: &'p str,
    tokens: Vec<Token<'p>>,
    sections: Sections,
    state: State,
    /// The token at which the current component begins.
    start: usize,
    /// The token that is looked at.
    index: usize,
    group_depth: usize,
    /// Negative in a host that closes what it did not open, which the standard allows until the
    /// host is compiled.
    bracket_depth: i64,
    special: bool,
}

/// Splits `pattern`. Errors say what is wrong.
pub(super) fn split(pattern: &str) -> Result<Sections, Fault> {
    let mut splitter = Splitter {
        pattern,
        tokens: tokens(pattern, Reading::Lenient)?,
        sections: Sections::default(),
        state: State::Init,
        start: 0,
        index: 0,
        group_depth: 0,
        bracket_depth: 0,
        special: false,
    };
    while splitter.state != State::Done {
        splitter.step()?;
    }
    let mut sections = splitter.sections;
    // Who names a host and no port means the scheme's usual port.
    if sections.hostname.is_some() && sections.port.is_none() {
        sections.port = Some(String::new());
    }
    strip(&mut sections.search, '?');
    strip(&mut sections.hash, '#');
    Ok(sections)
}

/// A second sign at the begin of a query or fragment counts as the first one written twice.
fn strip(section: &mut Option<String>, sign: char) {
    if let Some(text) = section
        && text.starts_with(sign)
    {
        text.remove(0);
    }
}

impl Splitter<'_> {
    /// Looks at one token; every path either moves on or leaves the state for a later one.
    fn step(&mut self) -> Result<(), Fault> {
        match self.token(self.index).kind {
            Kind::End => {
                self.end();
                return Ok(());
            }
            Kind::Open => {
                self.group_depth += 1;
                self.index += 1;
                return Ok(());
            }
            Kind::Close if self.group_depth > 0 => self.group_depth -= 1,
            _ if self.group_depth > 0 => {
                self.index += 1;
                return Ok(());
            }
            _ => {}
        }
        if !self.change()? {
            self.index += 1;
        }
        Ok(())
    }

    fn end(&mut self) {
        match self.state {
            // No protocol was found: a relative pattern.
            State::Init => {
                self.index = self.start;
                if self.is("#") {
                    self.enter(State::Hash, 1);
                } else if self.is_search() {
                    self.enter(State::Search, 1);
                } else {
                    self.enter(State::Pathname, 0);
                }
            }
            State::Authority => self.again(State::Hostname),
            _ => {
                self.enter(State::Done, 0);
            }
        }
    }

    /// Acts on the token where it changes the state. Returns whether the place was set by that.
    fn change(&mut self) -> Result<bool, Fault> {
        let changed = match self.state {
            State::Init => self.is(":") && self.redo(State::Protocol),
            State::Protocol => return self.change_protocol(),
            State::Authority if self.is("@") => self.redo(State::Username),
            State::Authority => {
                (self.is("/") || self.is_search() || self.is("#")) && self.redo(State::Hostname)
            }
            State::Username => {
                (self.is(":") && self.enter(State::Password, 1))
                    || (self.is("@") && self.enter(State::Hostname, 1))
            }
            State::Password => self.is("@") && self.enter(State::Hostname, 1),
            State::Hostname if self.is("[") => {
                self.bracket_depth += 1;
                false
            }
            State::Hostname if self.is("]") => {
                self.bracket_depth -= 1;
                false
            }
            State::Hostname if self.is(":") && self.bracket_depth == 0 => {
                self.enter(State::Port, 1)
            }
            State::Hostname | State::Port => {
                (self.is("/") && self.enter(State::Pathname, 0)) || self.change_late()
            }
            State::Pathname => self.change_late(),
            State::Search => self.is("#") && self.enter(State::Hash, 1),
            State::Hash | State::Done => false,
        };
        Ok(changed)
    }

    fn change_late(&mut self) -> bool {
        (self.is_search() && self.enter(State::Search, 1))
            || (self.is("#") && self.enter(State::Hash, 1))
    }

    fn change_protocol(&mut self) -> Result<bool, Fault> {
        if !self.is(":") {
            return Ok(false);
        }
        let protocol = Component::compile(self.text(), Section::Protocol)?;
        self.special = protocol.matches_special_scheme();
        let slashes = self.is_at(self.index + 1, "/") && self.is_at(self.index + 2, "/");
        Ok(match (slashes, self.special) {
            (true, _) => self.enter(State::Authority, 3),
            (false, true) => self.enter(State::Authority, 1),
            (false, false) => self.enter(State::Pathname, 1),
        })
    }

    /// Ends the current component and goes on in `state` behind `skip` tokens. Returns true.
    fn enter(&mut self, state: State, skip: usize) -> bool {
        let text = self.text().to_owned();
        let sections = &mut self.sections;
        match self.state {
            State::Protocol => sections.protocol = Some(text),
            State::Username => sections.username = Some(text),
            State::Password => sections.password = Some(text),
            State::Hostname => sections.hostname = Some(text),
            State::Port => sections.port = Some(text),
            State::Pathname => sections.pathname = Some(text),
            State::Search => sections.search = Some(text),
            State::Hash => sections.hash = Some(text),
            State::Init | State::Authority | State::Done => {}
        }
        if self.state != State::Init && state != State::Done {
            // What was passed over is empty, not a wildcard.
            if self.state < State::Hostname && state > State::Hostname {
                sections.hostname.get_or_insert_default();
            }
            if self.state < State::Pathname && state > State::Pathname {
                let path = if self.special { "/" } else { "" };
                sections.pathname.get_or_insert_with(|| path.to_owned());
            }
            if self.state < State::Search && state > State::Search {
                sections.search.get_or_insert_default();
            }
        }
        self.state = state;
        self.index += skip;
        self.start = self.index;
        true
    }

    /// Reads the current component once more, in `state`.
    fn again(&mut self, state: State) {
        self.index = self.start;
        self.state = state;
    }

    fn redo(&mut self, state: State) -> bool {
        self.again(state);
        true
    }

    /// The pattern from the current component's begin up to the token that is looked at.
    fn text(&self) -> &str {
        let range = self.token(self.start).at..self.token(self.index).at;
        self.pattern.get(range).unwrap_or_default()
    }

    fn token(&self, index: usize) -> Token<'_> {
        let end = Token { kind: Kind::End, at: self.pattern.len(), text: "" };
        self.tokens.get(index).copied().unwrap_or(end)
    }

    /// Whether the token is the character `text` and nothing with a meaning in patterns.
    fn is(&self, text: &str) -> bool {
        self.is_at(self.index, text)
    }

    fn is_at(&self, index: usize, text: &str) -> bool {
        let token = self.token(index);
        token.text == text && matches!(token.kind, Kind::Char | Kind::Escaped | Kind::Invalid)
    }

    /// Whether the query begins here: a `?` that modifies nothing.
    fn is_search(&self) -> bool {
        if self.token(self.index).text != "?" {
            return false;
        }
        let before = self.index.checked_sub(1).map(|index| self.token(index).kind);
        self.is("?")
            || !matches!(before, Some(Kind::Name | Kind::Regexp | Kind::Close | Kind::Asterisk))
    }
}

impl Sections {
    /// Fills what the pattern left out from the base URL, as far as nothing before it in a URL
    /// was given. User name and password are never inherited.
    pub(super) fn inherit(&mut self, base: &Url) {
        // Host and port stand behind a protocol only, and with one there is always a host.
        let relative = self.protocol.is_none();
        if relative {
            self.protocol = Some(escape(base.scheme()));
            self.hostname = Some(escape(base.host_str().unwrap_or_default()));
            self.port = Some(escape(url::quirks::port(base)));
        }
        match &mut self.pathname {
            Some(path) => resolve(path, base),
            None if !relative => {}
            None => {
                self.pathname = Some(escape(base.path()));
                if self.search.is_none() {
                    self.search = Some(escape(base.query().unwrap_or_default()));
                    if self.hash.is_none() {
                        self.hash = Some(escape(base.fragment().unwrap_or_default()));
                    }
                }
            }
        }
    }
}

/// Puts the base URL's folder before a relative path.
fn resolve(path: &mut String, base: &Url) {
    let absolute = path.starts_with('/') || path.starts_with("\\/") || path.starts_with("{/");
    if absolute || base.cannot_be_a_base() {
        return;
    }
    if let Some((folder, _)) = base.path().rsplit_once('/') {
        *path = format!("{}/{path}", escape(folder));
    }
}

/// The pattern that matches exactly `text`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if "+*?:{}()\\".contains(character) {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
