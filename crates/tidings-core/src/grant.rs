//! Proof of what one party may publish and read, and until when. Only the frontends' `auth` and
//! the operator's configuration make one; everything else has to be handed it.

use std::sync::Arc;

use crate::matcher::{Candidate, Matcher};

/// Whether somebody who subscribes has shown who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// By a token.
    Known,
    /// By nothing: of what is scarce it has a share with everybody else.
    Stranger,
}

/// What one party may do. Held, not looked up: whoever has none cannot call the hub.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// Topics that may be published; every topic of an update must match one of these.
    pub publish: Vec<Arc<Matcher>>,
    /// Private updates that may be read: one topic of the update must match one of these.
    pub subscribe: Vec<Arc<Matcher>>,
    /// When it ends, in milliseconds since 1970-01-01 by the wall clock.
    pub expires: Option<u64>,
    /// By which token.
    pub token: TokenIdentity,
}

/// Which token a grant came from, for logs and revocation. Never the token itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenIdentity {
    /// The issuer as named in the configuration.
    pub issuer: Option<Box<str>>,
    /// The `sub` claim.
    pub subject: Option<Box<str>>,
    /// The `jti` claim.
    pub token_id: Option<Box<str>>,
    /// The `client_id` claim: whose behalf it was made on, beside its subject.
    pub client: Option<Box<str>>,
    /// The key that verified it: its `kid`, or `publish`/`subscribe` of the issuer.
    pub key: Option<Box<str>>,
    /// Which of the operator's keys that was, whatever its name: a mark that means something to
    /// whoever made the grant, in this process only.
    pub key_mark: Option<u64>,
}

impl TokenIdentity {
    /// One name for the publisher behind the token: issuer and subject.
    pub(crate) fn publisher(&self) -> Box<str> {
        let part = |part: &Option<Box<str>>| part.clone().unwrap_or_default();
        match (&self.issuer, &self.subject) {
            (None, None) => Box::default(),
            (issuer, subject) => format!("{}\0{}", part(issuer), part(subject)).into(),
        }
    }
}

impl Grant {
    /// The grant of somebody unknown: public updates only.
    pub fn anonymous() -> Grant {
        Grant::default()
    }

    /// The operator's own grant: everything, for ever.
    pub fn operator() -> Grant {
        let everything = vec![Arc::new(Matcher::Everything)];
        Grant { publish: everything.clone(), subscribe: everything, ..Grant::default() }
    }

    /// Whether this topic may be published to. All topics of an update must be.
    pub fn covers_publishing(&self, topic: &Candidate<'_>) -> bool {
        self.publish.iter().any(|matcher| matcher.matches(topic))
    }

    /// Whether a private update of these topics may be read: one granted topic is enough.
    pub fn covers_reading(&self, topics: &[Candidate<'_>]) -> bool {
        topics.iter().any(|topic| self.subscribe.iter().any(|matcher| matcher.matches(topic)))
    }
}
