//! Frames and closing, judged by the suite that most WebSocket libraries are judged by: all of it
//! but compression, which is not offered. It needs a Python 2.7 and is brought from its package
//! registry, so it runs with `--ignored` only, and by `scripts/test` where there is one.

// A test says no by panicking; the lint's own exception only covers functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_core::{Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace};
use tidings_frontends::Shards;
use tidings_frontends::http::{Entrance, HttpOptions, Listener, Server, Shutdown, bind};
use tidings_frontends::websocket::Echo;

/// Cases in which a server may do more than is asked: judge text before it is whole (6.4), and
/// answer what came before a broken frame in the same piece.
const LATE: [&str; 4] = ["6.4.", "3.", "4.", "5."];
const PACKAGE: &str = "autobahntestsuite==25.10.1";

struct Real(Instant);

impl Clock for Real {
    fn wall(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(since.as_millis()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The suite's program in `folder`, brought there when it is not.
fn suite(folder: &Path) -> PathBuf {
    let program = folder.join("bin/wstest");
    if !program.exists() {
        let install = ["-m", "pip", "install", "--user", "--quiet", PACKAGE];
        let mut pip = Command::new("python2");
        let output = pip.args(install).env("PYTHONUSERBASE", folder).output().expect("python2");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    program
}

/// A server that says everything back.
fn serve(runtime: &tokio::runtime::Runtime) -> SocketAddr {
    let _inside = runtime.enter();
    let clock: Arc<dyn Clock> = Arc::new(Real(Instant::now()));
    let history = HistoryOptions {
        hold_bytes: 0,
        path: None,
        durability: Durability::Memory,
        keep: Keep::default(),
        segment_bytes: 1024 * 1024,
    };
    let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
    let options = HubOptions { namespace, update_bytes_max: 1 << 20, history };
    let hub = Hub::open(options, Arc::clone(&clock)).unwrap();
    let shards = Shards::start(&hub, &clock).unwrap();
    let echo = Arc::new(Echo::new(hub, shards));
    let options = HttpOptions::default();
    let server = Server::new(vec![echo], options, Shutdown::new(Duration::from_secs(1)));
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let listeners = vec![Listener { socket, entrance: Entrance::Plain }];
    runtime.spawn(server.serve(listeners));
    address
}

#[test]
#[ignore = "takes half a minute and a Python 2.7 that installs packages: run it with --ignored"]
fn the_autobahn_suite_finds_nothing() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = suite(&target.join("autobahn"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = serve(&runtime);
    let folder = tempfile::tempdir().unwrap();
    let spec = json!({
        "outdir": folder.path(),
        "servers": [{"agent": "tidings", "url": format!("ws://{address}")}],
        // Compression is not offered.
        "cases": ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let file = folder.path().join("spec.json");
    std::fs::write(&file, spec.to_string()).unwrap();
    let mut command = Command::new(program);
    command.args(["-m", "fuzzingclient", "-s"]).arg(&file);
    command.env("PYTHONUSERBASE", target.join("autobahn")).current_dir(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let index = std::fs::read(folder.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let cases = index["tidings"].as_object().unwrap();
    assert!(cases.len() > 280, "{} cases", cases.len());
    let (mut bad, mut strict) = (Vec::new(), 0);
    for (case, result) in cases {
        let (behavior, close) = (&result["behavior"], &result["behaviorClose"]);
        let is_late = LATE.iter().any(|late| case.starts_with(late)) && behavior == "NON-STRICT";
        let is_good = behavior == "OK" || behavior == "INFORMATIONAL" || is_late;
        strict += usize::from(behavior == "OK");
        if !is_good || !matches!(close.as_str(), Some("OK" | "INFORMATIONAL")) {
            bad.push(format!("{case}: {behavior} {close}"));
        }
    }
    eprintln!("{} cases, {strict} of them strictly right", cases.len());
    assert!(bad.is_empty(), "{bad:?}");
}
