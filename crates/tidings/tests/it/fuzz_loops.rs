//! Every parser of outside bytes, fed for some seconds with mutated examples: it must not panic,
//! and no input may cost more than a moment. The same functions are the targets in `fuzz/`.
//!
//! `TIDINGS_FUZZ_SECONDS` sets the time of each loop, `TIDINGS_FUZZ_SEED` repeats a run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SECONDS: u64 = 5;
/// No input of this size may take longer, even on a busy machine with unoptimised code.
const INPUT_TIME_MAX: Duration = Duration::from_secs(2);
const INPUT_BYTES_MAX: usize = 4 * 1024;

/// Bytes that mean something to one parser or another.
const WORDS: &[&str] = &[
    "*",
    "{",
    "}",
    "{?a,b}",
    "{/x*}",
    "{+p:3}",
    "(",
    ")",
    "(.*)",
    "[a-z]+",
    "\\",
    ":id",
    "?",
    "#",
    "//",
    "https://",
    "..",
    "%2e",
    "%",
    "%00",
    "%ff",
    "+",
    "&",
    "=",
    ";",
    "\r",
    "\n",
    "\r\n",
    "\0",
    "\u{85}",
    "\u{200b}",
    "\u{feff}",
    "é",
    "topic",
    "match",
    "match_urlpattern",
    "last_event_id",
    "earliest",
    ".well-known/mercure",
    "a+",
    "((((",
    "))))",
    "{{{{",
    "|",
    "$",
    ">",
    "/",
    "-1",
    "1e999",
    "18446744073709551616",
    "\"",
    "'",
    "null",
    "true",
    "[[",
    "]]",
    "\u{d7ff}",
    "authorization_details",
    "exp",
    "alg",
    "none",
    "HS256",
    ".",
    "eyJ",
    "crit",
    "data:",
    "id:",
    "retry:",
    ":",
    "   ",
];

#[test]
fn forms_of_any_bytes() {
    run("forms", tidings_frontends::mercure::fuzz_form, &[
        b"topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&data=hello+world&private=on&id=a&retry=10",
        b"match=*&match_urlpattern=https%3A%2F%2Fexample.com%2F%3Aid&last_event_id=earliest",
        b"topic=a&topic=b&lastEventID=urn%3Auuid%3A0&authorization=x",
    ]);
}

#[test]
fn tokens_of_any_bytes() {
    run("tokens", tidings_frontends::auth::fuzz_token, &[
        b"eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJpc3MiOiJodHRwczovL2V4YW1wbGUuY29tIn0.AAAA",
        b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}\0{\"mercure\":{\"publish\":[\"*\"]},\"exp\":1.5}",
        b"{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}\0{\"iss\":\"a\",\"aud\":[\"b\"],\"exp\":9,\
          \"authorization_details\":[{\"type\":\"https://mercure.rocks/authorization-detail\",\
          \"actions\":[\"publish\"],\"topics\":[{\"match\":\"*\",\"match_type\":\"exact\"}]}]}",
    ]);
}

#[test]
fn configurations_of_any_bytes() {
    run(
        "configurations",
        tidings::config::fuzz_config,
        &[
            b"listen = [\"127.0.0.1:3000\"]\npublic_url = \"https://hub.example\"\n[history]\n\
          durability = \"fsync\"\nkeep = { age = \"7d\", size = \"10 GiB\" }\n",
            b"[[auth.issuer]]\nid = \"https://a.example\"\naccept = [\"1.0\", \"0.x\"]\n\
          publish = { key = \"k\", algorithm = \"HS256\" }\n",
        ],
    );
}

#[test]
fn directives_of_any_bytes() {
    run("directives", tidings::config::fuzz_directives, &[
        b"anonymous\ncors_origins *\nheartbeat 40s\npublish_origins *\n",
        b"transport bolt {\n\tpath /data/mercure.db\n\tsize 1000\n\tcleanup_frequency 0.3\n}\n",
        b"publisher_jwt \"se cret\" HS256\nsubscriber_jwt {env.KEY}\nwrite_timeout 600s # why\n",
    ]);
}

#[test]
fn patterns_of_any_bytes() {
    // The language, the pattern, topics.
    let seeds: &[&[u8]] = &[
        b"\x01https://example.com/books/:id\0https://example.com/books/1",
        b"\x01https://*.example.com{/:a}?/(\\d+)?q=*#*\0https://a.example.com/1?q=2",
        b"\x02https://example.com/{?topic}{/a*}{+b:3}\0https://example.com/?other=x",
        b"\x03a/+/b/#\0a/x/b/c",
        b"\x04a.*.>\0a.b.c",
    ];
    run("patterns", tidings_core::matcher::fuzz_patterns, seeds);
}

#[test]
fn records_of_any_bytes() {
    run("records", tidings_core::fuzz::fuzz_record, &[RECORD, &[0; 64]]);
}

#[test]
fn segments_of_any_bytes() {
    let two = [RECORD, RECORD].concat();
    run("segments", tidings_core::fuzz::fuzz_segment, &[&two, &[0; 256]]);
}

#[test]
fn sidecars_of_any_bytes() {
    run("sidecars", tidings_core::fuzz::fuzz_sidecar, &[b"TIDINGS\n\x01\0\0\0", &[0; 128]]);
}

#[test]
fn streams_of_any_bytes() {
    run(
        "events",
        tidings::client::fuzz_events,
        &[
            b"\xef\xbb\xbfid: 1\nevent: a\ndata: x\ndata:  y\n\n: comment\n\nretry: 1500\n\n",
            b"data\r\n\r\nid\r\rdata: z\r\n\n",
        ],
    );
}

#[test]
fn forwarded_addresses_of_any_bytes() {
    run(
        "forwarded",
        tidings_frontends::http::fuzz_forwarded,
        &[
            b"1.1.1.1, 203.0.113.9, 10.0.0.0\n[2001:db8::7]:4711",
            b"unknown, ::ffff:10.0.0.0, 10.0.0.0:80 ",
        ],
    );
}

#[test]
fn balancers_headers_of_any_bytes() {
    run(
        "proxy_protocol",
        tidings_frontends::http::fuzz_proxy_protocol,
        &[
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x12\x34\x0b\xb8GET /",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\nGET /",
            b"PROXY UNKNOWN\r\n",
        ],
    );
}

#[test]
fn socket_frames_of_any_bytes() {
    run(
        "socket_frames",
        tidings_frontends::websocket::fuzz_frames,
        &[
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x89\x80\0\0\0\0",
            b"\x01\x81\0\0\0\0a\x8a\x80\0\0\0\0\x80\x81\0\0\0\0b",
            b"\x82\xfe\0\x7e\0\0\0\0\x88\x82\0\0\0\0\x03\xe8",
        ],
    );
}

#[test]
fn sessions_of_any_bytes() {
    run(
        "sessions",
        tidings_frontends::websocket::fuzz_sessions,
        &[
            b"{\"op\":\"authenticate\",\"ref\":1,\"token\":\"x\"}\n{\"op\":\"ping\"}\n",
            b"{\"op\":\"subscribe\",\"ref\":2,\"matchers\":[{\"match\":\"a\"}],\
              \"start\":\"earliest\"}\n\
              {\"op\":\"unsubscribe\",\"ref\":\"x\",\"name\":\"2\"}",
            b"\0\0\0\0\x26{\"op\":\"publish\",\"ref\":1,\"topics\":[\"a\"]}data",
        ],
    );
}

#[test]
fn courier_sessions_of_any_bytes() {
    run(
        "courier_sessions",
        tidings_frontends::courier::fuzz_courier,
        &[
            b"{\"action\":\"subscribe\",\"topic\":\"a/b\"}\n{\"action\":\"unsubscribe\"}",
            b"{\"action\":\"publish\",\"topic\":\"/../:\",\"message\":{\"a\":[1,null]}}",
            b"{\"action\":\"broadcast\",\"message\":1}\n\0{}",
        ],
    );
}

#[test]
fn signed_urls_of_any_bytes() {
    run(
        "signed_urls",
        tidings_frontends::courier::fuzz_signed,
        &[b"t1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", b"AAECAwQFBgcICQoLDA0ODw==", b"a.b.c"],
    );
}

#[test]
fn origins_of_any_bytes() {
    run(
        "origins",
        tidings_frontends::mercure::fuzz_origins,
        &[
            b"https://app.example.com\nhttps://*.e.com\nhttp://localhost:*\n*\nhttps://a.e.com",
            b"null\n*\nnull",
        ],
    );
}

#[test]
fn cookies_of_any_bytes() {
    run(
        "cookies",
        tidings_frontends::mercure::fuzz_cookies,
        &[
            b"a=1; name=\"token\"; mercureAuthorization=x\nname=2;;=;name\nhttps://a.example/x",
            b"name = a=b ;name=c\nhttp://[::1]:80/",
        ],
    );
}

#[test]
fn subscriptions_of_any_bytes() {
    run(
        "subscriptions",
        tidings_frontends::mercure::fuzz_subscriptions,
        &[
            b"/exact/https%3A%2F%2Fexample.com%2F1/urn%3Auuid%3A00000000-0000-4000-8000-000000000000",
            b"/a+b%252F/urn%3Auuid%3A00000000-0000-4000-8000-000000000000?authorization=x&a=b",
        ],
    );
}

#[test]
fn metadata_of_any_bytes() {
    run(
        "metadata",
        tidings::app::fuzz_metadata,
        &[
            b"{\"issuer\":\"https://issuer.example\",\"jwks_uri\":\"https://e.com/k\"}",
            b"{\"issuer\":\"https://issuer.example\",\"jwks_uri\":\"http://127.0.0.1/\"}",
        ],
    );
}

#[test]
fn keys_of_any_bytes() {
    run(
        "keys",
        tidings_frontends::auth::fuzz_key,
        &[
            include_bytes!("../../../tidings-frontends/tests-data/p256.public.pem"),
            include_bytes!("../../../tidings-frontends/tests-data/rsa2048.public.pem"),
            include_bytes!("../../../tidings-frontends/tests-data/rsa2048.pkcs1.pem"),
            b"0123456789abcdef0123456789abcdef",
        ],
    );
}

#[test]
fn variables_of_any_bytes() {
    run("variables", tidings::config::fuzz_variables, &[
        b"TIDINGS_LISTEN='[\"127.0.0.1:1\"]'\nTIDINGS_HISTORY__KEEP_AGE=7d # why\n\
          TIDINGS_AUTH_ISSUER='[{\"id\": \"a\", \"publish\": {\"key\": \"k\"}}]'\n",
        b"export SERVER_NAME=\"http://hub.example:8080, :80\"\nMERCURE_PUBLISHER_JWT_KEY=${A}\n\
          MERCURE_TRANSPORT_URL=bolt:///data/m.db?size=10\nTIDINGS_SINK__A__KIND=x\n",
        b"JWT_KEY=0123456789abcdef0123456789abcdef\nADDR=:3333\nHEARTBEAT_INTERVAL=15s\n",
    ]);
}

#[test]
fn endpoints_of_any_bytes() {
    run("endpoints", tidings_connectors::specification::fuzz_endpoint, &[
        br#"{"kind": "webhook", "name": "a", "topics": ["*"], "url": "https://e.example/"}"#,
        br#"{"kind": "webhook", "name": "b", "topics": [{"nats": "a.>"}], "key": "topic", "rate": 9,
            "url": "http://e", "retry": {"first": "1s"}, "headers": {"x-a": "b"}, "success": 204}"#,
        br#"{"then": {"publish": {"replace": ["a", "b"]}}, "basic": {"user": "u"}, "kind": 5}"#,
    ]);
}

#[test]
fn exchanges_of_any_bytes() {
    run(
        "exchanges",
        tidings_frontends::tokens::fuzz_exchange,
        &[
            br#"{"topics": ["a", {"match": "b/#", "match_type": "mqtt"}], "lifetime": 60}"#,
            br#"{"topics": ["https://e.com/1"], "subject": "alice", "generation": "0.x"}"#,
            br#"{"authorization_details": [{"type": "https://mercure.rocks/authorization-detail",
            "actions": ["subscribe"], "topics": [{"match": "a"}], "payload": {"a": [1]}}]}"#,
            b"topic=a&topic=https%3A%2F%2Fe.com%2F2&lifetime=5&subject=b&generation=1.0",
            b"grant_type=client_credentials&scope=x",
        ],
    );
}

/// Shaped like a record: length, checksum, offset, synced, time, flags, one topic, data.
const RECORD: &[u8] = b"\x14\0\0\0\xde\xad\xbe\xef\x02\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\
    \x01\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\0adata";

/// Feeds mutated seeds to a parser until the time is over.
fn run(name: &str, parser: fn(&[u8]), seeds: &[&[u8]]) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("TIDINGS_FUZZ_SECONDS").unwrap_or(SECONDS);
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("TIDINGS_FUZZ_SEED").unwrap_or_else(clock) | 1;
    let mut random = Random(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = 0_u64;
    while Instant::now() < end {
        let input = mutated(&mut random, seeds);
        let begun = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| parser(&input)));
        let took = begun.elapsed();
        let shown = || input.escape_ascii().to_string();
        assert!(outcome.is_ok(), "{name} panicked (seed {seed}) on b\"{}\"", shown());
        assert!(took < INPUT_TIME_MAX, "{name} took {took:?} (seed {seed}) for b\"{}\"", shown());
        inputs += 1;
    }
    eprintln!("{name}: {inputs} inputs");
}

/// A seed with some changes: flipped, removed, repeated and spliced bytes, words put in.
fn mutated(random: &mut Random, seeds: &[&[u8]]) -> Vec<u8> {
    let mut input = match random.below(16) {
        0 => (0..random.below(64)).map(|_| random.next() as u8).collect(),
        1 => Vec::new(),
        _ => seeds[random.below(seeds.len())].to_vec(),
    };
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let upto = at + random.below(input.len() - at + 1);
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            2 => drop(input.drain(at..upto)),
            3 => {
                let times = 1 << random.below(8);
                let part = input[at..upto].repeat(times);
                input.splice(at..at, part);
            }
            4 => {
                let other = seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                let times = if random.below(8) == 0 { random.below(200) } else { 1 };
                input.splice(at..at, word.repeat(times).bytes());
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

/// A small random number generator (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
