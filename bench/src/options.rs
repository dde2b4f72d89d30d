//! What one load generator is told on its command line. Knows no scenario's name.

use clap::{Args, ValueEnum};

use crate::peer::Kind;

/// The flags of `load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadOptions {
    /// Where subscribers connect to: `http://127.0.0.1:PORT`, or `https://`.
    #[arg(long)]
    pub(crate) url: String,
    /// Where publishers connect to, if it is another listener; always plain.
    #[arg(long)]
    pub(crate) publish_url: Option<String>,
    /// What the server speaks.
    #[arg(long, value_enum, default_value_t = Kind::Mercure)]
    pub(crate) kind: Kind,
    /// Subscribers that everything is checked for.
    #[arg(long, default_value_t = 1000)]
    pub(crate) subscribers: usize,
    /// One topic for all, or one for each.
    #[arg(long, value_enum, default_value_t = Topics::One)]
    pub(crate) topics: Topics,
    /// Connections that publish, one request in flight on each.
    #[arg(long, default_value_t = 1)]
    pub(crate) publishers: usize,
    /// Updates that not everybody has got yet. With a rate, there is no window.
    #[arg(long, default_value_t = 1)]
    pub(crate) window: usize,
    /// Updates a second, instead of as many as the window allows.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// Bytes of an update's data.
    #[arg(long, default_value_t = 256)]
    pub(crate) payload: usize,
    /// Who has a token: every other subscriber one of its own, all of these the same, or nobody.
    /// With tokens, every other update is private.
    #[arg(long, value_enum, default_value_t = Tokens::Own)]
    pub(crate) tokens: Tokens,
    /// The audience of the tokens. Unset, the URL with the hub's path.
    #[arg(long)]
    pub(crate) audience: Option<String>,
    /// Subscribes over so many HTTP/2 connections instead of one HTTP/1.1 connection each.
    #[arg(long)]
    pub(crate) http2_connections: Option<usize>,
    /// Percent of the subscribers that read about 1 KiB a second.
    #[arg(long, default_value_t = 0)]
    pub(crate) slow: usize,
    /// Reads each subscriber once in so many milliseconds, in turns, instead of when something
    /// comes: a read takes all that came meanwhile, and what others got as well is compared with
    /// it instead of parsed. Deliveries count when they are read, so that their times are of no
    /// use. Server-Sent Events over plain HTTP/1.1 only. Unset, they are read as they come.
    #[arg(long, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) read_every: Option<u64>,
    /// With --read-every, updates that not all watchers have got: a few subscribers, who are read
    /// as something comes. Bounds what waits in the server, where the window bounds that and what
    /// was not read yet.
    #[arg(long, value_name = "UPDATES", requires = "read_every")]
    pub(crate) ahead: Option<usize>,
    /// Others that come, get the head of their stream, and leave, each second of a slice.
    #[arg(long, default_value_t = 0)]
    pub(crate) visitors: usize,
    /// Other sockets of the hub, which subscribe to something and unsubscribe from it in turn.
    #[arg(long, default_value_t = 0)]
    pub(crate) changers: usize,
    /// Changes of each of them in a second.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) changes: f64,
    /// Patterns of others, that match nothing that is published; a hundred in one subscription.
    #[arg(long, default_value_t = 0)]
    pub(crate) bystanders: usize,
    /// What these patterns look like, and what subscribers subscribe by.
    #[arg(long, value_enum, default_value_t = Population::Exact)]
    pub(crate) population: Population,
    /// Connections that are opened at once.
    #[arg(long, default_value_t = crate::limits::OPENING_MAX)]
    pub(crate) opening: usize,
}

/// How many topics there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topics {
    /// Everybody listens to the same.
    One,
    /// Everybody has one, and updates go to random ones.
    Own,
}

/// Who presents a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tokens {
    /// Nobody; all updates are public.
    None,
    /// Every other subscriber, all the same.
    Shared,
    /// Every other subscriber, each its own, as people have.
    Own,
}

/// What patterns look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Population {
    /// Topics, byte for byte.
    Exact,
    /// Patterns, each with a literal beginning of its own.
    Prefixes,
    /// Patterns with one beginning, and an end of their own behind a variable.
    Suffixes,
    /// Patterns that begin with a variable: no literal beginning at all.
    Anywhere,
}

impl Population {
    /// The parameter and pattern number `number`, which matches nothing that is published.
    pub(crate) fn stranger(self, number: usize) -> (&'static str, String) {
        match self {
            Population::Exact => ("match", format!("https://example.com/strangers/{number}")),
            Population::Prefixes => {
                ("match_urlpattern", format!("https://example.com/strangers-{number}/:id"))
            }
            Population::Suffixes => {
                ("match_urlpattern", format!("https://example.com/live/:id/strangers-{number}"))
            }
            Population::Anywhere => {
                ("match_uritemplate", format!("{{scheme}}://{{+host}}/strangers/{number}"))
            }
        }
    }

    /// The parameter and a pattern, each number another one, that matches topic `topic`.
    pub(crate) fn matching(self, topic: usize, number: usize) -> (&'static str, String) {
        match self {
            Population::Exact => ("match", topic_name(topic)),
            Population::Prefixes | Population::Suffixes => {
                ("match_urlpattern", format!("https://example.com/live/:id{number}"))
            }
            Population::Anywhere => {
                ("match_uritemplate", format!("{{scheme{number}}}://{{+host}}/live/{topic}"))
            }
        }
    }
}

/// The topic with this number.
pub(crate) fn topic_name(number: usize) -> String {
    format!("https://example.com/live/{number}")
}

impl LoadOptions {
    /// The audience that the hub wants in tokens.
    pub(crate) fn token_audience(&self) -> String {
        let own = || format!("{}/.well-known/mercure", self.url);
        self.audience.clone().unwrap_or_else(own)
    }

    /// Number of topics that are published to.
    pub(crate) fn topic_count(&self) -> usize {
        match self.topics {
            Topics::One => 1,
            Topics::Own => self.subscribers.max(1),
        }
    }

    /// Whether a subscriber reads slowly.
    pub(crate) fn is_slow(&self, subscriber: usize) -> bool {
        subscriber % 100 < self.slow
    }

    /// Whether a subscriber is read in turns with the others.
    pub(crate) fn is_read_in_turns(&self, subscriber: usize) -> bool {
        self.read_every.is_some() && !self.is_slow(subscriber) && !self.is_watcher(subscriber)
    }

    /// Whether a subscriber tells by what it gets how far the server is.
    pub(crate) fn is_watcher(&self, subscriber: usize) -> bool {
        // An odd step, so that half of them have a token.
        let step = (self.subscribers / crate::limits::WATCHERS) | 1;
        self.ahead.is_some() && subscriber.is_multiple_of(step) && !self.is_slow(subscriber)
    }

    /// Whether a subscriber has a token.
    pub(crate) fn has_token(&self, subscriber: usize) -> bool {
        self.tokens != Tokens::None && self.kind.has_private() && subscriber.is_multiple_of(2)
    }
}
