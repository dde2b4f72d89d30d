//! Each variable of a relay by itself: what it holds, or what to write instead. Knows neither
//! where variables come from nor what they are for.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tidings_connectors::limits::{EXCHANGE_TIMEOUT_MAX, RELAY_TIMEOUT_DEFAULT, TIMEOUT_MIN};
use tidings_connectors::span;
use tidings_core::matcher::NatsSubject;

use super::addresses::{self, Destination};
use crate::config::{Variables, is_admin_token, read_secret};
use crate::limits::ADMIN_TOKEN_BYTES_MIN;

/// Reads variables, and gathers what is wrong with them.
pub(super) struct Reading<'a> {
    pub(super) variables: &'a Variables,
    /// Names of variables, what is wrong with each, and what to do.
    pub(super) wrong: Vec<(&'static str, String, String)>,
}

impl<'a> Reading<'a> {
    /// Messages repeat no value: each may hold a password.
    pub(super) fn say(&mut self, name: &'static str, message: &str, hint: &str) {
        self.wrong.push((name, message.to_owned(), hint.to_owned()));
    }

    /// A variable that must be set to something.
    fn required(&mut self, name: &'static str, example: &str) -> Option<&'a str> {
        let value = self.variables.get_even_empty(name);
        match value {
            None => self.say(name, "is not set", &format!("{name}={example}")),
            Some(value) if value.trim().is_empty() => {
                self.say(name, "is empty", &format!("{name}={example}"));
            }
            Some(value) => return Some(value.trim()),
        }
        None
    }

    /// A variable that must be set, to nothing where the server asks for no login.
    pub(super) fn login(&mut self, name: &'static str) -> Option<String> {
        let value = self.variables.get_even_empty(name);
        if value.is_none() {
            let hint = format!("set it to nothing where the server asks for no login: {name}=");
            self.say(name, "is not set", &hint);
        }
        value.map(str::to_owned)
    }

    pub(super) fn destination(&mut self) -> Option<Destination> {
        const NAME: &str = "WEBHOOK_DESTINATION";
        const EXAMPLE: &str = "http://localhost:3000/api/cache/webhook";
        let text = self.required(NAME, EXAMPLE)?;
        match addresses::destination(text) {
            Some(destination) => Some(destination),
            None => {
                self.say(NAME, "is not an http:// or https:// URL", &format!("as in {EXAMPLE}"));
                None
            }
        }
    }

    /// `NATS_ADDRESS`, else `NATS_HOST`.
    pub(super) fn servers(&mut self) -> Option<Vec<String>> {
        const EXAMPLE: &str = "nats://localhost:4222";
        let is_set = |name| self.variables.get_even_empty(name).is_some();
        let name = match is_set("NATS_ADDRESS") || !is_set("NATS_HOST") {
            true => "NATS_ADDRESS",
            false => "NATS_HOST",
        };
        let text = self.required(name, EXAMPLE)?;
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let servers: Option<Vec<String>> = parts.map(addresses::server).collect();
        match servers {
            Some(servers) if !servers.is_empty() => Some(servers),
            _ => {
                let hint = format!("as in {EXAMPLE}; several are separated by commas");
                self.say(name, "is not the address of a NATS server", &hint);
                None
            }
        }
    }

    pub(super) fn prefix(&mut self, name: &'static str, example: &str) -> Option<String> {
        let text = self.required(name, example)?;
        let is_plain = !text.split('.').any(|part| part == "*" || part == ">");
        if is_plain && NatsSubject::parse(&format!("{text}.>")).is_ok() {
            return Some(text.to_owned());
        }
        let hint = format!("words with dots between them, without wildcards, as in {example}");
        self.say(name, "is not the begin of a NATS subject", &hint);
        None
    }

    pub(super) fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        let text = self.variables.get(name).filter(|text| *text != "off")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.say(name, "is not an address", "write IP and port, as in 127.0.0.1:3001");
        }
        address
    }

    /// `TIDINGS_ADMIN_TOKEN`, or what is in the file that `TIDINGS_ADMIN_TOKEN_FILE` names.
    pub(super) fn admin_token(&mut self) -> Option<String> {
        const NAME: &str = "TIDINGS_ADMIN_TOKEN";
        const FILE: &str = "TIDINGS_ADMIN_TOKEN_FILE";
        let token = match (self.variables.get(NAME), self.variables.get(FILE)) {
            (Some(_), Some(_)) => {
                self.say(FILE, "TIDINGS_ADMIN_TOKEN is set, too", "set one of them");
                return None;
            }
            (Some(token), None) => token.to_owned(),
            (None, Some(path)) => match read_secret(Path::new(path)) {
                Ok(token) => token,
                Err(message) => {
                    self.say(FILE, &message, "a file with the token alone");
                    return None;
                }
            },
            (None, None) => return None,
        };
        if !is_admin_token(&token) {
            let message = format!("is no {ADMIN_TOKEN_BYTES_MIN} visible characters or more");
            self.say(NAME, &message, "make one with `openssl rand -hex 32`");
        }
        Some(token)
    }

    /// `WEBHOOK_TIMEOUT`: a duration, or seconds without a unit.
    pub(super) fn timeout(&mut self) -> Option<Duration> {
        let Some(text) = self.variables.get("WEBHOOK_TIMEOUT") else {
            return Some(RELAY_TIMEOUT_DEFAULT);
        };
        let seconds = text.trim().parse().map(Duration::from_secs).ok();
        let time = seconds.or_else(|| span::parse(text).ok());
        let time = time.filter(|time| (TIMEOUT_MIN..=EXCHANGE_TIMEOUT_MAX).contains(time));
        if time.is_none() {
            let hint = format!("as in 30s, up to {}", span::render(EXCHANGE_TIMEOUT_MAX));
            self.say("WEBHOOK_TIMEOUT", "is not the time that a request may take", &hint);
        }
        time
    }
}
