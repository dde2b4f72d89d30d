//! NATS as a source: messages become updates. Knows no hub; who takes the updates says what became
//! of them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tidings_core::limits::{ATTRIBUTES_MAX, FIELD_BYTES_MAX};
use tidings_core::matcher::NatsSubject;
use tidings_core::{Line, Origin, Topic, Update};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::ingest::{Acknowledge, Admission, Incoming, Source};
use crate::limits::{INCOMING_BYTES_MAX, NATS_DRAIN_MAX, NATS_QUIET, NATS_READS_MAX};
use crate::nats::connection::{Arrival, Connection, Interest, Link, Plan};
use crate::nats::consumer::Wanted;
use crate::nats::counters::Counters;
use crate::nats::headers::Headers;
use crate::nats::jetstream;
use crate::nats::options::{Rewrite, SourceOptions, bad};
use crate::nats::protocol::{Message, unsubscribe};
use crate::specification::BadOption;

/// The idempotency key of a message.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// What the payload is, as a media type.
pub(super) const CONTENT_TYPE: &str = "Content-Type";
/// Hubs that the message came through.
pub(super) const HOPS: &str = "Tidings-Hops";

/// Bytes that one permit of the room stands for.
const PERMIT_BYTES: usize = 1024;

/// Messages of NATS subjects or of a `JetStream` stream.
pub struct NatsSource {
    plan: Plan,
    options: SourceOptions,
    conversion: Conversion,
    link: watch::Sender<Link>,
    /// Positions of what the hub has of it.
    known: Vec<Line>,
}

impl NatsSource {
    /// Reads the options; nothing is connected before it runs. `private` is what all its updates
    /// are.
    ///
    /// # Errors
    ///
    /// All that is wrong with the options.
    pub fn new(
        name: &str,
        private: bool,
        options: SourceOptions,
    ) -> Result<NatsSource, Vec<BadOption>> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let connector =
            Line::parse(name).map_err(|wrong| vec![bad("name", &wrong.to_string(), None)])?;
        let plan = Plan::new(name, &options.server)?;
        let counters = Arc::clone(&plan.counters);
        let rewrite = options.topic.clone();
        let except =
            options.except.iter().filter_map(|text| NatsSubject::parse(text).ok()).collect();
        let conversion = Conversion { connector, last: None, private, rewrite, except, counters };
        let link = watch::Sender::new(Link::Beginning);
        Ok(NatsSource { plan, options, conversion, link, known: Vec::new() })
    }

    /// How its connection stands, from now on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// What happened to it.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.plan.counters)
    }
}

impl Source for NatsSource {
    fn nats(&self) -> Option<Arc<Counters>> {
        Some(self.counters())
    }

    fn recalls(&mut self) -> Option<&mut Vec<Line>> {
        self.options.jetstream.is_some().then_some(&mut self.known)
    }

    fn admission(&self) -> Admission {
        let mut link = self.link();
        Box::pin(async move {
            loop {
                match &*link.borrow_and_update() {
                    Link::Connected(_) => return Ok(()),
                    Link::Rejected(reason) => return Err(reason.clone()),
                    Link::Beginning | Link::Unreachable(_) => {}
                }
                if link.changed().await.is_err() {
                    return Ok(());
                }
            }
        })
    }

    fn run(
        self: Box<Self>,
        to: mpsc::Sender<Incoming>,
        stop: CancellationToken,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let NatsSource { plan, options, conversion, link, known } = *self;
            let stopped = stop.clone();
            let work = async {
                match options.jetstream {
                    Some(stream) => {
                        let subjects = options.subjects;
                        let wanted = Wanted { stream, subjects, known };
                        jetstream::run(plan, link, wanted, conversion, to, stop).await;
                    }
                    None => core(plan, link, options, conversion, to, stop).await,
                }
            };
            let patience = async {
                stopped.cancelled().await;
                tokio::time::sleep(NATS_DRAIN_MAX).await;
            };
            tokio::select! {
                () = Box::pin(work) => {}
                () = patience => {}
            }
        })
    }
}

/// Brings what is published at the moment. In the end the server is told to send nothing more, and
/// what it sent until then is still brought.
async fn core(
    mut plan: Plan,
    link: watch::Sender<Link>,
    options: SourceOptions,
    conversion: Conversion,
    to: mpsc::Sender<Incoming>,
    stop: CancellationToken,
) {
    let queue = options.queue_group;
    let interest = |subject| Interest { subject, queue: queue.clone() };
    plan.interests = options.subjects.into_iter().map(interest).collect();
    let mut end = BytesMut::new();
    (1..).zip(&plan.interests).for_each(|(number, _)| unsubscribe(&mut end, number));
    let (arriving, mut arrivals) = mpsc::channel(NATS_READS_MAX);
    let connection = Connection::start(plan, arriving, link);
    let ending = async {
        stop.cancelled().await;
        connection.write_and_wait(end).await
    };
    tokio::pin!(ending);
    let mut bringing = Bringing { conversion, room: Room::default(), to };
    loop {
        let arrival = tokio::select! {
            arrival = arrivals.recv() => arrival,
            _ended = &mut ending => break,
        };
        if bringing.bring(arrival).await.is_none() {
            return;
        }
    }
    // What came before the server's answer is on its way through the connection.
    while let Ok(arrival) = tokio::time::timeout(NATS_QUIET, arrivals.recv()).await {
        if bringing.bring(arrival).await.is_none() {
            return;
        }
    }
}

/// Messages on their way out of the source.
struct Bringing {
    conversion: Conversion,
    room: Room,
    to: mpsc::Sender<Incoming>,
}

impl Bringing {
    /// Hands on what arrived; `None` when nobody takes it, or nothing will arrive.
    async fn bring(&mut self, arrival: Option<Arrival>) -> Option<()> {
        let Arrival::Messages(messages) = arrival? else { return Some(()) };
        let conversion = &mut self.conversion;
        Counters::add(&conversion.counters.received, messages.len());
        let mut updates = Vec::with_capacity(messages.len());
        for message in messages {
            if !conversion.is_excepted(&message) {
                updates.extend(conversion.update(message, None));
            }
        }
        if !updates.is_empty() {
            let weight = updates.iter().map(Update::weight).sum();
            let acknowledge = Acknowledge::nobody(self.room.of(weight).await);
            self.to.send(Incoming { updates, acknowledge }).await.ok()?;
        }
        Some(())
    }
}

/// The bytes that a source may have on the way into the hub.
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(INCOMING_BYTES_MAX / PERMIT_BYTES)))
    }
}

impl Room {
    /// Waits until there is room for so many bytes; for more than all of it, until nothing else has
    /// any.
    pub(super) async fn of(&self, bytes: usize) -> OwnedSemaphorePermit {
        let all = INCOMING_BYTES_MAX / PERMIT_BYTES;
        let permits = bytes.div_ceil(PERMIT_BYTES).clamp(1, all);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0).acquire_many_owned(permits).await;
        room.expect("nobody closes the semaphore")
    }
}

/// How messages become updates.
pub(super) struct Conversion {
    connector: Line,
    /// The last subject and its topic: many messages in a row have the same.
    last: Option<(Bytes, Topic)>,
    private: bool,
    rewrite: Option<Rewrite>,
    except: Vec<NatsSubject>,
    counters: Arc<Counters>,
}

impl Conversion {
    /// Whether a message is one of those that do not come.
    pub(super) fn is_excepted(&self, message: &Message) -> bool {
        if self.except.is_empty() {
            return false;
        }
        let subject = std::str::from_utf8(&message.subject).unwrap_or_default();
        self.except.iter().any(|pattern| pattern.matches(subject))
    }

    /// The update of a message; `None` when its subject is no topic, which is told and counted.
    pub(super) fn update(&mut self, message: Message, position: Option<Line>) -> Option<Update> {
        let topic = self.topic(&message.subject)?;
        let mut update = Update::new(topic, message.payload);
        update.private = self.private;
        let connector = self.connector.clone();
        let mut origin = Origin { connector, position, hops: 0 };
        if let Some(block) = &message.headers {
            // Of another version of headers nothing is understood.
            let unknown = Headers { unreadable: 1, ..Headers::default() };
            let headers = Headers::parse(block).unwrap_or(unknown);
            let dropped = headers.unreadable + fields(headers.fields, &mut update, &mut origin);
            let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
            self.counters.fields_dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        update.origin = Some(origin);
        Some(update)
    }

    /// The topic that a subject stands for, if it can be one.
    fn topic(&mut self, subject: &Bytes) -> Option<Topic> {
        if let Some((last, topic)) = &self.last
            && last == subject
        {
            return Some(topic.clone());
        }
        let text = std::str::from_utf8(subject).ok();
        let topic = text.and_then(|text| match &self.rewrite {
            Some(rewrite) => Topic::parse(&rewrite.apply(text)).ok(),
            None => Topic::parse(text).ok(),
        });
        match &topic {
            Some(topic) => self.last = Some((subject.clone(), topic.clone())),
            None => {
                if let Some(count) = Counters::tells(&self.counters.not_taken) {
                    let subject = String::from_utf8_lossy(subject);
                    let source = self.connector.as_str();
                    tracing::warn!(source, count, %subject, "a NATS message's subject is no topic");
                }
            }
        }
        topic
    }
}

/// Header fields become what they mean, or attributes. Answers how many became nothing.
fn fields(fields: Vec<(String, String)>, update: &mut Update, origin: &mut Origin) -> usize {
    let mut dropped = 0;
    for (name, value) in fields {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is(MESSAGE_ID) {
            update.idempotency_key = Line::parse(&value).ok();
            dropped += usize::from(update.idempotency_key.is_none());
        } else if is(CONTENT_TYPE) {
            update.content_type = Line::parse(&value).ok();
            dropped += usize::from(update.content_type.is_none());
        } else if is(HOPS) {
            // More than fit are too many; what is no number counts for nothing.
            let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let many = if is_number { u8::MAX } else { 0 };
            origin.hops = value.parse().unwrap_or(many);
        } else {
            match Line::parse(&name) {
                Ok(name)
                    if update.attributes.len() < ATTRIBUTES_MAX
                        && value.len() <= FIELD_BYTES_MAX =>
                {
                    update.attributes.push((name, value));
                }
                _ => dropped += 1,
            }
        }
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::headers::Block;

    fn conversion(rewrite: Option<(&str, &str)>) -> Conversion {
        let rewrite =
            rewrite.map(|(from, to)| Rewrite { replace: (from.to_owned(), to.to_owned()) });
        let connector = Line::parse("cms").unwrap();
        Conversion {
            connector,
            last: None,
            private: true,
            rewrite,
            except: Vec::new(),
            counters: Arc::default(),
        }
    }

    fn message(subject: &[u8], fields: &[(&str, &str)]) -> Message {
        let mut block = Block::new();
        for (name, value) in fields {
            assert!(block.add(name, value));
        }
        Message {
            subject: subject.to_vec().into(),
            subscription: 1,
            reply: None,
            headers: (!fields.is_empty()).then(|| Bytes::copy_from_slice(block.finish())),
            payload: vec![0xff, 0].into(),
        }
    }

    #[test]
    fn headers_become_what_they_mean_or_attributes() {
        let fields = [
            ("nats-msg-id", "key 1"),
            ("Content-Type", "text/plain"),
            ("tidings-hops", "3"),
            ("a", "1"),
            ("a", "2"),
        ];
        let mut conversion = conversion(Some(("cms.", "relayed.")));
        let update = conversion.update(message(b"cms.cms.a", &fields), None).unwrap();
        assert_eq!(update.topics[0].as_str(), "relayed.cms.a");
        assert_eq!(update.data.as_ref(), [0xff, 0]);
        assert_eq!(update.idempotency_key.unwrap().as_str(), "key 1");
        assert_eq!(update.content_type.unwrap().as_str(), "text/plain");
        let attributes: Vec<_> =
            update.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(attributes, [("a", "1"), ("a", "2")]);
        let origin = update.origin.unwrap();
        assert_eq!((origin.connector.as_str(), origin.position, origin.hops), ("cms", None, 3));
        assert!(update.private);
    }

    #[test]
    fn too_many_attributes_are_dropped_and_counted() {
        let name = |number: usize| format!("a{number}");
        let names: Vec<String> = (0..ATTRIBUTES_MAX + 3).map(name).collect();
        let long = "x".repeat(FIELD_BYTES_MAX + 1);
        let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        fields.push(("long", &long));
        let mut conversion = conversion(None);
        let update = conversion.update(message(b"a", &fields), None).unwrap();
        assert_eq!(update.attributes.len(), ATTRIBUTES_MAX);
        assert_eq!(conversion.counters.fields_dropped.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn headers_of_another_version_are_counted_and_the_message_comes() {
        let mut conversion = conversion(None);
        let block = Some(Bytes::from_static(b"NATS/9.9\r\na: 1\r\n\r\n"));
        let message = Message { headers: block, ..message(b"a", &[]) };
        assert!(conversion.update(message, None).unwrap().attributes.is_empty());
        assert_eq!(conversion.counters.fields_dropped.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn hops_that_are_too_many_stay_too_many() {
        for (value, expected) in
            [("8", 8), ("255", 255), ("256", 255), ("99999999999", 255), ("x", 0)]
        {
            let update = conversion(None).update(message(b"a", &[(HOPS, value)]), None).unwrap();
            assert_eq!(update.origin.unwrap().hops, expected, "{value}");
        }
    }

    #[test]
    fn a_subject_that_is_no_topic_is_counted() {
        let mut conversion = conversion(None);
        assert!(conversion.update(message(b"a.\xff", &[]), None).is_none());
        assert_eq!(conversion.counters.not_taken.load(Ordering::Relaxed), 1);
        assert!(conversion.update(message("a.é".as_bytes(), &[]), None).is_some());
    }
}
