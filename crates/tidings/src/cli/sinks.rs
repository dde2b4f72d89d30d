//! `tidings sink` and `tidings egress`: what people type becomes a call of the client. Knows no
//! sink.

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigArguments, ask_and_print, with};
use crate::client::{self, AdminArguments, ChosenArguments, EgressArguments, ReplayArguments};

/// The hub, and one of its sinks.
#[derive(clap::Args)]
pub(super) struct OneSink {
    /// The sink's name
    name: String,
    #[command(flatten)]
    hub: AnyHub,
}

/// The hub.
#[derive(clap::Args)]
pub(super) struct AnyHub {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Subcommand)]
pub(super) enum SinkCommand {
    /// List sinks and how they stand
    List {
        #[command(flatten)]
        hub: AnyHub,
    },
    /// Show everything about a sink, as JSON
    Show {
        #[command(flatten)]
        sink: OneSink,
    },
    /// List what was tried, the newest first
    Attempts {
        #[command(flatten)]
        sink: OneSink,
        /// Only failures
        #[arg(long)]
        failed: bool,
        /// Older ones than the attempt with this number
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
    },
    /// List dead letters: what was given up, the oldest first
    DeadLetters {
        #[command(flatten)]
        sink: OneSink,
        /// Newer ones than the dead letter with this number
        #[arg(long, value_name = "NUMBER")]
        after: Option<u64>,
    },
    /// Have dead letters delivered again
    Redrive {
        #[command(flatten)]
        sink: OneSink,
        #[command(flatten)]
        chosen: ChosenArguments,
    },
    /// Delete dead letters: nobody will be told of them
    Forget {
        #[command(flatten)]
        sink: OneSink,
        #[command(flatten)]
        chosen: ChosenArguments,
    },
    /// Have some of the history delivered once more
    Replay {
        #[command(flatten)]
        sink: OneSink,
        #[command(flatten)]
        wanted: ReplayArguments,
    },
    /// List replays and how far they are
    Replays {
        #[command(flatten)]
        sink: OneSink,
    },
    /// End a replay
    StopReplay {
        #[command(flatten)]
        sink: OneSink,
        /// Its number
        number: u64,
    },
    /// Have a sink go on that is disabled, rests or waits
    Resume {
        #[command(flatten)]
        sink: OneSink,
    },
    /// Deliver a made-up update at once, and say what became of it
    Test {
        #[command(flatten)]
        sink: OneSink,
    },
}

#[derive(Subcommand)]
pub(super) enum EgressCommand {
    /// Say whether webhooks may go to a URL, and to which addresses. Nothing is sent there
    Check(EgressArguments),
}

/// Does what a command says.
pub(super) fn run(command: SinkCommand) -> ExitCode {
    match command {
        SinkCommand::List { hub } => {
            with(&hub.config, |config| ask_and_print(client::sinks(&config.admin, &hub.admin)))
        }
        SinkCommand::Show { sink: OneSink { name, hub } } => with(&hub.config, |config| {
            ask_and_print(client::show(&config.admin, &hub.admin, &name))
        }),
        SinkCommand::Attempts { sink: OneSink { name, hub }, failed, before } => {
            with(&hub.config, |config| {
                let answer = client::attempts(&config.admin, &hub.admin, &name, failed, before);
                ask_and_print(answer)
            })
        }
        SinkCommand::DeadLetters { sink: OneSink { name, hub }, after } => {
            with(&hub.config, |config| {
                ask_and_print(client::dead_letters(&config.admin, &hub.admin, &name, after))
            })
        }
        SinkCommand::Redrive { sink: OneSink { name, hub }, chosen } => {
            with(&hub.config, |config| {
                ask_and_print(client::redrive(&config.admin, &hub.admin, &name, &chosen))
            })
        }
        SinkCommand::Forget { sink: OneSink { name, hub }, chosen } => {
            with(&hub.config, |config| {
                ask_and_print(client::forget(&config.admin, &hub.admin, &name, &chosen))
            })
        }
        SinkCommand::Replay { sink: OneSink { name, hub }, wanted } => {
            with(&hub.config, |config| {
                ask_and_print(client::replay(&config.admin, &hub.admin, &name, &wanted))
            })
        }
        SinkCommand::Replays { sink: OneSink { name, hub } } => with(&hub.config, |config| {
            ask_and_print(client::replays(&config.admin, &hub.admin, &name))
        }),
        SinkCommand::StopReplay { sink: OneSink { name, hub }, number } => {
            with(&hub.config, |config| {
                ask_and_print(client::stop_replay(&config.admin, &hub.admin, &name, number))
            })
        }
        SinkCommand::Resume { sink: OneSink { name, hub } } => with(&hub.config, |config| {
            ask_and_print(client::resume(&config.admin, &hub.admin, &name))
        }),
        SinkCommand::Test { sink: OneSink { name, hub } } => with(&hub.config, |config| {
            ask_and_print(client::test(&config.admin, &hub.admin, &name))
        }),
    }
}

/// Does what a command says.
pub(super) fn egress(command: EgressCommand) -> ExitCode {
    let EgressCommand::Check(arguments) = command;
    ask_and_print(client::egress(&arguments))
}
