//! The receiver's process, seen from the benchmark.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use crate::hub::command;
use crate::receiver::Report;

/// How long nothing may come before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// A receiver that runs until it is dropped.
pub(crate) struct Endpoint {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl Endpoint {
    pub(crate) fn start(cpu: Option<u8>) -> Endpoint {
        let mut command = command(&this_program(), cpu);
        command.arg("receiver").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the receiver starts");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut endpoint = Endpoint { child, input, output, address: String::new() };
        endpoint.address = endpoint.line();
        endpoint
    }

    /// The URL of one of its paths.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the receiver runs");
        line.trim().to_owned()
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.input, "{question}").expect("the receiver runs");
        self.line()
    }

    /// Nothing has come yet.
    pub(crate) fn reset(&mut self) {
        self.ask("reset");
    }

    /// What has come to good paths.
    pub(crate) fn count(&mut self) -> usize {
        self.ask("count").parse().expect("a number")
    }

    pub(crate) fn report(&mut self) -> Report {
        serde_json::from_str(&self.ask("report")).expect("a report")
    }

    /// Waits until so many have come.
    pub(crate) fn wait_for(&mut self, count: usize) -> Report {
        let (mut came, mut changed) = (self.count(), Instant::now());
        while came < count {
            std::thread::sleep(Duration::from_millis(10));
            let now = self.count();
            if now > came {
                (came, changed) = (now, Instant::now());
            }
            assert!(changed.elapsed() < PATIENCE, "only {came} of {count} came");
        }
        self.report()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The path of this benchmark, which has other roles as well.
pub(crate) fn this_program() -> String {
    let path = std::env::current_exe().expect("a program");
    path.to_str().expect("a path that is text").to_owned()
}
