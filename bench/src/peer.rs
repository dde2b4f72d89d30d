//! What is said to servers of each kind, and how they answer a publisher: templates. Knows no
//! socket.

use std::io::Write;

use clap::ValueEnum;

use crate::decode::{Dialect, Stream};
use crate::form::{encode, encoded};
use crate::http::Head;
use crate::options::{LoadOptions, Population, Tokens, topic_name};
use crate::packet::{Packets, masked_text, mqtt_packet, mqtt_text, puback};
use crate::token;

/// Patterns that one stranger subscribes to: what a subscription may have.
const PATTERNS_EACH: usize = 100;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Mercure, and as much of it as the floors understand.
    Mercure,
    /// nginx with Nchan: Server-Sent Events, published by POST.
    Nchan,
    /// redis: its own protocol.
    Redis,
    /// NATS: its own protocol.
    Nats,
    /// mosquitto: MQTT 3.1.1, subscribed with QoS 0, published with QoS 1 for the answer.
    Mosquitto,
    /// `bench/peers/uws.js`: WebSocket, published by POST.
    Uws,
    /// The hub over its WebSocket, published as with Mercure.
    Socket,
}

impl Kind {
    /// Whether there is anything private. Others send everything to everybody.
    pub(crate) fn has_private(self) -> bool {
        matches!(self, Kind::Mercure | Kind::Socket)
    }

    /// What a subscriber is going to receive.
    pub(crate) fn stream(self) -> Stream {
        match self {
            Kind::Mercure | Kind::Nchan => Stream::behind_head(Dialect::Events),
            Kind::Redis | Kind::Nats => Stream::bare(Dialect::Bare),
            Kind::Mosquitto => Stream::bare(Dialect::Packets(Packets::Mqtt)),
            Kind::Uws => Stream::behind_head(Dialect::Packets(Packets::WebSocket)),
            Kind::Socket => Stream::behind_head(Dialect::Packets(Packets::Hub)),
        }
    }

    /// What a publisher says first.
    pub(crate) fn greeting(self) -> Vec<u8> {
        match self {
            Kind::Nats => b"CONNECT {\"verbose\":false}\r\n".to_vec(),
            Kind::Mosquitto => mqtt_connect(),
            Kind::Mercure | Kind::Nchan | Kind::Redis | Kind::Uws | Kind::Socket => Vec::new(),
        }
    }

    /// What a subscriber answers when it is asked whether it is there.
    pub(crate) fn pong(self) -> &'static [u8] {
        match self {
            Kind::Nats => b"PONG\r\n",
            // A masked frame without a payload.
            Kind::Uws | Kind::Socket => b"\x8a\x80\0\0\0\0",
            Kind::Mercure | Kind::Nchan | Kind::Redis | Kind::Mosquitto => b"",
        }
    }
}

/// A topic as this kind of server names it.
fn topic(kind: Kind, number: usize) -> String {
    match kind {
        Kind::Mercure | Kind::Socket => topic_name(number),
        Kind::Nchan | Kind::Redis | Kind::Nats | Kind::Mosquitto | Kind::Uws => {
            format!("live{number}")
        }
    }
}

/// The token of a subscriber, if it has one.
pub(crate) fn subscriber_token(options: &LoadOptions, subscriber: usize, of: usize) -> String {
    let (subject, topic) = match options.tokens {
        Tokens::Shared => ("everybody".to_owned(), "*".to_owned()),
        Tokens::None | Tokens::Own => (format!("person-{subscriber}"), topic_name(of)),
    };
    token::mint(&options.token_audience(), &subject, "subscribe", &topic)
}

/// Path and query of a subscriber, behind a cursor if there is one.
pub(crate) fn subscribe_target(options: &LoadOptions, subscriber: usize, of: usize) -> String {
    if matches!(options.kind, Kind::Nchan | Kind::Uws) {
        return format!("/sub/{}", topic(options.kind, of));
    }
    let (parameter, pattern) = match options.bystanders {
        0 => Population::Exact.matching(of, subscriber),
        _ => options.population.matching(of, subscriber),
    };
    format!("/.well-known/mercure?{parameter}={}", encoded(&pattern))
}

/// A subscriber's first bytes, HTTP/2 apart.
pub(crate) fn subscribe_request(
    options: &LoadOptions,
    subscriber: usize,
    of: usize,
    cursor: Option<&str>,
) -> Vec<u8> {
    let topic = topic(options.kind, of);
    match options.kind {
        Kind::Redis => return command(&[b"SUBSCRIBE", topic.as_bytes()]),
        Kind::Nats => {
            let hello = "CONNECT {\"verbose\":false}";
            return format!("{hello}\r\nSUB {topic} 1\r\nPING\r\n").into_bytes();
        }
        Kind::Mosquitto => {
            let subscribe = mqtt_packet(0x82, &[&[0, 1], &mqtt_text(&topic), &[0]]);
            return [mqtt_connect(), subscribe].concat();
        }
        Kind::Uws => {
            return format!(
                "GET /sub/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes();
        }
        Kind::Socket => return socket_request(options, subscriber, of, &topic),
        Kind::Mercure | Kind::Nchan => {}
    }
    let target = subscribe_target(options, subscriber, of);
    let mut request = format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\
         Cache-Control: no-cache\r\n"
    );
    if options.has_token(subscriber) {
        request.push_str("Authorization: Bearer ");
        request.push_str(&subscriber_token(options, subscriber, of));
        request.push_str("\r\n");
    }
    if let Some(cursor) = cursor {
        request.push_str("Last-Event-ID: ");
        request.push_str(cursor);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// The upgrade, and behind it the command that subscribes, in one frame whose mask changes nothing.
fn socket_request(options: &LoadOptions, subscriber: usize, of: usize, topic: &str) -> Vec<u8> {
    let token = match options.has_token(subscriber) {
        true => format!("Authorization: Bearer {}\r\n", subscriber_token(options, subscriber, of)),
        false => String::new(),
    };
    let command = format!(r#"{{"op":"subscribe","ref":1,"matchers":[{{"match":"{topic}"}}]}}"#);
    let mut request = upgrade(&token).into_bytes();
    request.extend_from_slice(&masked_text(command.as_bytes()));
    request
}

/// Asks the hub for a socket; with these fields, each with its line end.
pub(crate) fn upgrade(fields: &str) -> String {
    format!(
        "GET /.well-known/tidings/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: tidings.v1.json\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A frame by which a socket subscribes to a topic of its own that nobody publishes, or
/// unsubscribes from it.
pub(crate) fn change(number: usize, subscribes: bool) -> Vec<u8> {
    let command = match subscribes {
        true => format!(
            r#"{{"op":"subscribe","ref":1,"name":"c","matchers":[{{"match":"urn:changing:{number}"}}]}}"#
        ),
        false => r#"{"op":"unsubscribe","ref":2,"name":"c"}"#.to_owned(),
    };
    masked_text(command.as_bytes())
}

/// How many subscriptions these patterns make.
pub(crate) fn stranger_count(options: &LoadOptions) -> usize {
    options.bystanders.div_ceil(PATTERNS_EACH)
}

/// What stranger number `stranger` subscribes with.
pub(crate) fn stranger_request(options: &LoadOptions, stranger: usize) -> Vec<u8> {
    let first = stranger * PATTERNS_EACH;
    let last = (first + PATTERNS_EACH).min(options.bystanders);
    let fields: Vec<String> = (first..last)
        .map(|number| options.population.stranger(number))
        .map(|(parameter, pattern)| format!("{parameter}={}", encoded(&pattern)))
        .collect();
    let body = fields.join("&");
    format!(
        "QUERY /.well-known/mercure HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Writes publications of one kind.
pub(crate) struct Publications {
    kind: Kind,
    /// Everything of the head up to the length.
    head: String,
}

impl Publications {
    /// With a token of its own.
    pub(crate) fn new(options: &LoadOptions) -> Publications {
        let head = match options.kind {
            Kind::Mercure | Kind::Socket => format!(
                "POST /.well-known/mercure HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                 Authorization: Bearer {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ",
                token::mint(&options.token_audience(), "publisher", "publish", "*")
            ),
            _ => String::new(),
        };
        Publications { kind: options.kind, head }
    }

    /// Appends the request that publishes this payload.
    pub(crate) fn write(&self, out: &mut Vec<u8>, number: usize, payload: &[u8], private: bool) {
        let topic = topic(self.kind, number);
        let length = payload.len();
        // Writing to a vector does not fail.
        let _ok = match self.kind {
            Kind::Mercure | Kind::Socket => {
                let mut body = b"topic=".to_vec();
                encode(&mut body, topic.as_bytes());
                body.extend_from_slice(b"&data=");
                encode(&mut body, payload);
                if private {
                    body.extend_from_slice(b"&private=on");
                }
                out.extend_from_slice(self.head.as_bytes());
                write!(out, "{}\r\n\r\n", body.len()).and_then(|()| out.write_all(&body))
            }
            Kind::Nchan | Kind::Uws => write!(
                out,
                "POST /pub/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n"
            )
            .and_then(|()| out.write_all(payload)),
            Kind::Redis => out.write_all(&command(&[b"PUBLISH", topic.as_bytes(), payload])),
            Kind::Mosquitto => {
                out.write_all(&mqtt_packet(0x32, &[&mqtt_text(&topic), &[0, 1], payload]))
            }
            // The answer to the PING comes behind the publication.
            Kind::Nats => write!(out, "PUB {topic} {length}\r\n")
                .and_then(|()| out.write_all(payload))
                .and_then(|()| out.write_all(b"\r\nPING\r\n")),
        };
    }
}

/// What a server said to a publication.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// Not all of it has arrived.
    Partial,
    /// Accepted: the answer's length, and its body, which is the id where there is one.
    Accepted(usize, &'a [u8]),
    /// Not accepted, in its words.
    Refused(String),
}

/// The answer at the beginning of these bytes.
pub(crate) fn answer(kind: Kind, bytes: &[u8]) -> Answer<'_> {
    match kind {
        Kind::Mosquitto => {
            puback(bytes).map_or(Answer::Partial, |length| Answer::Accepted(length, b""))
        }
        Kind::Mercure | Kind::Nchan | Kind::Uws | Kind::Socket => {
            let Some(head) = Head::parse(bytes) else { return Answer::Partial };
            let length = head.length + head.content_length().unwrap_or(0);
            match bytes.get(head.length..length) {
                None => Answer::Partial,
                Some(body) if head.is_success() => Answer::Accepted(length, body),
                Some(_) => Answer::Refused(String::from_utf8_lossy(bytes).into_owned()),
            }
        }
        Kind::Redis | Kind::Nats => {
            let mut used = 0;
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                used += line.len();
                match line.first() {
                    _ if !line.ends_with(b"\n") => break,
                    Some(b'-') => {
                        return Answer::Refused(String::from_utf8_lossy(line).into_owned());
                    }
                    Some(b':') => return Answer::Accepted(used, b""),
                    _ if line == b"PONG\r\n" => return Answer::Accepted(used, b""),
                    // What NATS says of itself at the beginning.
                    _ => {}
                }
            }
            Answer::Partial
        }
    }
}

/// A session that nothing is kept of, without a name and without a time to live.
fn mqtt_connect() -> Vec<u8> {
    mqtt_packet(0x10, &[&mqtt_text("MQTT"), &[4, 2, 0, 0], &mqtt_text("")])
}

/// A command to redis.
fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_when_they_are_complete() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nidHTTP/1.1";
        assert_eq!(answer(Kind::Mercure, &text[..text.len() - 9]), Answer::Partial);
        assert_eq!(answer(Kind::Mercure, text), Answer::Accepted(text.len() - 8, b"id"));
        let refused = answer(Kind::Mercure, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(refused, Answer::Refused(_)));
        assert_eq!(answer(Kind::Nats, b"INFO {}\r\nPONG\r"), Answer::Partial);
        assert_eq!(answer(Kind::Nats, b"INFO {}\r\nPONG\r\n"), Answer::Accepted(15, b""));
        assert_eq!(answer(Kind::Redis, b":1000\r\n"), Answer::Accepted(7, b""));
        assert!(matches!(answer(Kind::Redis, b"-NOAUTH\r\n"), Answer::Refused(_)));
    }
}
