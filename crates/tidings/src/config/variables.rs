//! Environment variables in one map: the real environment over `.env.local` over `.env`. The
//! process's own environment is never changed. Knows no setting.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

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
        for (name, value) in std::env::vars_os() {
            // A name or value that is not Unicode cannot be a setting's.
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                values.insert(name, value);
            }
        }
        (Variables { values }, problems)
    }

    /// The variables of a text as it stands in a `.env` file.
    pub(super) fn of_text(text: &str) -> Result<Variables, String> {
        Ok(Variables { values: pairs(text)?.into_iter().collect() })
    }

    /// A variable's value. An empty one counts as not set: that is how compose files say so.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All that are set to something, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.values.iter().filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The pairs of one `.env` file; none when it is not there.
fn dotenv(path: &PathBuf) -> Result<Vec<(String, String)>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    let mut text = String::new();
    file.take(DOTENV_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > DOTENV_BYTES_MAX) {
        return Err(format!("is larger than {}", super::size::render(DOTENV_BYTES_MAX)));
    }
    pairs(&text)
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    // The library's error repeats the line, which may hold a secret.
    dotenvy::from_read_iter(Cursor::new(text.as_bytes()))
        .collect::<Result<_, _>>()
        .map_err(|_| "has a line that is not NAME=value".to_owned())
}

/// The text of a file that holds a secret, without one newline at its end. The error names it.
pub(super) fn read_secret(path: &Path) -> Result<String, String> {
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
