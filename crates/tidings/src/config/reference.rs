//! The printed reference: every setting with its default and a sentence, as TOML that is the
//! default configuration itself. Knows no setting: the schema does.

use super::environment::name_of;
use super::schema::{self, Default, KEYS, Kind, LISTS};

const HEAD: &str = "\
# Tidings: every setting with its default. What is commented out has none; it shows an example.
#
# Any setting may also be an environment variable: TIDINGS_ and the path in capitals, with `_`
# between names (TIDINGS_HISTORY_KEEP_AGE). Elements of lists of tables are numbered from 0
# (TIDINGS_AUTH_ISSUER_0_ID); lists are separated by commas. With _FILE behind it, the variable
# names a file that holds the value. Variables are over this file, the environment is over
# .env.local, that is over .env, both in the working folder.
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
    for list in schema::CONNECTORS {
        text.push_str(&format!(
            "\n# [[{list}]]\n# This version has no kind of {list}; a table here is refused.\n"
        ));
    }
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
        let open: String = reference()
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
    fn reference_has_short_lines() {
        for line in reference().lines() {
            assert!(line.len() <= 100, "{line}");
        }
    }
}
