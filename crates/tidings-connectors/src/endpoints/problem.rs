//! What is wrong with endpoints: with those that are kept, and with a change that somebody asks
//! for. Knows no status of HTTP.

use std::path::PathBuf;

use tidings_core::StateError;

use crate::limits::ENDPOINTS_MAX;
use crate::secret::{BadKeyFile, NotOpened, NotSealed};
use crate::sinks::CannotRun;
use crate::specification::BadOption;
use crate::webhook::signature::BadRotation;

/// Why the endpoints from before cannot be put to use.
#[derive(Debug, thiserror::Error)]
pub enum BadEndpoints {
    /// The hub's storage.
    #[error("endpoints cannot be read: {0}")]
    State(#[from] StateError),
    /// A row makes no sense.
    #[error(
        "what is saved of the endpoint {name:?} is damaged: restore the data folder from a copy"
    )]
    Damaged {
        /// Which.
        name: String,
    },
    /// The key file.
    #[error("secrets of endpoints are sealed, and {0}")]
    Key(#[from] BadKeyFile),
    /// A secret does not open.
    #[error("a secret of the endpoint {name:?} does not open with the key file {path}: {reason}")]
    Sealed {
        /// Of which.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: NotOpened,
    },
    /// One name for two.
    #[error(
        "the name {name:?} is that of a sink or source in the configuration and of an endpoint \
         made over the API: give the one in the configuration another name, or remove the endpoint \
         first (DELETE /tidings/admin/sinks/{name})"
    )]
    Both {
        /// Which.
        name: String,
    },
}

/// Why an endpoint is not made or changed. Nothing has changed then, unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum EndpointProblem {
    /// What it is told.
    #[error("the endpoint cannot be as it is written")]
    Bad(Vec<BadOption>),
    /// There is one already.
    #[error("there is an endpoint with this name: change it with PUT, or choose another name")]
    Taken,
    /// The name belongs to the configuration.
    #[error(
        "a sink or source of the configuration has this name: it is changed in the hub's \
         configuration alone"
    )]
    Configured,
    /// What a sink of the configuration left behind.
    #[error(
        "what a sink of the configuration has delivered is kept under this name, in case it comes \
         back: choose another name"
    )]
    Left,
    /// There is none.
    #[error("there is no such endpoint")]
    Unknown,
    /// There are as many as there may be.
    #[error("there are {ENDPOINTS_MAX} endpoints: remove some")]
    Full,
    /// Somebody else was faster.
    #[error("the endpoint was changed meanwhile: its version is {now}; read it again")]
    Version {
        /// What it is now.
        now: u64,
    },
    /// Its creator may read nothing any more.
    #[error(
        "what its creator may read was taken back: change it with another `token`, or remove it"
    )]
    Fallen,
    /// The keys cannot be as they are asked for.
    #[error("{0}")]
    Rotation(#[from] BadRotation),
    /// The hub ends.
    #[error("the hub is shutting down")]
    Ending,
    /// The system gave no random numbers.
    #[error("no key could be made of random numbers")]
    Random,
    /// The key that seals.
    #[error("its secrets cannot be sealed: {0}")]
    Key(#[from] BadKeyFile),
    /// The same.
    #[error(transparent)]
    Sealed(#[from] NotSealed),
    /// The hub's storage.
    #[error("it cannot be stored: {0}")]
    State(#[from] StateError),
    /// It does not run.
    #[error("it does not run, since {0}: change it, resume it, or remove it")]
    Failed(String),
    /// It is stored and does not run.
    #[error("it is stored, and cannot run: {0}")]
    Run(#[from] CannotRun),
    /// What was to be done was cut off.
    #[error("what was to be done was cut off")]
    Interrupted,
}

impl EndpointProblem {
    /// What is wrong, with all that it is told and cannot be.
    pub(super) fn in_words(&self) -> String {
        let EndpointProblem::Bad(found) = self else { return self.to_string() };
        let words = found.iter().map(|bad| format!("`{}` {}", bad.path, bad.message));
        words.collect::<Vec<_>>().join("; ")
    }
}
