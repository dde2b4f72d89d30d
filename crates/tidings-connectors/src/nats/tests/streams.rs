//! `JetStream`, both ways, and servers that are killed.

use std::collections::BTreeSet;

use tidings_core::Line;

use super::*;
use crate::connector::Fault;
use crate::ingest::{Taken, ingest};
use crate::nats::{Deliver, JetStreamOptions};

fn stream_source(server: &TestServer) -> SourceOptions {
    let jetstream = JetStreamOptions {
        stream: "CMS".into(),
        consumer: "hub".into(),
        ack_wait: Span(Duration::from_secs(1)),
        ..JetStreamOptions::default()
    };
    SourceOptions { jetstream: Some(jetstream), ..source(server, &[]) }
}

fn position(update: &Update) -> String {
    let origin = update.origin.as_ref().unwrap();
    origin.position.as_ref().unwrap().as_str().to_owned()
}

fn pending(client: &mut RawClient) -> (u64, u64) {
    let answer = client.request("$JS.API.CONSUMER.INFO.CMS.hub", "");
    let number = |name: &str| answer[name].as_u64().unwrap();
    (number("num_ack_pending"), number("num_pending"))
}

#[tokio::test]
async fn messages_of_a_stream_come_in_order_and_are_acknowledged() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    for number in 0..1_000 {
        client.publish("cms.a", number.to_string().as_bytes());
    }
    client.barrier();
    let mut running = Running::start(stream_source(&server)).await;
    for number in 0..1_000 {
        let update = running.next_update().await;
        assert_eq!((topic(&update), &update.data[..]), ("cms.a", number.to_string().as_bytes()));
        assert!(position(&update).starts_with(&format!("CMS/{}/", number + 1)));
    }
    client.publish_with("cms.b", "Nats-Msg-Id: 7\r\na: 1\r\n", b"\xff");
    let update = running.next_update().await;
    assert_eq!((topic(&update), &update.data[..]), ("cms.b", b"\xff".as_slice()));
    assert_eq!(update.idempotency_key.unwrap().as_str(), "7");
    running.end().await;
    assert_eq!(pending(&mut client), (0, 0));
}

#[tokio::test]
async fn a_source_that_ends_and_begins_again_keeps_the_order() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    for number in 0..3_000 {
        client.publish("cms.a", number.to_string().as_bytes());
    }
    client.barrier();
    let mut next = 0;
    for stop_at in [100, 700, 1_500, 3_000] {
        // Few places: the source is never far ahead.
        let mut running = Running::begin(stream_source(&server), 4);
        while let Some(mut incoming) =
            tokio::time::timeout(PATIENCE, running.from.recv()).await.expect("nothing comes")
        {
            assert_eq!(incoming.updates[0].data, next.to_string());
            incoming.acknowledge.next(Taken::Published);
            next += 1;
            if next >= stop_at {
                running.stop.cancel();
            }
        }
        running.end().await;
    }
    assert_eq!((next, pending(&mut client)), (3_000, (0, 0)));
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_at_the_same_position() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    for number in 0..10 {
        client.publish("cms.a", number.to_string().as_bytes());
    }
    client.barrier();
    let mut first = Running::start(stream_source(&server)).await;
    let mut taken = Vec::new();
    for number in 0..10 {
        let mut incoming = first.next().await;
        match number < 4 {
            true => incoming.acknowledge.next(Taken::Published),
            false => taken.push((position(&incoming.updates[0]), incoming.acknowledge)),
        }
    }
    let until = Instant::now() + PATIENCE;
    while pending(&mut client).0 > 6 {
        assert!(Instant::now() < until, "nothing is acknowledged");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // While somebody works on them they do not come again, however long it takes.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(first.from.try_recv().is_err());
    // As a kill would do: nothing is said to the server any more.
    first.task.shutdown().await;
    let positions: BTreeSet<String> = taken.into_iter().map(|(position, _)| position).collect();
    let mut second = Running::start(stream_source(&server)).await;
    let mut again = BTreeSet::new();
    while again.len() < 6 {
        again.insert(position(&second.next_update().await));
    }
    assert_eq!(again, positions);
    second.end().await;
    assert_eq!(pending(&mut client), (0, 0));
}

#[tokio::test]
async fn what_the_hub_never_takes_is_given_up_and_what_it_takes_later_comes_again() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    let mut running = Running::start(stream_source(&server)).await;
    for data in ["never", "later", "now"] {
        client.publish("cms.a", data.as_bytes());
    }
    running.next().await.acknowledge.next(Taken::Never("too large".into()));
    drop(running.next().await);
    running.next().await.acknowledge.next(Taken::Published);
    let update = running.next_update().await;
    assert_eq!(update.data, "later");
    running.end().await;
    assert_eq!(pending(&mut client), (0, 0));
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_waited_for() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    let mut options = stream_source(&server);
    options.subjects = vec!["cms.wanted".into()];
    let mut running = Running::start(options).await;
    client.make_stream("CMS", "cms.>");
    client.publish("cms.other", b"0");
    client.publish("cms.wanted", b"1");
    assert_eq!(running.next_update().await.data, "1");
    running.end().await;
}

#[tokio::test]
async fn a_new_consumer_may_begin_with_what_comes() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    client.publish("cms.a", b"old");
    client.barrier();
    let mut options = stream_source(&server);
    options.jetstream.as_mut().unwrap().deliver = Deliver::New;
    let mut running = Running::start(options).await;
    let until = Instant::now() + PATIENCE;
    let list = "$JS.API.CONSUMER.NAMES.CMS";
    while client.request(list, "")["consumers"][0] != "hub" {
        assert!(Instant::now() < until, "the consumer is not made");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.publish("cms.a", b"new");
    assert_eq!(running.next_update().await.data, "new");
    running.end().await;
}

#[tokio::test]
async fn a_stream_takes_what_a_sink_publishes_once() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    let sink = NatsSink::start("out", SinkOptions { jetstream: true, ..sink(&server) }).unwrap();
    let entries =
        entries((0..256).map(|number: u32| update("cms.a", number.to_string())).collect()).await;
    for tries in 0..2 {
        let outcome = sink.deliver(Run { entries: entries.clone(), tries }).await;
        assert_eq!((outcome.delivered, outcome.failure), (256, None));
    }
    assert_eq!(client.stream_length("CMS"), 256);
    let first = deliver(&sink, vec![update("cms.a", ""), update("no.stream", "")]).await;
    let failure = first.failure.unwrap();
    assert_eq!((first.delivered, failure.fault), (1, Fault::Busy));
    assert!(failure.reason.contains("no stream"), "{}", failure.reason);
}

#[tokio::test]
async fn what_a_stream_refuses_is_told_in_its_words() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    let body = r#"{"name":"S","subjects":["s"],"max_msg_size":10}"#;
    client.request("$JS.API.STREAM.CREATE.S", body);
    let body = r#"{"name":"F","subjects":["f"],"max_msgs":1,"discard":"new"}"#;
    client.request("$JS.API.STREAM.CREATE.F", body);
    let sink = NatsSink::start("out", SinkOptions { jetstream: true, ..sink(&server) }).unwrap();
    for (data, topic, fault) in
        [("x".repeat(1_000), "s", Fault::Never), ("x".into(), "f", Fault::Busy)]
    {
        let updates = vec![update("f", ""), update(topic, data)];
        let outcome =
            deliver(&sink, updates.into_iter().skip(usize::from(topic == "f")).collect()).await;
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.fault, fault, "{topic}: {}", failure.reason);
        assert!(failure.reason.contains("the stream says"), "{}", failure.reason);
        assert!(!outcome.answer.body.is_empty());
    }
}

/// Entries are published while the server is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let mut server = TestServer::with_streams();
    RawClient::connect(&server).make_stream("CMS", "cms.>");
    let options = SinkOptions { jetstream: true, ..sink(&server) };
    let sink = NatsSink::start("out", options).unwrap();
    let mut link = sink.link();
    let updates = (0..3_000).map(|number: u32| update("cms.a", number.to_string()));
    let all = entries(updates.collect()).await;
    let (noted, mut told) = watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut done = 0;
        while done < all.len() {
            let entries = all[done..].iter().take(50).cloned().collect();
            done += sink.deliver(Run { entries, tries: 0 }).await.delivered;
            noted.send_replace(done);
        }
        sink
    });
    for round in 1..=3 {
        told.wait_for(|done| *done > round * 600).await.unwrap();
        server.kill();
        server.restart();
        let since = Instant::now();
        reaches(&mut link, |link| matches!(link, Link::Connected(_))).await;
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
    let sink = tasks.join_next().await.unwrap().unwrap();
    assert!(sink.counters().connections.load(std::sync::atomic::Ordering::Relaxed) >= 4);

    let mut running = Running::start(stream_source(&server)).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 3_000 {
        let data = running.next_update().await.data;
        seen.insert(String::from_utf8_lossy(&data).parse::<u32>().unwrap());
    }
}

/// A source goes on by itself, and what the hub has is acknowledged to the server that came back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_gets_everything_of_a_stream_whose_server_is_killed() {
    let mut server = TestServer::with_streams();
    RawClient::connect(&server).make_stream("CMS", "cms.>");
    let hub = hub();
    let source = NatsSource::new("upstream", false, stream_source(&server)).unwrap();
    let mut link = source.link();
    let (to, from) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(Box::new(source).run(to, stop.clone()));
    let own = hub.clone();
    tasks.spawn(async move { ingest("upstream", own, Grant::operator(), from).await });
    for round in 0..3 {
        let mut client = RawClient::connect(&server);
        for number in 0..500 {
            client.publish("cms.a", (round * 500 + number).to_string().as_bytes());
        }
        assert!(client.stream_length("CMS") > round * 500);
        server.kill();
        reaches(&mut link, |link| matches!(link, Link::Unreachable(_))).await;
        server.restart();
        reaches(&mut link, |link| matches!(link, Link::Connected(_))).await;
    }
    let mut client = RawClient::connect(&server);
    let until = Instant::now() + PATIENCE * 2;
    while pending(&mut client) != (0, 0) {
        assert!(Instant::now() < until, "{:?} are left", pending(&mut client));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let length = client.stream_length("CMS");
    stop.cancel();
    while tasks.join_next().await.is_some() {}
    let grant = Arc::new(Grant::operator());
    let selection = Selection { matchers: vec![Arc::new(Matcher::Any)], grant, scope: None };
    let mut subscription = hub.subscribe(selection, Start::Earliest);
    let mut count = 0;
    while count < length {
        let mut batch = Batch::new();
        subscription.take(&mut batch).unwrap();
        assert!(!batch.is_empty(), "{count} of {length} are in the hub");
        count += u64::try_from(batch.len()).unwrap();
    }
    // A redelivery is known by its position.
    assert_eq!(count, length);
}

/// Takes messages as a hub does that is killed before the server hears of it. Answers positions.
async fn taken_and_killed(server: &TestServer, count: usize) -> Vec<Line> {
    let mut first = Running::start(stream_source(server)).await;
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(first.next().await);
    }
    first.task.shutdown().await;
    let positions = taken.iter().map(|taken| Line::parse(&position(&taken.updates[0])).unwrap());
    positions.collect()
}

#[tokio::test]
async fn what_the_hub_has_is_known_when_the_server_gives_it_again() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    for number in 0..10 {
        client.publish("cms.a", number.to_string().as_bytes());
    }
    client.barrier();
    let mut known = taken_and_killed(&server, 10).await;
    // The last two were never published.
    known.truncate(8);
    let mut source = NatsSource::new("upstream", false, stream_source(&server)).unwrap();
    *source.recalls().unwrap() = known;
    let counters = source.counters();
    let (to, mut from) = mpsc::channel(8);
    let mut task = JoinSet::new();
    task.spawn(Box::new(source).run(to, CancellationToken::new()));
    let mut came = Vec::new();
    for _ in 0..2 {
        let mut incoming = tokio::time::timeout(PATIENCE, from.recv()).await.unwrap().unwrap();
        incoming.acknowledge.next(Taken::Published);
        came.push(String::from_utf8_lossy(&incoming.updates[0].data).into_owned());
    }
    assert_eq!(came, ["8", "9"]);
    let until = Instant::now() + PATIENCE;
    while pending(&mut client) != (0, 0) {
        assert!(Instant::now() < until, "{:?} are left", pending(&mut client));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(from.try_recv().is_err());
    assert_eq!(counters.repeated.load(std::sync::atomic::Ordering::Relaxed), 8);
}

#[tokio::test]
async fn a_consumer_that_is_made_anew_brings_everything_again() {
    let server = TestServer::with_streams();
    let mut client = RawClient::connect(&server);
    client.make_stream("CMS", "cms.>");
    for number in 0..10 {
        client.publish("cms.a", number.to_string().as_bytes());
    }
    client.barrier();
    let known = taken_and_killed(&server, 10).await;
    client.request("$JS.API.CONSUMER.DELETE.CMS.hub", "");
    let mut source = NatsSource::new("upstream", false, stream_source(&server)).unwrap();
    *source.recalls().unwrap() = known;
    let (to, mut from) = mpsc::channel(8);
    let mut task = JoinSet::new();
    task.spawn(Box::new(source).run(to, CancellationToken::new()));
    for number in 0..10 {
        let mut incoming = tokio::time::timeout(PATIENCE, from.recv()).await.unwrap().unwrap();
        assert_eq!(incoming.updates[0].data, number.to_string());
        incoming.acknowledge.next(Taken::Published);
    }
}
