//! A load generator at work: commands on standard input, a JSON line for each on standard output.
//! Knows nobody who gives them.
//!
//! `open` opens all streams; `go MILLISECONDS` publishes for so long; `storm MISSED` lets everybody
//! come back at once; `close` ends all streams. The end of the input ends it.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use serde::Serialize;

use super::{Load, Opened};
use crate::options::LoadOptions;

/// Serves commands until there are no more.
pub(crate) fn run(options: LoadOptions) -> io::Result<()> {
    let at_once = options.opening;
    let mut load = Load::new(options)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let (command, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.trim().parse().map_err(io::Error::other)?;
        match command.trim() {
            "open" => say(&load.open(at_once, None)?)?,
            "go" => say(&load.slice(Duration::from_millis(number))?)?,
            "storm" => say(&load.storm(number)?)?,
            "close" => {
                load.close();
                say(&Opened::default())?;
            }
            other => return Err(io::Error::other(format!("{other}: unknown command"))),
        }
    }
    Ok(())
}

fn say(report: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    out.flush()
}
