//! Endpoints on a real hub: kept, changed, gone.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tidings_core::{Keep, Write};
use tokio::task::JoinSet;

use super::*;
use crate::attempts::{Attempts, AttemptsOptions};
use crate::in_memory::{self, Ticking};
use crate::records::SinkRecord;
use crate::webhook;

struct House {
    hub: Hub,
    sinks: Arc<Sinks>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    _recorder: JoinSet<()>,
}

fn house(folder: &Path) -> House {
    let clock = Ticking::begin();
    let hub = in_memory::hub(Arc::clone(&clock), 1 << 20);
    let options = AttemptsOptions { path: None, keep: Keep::default() };
    let (attempts, recorder) = Attempts::open(options, Arc::clone(&clock)).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(recorder.run());
    let sinks = Arc::new(Sinks::new(hub.clone(), Arc::clone(&clock), attempts));
    House { hub, sinks, clock, folder: folder.to_owned(), _recorder: tasks }
}

impl House {
    fn try_open(&self, configured: &[&str]) -> Result<Arc<Endpoints>, BadEndpoints> {
        let workshop = Workshop {
            source: "https://hub.example/".to_owned(),
            clock: Arc::clone(&self.clock),
            tls: webhook::tls().unwrap(),
            allow: Vec::new(),
        };
        let setting = Setting {
            hub: self.hub.clone(),
            clock: Arc::clone(&self.clock),
            sinks: Arc::clone(&self.sinks),
            workshop,
            key_file: Some(self.folder.join("key")),
            grants: Box::new(|_| Arc::new(Grant::operator())),
            configured: configured.iter().map(|name| (*name).to_owned()).collect(),
        };
        Endpoints::open(setting).map(Arc::new)
    }

    fn open(&self) -> Arc<Endpoints> {
        self.try_open(&["configured"]).unwrap()
    }
}

fn shop(more: &Value) -> Value {
    let mut written = json!({
        "kind": "webhook", "name": "shop", "topics": ["*"], "url": "https://shop.example/hook",
    });
    written.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    written
}

fn paths(problem: &EndpointProblem) -> Vec<&str> {
    match problem {
        EndpointProblem::Bad(found) => found.iter().map(|bad| bad.path.as_str()).collect(),
        other => panic!("{other}"),
    }
}

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn an_endpoint_is_read_again_as_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    let more = json!({ "basic": { "user": "anna", "password": "pass word" }, "key": "topic",
        "url": "https://shop.example/hook?token=in-the-url",
        "headers": { "x-key": "of the shop" }, "rate": 5, "retry": { "first": "2s" } });
    let creator = json!({ "issuer": "i" });
    let made = endpoints.create(shop(&more), Some(creator.clone())).await.unwrap();
    let secret = made.secret.unwrap();
    assert!(secret.expose().starts_with("whsec_"));
    let again = house.open();
    assert_eq!(again.get("shop"), Some(made.endpoint.clone()));
    assert_eq!(made.endpoint.creator, Some(creator));
    let shown = made.endpoint.shown().to_string();
    for hidden in ["pass word", "of the shop", "in-the-url", secret.expose()] {
        assert!(!shown.contains(hidden), "{shown}");
        for table in [Table::Endpoints, Table::Secrets] {
            for (_, value) in house.hub.state().rows(table, 99).unwrap() {
                assert!(!String::from_utf8_lossy(&value).contains(hidden));
            }
        }
    }
    assert_eq!(made.endpoint.secrets(), ["basic.password", "headers", "secrets"]);
    assert!(house.sinks.status("shop").await.is_some(), "it runs");
}

#[tokio::test]
async fn a_wrong_key_file_or_a_missing_one_refuses_the_start_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    house.open().create(shop(&json!({})), None).await.unwrap();
    let key = folder.path().join("key");
    let right = std::fs::read(&key).unwrap();
    let refused = || house.try_open(&[]).err().unwrap().to_string();
    std::fs::remove_file(&key).unwrap();
    assert!(refused().contains(key.to_str().unwrap()), "{}", refused());
    assert!(!key.exists(), "no new one is made in its place");
    for wrong in [vec![7; 32], vec![7; 3]] {
        std::fs::write(&key, wrong).unwrap();
        assert!(refused().contains(key.to_str().unwrap()), "{}", refused());
    }
    std::fs::write(&key, right).unwrap();
    assert!(house.open().has("shop"));
    let taken = house.try_open(&["shop"]).err().unwrap();
    assert!(matches!(taken, BadEndpoints::Both { .. }), "{taken}");
}

#[tokio::test]
async fn damaged_rows_refuse_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    house.open().create(shop(&json!({ "bearer": "abc" })), None).await.unwrap();
    let state = house.hub.state();
    for table in [Table::Endpoints, Table::Secrets] {
        for (key, value) in state.rows(table, 9).unwrap() {
            let write = |value| Write { table, key: &key, value };
            state.commit(&[write(value.split_last().map(|(_, rest)| rest))]).unwrap();
            assert!(house.try_open(&[]).is_err(), "{table:?}");
            state.commit(&[write(Some(&value))]).unwrap();
        }
    }
    assert!(house.try_open(&[]).is_ok());
}

#[tokio::test]
async fn names_are_those_of_one_thing() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    endpoints.create(shop(&json!({})), None).await.unwrap();
    let named = |name: &str| shop(&json!({ "name": name }));
    let refused = endpoints.create(named("shop"), None).await.unwrap_err();
    assert!(matches!(refused, EndpointProblem::Taken), "{refused}");
    let refused = endpoints.create(named("configured"), None).await.unwrap_err();
    assert!(matches!(refused, EndpointProblem::Configured), "{refused}");
    let record = SinkRecord::new(house.hub.epoch_now(), house.hub.end()).to_value();
    let write = Write { table: Table::Sinks, key: b"left", value: Some(&record) };
    house.hub.state().commit(&[write]).unwrap();
    let refused = endpoints.create(named("left"), None).await.unwrap_err();
    assert!(matches!(refused, EndpointProblem::Left), "{refused}");
    assert!(endpoints.reserve(BTreeSet::from(["shop".to_owned()])).await.is_err());
    endpoints.reserve(BTreeSet::from(["other".to_owned()])).await.unwrap();
    endpoints.create(named("configured"), None).await.unwrap();
    endpoints.remove("shop".into(), None).await.unwrap();
    assert!(house.hub.state().get(Table::Sinks, b"shop").unwrap().is_none());
    assert_eq!(house.hub.state().rows(Table::Secrets, 9).unwrap().len(), 2);
    endpoints.create(shop(&json!({})), None).await.unwrap();
    let gone = endpoints.remove("nothing".into(), None).await.unwrap_err();
    assert!(matches!(gone, EndpointProblem::Unknown), "{gone}");
}

#[tokio::test]
async fn a_change_keeps_secrets_that_it_does_not_mention_unless_the_server_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    let more = json!({ "bearer": "abc", "secrets": [KEY] });
    let made = endpoints.create(shop(&more), None).await.unwrap();
    assert!(made.secret.is_none(), "it has one");
    let change = |more: &Value| {
        let (endpoints, written) = (Arc::clone(&endpoints), shop(more));
        async move { endpoints.change("shop".into(), None, written, None).await }
    };
    let same = change(&json!({ "url": "https://shop.example/other" })).await.unwrap().endpoint;
    assert_eq!(same.told.to.get("bearer"), Some(&json!("abc")));
    assert_eq!(same.told.to.get("secrets"), Some(&json!([KEY])));
    assert!(same.version > made.endpoint.version);
    let elsewhere = json!({ "url": "https://shop.example.evil/other" });
    assert_eq!(paths(&change(&elsewhere).await.unwrap_err()), ["bearer"]);
    assert_eq!(endpoints.get("shop"), Some(same.clone()), "nothing has changed");
    let without = json!({ "url": "https://other.example/", "bearer": null });
    let without = change(&without).await.unwrap().endpoint;
    assert_eq!(without.secrets(), ["secrets"]);
    assert_eq!(house.hub.state().rows(Table::Secrets, 9).unwrap().len(), 2);
    assert_eq!(house.open().get("shop"), Some(without.clone()));
    // What was read can be written again.
    let shown = without.shown();
    assert_eq!(shown["url"], "https://other.example/…");
    let again = endpoints.change("shop".into(), None, shown, None).await.unwrap().endpoint;
    assert_eq!(again.told, without.told);
    let without = again;
    let late = endpoints.change("shop".into(), Some(same.version), shop(&json!({})), None).await;
    let EndpointProblem::Version { now } = late.unwrap_err() else { panic!("not the version") };
    assert_eq!(now, without.version);
    let renamed = change(&json!({ "name": "other" })).await.unwrap_err();
    assert_eq!(paths(&renamed), ["name"]);
}

#[tokio::test]
async fn what_only_the_operator_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    let then = json!({ "publish": { "replace": ["a", "b"] } });
    for (more, creator, path) in [
        (json!({ "allow": ["10.0.0.0/8"] }), None, "allow"),
        (json!({ "ca_file": "/etc/passwd" }), None, "ca_file"),
        (json!({ "kind": "nats" }), None, "kind"),
        (json!({ "kind": "what" }), None, "kind"),
        (json!({ "then": then }), Some(json!({})), "then"),
        (json!({ "secrets": ["short"] }), None, "secrets[0]"),
    ] {
        let refused = endpoints.create(shop(&more), creator).await.unwrap_err();
        assert_eq!(paths(&refused), [path], "{more}");
    }
    let several = json!({ "url": "nothing", "topics": [], "rate": "many", "names": 1 });
    let refused = endpoints.create(shop(&several), None).await.unwrap_err();
    assert_eq!(paths(&refused).len(), 4, "{refused:?}");
    assert!(endpoints.create(json!([]), None).await.is_err());
    assert!(!Endpoints::are_kept(&house.hub).unwrap());
}

#[tokio::test]
async fn rotation_keeps_the_older_key_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    endpoints.create(shop(&json!({ "secrets": [KEY] })), None).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let turned = endpoints.rotate("shop".into(), None, hour).await.unwrap();
    let fresh = turned.secret.unwrap();
    let again = house.open().get("shop").unwrap();
    let keys: Vec<webhook::signature::SigningSecret> =
        serde_json::from_value(again.told.to.get("secrets").unwrap().clone()).unwrap();
    assert_eq!((keys[0].key.clone(), keys[0].until), (fresh, None));
    assert_eq!(keys[1].key.expose(), KEY);
    assert!(keys[1].until.unwrap() > house.clock.wall() + 3_500_000);
    let long = endpoints.rotate("shop".into(), None, 1_000 * hour).await.unwrap_err();
    assert!(matches!(long, EndpointProblem::Rotation(_)), "{long}");
    // A change that does not speak of them keeps them with their ends.
    let kept = endpoints.change("shop".into(), None, shop(&json!({})), None).await.unwrap();
    assert_eq!(kept.endpoint.told.to.get("secrets"), again.told.to.get("secrets"));
}

#[tokio::test]
async fn a_pause_outlives_the_process_and_nothing_changes_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    endpoints.create(shop(&json!({})), None).await.unwrap();
    assert_eq!(endpoints.pause("shop").await.unwrap().standing, crate::delivery::Standing::Paused);
    let saved = house.hub.state().get(Table::Sinks, b"shop").unwrap().unwrap();
    let saved = SinkRecord::of_value(&saved).unwrap();
    assert_eq!(saved.standing(), crate::delivery::Standing::Paused);
    let status = endpoints.resume("shop".into()).await.unwrap();
    assert_eq!(status.standing, crate::delivery::Standing::Running);
    endpoints.end().await;
    let late = endpoints.create(shop(&json!({ "name": "late" })), None).await.unwrap_err();
    assert!(matches!(late, EndpointProblem::Ending), "{late}");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_made_at_a_start_is_listed_and_can_be_mended_or_removed() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    let made = endpoints.create(shop(&json!({})), None).await.unwrap().endpoint;
    house.sinks.stop("shop", Duration::from_secs(5)).await;
    // As an earlier version of the hub may have allowed it.
    let mut told = made.told.clone();
    let then = json!({ "then": { "publish": { "replace": ["a.", "b."] } } });
    told.then = crate::specification::sink(&shop(&then)).unwrap().then;
    let bad = Endpoint { told, creator: Some(json!({ "issuer": "i" })), ..made };
    let rows = record::rows(&bad, None, &endpoints.keys.get().unwrap()).unwrap();
    crate::book::commit(&house.hub, &rows).unwrap();

    let again = house.open();
    assert!(again.wanted().is_empty());
    let known = house.sinks.known("shop").unwrap();
    assert!(known.failure.as_ref().unwrap().contains("`then`"), "{:?}", known.failure);
    assert_eq!(house.sinks.status("shop").await.unwrap().failure, known.failure);
    let paused = again.pause("shop").await.unwrap_err();
    assert!(matches!(&paused, EndpointProblem::Failed(reason) if reason.contains("`then`")));
    assert_eq!(paths(&again.resume("shop".into()).await.unwrap_err()), ["then"]);
    assert!(house.sinks.known("shop").unwrap().failure.is_some());

    again.change("shop".into(), None, shop(&json!({})), None).await.unwrap();
    assert_eq!(house.sinks.known("shop").unwrap().failure, None);
    crate::book::commit(&house.hub, &rows).unwrap();
    house.sinks.stop("shop", Duration::from_secs(5)).await;
    let again = house.open();
    assert!(again.wanted().is_empty());
    again.remove("shop".into(), None).await.unwrap();
    assert!(
        house.sinks.known("shop").is_none()
            && house.hub.state().rows(Table::Endpoints, 9).unwrap().is_empty()
    );
}

#[tokio::test]
async fn what_would_follow_under_the_path_of_the_hub_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let house = house(folder.path());
    let endpoints = house.open();
    let then = |to: &str| shop(&json!({ "then": { "publish": { "replace": ["a.", to] } } }));
    for to in ["/.well-known/mercure/", "https://hub.example/.well-known/mercure/list/a"] {
        let refused = endpoints.create(then(to), None).await.unwrap_err();
        assert_eq!(paths(&refused), ["then"], "{to}");
    }
    assert!(house.sinks.all().is_empty());
    // Another path that only begins alike.
    endpoints.create(then("/.well-known/mercure"), None).await.unwrap();
}
