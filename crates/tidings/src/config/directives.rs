//! The Mercure hub's directives, each as a setting or as an error that names it. Knows no
//! variable.

use std::path::Path;

use tidings_connectors::nearest::nearest;
use url::Url;

use super::caddyfile::Directive;
use super::image::{Found, or_off, words};
use super::mistakes::Problem;
use super::value::{Node, Place, Value};

const HUB_PATH: &str = "/.well-known/mercure";

/// Directives without an equivalent, with what to do instead.
const WITHOUT_EQUIVALENT: [(&str, &str); 10] = [
    ("debugger", "`tidings dev` has a page to look at updates"),
    ("demo", "`tidings dev` has a page to look at updates"),
    ("dispatch_timeout", "a slow reader goes on from the history; nothing waits for it"),
    ("name", "there is one hub in one program"),
    ("playground", "`tidings dev` has a page to look at updates"),
    ("public_urls", "TIDINGS_PUBLIC_URL is the one URL of the hub"),
    ("subscriber_list_cache_size", "receivers are found by an index of fixed shape"),
    ("topic_matcher_cache", "patterns are compiled once and shared"),
    ("topic_selector_cache", "patterns are compiled once and shared"),
    ("ui", "`tidings dev` has a page to look at updates"),
];

/// A key that directives or variables gave.
#[derive(Clone)]
pub(super) struct Key {
    role: &'static str,
    source: Source,
    place: Place,
}

/// What verifies tokens.
#[derive(Clone)]
enum Source {
    /// A key and its algorithm.
    Key(String, Option<String>),
    /// The address of a key set and its algorithms.
    Set(String, Vec<String>),
}

impl Key {
    /// Writes it into the issuer at `path`.
    pub(super) fn write(&self, tree: &mut Node, path: &str) {
        let role = if self.role == "publisher" { "publish" } else { "subscribe" };
        let mut set = |name: &str, value| {
            tree.set(&format!("{path}.{role}.{name}"), value, self.place.clone());
        };
        match &self.source {
            Source::Key(text, algorithm) => {
                set("key", Value::Text(text.clone()));
                if let Some(algorithm) = algorithm {
                    set("algorithm", Value::Text(algorithm.clone()));
                }
            }
            Source::Set(address, algorithms) => {
                set("jwks", Value::Text(address.clone()));
                if !algorithms.is_empty() {
                    let node = |name: &String| Node::text(name.as_str(), self.place.clone());
                    set("algorithms", Value::List(algorithms.iter().map(node).collect()));
                }
            }
        }
    }
}

/// An issuer with keys of its own.
pub(super) struct Issuer {
    pub(super) id: String,
    pub(super) place: Place,
    /// Whether its metadata says where its keys are.
    pub(super) discovers: bool,
    pub(super) keys: Vec<Key>,
}

/// What becomes issuers once everything is read.
#[derive(Default)]
pub(super) struct Translation {
    /// Keys for all trusted issuers.
    pub(super) keys: Vec<Key>,
    pub(super) issuers: Vec<Issuer>,
}

impl Translation {
    /// The key of `role` for all trusted issuers; a later one replaces an earlier one.
    pub(super) fn key(&mut self, role: &str, text: &str, algorithm: Option<&str>, place: &Place) {
        let source = Source::Key(text.to_owned(), algorithm.map(str::to_owned));
        self.add(new_key(role, source, place));
    }

    fn add(&mut self, key: Key) {
        self.keys.retain(|known| known.role != key.role);
        self.keys.push(key);
    }

    /// Translates one directive.
    pub(super) fn directive(
        &mut self,
        tree: &mut Node,
        directive: &Directive,
        place: &Place,
        found: &mut Found,
    ) {
        let name = directive.name();
        let arguments = directive.arguments();
        let wrong = |message: String| Problem::new(place.clone(), message);
        let text = |text: &str| Value::Text(text.to_owned());
        match (name, arguments) {
            ("anonymous", []) => tree.set("auth.anonymous", Value::Boolean(true), place.clone()),
            ("cors_origins", [_, ..]) => {
                words(tree, "mercure.cors_origins", &arguments.join(" "), place);
            }
            ("publish_origins", [_, ..]) => {
                words(tree, "mercure.publish_origins", &arguments.join(" "), place);
            }
            ("cookie_name", [name]) => tree.set("mercure.cookie", text(name), place.clone()),
            ("subscriptions", []) => {
                tree.set("mercure.subscriptions", Value::Boolean(true), place.clone());
            }
            ("heartbeat", [value]) => or_off(tree, "mercure.heartbeat", value, place),
            ("write_timeout", [value]) => or_off(tree, "mercure.connection_age_max", value, place),
            ("max_request_body_size", [value]) => {
                // Zero is without a bound there; here the format has one.
                let value = if value == "0" { "16 MiB" } else { value };
                tree.set("mercure.update_size_max", text(value), place.clone());
            }
            ("publisher_jwt", [key, rest @ ..]) if rest.len() < 2 => {
                self.key("publisher", key, rest.first().map(String::as_str), place);
            }
            ("subscriber_jwt", [key, rest @ ..]) if rest.len() < 2 => {
                self.key("subscriber", key, rest.first().map(String::as_str), place);
            }
            ("publisher_jwks_url", [url]) => {
                self.add(new_key("publisher", Source::Set(url.clone(), Vec::new()), place));
            }
            ("subscriber_jwks_url", [url]) => {
                self.add(new_key("subscriber", Source::Set(url.clone(), Vec::new()), place));
            }
            ("issuer", [id]) => match issuer(id, directive, place) {
                Ok(issuer) => self.issuers.push(issuer),
                Err(problem) => found.problems.push(problem),
            },
            ("resource_identifier", [url]) => resource_identifier(tree, url, place, found),
            ("transport", [kind]) => storage(tree, kind, directive, place, found),
            ("transport_url", [url]) => storage_url(tree, url, place, found),
            ("protocol_version_compatibility", [version]) => match version.as_str() {
                // Issuers made from these variables accept 0.x anyway.
                "8" => {}
                _ => found.problems.push(
                    wrong(format!("`{name}` of that version has no equivalent"))
                        .hint("0.x is spoken as from version 0.14 on: write 8"),
                ),
            },
            _ => found.problems.push(refused(name, place)),
        }
    }
}

fn refused(name: &str, place: &Place) -> Problem {
    const READ: [&str; 17] = [
        "anonymous",
        "cookie_name",
        "cors_origins",
        "heartbeat",
        "write_timeout",
        "max_request_body_size",
        "publish_origins",
        "publisher_jwt",
        "subscriber_jwt",
        "publisher_jwks_url",
        "subscriber_jwks_url",
        "issuer",
        "resource_identifier",
        "transport",
        "transport_url",
        "protocol_version_compatibility",
        "subscriptions",
    ];
    let problem = |message: String| Problem::new(place.clone(), message);
    if READ.contains(&name) {
        return problem(format!("`{name}` has a wrong number of arguments"));
    }
    if let Some((_, hint)) = WITHOUT_EQUIVALENT.iter().find(|(known, _)| *known == name) {
        return problem(format!("the directive `{name}` has no equivalent")).hint(*hint);
    }
    // Anything at all may stand here, even a key whose directive is on the line before.
    let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let shown = if plain { format!("directive `{name}`") } else { "directive".to_owned() };
    let problem = problem(format!("unknown {shown}"));
    match nearest(name, READ) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("known: {}", READ.join(", "))),
    }
}

fn new_key(role: &str, source: Source, place: &Place) -> Key {
    let role = if role == "publisher" { "publisher" } else { "subscriber" };
    Key { role, source, place: place.clone() }
}

/// `issuer ID { authorization_server publisher { jwt KEY [ALG] } subscriber { … } }`, where a role
/// may have `jwks_uri URL [ALG…]` instead.
fn issuer(id: &str, directive: &Directive, place: &Place) -> Result<Issuer, Problem> {
    let wrong = |message: &str| Problem::new(place.clone(), message);
    let mut issuer =
        Issuer { id: id.to_owned(), place: place.clone(), discovers: false, keys: Vec::new() };
    for role in &directive.block {
        match (role.name(), role.arguments()) {
            ("publisher" | "subscriber", []) => {}
            ("authorization_server", []) => {
                issuer.discovers = true;
                continue;
            }
            _ => return Err(wrong("`issuer` takes `publisher` and `subscriber`")),
        }
        for key in &role.block {
            let source = match (key.name(), key.arguments()) {
                ("jwt", [text]) => Source::Key(text.clone(), None),
                ("jwt", [text, algorithm]) => Source::Key(text.clone(), Some(algorithm.clone())),
                ("jwks_uri", [url, algorithms @ ..]) => {
                    Source::Set(url.clone(), algorithms.to_vec())
                }
                _ => {
                    let message = "a role takes `jwt KEY ALGORITHM` or `jwks_uri URL ALGORITHMS`";
                    return Err(wrong(message));
                }
            };
            issuer.keys.push(new_key(role.name(), source, place));
        }
    }
    // With keys for one role, the other one has none in that hub, and would have its keys here.
    let roles = ["publisher", "subscriber"];
    let given = roles.iter().filter(|role| issuer.keys.iter().any(|key| key.role == **role));
    if issuer.discovers && given.count() == 1 {
        let hint = "give keys for both roles, or for none and they come from the metadata";
        return Err(wrong("`authorization_server` beside keys for one role").hint(hint));
    }
    Ok(issuer)
}

fn resource_identifier(tree: &mut Node, text: &str, place: &Place, found: &mut Found) {
    let base = Url::parse(text).ok().filter(|url| url.path().ends_with(HUB_PATH));
    match base.as_ref().and_then(|url| url.as_str().strip_suffix(HUB_PATH)) {
        Some(base) => tree.set("public_url", Value::Text(base.to_owned()), place.clone()),
        None => found.problems.push(Problem::new(
            place.clone(),
            format!("`resource_identifier` takes a URL that ends with {HUB_PATH}"),
        )),
    }
}

/// `transport bolt { path … size … }` and `transport local`.
fn storage(tree: &mut Node, kind: &str, directive: &Directive, place: &Place, found: &mut Found) {
    match kind {
        "local" => in_memory(tree, place),
        "bolt" => {
            for option in &directive.block {
                match (option.name(), option.arguments()) {
                    ("path", [path]) => beside(tree, path, place, found),
                    ("size", [size]) => entries(tree, size, place),
                    (name, _) => found.problems.push(no_storage_option(name, place)),
                }
            }
        }
        _ => found.problems.push(no_storage(place)),
    }
}

fn no_storage(place: &Place) -> Problem {
    Problem::new(place.clone(), "this `transport` has no equivalent")
        .hint("`bolt` and `local` have one: the history on disk and in memory")
}

/// An option of `bolt` that is not read. Its name is shown only when it is one of that hub's.
fn no_storage_option(name: &str, place: &Place) -> Problem {
    match name {
        "cleanup_frequency" => {
            Problem::new(place.clone(), "`cleanup_frequency` of `bolt` has no equivalent")
                .hint("take it out: old entries go by themselves, as soon as they may")
        }
        "bucket_name" => Problem::new(place.clone(), "`bucket_name` of `bolt` has no equivalent")
            .hint("take it out: each hub has a folder of its own"),
        _ => Problem::new(place.clone(), "`bolt` takes a path and a size"),
    }
}

fn in_memory(tree: &mut Node, place: &Place) {
    tree.set("history.durability", Value::Text("memory".to_owned()), place.clone());
}

/// `bolt://path?size=…` and `local://`.
pub(super) fn storage_url(tree: &mut Node, text: &str, place: &Place, found: &mut Found) {
    let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
    match scheme {
        "local" => in_memory(tree, place),
        "bolt" => {
            let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
            beside(tree, path, place, found);
            for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
                match name.as_ref() {
                    "size" => entries(tree, &value, place),
                    name => found.problems.push(no_storage_option(name, place)),
                }
            }
        }
        _ => found.problems.push(no_storage(place)),
    }
}

/// The other hub's file cannot be read; the history goes into a folder beside it, on the volume
/// that was mounted for it.
pub(super) fn beside(tree: &mut Node, file: &str, place: &Place, found: &mut Found) {
    let folder = Path::new(file).parent().unwrap_or(Path::new("")).join("tidings");
    let text = folder.to_string_lossy().into_owned();
    found.notes.push(format!("the history is in {text}, beside {file}, which is not read"));
    tree.set("history.path", Value::Text(text), place.clone());
}

/// The number of entries to keep; zero keeps all. Age and size are no bounds in that hub.
pub(super) fn entries(tree: &mut Node, text: &str, place: &Place) {
    let off = || Value::Text("off".to_owned());
    let entries = if text == "0" { off() } else { Value::Text(text.to_owned()) };
    tree.set("history.keep.entries", entries, place.clone());
    tree.set("history.keep.age", off(), place.clone());
    tree.set("history.keep.size", off(), place.clone());
}
