//! The hub as a process of its own: its configuration, what it is told later, and what it costs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

const SECRET: &str = "a secret that is only used by this benchmark";
/// What the log says after a reload.
const RELOADED: &str = "configuration reloaded";
/// And when it did not come to that.
const REFUSED: &str = "not reloaded";
/// For anything that the hub should do at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program on one core alone, or wherever the system puts it.
pub(crate) fn command(program: &str, cpu: Option<u8>) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.args(["-c", &cpu.to_string(), program]);
    command
}

/// A port that nobody has just now.
pub(crate) fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("a free port")
}

/// A running hub; dropping it kills it.
pub(crate) struct Hub {
    child: Child,
    folder: TempDir,
    durability: &'static str,
    keep: Keep,
    pub(crate) address: SocketAddr,
}

/// How much of the history is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    /// What is published during a benchmark.
    All,
    /// What a hub keeps that is not told.
    Default,
}

impl Hub {
    /// One with these sinks and sources, as a configuration has them, when it lets clients in.
    pub(crate) fn start(durability: &'static str, cpu: Option<u8>, connectors: &str) -> Hub {
        Hub::keeping(Keep::All, durability, cpu, connectors)
    }

    /// [`Hub::start`] with so much of the history.
    pub(crate) fn keeping(
        keep: Keep,
        durability: &'static str,
        cpu: Option<u8>,
        connectors: &str,
    ) -> Hub {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let (address, file) = (free_address(), folder.path().join("tidings.toml"));
        let text = configuration(address, durability, keep, &folder, connectors);
        std::fs::write(&file, text).expect("written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let child = command(env!("CARGO_BIN_EXE_tidings"), cpu)
            .args(["serve", "--config"])
            .arg(&file)
            .stderr(Stdio::from(log))
            .spawn()
            .expect("the hub starts");
        let hub = Hub { child, folder, durability, keep, address };
        hub.wait("it never answered", || answers(address));
        hub
    }

    /// Goes on with other sinks and sources, when it does. A sink that comes back begins behind
    /// what it had delivered when it went.
    pub(crate) fn reload(&self, connectors: &str) {
        let before = self.log().matches(RELOADED).count();
        let text =
            configuration(self.address, self.durability, self.keep, &self.folder, connectors);
        std::fs::write(self.folder.path().join("tidings.toml"), text).expect("written");
        kill(self.process(), Signal::SIGHUP).expect("the hub runs");
        self.wait("it was never reloaded", || {
            let log = self.log();
            assert!(!log.contains(REFUSED), "{log}");
            log.matches(RELOADED).count() > before
        });
    }

    fn wait(&self, otherwise: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{otherwise}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn process(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process"))
    }

    /// What all its threads have had of the cores so far.
    pub(crate) fn cpu(&self) -> Duration {
        let now = clock_getcpuclockid(self.process()).and_then(|clock| clock.now());
        now.expect("the hub runs").into()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        self.proc("status", "VmRSS:") * 1024
    }

    /// Forgets the most memory that was resident up to now.
    pub(crate) fn forget_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.child.id());
        std::fs::write(path, "5").expect("the kernel forgets it");
    }

    /// The most memory that was resident since then, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.proc("status", "VmHWM:") * 1024
    }

    /// Bytes that it has read from files so far, from the disk or from what the system keeps of
    /// it: `rchar`. What comes from sockets is not in it, since that is received and not read.
    pub(crate) fn read_from_files(&self) -> u64 {
        self.proc("io", "rchar:")
    }

    fn proc(&self, file: &str, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()));
        let text = text.expect("the hub runs");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        if std::thread::panicking() {
            println!("--- the hub's log ---\n{}", self.log());
        }
    }
}

/// A token that may publish everything.
pub(crate) fn token() -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({ "mercure": { "publish": ["*"] } });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key);
    token.expect("a token")
}

fn configuration(
    address: SocketAddr,
    durability: &str,
    keep: Keep,
    folder: &TempDir,
    connectors: &str,
) -> String {
    let data: PathBuf = folder.path().join("history");
    let path = match durability {
        "memory" => String::new(),
        _ => format!("path = {data:?}\n"),
    };
    let keep = match keep {
        Keep::All => "keep.size = \"8 GiB\"\n",
        Keep::Default => "",
    };
    format!(
        "listen = \"{address}\"\npublic_url = \"http://{address}\"\n\
         [history]\ndurability = \"{durability}\"\n{keep}{path}\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"info\"\n\
         [auth]\nanonymous = true\n[[auth.issuer]]\nid = \"bench\"\naccept = [\"0.x\"]\n\
         publish = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n{connectors}"
    )
}

/// Whether it lets clients in.
fn answers(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let request = b"HEAD /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut answer = [0; 12];
    stream.write_all(request).and_then(|()| stream.read_exact(&mut answer)).is_ok()
        && answer.ends_with(b"200")
}
