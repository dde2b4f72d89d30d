//! What a stream says, when, and how it ends, without a socket.

use super::*;
use crate::limits::{CATCH_UP_FRAME_BYTES, PIECE_BYTES};
use crate::mercure::catch_up::read_history;
use http_body::Body as _;
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicU64, Ordering};
use tidings_core::{
    Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Language, Namespace, Selection,
    Start, Topic, Update,
};

#[derive(Default)]
struct Wall(AtomicU64);

impl Clock for Wall {
    fn wall(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

const FOREVER: Limits = Limits { expires: None, heartbeat: None, lifetime: None };

fn hub() -> (Hub, Arc<Wall>) {
    let clock = Arc::new(Wall::default());
    let url = url::Url::parse("https://hub.example/.well-known/mercure").unwrap();
    let history = HistoryOptions {
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        segment_bytes: 1024 * 1024,
    };
    let options = HubOptions { namespace: Namespace::new(url), update_bytes_max: 1 << 20, history };
    let shared: Arc<dyn Clock> = Arc::<Wall>::clone(&clock);
    (Hub::open(options, shared).unwrap(), clock)
}

fn stream(hub: &Hub, clock: &Arc<Wall>, limits: Limits, start: Start, end: End) -> EventStream {
    let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
    let grant = Arc::new(Grant::anonymous());
    let subscription = hub.subscribe(Selection { matchers, grant, scope: None }, start);
    let streams = Arc::new(Streams {
        hub: hub.clone(),
        clock: Arc::<Wall>::clone(clock),
        readers: Readers::start("history", 1),
        turns: Arc::new(Turns::new(1)),
    });
    EventStream::new(RequestId::next(), subscription, limits, streams, end)
}

fn never() -> End {
    Box::pin(std::future::pending())
}

async fn publish(hub: &Hub, data: &str) {
    let update = Update::new(Topic::parse("t").unwrap(), data.to_owned());
    hub.publish(&Grant::operator(), update).await.unwrap();
}

/// The next frame, or `None` at the end.
async fn frame(stream: &mut EventStream) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(5), stream.frame()).await.unwrap();
    let bytes = frame?.unwrap().into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn a_stream_opens_with_a_comment_then_sends_what_is_published() {
    let (hub, clock) = hub();
    let mut stream = stream(&hub, &clock, FOREVER, Start::Now, never());
    assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
    publish(&hub, "one").await;
    let event = frame(&mut stream).await.unwrap();
    assert!(event.starts_with("id: urn:uuid:") && event.ends_with("\ndata: one\n\n"), "{event}");
}

#[tokio::test]
async fn large_events_are_shared_between_streams_and_not_copied() {
    let (hub, clock) = hub();
    let mut streams: Vec<_> =
        (0..2).map(|_| stream(&hub, &clock, FOREVER, Start::Now, never())).collect();
    let large = "x".repeat(PIECE_BYTES);
    for data in ["small", &large, "small", &large, "small", "small"] {
        publish(&hub, data).await;
    }
    let mut pieces = Vec::new();
    for stream in &mut streams {
        let mut sizes = 0;
        frame(stream).await;
        while sizes < 2 * PIECE_BYTES {
            let piece = stream.frame().await.unwrap().unwrap().into_data().unwrap();
            sizes += piece.len();
            pieces.push((piece.len() >= PIECE_BYTES).then(|| piece.as_ptr()));
        }
    }
    let large: Vec<_> = pieces.into_iter().flatten().collect();
    assert_eq!(large.len(), 4, "two for each, each alone");
    assert_eq!(large[..2], large[2..], "the same bytes for both");
}

#[tokio::test]
async fn everything_that_waits_leaves_in_one_frame() {
    let (hub, clock) = hub();
    for start in [Start::Now, Start::Earliest] {
        let mut stream = stream(&hub, &clock, FOREVER, start, never());
        frame(&mut stream).await;
        let mut waiting = 0;
        for _ in 0..20 {
            publish(&hub, "x").await;
            waiting += 1;
        }
        if start == Start::Earliest {
            // Those of the first round are still there.
            waiting += 20;
        }
        let mut got = String::new();
        let mut frames = 0;
        while got.matches("data: x").count() < waiting {
            got.push_str(&frame(&mut stream).await.unwrap());
            frames += 1;
        }
        // The last ones may still be on their way when the first frame is taken.
        assert!(frames <= 3, "{frames} frames");
        assert_eq!(got.matches("data: x").count(), waiting);
    }
}

#[tokio::test]
async fn m15_silence_is_broken_by_comments() {
    let (hub, clock) = hub();
    let limits = Limits { heartbeat: Some(Duration::from_millis(20)), ..FOREVER };
    let mut stream = stream(&hub, &clock, limits, Start::Now, never());
    for _ in 0..3 {
        assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
    }
}

#[tokio::test]
async fn m57_a_stream_ends_when_the_wall_clock_passes_the_end_of_its_token() {
    let (hub, clock) = hub();
    let limits = Limits { expires: Some(50), ..FOREVER };
    let mut stream = stream(&hub, &clock, limits, Start::Now, never());
    frame(&mut stream).await;
    publish(&hub, "before").await;
    assert!(frame(&mut stream).await.unwrap().contains("before"));
    clock.0.store(50, Ordering::SeqCst);
    publish(&hub, "after").await;
    assert_eq!(frame(&mut stream).await, None, "also when entries wait");
}

#[tokio::test]
async fn m57_a_stream_ends_at_its_longest_age() {
    let (hub, clock) = hub();
    let limits = Limits { lifetime: Some(Duration::from_millis(20)), ..FOREVER };
    let mut stream = stream(&hub, &clock, limits, Start::Now, never());
    frame(&mut stream).await;
    assert_eq!(frame(&mut stream).await, None);
    assert_eq!(frame(&mut stream).await, None, "an ended stream stays ended");
}

#[tokio::test]
async fn a_shutdown_tells_the_client_how_long_to_wait() {
    let (hub, clock) = hub();
    let end: End = Box::pin(std::future::ready(Duration::from_millis(1_234)));
    let mut stream = stream(&hub, &clock, FOREVER, Start::Now, end);
    assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
    assert_eq!(frame(&mut stream).await.unwrap(), "retry: 1234\n\n");
    assert_eq!(frame(&mut stream).await, None);
}

/// A stream that nothing of topic `t` is for.
fn picky(hub: &Hub, clock: &Arc<Wall>, limits: Limits, start: Start, end: End) -> EventStream {
    let mut stream = stream(hub, clock, limits, start, end);
    let matchers = vec![hub.matcher(Language::Exact, "other").unwrap()];
    let grant = Arc::new(Grant::anonymous());
    let subscription = hub.subscribe(Selection { matchers, grant, scope: None }, start);
    (stream.told, stream.passed) = (subscription.offset(), subscription.offset());
    stream.source = Source::Live(subscription);
    stream
}

#[tokio::test]
async fn a_client_that_was_sent_nothing_is_told_at_the_end_how_far_it_came() {
    let (hub, clock) = hub();
    publish(&hub, "before").await;
    let limits = Limits { lifetime: Some(Duration::from_millis(200)), ..FOREVER };
    for start in [Start::Earliest, Start::Now] {
        let mut stream = picky(&hub, &clock, limits, start, never());
        assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
        publish(&hub, "passed").await;
        let end = hub.last();
        let last = frame(&mut stream).await.unwrap();
        assert_eq!(last, format!("id: {}\n\n", hub.cursor(end)), "{start:?}");
        assert_eq!(frame(&mut stream).await, None);
    }
}

#[tokio::test]
async fn the_last_words_are_one_block() {
    let (hub, clock) = hub();
    let (tell, told) = tokio::sync::oneshot::channel();
    let end: End = Box::pin(async move { told.await.unwrap() });
    publish(&hub, "passed").await;
    let mut stream = picky(&hub, &clock, FOREVER, Start::Earliest, end);
    frame(&mut stream).await;
    let nothing = tokio::time::timeout(Duration::from_millis(200), stream.frame()).await;
    assert!(nothing.is_err(), "the history is read, and nothing of it is for this client");
    let id = hub.cursor(hub.last());
    tell.send(Duration::from_millis(7)).unwrap();
    assert_eq!(frame(&mut stream).await.unwrap(), format!("id: {id}\nretry: 7\n\n"));
    assert_eq!(frame(&mut stream).await, None);
}

#[tokio::test]
async fn who_has_the_last_id_is_told_no_other() {
    let (hub, clock) = hub();
    let limits = Limits { lifetime: Some(Duration::from_millis(200)), ..FOREVER };
    let mut stream = stream(&hub, &clock, limits, Start::Now, never());
    frame(&mut stream).await;
    publish(&hub, "one").await;
    assert!(frame(&mut stream).await.unwrap().contains("one"));
    assert_eq!(frame(&mut stream).await, None);
}

#[tokio::test]
async fn who_asks_for_it_is_told_where_the_stream_begins_and_how_far_it_has_come() {
    let (hub, clock) = hub();
    publish(&hub, "before").await;
    let limits = Limits { heartbeat: Some(Duration::from_millis(20)), ..FOREVER };
    let mut stream = picky(&hub, &clock, limits, Start::Earliest, never())
        .telling(&Continuity::Resumed("earliest".to_owned()));
    assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
    let (begin, epoch) = (hub.cursor(hub.before_first()), hub.epoch());
    let told = frame(&mut stream).await.unwrap();
    let data =
        format!("{{\"continuity\":\"resumed\",\"after\":\"earliest\",\"epoch\":\"{epoch}\"}}");
    assert_eq!(told, format!("event: tidings\nid: {begin}\ndata: {data}\n\n"));
    publish(&hub, "passed").await;
    let end = hub.cursor(hub.last());
    let mut said = String::new();
    while said != format!(":\nid: {end}\n\n") {
        said = frame(&mut stream).await.unwrap();
        assert!(said.starts_with(":\nid: urn:uuid:") && said.ends_with("\n\n"), "{said}");
    }
}

#[tokio::test]
async fn a_watcher_for_whom_announcements_are_forgotten_is_disconnected_behind_them() {
    let (hub, clock) = hub();
    let mut stream = stream(&hub, &clock, FOREVER, Start::Now, never());
    let scope = tidings_core::Scope("test");
    let selection = selection_of_all(&hub, scope);
    stream.source = Source::Live(hub.subscribe(selection, Start::Now));
    frame(&mut stream).await;
    let rounds = 3 * tidings_core::limits::EPHEMERALS_KEPT_MAX / 256;
    let announcing = hub.clone();
    let announce = move || {
        let topic = Topic::parse("/.well-known/mercure/x").unwrap();
        for _ in 0..rounds {
            let updates = vec![Update::new(topic.clone(), "gone"); 256];
            announcing.announce(scope, updates).unwrap();
        }
    };
    tokio::task::spawn_blocking(announce).await.unwrap();
    let mut said = String::new();
    while let Some(frame) = frame(&mut stream).await {
        said.push_str(&frame);
    }
    assert!(said.matches("data: gone").count() < rounds * 256);
    let (_, last) = said.trim_end().rsplit_once("id: ").unwrap();
    let cursor = last.lines().next().unwrap();
    let tidings_core::Located::Entry(place) = hub.locate(cursor) else { panic!("{cursor}") };
    assert!(hub.forgotten_behind(place, &selection_of_all(&hub, scope)).until.is_none());
}

#[tokio::test]
async fn a_watcher_that_asks_for_it_is_told_where_announcements_are_forgotten_and_stays() {
    let (hub, clock) = hub();
    let scope = tidings_core::Scope("test");
    let mut stream = stream(&hub, &clock, FOREVER, Start::Now, never());
    let subscription = hub.subscribe(selection_of_all(&hub, scope), Start::Now);
    stream.source = Source::Live(subscription);
    let mut stream = stream.telling(&Continuity::Live);
    assert_eq!(frame(&mut stream).await.unwrap(), ":\n");
    let announcing = hub.clone();
    let announce = move |rounds: usize, text: &'static str| {
        let topic = Topic::parse("/.well-known/mercure/x").unwrap();
        for _ in 0..rounds {
            let updates = vec![Update::new(topic.clone(), text); 256];
            announcing.announce(scope, updates).unwrap();
        }
        announcing
    };
    let rounds = 3 * tidings_core::limits::EPHEMERALS_KEPT_MAX / 256;
    tokio::task::spawn_blocking(move || announce(rounds, "x")).await.unwrap();
    publish(&hub, "afterwards").await;
    let mut said = String::new();
    while !said.contains("data: afterwards\n") {
        said.push_str(&frame(&mut stream).await.unwrap());
    }
    assert!(said.matches("data: x\n").count() < rounds * 256);
    assert_eq!(said.matches("\"continuity\":\"gap\"").count(), 1);
    publish(&hub, "more").await;
    assert!(frame(&mut stream).await.unwrap().contains("data: more\n"));
}

fn selection_of_all(hub: &Hub, scope: tidings_core::Scope) -> Selection {
    let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
    Selection { matchers, grant: Arc::new(Grant::operator()), scope: Some(scope) }
}

#[test]
fn lifetimes_are_shortened_by_a_fifth_at_most() {
    for _ in 0..100 {
        let lifetime = shortened(Duration::from_secs(100));
        assert!((80..=100).contains(&lifetime.as_secs()), "{lifetime:?}");
    }
}

/// The history of a hub with so many updates of this size, and what one turn reads of it.
async fn turn(updates: usize, bytes: usize, turn: Duration) -> (usize, usize, bool) {
    let (hub, _) = hub();
    for _ in 0..updates {
        publish(&hub, &"x".repeat(bytes)).await;
    }
    let matchers = vec![hub.matcher(Language::Exact, "*").unwrap()];
    let grant = Arc::new(Grant::anonymous());
    let subscription = hub.subscribe(Selection { matchers, grant, scope: None }, Start::Earliest);
    let turn = read_history(subscription, turn);
    let text: Vec<u8> = turn.pieces.iter().flatten().copied().collect();
    let events = text.windows(6).filter(|bytes| bytes == b"data: ").count();
    (events, text.len(), turn.subscription.is_live())
}

#[tokio::test]
async fn one_turn_reads_what_a_frame_holds_or_what_there_is_or_what_its_time_allows() {
    // Small ones come in several batches of which none fills a frame.
    let (events, _, live) = turn(600, 1, Duration::ZERO).await;
    assert!((1..600).contains(&events) && !live, "{events} events");
    let (events, bytes, live) = turn(600, 1, Duration::from_secs(5)).await;
    assert!(events == 600 && live, "{events} events");
    assert!(bytes > CATCH_UP_FRAME_BYTES);
    let (events, bytes, live) = turn(2_000, 1, Duration::from_secs(5)).await;
    assert!(events < 2_000 && bytes >= CATCH_UP_FRAME_BYTES && !live, "{events} events");
}

#[tokio::test]
async fn the_history_is_read_by_its_readers_and_what_comes_by_nobody() {
    let (hub, clock) = hub();
    publish(&hub, "one").await;
    for (start, expected) in [(Start::Now, Some("two")), (Start::Earliest, None)] {
        let mut stream = stream(&hub, &clock, FOREVER, start, never());
        let readers = Readers::start("nobody", 0);
        Arc::get_mut(&mut stream.streams).unwrap().readers = readers;
        frame(&mut stream).await;
        publish(&hub, "two").await;
        let next = tokio::time::timeout(Duration::from_millis(100), stream.frame()).await;
        let next = next.ok().map(|frame| frame.unwrap().unwrap().into_data().unwrap());
        let text = next.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        let data = text.as_deref().and_then(|text| text.split_once("data: "));
        assert_eq!(data.map(|(_, data)| data.trim()), expected, "{start:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_heartbeats_is_looked_at_now_and_then_and_says_nothing() {
    let (hub, clock) = hub();
    for expires in [None, Some(u64::MAX)] {
        let limits = Limits { expires, ..FOREVER };
        let mut stream = stream(&hub, &clock, limits, Start::Now, never());
        frame(&mut stream).await;
        let said = tokio::time::timeout(5 * EXPIRY_JUDGED_EVERY, stream.frame()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_timer_is_set_for_what_comes_first() {
    let (hub, clock) = hub();
    let second = Duration::from_secs(1);
    for (expires, heartbeat, expected) in [
        (None, None, EXPIRY_JUDGED_EVERY),
        (Some(u64::MAX), None, EXPIRY_JUDGED_EVERY),
        (Some(7_000), None, 7 * second),
        (None, Some(20 * second), 20 * second),
        (Some(7_000), Some(20 * second), 7 * second),
        (Some(7_000), Some(second), second),
    ] {
        let limits = Limits { expires, heartbeat, lifetime: None };
        let stream = stream(&hub, &clock, limits, Start::Now, never());
        assert_eq!(stream.timer.deadline() - Instant::now(), expected, "{expires:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_end_comes_with_a_heartbeat_ends() {
    let (hub, clock) = hub();
    let silence = Some(Duration::from_millis(20));
    let limits = Limits { heartbeat: silence, expires: Some(50), lifetime: None };
    let mut stream = stream(&hub, &clock, limits, Start::Now, never());
    frame(&mut stream).await;
    let waiting = std::pin::pin!(stream.frame());
    let mut waiting = waiting;
    assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    clock.0.store(50, Ordering::SeqCst);
    assert!(waiting.await.is_none());
}

/// How often a task was woken.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_stream_that_is_gone_leaves_its_turn_to_the_next() {
    let (hub, clock) = hub();
    let turns = Arc::new(Turns::new(1));
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = stream(&hub, &clock, FOREVER, Start::Now, never());
        stream.place = Place::new(Arc::clone(&turns));
        frame(&mut stream).await;
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let polled = Pin::new(&mut stream).poll_frame(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        streams.push((stream, woken));
    }
    publish(&hub, "one").await;
    let woken = |one: &(EventStream, Arc<Woken>)| one.1.0.load(Ordering::SeqCst);
    let until = |count: usize, streams: Vec<Arc<Woken>>| async move {
        let sum = || streams.iter().map(|one| one.0.load(Ordering::SeqCst)).sum::<usize>();
        while sum() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let all: Vec<_> = streams.iter().map(|one| Arc::clone(&one.1)).collect();
    let wait = Duration::from_secs(5);
    tokio::time::timeout(wait, until(1, all.clone())).await.unwrap();
    let first = streams.iter().position(|one| woken(one) > 0).unwrap();
    drop(streams.remove(first));
    tokio::time::timeout(wait, until(2, all)).await.expect("the other one has the turn");
    assert_eq!(woken(&streams[0]), 1);
}

#[tokio::test]
async fn a_stream_whose_token_falls_while_the_history_is_read_ends() {
    let (hub, clock) = hub();
    publish(&hub, "one").await;
    let mut stream = stream(&hub, &clock, FOREVER, Start::Earliest, never());
    frame(&mut stream).await;
    let Source::Live(subscription) = std::mem::replace(&mut stream.source, Source::Ended) else {
        panic!("nothing is read yet");
    };
    hub.judge_by(Arc::new(|_| false));
    assert!(subscription.is_ended());
    let turn =
        Turn { subscription, pieces: VecDeque::new(), last: None, missed: None, forgotten: None };
    stream.source = Source::History(Box::pin(std::future::ready(Some(turn))));
    assert_eq!(frame(&mut stream).await, None);
}
