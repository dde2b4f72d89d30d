//! Says everything back. For suites that test a server's frames and know nothing of a hub.

use std::sync::Arc;

use bytes::Bytes;
use tidings_core::{Grant, Hub, Selection, Start};

use super::frame::{self, BINARY, TEXT};
use super::handshake;
use crate::Shards;
use crate::http::{Answer, Content, Frontend, Lasting, Request};
use crate::limits::{SOCKET_PER_SECOND_SUITE, SOCKET_SUITE_MESSAGE_BYTES};
use crate::shard::talk::{Ear, FrameLimits, Hearer, Order, Said, Talk};
use crate::shard::{Limits, Stream};
use crate::sse::Framing;

/// A frontend whose sockets, on every path, say everything back.
pub struct Echo {
    hub: Hub,
    shards: Arc<Shards>,
}

impl Echo {
    /// With sockets in these shards, which are those of `hub`.
    pub fn new(hub: Hub, shards: Arc<Shards>) -> Echo {
        Echo { hub, shards }
    }

    fn open(&self, request: Request) -> Lasting {
        let limits = FrameLimits {
            message_bytes: SOCKET_SUITE_MESSAGE_BYTES,
            binary: true,
            per_second: SOCKET_PER_SECOND_SUITE,
            burst: SOCKET_PER_SECOND_SUITE,
        };
        let grant = Arc::new(Grant::anonymous());
        let stream = Stream {
            request: request.id,
            selection: Selection { matchers: Vec::new(), grant, scope: None },
            start: Start::After(self.hub.end()),
            limits: Limits { expires: None, heartbeat: None, lifetime: None },
            tells: None,
            present: None,
            talk: Some(Box::new(Talk { hearer: Arc::new(Repeats), limits, opening: None })),
            closing: request.closing,
        };
        let shards = Arc::clone(&self.shards);
        Lasting::messages(Framing::Raw, move |carrier| shards.begin(stream, carrier))
    }
}

impl Frontend for Echo {
    fn claims(&self, _path: &str) -> bool {
        true
    }

    fn call(self: Arc<Self>, request: Request) -> Answer {
        Box::pin(async move {
            match handshake::accept(&request.head, &[]) {
                Ok(accepted) => accepted.answer(Content::Lasting(self.open(request))),
                Err(refusal) => refusal.answer(request.head.version).map(Content::Body),
            }
        })
    }
}

struct Repeats;

impl Hearer for Repeats {
    fn heard(self: Arc<Self>, said: Said, ear: &Ear) {
        let bytes = said.bytes().len();
        let frame: Bytes = match said {
            Said::Text(text) => frame::message(TEXT, &text),
            Said::Binary(binary) => frame::message(BINARY, &binary),
        };
        ear.order(Order::Say(frame));
        ear.order(Order::Done { bytes });
    }

    fn ended(&self) {}
}
