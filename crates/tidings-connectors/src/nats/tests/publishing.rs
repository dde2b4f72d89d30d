//! Messages of subjects, both ways.

use tidings_core::{Line, Origin};

use super::*;
use crate::connector::Fault;
use crate::nats::Rewrite;

fn line(text: &str) -> Line {
    Line::parse(text).unwrap()
}

fn rewrite(from: &str, to: &str) -> Option<Rewrite> {
    Some(Rewrite { replace: (from.to_owned(), to.to_owned()) })
}

#[tokio::test]
async fn what_a_sink_publishes_a_source_brings() {
    let server = TestServer::plain();
    let mut running = Running::start(source(&server, &["cms.>", "other"])).await;
    let sink = NatsSink::start("out", sink(&server)).unwrap();
    let mut rich = update("cms.cache.x", b"\xff\x00\r\nPUB a 1\r\n".as_slice());
    rich.content_type = Some(line("application/octet-stream"));
    rich.attributes = vec![(line("a"), "1".into()), (line("a"), "2: é".into())];
    rich.attributes.push((line("Nats-Expected-Stream"), "no".into()));
    rich.attributes.push((line("two words"), "no".into()));
    rich.origin = Some(Origin { connector: line("c"), position: None, hops: 2 });
    let outcome = deliver(&sink, vec![rich.clone(), update("other", ""), update("away", "")]).await;
    assert_eq!((outcome.delivered, outcome.failure), (3, None));

    let got = running.next_update().await;
    assert_eq!(topic(&got), "cms.cache.x");
    assert_eq!((&got.data, &got.content_type), (&rich.data, &rich.content_type));
    assert_eq!(got.attributes, rich.attributes[..2]);
    let origin = got.origin.unwrap();
    assert_eq!((origin.connector.as_str(), origin.position, origin.hops), ("upstream", None, 3));
    assert!(got.idempotency_key.unwrap().as_str().starts_with("urn:uuid:"));
    let dropped = sink.counters().fields_dropped.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(dropped, 2);

    let got = running.next_update().await;
    assert_eq!((topic(&got), got.data.len()), ("other", 0));
    assert_eq!(got.origin.unwrap().hops, 1);
    assert!(running.from.try_recv().is_err());
}

#[tokio::test]
async fn many_messages_keep_their_order() {
    let server = TestServer::plain();
    let mut running = Running::start(source(&server, &["n.*"])).await;
    let sink = NatsSink::start("out", sink(&server)).unwrap();
    let updates = (0..5_000).map(|number: u32| update("n.x", number.to_string())).collect();
    let all = entries(updates).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for entries in all.chunks(sink.run_max()) {
            let outcome = sink.deliver(Run { entries: entries.to_vec(), tries: 0 }).await;
            assert_eq!((outcome.delivered, outcome.failure), (entries.len(), None));
        }
    });
    for number in 0..5_000 {
        assert_eq!(running.next_update().await.data, number.to_string());
    }
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn without_headers_only_the_payload_is_sent() {
    let server = TestServer::plain();
    let mut client = RawClient::connect(&server);
    client.subscribe("relayed.>");
    let options =
        SinkOptions { headers: false, subject: rewrite("cms.", "relayed."), ..sink(&server) };
    let sink = NatsSink::start("out", options).unwrap();
    let outcome = deliver(&sink, vec![update("cms.cms.a", "x"), update("relayed.b", "")]).await;
    assert_eq!(outcome.delivered, 2);
    let message = |subject: &str, payload: &[u8]| {
        let (subject, headers) = (subject.to_owned(), String::new());
        RawMessage { subject, headers, payload: payload.to_vec() }
    };
    assert_eq!(client.message(), message("relayed.cms.a", b"x"));
    assert_eq!(client.message(), message("relayed.b", b""));
}

#[tokio::test]
async fn headers_of_others_are_understood() {
    let server = TestServer::plain();
    let mut client = RawClient::connect(&server);
    let options = SourceOptions { topic: rewrite("a.", "https://x/"), ..source(&server, &["a.*"]) };
    let mut running = Running::start(options).await;
    client.publish_with("a.b", "Nats-Msg-Id: 7\r\nX:1\r\nX: 2\r\nTidings-Hops: 8\r\n", b"p");
    client.publish("a.c", b"");
    let got = running.next_update().await;
    assert_eq!((topic(&got), got.data.as_ref()), ("https://x/b", b"p".as_slice()));
    assert_eq!(got.idempotency_key, Some(line("7")));
    assert_eq!(got.attributes, [(line("X"), "1".to_owned()), (line("X"), "2".to_owned())]);
    assert_eq!(got.origin.unwrap().hops, 8);
    assert_eq!(topic(&running.next_update().await), "https://x/c");
}

#[tokio::test]
async fn a_queue_group_shares_its_messages() {
    let server = TestServer::plain();
    let grouped = || SourceOptions { queue_group: Some("hubs".into()), ..source(&server, &["q"]) };
    let mut first = Running::start(grouped()).await;
    let mut second = Running::start(grouped()).await;
    let mut client = RawClient::connect(&server);
    for number in 0..200 {
        client.publish("q", number.to_string().as_bytes());
    }
    client.barrier();
    let mut numbers = Vec::new();
    let (mut ones, mut others) = (0, 0);
    while numbers.len() < 200 {
        let incoming = tokio::select! {
            incoming = first.from.recv() => { ones += 1; incoming }
            incoming = second.from.recv() => { others += 1; incoming }
            () = tokio::time::sleep(PATIENCE) => panic!("{} of 200 came", numbers.len()),
        };
        for update in incoming.unwrap().updates {
            numbers.push(String::from_utf8_lossy(&update.data).parse::<u32>().unwrap());
        }
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert!(ones > 0 && others > 0, "{ones} and {others}");
}

#[tokio::test]
async fn what_can_never_be_published_is_told_and_the_rest_is() {
    let server = TestServer::start("max_payload: 1024\n", &[]);
    let mut client = RawClient::connect(&server);
    client.subscribe(">");
    let sink = NatsSink::start("out", sink(&server)).unwrap();
    let mut looped = update("a", "");
    looped.origin = Some(Origin { connector: line("c"), position: None, hops: 8 });
    for (wrong, reason) in [
        (update("a.*", ""), "wildcard"),
        (update("a.>", ""), "wildcard"),
        (update("a..b", ""), "empty"),
        (update("https://example.com/a b", ""), "white space"),
        (update("$JS.API.STREAM.DELETE.CMS", ""), "server's own"),
        (update("_INBOX.x", ""), "server's own"),
        (update("large", vec![b'x'; 1_025]), "max_payload"),
        (looped, "loop"),
    ] {
        let topic = topic(&wrong).to_owned();
        let outcome = deliver(&sink, vec![update("before", ""), wrong, update("behind", "")]).await;
        let failure = outcome.failure.unwrap();
        assert_eq!((outcome.delivered, failure.fault), (1, Fault::Never), "{topic}");
        assert!(failure.reason.contains(reason), "{}", failure.reason);
        assert_eq!(client.message().subject, "before", "{topic}");
    }
    client.barrier();
}

#[tokio::test]
async fn a_rewrite_may_lead_to_the_servers_own_subjects_where_the_operator_says_so() {
    let server = TestServer::plain();
    let mut client = RawClient::connect(&server);
    client.subscribe("$KV.>");
    let options = SinkOptions { subject: rewrite("kv.", "$KV.b."), ..sink(&server) };
    let sink = NatsSink::start("out", options).unwrap();
    assert_eq!(deliver(&sink, vec![update("kv.key", "1")]).await.delivered, 1);
    assert_eq!(client.message().subject, "$KV.b.key");
    let outcome = deliver(&sink, vec![update("$KV.b.key", "1")]).await;
    assert_eq!(outcome.failure.unwrap().fault, Fault::Never);
}

#[tokio::test]
async fn a_subject_that_the_server_refuses_does_not_repeat_the_others() {
    let config = "authorization: { users: [
        { user: a, password: a, permissions: { publish: { deny: \"no.>\" }, subscribe: \">\" } }
    ] }\n";
    let server = TestServer::start(config, &[]);
    let mut client = RawClient::connect_as(&server, ",\"user\":\"a\",\"pass\":\"a\"");
    client.subscribe(">");
    let mut options = sink(&server);
    (options.server.user, options.server.password) =
        (Some("a".into()), Some(crate::secret::Secret::new("a")));
    let sink = NatsSink::start("out", options).unwrap();
    let updates = || vec![update("a", ""), update("no.x", ""), update("b", "")];
    let outcome = deliver(&sink, updates()).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((outcome.delivered, failure.fault), (1, Fault::Rejected));
    assert!(failure.reason.contains("Permissions Violation"), "{}", failure.reason);
    let rest = updates().split_off(1);
    for _ in 0..3 {
        let outcome = deliver(&sink, rest.clone()).await;
        assert_eq!((outcome.delivered, outcome.failure.unwrap().fault), (0, Fault::Rejected));
    }
    assert_eq!(deliver(&sink, vec![update("c", "")]).await.failure, None);
    let subjects: Vec<_> = (0..3).map(|_| client.message().subject).collect();
    assert_eq!(subjects, ["a", "b", "c"]);
    client.barrier();
    // However the server writes down what it refused.
    for odd in ["no.\"x\"", "no.\\", "no.\u{200b}x", "no.é"] {
        for _ in 0..2 {
            let updates = vec![update("d", ""), update(odd, ""), update("e", "")];
            let outcome = deliver(&sink, updates).await;
            let fault = outcome.failure.unwrap().fault;
            assert_eq!((outcome.delivered, fault), (1, Fault::Rejected), "{odd:?}");
        }
    }
}

#[tokio::test]
async fn a_source_that_ends_brings_what_was_sent_until_then() {
    let server = TestServer::plain();
    let mut running = Running::start(source(&server, &["a"])).await;
    let mut client = RawClient::connect(&server);
    for number in 0..5_000 {
        client.publish("a", number.to_string().as_bytes());
    }
    client.barrier();
    running.stop.cancel();
    let mut count = 0;
    while let Some(incoming) = running.from.recv().await {
        for update in incoming.updates {
            assert_eq!(update.data, count.to_string());
            count += 1;
        }
    }
    assert_eq!(count, 5_000);
    running.end().await;
}
