//! `tidings courier`: serves in place of a Courier, or brings what its database holds. Knows exit
//! codes; the work is elsewhere.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::{failed, launch, mistaken, print, say};
use crate::app::Launch;
use crate::config::{self, Mistakes, Variables};
use crate::courier::{CourierSettings, ImportArguments};

/// What `tidings courier` reads.
pub(super) const VARIABLES: &str = "\
Variables, of the process, then of the nearest .env.local and .env, here or in a folder above:
  COURIER_JWT_SECRET  the secret of the application's tokens (HS256)
  COURIER_HOST        where to listen [default: localhost; an image needs 0.0.0.0]
  COURIER_PORT        [default: 8883]
  COURIER_WS_URL      what signed URLs begin with [default: ws://HOST:PORT/ws]
  COURIER_KEY_SECRET  the key of old signed URLs, where some are still in use: 16, 24 or 32 bytes
  TIDINGS_DATA        a folder that keeps everything; without one it is in memory
  TIDINGS_HTTP_TRUSTED_PROXIES  networks of proxies whose X-Forwarded-For is believed
  TIDINGS_HTTP_CONNECTIONS_PER_ADDRESS_MAX  [default: 1024]; other settings of [http] likewise
  TIDINGS_ADMIN_LISTEN, TIDINGS_ADMIN_TOKEN, RUST_LOG
Of `import`:
  COURIER_DATABASE_URL, COURIER_DATABASE_NAMESPACE [default: courier], TIDINGS_DATA";

#[derive(Subcommand)]
pub(super) enum CourierCommand {
    /// Serve, as without a command
    Serve,
    /// Bring audiences, topics and messages from the Postgres database of a Courier into a data
    /// folder that no hub uses at the moment. May be repeated: it goes on where it was
    Import(ImportArguments),
}

/// Does what a command says.
pub(super) fn run(command: Option<CourierCommand>) -> ExitCode {
    match command {
        None | Some(CourierCommand::Serve) => serve(),
        Some(CourierCommand::Import(arguments)) => import(&arguments),
    }
}

fn serve() -> ExitCode {
    let load = || {
        let (settings, notes) = CourierSettings::of_process()?;
        let mut config = config::courier(&settings)?;
        config.notes.extend(notes);
        Ok(config)
    };
    match load() {
        Ok(config) => launch(Launch {
            config,
            reload: Box::new(move || load().map_err(|mistakes: Mistakes| mistakes.report(false))),
            listening: Box::new(|_| {}),
        }),
        Err(mistakes) => mistaken(&mistakes),
    }
}

fn import(arguments: &ImportArguments) -> ExitCode {
    let (variables, notes) = Variables::of_process_and_parents(Path::new("."));
    for note in notes {
        say(&format!("tidings: {note}\n"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let imported = match runtime {
        Ok(runtime) => runtime.block_on(arguments.run(&variables)),
        Err(error) => return failed(&error),
    };
    match imported {
        Ok(imported) => {
            for problem in &imported.problems {
                say(&format!("tidings: {problem}\n"));
            }
            print(&imported.report())
        }
        Err(error) => failed(&error),
    }
}
