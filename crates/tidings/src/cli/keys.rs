//! `tidings key`: makes, lists and revokes API keys, and changes what signs their tokens. Knows
//! exit codes; the work is elsewhere.

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigArguments, ask_and_print, ask_and_say, with};
use crate::client::{self, AdminArguments, KeyArguments};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key, and print it: it is shown this once
    Create {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
        #[command(flatten)]
        key: KeyArguments,
    },
    /// List the keys of a running hub
    List {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Revoke a key: its tokens are refused, and what was opened with them ends
    Revoke {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
        /// The key's id or name
        #[arg(value_name = "ID|NAME")]
        named: String,
    },
    /// Sign the tokens that keys get by a new secret; those from before go on until they end
    RotateIssuer {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
        /// End all tokens from before at once, as when their secret is known to others
        #[arg(long)]
        now: bool,
    },
}

/// Does what a command says.
pub(super) fn run(command: KeyCommand) -> ExitCode {
    match command {
        KeyCommand::Create { config, admin, key } => {
            with(&config, |config| ask_and_say(client::create_key(&config.admin, &admin, &key)))
        }
        KeyCommand::List { config, admin } => {
            with(&config, |config| ask_and_print(client::keys(&config.admin, &admin)))
        }
        KeyCommand::Revoke { config, admin, named } => {
            with(&config, |config| ask_and_print(client::revoke_key(&config.admin, &admin, &named)))
        }
        KeyCommand::RotateIssuer { config, admin, now } => {
            with(&config, |config| ask_and_print(client::rotate_issuer(&config.admin, &admin, now)))
        }
    }
}
