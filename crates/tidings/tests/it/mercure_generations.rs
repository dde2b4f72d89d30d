//! Both generations side by side: the same request in the words of each gets the same verdict
//! wherever their tables agree, and that of its own column where they do not. Every combination of
//! token, place of the token, grant and page is tried.

use serde_json::json;

use crate::http::{Reply, encode};
use crate::hub::{HUB, TestHub};
use crate::mercure::{MEMORY, expect_challenge, expect_unauthorized, publish_end};
use crate::tokens::{self, Role, bearer, mint};

const TOPIC: &str = "https://both.example/1";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    Draft,
    Final,
}

/// What is wrong with the token, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Good,
    Expired,
    Early,
    ForeignKey,
    Garbled,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Header,
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

#[derive(Debug, Clone, Copy)]
struct Case {
    role: Role,
    token: Token,
    place: Place,
    /// What the token grants.
    grant: &'static str,
    page: Page,
}

/// What the hub does, without its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Served: published, or subscribed with private updates of the topic or without.
    Served {
        covered: bool,
    },
    NoToken,
    BadToken,
    BadPresentation,
    NotGranted,
}

impl Case {
    /// The one table for both, with the differences of the older column.
    fn expected(self, generation: Generation) -> Verdict {
        let by_cookie = matches!(self.place, Place::Cookie | Place::DraftCookie);
        if self.token == Token::None {
            return Verdict::NoToken;
        }
        if self.role == Role::Publish && by_cookie && self.page != Page::Own {
            return Verdict::BadPresentation;
        }
        if self.token != Token::Good {
            return Verdict::BadToken;
        }
        if self.place == Place::Query && generation == Generation::Final {
            return Verdict::BadPresentation;
        }
        let covered = ["*", TOPIC].contains(&self.grant);
        if self.role == Role::Publish && !covered {
            return Verdict::NotGranted;
        }
        Verdict::Served { covered }
    }

    fn token(self, generation: Generation) -> String {
        let (kind, mut claims) = match generation {
            Generation::Final => {
                let detail = tokens::detail(self.role, &[self.grant]);
                ("at+jwt", tokens::claims_final(json!([detail])))
            }
            Generation::Draft => {
                ("JWT", json!({ "mercure": { self.role.action(): [self.grant] } }))
            }
        };
        match self.token {
            Token::Expired => claims["exp"] = json!(tokens::now() - 10),
            Token::Early => claims["nbf"] = json!(tokens::now() + 1_000),
            Token::Good | Token::ForeignKey | Token::Garbled | Token::None => {}
        }
        let foreign = "a key that nobody here knows, long enough for HS256";
        let key = if self.token == Token::ForeignKey { foreign } else { self.role.key() };
        let token = mint(&json!({ "alg": "HS256", "typ": kind }), &claims, key);
        match self.token {
            Token::Garbled => format!("{token}AAAA"),
            _ => token,
        }
    }

    /// Sends the request. The verdict is read off the answer and off what is delivered.
    fn verdict(self, hub: &TestHub, generation: Generation) -> Verdict {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut query = String::new();
        let token = self.token(generation);
        match self.place {
            _ if self.token == Token::None => {}
            Place::Header => headers.push(bearer(&token)),
            Place::Query => query = format!("authorization={token}&"),
            Place::Cookie => {
                let pair = format!("__Secure-mercure_access_token={token}");
                headers.push(("Cookie".to_owned(), pair));
            }
            Place::DraftCookie => {
                headers.push(("Cookie".to_owned(), format!("mercureAuthorization={token}")));
            }
        }
        match self.page {
            Page::Own => headers.push(("Origin".to_owned(), tokens::PUBLIC_URL.to_owned())),
            Page::Foreign => headers.push(("Origin".to_owned(), "https://evil.example".to_owned())),
            Page::None => {}
        }
        let mut pairs: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match self.role {
            Role::Publish => {
                pairs.push(("Content-Type", "application/x-www-form-urlencoded"));
                let body = format!("topic={}&data=by-the-case", encode(TOPIC));
                let target = format!("{HUB}?{query}");
                let reply = hub.request("POST", &target, &pairs, body.as_bytes());
                self.read(generation, &reply, true)
            }
            Role::Subscribe => {
                let name = if generation == Generation::Draft { "topic" } else { "match" };
                let mark = encode(crate::mercure::END);
                let target = format!("{HUB}?{query}{name}={}&{name}={mark}", encode(TOPIC));
                let mut stream = hub.stream(&target, &pairs);
                if stream.head.status != 200 {
                    stream.until_end();
                    stream.head.body = stream.raw;
                    return self.read(generation, &stream.head, false);
                }
                stream.until_open();
                hub.publish(&[("topic", TOPIC), ("data", "private"), ("private", "on")]);
                let end = publish_end(hub);
                let first = stream.event().data;
                assert!(first == "private" || first == end, "{first}");
                Verdict::Served { covered: first == "private" }
            }
        }
    }

    /// The verdict behind an answer, which has to be in the words of its generation.
    fn read(self, generation: Generation, reply: &Reply, covered: bool) -> Verdict {
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
fn m35_to_m42_both_generations_decide_alike_and_differ_only_where_their_tables_do() {
    let hub = TestHub::start(MEMORY);
    let tokens =
        [Token::Good, Token::Expired, Token::Early, Token::ForeignKey, Token::Garbled, Token::None];
    let places = [Place::Header, Place::Query, Place::Cookie, Place::DraftCookie];
    let mut published = 0;
    for role in [Role::Publish, Role::Subscribe] {
        for token in tokens {
            for place in places {
                for grant in ["*", TOPIC, "https://both.example/2"] {
                    for page in [Page::Own, Page::Foreign, Page::None] {
                        let case = Case { role, token, place, grant, page };
                        let of = |generation| {
                            let verdict = case.verdict(&hub, generation);
                            assert_eq!(
                                verdict,
                                case.expected(generation),
                                "{generation:?} {case:?}"
                            );
                            verdict
                        };
                        let (draft, last) = (of(Generation::Draft), of(Generation::Final));
                        // The one place where the columns differ in more than words.
                        if place != Place::Query {
                            assert_eq!(draft, last, "{case:?}");
                        }
                        let served = [draft, last];
                        let is_served = |it: &&Verdict| matches!(it, Verdict::Served { .. });
                        if role == Role::Publish {
                            published += served.iter().filter(is_served).count();
                        }
                    }
                }
            }
        }
    }
    let stored = hub.history().into_iter().filter(|event| event.data == "by-the-case").count();
    assert_eq!(stored, published, "what was refused is not stored");
}
