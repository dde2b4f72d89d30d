//! The client against endpoints on real sockets, well-behaved and hostile.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::super::peer::{OK, Peer, request};
use super::super::tls::tls;
use super::*;
use crate::limits::ANSWER_BYTES_MAX;

/// Enough for what comes at once, little for what never comes.
const SHORT: Times = Times { connect: Duration::from_secs(1), total: Duration::from_secs(1) };

fn client(egress: Egress, times: Times) -> Client {
    Client::new(egress, tls().unwrap(), times)
}

fn own() -> Client {
    client(Egress::everything(), Times::default())
}

fn hasty() -> Client {
    client(Egress::everything(), SHORT)
}

async fn post(client: &Client, url: &Url) -> Result<Exchanged, Failure> {
    client.post(url, HeaderMap::new(), Bytes::from_static(b"{}")).await
}

async fn failed(client: &Client, url: &Url, fault: Fault, told: &str) {
    let failure = post(client, url).await.expect_err(told);
    assert_eq!(failure.fault, fault, "{}", failure.reason);
    assert!(failure.reason.contains(told), "{} has no {told:?}", failure.reason);
}

#[tokio::test]
async fn a_request_says_what_it_was_told_to() {
    let peer = Peer::new(|mut stream, _| async move {
        let text = request(&mut stream).await.unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
    })
    .await;
    let url = peer.url().join("/a%20b/|c?d=%C3%A9&e=|#f").unwrap();
    let headers = HeaderMap::from_iter([
        (HOST, HeaderValue::from_static("elsewhere")),
        (CONTENT_LENGTH, HeaderValue::from_static("7")),
        (http::header::ACCEPT, HeaderValue::from_static("*/*")),
    ]);
    let exchanged = own().post(&url, headers, Bytes::from_static(b"body")).await.unwrap();
    let text = String::from_utf8(exchanged.body.to_vec()).unwrap();
    let (line, rest) = text.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /a%20b/|c?d=%C3%A9&e=| HTTP/1.1");
    let (head, body) = rest.split_once("\r\n\r\n").unwrap();
    let mut fields: Vec<_> = head.split("\r\n").collect();
    fields.sort_unstable();
    let host = format!("host: {}", peer.address);
    assert_eq!(fields, ["accept: */*", "content-length: 4", host.as_str()]);
    assert_eq!((body, exchanged.is_whole), ("body", true));
}

#[tokio::test]
async fn an_empty_body_has_a_length() {
    let peer = Peer::new(|mut stream, _| async move {
        let text = request(&mut stream).await.unwrap();
        assert!(text.contains("content-length: 0\r\n"), "{text}");
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    assert!(own().post(&peer.url(), HeaderMap::new(), Bytes::new()).await.is_ok());
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let (peer, client) = (Peer::answering(OK).await, own());
    for _ in 0..20 {
        let exchanged = post(&client, &peer.url()).await.unwrap();
        assert_eq!((exchanged.status.as_u16(), &exchanged.body[..]), (200, &b"ok"[..]));
    }
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn an_answer_in_two_parts_is_not_waited_for() {
    // As servers write that are written without care: each part waits for the one before.
    let peer = Peer::new(|mut stream, _| async move {
        stream.set_nodelay(false).unwrap();
        while request(&mut stream).await.is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
            stream.write_all(b"ok").await.unwrap();
        }
    })
    .await;
    let (client, began) = (own(), Instant::now());
    for _ in 0..100 {
        post(&client, &peer.url()).await.unwrap();
    }
    // A delayed acknowledgement is 40 ms.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_is_an_answer_where_that_is_enough() {
    for (head, ends) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
    ] {
        let peer = Peer::new(move |mut stream, _| async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(head.as_bytes()).await.unwrap();
                if ends {
                    break;
                }
            }
        })
        .await;
        let client = own().content_with_heads();
        for _ in 0..2 {
            let exchanged = post(&client, &peer.url()).await.unwrap();
            assert_eq!((exchanged.status.as_u16(), exchanged.is_whole), (200, false));
        }
        assert_eq!(peer.accepted(), 2, "what is left of an answer is in no other's way");
        assert!(post(&hasty(), &peer.url()).await.is_err());
    }
}

#[tokio::test]
async fn there_are_never_more_connections_than_requests_at_a_time() {
    let (peer, client) = (Peer::answering(OK).await, own());
    for _ in 0..5 {
        let url = peer.url();
        let all = (0..8).map(|_| post(&client, &url));
        for exchanged in futures_util::future::join_all(all).await {
            exchanged.unwrap();
        }
    }
    assert!(peer.accepted() <= 8, "{}", peer.accepted());
}

#[tokio::test]
async fn a_large_body_arrives_whole() {
    let peer = Peer::new(|mut stream, _| async move {
        let text = request(&mut stream).await.unwrap();
        assert!(text.ends_with(&"x".repeat(4 << 20)));
        stream.write_all(OK.as_bytes()).await.unwrap();
    })
    .await;
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    assert!(own().post(&peer.url(), HeaderMap::new(), body).await.is_ok());
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_nothing() {
    // The close comes before the second request, or meets it.
    let peer = Peer::answering_once(OK).await;
    let client = own();
    for count in 1..=20 {
        post(&client, &peer.url()).await.unwrap();
        assert_eq!(peer.accepted(), count);
    }
}

/// Answers the first request, and ends the connection at the second one with these words.
async fn ends_the_second_time(words: &'static str) -> Peer {
    Peer::new(move |mut stream, number| async move {
        request(&mut stream).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        let second = request(&mut stream).await;
        let end = if number == 0 { words } else { OK };
        if second.is_some() {
            stream.write_all(end.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_meets_a_close_is_sent_again() {
    let (peer, client) = (ends_the_second_time("").await, own());
    post(&client, &peer.url()).await.unwrap();
    post(&client, &peer.url()).await.unwrap();
    assert_eq!(peer.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_an_answer_began_for_is_not_sent_again() {
    let (peer, client) = (ends_the_second_time("HTTP/1.1 2").await, own());
    post(&client, &peer.url()).await.unwrap();
    failed(&client, &peer.url(), Fault::Unreachable, "closed").await;
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn a_request_is_sent_again_only_once_and_never_for_a_new_connection() {
    let peer = Peer::new(|mut stream, number| async move {
        request(&mut stream).await.unwrap();
        if number == 0 {
            stream.write_all(OK.as_bytes()).await.unwrap();
            request(&mut stream).await;
        }
    })
    .await;
    let client = own();
    post(&client, &peer.url()).await.unwrap();
    failed(&client, &peer.url(), Fault::Unreachable, "closed before an answer").await;
    assert_eq!(peer.accepted(), 2);
    failed(&client, &peer.url(), Fault::Unreachable, "closed before an answer").await;
    assert_eq!(peer.accepted(), 3);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_end_a_connection() {
    let peer = Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok HTTP/1.1").await;
    let client = own();
    post(&client, &peer.url()).await.unwrap();
    post(&client, &peer.url()).await.unwrap();
    assert_eq!(peer.accepted(), 2);
}

/// Sends these bytes for ever, one piece after the other, until the other end closes.
async fn endless(first: &'static str, piece: &'static str, pause: Duration) -> Peer {
    Peer::new(move |mut stream, _| async move {
        request(&mut stream).await.unwrap();
        let mut written = stream.write_all(first.as_bytes()).await;
        while written.is_ok() {
            written = stream.write_all(piece.as_bytes()).await;
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    })
    .await
}

const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test]
async fn heads_that_dribble_end_in_time() {
    let began = Instant::now();
    let all = [
        ("", "H"),
        ("HTTP/1.1 200 OK\r\nx: ", "y"),
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ]
    .map(|(first, piece)| async move {
        let (peer, client) = (endless(first, piece, PAUSE).await, hasty());
        failed(&client, &peer.url(), Fault::TimedOut, "no answer in time (1s at most").await;
    });
    futures_util::future::join_all(all).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn bodies_that_dribble_end_in_time() {
    let began = Instant::now();
    let all = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9;", "x"),
        ("HTTP/1.1 200 OK\r\n\r\n", "x"),
    ]
    .map(|(first, piece)| async move {
        let (peer, client) = (endless(first, piece, PAUSE).await, hasty());
        failed(&client, &peer.url(), Fault::TimedOut, "the answer 200 OK did not come").await;
    });
    futures_util::future::join_all(all).await;
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn an_answer_before_the_request_has_ended_is_taken() {
    let peer = Peer::new(|mut stream, _| async move {
        stream.readable().await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        // The rest is never read: the connection is of no use for another request.
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    let client = own();
    for count in 1..=2 {
        let body = Bytes::from(vec![b'x'; 16 << 20]);
        let exchanged = client.post(&peer.url(), HeaderMap::new(), body).await.unwrap();
        assert_eq!((exchanged.status.as_u16(), peer.accepted()), (413, count));
    }
}

#[tokio::test]
async fn a_silent_endpoint_ends_in_time() {
    let peer =
        Peer::new(|mut stream, _| async move { while request(&mut stream).await.is_some() {} })
            .await;
    failed(&hasty(), &peer.url(), Fault::TimedOut, "no answer in time").await;
}

#[tokio::test]
async fn endless_bodies_are_taken_to_the_limit_and_left() {
    let (client, piece) = (own(), "0123456789abcdef0123456789abcdef");
    for (first, piece) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", piece),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "20\r\n0123456789abcdef0123456789abcdef\r\n",
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", piece),
    ] {
        let peer = endless(first, piece, Duration::ZERO).await;
        for count in 1..=2 {
            let exchanged = post(&client, &peer.url()).await.unwrap();
            assert_eq!((exchanged.body.len(), exchanged.is_whole), (ANSWER_BYTES_MAX, false));
            assert!(exchanged.body.starts_with(b"0123456789abcdef0123"));
            assert_eq!(peer.accepted(), count);
        }
    }
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_whole() {
    let peer = Peer::new(|mut stream, _| async move {
        while request(&mut stream).await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ANSWER_BYTES_MAX}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'x'; ANSWER_BYTES_MAX]).await.unwrap();
        }
    })
    .await;
    let client = own();
    for _ in 0..2 {
        let exchanged = post(&client, &peer.url()).await.unwrap();
        assert_eq!((exchanged.body.len(), exchanged.is_whole), (ANSWER_BYTES_MAX, true));
    }
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn endless_heads_are_left() {
    let client = own();
    for (first, piece) in [
        ("HTTP/1.1 200 OK\r\nx: ", "0123456789abcdef"),
        ("HTTP/1.1 200 OK\r\n", "x: 0123456789abcdef\r\n"),
        ("HTTP/1.1 200 ", "0123456789abcdef"),
    ] {
        let peer = endless(first, piece, Duration::ZERO).await;
        failed(&client, &peer.url(), Fault::Unreachable, "larger than 16384 bytes").await;
    }
}

#[tokio::test]
async fn endless_interim_answers_are_left() {
    let client = own();
    for piece in [
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 100 \r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n",
    ] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let peer = Peer::new(move |mut stream, _| {
            let count = Arc::clone(&count);
            async move {
                request(&mut stream).await.unwrap();
                // Ends when the other end closes.
                while stream.write_all(piece.as_bytes()).await.is_ok() {
                    count.fetch_add(piece.len(), Ordering::SeqCst);
                }
            }
        })
        .await;
        let began = Instant::now();
        failed(&client, &peer.url(), Fault::Unreachable, "interim answers (1xx) came").await;
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!((client.pool.count(), peer.accepted()), (0, 1));
        // The system's buffers hold some that nobody read.
        assert!(sent.load(Ordering::SeqCst) < 32 << 20);
    }
}

#[tokio::test]
async fn some_interim_answers_are_passed_over_on_every_request_of_a_connection() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let answer = format!("{}{OK}", interim.repeat(1_000));
    let peer = Peer::new(move |mut stream, _| {
        let answer = answer.clone();
        async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let client = own();
    for _ in 0..5 {
        assert_eq!(post(&client, &peer.url()).await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(peer.accepted(), 1);
}

#[tokio::test]
async fn what_is_no_http_is_said_to_be_none() {
    for (answer, told) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "not HTTP/1.1"),
        ("HTTP/2 200\r\n\r\n", "not HTTP/1.1"),
        ("HTTP/1.1 20 OK\r\n\r\n", "not HTTP/1.1"),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "not HTTP/1.1"),
        ("", "closed before an answer"),
        ("HTTP/1.1 200 OK\r\nx: ", "closed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", "end of file"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nsho", "end of file"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "hunk"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", "not HTTP"),
    ] {
        let peer = Peer::answering_once(answer).await;
        failed(&own(), &peer.url(), Fault::Unreachable, told).await;
    }
}

#[tokio::test]
async fn every_kind_of_answer_is_taken() {
    for (answer, status, body, connections) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", 1),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", 304, "", 1),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, "x", 1),
        ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, "", 1),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
             2;a=b\r\nab\r\n1\r\nc\r\n0\r\nx: y\r\n\r\n",
            200,
            "abc",
            1,
        ),
        ("HTTP/1.1 500 Sorry\r\ncontent-length: 0\r\n\r\n", 500, "", 1),
        ("HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", 302, "", 1),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\nx", 200, "x", 1),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx", 200, "x", 3),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx", 200, "x", 3),
    ] {
        let (peer, client) = (Peer::answering(answer).await, own());
        for _ in 0..3 {
            let exchanged = post(&client, &peer.url()).await.unwrap();
            assert_eq!((exchanged.status.as_u16(), &exchanged.body[..]), (status, body.as_bytes()));
            assert!(exchanged.is_whole);
        }
        assert_eq!(peer.accepted(), connections, "{answer}");
    }
    for answer in ["HTTP/1.0 200 OK\r\n\r\nall", "HTTP/1.1 200 OK\r\n\r\nall"] {
        let peer = Peer::answering_once(answer).await;
        assert_eq!(&post(&own(), &peer.url()).await.unwrap().body[..], b"all");
    }
}

#[tokio::test]
async fn a_guarded_client_makes_no_connection_behind_the_walls() {
    let peer = Peer::answering(OK).await;
    let client_of = |allow: &[&str]| {
        let allow = allow.iter().map(|net| net.parse().unwrap()).collect();
        client(Egress::guarded(allow), Times::default())
    };
    let guarded = client_of(&["10.0.0.0/8"]);
    failed(&guarded, &peer.url(), Fault::Rejected, "127.0.0.1: it leads to 127.0.0.1").await;
    let named = format!("http://localhost:{}/", peer.address.port()).parse().unwrap();
    failed(&guarded, &named, Fault::Rejected, "add it to `allow`").await;
    assert_eq!(peer.accepted(), 0);
    assert!(post(&client_of(&["127.0.0.1/32"]), &peer.url()).await.is_ok());
}

#[tokio::test]
async fn nobody_there_and_nobody_known_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}/secret?token=secret").parse().unwrap();
    let failure = post(&own(), &url).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Unreachable);
    assert!(failure.reason.contains(&format!("{address}: Connection refused")));
    assert!(!failure.reason.contains("secret"), "{}", failure.reason);
    let unknown = "http://nowhere.invalid/".parse().unwrap();
    failed(&own(), &unknown, Fault::Unreachable, "nowhere.invalid: its name could not").await;
}

#[tokio::test]
async fn a_reason_is_never_longer_than_it_may_be() {
    let failure = failure(Fault::Never, "é".repeat(1_000));
    assert_eq!(failure.reason, "é".repeat(REASON_BYTES_MAX / 2));
}

/// Makes what a client knows of names too old to count.
fn forget(client: &Client) {
    let mut known = client.known.lock().unwrap();
    if let Some(known) = known.as_mut() {
        known.since -= NAME_AGE_MAX;
    }
}

#[tokio::test]
async fn a_name_that_moves_under_an_idle_connection_is_not_followed() {
    let home = Peer::answering(OK).await;
    let port = home.address.port();
    let moved = Peer::at(([127, 0, 0, 2], port).into(), |mut stream: TcpStream, _| async move {
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "a request went there");
    })
    .await;
    let client = own();
    let url: Url = format!("http://localhost:{port}/").parse().unwrap();
    let known = client.place(&url).await.unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    let (origin, tls) = (&known.origin, &client.tls);
    // The name led there once.
    let open = Open::connect(origin, &[moved.address], tls, until).await.unwrap();
    client.pool.give(open).await;
    post(&client, &url).await.unwrap();
    assert_eq!((home.accepted(), moved.accepted()), (1, 1));
    let open = Open::connect(origin, &[moved.address], tls, until).await.unwrap();
    client.pool.give(open).await;
    forget(&client);
    client.place(&url).await.unwrap();
    assert_eq!(client.pool.count(), 1, "only the one to where the name leads now");
}

#[tokio::test]
async fn a_name_that_turns_forbidden_costs_it_its_connections() {
    let peer = Peer::answering(OK).await;
    let mut client = client(Egress::everything(), Times::default());
    post(&client, &peer.url()).await.unwrap();
    assert_eq!(client.pool.count(), 1);
    client.egress = Egress::guarded(Vec::new());
    post(&client, &peer.url()).await.unwrap();
    forget(&client);
    failed(&client, &peer.url(), Fault::Rejected, "add it to `allow`").await;
    assert_eq!((client.pool.count(), peer.accepted()), (0, 1));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let peer = Peer::answering(OK).await;
    let dead = ([127, 0, 0, 3], peer.address.port()).into();
    let client = own();
    let origin = Arc::new(Origin::of(&peer.url()).unwrap());
    let until = Instant::now() + Duration::from_secs(5);
    let addresses = [dead, peer.address];
    let open = Open::connect(&origin, &addresses, &client.tls, until).await.unwrap();
    assert_eq!(open.peer, peer.address);
    let none = Open::connect(&origin, &[dead], &client.tls, until).await;
    assert!(matches!(none, Err(Unconnected::Unreachable(address, _)) if address == dead));
}

#[tokio::test]
async fn another_origin_gets_a_connection_of_its_own() {
    let (one, other, client) = (Peer::answering(OK).await, Peer::answering(OK).await, own());
    for _ in 0..2 {
        post(&client, &one.url()).await.unwrap();
        post(&client, &other.url()).await.unwrap();
    }
    assert_eq!((one.accepted(), other.accepted()), (2, 2));
}
