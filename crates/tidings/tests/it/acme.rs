//! Certificates from an ACME server: the whole way, what is kept, and every way in which the server
//! can fail. Meanwhile the hub serves what it has.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::acme_server::{AcmeServer, Fault};
use crate::encrypted::{Authority, address, connect, exchange};
use crate::http::PATIENCE;
use crate::hub::{Launch, TestHub, run};

const NAMES: [&str; 2] = ["hub.example.com", "push.example.com"];

struct Setup {
    folder: TempDir,
    server: Arc<AcmeServer>,
}

impl Setup {
    /// A server whose certificates are valid for these days.
    fn new(days: (i64, i64)) -> Setup {
        let folder = TempDir::new().unwrap();
        let server = AcmeServer::start(Authority::new(), days);
        server.write_root(&folder.path().join("root.pem"));
        Setup { folder, server }
    }

    fn toml(&self) -> String {
        format!(
            "public_url = \"https://{}\"\n[tls]\nlisten = \"127.0.0.1:0\"\n[tls.acme]\n\
             domains = {NAMES:?}\ncontact = \"mailto:ops@example.com\"\ndirectory = \"{}\"\n\
             accept_terms = true\nca_file = {:?}\n",
            NAMES[0],
            self.server.directory(),
            self.folder.path().join("root.pem"),
        )
    }

    /// A hub, and names that lead to it.
    fn start(&self) -> TestHub {
        let hub = TestHub::start(&self.toml());
        self.server.names_lead_to(address(&hub));
        hub
    }

    /// The same with a server that fails from the beginning.
    fn start_failing(&self, fault: Fault) -> TestHub {
        self.server.fail(fault);
        self.start()
    }

    /// Whether the hub has a certificate for this name.
    fn serves(&self, hub: SocketAddr, name: &str) -> bool {
        let client = self.server.authority().client(&["http/1.1"]);
        let Ok(mut stream) = connect(&client, hub, name) else { return false };
        exchange(&mut stream, "GET", "/healthz", &[]).status == 200
    }

    /// It works again, and the operator says so.
    #[track_caller]
    fn repair(&self, hub: &TestHub) {
        assert!(
            !self.serves(address(hub), NAMES[0]),
            "TLS is refused until there is a certificate"
        );
        hub.get("/healthz", &[("Connection", "close")]).expect(200);
        self.server.fail(Fault::None);
        hub.signal("HUP");
        hub.wait_for_log("was issued");
        assert!(self.serves(address(hub), NAMES[0]));
    }
}

#[test]
fn a_certificate_is_ordered_validated_served_and_kept() {
    let setup = Setup::new((-1, 89));
    let hub = setup.start();
    // It may have begun before the names led to it.
    hub.signal("HUP");
    let line = hub.wait_for_log("was issued");
    assert!(line.contains("hub.example.com, push.example.com"), "{line}");
    for name in NAMES {
        assert!(setup.serves(address(&hub), name), "{name}");
    }
    assert!(setup.server.validated() >= 2);
    let folder = hub.data().join("acme");
    for file in ["account.json", "certificate.pem", "attempts.json"] {
        let mode = std::fs::metadata(folder.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let key = std::fs::read_to_string(folder.join("certificate.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    assert!(!hub.log().contains(secret));
    let orders = setup.server.orders().len();
    let hub = hub.restart();
    assert!(setup.serves(address(&hub), NAMES[1]), "at once");
    assert_eq!(setup.server.orders().len(), orders, "it is not due");
    assert_eq!(setup.server.accounts(), 1);
}

#[test]
fn a_certificate_is_renewed_when_two_thirds_of_its_time_are_over_and_not_too_often() {
    let setup = Setup::new((-80, 10));
    let hub = setup.start();
    hub.signal("HUP");
    hub.wait_for_log("was issued");
    assert!(setup.serves(address(&hub), NAMES[0]));
    // What was issued is due already, so that every wish leads to an order, up to those of a day.
    let deadline = Instant::now() + PATIENCE;
    while setup.server.orders().len() < 10 {
        assert!(Instant::now() < deadline, "{} orders", setup.server.orders().len());
        hub.signal("HUP");
        std::thread::sleep(Duration::from_millis(20));
    }
    let hub = hub.restart();
    for _ in 0..5 {
        hub.signal("HUP");
        hub.wait_for_log("configuration reloaded");
        assert!(setup.serves(address(&hub), NAMES[0]));
    }
    assert_eq!(setup.server.orders().len(), 10);
}

#[test]
fn a_server_that_is_down_is_asked_again_and_plain_requests_are_served() {
    let setup = Setup::new((-1, 89));
    let folder = TempDir::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("https://localhost:{}/directory", listener.local_addr().unwrap().port());
    drop(listener);
    let toml = setup.toml().replace(&setup.server.directory(), &nobody);
    let launch = Launch { data: Some(folder.path().join("data")), ..Launch::toml(&toml) };
    let hub = TestHub::launch(launch.clone());
    let line = hub.wait_for_log("no certificate, TLS connections that need it are refused");
    assert!(line.contains("the next attempt is in"), "{line}");
    assert!(!setup.serves(address(&hub), NAMES[0]));
    hub.get("/healthz", &[("Connection", "close")]).expect(200);
    let hub = hub.restart_with(Launch { toml: setup.toml(), ..launch });
    setup.server.names_lead_to(address(&hub));
    hub.signal("HUP");
    hub.wait_for_log("was issued");
}

#[test]
fn a_server_that_answers_500_or_html_is_told_apart_in_the_log() {
    for (fault, said) in [(Fault::Broken, "serverInternal"), (Fault::Html, "JSON")] {
        let setup = Setup::new((-1, 89));
        let hub = setup.start_failing(fault);
        let line = hub.wait_for_log("no certificate, TLS connections");
        assert!(line.contains(said), "{line}");
        setup.repair(&hub);
    }
}

#[test]
fn a_nonce_that_is_refused_is_replaced() {
    let setup = Setup::new((-1, 89));
    let hub = setup.start_failing(Fault::BadNonce);
    hub.signal("HUP");
    hub.wait_for_log("was issued");
    assert!(setup.server.nonces_refused() > 5);
}

#[test]
fn retry_after_is_obeyed_even_when_an_operator_is_impatient() {
    let setup = Setup::new((-1, 89));
    let hub = setup.start_failing(Fault::RateLimited(3));
    let line = hub.wait_for_log("no certificate, TLS connections");
    assert!(line.contains("rateLimited"), "{line}");
    for _ in 0..5 {
        hub.signal("HUP");
    }
    hub.wait_for_log("was issued");
    let orders = setup.server.orders();
    assert_eq!(orders.len(), 2, "one was refused, one was not");
    assert!(orders[1] - orders[0] >= Duration::from_secs(2), "{:?}", orders[1] - orders[0]);
}

#[test]
fn a_name_that_is_not_validated_is_named_with_the_reason() {
    let setup = Setup::new((-1, 89));
    let hub = setup.start_failing(Fault::Invalid);
    let line = hub.wait_for_log("no certificate, TLS connections");
    for said in ["hub.example.com was not validated", "nobody is there", "port 443"] {
        assert!(line.contains(said), "{line}");
    }
    setup.repair(&hub);
}

#[test]
fn a_wrong_certificate_is_neither_served_nor_kept() {
    for (fault, said) in [
        (Fault::OtherKey, "it is for another key"),
        (Fault::OtherName, "it does not name hub.example.com"),
        (Fault::Expired, "it expired 2 days ago"),
    ] {
        let setup = Setup::new((-1, 89));
        let hub = setup.start_failing(fault);
        hub.wait_for_log("no certificate, TLS connections");
        if !hub.log().contains(said) {
            // The first attempt may have been over before the names led here.
            hub.signal("HUP");
            hub.wait_for_log(said);
        }
        assert!(!hub.data().join("acme/certificate.pem").exists());
        setup.repair(&hub);
    }
}

#[test]
fn a_failed_renewal_leaves_the_present_certificate() {
    let setup = Setup::new((-80, 10));
    let hub = setup.start();
    hub.signal("HUP");
    hub.wait_for_log("was issued");
    setup.server.fail(Fault::Broken);
    hub.signal("HUP");
    let line = hub.wait_for_log("the present one is served and expires in");
    assert!(line.contains("days"), "{line}");
    assert!(setup.serves(address(&hub), NAMES[0]));
}

#[test]
fn nobody_gets_the_proof_of_a_name_and_no_protocol_behind_it() {
    let setup = Setup::new((-1, 89));
    let hub = setup.start();
    hub.signal("HUP");
    hub.wait_for_log("was issued");
    let client = setup.server.authority().client(&["acme-tls/1"]);
    assert!(connect(&client, address(&hub), NAMES[0]).is_err(), "nothing is being validated");
    assert!(setup.serves(address(&hub), NAMES[0]));
}

#[test]
fn mistakes_in_the_settings_are_explained() {
    let acme = "[tls]\nlisten = \"127.0.0.1:0\"\n[tls.acme]\n";
    for (more, said) in [
        ("domains = \"hub.example.com\"", "terms of service"),
        ("domains = \"*.example.com\"\naccept_terms = true", "is not the name of a host"),
        ("domains = \"192.0.2.1\"\naccept_terms = true", "is not the name of a host"),
        ("domains = \"a.example\"\naccept_terms = true\ndirectory = \"http://a\"", "no https URL"),
        ("domains = \"a.example\"\naccept_terms = true\ncontact = \"ops\"", "no mailto: address"),
        (
            "domains = \"a.example\"\naccept_terms = true\n[history]\ndurability = \"memory\"",
            "need a folder",
        ),
    ] {
        let output = run(&["check"], Some(&format!("{acme}{more}")));
        let text = String::from_utf8_lossy(&output.stderr).replace(['\n', '│', ' '], "");
        assert_eq!(output.status.code(), Some(2), "{more}: {text}");
        assert!(text.contains(&said.replace(' ', "")), "{more}: {text}");
    }
}
