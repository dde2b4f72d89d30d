//! Environment variables in one map: the real environment over `.env.local` over `.env`. The
//! process's own environment is never changed. Knows no setting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use tidings_frontends::auth::{read_key_file, shown_path};

use super::mistakes::Problem;
use super::value::Place;
use crate::limits::DOTENV_BYTES_MAX;

/// Names and values.
#[derive(Clone, Default)]
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
        Ok(Variables { values: pairs(text)?.into_iter().collect() })
    }

    /// A variable's value. An empty one counts as not set: that is how compose files say so.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A variable's value, also where it is set to nothing.
    pub fn get_even_empty(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
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

/// The variables of the nearest `.env`, under those of the nearest `.env.local`.
fn nearest_files(folder: &Path) -> (BTreeMap<String, String>, Vec<String>) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let (mut values, mut notes) = (BTreeMap::new(), Vec::new());
    for name in [".env", ".env.local"] {
        let paths = folder.ancestors().map(|folder| folder.join(name));
        let Some(path) = paths.into_iter().find(|path| path.is_file()) else { continue };
        let mut note = |message| notes.push(format!("{} {message}", path.display()));
        match text_of(&path) {
            Ok(Some(text)) => {
                for pair in dotenvy::from_read_iter(Cursor::new(text.as_bytes())) {
                    let Ok((name, value)) = pair else {
                        note("has a line that is not NAME=value; nothing behind it counts".into());
                        break;
                    };
                    values.insert(name, value);
                }
            }
            Ok(None) => {}
            Err(message) => note(message),
        }
    }
    (values, notes)
}

/// The pairs of one `.env` file; none when it is not there.
fn dotenv(path: &Path) -> Result<Vec<(String, String)>, String> {
    text_of(path)?.map_or_else(|| Ok(Vec::new()), |text| pairs(&text))
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

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    // The library's error repeats the line, which may hold a secret.
    dotenvy::from_read_iter(Cursor::new(text.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| "has a line that is not NAME=value".to_owned())
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
        assert!(notes[0].contains("a/b/.env.local") && !notes[0].contains("hunter2"), "{notes:?}");
    }

    #[test]
    fn broken_dotenv_is_a_mistake_that_does_not_repeat_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), "TIDINGS_ADMIN_TOKEN hunter2\n").unwrap();
        let (_, problems) = Variables::of_process(folder.path());
        assert_eq!(problems.len(), 1);
        assert!(!format!("{problems:?}").contains("hunter2"));
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
