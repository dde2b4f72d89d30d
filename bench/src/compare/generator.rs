//! A load generator as a process of its own: commands go in, reports come out. Knows nothing of
//! what it does with them.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde::de::DeserializeOwned;

use super::process;
use super::server::{Server, pinned};

/// A running generator. Dropping it ends it.
pub(crate) struct Generator {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts one for a server, with these flags, on these CPUs.
    pub(crate) fn start(server: &Server, flags: &str, cpus: &str) -> io::Result<Generator> {
        let audience = format!("{}/.well-known/mercure", server.publish_url);
        let mut child = pinned(cpus)
            .arg(std::env::current_exe()?)
            .args(["load", "--url", &server.url, "--publish-url", &server.publish_url])
            .args(["--audience", &audience])
            .args(flags.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        Ok(Generator { child, input, output: BufReader::new(output) })
    }

    /// Gives a command and waits for its report.
    pub(crate) fn ask<T: DeserializeOwned>(&mut self, command: &str) -> io::Result<T> {
        writeln!(self.input, "{command}")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("the load generator ended at `{command}`")));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// CPU that it used so far, in seconds.
    pub(crate) fn cpu(&self) -> io::Result<f64> {
        process::cpu(self.child.id())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
