//! The house rules that a machine can check, as tests over the sources. Knows text only: it reads
//! files as `rustfmt` leaves them and parses nothing.
//!
//! An exception is a line in one of the tables below, with its reason. Tables are ratchets: an
//! exception that is no longer needed, or larger than needed, fails as well.

// A test says no by panicking; the lint's own exception only covers functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const LINE_COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 400;
const FILE_BYTES_MAX: usize = 512 * 1024;
const ARCHITECTURE_LINES_MAX: usize = 150;

/// Files longer than the rule allows, without tests: path, lines, reason.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Functions longer than the rule allows: path, name, lines, reason.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Words that say nothing about a thing. Types and modules are named after what they are.
const BANNED_WORDS: &[&str] = &[
    "manager",
    "handler",
    "helper",
    "helpers",
    "util",
    "utils",
    "common",
    "types",
    "data",
    "info",
    "processor",
    "service",
    "transport",
];

/// Names with a banned word that another project's interface gives us: path, name.
const FOREIGN_NAMES: &[(&str, &str)] = &[];

/// What no code outside tests may say, and why.
const BANNED_CODE: &[(&str, &str)] = &[
    (".unwrap()", "say by `expect` which invariant holds, or return the error"),
    ("todo!(", "unfinished code is not merged"),
    ("unimplemented!(", "unfinished code is not merged"),
    ("dbg!(", "left over from debugging"),
    ("unbounded", "everything has a limit with a name in limits.rs"),
    ("tokio::spawn(", "no task without an owner: spawn into a JoinSet or a TaskTracker"),
    ("Error::Other", "an error says whose fault it is"),
    ("lazy_static", "std has LazyLock"),
];

/// What no file says: the code base speaks of itself alone.
const BANNED_TEXT: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/tmp/w", "t/"), "a path of one machine"),
    (concat!("/tmp/br", "ief"), "a path of one machine"),
    (concat!("/ro", "ot/"), "a path of one machine"),
    (concat!("localhost:4", "873"), "a registry of one machine"),
    (concat!("FIX", "ME"), "fix it, or say in the documents what is missing"),
    (concat!("X", "XX:"), "fix it, or say in the documents what is missing"),
];

/// Crates that each manifest may not name in `[dependencies]`: edges know the core, never the
/// other way round, and the core knows no protocol, socket, or file format of others.
const FORBIDDEN_DEPENDENCIES: &[(&str, &[&str])] = &[
    (
        "tidings-core",
        &[
            "tidings",
            "tidings-frontends",
            "tidings-connectors",
            "hyper",
            "hyper-util",
            "http",
            "http-body",
            "http-body-util",
            "axum",
            "tower",
            "reqwest",
            "serde",
            "serde_json",
            "toml",
            "clap",
            "miette",
            "jsonwebtoken",
            "tokio-util",
            "anyhow",
        ],
    ),
    (
        "tidings-frontends",
        &["tidings", "tidings-connectors", "clap", "toml", "miette", "redb", "anyhow"],
    ),
    ("tidings-connectors", &["tidings", "tidings-frontends", "clap", "toml", "miette", "redb"]),
];

/// A source file, split into the part that ships and its tests.
struct Source {
    path: String,
    text: String,
    /// Lines before the tests at the end of the file; all of them when there are none.
    shipped: usize,
    /// Only compiled for tests.
    is_test: bool,
}

fn root() -> PathBuf {
    // At run time first: a built test can look at another checkout.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.join("../..").canonicalize().unwrap()
}

/// Files of the repository with one of these endings, by their path from the root.
fn files(endings: &[&str]) -> Vec<(String, Vec<u8>)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                let foreign = ["target", "node_modules", "data", "corpus", "mutants.out"];
                let hidden = name.starts_with('.') && name != ".ci";
                if !hidden && !foreign.contains(&name.as_str()) && !path.join(".git").exists() {
                    folders.push(path);
                }
            } else if kind.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                found.push((relative, std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {endings:?} below {}", root.display());
    found
}

fn sources() -> Vec<Source> {
    let all: Vec<Source> = files(&[".rs"])
        .into_iter()
        .map(|(path, bytes)| {
            let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{path}: not UTF-8"));
            let lines: Vec<&str> = text.lines().collect();
            let tests = (0..lines.len()).find(|&at| {
                lines[at] == "#[cfg(test)]"
                    && lines
                        .get(at + 1)
                        .is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'))
            });
            let shipped = tests.unwrap_or(lines.len());
            let is_test = path.contains("/tests/") || path.contains("/benches/");
            Source { path, text, shipped, is_test }
        })
        .collect();
    // A file that another one declares behind `#[cfg(test)]` is a test as well.
    let declared: BTreeSet<String> = all
        .iter()
        .flat_map(|source| {
            let lines: Vec<&str> = source.text.lines().collect();
            let folder = module_folder(&source.path);
            (1..lines.len())
                .filter(|&at| lines[at - 1] == "#[cfg(test)]")
                .filter_map(|at| lines[at].strip_prefix("mod ")?.strip_suffix(';'))
                .map(|name| format!("{folder}/{name}.rs"))
                .collect::<Vec<_>>()
        })
        .collect();
    all.into_iter()
        .map(|source| {
            let is_test = source.is_test || declared.contains(&source.path);
            Source { is_test, ..source }
        })
        .collect()
}

/// Where the modules that a file declares live.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", name.trim_end_matches(".rs")),
    }
}

/// Fails with all findings at once.
fn none(rule: &str, findings: Vec<String>) {
    let mut text = String::new();
    for finding in findings {
        writeln!(text, "  {finding}").unwrap();
    }
    assert!(text.is_empty(), "{rule}:\n{text}");
}

#[test]
fn lines_fit_and_are_clean() {
    let mut findings = Vec::new();
    for (path, bytes) in files(&[".rs", ".toml", ".md", ".sh", ".css", ".js", ".html"]) {
        let text = String::from_utf8_lossy(&bytes);
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(format!("{path}: the last line has no end"));
        }
        for (number, line) in text.lines().enumerate() {
            let place = format!("{path}:{}", number + 1);
            let columns = line.chars().count();
            // Tables of tests may be wider than what people read from top to bottom.
            let shipped = path.ends_with(".rs") && !path.contains("tests");
            if shipped && columns > LINE_COLUMNS_MAX {
                findings.push(format!("{place}: {columns} columns"));
            }
            if line.ends_with([' ', '\t']) && !path.ends_with(".md") {
                findings.push(format!("{place}: blanks at the end"));
            }
            if line.contains(|c: char| c.is_control() && (c != '\t' || path.ends_with(".rs"))) {
                findings.push(format!("{place}: a control character"));
            }
        }
    }
    none("lines", findings);
}

#[test]
fn files_hold_one_thing() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let allowed = LONG_FILES.iter().find(|(path, ..)| *path == source.path);
        let most = allowed.map_or(FILE_LINES_MAX, |(_, lines, _)| *lines);
        if source.shipped > most {
            let lines = source.shipped;
            findings.push(format!("{}: {lines} lines; which second thing is in it?", source.path));
        }
        if allowed.is_some() && source.shipped < most {
            findings.push(format!("{}: lower its exception to {}", source.path, source.shipped));
        }
    }
    for (path, lines, _) in LONG_FILES {
        if *lines <= FILE_LINES_MAX || !root().join(path).exists() {
            findings.push(format!("{path}: needs no exception"));
        }
    }
    none("files", findings);
}

#[test]
fn functions_are_short() {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let lines: Vec<&str> = source.text.lines().take(source.shipped).collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let declared = format!("{indent}}};");
            let length = lines[start..]
                .iter()
                .position(|line| {
                    **line == end
                        || **line == declared
                        || (line.starts_with(indent) && line.ends_with(';') && {
                            // A declaration without a body.
                            !line[indent.len()..].starts_with(' ')
                        })
                        || (line.ends_with('}') && function_name(line).is_some())
                })
                .map_or(1, |length| length + 1);
            let allowed =
                LONG_FUNCTIONS.iter().find(|(path, n, ..)| *path == source.path && *n == name);
            let most = allowed.map_or(FUNCTION_LINES_MAX, |(.., lines, _)| *lines);
            if length > most {
                findings.push(format!("{}:{}: {name}: {length} lines", source.path, start + 1));
            }
            if let Some((path, name, ..)) = allowed {
                used.insert((*path, *name));
                if length < most {
                    findings.push(format!("{path}: {name}: lower its exception to {length}"));
                }
            }
        }
    }
    for (path, name, lines, _) in LONG_FUNCTIONS {
        if *lines <= FUNCTION_LINES_MAX || !used.contains(&(*path, *name)) {
            findings.push(format!("{path}: {name}: needs no exception"));
        }
    }
    none("functions", findings);
}

/// The name of the function that a line begins.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if rest.starts_with("//") {
        return None;
    }
    loop {
        let (word, behind) = rest.split_once(' ')?;
        match word {
            "fn" => {
                let end = behind.find(|c: char| !c.is_alphanumeric() && c != '_')?;
                return behind.get(..end);
            }
            "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"" => rest = behind,
            _ if word.starts_with("pub(") => rest = behind,
            _ => return None,
        }
    }
}

#[test]
fn names_say_what_things_are() {
    let mut findings = Vec::new();
    for source in &sources() {
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        let mut names: Vec<(usize, String)> = vec![(1, stem.to_owned())];
        for folder in source.path.split('/').rev().skip(1).take_while(|folder| *folder != "src") {
            names.push((1, folder.to_owned()));
        }
        if source.path.contains("/tests/") || !source.path.contains("/src/") {
            names.truncate(1);
        }
        for (number, line) in source.text.lines().enumerate() {
            let mut rest = line.trim_start();
            if let Some(behind) = rest.strip_prefix("pub") {
                rest = behind.split_once(' ').map_or("", |(_, behind)| behind);
            }
            for keyword in ["struct ", "enum ", "trait ", "mod ", "type ", "union "] {
                // Types in a block belong to a trait, perhaps of another crate.
                if keyword == "type " && line.starts_with(' ') {
                    continue;
                }
                if let Some(behind) = rest.strip_prefix(keyword) {
                    let end = behind.find(|c: char| !c.is_alphanumeric() && c != '_');
                    names.push((number + 1, behind[..end.unwrap_or(behind.len())].to_owned()));
                }
            }
        }
        for (line, name) in names {
            let foreign = FOREIGN_NAMES.contains(&(source.path.as_str(), name.as_str()));
            if let Some(word) =
                words(&name).into_iter().find(|word| BANNED_WORDS.contains(&word.as_str()))
                && !foreign
            {
                findings.push(format!("{}:{line}: {name} ({word} says nothing)", source.path));
            }
        }
    }
    none("names", findings);
}

/// The words of a name in either case style.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in name.chars() {
        if character == '_' || character == '-' {
            words.push(String::new());
        } else {
            if character.is_uppercase() && words.last().is_some_and(|word| !word.is_empty()) {
                words.push(String::new());
            }
            words.last_mut().unwrap().extend(character.to_lowercase());
        }
    }
    words
}

#[test]
fn shipped_code_says_nothing_banned() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        for (number, line) in source.text.lines().take(source.shipped).enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (banned, reason) in BANNED_CODE {
                if code.contains(banned) {
                    let place = format!("{}:{}", source.path, number + 1);
                    findings.push(format!("{place}: `{banned}`: {reason}"));
                }
            }
        }
    }
    none("banned in shipped code", findings);
}

#[test]
fn every_module_says_what_it_is() {
    let findings = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .filter(|source| !source.path.starts_with("fuzz/"))
        .map(|source| format!("{}: begins without a module doc", source.path))
        .collect();
    none("module docs", findings);
}

#[test]
fn folders_are_flat() {
    let findings = sources()
        .iter()
        .filter_map(|source| Some((source, source.path.split_once("/src/")?.1)))
        .filter(|(_, inside)| inside.matches('/').count() > 2)
        .map(|(source, _)| format!("{}: more than two folders deep", source.path))
        .collect();
    none("folders", findings);
}

#[test]
fn bounds_live_in_limits() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        if source.path.ends_with("/limits.rs") {
            continue;
        }
        for (number, line) in source.text.lines().take(source.shipped).enumerate() {
            let Some((before, behind)) = line.split_once("const ") else { continue };
            let name = behind.split(':').next().unwrap_or_default();
            let is_bound = ["_MAX", "_MIN", "_LIMIT", "_TIMEOUT"].iter().any(|e| name.ends_with(e));
            if is_bound && !before.contains("//") {
                findings.push(format!("{}:{}: {name}", source.path, number + 1));
            }
        }
    }
    none("bounds outside limits.rs", findings);
}

#[test]
fn dependencies_point_one_way() {
    let mut findings = Vec::new();
    for (krate, forbidden) in FORBIDDEN_DEPENDENCIES {
        let path = root().join("crates").join(krate).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let empty = toml::Table::new();
        let named = manifest.get("dependencies").and_then(|d| d.as_table()).unwrap_or(&empty);
        for name in named.keys().filter(|name| forbidden.contains(&name.as_str())) {
            findings.push(format!("{krate} names {name}"));
        }
        if *krate == "tidings-core" {
            let features = named.get("tokio").and_then(|tokio| tokio.get("features"));
            let sync = toml::Value::Array(vec!["sync".into()]);
            if features.is_some_and(|features| *features != sync) {
                findings.push("tidings-core uses more of tokio than `sync`".to_owned());
            }
        }
    }
    none("dependencies", findings);
}

#[test]
fn the_code_base_speaks_of_itself_alone() {
    let endings =
        [".rs", ".toml", ".md", ".sh", ".js", ".html", ".css", "/test", "run", "Dockerfile"];
    let mut findings = Vec::new();
    for (path, bytes) in files(&endings) {
        let text = String::from_utf8_lossy(&bytes);
        if bytes.len() > FILE_BYTES_MAX {
            findings.push(format!("{path}: {} bytes", bytes.len()));
        }
        for (number, line) in text.lines().enumerate() {
            let place = format!("{path}:{}", number + 1);
            for (banned, reason) in BANNED_TEXT {
                if line.contains(banned) {
                    findings.push(format!("{place}: `{banned}`: {reason}"));
                }
            }
            let comment = line.split_once("//").map_or("", |(_, comment)| comment);
            if path.ends_with(".rs") && names_an_issue(comment) {
                findings.push(format!("{place}: a number that only a tracker explains"));
            }
        }
    }
    none("texts", findings);
}

/// A hash and a number, or the word and a number.
fn names_an_issue(comment: &str) -> bool {
    let digit_behind = |at: usize| comment[at..].starts_with(|c: char| c.is_ascii_digit());
    let hash = comment.match_indices('#').any(|(at, _)| {
        let standard = comment[..at].ends_with("PKCS ");
        let part = comment[..at].ends_with(|c: char| c.is_alphanumeric() || c == '/');
        digit_behind(at + 1) && !standard && !part
    });
    hash || comment.match_indices("issue ").any(|(at, word)| digit_behind(at + word.len()))
}

/// Requirements on a hub (`M1` …, protocol 1.0) that need no journey of their own, and why.
const UNTESTED_REQUIREMENTS: &[(u32, &str)] = &[
    (34, "optional: no other protocol carries Mercure publications yet"),
    (59, "publishing without a token is not offered"),
    (79, "sums up the limits of M9, M11, M33 and M54, which have theirs"),
];
/// All requirements.
const REQUIREMENTS: std::ops::RangeInclusive<u32> = 1..=80;

#[test]
fn every_requirement_has_a_journey_that_names_it() {
    let mut named: BTreeSet<u32> = BTreeSet::new();
    for source in sources().iter().filter(|source| source.path.contains("/tests/it/")) {
        for name in source.text.lines().filter_map(function_name) {
            let numbers =
                name.split('_').map_while(|word| word.strip_prefix('m')?.parse::<u32>().ok());
            named.extend(numbers);
        }
    }
    let excused = |number: u32| UNTESTED_REQUIREMENTS.iter().any(|(known, _)| *known == number);
    let findings = REQUIREMENTS
        .filter_map(|number| match (named.contains(&number), excused(number)) {
            (false, false) => Some(format!("M{number}: no journey named m{number}_…")),
            (true, true) => Some(format!("M{number}: needs no exception")),
            _ => None,
        })
        .collect();
    none("requirements", findings);
}

#[test]
fn architecture_is_short() {
    let Ok(text) = std::fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    let lines = text.lines().count();
    assert!(lines <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md: {lines} lines");
}

#[test]
fn relative_links_resolve() {
    let mut findings = Vec::new();
    let documents: BTreeMap<String, String> = files(&[".md", "Cargo.toml"])
        .into_iter()
        .map(|(path, bytes)| (path, String::from_utf8_lossy(&bytes).into_owned()))
        .collect();
    for (path, text) in documents.iter().filter(|(path, _)| path.ends_with(".md")) {
        for target in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let folder = Path::new(path).parent().unwrap();
            let linked = if file.is_empty() { path.clone() } else { normal(&folder.join(file)) };
            if !root().join(&linked).exists() {
                findings.push(format!("{path}: {target} does not exist"));
            } else if !anchor.is_empty()
                && documents.get(&linked).is_some_and(|text| !anchors(text).contains(anchor))
            {
                findings.push(format!("{path}: {linked} has no heading for #{anchor}"));
            }
        }
    }
    none("links", findings);
}

/// Targets of Markdown links and images, outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            if let Some(end) = line[at + 2..].find(')') {
                let target = &line[at + 2..at + 2 + end];
                found.push(target.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

/// Anchors as the usual renderers make them out of headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_code = false;
    text.lines()
        .filter(|line| {
            in_code ^= line.starts_with("```");
            !in_code && line.starts_with('#')
        })
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    parts.join("/")
}

#[test]
fn the_tidy_tests_find_what_they_look_for() {
    assert_eq!(function_name("    pub(crate) async fn answer(&self) {"), Some("answer"));
    assert_eq!(function_name("    // fn comment() {"), None);
    assert_eq!(words("ConnectionInfo"), ["connection", "info"]);
    assert_eq!(words("mqtt_helper"), ["mqtt", "helper"]);
    assert!(names_an_issue(concat!(" see ", "#12")));
    assert!(names_an_issue(concat!(" as in iss", "ue 7")));
    assert!(!names_an_issue(" `https://e.com/#a`, `/#1` and a#1"));
    assert_eq!(links("see [a](docs/a.md#b) and\n```\n[x](y)\n```"), ["docs/a.md#b"]);
    assert!(anchors("# One, two!\n```\n# no\n```").contains("one-two"));
    assert_eq!(normal(Path::new("docs/../a/./b.md")), "a/b.md");
    assert_eq!(module_folder("crates/a/src/hub.rs"), "crates/a/src/hub");
}
