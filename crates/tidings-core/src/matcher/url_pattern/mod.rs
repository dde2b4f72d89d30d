//! WHATWG URL patterns, as `new URLPattern(pattern, base).test(url)`. Knows neither topics nor who
//! asks: it looks at parsed URLs.
//!
//! Own code, because patterns come from strangers: a pattern costs about what its text does, no
//! regular expression exists unless its author wrote one, and matching is linear in the URL.
//!
//! What surprises: a component that is left out behind the last one given is a wildcard, so
//! `https://example.com/a` also matches `https://example.com/a?b#c`; a path that does not begin
//! with a slash is resolved against the base URL's folder even behind a scheme, so that `urn:*`
//! matches nothing where the base URL has a host; `:name` stops at `/` in paths and at `.` in
//! hosts, and nowhere in the paths of other schemes than http, https, ws, wss, ftp and file.

use url::{Url, quirks};

use crate::limits::PATTERN_PARTS_MAX;
use crate::matcher::{BadPattern, Steps};

use component::Component;
use parts::Section;

mod canonical;
mod component;
mod constructor;
mod ecmascript;
mod expression;
mod parts;
#[cfg(test)]
mod tests;
mod tokens;

/// A compiled URL pattern.
#[derive(Debug)]
pub struct UrlPattern {
    protocol: Component,
    username: Component,
    password: Component,
    hostname: Component,
    port: Component,
    pathname: Component,
    search: Component,
    hash: Component,
}

/// What asking a pattern costs, however little it looks at.
const STEPS_PER_PATTERN: usize = 64;

/// Why a pattern cannot be used.
#[derive(Debug)]
enum Fault {
    Invalid(String),
    TooComplex(String),
}

impl From<String> for Fault {
    fn from(reason: String) -> Fault {
        Fault::Invalid(reason)
    }
}

impl From<Fault> for BadPattern {
    fn from(fault: Fault) -> BadPattern {
        match fault {
            Fault::Invalid(reason) => BadPattern::Invalid { language: "URL pattern", reason },
            Fault::TooComplex(reason) => BadPattern::TooComplex { reason },
        }
    }
}

fn too_many_groups() -> Fault {
    Fault::TooComplex(format!("more than {PATTERN_PARTS_MAX} groups"))
}

impl UrlPattern {
    /// Reads a pattern, absolute or relative to `base`.
    ///
    /// Errors: not valid in the language, more than [`PATTERN_PARTS_MAX`] groups, or regular
    /// expressions that are too long or large or need more than linear time.
    pub fn parse(pattern: &str, base: &Url) -> Result<UrlPattern, BadPattern> {
        // Each could begin a group that reaches to the end, and be read again behind it.
        if pattern.matches('(').count() > 2 * PATTERN_PARTS_MAX {
            return Err(too_many_groups().into());
        }
        Ok(compile(pattern, base)?)
    }

    /// Whether every component of `url` matches.
    pub fn matches(&self, url: &Url) -> bool {
        self.matches_within(url, &mut Steps::unlimited())
    }

    /// Whether every component of `url` matches, found out within `steps`.
    pub(super) fn matches_within(&self, url: &Url, steps: &mut Steps) -> bool {
        steps.take(STEPS_PER_PATTERN)
            && self.protocol.matches(url.scheme(), steps)
            && self.hostname.matches(url.host_str().unwrap_or_default(), steps)
            && self.port.matches(quirks::port(url), steps)
            && self.pathname.matches(url.path(), steps)
            && self.search.matches(url.query().unwrap_or_default(), steps)
            && self.hash.matches(url.fragment().unwrap_or_default(), steps)
            && self.username.matches(url.username(), steps)
            && self.password.matches(url.password().unwrap_or_default(), steps)
    }

    /// Whether it names one host, so that other hosts' topics are nothing to it.
    pub(super) fn is_anchored(&self) -> bool {
        matches!((&self.protocol, &self.hostname), (Component::Literal(_), Component::Literal(_)))
    }

    /// How many steps a byte of a URL may take, about.
    pub(super) fn steps_per_byte(&self) -> usize {
        self.components().map(Component::steps_per_byte).iter().sum()
    }

    /// What the [`reach`] of every matching URL begins with; may be empty.
    pub(super) fn literal_prefix(&self) -> String {
        let mut prefix = String::new();
        for component in [&self.protocol, &self.hostname, &self.port, &self.pathname, &self.search]
        {
            prefix.push_str(component.literal_prefix());
            match component {
                Component::Literal(_) => prefix.push(BOUNDARY),
                Component::Any | Component::Between { .. } => break,
            }
        }
        prefix
    }

    /// What the path of every matching URL ends with; may be empty.
    pub(super) fn literal_suffix(&self) -> &str {
        self.pathname.literal_suffix()
    }

    fn components(&self) -> [&Component; 8] {
        [
            &self.protocol,
            &self.username,
            &self.password,
            &self.hostname,
            &self.port,
            &self.pathname,
            &self.search,
            &self.hash,
        ]
    }
}

/// Between the components in a [`reach`]; stands in none of them.
pub(super) const BOUNDARY: char = '\0';

/// The components of a URL that patterns are found by, from the most to the least general.
pub(super) fn reach(url: &Url) -> String {
    let mut reach = String::with_capacity(url.as_str().len() + 5);
    for component in [
        url.scheme(),
        url.host_str().unwrap_or_default(),
        quirks::port(url),
        url.path(),
        url.query().unwrap_or_default(),
    ] {
        reach.push_str(component);
        reach.push(BOUNDARY);
    }
    reach
}

/// "Create a URL pattern" of the URL Pattern Standard.
fn compile(pattern: &str, base: &Url) -> Result<UrlPattern, Fault> {
    let mut sections = constructor::split(pattern)?;
    sections.inherit(base);
    let protocol_text = sections.protocol.as_deref().unwrap_or("*");
    if sections.port.as_deref().is_some_and(|port| is_default_port(protocol_text, port)) {
        sections.port = Some(String::new());
    }
    let section = |text: &Option<String>, section| {
        Component::compile(text.as_deref().unwrap_or("*"), section)
    };
    let protocol = section(&sections.protocol, Section::Protocol)?;
    let hostname = sections.hostname.as_deref().unwrap_or("*");
    let is_address = ["[", "{[", "\\["].iter().any(|sign| hostname.starts_with(sign));
    // A single bracket is no address.
    let host = if is_address && hostname.len() > 1 { Section::Address } else { Section::Hostname };
    let (path, query) = match protocol.matches_special_scheme() {
        true => (Section::Pathname, Section::Search),
        false => (Section::OpaquePathname, Section::OpaqueSearch),
    };
    let compiled = UrlPattern {
        username: section(&sections.username, Section::Username)?,
        password: section(&sections.password, Section::Password)?,
        hostname: section(&sections.hostname, host)?,
        port: section(&sections.port, Section::Port)?,
        pathname: section(&sections.pathname, path)?,
        search: section(&sections.search, query)?,
        hash: section(&sections.hash, Section::Hash)?,
        protocol,
    };
    let groups = compiled.components().map(Component::groups).iter().sum::<usize>();
    if groups > PATTERN_PARTS_MAX { Err(too_many_groups()) } else { Ok(compiled) }
}

fn is_default_port(protocol: &str, port: &str) -> bool {
    let default = match protocol {
        "http" | "ws" => "80",
        "https" | "wss" => "443",
        "ftp" => "21",
        _ => return false,
    };
    port == default
}
