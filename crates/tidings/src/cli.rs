//! The command line: what people type becomes a call of the part that does it. Knows exit codes
//! and where output goes; every command's work is elsewhere.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

mod courier;
mod keys;
mod sinks;
mod tokens;

use self::courier::CourierCommand;
use self::keys::KeyCommand;
use self::sinks::{EgressCommand, SinkCommand};
use self::tokens::TokenCommand;
use crate::app::{self, AppProblem, Launch};
use crate::client::{ClientProblem, PublishArguments, SubscribeArguments, healthcheck};
use crate::config::{self, Config, Mistakes};
use crate::link::{LinkArguments, link};
use crate::relay::RelaySettings;
use crate::verify;

/// Something went wrong while the program ran.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const MISTAKEN: u8 = 2;

/// What `tidings relay` reads.
const RELAY_VARIABLES: &str = "\
Variables, of the process, then of the nearest .env.local and .env, here or in a folder above:
  WEBHOOK_DESTINATION          where each message is posted
  NATS_ADDRESS (or NATS_HOST)  the servers, separated by commas
  NATS_USER, NATS_PASS         the login; must be set, may be empty
  NATS_SUBJECT_PREFIX          messages below this subject are posted
  NATS_RELAYED_SUBJECT_PREFIX  what it is replaced by when a message is published again
  WEBHOOK_TIMEOUT              time for one request [default: 30s]
  TIDINGS_DATA                 a folder that keeps what was taken; without one it is in memory
  TIDINGS_ADMIN_LISTEN, TIDINGS_ADMIN_TOKEN, TIDINGS_LISTEN, RUST_LOG";

/// A self-hosted real-time hub: publish an update once, reach every receiver in one order.
#[derive(Parser)]
#[command(name = "tidings", version, max_term_width = 100)]
#[command(after_help = "Begin with `tidings dev`. Exit codes: 0 done, 1 failed, 2 wrong usage or \
                        configuration.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a hub for development: no configuration, insecure, with a page in the browser
    Dev(DevArguments),
    /// Run a hub
    Serve(ConfigArguments),
    /// Pass messages of NATS on to a webhook, and publish each again once it is answered: in place
    /// of NATS Webhook Relay, with its variables
    #[command(after_help = RELAY_VARIABLES)]
    Relay,
    /// Run a Courier: in place of websublime/courier, with its variables
    #[command(after_help = courier::VARIABLES)]
    Courier {
        #[command(subcommand)]
        command: Option<CourierCommand>,
    },
    /// Check a configuration and the history that it names, and explain every mistake
    Check(ConfigArguments),
    /// Print every setting with its default, as a file to begin with
    Config,
    /// Make and explain tokens
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Make, list and revoke the keys that applications exchange for tokens of their visitors
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Look into the sinks of a running hub: what was tried, what is dead, what to send again
    Sink {
        #[command(subcommand)]
        command: SinkCommand,
    },
    /// Ask where webhooks may go
    Egress {
        #[command(subcommand)]
        command: EgressCommand,
    },
    /// Publish an update to any Mercure hub and print its id
    Publish(PublishArguments),
    /// Print updates of any Mercure hub as they come
    Subscribe(SubscribeArguments),
    /// Print the Link header by which an application behind the hub lets clients find it
    Link {
        #[command(flatten)]
        config: ConfigArguments,
        #[command(flatten)]
        link: LinkArguments,
    },
    /// Ask whether the hub of a configuration is ready, for supervisors
    Healthcheck(ConfigArguments),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(clap::Args)]
struct DevArguments {
    /// Where to listen, as in 127.0.0.1:4000, or only the port; anything but a loopback address
    /// lets others in [default: TIDINGS_LISTEN, else 127.0.0.1:3000]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    listen: Option<SocketAddr>,
    /// The folder of the history and of the hub's own key [default: .tidings]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(clap::Args)]
struct ConfigArguments {
    /// The configuration file [default: what TIDINGS_CONFIG names; without one, variables only,
    /// among them those of the Mercure hub's image]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// An address, or a port of this machine's own.
fn address(text: &str) -> Result<SocketAddr, String> {
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        Err(_) => text
            .parse()
            .map_err(|_| "write IP and port as in 127.0.0.1:4000, or only the port".to_owned()),
    }
}

/// Reads the command line, does what it says, and tells how it went.
pub fn run() -> ExitCode {
    match Arguments::parse().command {
        Command::Dev(arguments) => dev(arguments),
        Command::Serve(arguments) => serve(arguments),
        Command::Relay => relay(),
        Command::Courier { command } => courier::run(command),
        Command::Check(arguments) => with(&arguments, check),
        Command::Config => print(&config::reference()),
        Command::Token { command } => tokens::run(command),
        Command::Key { command } => keys::run(command),
        Command::Sink { command } => sinks::run(command),
        Command::Egress { command } => sinks::egress(command),
        Command::Publish(arguments) => ask(arguments.run()),
        Command::Subscribe(arguments) => ask(arguments.run()),
        Command::Link { config, link: parts } => {
            with(&config, |config| match link(&config.hub_url(), &parts) {
                Ok(value) => print(&format!("{value}\n")),
                Err(error) => wrong(&error),
            })
        }
        Command::Healthcheck(arguments) => {
            with(&arguments, |config| ask(healthcheck(config.admin.listen)))
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "tidings", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
    }
}

fn dev(arguments: DevArguments) -> ExitCode {
    let DevArguments { listen, data } = arguments;
    let load = move || config::dev(listen, data.as_deref());
    let config = match load() {
        Ok(config) => config,
        Err(mistakes) => return mistaken(&mistakes),
    };
    let shown = config.clone();
    let ended = app::run(Launch {
        config,
        reload: Box::new(move || load().map_err(|mistakes| mistakes.report(false))),
        listening: Box::new(move |bound| {
            if let Some(bound) = bound.first() {
                say(&config::banner(&shown, *bound));
            }
        }),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{error}{}", hint(&error))),
    }
}

/// What to do about a problem of `tidings dev`, if that is known.
fn hint(error: &AppProblem) -> &'static str {
    match error {
        AppProblem::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
            "\nanother program listens there: take another port, as in `tidings dev --listen 4000`"
        }
        _ => "",
    }
}

fn serve(arguments: ConfigArguments) -> ExitCode {
    let load = move || config::load(arguments.config.as_deref());
    match load() {
        Ok(config) => launch(Launch {
            config,
            reload: Box::new(move || load().map_err(|mistakes| mistakes.report(false))),
            listening: Box::new(|_| {}),
        }),
        Err(mistakes) => mistaken(&mistakes),
    }
}

/// As a relay, whose settings are all in variables.
fn relay() -> ExitCode {
    let load = || {
        let (settings, notes) = RelaySettings::of_process()?;
        let mut config = config::relay(&settings)?;
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

fn launch(launch: Launch) -> ExitCode {
    match app::run(launch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn check(config: &Config) -> ExitCode {
    match verify::verify(config) {
        Ok(report) => print(&report),
        Err(problems) => {
            say(&problems);
            ExitCode::from(MISTAKEN)
        }
    }
}

/// Runs one command that speaks to a hub.
fn ask(answer: impl Future<Output = Result<(), ClientProblem>>) -> ExitCode {
    ask_and_print(async { answer.await.map(|()| String::new()) })
}

/// The same for a command whose answer is a text.
fn ask_and_print(answer: impl Future<Output = Result<String, ClientProblem>>) -> ExitCode {
    ask_and_say(async { answer.await.map(|text| (text, String::new())) })
}

/// The same where something is to be said to people beside.
fn ask_and_say(answer: impl Future<Output = Result<(String, String), ClientProblem>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => match runtime.block_on(answer) {
            Ok((text, beside)) => {
                if !beside.is_empty() {
                    say(&beside);
                }
                if text.is_empty() { ExitCode::SUCCESS } else { print(&text) }
            }
            Err(error) => failed(&error),
        },
        Err(error) => failed(&error),
    }
}

fn with(arguments: &ConfigArguments, then: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match config::load(arguments.config.as_deref()) {
        Ok(config) => then(&config),
        Err(mistakes) => mistaken(&mistakes),
    }
}

fn mistaken(mistakes: &Mistakes) -> ExitCode {
    let coloured = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    say(&mistakes.report(coloured));
    ExitCode::from(MISTAKEN)
}

fn wrong(error: &dyn Display) -> ExitCode {
    say(&format!("tidings: {error}\n"));
    ExitCode::from(MISTAKEN)
}

fn failed(error: &dyn Display) -> ExitCode {
    say(&format!("tidings: {error}\n"));
    ExitCode::from(FAILED)
}

/// To standard output. Whoever reads it may leave early, as `head` does: that is no failure.
fn print(text: &str) -> ExitCode {
    let mut output = stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => failed(&error),
        _ => ExitCode::SUCCESS,
    }
}

/// To standard error. When that is closed there is nobody left to tell.
fn say(text: &str) {
    let _ = stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn port_alone_is_on_this_machine_only() {
        for text in ["4111", ":4111", "127.0.0.1:4111"] {
            assert_eq!(address(text).unwrap().to_string(), "127.0.0.1:4111");
        }
        assert_eq!(address("0.0.0.0:1").unwrap().to_string(), "0.0.0.0:1");
        for text in ["", "localhost", "65536", "127.0.0.1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn busy_port_hints_at_another() {
        let problem = |kind: ErrorKind| AppProblem::Listen {
            address: address("3000").unwrap(),
            source: kind.into(),
        };
        assert!(hint(&problem(ErrorKind::AddrInUse)).contains("--listen"));
        assert_eq!(hint(&problem(ErrorKind::PermissionDenied)), "");
    }

    #[test]
    fn commands_are_parsed() {
        for line in [
            "tidings dev",
            "tidings dev --listen [::1]:0 --data /tmp/x",
            "tidings dev --listen 4111",
            "tidings serve --config a.toml",
            "tidings check -c a.toml",
            "tidings config",
            "tidings token mint --publish * --config a.toml",
            "tidings token explain --config a.toml -",
            "tidings token explain --publish a --publish b --subscribe c -",
            "tidings token explain --dev --data x --listen 4000 -",
            "tidings token revoke --id 1 --for 1h --config a.toml",
            "tidings token revoke --subject a --issuer b --until 2027-01-15",
            "tidings token unrevoke --key k --admin 127.0.0.1:3001",
            "tidings token revocations",
            "tidings token revoke --client 0123456789abcdef",
            "tidings key create shop --topic a --topic b --config a.toml",
            "tidings key create shop --topic a/# --match-type mqtt --lifetime-max 1h --expires 90d",
            "tidings key list --admin 127.0.0.1:3001",
            "tidings key revoke shop",
            "tidings courier",
            "tidings courier serve",
            "tidings courier import --dry-run --schema c --database-url postgres:// --data x",
            "tidings sink list --config a.toml",
            "tidings sink attempts cache --failed --before 7",
            "tidings sink dead-letters cache --after 7 --admin 127.0.0.1:3001",
            "tidings sink redrive cache --all",
            "tidings sink redrive cache 1 2 3",
            "tidings sink forget cache 1",
            "tidings sink replay cache --from 2027-01-15 --until urn:uuid:1 --failed",
            "tidings sink replay cache --id urn:uuid:1 --id urn:uuid:2",
            "tidings sink replays cache",
            "tidings sink stop-replay cache 1",
            "tidings sink resume cache",
            "tidings sink test cache",
            "tidings egress check https://a.example/ --allow 10.0.0.0/8 --allow 10.1.2.3",
            "tidings link --config a.toml --topic https://a/1 --last-event-id urn:x",
            "tidings healthcheck",
            "tidings completions bash",
        ] {
            let parsed = Arguments::try_parse_from(line.split(' '));
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap());
        }
        for line in [
            "tidings",
            "tidings dev --listen localhost",
            "tidings token explain --data x",
            "tidings token revoke",
            "tidings token revoke --id 1 --key 2",
            "tidings token revoke --id 1 --for 1h --until 2027-01-15",
            "tidings token revoke --id 1 --until tomorrow",
            "tidings token revoke --id 1 --client 2",
            "tidings key create shop",
            "tidings key create --topic a",
            "tidings key create shop --topic a --per-minute often",
            "tidings key revoke",
            "tidings sink redrive cache",
            "tidings sink redrive cache --all 1",
            "tidings sink forget cache one",
            "tidings sink replay cache",
            "tidings sink replay cache --id a --from b",
            "tidings egress check",
            "tidings egress check https://a.example/ --allow everywhere",
            "tidings serv",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
