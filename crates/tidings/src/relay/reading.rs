//! The variables that only a relay has: what each holds, or what to write instead. Knows neither
//! where variables come from nor what they are for.

use std::time::Duration;

use tidings_connectors::limits::{EXCHANGE_TIMEOUT_MAX, RELAY_TIMEOUT_DEFAULT, TIMEOUT_MIN};
use tidings_connectors::span;
use tidings_core::matcher::NatsSubject;

use super::addresses::{self, Destination};
use crate::reading::Reading;

impl Reading<'_> {
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
