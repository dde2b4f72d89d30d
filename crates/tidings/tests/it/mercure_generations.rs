//! Both generations side by side: the same request in the words of each gets the same verdict
//! wherever their tables agree, and that of its own column where they do not. Random combinations
//! of everything that a token can have or lack, of where it stands, of topics and of pages.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::http::{self, Reply, encode};
use crate::hub::{HUB, TestHub};
use crate::mercure::{MEMORY, expect_challenge, expect_unauthorized, publish_end};
use crate::tokens::{self, Role, bearer, mint};

const TOPICS: [&str; 3] =
    ["https://both.example/1", "https://both.example/2", "https://both.example/3?a=b"];
const ADMIN: &str = "admin-token-of-the-tests";
const REVOKED: &str = "taken back";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    Draft,
    Final,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Header,
    /// With the scheme in lower case.
    LowHeader,
    Query,
    Cookie,
    DraftCookie,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Own,
    Foreign,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signature {
    Good,
    /// By the key of the other role.
    OtherRole,
    Foreign,
    /// Of another text.
    Garbled,
    /// By nobody, and the header says so.
    Nobody,
    /// By the right key, with another algorithm in the header.
    OtherAlgorithm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    Ahead,
    Past,
    Missing,
    /// No number.
    Words,
}

/// What stands in a claim that has to name somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Right,
    /// The right one among others, where a list may stand.
    Listed,
    Wrong,
    Missing,
}

#[derive(Debug, Clone)]
struct Case {
    role: Role,
    place: Place,
    page: Page,
    signature: Signature,
    expires: Time,
    not_before: Time,
    /// The header's `typ`.
    kind: Option<&'static str>,
    issuer: Name,
    audience: Name,
    revoked: bool,
    /// What the token grants.
    granted: Vec<&'static str>,
    /// Topics of the update that is published, or that others publish privately.
    topics: Vec<&'static str>,
}

/// What the hub does, without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Served: published, or subscribed with private updates of the topics or without.
    Served {
        covered: bool,
    },
    NoToken,
    BadToken,
    BadPresentation,
    NotGranted,
}

/// The first choice as often as all others together, so that each flaw also comes alone.
fn mostly<T: Clone + std::fmt::Debug + 'static>(
    usual: T,
    others: Vec<T>,
) -> impl Strategy<Value = T> {
    prop_oneof![7 => Just(usual), 1 => select(others)]
}

fn cases() -> impl Strategy<Value = Case> {
    let places = vec![
        Place::Nowhere,
        Place::Header,
        Place::LowHeader,
        Place::Query,
        Place::Cookie,
        Place::DraftCookie,
    ];
    let signatures = vec![
        Signature::OtherRole,
        Signature::Foreign,
        Signature::Garbled,
        Signature::Nobody,
        Signature::OtherAlgorithm,
    ];
    let kinds = vec![Some("application/AT+JWT"), Some("AT+jwt"), Some("JWT"), Some(""), None];
    let grants = ["*", TOPICS[0], TOPICS[1], TOPICS[2], "https://both.example/4"].to_vec();
    let request =
        (select(vec![Role::Publish, Role::Subscribe]), select(places), select(PAGES.to_vec()));
    let token = (
        mostly(Signature::Good, signatures),
        mostly(Time::Ahead, vec![Time::Past, Time::Missing, Time::Words]),
        mostly(Time::Missing, vec![Time::Past, Time::Ahead, Time::Words]),
        mostly(Some("at+jwt"), kinds),
        mostly(Name::Right, vec![Name::Wrong, Name::Missing]),
        mostly(Name::Right, vec![Name::Listed, Name::Wrong, Name::Missing]),
        mostly(false, vec![true]),
        subsequence(grants, 1..=2),
    );
    (request, token, subsequence(TOPICS.to_vec(), 1..=3)).prop_map(
        |((role, place, page), token, topics)| {
            let (signature, expires, not_before, kind, issuer, audience, revoked, granted) = token;
            Case {
                role,
                place,
                page,
                signature,
                expires,
                not_before,
                kind,
                issuer,
                audience,
                revoked,
                granted,
                topics,
            }
        },
    )
}

const PAGES: [Page; 3] = [Page::Own, Page::Foreign, Page::None];

impl Case {
    /// The one table for both, with the differences of the older column.
    fn expected(&self, generation: Generation) -> Verdict {
        let by_cookie = matches!(self.place, Place::Cookie | Place::DraftCookie);
        if self.place == Place::Nowhere {
            return Verdict::NoToken;
        }
        if self.role == Role::Publish && by_cookie && self.page != Page::Own {
            return Verdict::BadPresentation;
        }
        if self.is_refused(generation) {
            return Verdict::BadToken;
        }
        // What each generation alone refuses: a URL keeps no secret, and hubs of 0.x read the
        // scheme in one case only.
        let alone = match generation {
            Generation::Final => Place::Query,
            Generation::Draft => Place::LowHeader,
        };
        if self.place == alone {
            return Verdict::BadPresentation;
        }
        let is_granted = |topic: &&str| self.granted.iter().any(|it| *it == "*" || it == topic);
        match self.role {
            Role::Publish if !self.topics.iter().all(is_granted) => Verdict::NotGranted,
            Role::Publish => Verdict::Served { covered: true },
            Role::Subscribe => Verdict::Served { covered: self.topics.iter().any(is_granted) },
        }
    }

    fn is_refused(&self, generation: Generation) -> bool {
        self.signature != Signature::Good
            || self.revoked
            || matches!(self.expires, Time::Past | Time::Words)
            || matches!(self.not_before, Time::Ahead | Time::Words)
            || (generation == Generation::Final && self.lacks_what_1_0_asks_for())
    }

    fn lacks_what_1_0_asks_for(&self) -> bool {
        let kind = self.kind.unwrap_or_default().to_ascii_lowercase();
        !["at+jwt", "application/at+jwt"].contains(&kind.as_str())
            || self.expires == Time::Missing
            || self.issuer != Name::Right
            || matches!(self.audience, Name::Wrong | Name::Missing)
    }

    /// Whether the columns say the same of it.
    fn is_alike(&self) -> bool {
        !matches!(self.place, Place::Query | Place::LowHeader) && !self.lacks_what_1_0_asks_for()
    }

    fn token(&self, generation: Generation) -> String {
        let mut claims = match generation {
            Generation::Final => {
                json!({ "authorization_details": [tokens::detail(self.role, &self.granted)] })
            }
            Generation::Draft => json!({ "mercure": { self.role.action(): self.granted } }),
        };
        let time = |time: Time| match time {
            Time::Ahead => Some(json!(tokens::now() + 1_000)),
            Time::Past => Some(json!(tokens::now() - 10)),
            Time::Words => Some(json!("soon")),
            Time::Missing => None,
        };
        let name = |name: Name, right: &str| match name {
            Name::Right => Some(json!(right)),
            Name::Listed => Some(json!(["https://other.example", right])),
            Name::Wrong => Some(json!("https://other.example")),
            Name::Missing => None,
        };
        let said = [
            ("exp", time(self.expires)),
            ("nbf", time(self.not_before)),
            ("iss", name(self.issuer, tokens::ISSUER)),
            ("aud", name(self.audience, tokens::HUB_URL)),
            ("jti", self.revoked.then(|| json!(REVOKED))),
        ];
        for (claim, value) in said {
            if let Some(value) = value {
                claims[claim] = value;
            }
        }
        let mut header = json!({ "alg": "HS256" });
        if let Some(kind) = self.kind {
            header["typ"] = json!(kind);
        }
        let with = |header: &Value, key: &str| mint(header, &claims, key);
        let own = self.role.key();
        match self.signature {
            Signature::Good => with(&header, own),
            Signature::OtherRole if self.role == Role::Publish => {
                with(&header, Role::Subscribe.key())
            }
            Signature::OtherRole => with(&header, Role::Publish.key()),
            Signature::Foreign => {
                with(&header, "a key that nobody here knows, long enough for HS256")
            }
            Signature::Garbled => format!("{}AAAA", with(&header, own)),
            Signature::Nobody => {
                header["alg"] = json!("none");
                let token = with(&header, own);
                token[..=token.rfind('.').unwrap()].to_owned()
            }
            Signature::OtherAlgorithm => {
                header["alg"] = json!("HS512");
                with(&header, own)
            }
        }
    }

    /// Sends the request. The verdict is read off the answer and off what is delivered.
    fn verdict(&self, hub: &TestHub, generation: Generation) -> Verdict {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut query = String::new();
        let token = self.token(generation);
        let mut cookie = |name| headers.push(("Cookie".to_owned(), format!("{name}={token}")));
        match self.place {
            Place::Nowhere => {}
            Place::Header => headers.push(bearer(&token)),
            Place::LowHeader => {
                headers.push(("Authorization".to_owned(), format!("bearer {token}")));
            }
            Place::Query => query = format!("authorization={token}&"),
            Place::Cookie => cookie("__Secure-mercure_access_token"),
            Place::DraftCookie => cookie("mercureAuthorization"),
        }
        match self.page {
            Page::Own => headers.push(("Origin".to_owned(), tokens::PUBLIC_URL.to_owned())),
            Page::Foreign => headers.push(("Origin".to_owned(), "https://evil.example".to_owned())),
            Page::None => {}
        }
        let mut pairs: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let topics = self.topics.iter().map(|topic| ("topic", *topic));
        match self.role {
            Role::Publish => {
                pairs.push(("Content-Type", "application/x-www-form-urlencoded"));
                let fields: Vec<_> = topics.chain([("data", "by-the-case")]).collect();
                let target = format!("{HUB}?{query}");
                let reply = hub.request("POST", &target, &pairs, http::form(&fields).as_bytes());
                self.read(generation, &reply, true)
            }
            Role::Subscribe => {
                let name = if generation == Generation::Draft { "topic" } else { "match" };
                let (first, mark) = (encode(self.topics[0]), encode(crate::mercure::END));
                let target = format!("{HUB}?{query}{name}={first}&{name}={mark}");
                let mut stream = hub.stream(&target, &pairs);
                if stream.head.status != 200 {
                    stream.until_end();
                    stream.head.body = stream.raw;
                    return self.read(generation, &stream.head, false);
                }
                stream.until_open();
                let rest = [("data", "private"), ("private", "on")];
                hub.publish(&topics.chain(rest).collect::<Vec<_>>());
                let end = publish_end(hub);
                let first = stream.event().data;
                assert!(first == "private" || first == end, "{first}");
                Verdict::Served { covered: first == "private" }
            }
        }
    }

    /// The verdict behind an answer, which has to be in the words of its generation.
    fn read(&self, generation: Generation, reply: &Reply, covered: bool) -> Verdict {
        let case = format!("{generation:?} {self:?}");
        if reply.status == 200 {
            return Verdict::Served { covered };
        }
        let expected = self.expected(generation);
        // A publication without a token does not say its generation: 1.0's words say more.
        let in_final = generation == Generation::Final
            || (expected == Verdict::NoToken && self.role == Role::Publish);
        if !in_final {
            // One answer for everything: only the table tells them apart.
            expect_unauthorized(reply, &case);
            assert!(!matches!(expected, Verdict::Served { .. }), "{case}");
            return expected;
        }
        let (status, code, verdict) = match reply.status {
            400 => (400, Some("invalid_request"), Verdict::BadPresentation),
            403 => (403, Some("insufficient_scope"), Verdict::NotGranted),
            _ if expected == Verdict::NoToken => (401, None, Verdict::NoToken),
            _ => (401, Some("invalid_token"), Verdict::BadToken),
        };
        expect_challenge(reply, status, code, &case);
        verdict
    }
}

#[test]
fn m35_to_m57_both_generations_decide_alike_and_differ_only_where_their_tables_do() {
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{ADMIN}\"");
    let hub = TestHub::start(&format!("{MEMORY}\n{admin}"));
    let (name, value) = bearer(ADMIN);
    let revoke = json!({ "token_id": REVOKED }).to_string();
    let path = "/tidings/admin/revocations";
    let ask = http::request("POST", path, &[(&name, &value)], revoke.as_bytes());
    http::exchange(hub.admin.unwrap(), &ask).expect(201);
    let (published, served, alike) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let more = |count: &Cell<usize>| count.set(count.get() + 1);
    let config = Config { cases: 1_000, failure_persistence: None, ..Config::default() };
    let judged = TestRunner::new(config).run(&cases(), |case| {
        let verdicts = [Generation::Draft, Generation::Final].map(|generation| {
            let verdict = case.verdict(&hub, generation);
            if matches!(verdict, Verdict::Served { .. }) {
                more(if case.role == Role::Publish { &published } else { &served });
            }
            (verdict, case.expected(generation))
        });
        for (verdict, expected) in verdicts {
            prop_assert_eq!(verdict, expected);
        }
        if case.is_alike() {
            more(&alike);
            prop_assert_eq!(verdicts[0].0, verdicts[1].0);
        }
        Ok(())
    });
    judged.unwrap();
    let (published, served, alike) = (published.get(), served.get(), alike.get());
    assert!(published > 20 && served > 50 && alike > 100, "{published} {served} {alike}");
    let stored = hub.history().into_iter().filter(|event| event.data == "by-the-case").count();
    assert_eq!(stored, published, "what was refused is not stored");
}
