//! One client's session: what it may do, what it is subscribed to, and what each of its commands
//! leads to. Inputs in, outputs out.
//!
//! Knows no socket, no clock and no hub. Whatever takes time is an output, and what came of it the
//! next input; one command is answered before the next one is looked at.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Asker, Durability, Grant, Matcher, Receipt, Start, Update};

use super::commands::{self, Begin, Command, Mistake, Pattern, Token};
use super::judge::Right;
use super::messages::{Allowed, Code, Goes, Message, Reference};
use crate::auth::Generation;
use crate::limits::SOCKET_MISTAKES_MAX;
use crate::mercure::{is_reserved_in_draft, too_many_bare};
use crate::shard::talk::{FrameLimits, Said};

/// Code of a close frame: who says such things is not let go on (RFC 6455 section 7.4.1).
const CLOSE_POLICY: u16 = 1008;

/// What the operator decides, for all sockets that open as long as nothing else is decided.
#[derive(Debug)]
pub(super) struct Rules {
    /// Matchers of all subscriptions together.
    pub(super) subscriptions_max: usize,
    /// What may be said by who may not publish, and by who may.
    pub(super) reader: FrameLimits,
    pub(super) publisher: FrameLimits,
}

/// Why something was refused, for the client.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) code: Code,
    pub(super) reason: String,
}

/// What happens to a session.
pub(super) enum Input {
    /// The client said something.
    Said(Said),
    /// What a token is worth.
    Judged(Result<Right, Denial>),
    /// What patterns became, one for each.
    Compiled(Result<Vec<Arc<Matcher>>, Denial>),
    /// Where a subscription begins.
    Begun(Result<(Start, Goes), Denial>),
    /// What became of an update.
    Published(Result<Receipt, Denial>),
}

/// What is to be done, in this order.
pub(super) enum Output {
    /// Says this.
    Say(Bytes),
    /// Judges a token; [`Input::Judged`] follows.
    Judge(Token),
    /// Compiles patterns; [`Input::Compiled`] follows.
    Compile(Vec<Pattern>),
    /// Finds the place behind a cursor for who asks for these; [`Input::Begun`] follows.
    Begin { matchers: Vec<Arc<Matcher>>, cursor: String },
    /// Publishes; [`Input::Published`] follows.
    Publish { update: Box<Update>, grant: Arc<Grant> },
    /// Begins a subscription, and says so where it begins.
    Join(Joining),
    /// Ends the one that joined by this number, and says so. Only these matchers are nobody's any
    /// more.
    Leave { number: u32, reference: Reference, name: String, matchers: Vec<Arc<Matcher>> },
    /// Another right counts, instead of this one.
    Grant { reference: Reference, right: Right, before: Option<Right> },
    /// Other messages may be said.
    Limits(FrameLimits),
    /// Says these words and closes.
    End { close: u16, words: Bytes },
}

/// A subscription that begins.
pub(super) struct Joining {
    /// Each one's own.
    pub(super) number: u32,
    pub(super) reference: Reference,
    pub(super) name: String,
    pub(super) patterns: Vec<Pattern>,
    pub(super) matchers: Vec<Arc<Matcher>>,
    pub(super) start: Start,
    pub(super) goes: Goes,
}

/// A subscription.
struct Subscribed {
    number: u32,
    name: Box<str>,
    matchers: Box<[Arc<Matcher>]>,
}

impl Subscribed {
    fn has(&self, matcher: &Arc<Matcher>) -> bool {
        self.matchers.iter().any(|own| Arc::ptr_eq(own, matcher))
    }
}

/// The command that is being done.
enum Pending {
    Authenticate { reference: Reference },
    Compile { reference: Reference, name: String, patterns: Vec<Pattern>, begin: Begin },
    Begin(Joining),
    Publish { reference: Reference },
}

/// The machine.
pub(super) struct Session {
    rules: Arc<Rules>,
    /// Whether somebody without a token may subscribe.
    anonymous: bool,
    right: Option<Right>,
    subscriptions: Vec<Subscribed>,
    /// How many subscriptions there were.
    joined: u32,
    /// Commands without sense since the last one with.
    mistakes: u32,
    /// Apart, because most sockets have none most of the time.
    pending: Option<Box<Pending>>,
}

impl Session {
    /// Of a client whose request carried this.
    pub(super) fn new(rules: Arc<Rules>, anonymous: bool, right: Option<Right>) -> Session {
        let subscriptions = Vec::new();
        Session { rules, anonymous, right, subscriptions, joined: 0, mistakes: 0, pending: None }
    }

    /// From now on somebody without a token may subscribe, or may not. What is there goes on.
    pub(super) fn let_strangers(&mut self, anonymous: bool) {
        self.anonymous = anonymous;
    }

    /// Who subscribes.
    pub(super) fn asker(&self) -> Asker {
        let shown = self.right.as_ref().and_then(|right| right.subscribe.as_ref());
        shown.map_or(Asker::Stranger, |_| Asker::Known)
    }

    /// Matchers of all subscriptions, those of several as often.
    fn matchers(&self) -> impl Iterator<Item = &Arc<Matcher>> {
        self.subscriptions.iter().flat_map(|subscribed| &subscribed.matchers)
    }

    /// What may be said now.
    pub(super) fn limits(&self) -> FrameLimits {
        let publishes = self.right.as_ref().is_some_and(|right| right.publish.is_some());
        if publishes { self.rules.publisher } else { self.rules.reader }
    }

    /// The same, for the client.
    pub(super) fn allowed(&self) -> Allowed {
        let subscriptions = self.rules.subscriptions_max;
        Allowed { message: self.limits().message_bytes, subscriptions }
    }

    /// By what right is read now.
    pub(super) fn right(&self) -> Option<&Right> {
        self.right.as_ref()
    }

    /// What follows from this.
    pub(super) fn handle(&mut self, input: Input) -> Vec<Output> {
        match (input, self.pending.take().map(|pending| *pending)) {
            (Input::Said(said), None) => match commands::read(&said) {
                Ok(command) => self.command(command),
                Err(Mistake { reference, code, reason }) => {
                    self.refuse(reference.as_ref(), Denial { code, reason })
                }
            },
            (Input::Judged(judged), Some(Pending::Authenticate { reference })) => {
                self.judged(reference, judged)
            }
            (
                Input::Compiled(compiled),
                Some(Pending::Compile { reference, name, patterns, begin }),
            ) => match compiled {
                Ok(matchers) => self.compiled(reference, name, patterns, matchers, begin),
                Err(denial) => self.refuse(Some(&reference), denial),
            },
            (Input::Begun(begun), Some(Pending::Begin(joining))) => match begun {
                Ok((start, goes)) => self.join(Joining { start, goes, ..joining }),
                Err(denial) => self.refuse(Some(&joining.reference), denial),
            },
            (Input::Published(published), Some(Pending::Publish { reference })) => {
                match published {
                    Ok(receipt) => self.done(vec![Output::Say(told(&reference, &receipt))]),
                    Err(denial) => self.refuse(Some(&reference), denial),
                }
            }
            // Whoever runs this answers each output with its input, and nothing else.
            _ => {
                tracing::error!("a session was told what it had not asked for");
                Vec::new()
            }
        }
    }

    fn command(&mut self, command: Command) -> Vec<Output> {
        match command {
            Command::Ping { reference } => {
                let pong = Message::Pong { reference: reference.as_ref() };
                self.done(vec![Output::Say(pong.frame())])
            }
            Command::Authenticate { reference, token } => {
                self.pending = Some(Box::new(Pending::Authenticate { reference }));
                vec![Output::Judge(token)]
            }
            Command::Subscribe { reference, name, patterns, begin } => {
                if let Err(denial) = self.may_subscribe(&name, patterns.len()) {
                    return self.refuse(Some(&reference), denial);
                }
                let wanted = patterns.clone();
                self.pending =
                    Some(Box::new(Pending::Compile { reference, name, patterns, begin }));
                vec![Output::Compile(wanted)]
            }
            Command::Unsubscribe { reference, name } => self.leave(reference, name),
            Command::Publish { reference, update } => match self.may_publish(&update) {
                Ok(grant) => {
                    self.pending = Some(Box::new(Pending::Publish { reference }));
                    vec![Output::Publish { update, grant }]
                }
                Err(denial) => self.refuse(Some(&reference), denial),
            },
        }
    }

    /// Whether this client may do anything but show a token.
    fn known(&self) -> Result<(), Denial> {
        if self.right.is_some() || self.anonymous {
            return Ok(());
        }
        Err(denial(Code::Unauthenticated, "show a token by `authenticate` first"))
    }

    fn may_subscribe(&self, name: &str, more: usize) -> Result<(), Denial> {
        self.known()?;
        if let Some(right) = &self.right
            && right.subscribe.is_none()
            && !self.anonymous
        {
            return Err(denial(Code::Forbidden, "the token does not allow to subscribe"));
        }
        if self.subscriptions.iter().any(|subscribed| *subscribed.name == *name) {
            return Err(denial(Code::NameTaken, "a subscription of this name is there"));
        }
        if self.matchers().count() + more > self.rules.subscriptions_max {
            let max = self.rules.subscriptions_max;
            let reason = format!("all subscriptions of a socket have {max} matchers at most");
            return Err(Denial { code: Code::TooManySubscriptions, reason });
        }
        Ok(())
    }

    fn may_publish(&self, update: &Update) -> Result<Arc<Grant>, Denial> {
        let Some(right) = &self.right else {
            return Err(denial(Code::Unauthenticated, "to publish needs a token"));
        };
        let Some(verified) = &right.publish else {
            return Err(denial(Code::Forbidden, "the token does not allow to publish"));
        };
        let is_reserved = || update.topics.iter().any(|topic| is_reserved_in_draft(topic.as_str()));
        if verified.generation == Generation::Draft && is_reserved() {
            return Err(denial(Code::ReservedTopic, "a topic belongs to the hub"));
        }
        Ok(Arc::clone(&verified.grant))
    }

    fn judged(&mut self, reference: Reference, judged: Result<Right, Denial>) -> Vec<Output> {
        match judged {
            // What was there before goes on.
            Err(denial) => self.refuse(Some(&reference), denial),
            // What it listens to would have nobody's right.
            Ok(right)
                if right.subscribe.is_none()
                    && !self.anonymous
                    && !self.subscriptions.is_empty() =>
            {
                let reason = "the token does not allow to subscribe: unsubscribe first";
                self.refuse(Some(&reference), denial(Code::Forbidden, reason))
            }
            Ok(right) => {
                let before = self.right.replace(right.clone());
                let limits = Output::Limits(self.limits());
                self.done(vec![limits, Output::Grant { reference, right, before }])
            }
        }
    }

    fn compiled(
        &mut self,
        reference: Reference,
        name: String,
        patterns: Vec<Pattern>,
        matchers: Vec<Arc<Matcher>>,
        begin: Begin,
    ) -> Vec<Output> {
        let all: Vec<_> = self.matchers().chain(&matchers).cloned().collect();
        if let Some(bad) = too_many_bare(&all, self.asker()) {
            let denial = Denial { code: Code::TooManySubscriptions, reason: bad.to_string() };
            return self.refuse(Some(&reference), denial);
        }
        let (number, asked) = (self.joined, matchers.clone());
        let (start, goes) = (Start::Now, Goes::Live);
        let joining = Joining { number, reference, name, patterns, matchers, start, goes };
        match begin {
            Begin::Now => self.join(joining),
            Begin::Behind(cursor) => {
                self.pending = Some(Box::new(Pending::Begin(joining)));
                vec![Output::Begin { matchers: asked, cursor }]
            }
        }
    }

    fn join(&mut self, joining: Joining) -> Vec<Output> {
        self.joined = self.joined.wrapping_add(1);
        let (name, matchers) = (joining.name.as_str().into(), joining.matchers.clone().into());
        if self.subscriptions.len() == self.subscriptions.capacity() {
            // A socket with one keeps room for one.
            self.subscriptions.reserve_exact(self.subscriptions.len().max(1));
        }
        self.subscriptions.push(Subscribed { number: joining.number, name, matchers });
        self.done(vec![Output::Join(joining)])
    }

    fn leave(&mut self, reference: Reference, name: String) -> Vec<Output> {
        let place = self.subscriptions.iter().position(|subscribed| *subscribed.name == *name);
        let Some(place) = place else {
            let unknown = denial(Code::UnknownName, "no subscription of this name is there");
            let denial = self.known().err().unwrap_or(unknown);
            return self.refuse(Some(&reference), denial);
        };
        let Subscribed { number, matchers, .. } = self.subscriptions.swap_remove(place);
        let mut matchers = matchers.into_vec();
        matchers.retain(|matcher| !self.subscriptions.iter().any(|other| other.has(matcher)));
        self.done(vec![Output::Leave { number, reference, name, matchers }])
    }

    /// A command had sense.
    fn done(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        self.mistakes = 0;
        outputs
    }

    /// A command changed nothing. Who only makes mistakes is not told about them for ever.
    fn refuse(&mut self, reference: Option<&Reference>, denial: Denial) -> Vec<Output> {
        let Denial { code, reason } = denial;
        let said = Output::Say(Message::Error { reference, code, reason: &reason }.frame());
        match code {
            Code::BadJson
            | Code::BadCommand
            | Code::Unauthenticated
            | Code::BadToken
            | Code::BadPattern => self.mistakes += 1,
            _ => self.mistakes = 0,
        }
        if self.mistakes < SOCKET_MISTAKES_MAX {
            return vec![said];
        }
        let end = Message::End { code: "too_many_errors", cursor: None, retry: None };
        vec![said, Output::End { close: CLOSE_POLICY, words: end.frame() }]
    }
}

pub(super) fn denial(code: Code, reason: &str) -> Denial {
    Denial { code, reason: reason.to_owned() }
}

/// What a publisher is told of its update.
fn told(reference: &Reference, receipt: &Receipt) -> Bytes {
    let durability = match receipt.durability {
        Durability::Fsync => "fsync",
        Durability::Written => "written",
        Durability::Memory => "memory",
    };
    let (id, cursor, repeated) = (&*receipt.id, &*receipt.cursor, receipt.repeated);
    Message::Published { reference, id, cursor, durability, repeated }.frame()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Verified;
    use serde_json::{Value, json};
    use tidings_core::{Language, Namespace, Offset, TokenIdentity};

    const READER: FrameLimits =
        FrameLimits { message_bytes: 100, binary: true, per_second: 1, burst: 1 };
    const PUBLISHER: FrameLimits = FrameLimits { message_bytes: 1_000, ..READER };

    fn session(anonymous: bool, right: Option<Right>) -> Session {
        let rules = Rules { subscriptions_max: 3, reader: READER, publisher: PUBLISHER };
        Session::new(Arc::new(rules), anonymous, right)
    }

    fn matcher(text: &str) -> Arc<Matcher> {
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        Arc::new(Matcher::parse(Language::Exact, text, &namespace).unwrap())
    }

    fn verified(expires: Option<u64>) -> Arc<Verified> {
        let token = TokenIdentity::default();
        let any = vec![matcher("*")];
        let grant = Grant { publish: any.clone(), subscribe: any, expires, token };
        let (grant, details) = (Arc::new(grant), Vec::new());
        Arc::new(Verified { generation: Generation::Final, grant, details, may: true })
    }

    fn right(subscribes: bool, publishes: bool) -> Right {
        let of = |may: bool| may.then(|| verified(Some(5_000)));
        Right { subscribe: of(subscribes), publish: of(publishes) }
    }

    fn said(command: &Value) -> Input {
        Input::Said(Said::Text(command.to_string().into()))
    }

    /// What a frame says.
    fn read(frame: &Bytes) -> Value {
        let head = if frame[1] < 126 { 2 } else { 4 };
        serde_json::from_slice(&frame[head..]).unwrap()
    }

    /// The outputs in a word each.
    fn words(outputs: &[Output]) -> Vec<String> {
        let word = |output: &Output| match output {
            Output::Say(frame) => {
                let message = read(frame);
                let code = message["code"].as_str().map(|code| format!(" {code}"));
                format!("{}{}", message["op"].as_str().unwrap(), code.unwrap_or_default())
            }
            Output::Judge(_) => "judge".to_owned(),
            Output::Compile(patterns) => format!("compile {}", patterns.len()),
            Output::Begin { cursor, .. } => format!("begin {cursor}"),
            Output::Publish { .. } => "publish".to_owned(),
            Output::Join(joining) => format!("join {}", joining.name),
            Output::Leave { name, matchers, .. } => format!("leave {name} {}", matchers.len()),
            Output::Grant { .. } => "grant".to_owned(),
            Output::Limits(limits) => format!("limits {}", limits.message_bytes),
            Output::End { close, words } => format!("end {close} {}", read(words)["code"]),
        };
        outputs.iter().map(word).collect()
    }

    fn check(session: &mut Session, input: Input, expected: &[&str]) -> Vec<Output> {
        let outputs = session.handle(input);
        assert_eq!(words(&outputs), expected);
        outputs
    }

    fn subscribe(session: &mut Session, name: &str, matchers: &[Arc<Matcher>]) {
        let patterns: Vec<_> =
            (0..matchers.len()).map(|number| json!({ "match": number.to_string() })).collect();
        let command = json!({"op": "subscribe", "ref": name, "matchers": patterns});
        check(session, said(&command), &[&format!("compile {}", matchers.len())]);
        let compiled = Input::Compiled(Ok(matchers.to_vec()));
        check(session, compiled, &[&format!("join {name}")]);
    }

    fn receipt() -> Receipt {
        Receipt {
            id: "urn:x".into(),
            cursor: "urn:y".into(),
            offset: Offset::ZERO,
            durability: Durability::Written,
            repeated: false,
        }
    }

    /// Every command of a client, in one that is well formed.
    fn commands() -> [Value; 5] {
        [
            json!({"op": "ping"}),
            json!({"op": "authenticate", "ref": 1, "token": "x"}),
            json!({"op": "subscribe", "ref": 2, "matchers": [{"match": "a"}]}),
            json!({"op": "unsubscribe", "ref": 3, "name": "n"}),
            json!({"op": "publish", "ref": 4, "topics": ["a"]}),
        ]
    }

    #[test]
    fn every_command_in_every_state() {
        let unknown = "error unknown_name";
        for (anonymous, right, expected) in [
            (
                false,
                None,
                [
                    "pong",
                    "judge",
                    "error unauthenticated",
                    "error unauthenticated",
                    "error unauthenticated",
                ],
            ),
            (true, None, ["pong", "judge", "compile 1", unknown, "error unauthenticated"]),
            (
                false,
                Some(right(true, false)),
                ["pong", "judge", "compile 1", unknown, "error forbidden"],
            ),
            (
                false,
                Some(right(false, true)),
                ["pong", "judge", "error forbidden", unknown, "publish"],
            ),
            (true, Some(right(false, true)), ["pong", "judge", "compile 1", unknown, "publish"]),
            (false, Some(right(true, true)), ["pong", "judge", "compile 1", unknown, "publish"]),
        ] {
            for (command, expected) in commands().iter().zip(expected) {
                check(&mut session(anonymous, right.clone()), said(command), &[expected]);
            }
        }
    }

    #[test]
    fn what_is_no_command_is_told_with_its_ref_as_far_as_it_can_be_read() {
        let long = "x".repeat(65);
        let deep = format!("{{\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let cases: &[(&str, &str, Value)] = &[
            ("", "bad_json", Value::Null),
            ("{", "bad_json", Value::Null),
            ("{\"op\":\"ping\"} x", "bad_json", Value::Null),
            (&deep, "bad_command", Value::Null),
            ("1", "bad_command", Value::Null),
            ("[\"ping\",1]", "bad_command", Value::Null),
            ("null", "bad_command", Value::Null),
            ("{}", "bad_command", Value::Null),
            ("{\"ref\":7}", "bad_command", json!(7)),
            ("{\"op\":\"fly\",\"ref\":7}", "bad_command", json!(7)),
            ("{\"op\":7,\"ref\":7}", "bad_command", Value::Null),
            ("{\"op\":\"subscribe\"}", "bad_command", Value::Null),
            ("{\"op\":\"unsubscribe\",\"name\":\"n\"}", "bad_command", Value::Null),
            ("{\"op\":\"ping\",\"ref\":-1}", "bad_command", Value::Null),
            ("{\"op\":\"ping\",\"ref\":1.5}", "bad_command", Value::Null),
            ("{\"op\":\"ping\",\"ref\":9007199254740992}", "bad_command", Value::Null),
            ("{\"op\":\"ping\",\"ref\":[1]}", "bad_command", Value::Null),
            ("{\"op\":\"ping\",\"ref\":1,\"x\":2}", "bad_command", json!(1)),
            ("{\"op\":\"ping\",\"ref\":1,\"ref\":1}", "bad_command", Value::Null),
            ("{\"op\":\"authenticate\",\"ref\":1}", "bad_command", json!(1)),
            ("{\"op\":\"authenticate\",\"ref\":1,\"token\":2}", "bad_command", json!(1)),
        ];
        for (text, code, reference) in cases {
            let outputs =
                session(true, None).handle(Input::Said(Said::Text((*text).to_owned().into())));
            let Some(Output::Say(frame)) = outputs.first() else { panic!("{text}") };
            let error = read(frame);
            assert_eq!((&error["code"], &error["ref"]), (&json!(code), reference), "{text}");
        }
        let ping = format!("{{\"op\":\"ping\",\"ref\":\"{long}\"}}");
        let outputs = session(true, None).handle(Input::Said(Said::Text(ping.into())));
        assert_eq!(words(&outputs), ["error bad_command"]);
    }

    #[test]
    fn fields_of_a_subscription_are_checked() {
        let many: Vec<_> = (0..101).map(|number| json!({"match": number.to_string()})).collect();
        for (fields, code) in [
            (json!({}), "bad_command"),
            (json!({"matchers": []}), "bad_command"),
            (json!({"matchers": many}), "bad_command"),
            (json!({"matchers": [{"match": 1}]}), "bad_command"),
            (json!({"matchers": [{"match": "a", "match_type": "regexp"}]}), "bad_command"),
            (json!({"matchers": [{"match": "a\u{200b}"}]}), "bad_pattern"),
            (json!({"matchers": [{"match": "a"}], "start": "later"}), "bad_command"),
            (json!({"matchers": [{"match": "a"}], "start": {"after": ""}}), "bad_cursor"),
            (json!({"matchers": [{"match": "a"}], "name": "x".repeat(129)}), "bad_command"),
        ] {
            let mut command = json!({"op": "subscribe", "ref": 1});
            command.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            check(&mut session(true, None), said(&command), &[&format!("error {code}")]);
        }
        let mut session = session(true, None);
        let twice = json!([{"match": "a"}, {"match": "a", "match_type": "exact"}]);
        let command = json!({"op": "subscribe", "ref": 1, "matchers": twice, "start": "earliest"});
        check(&mut session, said(&command), &["compile 1"]);
        check(&mut session, Input::Compiled(Ok(vec![matcher("a")])), &["begin earliest"]);
        let begun = Input::Begun(Ok((Start::Earliest, Goes::Resumed)));
        let outputs = check(&mut session, begun, &["join 1"]);
        let Some(Output::Join(joining)) = outputs.first() else { panic!("it joins") };
        assert_eq!((joining.start, joining.goes), (Start::Earliest, Goes::Resumed));
    }

    #[test]
    fn fields_of_an_update_are_checked() {
        for (fields, expected) in [
            (json!({}), "error bad_command"),
            (json!({"topics": []}), "error bad_command"),
            (json!({"topics": vec!["a"; 1_001]}), "error too_large"),
            (json!({"topics": ["*"]}), "error bad_topic"),
            (json!({"topics": ["a\nb"]}), "error bad_topic"),
            (json!({"topics": ["a"], "data": "x", "data_base64": "AA=="}), "error bad_command"),
            (json!({"topics": ["a"], "data_base64": "?"}), "error bad_command"),
            (json!({"topics": ["a"], "id": "#1"}), "error bad_command"),
            (json!({"topics": ["a"], "type": "mercure"}), "error bad_command"),
            (json!({"topics": ["a"], "retry": -1}), "error bad_command"),
            (json!({"topics": ["a"], "key": ""}), "error bad_command"),
            (json!({"topics": ["a"], "private": "yes"}), "error bad_command"),
            (json!({"topics": ["a"], "data_base64": "AAEC", "content_type": "a/b"}), "publish"),
        ] {
            let mut command = json!({"op": "publish", "ref": 1});
            command.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            check(&mut session(false, Some(right(true, true))), said(&command), &[expected]);
        }
    }

    #[test]
    fn a_binary_message_carries_an_update() {
        let binary = |head: &str, length: u32| {
            let mut message = length.to_be_bytes().to_vec();
            message.extend_from_slice(head.as_bytes());
            message.extend_from_slice(b"\0\x01");
            Input::Said(Said::Binary(message.into()))
        };
        let head = r#"{"op":"publish","ref":1,"topics":["a"]}"#;
        let mut session = session(false, Some(right(true, true)));
        let outputs = check(&mut session, binary(head, 39), &["publish"]);
        let Some(Output::Publish { update, .. }) = outputs.first() else { panic!("it publishes") };
        assert_eq!(update.data, &b"\0\x01"[..]);
        check(&mut session, Input::Published(Ok(receipt())), &["published"]);
        for length in [42, u32::MAX, 0, 38] {
            let outputs = session.handle(binary(head, length));
            assert!(words(&outputs).concat().starts_with("error bad_"), "{length}");
        }
        let ping = r#"{"op":"ping","ref":1}"#;
        check(&mut session, binary(ping, 21), &["error bad_command"]);
        check(&mut session, Input::Said(Said::Binary(Bytes::new())), &["error bad_command"]);
    }

    #[test]
    fn names_are_unique_and_matchers_are_left_when_nobody_has_them() {
        let mut session = session(true, None);
        let (a, b) = (matcher("a"), matcher("b"));
        subscribe(&mut session, "one", &[Arc::clone(&a), b]);
        subscribe(&mut session, "two", &[a]);
        let again =
            json!({"op": "subscribe", "ref": 1, "name": "two", "matchers": [{"match": "c"}]});
        check(&mut session, said(&again), &["error name_taken"]);
        let more = json!({"op": "subscribe", "ref": 1, "matchers": [{"match": "c"}]});
        check(&mut session, said(&more), &["error too_many_subscriptions"]);
        let leave = |name: &str| said(&json!({"op": "unsubscribe", "ref": 1, "name": name}));
        check(&mut session, leave("one"), &["leave one 1"]);
        check(&mut session, leave("one"), &["error unknown_name"]);
        check(&mut session, leave("two"), &["leave two 1"]);
        assert!(session.subscriptions.is_empty());
        check(&mut session, said(&again), &["compile 1"]);
    }

    #[test]
    fn a_subscription_that_fails_leaves_nothing_behind() {
        let mut session = session(true, None);
        let command = json!({
            "op": "subscribe", "ref": "n", "matchers": [{"match": "a"}], "start": {"after": "x"},
        });
        check(&mut session, said(&command), &["compile 1"]);
        let bad = Input::Compiled(Err(denial(Code::BadPattern, "")));
        check(&mut session, bad, &["error bad_pattern"]);
        check(&mut session, said(&command), &["compile 1"]);
        check(&mut session, Input::Compiled(Ok(vec![matcher("a")])), &["begin x"]);
        let lost = Input::Begun(Err(denial(Code::Internal, "")));
        check(&mut session, lost, &["error internal"]);
        check(&mut session, said(&command), &["compile 1"]);
        assert!(session.subscriptions.is_empty());
    }

    #[test]
    fn a_subscription_is_taken_back_by_the_number_by_which_it_joined() {
        let mut session = session(true, None);
        let command =
            |name| said(&json!({"op": "subscribe", "ref": name, "matchers": [{"match": "a"}]}));
        let shared = matcher("a");
        let join = |session: &mut Session, name| {
            session.handle(command(name));
            let outputs = session.handle(Input::Compiled(Ok(vec![Arc::clone(&shared)])));
            let Some(Output::Join(joining)) = outputs.first() else { panic!("it joins") };
            joining.number
        };
        let (one, two) = (join(&mut session, "one"), join(&mut session, "two"));
        assert_ne!(one, two);
        let outputs = session.handle(said(&json!({"op": "unsubscribe", "ref": 1, "name": "two"})));
        let Some(Output::Leave { number, matchers, .. }) = outputs.first() else { panic!() };
        assert_eq!((*number, matchers.len()), (two, 0), "its matcher is another one's too");
    }

    #[test]
    fn a_stranger_has_few_patterns_without_fixed_text() {
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        let bare = |number: usize| {
            let text = format!("{{x{number}}}");
            Arc::new(Matcher::parse(Language::UriTemplate, &text, &namespace).unwrap())
        };
        let rules = Rules { subscriptions_max: 100, reader: READER, publisher: PUBLISHER };
        let rules = Arc::new(rules);
        for (right, expected) in
            [(None, "error too_many_subscriptions"), (Some(right(true, false)), "join 11")]
        {
            let mut session = Session::new(Arc::clone(&rules), true, right);
            let ten: Vec<_> = (0..10).map(bare).collect();
            subscribe(&mut session, "ten", &ten);
            let command = json!({"op": "subscribe", "ref": 11, "matchers": [{"match": "a"}]});
            check(&mut session, said(&command), &["compile 1"]);
            check(&mut session, Input::Compiled(Ok(vec![bare(10)])), &[expected]);
        }
    }

    #[test]
    fn strangers_who_are_not_let_in_any_more_ask_for_nothing_new() {
        let mut session = session(true, None);
        subscribe(&mut session, "a", &[matcher("a")]);
        session.let_strangers(false);
        check(&mut session, said(&commands()[2]), &["error unauthenticated"]);
        assert_eq!(session.subscriptions.len(), 1, "what is there goes on");
        let leave = said(&json!({"op": "unsubscribe", "ref": 1, "name": "a"}));
        check(&mut session, leave, &["leave a 1"]);
    }

    #[test]
    fn a_token_replaces_the_one_before_and_a_bad_one_changes_nothing() {
        let mut session = session(false, None);
        let show = || said(&json!({"op": "authenticate", "ref": 1, "token": "x"}));
        check(&mut session, show(), &["judge"]);
        let bad = || Input::Judged(Err(denial(Code::BadToken, "")));
        check(&mut session, bad(), &["error bad_token"]);
        check(&mut session, said(&commands()[2]), &["error unauthenticated"]);
        check(&mut session, show(), &["judge"]);
        let good = Input::Judged(Ok(right(true, true)));
        check(&mut session, good, &["limits 1000", "grant"]);
        check(&mut session, show(), &["judge"]);
        check(&mut session, bad(), &["error bad_token"]);
        check(&mut session, said(&commands()[4]), &["publish"]);
        check(&mut session, Input::Published(Err(denial(Code::Busy, ""))), &["error busy"]);
        check(&mut session, show(), &["judge"]);
        let reader = Input::Judged(Ok(right(true, false)));
        check(&mut session, reader, &["limits 100", "grant"]);
        check(&mut session, said(&commands()[4]), &["error forbidden"]);
        // Nobody goes on listening by a token that only publishes.
        let subscribed = Subscribed { number: 0, name: "a".into(), matchers: Box::default() };
        session.subscriptions.push(subscribed);
        check(&mut session, show(), &["judge"]);
        check(&mut session, Input::Judged(Ok(right(false, true))), &["error forbidden"]);
        assert!(session.right().unwrap().subscribe.is_some());
    }

    #[test]
    fn a_right_reads_by_the_token_and_ends_with_it() {
        let one = Right { subscribe: Some(verified(Some(7))), publish: Some(verified(Some(5))) };
        assert_eq!(one.expires(), Some(5));
        let publisher = Right { subscribe: None, publish: Some(verified(None)) };
        assert!(publisher.grant().is_some(), "revoking the token ends it");
        assert_eq!(publisher.expires(), None);
    }

    #[test]
    fn who_only_makes_mistakes_is_sent_away() {
        let mut session = session(true, None);
        let bad = || Input::Said(Said::Text("x".into()));
        for _ in 1..SOCKET_MISTAKES_MAX {
            check(&mut session, bad(), &["error bad_json"]);
        }
        check(&mut session, said(&json!({"op": "ping"})), &["pong"]);
        for _ in 1..SOCKET_MISTAKES_MAX {
            check(&mut session, bad(), &["error bad_json"]);
        }
        check(&mut session, bad(), &["error bad_json", "end 1008 \"too_many_errors\""]);
    }

    #[test]
    fn what_there_is_no_place_for_is_no_mistake() {
        let mut session = session(true, None);
        subscribe(&mut session, "all", &[matcher("a"), matcher("b"), matcher("c")]);
        for _ in 0..10_000 {
            check(&mut session, said(&commands()[2]), &["error too_many_subscriptions"]);
        }
    }
}
