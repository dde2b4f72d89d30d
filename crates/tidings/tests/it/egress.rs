//! Where webhooks of strangers may lead: never to what is internal, however it is spelled, and
//! whatever a name does meanwhile. The hub runs in a network of its own in which *every* address is
//! local and answers; the judges are whoever listens there, and the kernel's count of connections
//! that were begun.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::PATIENCE;
use crate::hub::{HUB, Launch, TestHub};
use crate::sinks::ADMIN;
use crate::tokens::{Role, token_final};

/// Listens on every address of its network, on the usual ports, and notes who came to which
/// address; and is the name server of that network, by a file that is read at each question.
const WORLD: &str = r#"
import json, socket, struct, sys, threading
noted, names = sys.argv[1], sys.argv[2]
lock = threading.Lock()

def note(word):
    with lock, open(noted, 'a') as file:
        file.write(word + '\n')

def serve(connection, address):
    file = connection.makefile('rb')
    while True:
        line = file.readline()
        if not line:
            return
        length = 0
        while True:
            header = file.readline()
            if header in (b'', b'\r\n'):
                break
            if header.lower().startswith(b'content-length:'):
                length = int(header.split(b':')[1])
        body = file.read(length)
        note('request ' + address + ' ' + body.decode())
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')

def listen(family, port):
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind(('::' if family == socket.AF_INET6 else '0.0.0.0', port))
    server.listen(256)
    def accept():
        while True:
            connection, _ = server.accept()
            address = connection.getsockname()[0]
            note('connection ' + address)
            threading.Thread(target=serve, args=(connection, address), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()

for port in (80, 443, 8080):
    for family in (socket.AF_INET, socket.AF_INET6):
        listen(family, port)

questions = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
questions.bind(('127.0.0.53', 53))
note('ready')
while True:
    asked, client = questions.recvfrom(2000)
    labels, at = [], 12
    while asked[at]:
        labels.append(asked[at + 1:at + 1 + asked[at]].decode().lower())
        at += 1 + asked[at]
    kind, = struct.unpack('>H', asked[at + 1:at + 3])
    with open(names) as file:
        addresses = json.load(file).get('.'.join(labels))
    family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(kind)
    found = [a for a in addresses or [] if family and (':' in a) == (kind == 28)]
    flags = 0x8180 if addresses is not None else 0x8183
    answer = asked[:2] + struct.pack('>HHHHH', flags, 1, len(found), 0, 0) + asked[12:at + 5]
    for one in found:
        packed = socket.inet_pton(family, one)
        answer += struct.pack('>HHHIH', 0xc00c, kind, 1, 0, len(packed)) + packed
    questions.sendto(answer, client)
"#;

/// A hub in a network of its own, in which every address is local.
struct World {
    hub: TestHub,
    folder: TempDir,
    listeners: Child,
}

impl World {
    /// With these networks allowed to endpoints, as TOML.
    fn start(allowed: &str) -> World {
        let folder = TempDir::new().unwrap();
        let resolver = folder.path().join("resolv.conf");
        std::fs::write(&resolver, "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n").unwrap();
        std::fs::write(folder.path().join("names"), "{}").unwrap();
        let script = format!(
            "mount --bind {} /etc/resolv.conf && ip link set lo up && \
             ip route add local 0.0.0.0/0 dev lo && ip -6 route add local ::/0 dev lo && \
             exec \"$0\" \"$@\"",
            resolver.display()
        );
        let under = ["unshare", "-rnm", "sh", "-c", &script].map(str::to_owned).into();
        let toml = format!("{ADMIN}[webhooks]\nallow = {allowed}\n");
        let hub = TestHub::launch(Launch { under, ..Launch::toml(&toml) });
        let world = folder.path().join("world.py");
        std::fs::write(&world, WORLD).unwrap();
        let (noted, names) = (folder.path().join("noted"), folder.path().join("names"));
        let mut command = inside(hub.pid());
        command.arg("python3").args([&world, &noted, &names]);
        let listeners = command.stdin(Stdio::null()).spawn().unwrap();
        let world = World { hub, folder, listeners };
        world.wait_until("the listeners", || world.noted().iter().any(|line| line == "ready"));
        world
    }

    #[track_caller]
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE * 3;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: never\n{:#?}", self.noted());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Everything that the listeners noted.
    fn noted(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("noted")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Where names lead from now on.
    fn names(&self, names: &Value) {
        // In one step, since it is read at any time.
        let (file, next) = (self.folder.path().join("names"), self.folder.path().join("next"));
        std::fs::write(&next, names.to_string()).unwrap();
        std::fs::rename(next, file).unwrap();
    }

    /// A request by curl to an address of the hub: status and body. Each begins one connection.
    fn curl(&self, method: &str, url: &str, token: &str, kind: &str, body: &str) -> (u16, String) {
        let mut command = inside(self.hub.pid());
        command.args(["curl", "-s", "-g", "-X", method, "-w", "\n%{http_code}", "-K", "-", url]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let quoted = body.replace('\\', "\\\\").replace('"', "\\\"");
        let mut settings = format!(
            "header = \"Authorization: Bearer {token}\"\nheader = \"Content-Type: {kind}\"\n"
        );
        if !body.is_empty() {
            settings.push_str(&format!("data-raw = \"{quoted}\"\n"));
        }
        child.stdin.take().unwrap().write_all(settings.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn admin(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let admin = self.hub.admin.unwrap();
        let url = format!("http://{admin}/tidings/admin/sinks{path}");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.curl(method, &url, "admin-token-of-the-tests", "application/json", &body)
    }

    /// Makes an endpoint; false when the hub refuses the URL at once.
    fn endpoint(&self, name: &str, url: &str) -> bool {
        let specification = json!({
            "name": name, "kind": "webhook", "topics": ["*"], "url": url,
            "timeout": "2s", "retry": { "first": "10ms", "max": "10ms", "give_up_after": "1s" },
        });
        let (status, said) = self.admin("POST", "", &specification);
        assert!([201, 400, 422].contains(&status), "{url}: {status} {said}");
        status == 201
    }

    fn publish(&self, data: &str) {
        let url = format!("http://{}{HUB}", self.hub.address);
        let token = token_final(Role::Publish, &["*"]);
        let body = crate::http::form(&[("topic", "a"), ("data", data)]);
        let kind = "application/x-www-form-urlencoded";
        assert_eq!(self.curl("POST", &url, &token, kind, &body).0, 200);
    }

    fn dead_letters(&self, name: &str) -> Vec<Value> {
        let (status, said) = self.admin("GET", &format!("/{name}/dead-letters"), &Value::Null);
        assert_eq!(status, 200, "{said}");
        let list: Value = serde_json::from_str(&said).unwrap();
        list["dead_letters"].as_array().unwrap().clone()
    }

    /// Connections of TCP that were begun in this network.
    fn begun(&self) -> u64 {
        let path = format!("/proc/{}/net/snmp", self.hub.pid());
        let text = std::fs::read_to_string(path).unwrap();
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let place = lines.next().unwrap().split(' ').position(|name| name == "ActiveOpens");
        lines.next().unwrap().split(' ').nth(place.unwrap()).unwrap().parse().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.listeners.kill();
        let _ = self.listeners.wait();
    }
}

/// A command in the network of a process.
fn inside(pid: u32) -> Command {
    let pid = pid.to_string();
    let mut command = Command::new("nsenter");
    command.args(["-t", &pid, "-U", "-n", "-m", "--preserve-credentials"]);
    command
}

/// Addresses of IPv4 that are nobody's business, with their kind.
const FORBIDDEN: [[u8; 4]; 14] = [
    [127, 0, 0, 1],
    [127, 255, 255, 254],
    [10, 0, 0, 5],
    [172, 16, 0, 1],
    [172, 31, 255, 254],
    [192, 168, 1, 1],
    [169, 254, 169, 254],
    [100, 64, 0, 1],
    [0, 0, 0, 0],
    [192, 0, 0, 8],
    [198, 18, 0, 1],
    [224, 0, 0, 1],
    [240, 0, 0, 1],
    [255, 255, 255, 255],
];

/// Hosts of IPv6 that are nobody's business.
const FORBIDDEN_6: [&str; 14] = [
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "[::]",
    "[fd00::1]",
    "[fc00::1]",
    "[FD00:EC2::254]",
    "[fe80::1]",
    "[febf::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[100::1]",
    "[2001:db8::1]",
    "[2001::1]",
];

/// Every way to write an address of IPv4 that some client understands.
fn spellings([a, b, c, d]: [u8; 4]) -> Vec<String> {
    let number = u32::from_be_bytes([a, b, c, d]);
    let (high, low) = (number >> 16, number & 0xffff);
    let wide: String = format!("{a}.{b}.{c}.{d}")
        .chars()
        .map(|digit| match digit.to_digit(10) {
            Some(value) => char::from_u32(0xff10 + value).unwrap(),
            None => '\u{3002}',
        })
        .collect();
    let percent: String = format!("{a}").bytes().map(|byte| format!("%{byte:02x}")).collect();
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{number}"),
        format!("{number:#x}"),
        format!("0{number:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a:#x}.{b}.0{c:o}.{d}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}.{b}.{low}"),
        wide,
        format!("{percent}.{b}.{c}.{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b:1::{high:x}:{low:x}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[fe80::5efe:{a}.{b}.{c}.{d}]"),
    ]
}

/// Names that lead to forbidden addresses, as the name server of the test has them.
fn names() -> Value {
    json!({
        "one.test": ["127.0.0.1"],
        "private.test": ["10.0.0.5"],
        "metadata.test": ["169.254.169.254"],
        "six.test": ["fd00::1"],
        "mapped.test": ["::ffff:10.0.0.5"],
        "mixed.test": ["93.184.216.34", "10.0.0.5"],
        "mixed-six.test": ["93.184.216.34", "fd00::1"],
        "public.test": ["93.184.216.34"],
    })
}

fn corpus() -> Vec<String> {
    let mut hosts: Vec<String> = FORBIDDEN.into_iter().flat_map(spellings).collect();
    hosts.extend(FORBIDDEN_6.map(str::to_owned));
    hosts.extend(["localhost", "LOCALHOST", "localhost."].map(str::to_owned));
    let names = names();
    let names = names.as_object().unwrap().keys().filter(|name| *name != "public.test");
    hosts.extend(names.cloned());
    let mut urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}/hook")).collect();
    urls.extend(["127.0.0.1", "[::1]", "one.test"].map(|host| format!("http://{host}:8080/hook")));
    urls.extend(["10.0.0.5", "[fd00::1]"].map(|host| format!("https://{host}/hook")));
    urls.push("http://public.test@127.0.0.1/hook".to_owned());
    urls.push("http://127.0.0.1#@public.test/hook".to_owned());
    urls.push("http:\\\\127.0.0.1\\hook".to_owned());
    urls
}

#[test]
fn the_corpus_is_large_and_its_world_answers_everywhere() {
    let urls = corpus();
    assert!(urls.len() >= 200, "{}", urls.len());
    let world = World::start_listeners_only();
    // If nothing is forbidden, all of it can be reached: an address that nobody could reach
    // anyway would prove nothing.
    for host in ["10.0.0.5", "169.254.169.254", "[fd00::1]", "93.184.216.34", "[64:ff9b::1]"] {
        let (status, _) = world.curl("POST", &format!("http://{host}/"), "", "text/plain", host);
        assert_eq!(status, 200, "{host}");
    }
    world.names(&names());
    let (status, _) = world.curl("POST", "http://private.test/", "", "text/plain", "named");
    assert_eq!(status, 200, "by its name");
    assert!(world.noted().contains(&"request 10.0.0.5 named".to_owned()), "{:?}", world.noted());
    let before = world.begun();
    world.curl("POST", "http://10.0.0.5/", "", "text/plain", "x");
    assert_eq!(world.begun(), before + 1, "the kernel counts what is begun");
}

impl World {
    /// Without anything said of webhooks.
    fn start_listeners_only() -> World {
        World::start("[]")
    }
}

#[test]
fn no_spelling_reaches_a_forbidden_address() {
    let world = World::start("[]");
    world.names(&names());
    let urls = corpus();
    let mut made = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        let name = format!("e{number}");
        if world.endpoint(&name, url) {
            made.push((name, url));
        }
    }
    eprintln!("{} of {} spellings were taken, the others refused at once", made.len(), urls.len());
    // What may be reached is reached, or the rest proves nothing.
    assert!(world.endpoint("public", "http://public.test/hook"));
    let (before, mut asked) = (world.begun(), 0);
    world.publish("update");
    asked += 1;
    world.wait_until("a public address", || {
        world.noted().contains(&"request 93.184.216.34 update".to_owned())
    });
    for (name, url) in &made {
        let deadline = Instant::now() + PATIENCE;
        loop {
            asked += 1;
            let letters = world.dead_letters(name);
            if let Some(letter) = letters.first() {
                assert!(letter["status"].is_null(), "{url} was answered: {letter}");
                break;
            }
            assert!(Instant::now() < deadline, "{url} has no end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // One connection is that to the public address.
    assert_eq!(world.begun() - before, asked + 1, "connections that nobody should have begun");
    let seen: Vec<String> = world
        .noted()
        .into_iter()
        .filter(|line| line.starts_with("connection ") && !line.ends_with("93.184.216.34"))
        .collect();
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn without_the_guard_the_same_spellings_arrive() {
    let world = World::start("[\"0.0.0.0/0\", \"::/0\"]");
    world.names(&names());
    let hosts = ["127.0.0.1", "0x0a000005", "[fd00::1]", "metadata.test", "mixed.test"];
    for (number, host) in hosts.iter().enumerate() {
        assert!(world.endpoint(&format!("e{number}"), &format!("http://{host}/hook")), "{host}");
    }
    world.publish("update");
    world.wait_until("all of them", || {
        world.noted().iter().filter(|line| line.ends_with(" update")).count() == hosts.len()
    });
    for address in ["127.0.0.1", "10.0.0.5", "fd00::1", "169.254.169.254"] {
        assert!(world.noted().contains(&format!("request {address} update")), "{address}");
    }
}

#[test]
fn a_name_that_moves_is_not_followed() {
    let world = World::start("[]");
    // Leads elsewhere at each question, as fast as a name server can.
    world.names(&json!({ "moving.test": ["93.184.216.34"] }));
    for number in 0..8 {
        assert!(world.endpoint(&format!("m{number}"), "http://moving.test/hook"));
    }
    let world = &world;
    std::thread::scope(|scope| {
        let mover = scope.spawn(move || {
            for round in 0..400 {
                let address = if round % 2 == 0 { "10.0.0.5" } else { "93.184.216.34" };
                world.names(&json!({ "moving.test": [address] }));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for number in 0..10 {
            world.publish(&format!("update {number}"));
        }
        mover.join().unwrap();
    });
    world.names(&json!({ "moving.test": ["93.184.216.34"] }));
    let reached = |line: &String| line.starts_with("connection ") && !line.contains("93.184");
    let wrong: Vec<String> = world.noted().into_iter().filter(reached).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_name_that_moves_under_an_idle_connection_is_not_followed() {
    let world = World::start("[]");
    world.names(&json!({ "idle.test": ["93.184.216.34"] }));
    assert!(world.endpoint("idle", "http://idle.test/hook"));
    let arrived = |data: &str| world.noted().contains(&format!("request 93.184.216.34 {data}"));
    for data in ["first", "second"] {
        world.publish(data);
        world.wait_until(data, || arrived(data));
    }
    let connections =
        || world.noted().iter().filter(|line| line.starts_with("connection 93.184")).count();
    assert_eq!(connections(), 1, "the second goes over the first one's connection");
    world.names(&json!({ "idle.test": ["10.0.0.5"] }));
    // An answer of the name server counts for half a minute.
    std::thread::sleep(Duration::from_secs(31));
    world.publish("third");
    world.wait_until("the refusal", || !world.dead_letters("idle").is_empty());
    assert!(!arrived("third"), "sent over a connection to where the name led before");
    assert!(!world.noted().iter().any(|line| line.contains("10.0.0.5")), "{:?}", world.noted());
    assert!(Path::new(&format!("/proc/{}", world.hub.pid())).exists());
}
