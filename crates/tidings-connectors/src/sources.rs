//! The sources that run: started from what they are told, and ended. Knows no system but by its
//! source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tidings_core::{AUDIENCE_PREFIX, Grant, Hub, Language, Matcher, TokenIdentity, audience};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::ingest::{Admission, Source, ingest};
use crate::limits::INCOMING_MAX;
use crate::nats;
use crate::recalled::positions;
use crate::specification::SourceSpecification;

/// A source that is to run.
pub struct WantedSource {
    /// What it is told.
    pub told: SourceSpecification,
    /// The system.
    pub source: Box<dyn Source>,
}

/// A source that runs.
struct One {
    told: SourceSpecification,
    stop: CancellationToken,
    /// Its two halves: what brings updates, and what publishes them.
    tasks: JoinSet<()>,
    nats: Option<Arc<nats::Counters>>,
}

/// All sources that run.
pub struct Sources {
    hub: Hub,
    running: Mutex<BTreeMap<String, One>>,
}

/// What a source may publish: every topic, but of audiences only those that the operator's own
/// options name. Whoever may publish to its system is not let into others for that.
fn grant(hub: &Hub, told: &SourceSpecification) -> Grant {
    let mut audiences = BTreeSet::new();
    told.from.options.values().for_each(|option| named_in(option, &mut audiences));
    let own = audiences.iter().map(|id| format!("{AUDIENCE_PREFIX}{id}"));
    let patterns = own.flat_map(|own| {
        [(Language::UriTemplate, format!("{own}:{{+topic}}")), (Language::Exact, own)]
    });
    // What is too long for a pattern is no audience's name either.
    let named = patterns.filter_map(|(language, text)| hub.matcher(language, &text).ok());
    let publish = std::iter::once(Arc::new(Matcher::Any)).chain(named).collect();
    // Keys of one source's messages never meet those of another or of a publisher.
    let token = TokenIdentity {
        issuer: Some("tidings:source".into()),
        subject: Some(told.name.as_str().into()),
        ..TokenIdentity::default()
    };
    Grant { publish, token, ..Grant::default() }
}

/// The audiences to whose topics an option leads.
fn named_in(option: &Value, audiences: &mut BTreeSet<String>) {
    match option {
        Value::String(text) => {
            // Such as a UUID, and nothing that means more in a pattern.
            let is_id = |id: &&str| {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                !id.is_empty() && id.bytes().all(is_plain)
            };
            audiences.extend(audience(text).filter(is_id).map(str::to_owned));
        }
        Value::Array(items) => items.iter().for_each(|item| named_in(item, audiences)),
        Value::Object(fields) => fields.values().for_each(|field| named_in(field, audiences)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Sources {
    /// None yet.
    pub fn new(hub: Hub) -> Sources {
        Sources { hub, running: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, One>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a source. It connects by itself, now or whenever its system is there. The answer
    /// ends when that is known for the first time.
    pub fn start(&self, wanted: WantedSource) -> Admission {
        let WantedSource { told, source } = wanted;
        let (admission, nats) = (source.admission(), source.nats());
        let (to, from) = mpsc::channel(INCOMING_MAX);
        let stop = CancellationToken::new();
        let (hub, name) = (self.hub.clone(), told.name.clone());
        let grant = grant(&hub, &told);
        let mut tasks = JoinSet::new();
        let (recalled, stopped) = ((hub.clone(), name.clone()), stop.clone());
        tasks.spawn(async move {
            let mut source = source;
            if let Some(known) = source.recalls() {
                let (hub, name) = recalled;
                let read = tokio::task::spawn_blocking(move || positions(&hub, &name));
                *known = read.await.unwrap_or_default();
            }
            source.run(to, stopped).await;
        });
        tasks.spawn(async move { ingest(&name, hub, grant, from).await });
        self.lock().insert(told.name.clone(), One { told, stop, tasks, nats });
        admission
    }

    /// What the sources that run are told.
    pub fn told(&self) -> Vec<SourceSpecification> {
        self.lock().values().map(|one| one.told.clone()).collect()
    }

    /// What their connections to NATS count, by their names in order.
    pub fn nats(&self) -> Vec<(String, Arc<nats::Counters>)> {
        let all = self.lock();
        let counted = all.iter().filter_map(|(name, one)| Some((name, one.nats.as_ref()?)));
        counted.map(|(name, nats)| (name.clone(), Arc::clone(nats))).collect()
    }

    /// Ends one source: what it has taken is published and acknowledged, for as long as `patience`.
    pub async fn stop(&self, name: &str, patience: Duration) {
        let Some(one) = self.lock().remove(name) else { return };
        end(vec![one], patience).await;
    }

    /// Ends all, as [`Sources::stop`].
    pub async fn end(&self, patience: Duration) {
        let all = std::mem::take(&mut *self.lock());
        end(all.into_values().collect(), patience).await;
    }
}

async fn end(mut ending: Vec<One>, patience: Duration) {
    ending.iter().for_each(|one| one.stop.cancel());
    let ended = async {
        for one in &mut ending {
            while one.tasks.join_next().await.is_some() {}
        }
    };
    if tokio::time::timeout(patience, ended).await.is_err() {
        tracing::warn!("a source was cut off: what it did not acknowledge comes again");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidings_core::Candidate;

    use super::*;
    use crate::in_memory::{self, Still};
    use crate::specification::SystemOptions;

    #[test]
    fn a_source_publishes_to_an_audience_only_where_the_operator_names_it() {
        let hub = in_memory::hub(Arc::new(Still(1)), 1_000);
        let id = "8a9c4f6e-7d1b-4f53-9c0e-3b1f0a2d4c5e";
        let (own, other) =
            (format!("{AUDIENCE_PREFIX}{id}:a%2Fb"), format!("{AUDIENCE_PREFIX}{id}x:a"));
        let may = |options: Value, topic: &str| {
            let options = options.as_object().unwrap().clone();
            let from = SystemOptions { kind: "nats".to_owned(), options };
            let told = SourceSpecification { name: "s".to_owned(), private: true, from };
            grant(&hub, &told).covers_publishing(&Candidate::new(topic, hub.namespace()))
        };
        let strange = json!({"subjects": [">"]});
        assert!(may(strange.clone(), "a.b") && !may(strange, &own));
        let named = json!({"topic": {"replace": ["x.", format!("{AUDIENCE_PREFIX}{id}:")]}});
        assert!(may(named.clone(), &own) && may(named.clone(), "a.b") && !may(named, &other));
        assert!(may(json!({"subjects": [own]}), &own));
        assert!(!may(json!({"subjects": [AUDIENCE_PREFIX]}), &own));
        assert!(!may(json!({"subjects": [format!("{AUDIENCE_PREFIX}{{any}}:x")]}), &own));
    }
}
