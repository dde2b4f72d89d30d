//! TLS by certificate files: handshakes, names, reloading, mistakes, and what plain requests and
//! browsers are told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ProtocolVersion};
use tempfile::TempDir;

use crate::encrypted::{Authority, Secure, address, agreed, connect, exchange, read_until};
use crate::http::{self, PATIENCE};
use crate::hub::{HUB, TestHub, run};
use crate::tokens::{Role, bearer, token_final};

const NAME: &str = "hub.example.com";
const TOPIC: &str = "https://tls.example/";

/// `[tls]` for pairs of files in this folder.
fn toml(folder: &Path, files: &[&str], more: &str) -> String {
    let paths = |ending: &str| -> Vec<_> {
        files.iter().map(|file| folder.join(format!("{file}.{ending}"))).collect()
    };
    let (certificates, keys) = (paths("pem"), paths("key"));
    format!(
        "[tls]\nlisten = \"127.0.0.1:0\"\n\
         certificate = {certificates:?}\nkey = {keys:?}\n{more}"
    )
}

struct Setup {
    folder: TempDir,
    authority: Authority,
}

impl Setup {
    fn new() -> Setup {
        let setup = Setup { folder: TempDir::new().unwrap(), authority: Authority::new() };
        setup.authority.write(setup.folder.path(), "hub", &[NAME]);
        setup
    }

    fn start(&self, more: &str) -> TestHub {
        TestHub::start(&toml(self.folder.path(), &["hub"], more))
    }

    #[track_caller]
    fn connect(&self, hub: &TestHub, name: &str) -> Secure {
        let client = self.authority.client(&["http/1.1"]);
        connect(&client, address(hub), name).unwrap_or_else(|e| panic!("{e}\n{}", hub.log()))
    }
}

#[test]
fn both_versions_of_tls_and_of_http_are_served_beside_plain_http() {
    let setup = Setup::new();
    let hub = setup.start("");
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        for (offered, protocol) in
            [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
        {
            let client = setup.authority.client_with(&[version], offered);
            let mut stream = connect(&client, address(&hub), NAME).unwrap();
            assert_eq!(agreed(&stream), (expected, protocol.map(str::to_owned)));
            if protocol != Some("h2") {
                assert_eq!(exchange(&mut stream, "GET", "/healthz", &[]).status, 200);
            }
        }
    }
    let unknown = setup.authority.client(&["spdy/3"]);
    assert!(connect(&unknown, address(&hub), NAME).is_err(), "no protocol in common");
    hub.get("/healthz", &[("Connection", "close")]).expect(200);
    let left = hub.metric("tidings_certificate_remaining_seconds");
    assert!((86_400 * 58..86_400 * 61).contains(&left), "{left}");
}

#[test]
fn updates_are_published_and_received_over_tls() {
    let setup = Setup::new();
    let hub = setup.start("");
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let mut stream = setup.connect(&hub, NAME);
    let target = format!("{HUB}?match=*");
    stream.write_all(&http::request("GET", &target, &[(&name, &value)], b"")).unwrap();
    let head = read_until(&mut stream, "\r\n:\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    hub.publish(&[("topic", TOPIC), ("data", "from plain")]);
    read_until(&mut stream, "from plain");
    let client = reqwest::Client::builder()
        .tls_certs_only(
            [reqwest::Certificate::from_pem(setup.authority.root().as_bytes()).unwrap()],
        )
        .resolve(NAME, address(&hub))
        .build()
        .unwrap();
    let (name, value) = bearer(&token_final(Role::Publish, &["*"]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let url = format!("https://{NAME}:{}{HUB}", address(&hub).port());
        let form = http::form(&[("topic", TOPIC), ("data", "from HTTP/2")]);
        let request = client.post(url).header(name, value).body(form);
        let form = "application/x-www-form-urlencoded";
        request.header("Content-Type", form).send().await.unwrap()
    });
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    read_until(&mut stream, "from HTTP/2");
}

#[test]
fn clients_get_the_certificate_of_the_name_that_they_ask_for() {
    let setup = Setup::new();
    setup.authority.write(setup.folder.path(), "other", &["other.example.com", "*.wild.example"]);
    let hub = TestHub::start(&toml(setup.folder.path(), &["hub", "other"], ""));
    for name in [NAME, "other.example.com", "any.wild.example"] {
        let mut stream = setup.connect(&hub, name);
        assert_eq!(exchange(&mut stream, "GET", "/healthz", &[]).status, 200, "{name}");
    }
    let client = setup.authority.client(&[]);
    let strange = connect(&client, address(&hub), "strange.example").unwrap_err().to_string();
    assert!(
        strange.contains("only valid for DnsName(\"hub.example.com\")"),
        "the first is sent: {strange}"
    );
}

#[test]
fn who_comes_back_resumes() {
    let setup = Setup::new();
    let hub = setup.start("");
    let client = setup.authority.client(&["http/1.1"]);
    let kind = |config| {
        let mut stream = connect(config, address(&hub), NAME).unwrap();
        assert_eq!(exchange(&mut stream, "GET", "/healthz", &[]).status, 200);
        stream.conn.handshake_kind().unwrap()
    };
    assert_eq!(kind(&client), HandshakeKind::Full);
    assert_eq!(kind(&client), HandshakeKind::Resumed);
}

#[test]
fn a_new_certificate_is_served_after_sighup_and_a_broken_one_is_not() {
    let setup = Setup::new();
    let hub = setup.start("");
    let mut before = setup.connect(&hub, NAME);
    setup.authority.write(setup.folder.path(), "hub", &["new.example.com"]);
    hub.signal("HUP");
    hub.wait_for_log("configuration reloaded");
    drop(setup.connect(&hub, "new.example.com"));
    assert_eq!(exchange(&mut before, "GET", "/healthz", &[]).status, 200, "goes on");
    std::fs::write(setup.folder.path().join("hub.key"), "damaged").unwrap();
    hub.signal("HUP");
    let line = hub.wait_for_log("not reloaded");
    assert!(!line.contains("damaged"), "{line}");
    hub.wait_for_log("hub.key holds no private key");
    drop(setup.connect(&hub, "new.example.com"));
}

#[test]
fn an_expired_certificate_is_a_warning_and_holds_nothing_up() {
    let setup = Setup::new();
    let folder = setup.folder.path();
    let (chain, key) = setup.authority.issue(&["old.example.com"], (-90, -3));
    std::fs::write(folder.join("old.pem"), chain).unwrap();
    std::fs::write(folder.join("old.key"), key).unwrap();
    let toml = toml(folder, &["old", "hub"], "");
    let said = "old.pem expired 3 days ago";
    let output = run(&["check"], Some(&toml));
    let text = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains(said), "{text}");
    let hub = TestHub::start(&toml);
    assert!(hub.wait_for_log("a certificate is served that has expired").contains(said));
    drop(setup.connect(&hub, NAME));
    let client = setup.authority.client(&[]);
    let refused = connect(&client, address(&hub), "old.example.com").unwrap_err().to_string();
    assert!(
        refused.contains("certificate expired"),
        "it is the expired one that is served: {refused}"
    );
    assert_eq!(hub.metric("tidings_certificate_remaining_seconds"), 0);
    setup.authority.write(folder, "hub", &["new.example.com"]);
    hub.signal("HUP");
    hub.wait_for_log("configuration reloaded");
    drop(setup.connect(&hub, "new.example.com"));
}

#[test]
fn mistakes_in_certificates_are_explained_with_the_file() {
    let setup = Setup::new();
    let folder = setup.folder.path();
    setup.authority.write(folder, "other", &[NAME]);
    std::fs::copy(folder.join("hub.pem"), folder.join("mixed.pem")).unwrap();
    std::fs::copy(folder.join("other.key"), folder.join("mixed.key")).unwrap();
    std::fs::write(folder.join("text.pem"), "no PEM at all").unwrap();
    std::fs::copy(folder.join("hub.key"), folder.join("text.key")).unwrap();
    std::fs::copy(folder.join("hub.pem"), folder.join("keyless.pem")).unwrap();
    std::fs::write(folder.join("keyless.key"), "").unwrap();
    for (file, said) in [
        ("mixed", "mixed.key is not the key of"),
        ("text", "text.pem holds no certificate"),
        ("keyless", "keyless.key holds no private key"),
        ("missing", "missing.pem: No such file"),
    ] {
        let output = run(&["check"], Some(&toml(folder, &[file], "")));
        let text = String::from_utf8_lossy(&output.stderr).replace(['\n', '│', ' '], "");
        assert_eq!(output.status.code(), Some(2), "{file}: {text}");
        assert!(text.contains(&said.replace(' ', "")), "{file}: {text}");
    }
    for (more, said) in [
        ("[tls]\nlisten = \"127.0.0.1:0\"", "there is no certificate for `tls.listen`"),
        ("[tls]\nredirect = true", "it needs TLS by the hub itself"),
        ("[tls]\ncertificate = \"a.pem\"", "there are 1 certificates and 0 keys"),
    ] {
        let output = run(&["check"], Some(more));
        let text = String::from_utf8_lossy(&output.stderr).replace(['\n', '│', ' '], "");
        assert!(text.contains(&said.replace(' ', "")), "{more}: {text}");
    }
}

#[test]
fn plain_requests_are_redirected_and_browsers_told_to_insist_only_where_wanted() {
    let setup = Setup::new();
    let toml = toml(setup.folder.path(), &["hub"], "redirect = true\nhsts = \"1d\"");
    let hub = TestHub::start(&format!("public_url = \"https://{NAME}\"\n{toml}"));
    let target = format!("{HUB}?match=a%20b");
    let moved = hub.request("POST", &target, &[], b"x").expect(308);
    assert_eq!(moved.header("location"), Some(format!("https://{NAME}{target}")));
    assert_eq!(moved.header("strict-transport-security"), None);
    let mut stream = setup.connect(&hub, NAME);
    let answer = exchange(&mut stream, "GET", "/healthz", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("strict-transport-security").as_deref(), Some("max-age=86400"));
    let hub = setup.start("");
    hub.get("/healthz", &[("Connection", "close")]).expect(200);
    let answer = exchange(&mut setup.connect(&hub, NAME), "GET", "/healthz", &[]);
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[test]
fn what_is_no_handshake_ends_in_time_and_harms_nobody() {
    let setup = Setup::new();
    let hub = setup.start("[http]\nconnections_per_address_max = 40");
    let mut silent = TcpStream::connect(address(&hub)).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"\x16\x03\x01\xff\xff\x01",
        b"\x80\x2e\x01\x03\x01",
        &[0; 2_000],
    ] {
        let mut stream = TcpStream::connect(address(&hub)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "nothing is said in plain text");
    }
    drop(setup.connect(&hub, NAME));
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let deadline = Instant::now() + PATIENCE;
    while hub.metric("tidings_connections_open") > 0 {
        assert!(Instant::now() < deadline, "places were not given back");
    }
    assert!(hub.metric("tidings_handshakes_failed_total") >= 5);
}

#[test]
fn connections_over_the_limit_are_closed_before_a_handshake() {
    let setup = Setup::new();
    let hub = setup.start("[http]\nconnections_per_address_max = 2");
    let (_first, _second) = (setup.connect(&hub, NAME), setup.connect(&hub, NAME));
    let client = setup.authority.client(&[]);
    assert!(connect(&client, address(&hub), NAME).is_err());
    assert_eq!(hub.metric("tidings_connections_refused_total{limit=\"address\"}"), 1);
}

#[test]
fn thousands_of_connections_that_come_and_go_leave_nothing_behind() {
    let setup = Setup::new();
    let hub = setup.start("");
    let mut witness = hub.subscribe("match=*");
    let client = setup.authority.client(&["http/1.1"]);
    let (name, value) = bearer(&token_final(Role::Subscribe, &["*"]));
    let target = format!("{HUB}?match=*");
    let round = || {
        for turn in 0..1_000 {
            match turn % 4 {
                0 => drop(TcpStream::connect(address(&hub)).unwrap()),
                1 => drop(connect(&client, address(&hub), NAME)),
                2 => drop(TcpStream::connect(hub.address).unwrap()),
                _ => assert_eq!(hub.stream(&target, &[(&name, &value)]).head.status, 200),
            }
        }
    };
    round();
    let before = hub.metric("tidings_process_resident_bytes");
    round();
    hub.publish(&[("topic", TOPIC), ("data", "still here")]);
    assert_eq!(witness.event().data, "still here");
    let deadline = Instant::now() + PATIENCE;
    let open = || hub.metric("tidings_connections_open") + hub.metric("tidings_subscribers");
    while open() > 2 {
        assert!(Instant::now() < deadline, "{} are left", open());
    }
    let grown = hub.metric("tidings_process_resident_bytes").saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes");
}
