//! One connection to a NATS server while it lasts: reads when somebody takes what is read, writes,
//! answers questions and asks them. Knows nothing of servers, logins and of what messages mean.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::limits::{
    NATS_HELD_BACK_COUNTS, NATS_HELD_BACK_MIN, NATS_INFO_WEIGHT, NATS_OUTPUT_BYTES_MAX,
    NATS_READ_BYTES_MAX, NATS_REFUSALS_MAX, NATS_REFUSED_PER_SECOND_MAX, NATS_UNANSWERED_MAX,
    NATS_UNASKED_PER_SECOND_MAX, NATS_UNREAD_BYTES_MAX,
};
use crate::nats::connection::{Arrival, Barrier, Broken, Command};
use crate::nats::counters::Counters;
use crate::nats::opening::{Opened, ReadSide, WriteSide, greeting_of};
use crate::nats::pace::Pace;
use crate::nats::protocol::{Decoder, Frame, Message, PING, PONG};

/// What a session shares with those before and after it.
pub(super) struct Between<'a> {
    pub(super) name: &'a str,
    /// What was read and is not taken yet.
    pub(super) read: &'a mut VecDeque<Arrival>,
    pub(super) to: &'a mpsc::Sender<Arrival>,
    pub(super) commands: &'a mut mpsc::Receiver<Command>,
    pub(super) counters: &'a Counters,
    /// Told when the server is silent.
    pub(super) given_up: &'a Notify,
    pub(super) ping_every: Duration,
    /// Subscriptions, numbered from 1.
    pub(super) interests: usize,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody needs it any more.
    Unneeded,
    /// The connection broke, with words for the log.
    Lost(String),
}

/// Bytes that leave.
struct Output {
    write: WriteSide,
    waiting: BytesMut,
    is_flushed: bool,
}

impl Output {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.is_flushed
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < NATS_OUTPUT_BYTES_MAX
    }

    fn add(&mut self, bytes: BytesMut) {
        if self.waiting.is_empty() {
            self.waiting = bytes;
        } else {
            self.waiting.extend_from_slice(&bytes);
        }
    }

    fn add_slice(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Writes some. May be dropped and called again at any time.
    async fn advance(&mut self) -> std::io::Result<()> {
        if self.waiting.is_empty() {
            self.write.flush().await?;
            self.is_flushed = true;
            return Ok(());
        }
        self.is_flushed = false;
        match self.write.write_buf(&mut self.waiting).await? {
            0 => Err(std::io::ErrorKind::WriteZero.into()),
            _ => Ok(()),
        }
    }
}

/// What a session knows besides its sockets.
struct Standing<'a> {
    decoder: Decoder,
    /// Who waits for each answer of the server, in their order; nobody for our own questions.
    asked: VecDeque<Option<Barrier>>,
    /// What the server refused since its last answer.
    refusals: Vec<String>,
    /// The last thing that the server complained about.
    complaint: Option<String>,
    /// How many messages were read last: about so many are read next.
    brought: usize,
    /// Questions in a row during which nothing was read.
    quiet: u32,
    /// When something was read that nobody has taken yet.
    held_since: Option<Instant>,
    /// When nobody had taken something for too long.
    behind: Option<Instant>,
    /// What its cluster consists of now, if it said so.
    servers: Option<Vec<String>>,
    /// What it says though nobody asked.
    unasked: Pace,
    /// Messages that it refuses.
    refused: Pace,
    interests: usize,
    /// Subscriptions whose refusal the log was not told of.
    untold: usize,
    name: &'a str,
    counters: &'a Counters,
}

/// Drives the connection until it breaks or nobody needs it. `first` is written first. Answers as
/// well which servers there are, when the server said so meanwhile.
pub(super) async fn drive(
    opened: Opened,
    first: BytesMut,
    between: Between<'_>,
) -> (Ended, Option<Vec<String>>) {
    let Opened { mut read, write, decoder, .. } = opened;
    let Between { name, read: arrived, to, commands, counters, given_up, ping_every, interests } =
        between;
    let mut standing = Standing {
        decoder,
        asked: VecDeque::new(),
        refusals: Vec::new(),
        complaint: None,
        brought: 0,
        quiet: 0,
        held_since: None,
        behind: None,
        servers: None,
        unasked: Pace::new(NATS_UNASKED_PER_SECOND_MAX),
        refused: Pace::new(NATS_REFUSED_PER_SECOND_MAX),
        interests,
        untold: interests,
        name,
        counters,
    };
    let mut output = Output { write, waiting: first, is_flushed: false };
    let mut tick = interval_at(Instant::now() + ping_every, ping_every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What came together with the answer to the login.
    let mut ended = standing.decode(arrived, &mut output).err();
    while ended.is_none() {
        ended = tokio::select! {
            place = to.reserve(), if !arrived.is_empty() => {
                hand_on(arrived, place.ok());
                standing.handed_on();
                None
            }
            bytes = fill(&mut read, &mut standing.decoder), if arrived.is_empty() => match bytes {
                Ok(0) => Some(standing.closed("the server closed the connection")),
                Ok(_) => standing.decode(arrived, &mut output).err(),
                Err(error) => Some(standing.closed(&error.to_string())),
            },
            written = output.advance(), if !output.is_idle() => {
                written.err().map(|error| standing.closed(&error.to_string()))
            }
            command = commands.recv(), if output.has_room() => match command {
                Some(command) => {
                    standing.obey(command, &mut output);
                    None
                }
                None => Some(Ended::Unneeded),
            },
            _ = tick.tick() => standing.ask(arrived.is_empty(), &mut output),
            () = given_up.notified() => Some(standing.closed("the server did not answer in time")),
        };
        counters.unwritten_bytes.store(output.waiting.len() as u64, Ordering::Relaxed);
    }
    counters.unwritten_bytes.store(0, Ordering::Relaxed);
    for barrier in standing.asked.into_iter().flatten() {
        // Whoever asked may have stopped waiting.
        let _told = barrier.send(Err(Broken));
    }
    (ended.unwrap_or(Ended::Unneeded), standing.servers)
}

async fn fill(read: &mut ReadSide, decoder: &mut Decoder) -> std::io::Result<usize> {
    let buffer = decoder.buffer();
    if buffer.capacity() - buffer.len() < NATS_READ_BYTES_MAX / 2 {
        buffer.reserve(NATS_READ_BYTES_MAX);
    }
    read.read_buf(buffer).await
}

/// Hands the first on; nobody takes anything any more when there is no place.
pub(super) fn hand_on(arrived: &mut VecDeque<Arrival>, place: Option<mpsc::Permit<'_, Arrival>>) {
    match (place, arrived.pop_front()) {
        (Some(place), Some(arrival)) => place.send(arrival),
        _ => arrived.clear(),
    }
}

impl Standing<'_> {
    /// Looks at everything that has been read.
    fn decode(
        &mut self,
        arrived: &mut VecDeque<Arrival>,
        output: &mut Output,
    ) -> Result<(), Ended> {
        self.quiet = 0;
        let mut messages: Vec<Message> = Vec::with_capacity(self.brought);
        let ended = self.frames(&mut messages, output);
        self.brought = messages.len();
        if !messages.is_empty() {
            arrived.push_back(Arrival::Messages(messages));
            self.held_since = Some(Instant::now());
        }
        ended
    }

    /// Takes what is there apart, up to its end or something that ends the connection.
    fn frames(&mut self, messages: &mut Vec<Message>, output: &mut Output) -> Result<(), Ended> {
        loop {
            let next = self.decoder.next().map_err(|bad| Ended::Lost(bad.to_string()))?;
            let Some(frame) = next else { return Ok(()) };
            match frame {
                Frame::Message(message) => {
                    self.expects(message.subscription)?;
                    messages.push(message);
                }
                Frame::Ping if output.waiting.len() > NATS_UNREAD_BYTES_MAX => {
                    return Err(Ended::Lost("the server asks and reads nothing".to_owned()));
                }
                Frame::Ping => {
                    self.unasked("PING", 1)?;
                    output.add_slice(PONG);
                }
                Frame::Pong => self.answered()?,
                Frame::Error(said) => self.complained(said)?,
                Frame::Info(json) => {
                    self.unasked("INFO", NATS_INFO_WEIGHT)?;
                    self.informed(&json);
                }
                Frame::Okay => self.unasked("+OK", 1)?,
            }
        }
    }

    /// Whether it may still say so: a server that goes on about itself would keep a core busy.
    fn unasked(&mut self, what: &str, weight: u32) -> Result<(), Ended> {
        if self.unasked.allows(weight) {
            return Ok(());
        }
        self.counters.floods.fetch_add(1, Ordering::Relaxed);
        Err(Ended::Lost(format!(
            "the server sent more than {NATS_UNASKED_PER_SECOND_MAX} frames within a second that \
             nobody asked for, the last one {what}"
        )))
    }

    fn expects(&self, subscription: u64) -> Result<(), Ended> {
        let known = usize::try_from(subscription).unwrap_or(usize::MAX);
        if (1..=self.interests).contains(&known) {
            return Ok(());
        }
        Err(Ended::Lost("the server sent a message that nobody subscribed to".to_owned()))
    }

    /// What changed about the server and its cluster.
    fn informed(&mut self, json: &[u8]) {
        let Some(greeting) = greeting_of(json) else { return };
        if greeting.ldm {
            self.complaint = Some("it is going out of service (lame duck mode)".to_owned());
        }
        self.servers = greeting.connect_urls.or_else(|| self.servers.take());
    }

    fn answered(&mut self) -> Result<(), Ended> {
        let Some(asked) = self.asked.pop_front() else { return self.unasked("PONG", 1) };
        if let Some(barrier) = asked {
            let _told = barrier.send(Ok(std::mem::take(&mut self.refusals)));
        }
        Ok(())
    }

    fn complained(&mut self, said: String) -> Result<(), Ended> {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        let lower = said.to_ascii_lowercase();
        if lower.starts_with("permissions violation for publish") {
            return self.refused(said);
        }
        self.unasked("-ERR", 1)?;
        if lower.starts_with("permissions violation") && self.untold > 0 {
            self.untold -= 1;
            tracing::error!(connector = self.name, said, "the NATS server refuses a subscription");
        }
        self.complaint = Some(said);
        Ok(())
    }

    /// A message that we may not publish. There may be one answer for each.
    fn refused(&mut self, said: String) -> Result<(), Ended> {
        if !self.refused.allows(1) {
            self.counters.floods.fetch_add(1, Ordering::Relaxed);
            return Err(Ended::Lost("the server refuses more than is sent".to_owned()));
        }
        let told = Counters::tells(&self.counters.refused);
        if self.asked.iter().any(Option::is_some) {
            if self.refusals.len() < NATS_REFUSALS_MAX {
                self.refusals.push(said);
            }
        } else if let Some(count) = told {
            let connector = self.name;
            tracing::error!(connector, count, said, "the NATS server refuses a message");
        }
        Ok(())
    }

    fn handed_on(&mut self) {
        let held = self.held_since.take().filter(|held| held.elapsed() >= NATS_HELD_BACK_MIN);
        self.behind = held.map(|_| Instant::now()).or(self.behind);
    }

    /// A server that has to wait for us too long closes the connection without a word.
    fn closed(&mut self, reason: &str) -> Ended {
        if self.behind.is_some_and(|behind| behind.elapsed() < NATS_HELD_BACK_COUNTS) {
            self.counters.cut_off.fetch_add(1, Ordering::Relaxed);
            let connector = self.name;
            tracing::error!(
                connector,
                "a NATS connection ended while the hub was too busy to read from it: what the \
                 server held is lost, unless it is in a stream"
            );
        }
        match self.complaint.take() {
            Some(said) => Ended::Lost(format!("{reason}; it said: {said}")),
            None => Ended::Lost(reason.to_owned()),
        }
    }

    fn obey(&mut self, command: Command, output: &mut Output) {
        // Who does not wait any more has it sent again.
        if command.barrier.as_ref().is_some_and(Barrier::is_closed) {
            return;
        }
        output.add(command.bytes);
        if let Some(barrier) = command.barrier {
            output.add_slice(PING);
            self.asked.push_back(Some(barrier));
        }
    }

    /// Asks whether the server is there, unless it did not answer before. Who does not read cannot
    /// know.
    fn ask(&mut self, is_reading: bool, output: &mut Output) -> Option<Ended> {
        if is_reading && self.quiet >= NATS_UNANSWERED_MAX {
            return Some(Ended::Lost(format!("{} questions were not answered", self.quiet)));
        }
        if is_reading {
            self.quiet += 1;
            output.add_slice(PING);
            self.asked.push_back(None);
        }
        None
    }
}
