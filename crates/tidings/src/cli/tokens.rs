//! `tidings token`: makes, explains and revokes tokens. Knows exit codes; the work is elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use tidings_core::{Clock, Namespace};
use tidings_frontends::auth::OwnIssuer;

use super::{
    ConfigArguments, FAILED, address, ask_and_print, failed, mistaken, print, say, with, wrong,
};
use crate::client::{self, AdminArguments, EndArguments, RevokedArguments};
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::token::{self, ExplainArguments, MintArguments, OwnToken};

/// The development hub that judges a token.
#[derive(clap::Args)]
pub(super) struct AgainstDev {
    /// Judge it as the `tidings dev` of this folder does
    #[arg(long, conflicts_with = "config")]
    dev: bool,
    /// Where that hub listens, if it was told
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "dev")]
    listen: Option<SocketAddr>,
    /// The folder of its data, if it was told
    #[arg(long, value_name = "DIR", requires = "dev")]
    data: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Sign a token with the secret of the configuration or a key file, and print it
    Mint {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        token: Box<MintArguments>,
    },
    /// Say which checks a token passes and fails, and what it grants
    Explain {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        dev: AgainstDev,
        #[command(flatten)]
        admin: AdminArguments,
        #[command(flatten)]
        token: ExplainArguments,
    },
    /// Take tokens back before their end, in a running hub: they are refused and their
    /// subscriptions end
    Revoke {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
        #[command(flatten)]
        revoked: RevokedArguments,
        #[command(flatten)]
        end: EndArguments,
    },
    /// Withdraw a revocation from a running hub
    Unrevoke {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
        #[command(flatten)]
        revoked: RevokedArguments,
    },
    /// List what is revoked in a running hub
    Revocations {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        admin: AdminArguments,
    },
}

/// Does what a command says.
pub(super) fn run(command: TokenCommand) -> ExitCode {
    match command {
        TokenCommand::Mint { config, token } => mint(&config, *token),
        TokenCommand::Explain { config, dev, admin, token } => {
            explain_under(&config, &dev, &admin, &token)
        }
        TokenCommand::Revoke { config, admin, revoked, end } => with(&config, |config| {
            ask_and_print(client::revoke(&config.admin, &admin, &revoked, &end))
        }),
        TokenCommand::Unrevoke { config, admin, revoked } => {
            with(&config, |config| ask_and_print(client::unrevoke(&config.admin, &admin, &revoked)))
        }
        TokenCommand::Revocations { config, admin } => {
            with(&config, |config| ask_and_print(client::revocations(&config.admin, &admin)))
        }
    }
}

/// With a key file a token can be signed without any configuration.
fn mint(arguments: &ConfigArguments, mut token: MintArguments) -> ExitCode {
    let unconfigured = token.key_file.is_some() && arguments.config.is_none();
    match config::load(arguments.config.as_deref()) {
        Ok(config) => {
            if let Err(error) = token.complete_from(&config.auth, &config.hub_url()) {
                return wrong(&error);
            }
        }
        Err(_) if unconfigured => {}
        Err(mistakes) => return mistaken(&mistakes),
    }
    match token::mint(&token) {
        Ok(token) => print(&format!("{token}\n")),
        Err(error) => wrong(&error),
    }
}

/// Without a configuration, a token is decoded and nobody judges it.
fn explain_under(
    arguments: &ConfigArguments,
    dev: &AgainstDev,
    admin: &AdminArguments,
    token: &ExplainArguments,
) -> ExitCode {
    let loaded = if dev.dev {
        config::dev_again(dev.listen, dev.data.as_deref())
    } else {
        config::load(arguments.config.as_deref())
    };
    let named = arguments.config.is_some() || std::env::var_os("TIDINGS_CONFIG").is_some();
    match loaded {
        Ok(config) => explain(&config, admin, token),
        Err(mistakes) if dev.dev || named || mistakes.in_a_file() => mistaken(&mistakes),
        Err(_) => decode(token),
    }
}

/// Fails whatever it finds: what nobody has judged must not pass for accepted.
fn decode(arguments: &ExplainArguments) -> ExitCode {
    let token = match arguments.read_token() {
        Ok(token) => token,
        Err(error) => return wrong(&format!("the token cannot be read: {error}")),
    };
    print(&token::decode(&token, SystemClock::new().wall()));
    say("tidings: no issuer is configured, so nobody judged the signature and the claims.\n\
         Name a configuration (--config FILE), or judge it as the `tidings dev` of this folder \
         does (--dev)\n");
    ExitCode::from(FAILED)
}

fn explain(config: &Config, admin: &AdminArguments, arguments: &ExplainArguments) -> ExitCode {
    let token = match arguments.read_token() {
        Ok(token) => token,
        Err(error) => return wrong(&format!("the token cannot be read: {error}")),
    };
    let namespace = Namespace::new(config.hub_url());
    if let Some(own) = token::own(&token, &OwnIssuer::id_of(&config.public_url)) {
        return explain_own(config, admin, arguments, &own);
    }
    match token::explain(&config.auth, &namespace, &token, arguments, SystemClock::new().wall()) {
        Ok(explanation) => {
            let printed = print(&explanation.to_string());
            if explanation.is_useful() { printed } else { ExitCode::from(FAILED) }
        }
        Err(error) => wrong(&error),
    }
}

/// A token of the hub itself. Fails whatever it finds, as [`decode`].
fn explain_own(
    config: &Config,
    admin: &AdminArguments,
    arguments: &ExplainArguments,
    own: &OwnToken,
) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let asked = |id| runtime.block_on(client::key_standing(&config.admin, admin, id));
    let standing = own.client().map_or_else(|| "it names none".to_owned(), asked);
    let namespace = Namespace::new(config.hub_url());
    let now = SystemClock::new().wall();
    print(&own.words(&standing, arguments, &namespace, now));
    say("tidings: the hub that runs signed this, or nobody: no command knows the secret, so \
         nobody judged the signature\n");
    ExitCode::from(FAILED)
}
