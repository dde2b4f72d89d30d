//! The Mercure hub's directives, each as a setting or as an error that names it. Knows no
//! variable.

use std::path::Path;

use url::Url;

use super::caddyfile::Directive;
use super::image::{Found, or_off, words};
use super::mistakes::Problem;
use super::value::{Node, Place, Value};

const HUB_PATH: &str = "/.well-known/mercure";

/// Directives without an equivalent, with what to do instead.
const WITHOUT_EQUIVALENT: [(&str, &str); 14] = [
    ("cookie_name", "tokens come in the Authorization header: cookies are not read yet"),
    ("debugger", "`tidings dev` has a page to look at updates"),
    ("demo", "`tidings dev` has a page to look at updates"),
    ("dispatch_timeout", "a slow reader goes on from the history; nothing waits for it"),
    ("name", "there is one hub in one program"),
    ("playground", "`tidings dev` has a page to look at updates"),
    ("publish_origins", "it concerns tokens in cookies, which are not read yet: take it out"),
    ("public_urls", "TIDINGS_PUBLIC_URL is the one URL of the hub"),
    ("publisher_jwks_url", "key sets by URL are not read yet: give the key itself"),
    ("subscriber_jwks_url", "key sets by URL are not read yet: give the key itself"),
    ("subscriber_list_cache_size", "receivers are found by an index of fixed shape"),
    ("topic_matcher_cache", "patterns are compiled once and shared"),
    ("topic_selector_cache", "patterns are compiled once and shared"),
    ("ui", "`tidings dev` has a page to look at updates"),
];

/// A key that directives or variables gave.
#[derive(Clone)]
pub(super) struct Key {
    role: &'static str,
    text: String,
    algorithm: Option<String>,
    place: Place,
}

impl Key {
    /// Writes it into the issuer at `path`.
    pub(super) fn write(&self, tree: &mut Node, path: &str) {
        let role = if self.role == "publisher" { "publish" } else { "subscribe" };
        let place = || self.place.clone();
        tree.set(&format!("{path}.{role}.key"), Value::Text(self.text.clone()), place());
        if let Some(algorithm) = &self.algorithm {
            let algorithm = Value::Text(algorithm.clone());
            tree.set(&format!("{path}.{role}.algorithm"), algorithm, place());
        }
    }
}

/// An issuer with keys of its own.
pub(super) struct Issuer {
    pub(super) id: String,
    pub(super) place: Place,
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
        self.keys.retain(|key| key.role != role);
        self.keys.push(new_key(role, text, algorithm, place));
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
    const READ: [&str; 13] = [
        "anonymous",
        "cors_origins",
        "heartbeat",
        "write_timeout",
        "max_request_body_size",
        "publisher_jwt",
        "subscriber_jwt",
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
    match super::nearest::nearest(name, READ) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem.hint(format!("known: {}", READ.join(", "))),
    }
}

fn new_key(role: &str, text: &str, algorithm: Option<&str>, place: &Place) -> Key {
    Key {
        role: if role == "publisher" { "publisher" } else { "subscriber" },
        text: text.to_owned(),
        algorithm: algorithm.map(str::to_owned),
        place: place.clone(),
    }
}

/// `issuer ID { publisher { jwt KEY [ALG] } subscriber { jwt KEY [ALG] } }`
fn issuer(id: &str, directive: &Directive, place: &Place) -> Result<Issuer, Problem> {
    let wrong = |message: &str| Problem::new(place.clone(), message);
    let mut keys = Vec::new();
    for role in &directive.block {
        match role.name() {
            "publisher" | "subscriber" => {}
            "authorization_server" => {
                return Err(wrong("`authorization_server` has no equivalent yet"));
            }
            _ => return Err(wrong("`issuer` takes `publisher` and `subscriber`")),
        }
        for key in &role.block {
            match (key.name(), key.arguments()) {
                ("jwt", [text]) => keys.push(new_key(role.name(), text, None, place)),
                ("jwt", [text, algorithm]) => {
                    keys.push(new_key(role.name(), text, Some(algorithm), place));
                }
                ("jwks_uri", _) => {
                    let hint = "key sets by URL are not read yet: give the key itself";
                    return Err(wrong("`jwks_uri` has no equivalent").hint(hint));
                }
                _ => return Err(wrong("a role takes `jwt KEY ALGORITHM`")),
            }
        }
    }
    Ok(Issuer { id: id.to_owned(), place: place.clone(), keys })
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
