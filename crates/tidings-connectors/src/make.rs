//! From what a sink is told to the system behind it: the one place that knows every kind.
//! Knows no rule of delivery.

use std::sync::Arc;

use ipnet::IpNet;
use rustls::ClientConfig;
use tidings_core::Clock;

use crate::connector::Sink;
use crate::ingest::Source;
use crate::nats::{self, NatsSink, NatsSource};
use crate::specification::{BadOption, SinkSpecification, SourceSpecification};
use crate::webhook::{self, Guard, Surroundings, Webhook};

/// What systems are made with.
#[derive(Clone)]
pub struct Workshop {
    /// The hub's URL, as receivers are told it.
    pub source: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Whom connections trust; see [`webhook::tls()`].
    pub tls: Arc<ClientConfig>,
    /// Networks that endpoints made over the API may lead to beside the public ones.
    pub allow: Vec<IpNet>,
}

/// Who wrote what a sink is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// The operator, in the configuration.
    Operator,
    /// Somebody over the API.
    Stranger,
    /// The relay: its destinations are the operator's and usually on the same machine.
    Relay,
}

impl Workshop {
    /// The system that a sink is told of. Some begin to connect: it has to be called inside a
    /// runtime.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its options.
    pub fn sink(
        &self,
        told: &SinkSpecification,
        author: Author,
    ) -> Result<Arc<dyn Sink>, Vec<BadOption>> {
        match told.to.kind.as_str() {
            "webhook" => {
                let mut options = webhook::Options::read(&told.to.options)?;
                let guard = match author {
                    Author::Operator => Guard::Operator,
                    Author::Stranger => Guard::Stranger(self.allow.clone()),
                    Author::Relay => Guard::Off,
                };
                options.plain = author == Author::Relay;
                options.follows = author == Author::Relay;
                let around = Surroundings {
                    source: self.source.clone(),
                    clock: Arc::clone(&self.clock),
                    tls: Arc::clone(&self.tls),
                    guard,
                };
                Ok(Arc::new(Webhook::new(&options, &around)?))
            }
            "nats" => {
                let options = nats::SinkOptions::read(&told.to.options)?;
                Ok(Arc::new(NatsSink::start(&told.name, options)?))
            }
            kind => Err(unknown("sink", kind)),
        }
    }

    /// The system that a source is told of. It connects when it runs.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with its options.
    pub fn source(told: &SourceSpecification) -> Result<Box<dyn Source>, Vec<BadOption>> {
        match told.from.kind.as_str() {
            "nats" => {
                let options = nats::SourceOptions::read(&told.from.options)?;
                Ok(Box::new(NatsSource::new(&told.name, told.private, options)?))
            }
            kind => Err(unknown("source", kind)),
        }
    }
}

fn unknown(what: &str, kind: &str) -> Vec<BadOption> {
    vec![BadOption {
        path: "kind".to_owned(),
        message: format!("there is no {what} of kind {kind:?}"),
        hint: None,
        is_unknown: false,
    }]
}
