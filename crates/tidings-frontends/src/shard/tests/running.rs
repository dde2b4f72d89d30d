//! Shards as they run: threads, real sockets, and updates while clients come and go.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::shard::Shards;

const CHUNKED: Framing = Framing::Chunked;

struct Running {
    served: Arc<Served>,
    shards: Shards,
    /// Where the shards have help, as in the program.
    runtime: Runtime,
}

fn running(count: usize) -> Running {
    let served = Served::new(Keep::default());
    let clock: Arc<dyn Clock> = Arc::<Wall>::clone(&served.wall);
    let readers = Arc::new(Readers::start("history", 1));
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("help").build();
    let runtime = runtime.unwrap();
    let shards = {
        let _inside = runtime.enter();
        Shards::start_some(&served.hub, &clock, &readers, count).unwrap()
    };
    Running { served: Arc::new(served), shards, runtime }
}

impl Running {
    fn join(&self, asks: &Asks, outlet: Outlet) {
        let (stream, carrier) = self.served.stream(asks, outlet);
        self.shards.begin(stream, carrier);
    }

    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < WAIT, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A loopback connection: the hub's side with a small buffer, and the client's.
fn pair() -> (mio::net::TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(4_096).unwrap();
    client.connect(&listener.local_addr().unwrap().into()).unwrap();
    let (server, _) = listener.accept().unwrap();
    socket2::SockRef::from(&server).set_send_buffer_size(4_096).unwrap();
    server.set_nonblocking(true).unwrap();
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(WAIT)).unwrap();
    (mio::net::TcpStream::from_std(server), client)
}

/// Reads until an update with this number has come, so many bytes at a time.
#[track_caller]
fn read_until(client: &mut TcpStream, last: usize, at_a_time: usize) -> Heard {
    let (mut got, mut piece) = (Vec::new(), vec![0; at_a_time]);
    let end = format!("\ndata: {last} ");
    loop {
        let count = client.read(&mut piece).unwrap();
        assert!(count > 0, "it ended before {last}");
        got.extend_from_slice(&piece[..count]);
        let tail = got.len().saturating_sub(count + 200_000);
        let has_it = got[tail..].windows(end.len()).any(|window| window == end.as_bytes());
        if has_it {
            let heard = heard(got.strip_prefix(HEAD).unwrap(), CHUNKED);
            if heard.numbers.last() == Some(&last) {
                return heard;
            }
        }
    }
}

#[test]
fn clients_that_join_at_any_moment_hear_everything_from_their_place_on() {
    let running = running(2);
    let served = Arc::clone(&running.served);
    let (updates, clients, before) = (2_000, 100, served.hub.end().durable);
    let publishing = {
        let hub = served.hub.clone();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            for number in 1..=updates {
                runtime.block_on(publish(&hub, "t", number % 3 == 0, data(number, number % 50)));
            }
        })
    };
    let mut scripts = Vec::new();
    for client in 0..clients {
        let has_token = client % 2 == 0;
        // The end of the history at this moment is a place behind which nothing may be missing.
        let place = served.hub.end();
        let start = match client % 3 {
            0 => Start::Now,
            1 => Start::After(place),
            _ => Start::Earliest,
        };
        let script = Script::taking(std::iter::repeat_n(Some(700), client));
        let token = has_token.then_some("somebody");
        let asks = Asks { start, token, ..Asks::default() };
        running.join(&asks, Outlet::Scripted(script.clone()));
        scripts.push((script, start, has_token));
        std::thread::sleep(Duration::from_micros(300));
    }
    publishing.join().unwrap();
    // `Now` is when the shard hears of them.
    running.until("all are there", || served.subscribers() == clients as u64);
    served.publish("t", updates + 1, 1);
    for (script, start, has_token) in &scripts {
        running.until("the last one comes", || {
            script.heard(CHUNKED).numbers.last() == Some(&(updates + 1))
        });
        let numbers = script.heard(CHUNKED).numbers;
        let first = match start {
            Start::Earliest => 1,
            Start::After(place) => usize::try_from(place.durable - before).unwrap() + 1,
            _ => numbers[0],
        };
        let all = (first..=updates + 1)
            .filter(|number| *has_token || number % 3 != 0 || *number > updates);
        assert_eq!(numbers, all.collect::<Vec<_>>(), "{start:?}");
    }
}

#[test]
fn slow_sockets_get_all_that_quick_ones_get() {
    let running = running(1);
    let mut clients = Vec::new();
    for at_a_time in [100_000, 3_000, 500] {
        let (server, client) = pair();
        running.join(&Asks::default(), Outlet::Plain(server));
        clients.push((client, at_a_time));
    }
    running.until("all are there", || running.served.subscribers() == 3);
    let reading: Vec<_> = clients
        .into_iter()
        .map(|(mut client, at_a_time)| {
            std::thread::spawn(move || read_until(&mut client, 60, at_a_time).numbers)
        })
        .collect();
    for number in 1..=60 {
        let length = [1, 300, 20_000, 70_000][number % 4];
        running.served.publish("t", number, length);
    }
    for reading in reading {
        assert_eq!(reading.join().unwrap(), (1..=60).collect::<Vec<_>>());
    }
    running.until("all have left", || running.served.subscribers() == 0);
    assert_eq!(running.served.stalled(), 0);
}

#[test]
fn a_socket_that_is_read_no_more_is_cut_off_and_one_that_is_read_again_goes_on() {
    let running = running(1);
    let asks = Asks { write_timeout: Duration::from_millis(700), ..Asks::default() };
    let (server, stopped) = pair();
    running.join(&asks, Outlet::Plain(server));
    let (server, mut pausing) = pair();
    running.join(&Asks { write_timeout: WAIT, ..asks }, Outlet::Plain(server));
    running.until("both are there", || running.served.subscribers() == 2);
    for number in 1..=40 {
        running.served.publish("t", number, 100_000);
    }
    running.until("one is cut off", || running.served.subscribers() == 1);
    assert_eq!(running.served.stalled(), 1);
    let heard = read_until(&mut pausing, 40, 64 * 1024);
    assert_eq!(heard.numbers, (1..=40).collect::<Vec<_>>());
    drop(stopped);
}

#[test]
fn clients_that_leave_or_go_on_talking_are_let_go() {
    let running = running(1);
    let mut clients = HashMap::new();
    for name in ["leaves", "resets", "closes half", "talks", "floods", "stays"] {
        let (server, client) = pair();
        running.join(&Asks::default(), Outlet::Plain(server));
        clients.insert(name, client);
    }
    running.until("all are there", || running.served.subscribers() == 6);
    drop(clients.remove("leaves"));
    running.until("one has left", || running.served.subscribers() == 5);
    let reset = clients.remove("resets").unwrap();
    socket2::SockRef::from(&reset).set_linger(Some(Duration::ZERO)).unwrap();
    drop(reset);
    running.until("one was reset", || running.served.subscribers() == 4);
    clients["closes half"].shutdown(std::net::Shutdown::Write).unwrap();
    running.until("one has closed", || running.served.subscribers() == 3);
    clients.get_mut("talks").unwrap().write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let flood = vec![b'x'; 4 * 1024 * 1024];
    // Refused in the middle, as it should be.
    let _refused = clients.get_mut("floods").unwrap().write_all(&flood);
    running.until("one is let go", || running.served.subscribers() == 2);
    running.served.publish("t", 1, 10);
    for name in ["talks", "stays"] {
        assert_eq!(read_until(clients.get_mut(name).unwrap(), 1, 1_000).numbers, [1]);
    }
}

#[test]
fn a_shard_that_panics_ends_its_streams_and_serves_the_next() {
    let running = running(1);
    let (server, mut client) = pair();
    let limits =
        Limits { expires: Some(PANIC), heartbeat: Some(Duration::from_millis(20)), ..FOREVER };
    running.join(&Asks::default(), Outlet::Plain(server));
    running.until("it is there", || running.served.subscribers() == 1);
    running.served.wall.0.store(PANIC, Ordering::SeqCst);
    let (server, _unlucky) = pair();
    running.join(&Asks { limits, ..Asks::default() }, Outlet::Plain(server));
    let mut rest = Vec::new();
    let ended = client.read_to_end(&mut rest);
    assert!(ended.is_ok(), "{ended:?}");
    assert!(!heard(rest.strip_prefix(HEAD).unwrap(), CHUNKED).ended, "an end that says nothing");
    running.until("nobody is left", || running.served.subscribers() == 0);
    running.served.wall.0.store(0, Ordering::SeqCst);
    let (server, mut next) = pair();
    running.join(&Asks::default(), Outlet::Plain(server));
    running.until("it is there", || running.served.subscribers() == 1);
    running.served.publish("t", 1, 10);
    assert_eq!(read_until(&mut next, 1, 1_000).numbers, [1]);
    let loads: usize = running.shards.shards.iter().map(|shard| shard.load.streams()).sum();
    assert_eq!(loads, 1, "who ended is counted");
}

#[test]
fn a_shard_that_panics_still_hears_that_it_has_to_end() {
    let running = running(1);
    running.served.wall.0.store(PANIC, Ordering::SeqCst);
    let limits =
        Limits { expires: Some(PANIC), heartbeat: Some(Duration::from_millis(20)), ..FOREVER };
    for _ in 0..3 {
        let (server, _unlucky) = pair();
        running.join(&Asks { limits, ..Asks::default() }, Outlet::Plain(server));
    }
    let (ended, has_ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(running);
        ended.send(())
    });
    has_ended.recv_timeout(WAIT).expect("an end");
}

#[test]
fn streams_end_with_their_shards() {
    let Running { served, shards, runtime } = running(2);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (server, client) = pair();
        let (stream, carrier) = served.stream(&Asks::default(), Outlet::Plain(server));
        shards.begin(stream, carrier);
        clients.push(client);
    }
    drop(shards);
    for mut client in clients {
        client.read_to_end(&mut Vec::new()).unwrap();
    }
    assert_eq!((served.subscribers(), served.open.len()), (0, 0));
    drop(runtime);
}

#[test]
fn few_are_served_without_waking_the_thread_and_by_it_when_the_runtime_is_gone() {
    let Running { served, shards, runtime } = running(1);
    let served = Arc::new(served);
    let script = Script::default();
    let (stream, carrier) = served.stream(&Asks::default(), Outlet::Scripted(script.clone()));
    shards.begin(stream, carrier);
    let mut writers = HashMap::new();
    let mut publish = |numbers: std::ops::RangeInclusive<usize>| {
        for number in numbers {
            let begun = Instant::now();
            served.publish("t", number, 10);
            while script.heard(CHUNKED).numbers.last() != Some(&number) {
                assert!(begun.elapsed() < WAIT, "{number}");
                std::thread::yield_now();
            }
            *writers.entry(script.lock().writer.clone()).or_insert(0) += 1;
        }
        std::mem::take(&mut writers)
    };
    let begun = Instant::now();
    while served.subscribers() == 0 {
        assert!(begun.elapsed() < WAIT);
    }
    let first = publish(1..=200);
    assert!(first.get("help").is_some_and(|times| *times > 100), "{first:?}");
    assert!(first.contains_key("shard-0"), "the first, of which nothing is known: {first:?}");
    runtime.shutdown_background();
    let rest = publish(201..=250);
    assert!(rest.get("shard-0").is_some_and(|times| *times >= 49), "{rest:?}");
    assert_eq!(script.heard(CHUNKED).numbers, (1..=250).collect::<Vec<_>>());
}
