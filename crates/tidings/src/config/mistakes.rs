//! What is wrong with a configuration, told so that it can be repaired: file, line and column,
//! the line itself, a hint. Values are shown only where the schema says that they are no secret.

use std::fmt;
use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use tidings_frontends::auth::is_pathlike;
use url::Url;

use super::connectors;
use super::schema::{self, Key, Kind};
use super::value::{Node, Place, Value};
use crate::limits::{MISTAKES_MAX, VALUE_SHOWN_CHARS_MAX};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// Found by TOML's grammar, so that nothing is known about what the line holds.
    pub(super) syntax: bool,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Problem {
        Problem { place, message: message.into(), hint: None, syntax: false }
    }

    pub(super) fn syntax(span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { syntax: true, ..Problem::new(Place::File(span), message) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }
}

/// A configuration file as it was read, for showing its lines. Secrets are already masked.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    name: String,
    text: String,
}

impl Shown {
    /// The file `name` with `text`, masked by what `tree` says about it.
    pub(super) fn new(name: &str, text: &str, tree: &Node) -> Shown {
        let mut bytes = text.as_bytes().to_vec();
        let mut spans = Vec::new();
        hidden("", tree, &mut spans);
        for span in spans {
            for byte in bytes.get_mut(span).unwrap_or_default() {
                if *byte != b'\n' && *byte != b'\r' {
                    *byte = b'*';
                }
            }
        }
        Shown { name: name.to_owned(), text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// The first line of `span`, and the part of the span on it.
    fn first_line(&self, span: &Range<usize>) -> Line {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let (before, behind) = self.text.split_at(start);
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let end = start + behind.find(['\n', '\r']).unwrap_or(behind.len());
        Line {
            name: self.name.clone(),
            text: self.text.get(begin..end).unwrap_or_default().to_owned(),
            begin,
            number: before.matches('\n').count(),
            marked: start..span.end.clamp(start, end),
        }
    }
}

/// One line of a file. The report shows it and none of its neighbours, of which nothing is known.
#[derive(Debug, Clone)]
struct Line {
    name: String,
    text: String,
    /// Its first byte in the file.
    begin: usize,
    /// Counted from 0.
    number: usize,
    /// Bytes of the file that are wrong.
    marked: Range<usize>,
}

impl Line {
    /// Characters before the marked part.
    fn column(&self) -> usize {
        let before = self.text.get(..self.marked.start - self.begin);
        before.unwrap_or_default().chars().count()
    }
}

impl SourceCode for Line {
    /// The whole line for whatever is asked; only the position follows the question.
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        context_before: usize,
        _context_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        // Without context, the report asks where the span begins.
        let column = if context_before == 0 { self.column() } else { 0 };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            self.text.as_bytes(),
            SourceSpan::from((self.begin, self.text.len())),
            self.number,
            column,
            1,
        )))
    }
}

/// Byte ranges of all values that must not be shown: secrets, and everything that is no setting.
fn hidden(path: &str, node: &Node, spans: &mut Vec<Range<usize>>) {
    let key = schema::find(path);
    match &node.value {
        Value::Table(table) => {
            for (name, member) in table {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                hidden(&below, &member.node, spans);
            }
        }
        Value::List(list) => {
            let below = if key.is_some() { path.to_owned() } else { format!("{path}[0]") };
            list.iter().for_each(|element| hidden(&below, element, spans));
        }
        value => {
            let risky = matches!(value, Value::Text(text) if is_risky(path, key, text));
            let open = match key {
                Some(key) => key.kind != Kind::Secret && !risky,
                None => connectors::is_showable(path, value),
            };
            if let (Place::File(span), false) = (&node.place, open) {
                spans.push(span.clone());
            }
        }
    }
}

/// Whether a secret may stand where none belongs: a password in a URL, a key in place of its file,
/// or something longer than what the setting takes.
fn is_risky(path: &str, key: Option<&Key>, text: &str) -> bool {
    let long = match key.map(|key| key.kind) {
        Some(Kind::File) if path.ends_with("key_file") => !is_pathlike(text),
        Some(Kind::File | Kind::Text | Kind::Texts) => false,
        Some(Kind::Url) if !are_urls(text) => true,
        _ => text.chars().count() > VALUE_SHOWN_CHARS_MAX,
    };
    long || text.contains('@')
}

/// Whether this is a URL, or several between commas, and none has a user or a password. What cannot
/// be read as one may have a password anywhere.
pub(super) fn are_urls(text: &str) -> bool {
    text.split(',').all(|text| {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
        Url::parse(&whole).is_ok_and(|url| {
            let has_login = !url.username().is_empty() || url.password().is_some();
            url.has_host() && !has_login && !url.path().contains(':')
        })
    })
}

/// Whether a line that is not TOML can be shown: it begins with the name of a setting or a table
/// and nothing in it looks like a secret.
fn is_showable(line: &str) -> bool {
    let line = line.trim_start();
    let word = line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next();
    let named = word.is_some_and(|word| {
        schema::KEYS.iter().any(|key| key.path.split(['.', '[', ']']).any(|part| part == word))
    });
    let lower = line.to_ascii_lowercase();
    let secret = ["key", "token", "secret", "password", "{", "@"];
    (named || line.starts_with('[')) && !secret.iter().any(|word| lower.contains(word))
}

/// Everything that is wrong with a configuration; at least one mistake.
#[derive(Debug, Clone)]
pub struct Mistakes {
    shown: Option<Shown>,
    problems: Vec<Problem>,
}

impl Mistakes {
    pub(super) fn new(shown: Option<Shown>, mut problems: Vec<Problem>) -> Mistakes {
        // In the order of the file, as an editor goes through it; everything else behind.
        problems.sort_by_key(|problem| match &problem.place {
            Place::File(span) => span.start,
            _ => usize::MAX,
        });
        Mistakes { shown, problems }
    }

    /// A mistake outside of every file and variable.
    pub fn one(message: impl Into<String>, hint: impl Into<String>) -> Mistakes {
        Mistakes::new(None, vec![Problem::new(Place::Whole, message).hint(hint)])
    }

    /// What is wrong with variables: their names, what is wrong, and what to do. At least one.
    pub fn in_variables(wrong: Vec<(&str, String, String)>) -> Mistakes {
        let problem = |(name, message, hint): (&str, String, String)| {
            Problem::new(Place::Variable(name.to_owned()), message).hint(hint)
        };
        Mistakes::new(None, wrong.into_iter().map(problem).collect())
    }

    /// The same behind these sentences, which may be why.
    pub fn behind(mut self, notes: Vec<String>) -> Mistakes {
        let notes = notes.into_iter().map(|note| Problem::new(Place::Whole, note));
        self.problems.splice(..0, notes);
        self
    }

    /// Whether they are in a file that was read.
    pub fn in_a_file(&self) -> bool {
        self.shown.is_some()
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// The report for people, in colours when `coloured`. Ends with a newline.
    pub fn report(&self, coloured: bool) -> String {
        let theme =
            if coloured { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler =
            GraphicalReportHandler::new_themed(theme).with_context_lines(1).with_width(100);
        let mut text = String::new();
        for problem in self.problems.iter().take(MISTAKES_MAX) {
            let told = self.told(problem);
            if handler.render_report(&mut text, &told).is_err() {
                text.push_str(&told.message);
            }
            text.push('\n');
        }
        match self.problems.len() {
            1 => text.push_str("1 mistake in the configuration\n"),
            count => text.push_str(&format!("{count} mistakes in the configuration\n")),
        }
        text
    }

    fn told(&self, problem: &Problem) -> Told {
        let mut told =
            Told { message: problem.message.clone(), hint: problem.hint.clone(), line: None };
        match (&problem.place, &self.shown) {
            (Place::File(span), Some(shown)) => {
                let line = shown.first_line(span);
                if problem.syntax && !is_showable(&line.text) {
                    let (number, column) = (line.number + 1, line.column() + 1);
                    told.message = format!("{}:{number}:{column}: {}", line.name, problem.message);
                } else {
                    told.line = Some(line);
                }
            }
            (Place::Variable(name), _) => told.message = format!("{name}: {}", problem.message),
            (Place::Argument(name), _) => told.message = format!("{name}: {}", problem.message),
            (Place::File(_) | Place::Default | Place::Whole, _) => {}
        }
        told
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.report(false))
    }
}

impl std::error::Error for Mistakes {}

/// One mistake as the report wants it.
#[derive(Debug)]
struct Told {
    message: String,
    hint: Option<String>,
    line: Option<Line>,
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Told {}

impl Diagnostic for Told {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.line.as_ref().map(|line| line as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let marked = self.line.as_ref()?.marked.clone();
        Some(Box::new(std::iter::once(LabeledSpan::underline(marked))))
    }
}
