//! `RUST_LOG` as it was set for a relay before: what this program can make of it. Such a setting
//! never keeps a relay from starting. Knows no log.

use crate::config::level;

/// The part of the program that such settings name.
const FORMER: [&str; 2] = ["nats_webhook_relay", "nats-webhook-relay"];
/// What everything here is called that stands in its place.
const OWN: &str = "tidings";
/// Where nothing of it can be used.
const DEFAULT: &str = "info";

/// What is logged for this text, and what is to be said when a part of it does not count.
pub(super) fn filter(text: &str) -> (String, Option<String>) {
    // An expression that messages were to match may stand behind a slash.
    let (levels, expression) = text.split_once('/').unwrap_or((text, ""));
    let mut taken = Vec::new();
    let mut is_left_out = !expression.is_empty();
    for directive in levels.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let directive = match directive.split_once('=') {
            Some((name, level)) if FORMER.contains(&name.trim()) => format!("{OWN}={level}"),
            None if FORMER.contains(&directive) => format!("{OWN}=debug"),
            _ => directive.to_owned(),
        };
        match level::check(&directive) {
            Ok(()) => taken.push(directive),
            Err(_) => is_left_out = true,
        }
    }
    if taken.is_empty() {
        taken.push(DEFAULT.to_owned());
    }
    let filter = taken.join(",");
    let note = is_left_out.then(|| {
        format!("RUST_LOG holds more than levels such as info or debug: it counts as {filter:?}")
    });
    (filter, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_set_before_sets_a_level() {
        for (text, taken, is_noted) in [
            ("info", "info", false),
            ("WARN", "WARN", false),
            ("off", "off", false),
            ("warn, hyper=info", "warn,hyper=info", false),
            ("nats_webhook_relay=debug", "tidings=debug", false),
            ("nats_webhook_relay,async_nats=off", "tidings=debug,async_nats=off", false),
            ("nats-webhook-relay=error", "tidings=error", false),
            ("info/Relayed", "info", true),
            ("verbose", "info", true),
            ("warn,async_nats", "warn", true),
            ("nats_webhook_relay=loud", "info", true),
            ("=,=", "info", true),
            ("", "info", false),
        ] {
            let (filter, note) = filter(text);
            assert_eq!((filter.as_str(), note.is_some()), (taken, is_noted), "{text}: {note:?}");
            assert_eq!(level::check(&filter), Ok(()), "{text}");
        }
    }
}
