//! Environment variables in one map: the real environment over `.env.local` over `.env`. The
//! process's own environment is never changed. Knows no setting.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tidings_frontends::auth::{read_key_file, shown_path};

use super::mistakes::Problem;
use super::value::Place;
use crate::limits::DOTENV_BYTES_MAX;

/// Names and values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Variables {
    /// Names only: any value may be a secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(values: [(&str, &str); N]) -> Variables {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Variables { values: values.into_iter().map(owned).collect() }
    }
}

impl Variables {
    /// The environment of this process, with the `.env` files of `folder` under it.
    pub(super) fn of_process(folder: &Path) -> (Variables, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut values = BTreeMap::new();
        for name in [".env", ".env.local"] {
            match dotenv(&folder.join(name)) {
                Ok(pairs) => values.extend(pairs),
                Err(message) => problems.push(Problem::new(Place::Variable(name.into()), message)),
            }
        }
        values.extend(of_this_process());
        (Variables { values }, problems)
    }

    /// The environment of this process, over the `.env.local` and `.env` that are nearest: in
    /// `folder` or in one around it. A file that cannot be read counts as far as it can; what is
    /// wrong with it is said, in sentences without contents.
    pub fn of_process_and_parents(folder: &Path) -> (Variables, Vec<String>) {
        let (mut values, notes) = nearest_files(folder);
        values.extend(of_this_process());
        (Variables { values }, notes)
    }

    /// The variables of a text as it stands in a `.env` file.
    pub(super) fn of_text(text: &str) -> Result<Variables, String> {
        Ok(Variables { values: all_pairs(text)?.into_iter().collect() })
    }

    /// A variable's value. An empty one counts as not set: that is how compose files say so.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable's value, also where it is set to nothing.
    pub fn get_even_empty(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Those whose names begin so.
    pub(crate) fn beginning(&self, begin: &str) -> Variables {
        let begins = |(name, _): &(&String, &String)| name.starts_with(begin);
        let own = |(name, value): (&String, &String)| (name.clone(), value.clone());
        Variables { values: self.values.iter().filter(begins).map(own).collect() }
    }

    /// All that are set to something, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.values.iter().filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

fn of_this_process() -> impl Iterator<Item = (String, String)> {
    // A name or value that is not Unicode cannot be a setting's.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The variables of the nearest `.env`, under those of the nearest `.env.local`. As where they were
/// written for, a name that stands in a file twice has its first value there, and `.env` may refer
/// to what `.env.local` sets.
fn nearest_files(folder: &Path) -> (BTreeMap<String, String>, Vec<String>) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (mut values, mut notes) = (BTreeMap::new(), Vec::new());
    for name in [".env.local", ".env"] {
        let paths = folder.ancestors().map(|folder| folder.join(name));
        let Some(path) = paths.into_iter().find(|path| path.is_file()) else { continue };
        let text = match text_of(&path) {
            Ok(text) => text.unwrap_or_default(),
            Err(message) => {
                notes.push(format!("{} {message}", path.display()));
                continue;
            }
        };
        let (pairs, broken) = pairs(&text, &values);
        for (name, value) in pairs {
            values.entry(name).or_insert(value);
        }
        if let Some(line) = broken {
            let path = path.display();
            notes.push(format!("{path}: line {line} {NO_PAIR}; nothing from there on counts"));
        }
    }
    (values, notes)
}

/// The pairs of one `.env` file; none when it is not there.
fn dotenv(path: &Path) -> Result<Vec<(String, String)>, String> {
    text_of(path)?.map_or_else(|| Ok(Vec::new()), |text| all_pairs(&text))
}

/// The text of one `.env` file, if it is there.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let mut text = String::new();
    file.take(DOTENV_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > DOTENV_BYTES_MAX) {
        return Err(format!("is larger than {}", super::size::render(DOTENV_BYTES_MAX)));
    }
    Ok(Some(text))
}

/// What is wrong with a line, without a word of it: it may hold a secret.
const NO_PAIR: &str = "is not NAME=value, or a quote in it does not end";

fn all_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    match pairs(text, &BTreeMap::new()) {
        (pairs, None) => Ok(pairs),
        (_, Some(line)) => Err(format!("line {line} {NO_PAIR}")),
    }
}

/// The pairs of a text up to the first line that is none, and the number of that line. The text
/// may refer to what is `known`.
fn pairs(text: &str, known: &BTreeMap<String, String>) -> (Vec<(String, String)>, Option<usize>) {
    let before: String = known.iter().map(|(name, value)| written(name, value)).collect();
    // Some editors begin a text with a mark of its encoding.
    let text = format!("{before}{}", text.strip_prefix('\u{feff}').unwrap_or(text));
    let handed = Cell::new(0);
    let lines = Lines { rest: text.as_bytes(), handed: &handed };
    let mut pairs = Vec::new();
    for pair in dotenvy::from_read_iter(lines) {
        match pair {
            Ok(pair) => pairs.push(pair),
            Err(error) => {
                let begin = handed.get().saturating_sub(lines_before_end(&error));
                return (pairs.split_off(known.len()), Some(1 + begin - before.lines().count()));
            }
        }
    }
    (pairs.split_off(known.len()), None)
}

/// How many lines a pair that is none goes on behind its first one.
fn lines_before_end(error: &dotenvy::Error) -> usize {
    match error {
        dotenvy::Error::LineParse(text, _) => text.lines().count().max(1),
        _ => 1,
    }
}

/// A pair as it stands in a `.env` file, on one line.
fn written(name: &str, value: &str) -> String {
    let mut line = format!("{name}=\"");
    for character in value.chars() {
        match character {
            '\\' | '"' | '$' => line.extend(['\\', character]),
            '\n' => line.push_str("\\n"),
            other => line.push(other),
        }
    }
    line + "\"\n"
}

/// Hands a text out line by line, so that it is known how far its reader has come.
struct Lines<'a> {
    rest: &'a [u8],
    handed: &'a Cell<usize>,
}

impl Read for Lines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let wanted = end.unwrap_or(self.rest.len());
        let given = wanted.min(buffer.len());
        let Some((line, rest)) = self.rest.split_at_checked(given) else { return Ok(0) };
        if let Some(place) = buffer.get_mut(..given) {
            place.copy_from_slice(line);
        }
        self.rest = rest;
        // A long line takes more than one go, and is a line at its end.
        self.handed.set(self.handed.get() + usize::from(given == wanted && given > 0));
        Ok(given)
    }
}

/// The text of a file that holds a secret, without one newline at its end. The error names it.
pub(crate) fn read_secret(path: &Path) -> Result<String, String> {
    let bytes = read_key_file(path).map_err(|error| error.to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Err(format!("{} is empty", shown_path(path))),
        Ok(text) => Ok(text),
        Err(_) => Err(format!("{} is not UTF-8", shown_path(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_file_is_over_the_shared_one_and_the_process_over_both() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "TIDINGS_A=1\nTIDINGS_B=1\nPATH=none\n")
            .unwrap();
        std::fs::write(folder.path().join(".env.local"), "TIDINGS_B='2'\n").unwrap();
        let (variables, problems) = Variables::of_process(folder.path());
        assert_eq!(problems, []);
        assert_eq!(variables.get("TIDINGS_A"), Some("1"));
        assert_eq!(variables.get("TIDINGS_B"), Some("2"));
        assert_ne!(variables.get("PATH"), Some("none"));
        assert!(std::env::var("TIDINGS_A").is_err());
    }

    #[test]
    fn the_nearest_files_count_up_to_a_broken_line() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("a/b");
        std::fs::create_dir_all(inner.join(".env")).unwrap();
        std::fs::write(outer.path().join(".env.local"), "A='outer local'\nEMPTY=").unwrap();
        std::fs::write(outer.path().join("a/.env"), "A=1\nEMPTY=2\nexport Q='x' # y\n").unwrap();
        std::fs::write(outer.path().join(".env"), "A=0\nFAR=0\n").unwrap();
        let (variables, notes) = Variables::of_process_and_parents(&inner);
        assert_eq!(notes, [] as [&str; 0]);
        assert_eq!(variables.get("A"), Some("outer local"));
        assert_eq!(variables.get("Q"), Some("x"));
        assert_eq!((variables.get("FAR"), variables.get("EMPTY")), (None, None));
        assert_eq!(variables.get_even_empty("EMPTY"), Some(""));
        std::fs::write(inner.join(".env.local"), "A=2\nhunter2\nB=3\n").unwrap();
        let (variables, notes) = Variables::of_process_and_parents(&inner);
        assert_eq!((variables.get("A"), variables.get("B")), (Some("2"), None));
        assert!(notes[0].contains("a/b/.env.local: line 2 is"), "{notes:?}");
        assert!(!notes[0].contains("hunter2"), "{notes:?}");
    }

    #[test]
    fn broken_dotenv_is_a_mistake_that_does_not_repeat_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "A=1\n\nTIDINGS_ADMIN_TOKEN hunter2\n").unwrap();
        let (_, problems) = Variables::of_process(folder.path());
        assert_eq!(problems.len(), 1);
        let told = format!("{problems:?}");
        assert!(told.contains(".env") && told.contains("line 3 is not"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_broken_line_is_named_by_its_number() {
        for (text, line) in [
            ("hunter2", 1),
            ("A=1\r\nB=2\r\nhunter2\r\nC=3", 3),
            ("# one\n\nA='x\ny\nz' # five\nhunter2=\"a\nb\nc\n", 6),
            ("A='x\ny' hunter2\nB=1\n", 1),
            ("A=1\n  # two\nB=hunter2 three\n", 3),
            ("A=1\nB=\"\\hunter2\"\n", 2),
            (&format!("A={}\nhunter2\n", "x".repeat(20_000)), 2),
        ] {
            let told = Variables::of_text(text).unwrap_err();
            assert_eq!(told, format!("line {line} {NO_PAIR}"), "{text}");
            let known = BTreeMap::from([("K".to_owned(), "a\nb\"$\\'".to_owned())]);
            assert_eq!(pairs(text, &known).1, Some(line), "{text}");
        }
    }

    #[test]
    fn files_refer_to_each_other_and_the_first_of_a_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        file(".env.local", "HOST='e$\\\"x'\nPORT=1\nPORT=2\n");
        file(".env", "\u{feff}URL=http://${HOST}:$PORT/\nURL=other\nHOST=shared\n");
        let (variables, notes) = Variables::of_process_and_parents(folder.path());
        assert_eq!(notes, [] as [&str; 0]);
        assert_eq!(variables.get("URL"), Some("http://e$\\\"x:1/"));
        assert_eq!(variables.get("HOST"), Some("e$\\\"x"));
        let text = Variables::of_text("\u{feff}A=1").unwrap();
        assert_eq!(text.get("A"), Some("1"));
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_read_as_it_was_written(value in "[^\r\u{0}]{0,20}") {
            let read = Variables::of_text(&written("A", &value)).unwrap();
            proptest::prop_assert_eq!(read.get_even_empty("A"), Some(value.as_str()));
        }

        #[test]
        fn no_text_panics(text in "([A-C]=|['\"$\\\\\n #{}]|[a-z]){0,30}") {
            let (pairs, _) = pairs(&text, &BTreeMap::from([("K".to_owned(), "v".to_owned())]));
            proptest::prop_assert!(pairs.len() <= text.len());
        }
    }

    #[test]
    fn one_newline_at_the_end_of_a_secret_is_not_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (content, secret) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_secret(&path).as_deref(), Ok(secret));
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(read_secret(&path).is_err());
        assert!(read_secret(folder.path()).is_err());
    }
}
