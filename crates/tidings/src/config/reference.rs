//! The printed reference: every setting with its default and a sentence, as TOML that is the
//! default configuration itself. Knows no setting: the schema does.

use tidings_connectors::rows::{OptionRow, Takes};

use super::connectors;
use super::environment::name_of;
use super::schema::{self, CONNECTORS, Default, KEYS, Kind, LISTS};

const HEAD: &str = "\
# Tidings: every setting with its default. What is commented out has none; it shows an example.
#
# Any setting may also be an environment variable: TIDINGS_ and the path in capitals, with `_`
# between names (TIDINGS_HISTORY_KEEP_AGE). Elements of lists of tables are numbered from 0
# (TIDINGS_AUTH_ISSUER_0_ID); lists are separated by commas. With _FILE behind it, the variable
# names a file that holds the value. Variables are over this file, the environment is over
# .env.local, that is over .env, both in the working folder.
#
# Options of a sink or source are named by it: TIDINGS_SINK__NEXT_CACHE__RETRY__FIRST, with `__`
# between names and `_` for `-` and `.` in one.
#
# Durations: ms, s, m, h, d, w, as in \"1h30m\".
# Sizes: KiB, MiB, GiB, TiB (in 1,024) or KB, MB, GB, TB (in 1,000).
";

/// The reference, as `tidings config` prints it.
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for key in KEYS.iter() {
        let table = key.path.rsplit_once('.').map_or("", |(table, _)| table);
        if table != section {
            section = table;
            text.push_str(&heading(table));
        }
        text.push_str(&entry(key, table));
    }
    for list in CONNECTORS {
        text.push_str(&connectors(list));
    }
    text
}

/// The options of every kind of a list: one example of each kind, and one of what all take.
fn connectors(list: &str) -> String {
    let (kinds, every) = connectors::kinds(list);
    let mut text = String::new();
    for kind in kinds {
        text.push_str(&format!("\n# {}\n#\n# [[{list}]]\n", kind.about));
        text.push_str(&format!("# kind = \"{}\"\n", kind.name));
        kind.options.iter().for_each(|row| text.push_str(&option(row)));
    }
    text.push_str(&format!("\n# Every {list} takes these, too.\n"));
    every.iter().for_each(|row| text.push_str(&option(row)));
    text
}

fn option(row: &OptionRow) -> String {
    let mut text = String::from("#\n");
    for line in row.about.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    if row.is_secret {
        let form = if row.takes == Takes::Pairs { ", as JSON" } else { "" };
        text.push_str(&format!("# By file{form}: {}_file.\n", row.path));
    }
    text.push_str(&format!("# {} = {}\n", row.path, row.default.unwrap_or(row.example)));
    text
}

/// The table's heading. Tables of lists are examples: they are commented out.
fn heading(table: &str) -> String {
    match table.split_once("[]") {
        None => format!("\n[{table}]\n"),
        Some((list, "")) => format!("\n# [[{list}]]\n"),
        Some((list, below)) => format!("\n# [{list}{below}]\n"),
    }
}

fn entry(key: &schema::Key, table: &str) -> String {
    let example = LISTS.iter().any(|list| table.starts_with(&format!("{list}[]")));
    let mut text = String::from("\n");
    for line in key.about.lines() {
        text.push_str(&format!("# {line}\n"));
    }
    if key.kind == Kind::Secret {
        text.push_str(&format!("# By file: {}_FILE.\n", name_of(key.path)));
    }
    let name = key.path.rsplit('.').next().unwrap_or(key.path);
    let (value, commented) = match key.default {
        Default::Unset(value) | Default::Required(value) => (value.to_owned(), true),
        default => (default.value().unwrap_or_default(), example),
    };
    text.push_str(&format!("{}{name} = {value}\n", if commented { "# " } else { "" }));
    text
}

#[cfg(test)]
mod tests {
    use super::super::value::{Node, Place, Value, steps};
    use super::super::{check, document};
    use super::*;

    fn parsed(text: &str) -> Node {
        let (tree, problems) = document::parse(text);
        assert_eq!(problems, [], "{text}");
        tree
    }

    #[test]
    fn reference_is_the_default_configuration() {
        let (written, problems) = check::check(&parsed(&reference()));
        assert_eq!(problems, []);
        let (defaults, problems) = check::check(&Node::table(Place::Whole));
        assert_eq!(problems, []);
        assert_eq!(written, defaults);
    }

    #[test]
    fn reference_has_every_setting_and_each_example_is_taken() {
        let whole = reference();
        // Behind it are the sinks and sources.
        let settings = whole.split("\n# Each ").next().unwrap();
        let open: String = settings
            .lines()
            .map(|line| {
                let setting = line.strip_prefix("# ").filter(|rest| {
                    let name = rest.split(" = ").next().unwrap_or_default();
                    let named = rest.contains(" = ") && !name.contains(' ');
                    named || rest.starts_with("[auth") || rest.starts_with("[[auth")
                });
                format!("{}\n", setting.unwrap_or(line))
            })
            .collect();
        let tree = parsed(&open);
        for key in KEYS.iter() {
            let path = key.path.replace("[]", "[0]");
            assert!(tree.find(&steps(&path)).is_some(), "{path} in\n{open}");
        }
        assert!(matches!(tree.value, Value::Table(_)));
        assert_eq!(check::check(&tree).1, []);
    }

    #[test]
    fn reference_has_every_option_of_sinks_and_sources() {
        let text = reference();
        for list in CONNECTORS {
            let (kinds, every) = connectors::kinds(list);
            for kind in kinds {
                assert!(text.contains(&format!("# [[{list}]]\n# kind = \"{}\"\n", kind.name)));
            }
            for row in every.iter().chain(kinds.iter().flat_map(|kind| kind.options)) {
                assert!(text.contains(&format!("\n# {} = ", row.path)), "{}", row.path);
            }
        }
    }

    /// A configuration with one element, whose options are `rows` with their examples or defaults.
    fn with(list: &str, kind: &str, options: &[(&str, &str)]) -> Node {
        let lines = options.iter().map(|(path, value)| format!("{path} = {value}\n"));
        parsed(&format!("[[{list}]]\nkind = \"{kind}\"\n{}", lines.collect::<String>()))
    }

    #[test]
    fn every_example_and_default_of_an_option_is_taken() {
        for list in CONNECTORS {
            let (kinds, every) = connectors::kinds(list);
            for kind in kinds {
                let rows: Vec<&OptionRow> = every.iter().chain(kind.options).collect();
                // Whose files are not there, and whose seed is none.
                let is_real = |row: &&&OptionRow| {
                    row.path != "nkey_seed" && (row.takes != Takes::File || kind.name == "webhook")
                };
                for row in rows.iter().filter(is_real) {
                    for value in [Some(row.example), row.default].into_iter().flatten() {
                        let first = row.path.split('.').next().unwrap();
                        let beside = |other: &&&OptionRow| {
                            let at = other.path.split('.').next().unwrap();
                            let is_needed = at == other.path || at == first;
                            other.is_required && is_needed && other.path != row.path
                        };
                        let beside = rows.iter().filter(beside).map(|row| (row.path, row.example));
                        let mut options: Vec<(&str, &str)> = beside.collect();
                        let pairs = [
                            ("concurrency", "key", "\"topic\""),
                            ("user", "password", "\"\""),
                            ("password", "user", "\"u\""),
                        ];
                        let pairs = pairs.iter().filter(|(path, ..)| *path == row.path);
                        options.extend(pairs.map(|(_, beside, value)| (*beside, *value)));
                        if list == "source" && row.path != "subjects" {
                            options.push(("subjects", "[\"a\"]"));
                        }
                        options.push((row.path, value));
                        let (_, problems) = connectors::read(&with(list, kind.name, &options));
                        assert_eq!(problems, [], "{} {} = {value}", kind.name, row.path);
                    }
                }
            }
        }
    }

    #[test]
    fn reference_has_short_lines() {
        for line in reference().lines() {
            assert!(line.len() <= 100, "{line}");
        }
    }
}
