//! Who gets what: ten thousand generated publications by publishers of different rights, each judged
//! for dozens of receivers on every protocol, against a model that shares no line with the program.
//!
//! The same cases come in every run; `TIDINGS_ISOLATION_SEED` gives others, and a failure says which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::courier::{Application, Client};
use crate::http::{self, Connection, EventStream, PATIENCE, encode};
use crate::hub::{HUB, TestHub};
use crate::receiver::Receiver;
use crate::sinks::{ADMIN, Dice, ask};
use crate::tickets;
use crate::tokens::{Role, bearer, claims_final, mint, token_draft};
use crate::websocket::Socket;

use model::{delivers, picks, verdict};

const CASES: usize = 10_000;
const ROUNDS: usize = 25;
/// Receivers of a round: streams, sockets, connections of audiences, endpoints.
const RECEIVERS: [usize; 4] = [22, 22, 12, 8];
const COURIER_SECRET: &str = "the secret of an application, long enough";
const END: &str = "https://end.example/1";
/// What topics of tenants begin with; the audience's id follows.
const TENANTS: &str = "urn:tidings:audience:";
/// A kind of pattern that no client can write: what the operator may read.
const EVERYTHING: &str = "everything";

/// A pattern of one of the few shapes that are generated: what stands for one level and for the
/// rest is always written alike.
#[derive(Debug, Clone, PartialEq)]
struct Pattern {
    /// As `match_type`.
    kind: &'static str,
    text: String,
}

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Update {
    topics: Vec<String>,
    private: bool,
}

/// What is right, by the words of the documentation.
mod model {
    use super::{EVERYTHING, Pattern, TENANTS, Update};

    fn tenant(text: &str) -> Option<&str> {
        text.strip_prefix(TENANTS)?.split([':', '{']).next()
    }
    pub(super) fn picks(Pattern { kind, text }: &Pattern, topic: &str) -> bool {
        let begin = text.split('{').next().unwrap();
        let (one, rest, separator) = match (*kind, tenant(topic)) {
            (EVERYTHING, _) => return true,
            ("exact", of) => return text == topic || (text == "*" && of.is_none()),
            ("uritemplate", Some(of)) => {
                return tenant(begin) == Some(of) && topic.starts_with(begin);
            }
            (_, Some(_)) => return false,
            ("mqtt", _) if topic.starts_with('$') && text.starts_with(['+', '#']) => return false,
            ("mqtt", _) => ("+", "#", '/'),
            ("nats", _) => ("*", ">", '.'),
            ("urlpattern", _) => (":any", "*", '/'),
            (_, _) => ("{any}", "{+all}", '/'),
        };
        let mut levels = topic.split(separator);
        for word in text.split(separator) {
            match levels.next() {
                level if word == rest => return level.is_some() || *kind == "mqtt",
                Some(level) if word == one || word == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
    pub(super) fn delivers(asks: &[Pattern], may: &[Pattern], update: &Update) -> bool {
        let any = |all: &[Pattern]| update.topics.iter().any(|t| all.iter().any(|p| picks(p, t)));
        any(asks) && (!update.private || any(may))
    }
    pub(super) fn verdict(may: &[Pattern], update: &Update) -> u16 {
        let of: Vec<_> = update.topics.iter().map(|topic| tenant(topic)).collect();
        let is_alone = update.private && of.iter().all(|other| *other == of[0]);
        let may_all = update.topics.iter().all(|topic| may.iter().any(|one| picks(one, topic)));
        let is_apart = of.iter().any(Option::is_some) && !is_alone;
        let status = if may_all { 200 } else { 403 };
        if is_apart { 400 } else { status }
    }
}

/// Says how to see a failure again.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the same cases: TIDINGS_ISOLATION_SEED={}", self.0);
        }
    }
}

/// Makes cases.
struct Generator {
    dice: Dice,
    /// What topics of each audience begin with. The last is nobody's, and its name begins with the
    /// first one's.
    tenants: Vec<String>,
}

impl Generator {
    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.dice.below(texts.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.dice.below(100) < percent
    }

    fn tenant(&mut self) -> usize {
        self.dice.below(self.tenants.len() as u64) as usize
    }

    fn topic_of(&mut self, tenant: usize) -> String {
        let name = self.one_of(&["", ":a", ":b", ":a%2Fb", ":c"]);
        format!("{}{name}", self.tenants[tenant])
    }

    /// A topic of no audience.
    fn topic(&mut self) -> String {
        let [one, other] = [(); 2].map(|()| self.one_of(&["a", "b", "c"]));
        match self.dice.below(12) {
            0..4 => format!("https://e.example/{one}/{}", 1 + self.dice.below(2)),
            4..6 => format!("{one}/{other}"),
            6..8 => format!("{one}.{other}"),
            8 => one.to_owned(),
            9 => format!("$sys/{one}"),
            10 => self.tenants[0].replace("tidings", "TIDINGS"),
            _ => format!("{one}/{other}/a.b"),
        }
    }

    fn update(&mut self) -> Update {
        let count = self.one_of(&["1", "1", "2", "3"]).parse().unwrap();
        let tenant = self.tenant();
        let mut topics: Vec<String> = match self.dice.below(20) {
            0..11 => (0..count).map(|_| self.topic()).collect(),
            11..18 => (0..count).map(|_| self.topic_of(tenant)).collect(),
            18 => vec![self.topic_of(tenant), self.topic()],
            _ => [tenant, self.tenant()].map(|tenant| self.topic_of(tenant)).into(),
        };
        if self.chance(20) {
            topics.reverse();
        }
        topics.dedup();
        let is_of_tenants = topics.iter().any(|topic| topic.starts_with(TENANTS));
        let private = self.chance(if is_of_tenants { 90 } else { 50 });
        Update { topics, private }
    }

    fn pattern(&mut self) -> Pattern {
        let tenant = self.tenant();
        let own = self.tenants[tenant].clone();
        let (kind, text) = match self.dice.below(24) {
            0..2 => ("exact", "*".to_owned()),
            2..6 => ("exact", self.topic()),
            6 => ("exact", self.topic_of(tenant)),
            7 => ("uritemplate", format!("{own}:{{any}}")),
            8 => ("uritemplate", format!("{own}{{+all}}")),
            9 => ("uritemplate", format!("{}{{+all}}", &own[..own.len() - 1])),
            10 => ("uritemplate", format!("{TENANTS}{{+all}}")),
            11 => ("mqtt", self.topic_of(tenant)),
            12 => ("urlpattern", format!("{}*", own.replace(':', "\\:"))),
            13..16 => {
                let all = ["https://e.example/:any/1", "https://e.example/a/:any"];
                ("urlpattern", self.one_of(&[all[0], all[1], "https://e.example/*"]).to_owned())
            }
            16..19 => {
                let all = ["https://e.example/{any}/1", "https://e.example/b/{any}", "{+all}"];
                ("uritemplate", self.one_of(&all).to_owned())
            }
            19..22 => ("mqtt", self.one_of(&["#", "+", "a/+", "+/b", "a/#", "$sys/#"]).to_owned()),
            _ => ("nats", self.one_of(&[">", "a.*", "*.b", "b.>"]).to_owned()),
        };
        Pattern { kind, text }
    }

    fn patterns(&mut self, of_draft: bool) -> Vec<Pattern> {
        let count: usize = self.one_of(&["1", "1", "1", "2", "3"]).parse().unwrap();
        let mut all = Vec::new();
        while all.len() < count {
            let pattern = self.pattern();
            if !of_draft || ["exact", "uritemplate"].contains(&pattern.kind) {
                all.push(pattern);
            }
        }
        all
    }

    fn claims(&mut self) -> Claims {
        match self.dice.below(10) {
            0 => Claims::Nobody,
            1..4 => Claims::Draft(self.patterns(true)),
            _ => Claims::Final(self.patterns(false)),
        }
    }
}

/// What somebody shows.
#[derive(Debug, Clone)]
enum Claims {
    /// Nothing.
    Nobody,
    /// A token of 0.x.
    Draft(Vec<Pattern>),
    /// A token of 1.0.
    Final(Vec<Pattern>),
}

impl Claims {
    fn patterns(&self) -> &[Pattern] {
        match self {
            Claims::Nobody => &[],
            Claims::Draft(all) | Claims::Final(all) => all,
        }
    }

    fn token(&self, role: Role) -> Option<String> {
        match self {
            Claims::Nobody => None,
            Claims::Draft(all) => {
                let texts: Vec<&str> = all.iter().map(|pattern| pattern.text.as_str()).collect();
                Some(token_draft(role, &texts))
            }
            Claims::Final(all) => {
                let claims = claims_final(json!([{
                    "type": "https://mercure.rocks/authorization-detail",
                    "actions": [role.action()],
                    "topics": matchers(all),
                }]));
                Some(mint(&json!({ "alg": "HS256", "typ": "at+jwt" }), &claims, role.key()))
            }
        }
    }
}

fn matchers(patterns: &[Pattern]) -> Value {
    patterns.iter().map(|one| json!({ "match": one.text, "match_type": one.kind })).collect()
}

/// The headers that carry a token.
fn with(token: Option<&str>) -> Vec<(String, String)> {
    token.map(bearer).into_iter().collect()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Somebody who publishes, with one connection of each kind.
struct Publisher {
    claims: Claims,
    authorization: (String, String),
    posts: Connection,
    socket: Socket,
}

impl Publisher {
    fn new(hub: &TestHub, may: Vec<Pattern>) -> Publisher {
        let claims = Claims::Final(may);
        let token = claims.token(Role::Publish).unwrap();
        let posts = Connection::open(hub.address);
        let socket = Socket::open_with(hub, &token);
        Publisher { claims, authorization: bearer(&token), posts, socket }
    }

    /// The status, and the update's id.
    fn post(&mut self, update: &Update, data: &str) -> (u16, String) {
        let headers = [
            (self.authorization.0.as_str(), self.authorization.1.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
        ];
        let mut fields: Vec<_> = update.topics.iter().map(|topic| ("topic", &**topic)).collect();
        fields.push(("data", data));
        fields.extend(update.private.then_some(("private", "on")));
        let body = http::form(&fields);
        assert!(self.posts.send(&http::request("POST", HUB, &headers, body.as_bytes())));
        let reply = self.posts.reply().expect("an answer");
        (reply.status, reply.text())
    }

    fn say(&mut self, update: &Update, data: &str) -> (u16, String) {
        let Update { topics, private } = update;
        self.socket.say(&json!({
            "op": "publish", "ref": 1, "topics": topics, "data": data, "private": private,
        }));
        loop {
            let answer = self.socket.next();
            let status = match (answer["op"].as_str(), answer["code"].as_str()) {
                (Some("published"), _) => 200,
                (_, Some("bad_topic")) => 400,
                (_, Some("forbidden")) => 403,
                (Some("place"), _) => continue,
                _ => panic!("{answer}"),
            };
            return (status, answer["id"].as_str().unwrap_or_default().to_owned());
        }
    }
}

/// Where a receiver's updates come from.
enum Link {
    Events(EventStream),
    Socket(Socket),
    Courier(Client),
    Endpoint(String),
}

/// One receiver.
struct Joined {
    asks: Vec<Pattern>,
    may: Vec<Pattern>,
    /// How it came to be, for people.
    shown: String,
    link: Link,
    /// Where in the log what is for it begins.
    since: usize,
    /// What it got before it was asked.
    got: Vec<usize>,
    /// The last of a round for it.
    marker: Update,
}

/// What happened, and who is there.
struct World<'h> {
    hub: &'h TestHub,
    applications: &'h [Application<'h>],
    generator: Generator,
    publishers: Vec<Publisher>,
    endpoints: Receiver,
    /// What was published, each with its number, which is its data.
    log: Vec<(usize, Update)>,
    /// The last number given.
    number: usize,
    joined: Vec<Joined>,
    /// How often each protocol brought, and kept back, what is private.
    private: [[usize; 2]; 4],
    refused: usize,
}

impl World<'_> {
    /// Publishes in one of several ways, and expects what the model says.
    #[track_caller]
    fn publish(&mut self, by: usize, update: Update) -> String {
        self.number += 1;
        let data = self.number.to_string();
        let publisher = &mut self.publishers[by];
        let expected = verdict(publisher.claims.patterns(), &update);
        let (status, id) = match self.generator.chance(40) {
            false => publisher.post(&update, &data),
            true => publisher.say(&update, &data),
        };
        assert_eq!(status, expected, "{update:?} by {:?}", publisher.claims);
        match expected {
            200 => self.log.push((self.number, update)),
            _ => self.refused += 1,
        }
        id
    }

    /// One case.
    fn publish_some(&mut self) {
        let update = self.generator.update();
        let topic = update.topics[0].clone();
        let tenants = &self.generator.tenants;
        let of = self.applications.iter().zip(tenants).find_map(|(application, own)| {
            let name = topic.strip_prefix(own.as_str())?;
            // The last tenant's name begins with the first one's.
            (name.is_empty() || name.starts_with(':')).then_some((application, name.to_owned()))
        });
        let is_single = update.topics.len() == 1 && update.private;
        match of {
            // By an application of the audience, which can say nothing else.
            Some((application, name)) if is_single && self.generator.chance(40) => {
                self.number += 1;
                match name.strip_prefix(':') {
                    Some(name) => {
                        let name = name.replace("%2F", "/");
                        application.hook(&name, &self.number.to_string());
                    }
                    None => application.broadcast(&self.number.to_string()),
                }
                self.log.push((self.number, update));
            }
            _ => {
                let by = self.generator.one_of(&["0", "0", "0", "0", "0", "0", "1", "2"]);
                self.publish(by.parse().unwrap(), update);
            }
        }
    }

    /// What a receiver asks for, and the update that will be its last of a round.
    fn wishes(&mut self, of_draft: bool, may: &[Pattern]) -> (Vec<Pattern>, Update) {
        let mut asks = self.generator.patterns(of_draft);
        let public = |topic: &str| Update { topics: vec![topic.to_owned()], private: false };
        // One matcher alone goes other ways through the program than several.
        if asks.len() == 1 {
            let topic = self.generator.topic();
            let tenant = self.generator.tenant();
            let private = Update { topics: vec![self.generator.topic_of(tenant)], private: true };
            for marker in [public(&topic), private] {
                if delivers(&asks, may, &marker) {
                    return (asks, marker);
                }
            }
        }
        asks.push(Pattern { kind: "exact", text: END.to_owned() });
        (asks, public(END))
    }

    /// A stream; `behind` says where it begins, if not now.
    fn join_by_events(&mut self, behind: Option<(usize, &str)>) {
        let claims = self.generator.claims();
        let of_draft = match claims {
            Claims::Draft(_) => true,
            Claims::Nobody => self.generator.chance(50),
            Claims::Final(_) => false,
        };
        let (asks, marker) = self.wishes(of_draft, claims.patterns());
        let token = claims.token(Role::Subscribe);
        let after = behind.map(|(_, cursor)| format!("&last_event_id={}", encode(cursor)));
        let after = after.unwrap_or_default();
        let is_by_ticket = token.is_some() && self.generator.chance(25);
        let mut stream = if is_by_ticket {
            let headers = with(token.as_deref());
            let body = json!({ "matchers": matchers(&asks) });
            let ticket = tickets::ticket_with(self.hub, &borrowed(&headers), &body);
            let ticket = ticket.expect(201).json()["ticket"].as_str().unwrap().to_owned();
            self.hub.stream(&format!("{HUB}?ticket={ticket}{after}"), &[])
        } else {
            let asked = asks.iter().map(|pattern| match of_draft {
                true => format!("topic={}", encode(&pattern.text)),
                false => format!("match_{}={}", pattern.kind, encode(&pattern.text)),
            });
            let query = asked.collect::<Vec<_>>().join("&");
            let headers = with(token.as_deref());
            self.hub.stream(&format!("{HUB}?{query}{after}"), &borrowed(&headers))
        };
        assert_eq!(stream.head.status, 200, "{asks:?} {claims:?} {}", stream.head.text());
        stream.until_open();
        let shown = format!("stream behind {behind:?}, ticket: {is_by_ticket}, {claims:?}");
        self.add(asks, claims.patterns(), shown, Link::Events(stream), behind, marker);
    }

    fn join_by_socket(&mut self, behind: Option<(usize, &str)>) {
        let claims = self.generator.claims();
        let (asks, marker) = self.wishes(false, claims.patterns());
        let token = claims.token(Role::Subscribe);
        let way = self.generator.one_of(&["header", "before", "behind"]);
        let mut socket = match &token {
            Some(token) if way == "header" => Socket::open_with(self.hub, token),
            _ => Socket::open(self.hub),
        };
        let authenticate = |socket: &mut Socket| {
            if let Some(token) = token.as_deref().filter(|_| way != "header") {
                socket.say(&json!({ "op": "authenticate", "ref": 1, "token": token }));
                socket.expect("authenticated");
            }
        };
        // What is past is judged when it is asked for.
        let is_later = way == "behind" && behind.is_none();
        if !is_later {
            authenticate(&mut socket);
        }
        let start = behind.map_or(json!("now"), |(_, cursor)| json!({ "after": cursor }));
        let matchers = matchers(&asks);
        socket.say(&json!({ "op": "subscribe", "ref": 2, "matchers": matchers, "start": start }));
        let mut got = Vec::new();
        loop {
            let message = socket.next();
            match message["op"].as_str() {
                Some("subscribed") => break,
                Some("update") => got.push(message["data"].as_str().unwrap().parse().unwrap()),
                Some("replaying" | "live" | "place") => {}
                _ => panic!("{message} to {asks:?} {claims:?}"),
            }
        }
        if is_later {
            authenticate(&mut socket);
        }
        let shown = format!("socket behind {behind:?}, token by {way}, {claims:?}");
        self.add(asks, claims.patterns(), shown, Link::Socket(socket), behind, marker);
        self.joined.last_mut().unwrap().got = got;
    }

    fn join_by_courier(&mut self, behind: Option<(usize, &str)>) {
        let tenant = self.generator.dice.below(self.applications.len() as u64) as usize;
        let own = self.generator.tenants[tenant].clone();
        let after = behind.map(|(_, cursor)| format!("&after={}", encode(cursor)));
        let mut client = self.applications[tenant].connect(&after.unwrap_or_default());
        // The past of several topics comes topic by topic.
        let count = if behind.is_some() { 1 } else { 1 + self.generator.dice.below(2) };
        let mut names: Vec<&str> =
            (0..count).map(|_| self.generator.one_of(&["a", "b", "a/b", "*", "{+all}"])).collect();
        names.dedup();
        let ready = format!("ready{}", self.number);
        let exactly = |text: String| Pattern { kind: "exact", text };
        let mut asks = vec![exactly(own.clone())];
        for name in names.into_iter().chain([ready.as_str()]) {
            client.subscribe(name);
            asks.push(exactly(format!("{own}:{}", encode(name))));
        }
        let may = [Pattern { kind: "uritemplate", text: format!("{own}{{+all}}") }];
        // When this has come, it hears everything.
        self.number += 1;
        client.publish(&ready, &self.number.to_string());
        let update = Update { topics: vec![format!("{own}:{ready}")], private: true };
        let since = behind.or(Some((self.log.len(), "now")));
        self.log.push((self.number, update.clone()));
        let mut got = Vec::new();
        while got.last() != Some(&self.number) {
            got.push(client.next().parse().unwrap());
        }
        let shown = format!("connection of {own} behind {behind:?}");
        self.add(asks, &may, shown, Link::Courier(client), since, update);
        self.joined.last_mut().unwrap().got = got;
    }

    /// An endpoint; where it begins earlier, what was before is replayed.
    fn join_by_webhook(&mut self, behind: Option<(usize, &str)>) {
        let claims = self.generator.claims();
        let operator = [Pattern { kind: EVERYTHING, text: String::new() }];
        // Who shows no token there is the operator.
        let may = match &claims {
            Claims::Nobody => operator.to_vec(),
            claims => claims.patterns().to_vec(),
        };
        let (asks, marker) = self.wishes(false, &may);
        let topics: Vec<Value> = asks
            .iter()
            .map(|pattern| match pattern.kind {
                "exact" => json!(pattern.text),
                "urlpattern" => json!({ "url_pattern": pattern.text }),
                "uritemplate" => json!({ "uri_template": pattern.text }),
                kind => json!({ kind: pattern.text }),
            })
            .collect();
        let name = format!("endpoint-{}-{}", self.number, self.joined.len());
        let path = format!("/{name}");
        let mut endpoint = json!({
            "kind": "webhook", "name": name, "topics": topics, "secrets": [],
            "url": self.endpoints.url(&path),
        });
        if let Some(token) = claims.token(Role::Subscribe) {
            endpoint["token"] = json!(token);
        }
        ask(self.hub, "POST", "", &endpoint).expect(201);
        if let Some((_, cursor)) = behind {
            let replays = format!("/{name}/replays");
            ask(self.hub, "POST", &replays, &json!({ "from": cursor })).expect(201);
        }
        let shown = format!("endpoint behind {behind:?}, {claims:?}");
        self.add(asks, &may, shown, Link::Endpoint(path), behind, marker);
    }

    fn add(
        &mut self,
        asks: Vec<Pattern>,
        may: &[Pattern],
        shown: String,
        link: Link,
        behind: Option<(usize, &str)>,
        marker: Update,
    ) {
        let since = behind.map_or(self.log.len(), |(since, _)| since);
        let may = may.to_vec();
        self.joined.push(Joined { asks, may, shown, link, since, got: Vec::new(), marker });
    }

    /// Half of each protocol's receivers, from now on or with what was before.
    fn join_half(&mut self, behind: Option<(usize, &str)>) {
        let [events, sockets, couriers, endpoints] = RECEIVERS.map(|count| count / 2);
        for number in 0..events.max(sockets).max(couriers).max(endpoints) {
            if number < events {
                self.join_by_events(behind);
            }
            if number < sockets {
                self.join_by_socket(behind);
            }
            if number < couriers {
                self.join_by_courier(behind);
            }
            // Replays go up to where their endpoints were made: they come last.
            if number < endpoints && behind.is_none() {
                self.join_by_webhook(None);
            }
        }
    }

    fn round(&mut self, cases: usize) {
        let opening = Update { topics: vec![END.to_owned()], private: false };
        let cursor = self.publish(0, opening);
        let since = self.log.len();
        self.join_half(None);
        for _ in 0..cases / 2 {
            self.publish_some();
        }
        self.join_half(Some((since, &cursor)));
        for _ in cases / 2..cases {
            self.publish_some();
        }
        let wanted: BTreeSet<Update> = self.joined.iter().map(|one| one.marker.clone()).collect();
        let mut markers = BTreeMap::new();
        for marker in wanted {
            self.publish(0, marker.clone());
            markers.insert(marker, self.number);
        }
        let live = self.joined.len();
        for _ in 0..RECEIVERS[3] / 2 {
            // Beginning with the opening itself.
            self.join_by_webhook(Some((since - 1, &cursor)));
        }
        let joined = std::mem::take(&mut self.joined);
        for (number, one) in joined.into_iter().enumerate() {
            let marker = markers.get(&one.marker).filter(|_| number < live);
            let last = marker.copied().unwrap_or(self.number);
            self.judge(one, last);
        }
    }

    /// Everything that is for it has come, once and in order, and nothing else.
    #[track_caller]
    fn judge(&mut self, mut one: Joined, last: usize) {
        let behind = self.log.iter().skip(one.since).filter(|(number, _)| *number <= last);
        let all: Vec<_> = behind.collect();
        let expected: Vec<usize> = all
            .iter()
            .filter(|(_, update)| delivers(&one.asks, &one.may, update))
            .map(|(number, _)| *number)
            .collect();
        let protocol = one.link.protocol();
        for (_, update) in all.iter().filter(|(_, update)| update.private) {
            let is_asked_for =
                one.asks.iter().any(|ask| update.topics.iter().any(|t| picks(ask, t)));
            let may = delivers(&one.asks, &one.may, update);
            self.private[protocol][usize::from(!may)] += usize::from(is_asked_for);
        }
        let Some(end) = expected.last() else { return };
        while !one.got.contains(end) {
            one.link.read(&self.endpoints, &mut one.got, *end);
        }
        if one.got != expected {
            let shown = |numbers: &[usize], others: &[usize]| -> Vec<&(usize, Update)> {
                let differ = |entry: &&(usize, Update)| {
                    numbers.contains(&entry.0) && !others.contains(&entry.0)
                };
                self.log.iter().filter(differ).take(5).collect()
            };
            panic!(
                "{}\nasks for {:?}\nmay read {:?}\ngot wrongly {:?}\nmissed {:?}\nall: {:?}",
                one.shown,
                one.asks,
                one.may,
                shown(&one.got, &expected),
                shown(&expected, &one.got),
                one.got,
            );
        }
        if let Link::Endpoint(path) = &one.link {
            ask(self.hub, "DELETE", path, &Value::Null).expect(204);
        }
    }
}

impl Link {
    fn protocol(&self) -> usize {
        match self {
            Link::Events(_) => 0,
            Link::Socket(_) => 1,
            Link::Courier(_) => 2,
            Link::Endpoint(_) => 3,
        }
    }

    /// Reads on; an endpoint has everything then.
    #[track_caller]
    fn read(&mut self, endpoints: &Receiver, got: &mut Vec<usize>, end: usize) {
        match self {
            Link::Events(stream) => got.push(stream.event().data.parse().unwrap()),
            Link::Courier(client) => got.push(client.next().parse().unwrap()),
            Link::Socket(socket) => {
                let message = socket.next();
                match message["op"].as_str() {
                    Some("update") => got.push(message["data"].as_str().unwrap().parse().unwrap()),
                    Some("place") => {}
                    _ => panic!("{message}"),
                }
            }
            Link::Endpoint(path) => {
                let end = end.to_string();
                let is_it = |one: &&crate::receiver::Received| one.target == *path;
                let all = endpoints.wait_within(PATIENCE, |all| {
                    all.iter().rev().filter(is_it).any(|one| one.body == end.as_bytes())
                });
                *got = all.iter().filter(is_it).map(|one| one.text().parse().unwrap()).collect();
                // What marks the end of others comes behind its own.
                let last = got.iter().position(|number| number.to_string() == end);
                got.truncate(last.map_or(0, |last| last + 1));
            }
        }
    }
}

fn audience_of(application: &Application<'_>) -> String {
    let made = application.post("/v1/audience", "").expect(200).json();
    format!("{TENANTS}{}", made["data"]["id"].as_str().unwrap())
}

#[test]
fn everybody_gets_what_is_for_them_and_nobody_anything_else_on_every_protocol() {
    let seed = std::env::var("TIDINGS_ISOLATION_SEED").map_or(1, |seed| seed.parse().unwrap());
    let _seed = Seed(seed);
    let hub = TestHub::start(&format!(
        "{ADMIN}[history]\ndurability = \"memory\"\n[auth]\nanonymous = true\n\
         [courier]\njwt_secret = \"{COURIER_SECRET}\"\n[webhooks]\nallow = [\"127.0.0.0/8\"]\n\
         [websocket]\ncommands_per_second = 100000\nburst = 100000\n\
         [http]\nconnections_per_address_max = 2000\nheader_timeout = \"2m\"\n"
    ));
    let applications = ["one", "two", "three"].map(|name| Application::new(&hub, name));
    let mut tenants: Vec<String> = applications.iter().map(audience_of).collect();
    tenants.push(format!("{}0", tenants[0]));
    let of = |tenant: &String| Pattern { kind: "uritemplate", text: format!("{tenant}{{+all}}") };
    let any = Pattern { kind: "exact", text: "*".to_owned() };
    let wide = tenants.iter().map(of).chain([any.clone()]).collect();
    let publishers = [wide, vec![any], vec![of(&tenants[0])]];
    let mut world = World {
        hub: &hub,
        applications: &applications,
        generator: Generator { dice: Dice::of(seed), tenants },
        publishers: publishers.into_iter().map(|may| Publisher::new(&hub, may)).collect(),
        endpoints: Receiver::start(),
        log: Vec::new(),
        number: 0,
        joined: Vec::new(),
        private: [[0; 2]; 4],
        refused: 0,
    };
    for _ in 0..ROUNDS {
        world.endpoints = Receiver::start();
        world.round(CASES / ROUNDS);
    }
    // Or all of this would show nothing.
    let [events, sockets, couriers, endpoints] = world.private;
    eprintln!("private, brought and kept back: {:?}; refused: {}", world.private, world.refused);
    for [brought, kept_back] in [events, sockets, endpoints] {
        assert!(brought > 1_000 && kept_back > 1_000, "{:?}", world.private);
    }
    assert!(couriers[0] > 1_000 && world.refused > 500, "{couriers:?} {}", world.refused);
}
