//! The configuration of `tidings relay`: a NATS source, a webhook, and a NATS sink for what the
//! webhook has answered, around a hub that serves nobody unless it is told to.

use rustix::system::uname;
use serde_json::json;
use tidings_connectors::hash;
use tidings_connectors::specification::{self, BadOption};

use super::load::from_text;
use super::mistakes::Mistakes;
use super::variables::Variables;
use super::{Config, Durability};
use crate::relay::RelaySettings;

/// What a relay has of a hub: nobody comes in, and little is kept.
const BASE: &str = r#"
public_url = "http://localhost"
[history]
durability = "memory"
keep = { age = "1h", size = "256 MiB" }
[auth]
anonymous = true
[[auth.issuer]]
id = "https://relay.invalid"
accept = ["1.0"]
publish = { key = "KEY", algorithm = "HS256" }
[mercure]
update_size_max = "16 MiB"
[admin]
listen = "off"
"#;
/// How often and how long a message is tried again before it is given up.
const RETRY: (&str, &str, &str) = ("250ms", "30s", "15m");

/// The configuration for these settings.
///
/// # Errors
///
/// What is wrong with them beyond what [`RelaySettings`] knows.
pub fn relay(settings: &RelaySettings) -> Result<Config, Mistakes> {
    // Nobody else publishes: the key is known nowhere.
    let key = fresh_key().map_err(|error| Mistakes::one(error.to_string(), "try again"))?;
    let mut config = from_text("relay", &BASE.replace("KEY", &key), &Variables::default())?;
    config.is_relay = true;
    config.listen = settings.listen.into_iter().collect();
    config.admin.listen = settings.admin_listen;
    config.admin.token.clone_from(&settings.admin_token);
    if let Some(log) = &settings.log {
        config.log.level.clone_from(log);
    }
    match &settings.data {
        Some(data) => {
            config.history.path = Some(data.clone());
            config.history.durability = Durability::Fsync;
            config.webhooks.key_file = Some(data.join("webhooks.key"));
        }
        None => config.notes.push(
            "what was taken from NATS and not delivered is lost when this process ends: \
             TIDINGS_DATA names a folder where it is kept"
                .to_owned(),
        ),
    }
    config.sinks = vec![
        specification::sink(&webhook(settings)).map_err(|bad| mistakes(&bad))?,
        specification::sink(&relayed(settings)).map_err(|bad| mistakes(&bad))?,
    ];
    config.sources = vec![specification::source(&source(settings)).map_err(|bad| mistakes(&bad))?];
    Ok(config)
}

pub(super) fn fresh_key() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What a topic begins with that was taken from NATS, and one that goes back there. Whatever the
/// prefixes are, the hub never takes one for the other.
const TAKEN: &str = "taken.";
const RELAYED: &str = "relayed.";

fn below(prefix: &str) -> String {
    format!("{prefix}.>")
}

fn webhook(settings: &RelaySettings) -> serde_json::Value {
    let (first, max, give_up_after) = RETRY;
    let mut webhook = json!({
        "kind": "webhook",
        "name": "webhook",
        "topics": [{ "nats": below("taken") }],
        "url": settings.destination.as_str(),
        "success": [200],
        "timeout": tidings_connectors::span::render(settings.timeout),
        "retry": { "first": first, "max": max, "give_up_after": give_up_after },
        "then": { "publish": {
            "replace": [
                format!("{TAKEN}{}", settings.subject_prefix),
                format!("{RELAYED}{}", settings.relayed_prefix),
            ],
        } },
    });
    if let (Some(webhook), Some((user, password))) = (webhook.as_object_mut(), &settings.basic) {
        webhook.insert("basic".to_owned(), json!({ "user": user, "password": password }));
    }
    webhook
}

fn relayed(settings: &RelaySettings) -> serde_json::Value {
    server(
        settings,
        json!({
            "kind": "nats",
            "name": "relayed",
            "topics": [{ "nats": below("relayed") }],
            "subject": { "replace": [RELAYED, ""] },
            "headers": false,
        }),
    )
}

fn source(settings: &RelaySettings) -> serde_json::Value {
    let taken = format!("{TAKEN}{}", settings.subject_prefix);
    let mut source = json!({
        "kind": "nats",
        "name": "nats",
        "subjects": [below(&settings.subject_prefix)],
        "topic": { "replace": [settings.subject_prefix, taken] },
        "queue_group": group(settings, &uname().nodename().to_string_lossy()),
    });
    if settings.relayed_prefix.starts_with(&below(&settings.subject_prefix).replace('>', ""))
        && let Some(source) = source.as_object_mut()
    {
        // What is relayed would be taken again, and never end.
        source.insert("except".to_owned(), json!([below(&settings.relayed_prefix)]));
    }
    server(settings, source)
}

/// Relays that do the same share the work; others hear everything. A destination such as
/// `localhost` is another one on each machine: those who work on the same site, each with their own
/// copy of it, all hear everything.
fn group(settings: &RelaySettings, machine: &str) -> String {
    let machine = if settings.is_destination_of_machine() { machine } else { "" };
    let RelaySettings { destination, subject_prefix, relayed_prefix, .. } = settings;
    let same = [destination.as_str(), subject_prefix, relayed_prefix, machine];
    format!("tidings-relay-{:016x}", hash::stable(same.join("\0").as_bytes()))
}

fn server(settings: &RelaySettings, mut told: serde_json::Value) -> serde_json::Value {
    if let Some(told) = told.as_object_mut() {
        told.insert("url".to_owned(), json!(settings.servers.join(",")));
        if !settings.user.is_empty() || !settings.password.is_empty() {
            told.insert("user".to_owned(), json!(settings.user));
            told.insert("password".to_owned(), json!(settings.password));
        }
    }
    told
}

fn mistakes(bad: &[BadOption]) -> Mistakes {
    let lines: Vec<String> =
        bad.iter().map(|one| format!("{} {}", one.path, one.message)).collect();
    Mistakes::one(lines.join("; "), "see the variables of `tidings relay --help`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_share_messages_only_where_they_post_to_the_same_place() {
        let settings = |destination: &str| {
            let variables = [
                ("WEBHOOK_DESTINATION", destination),
                ("NATS_ADDRESS", "nats"),
                ("NATS_USER", ""),
                ("NATS_PASS", ""),
                ("NATS_SUBJECT_PREFIX", "cms.cache"),
                ("NATS_RELAYED_SUBJECT_PREFIX", "relayed.cache"),
            ];
            RelaySettings::of(&variables.into()).unwrap()
        };
        let public = settings("https://shop.example.com/api/cache/webhook");
        assert_ne!(group(&public, "one"), group(&settings("https://shop.example.com/"), "one"));
        // Replicas of one deployment reach the same service by these, wherever they run.
        for shared in ["https://shop.example.com/", "http://next:3000/", "http://192.168.1.2/"] {
            let shared = settings(shared);
            assert_eq!(group(&shared, "one"), group(&shared, "two"), "{:?}", shared.destination);
        }
        for own in ["http://localhost:3000/api", "http://host.docker.internal/"] {
            let own = settings(own);
            assert_eq!(group(&own, "one"), group(&own, "one"));
            assert_ne!(group(&own, "one"), group(&own, "two"), "{:?}", own.destination);
        }
    }
}
