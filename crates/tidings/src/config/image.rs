//! The environment of the Mercure hub's image, in its present and its older form, as settings.
//! What has no equivalent is an error that names it, never ignored. Knows only which variable
//! and directive becomes which setting.

use tidings_connectors::nearest::nearest;

use super::caddyfile;
use super::directives::{self, Translation};
use super::mistakes::Problem;
use super::server_name::Served;
use super::value::{Node, Place, Value, steps};
use super::variables::Variables;
use super::{duration, server_name};
use crate::limits::CONNECTIONS_SETTING_MAX;

/// The issuer that the image trusts unless told otherwise.
const ISSUER_DEFAULT: &str = "https://localhost";
const EXTRA: &str = "MERCURE_EXTRA_DIRECTIVES";
const TRUSTED: &str = "MERCURE_TRUSTED_ISSUERS";

/// Variables of the image that are read.
const PRESENT: [&str; 7] = [
    "MERCURE_PUBLISHER_JWT_KEY",
    "MERCURE_PUBLISHER_JWT_ALG",
    "MERCURE_SUBSCRIBER_JWT_KEY",
    "MERCURE_SUBSCRIBER_JWT_ALG",
    TRUSTED,
    EXTRA,
    "MERCURE_TRANSPORT_URL",
];
/// Variables of the image that configure what this program does not have.
const PRESENT_WITHOUT_EQUIVALENT: [&str; 4] =
    ["GLOBAL_OPTIONS", "CADDY_EXTRA_CONFIG", "CADDY_SERVER_EXTRA_DIRECTIVES", "MERCURE_LICENSE"];
/// Variables that tell an older hub from other programs that also read `ADDR` or `DEBUG`.
const LEGACY_KEYS: [&str; 3] = ["JWT_KEY", "PUBLISHER_JWT_KEY", "SUBSCRIBER_JWT_KEY"];
/// Variables of older hubs that configure what this program does not have.
const LEGACY_WITHOUT_EQUIVALENT: [&str; 6] =
    ["COMPRESS", "DEMO", "DISPATCH_TIMEOUT", "METRICS", "READ_TIMEOUT", "USE_FORWARDED_HEADERS"];
/// Variables of older hubs for TLS, whose ports are set in another way here.
const LEGACY_TLS: [&str; 4] = ["ACME_CERT_DIR", "ACME_HOSTS", "CERT_FILE", "KEY_FILE"];

/// What the environment of another hub gave.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    /// Issuers made from shared keys. Their generations wait for the public URL.
    shared: usize,
    /// Whether there was any.
    image: bool,
    /// Whether issuers were named, so that 1.0 is wanted.
    trusted: bool,
}

/// Puts what `variables` say in the words of another hub into `tree`.
pub(super) fn apply(tree: &mut Node, variables: &Variables) -> Found {
    let mut found = Found { trusted: variables.get(TRUSTED).is_some(), ..Found::default() };
    let present = PRESENT.iter().any(|name| variables.get(name).is_some());
    let legacy = !present && LEGACY_KEYS.iter().any(|name| variables.get(name).is_some());
    found.image = present || legacy;
    if present {
        from_present(tree, variables, &mut found);
    } else if legacy {
        from_legacy(tree, variables, &mut found);
    }
    found
}

/// After the `TIDINGS_…` variables: 1.0 needs the public URL that they may have set.
pub(super) fn settle(tree: &mut Node, found: &mut Found) {
    proxies(tree, found);
    let known = tree.find(&steps("public_url")).is_some();
    for index in 0..found.shared {
        let path = format!("auth.issuer[{index}].accept");
        if tree.find(&steps(&path)).is_some() {
            continue;
        }
        let place = tree.place_of(&format!("auth.issuer[{index}].id"));
        let both = ["1.0", "0.x"];
        let accept = if known || found.trusted { both.as_slice() } else { &both[1..] };
        let node = |text: &&str| Node::text(*text, place.clone());
        let accept = Value::List(accept.iter().map(node).collect());
        tree.set(&path, accept, place.clone());
    }
    if !known && !found.trusted && found.shared > 0 {
        found.notes.push(
            "tokens of protocol 1.0 are refused: they are made for the hub's URL, which is not \
             known; set TIDINGS_PUBLIC_URL"
                .to_owned(),
        );
    }
}

/// The image bounds no address, and does not know the proxies in front of it: until they are named,
/// all clients are one address here.
fn proxies(tree: &mut Node, found: &Found) {
    let limit = "http.connections_per_address_max";
    let told = [limit, "http.trusted_proxies"].iter().any(|path| tree.find(&steps(path)).is_some());
    if found.image && !told {
        tree.set(limit, Value::Integer(CONNECTIONS_SETTING_MAX), Place::Default);
    }
}

fn from_present(tree: &mut Node, variables: &Variables, found: &mut Found) {
    for name in PRESENT_WITHOUT_EQUIVALENT {
        without_equivalent(variables, name, found);
    }
    misspelled(variables, found);
    server_name(tree, variables, found);
    let mut translation = Translation::default();
    for role in ["publisher", "subscriber"] {
        let prefix = format!("MERCURE_{}_JWT", role.to_ascii_uppercase());
        let (key, algorithm) = (format!("{prefix}_KEY"), format!("{prefix}_ALG"));
        if let Some(text) = variables.get(&key) {
            let algorithm = variables.get(&algorithm);
            translation.key(role, text, algorithm, &Place::Variable(key));
        }
    }
    if let Some(url) = variables.get("MERCURE_TRANSPORT_URL") {
        let place = Place::Variable("MERCURE_TRANSPORT_URL".to_owned());
        directives::storage_url(tree, url, &place, found);
    }
    if let Some(text) = variables.get(EXTRA) {
        let lookup = |name: &str| variables.get(name).map(str::to_owned);
        match caddyfile::parse(text, &lookup) {
            Ok(list) => {
                for directive in &list {
                    let place = Place::Variable(format!("{EXTRA}, line {}", directive.line));
                    translation.directive(tree, directive, &place, found);
                }
            }
            Err(error) => found.problems.push(Problem::new(
                Place::Variable(format!("{EXTRA}, line {}", error.line)),
                error.message,
            )),
        }
    }
    let ids = variables.get(TRUSTED).unwrap_or(ISSUER_DEFAULT);
    issuers(tree, &ids.replace(',', " "), &Place::Variable(TRUSTED.to_owned()), translation, found);
}

/// Writes the issuers: those with the shared keys first, then those with keys of their own.
fn issuers(tree: &mut Node, ids: &str, place: &Place, translation: Translation, found: &mut Found) {
    let mut index = 0;
    if !translation.keys.is_empty() {
        for id in ids.split_whitespace() {
            let path = format!("auth.issuer[{index}]");
            tree.set(&format!("{path}.id"), Value::Text(id.to_owned()), place.clone());
            for key in &translation.keys {
                key.write(tree, &path);
            }
            index += 1;
        }
    }
    found.shared = index;
    for issuer in translation.issuers {
        let path = format!("auth.issuer[{index}]");
        tree.set(&format!("{path}.id"), Value::Text(issuer.id), issuer.place.clone());
        if issuer.discovers {
            tree.set(&format!("{path}.discover"), Value::Boolean(true), issuer.place);
        }
        for key in &issuer.keys {
            key.write(tree, &path);
        }
        index += 1;
    }
}

fn server_name(tree: &mut Node, variables: &Variables, found: &mut Found) {
    let Some(text) = variables.get("SERVER_NAME") else { return };
    let place = Place::Variable("SERVER_NAME".to_owned());
    match server_name::parse(text) {
        Ok(served) => {
            let listen = served.listen.iter().map(|address| Node::text(address, place.clone()));
            tree.set("listen", Value::List(listen.collect()), place.clone());
            if !served.domains.is_empty() {
                automatic_tls(tree, &served, &place, found);
            }
            if let Some(url) = served.public_url {
                tree.set("public_url", Value::Text(url), place);
            }
        }
        Err(message) => found.problems.push(Problem::new(place, message).hint(
            "certificates are ordered for public names on port 443 only: put a proxy before it \
             and write SERVER_NAME=:80 or SERVER_NAME=http://hub.example.com, or leave \
             SERVER_NAME out and set TIDINGS_TLS_LISTEN, TIDINGS_TLS_CERTIFICATE and \
             TIDINGS_TLS_KEY",
        )),
    }
}

/// A name alone means a certificate for it, as in the image.
fn automatic_tls(tree: &mut Node, served: &Served, place: &Place, found: &mut Found) {
    words(tree, "tls.listen", "0.0.0.0:443", place);
    words(tree, "tls.acme.domains", &served.domains.join(" "), place);
    tree.set("tls.acme.accept_terms", Value::Boolean(true), place.clone());
    tree.set("tls.redirect", Value::Boolean(served.redirect), place.clone());
    found.notes.push(format!(
        "SERVER_NAME: a certificate for {} comes from an ACME server (TIDINGS_TLS_ACME_DIRECTORY, \
         else Let's Encrypt), whose terms of service are accepted by that",
        served.domains.join(", ")
    ));
}

fn without_equivalent(variables: &Variables, name: &str, found: &mut Found) {
    if variables.get(name).is_some() {
        let place = Place::Variable(name.to_owned());
        found.problems.push(
            Problem::new(place, "has no equivalent in this program and would have no effect")
                .hint("take it out, or configure the hub with a file: `tidings config` shows all"),
        );
    }
}

/// A name that is nearly one of the image's. Other programs' variables begin the same way, so
/// what is far from all of them is nobody's mistake.
fn misspelled(variables: &Variables, found: &mut Found) {
    let ours = variables.iter().map(|(name, _)| name).filter(|name| name.starts_with("MERCURE_"));
    for name in ours.filter(|name| !PRESENT.contains(name)) {
        let known = ["MERCURE_URL", "MERCURE_PUBLIC_URL", "MERCURE_JWT_SECRET", "MERCURE_LICENSE"];
        if known.contains(&name) {
            continue;
        }
        if let Some(near) = nearest(name, PRESENT) {
            let place = Place::Variable(name.to_owned());
            let problem = Problem::new(place, "is not a variable of the Mercure hub");
            found.problems.push(problem.hint(format!("did you mean {near}?")));
        }
    }
}

fn from_legacy(tree: &mut Node, variables: &Variables, found: &mut Found) {
    for name in LEGACY_WITHOUT_EQUIVALENT {
        without_equivalent(variables, name, found);
    }
    for name in LEGACY_TLS.into_iter().filter(|name| variables.get(name).is_some()) {
        let place = Place::Variable(name.to_owned());
        found.problems.push(Problem::new(place, "is not read: TLS is set up by other names").hint(
            "take it out and set TIDINGS_TLS_LISTEN with TIDINGS_TLS_CERTIFICATE and \
             TIDINGS_TLS_KEY, or with TIDINGS_TLS_ACME_DOMAINS",
        ));
    }
    let mut translation = Translation::default();
    for role in ["publisher", "subscriber"] {
        let own = format!("{}_JWT", role.to_ascii_uppercase());
        let prefix = [own.as_str(), "JWT"]
            .into_iter()
            .find(|prefix| variables.get(&format!("{prefix}_KEY")).is_some());
        if let Some(prefix) = prefix {
            let key = format!("{prefix}_KEY");
            let algorithm = variables.get(&format!("{prefix}_ALGORITHM"));
            let text = variables.get(&key).unwrap_or_default();
            translation.key(role, text, algorithm, &Place::Variable(key));
        }
    }
    for (name, value) in variables.iter() {
        let place = Place::Variable(name.to_owned());
        match name {
            "ALLOW_ANONYMOUS" => {
                tree.set("auth.anonymous", Value::Text(value.to_owned()), place);
            }
            "PUBLISH_ALLOWED_ORIGINS" => words(tree, "mercure.publish_origins", value, &place),
            // The first is what the second was called before.
            "DISPATCH_SUBSCRIPTIONS" | "SUBSCRIPTIONS" => {
                tree.set("mercure.subscriptions", Value::Text(value.to_owned()), place);
            }
            "CORS_ALLOWED_ORIGINS" => words(tree, "mercure.cors_origins", value, &place),
            "ADDR" => match server_name::parse(value) {
                Ok(served) if !served.domains.is_empty() => found.problems.push(
                    Problem::new(place, "names a host, which means TLS there")
                        .hint("write a port, as in ADDR=:80"),
                ),
                Ok(served) => {
                    let listen = served.listen.join(",");
                    tree.set("listen", Value::Text(listen), place);
                }
                Err(message) => found.problems.push(Problem::new(place, message)),
            },
            "DB_PATH" => directives::beside(tree, value, &place, found),
            "TRANSPORT_URL" => directives::storage_url(tree, value, &place, found),
            "HISTORY_SIZE" => directives::entries(tree, value, &place),
            "HEARTBEAT_INTERVAL" => or_off(tree, "mercure.heartbeat", value, &place),
            "WRITE_TIMEOUT" => or_off(tree, "mercure.connection_age_max", value, &place),
            "DEBUG" if matches!(value, "1" | "true") => {
                tree.set("log.level", Value::Text("debug".to_owned()), place);
            }
            "LOG_FORMAT" => {
                let format = if value.eq_ignore_ascii_case("json") { "json" } else { "text" };
                tree.set("log.format", Value::Text(format.to_owned()), place);
            }
            _ => {}
        }
    }
    issuers(tree, ISSUER_DEFAULT, &Place::Default, translation, found);
}

/// A list of words, separated by spaces or commas.
pub(super) fn words(tree: &mut Node, path: &str, text: &str, place: &Place) {
    let words = text.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty());
    let list = words.map(|word| Node::text(word, place.clone())).collect();
    tree.set(path, Value::List(list), place.clone());
}

/// A duration; zero switches off in the other hub.
pub(super) fn or_off(tree: &mut Node, path: &str, text: &str, place: &Place) {
    let zero = duration::parse(text).is_ok_and(|duration| duration.is_zero());
    let text = if zero { "off" } else { text };
    tree.set(path, Value::Text(text.to_owned()), place.clone());
}
