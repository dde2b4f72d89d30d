//! Loads hubs side by side and says what a delivery costs, in CPU and in multiples of a floor.
//!
//! `floor-write` and `floor-batch` are servers that do the least; `load` is a generator for one
//! server; `compare` starts servers, lets each work in turn, and prints the table.

mod compare;
mod contestants;
mod decode;
mod floor;
mod form;
mod histogram;
mod http;
mod http2;
mod limits;
mod load;
mod options;
mod order;
mod packet;
mod payload;
mod peer;
mod scenarios;
mod socket;
mod token;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use compare::CompareOptions;
use floor::{Floor, Mode};
use options::LoadOptions;

#[derive(Debug, Parser)]
#[command(about)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A server that writes each update to each subscriber at once.
    FloorWrite(FloorOptions),
    /// A server that writes what is pending for a subscriber together.
    FloorBatch(FloorOptions),
    /// A load generator, driven by lines on standard input: open, go MS, storm N, close.
    #[command(args_override_self = true)]
    Load(LoadOptions),
    /// Starts servers, lets each work in turn, and prints what each costs.
    Compare(CompareOptions),
}

#[derive(Debug, Args)]
struct FloorOptions {
    /// Where it listens on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Append updates to this file and sync it before they are acknowledged.
    #[arg(long)]
    durable: Option<PathBuf>,
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::FloorWrite(options) => serve(Mode::Write, &options),
        Command::FloorBatch(options) => serve(Mode::Batch, &options),
        Command::Load(options) => load::run(options),
        Command::Compare(options) => compare::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_reads = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(mode: Mode, options: &FloorOptions) -> io::Result<()> {
    let floor = Floor::bind(mode, options.port, options.durable.as_deref())?;
    writeln!(io::stdout(), "listening on http://{}", floor.address()?)?;
    floor.run()
}
