//! What the hub says over a socket, in the words of `tidings.v1.json`. Knows no session: these are
//! texts, and the frames around them.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::frame;

/// What a client calls its command, repeated as it was written: a number or a text.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Reference(pub(super) Box<RawValue>);

/// Why a command was refused. Closed: clients decide by it what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// No JSON.
    BadJson,
    /// JSON that is no command, or one that lacks something.
    BadCommand,
    /// A token has to be shown first.
    Unauthenticated,
    /// The token is not valid.
    BadToken,
    /// The token's time is over.
    Expired,
    /// The token does not allow it.
    Forbidden,
    /// A topic that belongs to the hub.
    ReservedTopic,
    /// What cannot be a topic.
    BadTopic,
    /// What is no pattern of its language, or one that costs too much.
    BadPattern,
    /// What cannot be a cursor.
    BadCursor,
    /// A subscription of this name is there.
    NameTaken,
    /// There is none.
    UnknownName,
    /// More than one socket may have.
    TooManySubscriptions,
    /// An update beyond a limit.
    TooLarge,
    /// The idempotency key stands for another update.
    KeyReused,
    /// It was taken back before it was done.
    Cancelled,
    /// The hub has no room now; the same command may work later.
    Busy,
    /// No space is left for the history.
    NoSpace,
    /// The history cannot be written.
    StorageFailed,
    /// The hub is shutting down.
    ShuttingDown,
    /// A fault of the hub.
    Internal,
}

/// How a subscription goes on from where it was to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Goes {
    /// With what comes.
    Live,
    /// Everything behind the beginning was brought.
    Resumed,
    /// Some of it is not kept any more.
    Gap,
    /// The beginning is no place of this history: what is missing cannot be said.
    Reset,
}

/// What one socket may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Allowed {
    /// Bytes of a message.
    pub(super) message: usize,
    /// Matchers of all subscriptions together.
    pub(super) subscriptions: usize,
}

/// One message. Times are in milliseconds where nothing else is said.
#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub(super) enum Message<'m> {
    /// The first one.
    Hello {
        /// This socket's own name.
        session: &'m str,
        /// Which history it is.
        epoch: &'m str,
        /// Where the socket stands.
        cursor: &'m str,
        /// Silence that is broken.
        #[serde(skip_serializing_if = "Option::is_none")]
        heartbeat: Option<u64>,
        limits: Allowed,
    },
    /// A token counts from here on.
    Authenticated {
        #[serde(rename = "ref")]
        reference: &'m Reference,
        /// The token's end, in seconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires: Option<u64>,
        /// Whether it may publish anything.
        publish: bool,
        limits: Allowed,
        cursor: &'m str,
    },
    /// What follows is of the past of one subscription.
    Replaying {
        #[serde(rename = "ref")]
        reference: &'m Reference,
    },
    /// That is over for now; the socket stands where it stood before.
    Live {
        #[serde(rename = "ref")]
        reference: &'m Reference,
        cursor: &'m str,
    },
    /// What follows is brought by these matchers too.
    Subscribed {
        #[serde(rename = "ref")]
        reference: &'m Reference,
        name: &'m str,
        continuity: Goes,
        cursor: &'m str,
    },
    /// What follows is not brought by these matchers any more.
    Unsubscribed {
        #[serde(rename = "ref")]
        reference: &'m Reference,
        name: &'m str,
        cursor: &'m str,
    },
    /// An update is as durable as this says.
    Published {
        #[serde(rename = "ref")]
        reference: &'m Reference,
        id: &'m str,
        cursor: &'m str,
        durability: &'static str,
        #[serde(skip_serializing_if = "is_false")]
        repeated: bool,
    },
    /// An answer to `ping`.
    Pong {
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'m Reference>,
    },
    /// A command changed nothing; the socket stays.
    Error {
        /// `null` where the command could not be read so far.
        #[serde(rename = "ref")]
        reference: Option<&'m Reference>,
        code: Code,
        reason: &'m str,
    },
    /// The client has everything up to here.
    Place { cursor: &'m str },
    /// What was between is not kept any more.
    Gap { after: &'m str, cursor: &'m str, epoch: &'m str },
    /// The socket closes.
    End {
        code: &'m str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'m str>,
        /// How long to wait before coming back.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry: Option<u64>,
    },
}

// What serde asks for.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(it: &bool) -> bool {
    !it
}

impl Message<'_> {
    /// The message in a frame.
    pub(super) fn frame(&self) -> Bytes {
        // Texts, numbers and what was JSON before: nothing of it can fail.
        frame::text(&serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &Message<'_>, expected: &str) {
        let frame = message.frame();
        let text = frame.get(2..).filter(|_| expected.len() < 126).unwrap_or(&frame[4..]);
        assert_eq!(std::str::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn messages_are_written_as_documented() {
        let reference = Reference(RawValue::from_string(r#""\u0061""#.to_owned()).unwrap());
        let reference = &reference;
        check(
            &Message::Subscribed { reference, name: "n", continuity: Goes::Gap, cursor: "c" },
            r#"{"op":"subscribed","ref":"\u0061","name":"n","continuity":"gap","cursor":"c"}"#,
        );
        check(
            &Message::Error { reference: None, code: Code::TooManySubscriptions, reason: "r" },
            r#"{"op":"error","ref":null,"code":"too_many_subscriptions","reason":"r"}"#,
        );
        check(&Message::Pong { reference: None }, r#"{"op":"pong"}"#);
        let limits = Allowed { message: 1, subscriptions: 2 };
        let of_limits = r#""limits":{"message":1,"subscriptions":2}}"#;
        check(
            &Message::Hello { session: "s", epoch: "e", cursor: "c", heartbeat: None, limits },
            &format!(r#"{{"op":"hello","session":"s","epoch":"e","cursor":"c",{of_limits}"#),
        );
        let published = |repeated| Message::Published {
            reference,
            id: "i",
            cursor: "c",
            durability: "fsync",
            repeated,
        };
        check(
            &published(false),
            r#"{"op":"published","ref":"\u0061","id":"i","cursor":"c","durability":"fsync"}"#,
        );
        assert!(published(true).frame().ends_with(br#","repeated":true}"#));
        check(
            &Message::End { code: "shutdown", cursor: Some("c"), retry: Some(2) },
            r#"{"op":"end","code":"shutdown","cursor":"c","retry":2}"#,
        );
    }
}
