//! Starts servers as processes of their own, each in a folder of its own and on the CPUs that are
//! meant for servers. Knows how each is configured, and nothing of what is measured.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::limits::START_TIMEOUT;
use crate::token::{ISSUER, SECRET};

/// A WebSocket server of this repository.
const UWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/uws.js");
/// Where Debian installs Nchan.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Which program, and how it is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// The hub: `fsync` or `memory`, and whether subscribers use TLS.
    Tidings { durability: &'static str, tls: bool },
    /// Another build of the hub: what $BENCH_BEFORE names.
    Before,
    /// A floor: `floor-write` or `floor-batch`, and whether it syncs.
    Floor { command: &'static str, durable: bool },
    /// nginx with the module Nchan.
    Nchan,
    /// redis.
    Redis,
    /// NATS.
    Nats,
    /// mosquitto.
    Mosquitto,
    /// `bench/peers/uws.js`, where npm has installed what it needs.
    Uws,
    /// Any command that listens on `{port}` and speaks Mercure.
    Other(String),
}

impl Program {
    /// Whether a peer's program is there. For our own, its start tells.
    pub(crate) fn is_installed(&self) -> bool {
        let program = match self {
            Program::Nchan => return Path::new(NCHAN).exists(),
            Program::Redis => "redis-server",
            Program::Nats => "nats-server",
            Program::Mosquitto => "mosquitto",
            Program::Uws => return Path::new(UWS).with_file_name("node_modules").exists(),
            Program::Tidings { .. }
            | Program::Before
            | Program::Floor { .. }
            | Program::Other(_) => return true,
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Daemons, which are not in everybody's path.
        let daemons = PathBuf::from("/usr/sbin");
        std::env::split_paths(&path).chain([daemons]).any(|folder| folder.join(program).exists())
    }
}

/// Where things are, and which CPUs are whose.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The hub's program.
    pub(crate) tidings: PathBuf,
    /// CPUs of servers, as `taskset` writes them.
    pub(crate) server_cpus: String,
    /// CPUs of load generators.
    pub(crate) load_cpus: String,
    /// Settings behind the hub's own, TOML.
    pub(crate) settings: String,
}

/// A server that accepts connections. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Where subscribers connect to.
    pub(crate) url: String,
    /// Where publishers connect to.
    pub(crate) publish_url: String,
    _folder: TempDir,
}

impl Server {
    /// Starts one and waits until it accepts.
    pub(crate) fn start(program: &Program, place: &Place) -> io::Result<Server> {
        let folder = tempfile::Builder::new().prefix("tidings-bench-").tempdir()?;
        let (port, tls_port) = (free_port()?, free_port()?);
        let words = command(program, place, folder.path(), port, tls_port)?;
        let log = folder.path().join("log");
        let child = pinned(&place.server_cpus)
            .args(&words)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?)
            .spawn()?;
        let publish_url = format!("http://127.0.0.1:{port}");
        let url = match program {
            Program::Tidings { tls: true, .. } => format!("https://127.0.0.1:{tls_port}"),
            _ => publish_url.clone(),
        };
        let ports = if url == publish_url { vec![port] } else { vec![port, tls_port] };
        let mut server = Server { child, url, publish_url, _folder: folder };
        let until = Instant::now() + START_TIMEOUT;
        let listens = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
        while !ports.iter().all(listens) {
            if server.child.try_wait()?.is_some() || Instant::now() > until {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(io::Error::other(format!("{words:?} does not listen:\n{said}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its process, which may have others.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked first: a killed nginx would leave its worker behind.
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        let _gone = pid.map(|pid| kill(pid, Signal::SIGTERM));
        let until = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A command on these CPUs that does not outlive us: the program and its arguments are to follow.
pub(crate) fn pinned(cpus: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "taskset", "-c", cpus]);
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn command(
    program: &Program,
    place: &Place,
    folder: &Path,
    port: u16,
    tls_port: u16,
) -> io::Result<Vec<String>> {
    let port = port.to_string();
    let path = |path: &Path| path.display().to_string();
    let mut words: Vec<String> = match program {
        Program::Tidings { durability, tls } => {
            let tls = tls.then_some(tls_port);
            let file = folder.join("tidings.toml");
            fs::write(&file, tidings(folder, &port, tls, durability, &place.settings)?)?;
            vec![path(&place.tidings), "serve".into(), "--config".into(), path(&file)]
        }
        Program::Before => {
            let file = folder.join("tidings.toml");
            fs::write(&file, tidings(folder, &port, None, "memory", &place.settings)?)?;
            let before = std::env::var("BENCH_BEFORE").map_err(io::Error::other)?;
            vec![before, "serve".into(), "--config".into(), path(&file)]
        }
        Program::Floor { command, .. } => {
            let own = std::env::current_exe()?;
            vec![path(&own), (*command).to_owned(), "--port".into(), port]
        }
        Program::Nchan => {
            let file = folder.join("nginx.conf");
            fs::write(&file, nginx(folder, &port))?;
            vec!["nginx".into(), "-c".into(), path(&file), "-p".into(), path(folder)]
        }
        Program::Redis => split(&format!(
            "redis-server --port {port} --bind 127.0.0.1 --protected-mode no \
             --appendonly no --maxclients 19000"
        )),
        Program::Nats => split(&format!("nats-server -a 127.0.0.1 -p {port}")),
        Program::Mosquitto => {
            let file = folder.join("mosquitto.conf");
            fs::write(&file, mosquitto(&port))?;
            vec!["/usr/sbin/mosquitto".into(), "-c".into(), path(&file)]
        }
        Program::Uws => vec!["node".into(), UWS.into(), port],
        Program::Other(command) => split(&command.replace("{port}", &port)),
    };
    if let Program::Floor { durable: true, .. } = program {
        words.extend(["--durable".to_owned(), path(&folder.join("updates"))]);
    }
    if *program == Program::Redis {
        let settings = ["--save", "", "--client-output-buffer-limit", "pubsub 0 0 0"];
        words.extend(settings.map(str::to_owned));
    }
    Ok(words)
}

fn split(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// The hub's configuration: as in production, but for the limits of one address, and a log that
/// says warnings only.
fn tidings(
    folder: &Path,
    port: &str,
    tls: Option<u16>,
    durability: &str,
    more: &str,
) -> io::Result<String> {
    let history = match durability {
        // Full after a moment: memory that nobody has used before is what costs most.
        "memory" => "keep = { size = \"8 MiB\" }\n".to_owned(),
        _ => format!("path = {:?}\n", folder.join("history")),
    };
    let mut text = format!(
        "listen = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n\
         [history]\n{history}durability = \"{durability}\"\n\
         [admin]\nlisten = \"off\"\n\
         [http]\nconnections_max = 19000\nconnections_per_address_max = 100000\n\
         [auth]\nanonymous = true\n[[auth.issuer]]\nid = \"{ISSUER}\"\n\
         publish = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
         subscribe = {{ key = \"{SECRET}\", algorithm = \"HS256\" }}\n\
         [log]\nlevel = \"warn\"\n{more}\n"
    );
    if let Some(port) = tls {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        text.push_str(&format!(
            "[tls]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nkey = {key:?}\n"
        ));
    }
    Ok(text)
}

fn mosquitto(port: &str) -> String {
    format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\n\
         set_tcp_nodelay true\nlog_type error\n"
    )
}

fn nginx(folder: &Path, port: &str) -> String {
    let folder = folder.display();
    format!(
        "load_module {NCHAN};
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/log;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000; nchan_shared_memory_size 512M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
    }}
    location ~ ^/pub/(.+)$ {{
      nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 100;
    }}
  }}
}}
"
    )
}
