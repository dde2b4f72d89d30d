//! From a command line to a [`Config`]: reads the layers, checks them as a whole, and refuses
//! with everything that is wrong. Knows what settings mean together.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidings_core::limits::{
    HOLD_BYTES_DEFAULT, HOLD_BYTES_IN_MEMORY_DEFAULT, KEEP_BYTES_IN_MEMORY_DEFAULT,
};
use tidings_frontends::auth::{
    Generation, IssuerOptions, KeyOptions, OwnIssuer, Role, check_key, read_key_file,
};
use url::Url;

use super::connectors::{self, Connectors};
use super::mistakes::{Mistakes, Problem, Shown};
use super::options::{AdminOptions, Durability, HistoryOptions, HistorySettings, Settings};
use super::value::{Node, Place, steps};
use super::variables::Variables;
use super::{Config, check, document, environment, image, level, size};
use crate::limits::{ADMIN_TOKEN_BYTES_MIN, CONFIG_BYTES_MAX, HEARTBEAT_MIN, ISSUERS_MAX};

/// The configuration of `tidings serve`: the file at `path` (else the file that `TIDINGS_CONFIG`
/// names, else the environment of the Mercure hub's image) under the process's environment.
pub fn load(path: Option<&Path>) -> Result<Config, Mistakes> {
    let (variables, problems) = Variables::of_process(Path::new("."));
    if !problems.is_empty() {
        return Err(Mistakes::new(None, problems));
    }
    let named = variables.get("TIDINGS_CONFIG").map(PathBuf::from);
    match path.map(Path::to_owned).or(named) {
        Some(path) => {
            let text = read(&path)?;
            from_text(&path.to_string_lossy(), &text, &variables)
        }
        None => from_variables(&variables),
    }
}

/// The configuration in `text`, which came from the file `name`, under `variables`.
pub fn from_text(name: &str, text: &str, variables: &Variables) -> Result<Config, Mistakes> {
    let (mut tree, mut problems) = document::parse(text);
    let shown = Shown::new(name, text, &tree);
    problems.extend(environment::apply(&mut tree, variables));
    finish(&tree, problems, Vec::new()).map_err(|problems| Mistakes::new(Some(shown), problems))
}

/// The configuration of a hub without a file.
pub fn from_variables(variables: &Variables) -> Result<Config, Mistakes> {
    let mut tree = Node::table(Place::Whole);
    let mut found = image::apply(&mut tree, variables);
    let mut problems = std::mem::take(&mut found.problems);
    problems.extend(environment::apply(&mut tree, variables));
    image::settle(&mut tree, &mut found);
    finish(&tree, problems, found.notes).map_err(|problems| Mistakes::new(None, problems))
}

fn read(path: &Path) -> Result<String, Mistakes> {
    let name = path.display();
    let wrong = |error: String| {
        Mistakes::one(format!("{name}: {error}"), "`tidings config` prints a file to begin with")
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(error.to_string()))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > CONFIG_BYTES_MAX) {
        return Err(wrong(format!("is larger than {}", size::render(CONFIG_BYTES_MAX))));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        wrong(format!("line {line} is not UTF-8"))
    })
}

/// Checks a complete tree and makes the configuration of it.
pub(super) fn finish(
    tree: &Node,
    mut problems: Vec<Problem>,
    notes: Vec<String>,
) -> Result<Config, Vec<Problem>> {
    let (complete, wrong) = check::check(tree);
    problems.extend(wrong);
    let (connectors, wrong) = connectors::read(tree);
    problems.extend(wrong);
    if !problems.is_empty() {
        return Err(problems);
    }
    let settings = Settings::deserialize(complete).map_err(|error| {
        let message = format!("the configuration cannot be read: {}", error.message());
        vec![Problem::new(Place::Whole, message)]
    })?;
    let mut meaning = Meaning { tree, problems };
    let config = meaning.config(settings, connectors, notes);
    if meaning.problems.is_empty() { Ok(config) } else { Err(meaning.problems) }
}

/// What settings mean together.
pub(super) struct Meaning<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
}

impl Meaning<'_> {
    pub(super) fn wrong(
        &mut self,
        path: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem::new(self.tree.place_of(path), message).hint(hint));
    }

    fn is_written(&self, path: &str) -> bool {
        self.tree.find(&steps(path)).is_some()
    }

    fn config(
        &mut self,
        settings: Settings,
        connectors: Connectors,
        mut notes: Vec<String>,
    ) -> Config {
        self.listeners(&settings);
        self.streams(&settings);
        self.issuers(&settings);
        if let Err((message, hint)) = level::check(&settings.log.level) {
            self.wrong("log.level", format!("`level` {message}"), hint);
        }
        let public_url = self.public_url(&settings);
        self.own_issuer(&settings, &public_url);
        let admin = self.admin(settings.admin);
        let history = self.history(settings.history);
        let courier = self.courier(settings.courier, &public_url, &mut notes);
        Config {
            sinks: connectors.sinks,
            sources: connectors.sources,
            webhooks: self.webhooks(settings.webhooks, &history),
            tls: self.tls(settings.tls, &history, &public_url, &mut notes),
            history,
            listen: settings.listen,
            has_public_url: settings.public_url.is_some(),
            public_url,
            hub_path: settings.hub_path,
            auth: settings.auth,
            mercure: settings.mercure,
            websocket: settings.websocket,
            http: settings.http,
            tokens: settings.tokens,
            admin,
            log: settings.log,
            courier,
            is_relay: false,
            is_courier: false,
            dev: None,
            notes,
        }
    }

    fn listeners(&mut self, settings: &Settings) {
        if settings.listen.is_empty() && settings.tls.listen.is_empty() {
            self.wrong("listen", "`listen` is empty", "as in listen = \"0.0.0.0:3000\"");
        }
        let mut seen = BTreeSet::new();
        let clients = settings.listen.iter().chain(&settings.tls.listen);
        let fixed = clients.chain(&settings.admin.listen);
        let twice =
            fixed.filter(|address| address.port() != 0).find(|address| !seen.insert(*address));
        if let Some(address) = twice {
            let path = if settings.admin.listen.is_some_and(|admin| admin == *address) {
                "admin.listen"
            } else if settings.tls.listen.contains(address) {
                "tls.listen"
            } else {
                "listen"
            };
            self.wrong(path, format!("{address} is listened on twice"), "take another port");
        }
    }

    /// With the token, wherever it comes from.
    fn admin(&mut self, mut admin: AdminOptions) -> AdminOptions {
        let mut place = "admin.token";
        if let Some(path) = admin.token_file.take() {
            place = "admin.token_file";
            if admin.token.is_some() {
                self.wrong(place, "`token` is set, too", "set one of them");
            }
            match read_key_file(&path).map(String::from_utf8) {
                Ok(text) => admin.token = text.ok().or(Some(String::new())),
                Err(flaw) => self.wrong(place, flaw.to_string(), "a file with the token alone"),
            }
        }
        let Some(token) = &admin.token else { return admin };
        if !is_admin_token(token) {
            self.wrong(
                place,
                format!("the admin token is no {ADMIN_TOKEN_BYTES_MIN} visible characters or more"),
                "make one with `openssl rand -hex 32`",
            );
        }
        admin
    }

    fn streams(&mut self, settings: &Settings) {
        let mercure = &settings.mercure;
        if mercure.heartbeat.is_some_and(|heartbeat| heartbeat < HEARTBEAT_MIN) {
            let hint = "1s at least, or \"off\"";
            self.wrong("mercure.heartbeat", "`heartbeat` is too short", hint);
        }
        if mercure.connection_age_max.is_some_and(|age| age < HEARTBEAT_MIN) {
            let hint = "1s at least, or \"off\"";
            self.wrong("mercure.connection_age_max", "`connection_age_max` is too short", hint);
        }
        if settings.websocket.enabled && settings.websocket.path == settings.hub_path {
            let hint = "take another one: the hub itself is there";
            self.wrong("websocket.path", "`path` is `hub_path`", hint);
        }
        if settings.http.header_timeout.is_zero() {
            let hint = "some seconds: slow clients would hold connections for ever";
            self.wrong("http.header_timeout", "`header_timeout` is zero", hint);
        }
        if settings.http.write_timeout.is_zero() {
            let hint = "some seconds: networks have pauses";
            self.wrong("http.write_timeout", "`write_timeout` is zero", hint);
        }
    }

    fn public_url(&mut self, settings: &Settings) -> Url {
        let written = settings.public_url.as_deref().and_then(|text| Url::parse(text).ok());
        if let Some(url) = written {
            return url;
        }
        let mut accepting = settings.auth.issuer.iter();
        if let Some(index) = accepting.position(|issuer| issuer.accept.contains(&Generation::Final))
        {
            self.wrong(
                &format!("auth.issuer[{index}].accept"),
                "`public_url` is needed: this issuer accepts \"1.0\", whose tokens are made for it",
                "public_url = \"https://hub.example.com\", as clients write it",
            );
        }
        let port = settings.listen.first().map_or(0, std::net::SocketAddr::port);
        let mut url = Url::parse("http://localhost").expect("a constant URL");
        // Only URLs without a host refuse a port.
        let _ = url.set_port(Some(port));
        url
    }

    fn history(&mut self, mut settings: HistorySettings) -> HistoryOptions {
        let memory = settings.durability == Durability::Memory;
        if memory && !self.is_written("history.keep.size") {
            settings.keep.size = Some(KEEP_BYTES_IN_MEMORY_DEFAULT);
        }
        if memory && self.is_written("history.path") {
            self.wrong(
                "history.path",
                "`path` is set, but durability \"memory\" has no file",
                "leave `path` out, or choose \"fsync\" or \"written\"",
            );
        }
        let (size, segment) = (settings.keep.size, settings.segment_size);
        if !memory && size.is_some_and(|size| size < segment.saturating_mul(2)) {
            self.wrong(
                "history.keep.size",
                format!("`size` is less than two files of {}", size::render(segment)),
                "files are deleted whole: make `segment_size` smaller or `size` larger",
            );
        }
        for (path, zero) in [
            ("history.keep.age", settings.keep.age.is_some_and(|age| age.is_zero())),
            ("history.keep.size", size == Some(0)),
            ("history.keep.entries", settings.keep.entries == Some(0)),
        ] {
            if zero {
                self.wrong(path, "nothing would be kept", "\"off\" sets no bound");
            }
        }
        HistoryOptions {
            path: (!memory).then_some(settings.path),
            durability: settings.durability,
            keep: settings.keep,
            segment_bytes: settings.segment_size,
            hold_bytes: settings.hold.unwrap_or(match settings.durability {
                Durability::Memory => HOLD_BYTES_IN_MEMORY_DEFAULT,
                Durability::Fsync | Durability::Written => HOLD_BYTES_DEFAULT,
            }),
        }
    }

    fn issuers(&mut self, settings: &Settings) {
        let auth = &settings.auth;
        if auth.issuer.is_empty() {
            self.wrong(
                "auth",
                "nobody could publish: there is no [[auth.issuer]]",
                "write one, as `tidings config` shows; `tidings dev` needs none",
            );
        }
        if auth.issuer.len() > ISSUERS_MAX {
            self.wrong(
                "auth.issuer",
                "there are too many issuers",
                format!("{ISSUERS_MAX} at most"),
            );
        }
        let mut ids = BTreeSet::new();
        for (index, issuer) in auth.issuer.iter().enumerate() {
            let path = format!("auth.issuer[{index}]");
            if !ids.insert(&issuer.id) {
                let message = format!("the issuer {:?} is there twice", issuer.id);
                self.wrong(&format!("{path}.id"), message, "put its keys into one table");
            }
            self.issuer(&path, issuer, auth.allow_weak_keys);
        }
    }

    /// No issuer of others has the name of the hub's own.
    fn own_issuer(&mut self, settings: &Settings, public_url: &Url) {
        let own = OwnIssuer::id_of(public_url);
        if let Some(index) = settings.auth.issuer.iter().position(|issuer| issuer.id == own) {
            let path = format!("auth.issuer[{index}].id");
            self.wrong(&path, format!("{own:?} is the hub's own issuer"), "take another name");
        }
    }

    /// What is written for a set where there is one key, and the other way round, does nothing.
    fn set_or_key(&mut self, path: &str, issuer: &IssuerOptions, role: Role) {
        let Some(key) = issuer.key(role) else { return };
        let is_set = key.key.is_none() && key.key_file.is_none();
        let (useless, other): (&[&str], _) = match is_set {
            true => (&["algorithm", "kid"], "a key set takes a list: algorithms = [\"ES256\"]"),
            false => (&["algorithms"], "one key takes one: algorithm = \"ES256\""),
        };
        for name in useless {
            let place = format!("{path}.{role}.{name}");
            if self.is_written(&place) {
                self.wrong(&place, format!("`{name}` has no effect here"), other);
            }
        }
    }

    fn issuer(&mut self, path: &str, issuer: &IssuerOptions, allow_weak: bool) {
        if issuer.accept.is_empty() {
            let hint = "accept = [\"1.0\"]";
            self.wrong(&format!("{path}.accept"), "`accept` is empty", hint);
        }
        if issuer.publish.is_none() && issuer.subscribe.is_none() && !issuer.discover {
            let hint = "publish = { key_file = \"/run/secrets/publisher.key\" }";
            self.wrong(path, format!("the issuer {:?} has no key", issuer.id), hint);
        }
        for role in [Role::Publish, Role::Subscribe] {
            self.set_or_key(path, issuer, role);
            if let Err(flaw) = check_key(issuer, role, allow_weak) {
                let place = key_place(&format!("{path}.{role}"), issuer.key(role));
                self.problems.push(Problem::new(self.tree.place_of(&place), flaw.to_string()));
            }
        }
    }
}

/// Whether a token is long enough for operators, and can stand in a header.
pub(crate) fn is_admin_token(token: &str) -> bool {
    token.len() >= ADMIN_TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where a key is written, below the table at `path`.
fn key_place(path: &str, key: Option<&KeyOptions>) -> String {
    match key.map(|key| (key.key.is_some(), key.key_file.is_some(), key.jwks.is_some())) {
        Some((true, false, false)) => format!("{path}.key"),
        Some((false, true, false)) => format!("{path}.key_file"),
        Some((false, false, true)) => format!("{path}.jwks"),
        _ => path.to_owned(),
    }
}
