//! A small ACME server (RFC 8555) with faults on demand. It is strict: every request must be signed
//! by the account's key for its own URL with a nonce of this server, and a name is validated by
//! really connecting to the hub (RFC 8737).

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme,
    StreamOwned,
};
use serde_json::{Value, json};

use crate::encrypted::{self, Authority};
use crate::http::PATIENCE;

/// What goes wrong at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Every first use of a nonce is refused with `badNonce`.
    BadNonce,
    /// Every POST is answered with 500.
    Broken,
    /// HTML instead of JSON.
    Html,
    /// New orders are refused until so many seconds have passed.
    RateLimited(u64),
    /// Every validation fails.
    Invalid,
    /// The certificate is for another key.
    OtherKey,
    /// The certificate names somebody else.
    OtherName,
    /// The certificate is over already.
    Expired,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    nonces: HashSet<String>,
    /// Nonces that were refused once.
    refused: usize,
    made: usize,
    /// Public keys by the number of the account.
    accounts: HashMap<usize, Vec<u8>>,
    thumbprints: HashMap<usize, String>,
    domains: Vec<String>,
    authorizations: Vec<&'static str>,
    certificate: Option<String>,
    hub: Option<SocketAddr>,
    /// Validations that succeeded.
    validated: usize,
    orders: Vec<Instant>,
    limited_until: Option<Instant>,
}

/// A running server; its threads end with the test.
pub(crate) struct AcmeServer {
    base: String,
    state: Arc<Mutex<State>>,
    authority: Arc<Authority>,
    /// Days before and after now of the certificates that it issues.
    days: (i64, i64),
}

impl AcmeServer {
    /// Certificates of `authority`, valid for these days.
    pub(crate) fn start(authority: Authority, days: (i64, i64)) -> Arc<AcmeServer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let config = authority.server(&["localhost"]);
        let server = Arc::new(AcmeServer {
            base,
            state: Arc::default(),
            authority: Arc::new(authority),
            days,
        });
        let shared = Arc::clone(&server);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, server) = (Arc::clone(&config), Arc::clone(&shared));
                std::thread::spawn(move || server.serve(socket, config));
            }
        });
        server
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/directory", self.base)
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Writes the root that the server's own certificate leads to.
    pub(crate) fn write_root(&self, path: &Path) {
        std::fs::write(path, self.authority.root()).unwrap();
    }

    pub(crate) fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Where names lead.
    pub(crate) fn names_lead_to(&self, hub: SocketAddr) {
        self.state().hub = Some(hub);
    }

    pub(crate) fn validated(&self) -> usize {
        self.state().validated
    }

    pub(crate) fn nonces_refused(&self) -> usize {
        self.state().refused
    }

    pub(crate) fn accounts(&self) -> usize {
        self.state().accounts.len()
    }

    /// When orders were asked for.
    pub(crate) fn orders(&self) -> Vec<Instant> {
        self.state().orders.clone()
    }

    /// Waits for so many orders.
    #[track_caller]
    pub(crate) fn wait_for_orders(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.orders().len() < count {
            assert!(Instant::now() < deadline, "{} orders", self.orders().len());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, socket: TcpStream, config: Arc<ServerConfig>) {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), socket);
        while let Some((line, body)) = read_request(&mut stream) {
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap().to_owned());
            let mut answer = self.answer(method, &path, &body);
            answer.headers.push(("Replay-Nonce", self.nonce()));
            let mut text = format!("HTTP/1.1 {} X\r\n", answer.status);
            for (name, value) in &answer.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            let body = if method == "HEAD" { "" } else { &answer.body };
            text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
            if stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }

    fn nonce(&self) -> String {
        let mut state = self.state();
        state.made += 1;
        let nonce = format!("nonce{}", state.made);
        state.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let fault = self.state().fault.unwrap_or(Fault::None);
        if fault == Fault::Html {
            return Answer::new(200, "<html>It works!</html>".to_owned());
        }
        match (method, path) {
            ("GET", "/directory") => Answer::json(
                200,
                &json!({
                    "newNonce": format!("{}/nonce", self.base),
                    "newAccount": format!("{}/account", self.base),
                    "newOrder": format!("{}/order", self.base),
                    "meta": { "termsOfService": format!("{}/terms", self.base) },
                }),
            ),
            ("HEAD", "/nonce") => Answer::new(200, String::new()),
            ("POST", _) if fault == Fault::Broken => Answer::problem(500, "serverInternal"),
            ("POST", _) => match self.verified(path, body) {
                Ok((account, payload)) => self.post(path, account, &payload, fault),
                Err(kind) => Answer::problem(400, kind),
            },
            _ => Answer::problem(404, "malformed"),
        }
    }

    /// The account and the payload of a signed request (RFC 8555 section 6.2).
    fn verified(&self, path: &str, body: &[u8]) -> Result<(usize, Value), &'static str> {
        let part = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
        let body: Value = serde_json::from_slice(body).map_err(|_| "malformed")?;
        let header: Value = serde_json::from_slice(&part(&body["protected"])).unwrap();
        assert_eq!(header["alg"], "ES256");
        assert_eq!(header["url"], format!("{}{path}", self.base));
        let mut state = self.state();
        let nonce = header["nonce"].as_str().unwrap();
        let known = state.nonces.remove(nonce);
        // The first of two is refused, so that each request needs a second try.
        let picky = state.fault == Some(Fault::BadNonce) && state.refused.is_multiple_of(2);
        if !known || picky {
            state.refused += 1;
            return Err("badNonce");
        }
        if state.fault == Some(Fault::BadNonce) {
            state.refused += 1;
        }
        let account = match header["kid"].as_str() {
            Some(kid) => kid.rsplit('/').next().unwrap().parse().unwrap(),
            None => {
                let (x, y) = (part(&header["jwk"]["x"]), part(&header["jwk"]["y"]));
                let number = state.accounts.len() + 1;
                state.accounts.insert(number, [&[4][..], &x, &y].concat());
                let canonical = format!(
                    r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
                    header["jwk"]["x"], header["jwk"]["y"]
                );
                let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
                state.thumbprints.insert(number, thumbprint);
                number
            }
        };
        let key = state.accounts.get(&account).ok_or("accountDoesNotExist")?;
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let signed = format!("{}.{}", text("protected"), text("payload"));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(signed.as_bytes(), &part(&body["signature"]))
            .map_err(|_| "unauthorized")?;
        let payload = part(&body["payload"]);
        Ok((account, serde_json::from_slice(&payload).unwrap_or(Value::Null)))
    }

    fn post(&self, path: &str, account: usize, payload: &Value, fault: Fault) -> Answer {
        let (what, number) = path[1..].split_once('/').unwrap_or((&path[1..], "0"));
        let number: usize = number.parse().unwrap();
        match what {
            "account" => {
                assert_eq!(payload["termsOfServiceAgreed"], true);
                let answer = Answer::json(201, &json!({ "status": "valid" }));
                answer.with("Location", format!("{}/account/{account}", self.base))
            }
            "order" if payload.is_null() => self.order(200),
            "order" => self.new_order(payload, fault),
            "authorization" => self.authorization(number),
            "challenge" => self.challenge(number, account, fault),
            "finalize" => self.finalize(payload, fault),
            "certificate" => Answer::new(200, self.state().certificate.clone().unwrap())
                .with("Content-Type", "application/pem-certificate-chain".to_owned()),
            _ => Answer::problem(404, "malformed"),
        }
    }

    fn new_order(&self, payload: &Value, fault: Fault) -> Answer {
        let now = Instant::now();
        let mut state = self.state();
        state.orders.push(now);
        if let Fault::RateLimited(seconds) = fault {
            let wait = Duration::from_secs(seconds);
            let until = *state.limited_until.get_or_insert(now + wait);
            if now < until {
                let answer = Answer::problem(429, "rateLimited");
                return answer.with("Retry-After", seconds.to_string());
            }
        }
        let identifiers = payload["identifiers"].as_array().unwrap();
        let name = |identifier: &Value| identifier["value"].as_str().unwrap().to_owned();
        state.domains = identifiers.iter().map(name).collect();
        state.authorizations = vec!["pending"; state.domains.len()];
        state.certificate = None;
        drop(state);
        self.order(201).with("Location", format!("{}/order/1", self.base))
    }

    fn order(&self, status: u16) -> Answer {
        let state = self.state();
        let all = |wanted| state.authorizations.iter().all(|status| *status == wanted);
        let order = match &state.certificate {
            Some(_) => "valid",
            None if state.authorizations.contains(&"invalid") => "invalid",
            None if all("valid") => "ready",
            None => "pending",
        };
        let numbers = 0..state.domains.len();
        let url = |number| format!("{}/authorization/{number}", self.base);
        let mut document = json!({
            "status": order,
            "identifiers": state.domains.iter()
                .map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
            "authorizations": numbers.map(url).collect::<Vec<_>>(),
            "finalize": format!("{}/finalize/1", self.base),
        });
        if state.certificate.is_some() {
            document["certificate"] = format!("{}/certificate/1", self.base).into();
        }
        Answer::json(status, &document)
    }

    fn authorization(&self, number: usize) -> Answer {
        let state = self.state();
        let status = state.authorizations[number];
        let mut challenge = json!({
            "type": "tls-alpn-01", "status": status, "token": format!("token{number}"),
            "url": format!("{}/challenge/{number}", self.base),
        });
        if status == "invalid" {
            challenge["error"] = json!({
                "type": "urn:ietf:params:acme:error:connection", "detail": "nobody is there",
            });
        }
        Answer::json(
            200,
            &json!({
                "status": status,
                "identifier": { "type": "dns", "value": state.domains[number] },
                "challenges": [
                    { "type": "http-01", "status": "pending", "token": "t", "url": "https://x/y" },
                    challenge,
                ],
            }),
        )
    }

    fn challenge(&self, number: usize, account: usize, fault: Fault) -> Answer {
        let (name, thumbprint, hub) = {
            let state = self.state();
            (state.domains[number].clone(), state.thumbprints[&account].clone(), state.hub)
        };
        let authorization = format!("token{number}.{thumbprint}");
        let proved = fault != Fault::Invalid
            && hub.is_some_and(|hub| is_proved(hub, &name, authorization.as_bytes()));
        let mut state = self.state();
        state.authorizations[number] = if proved { "valid" } else { "invalid" };
        state.validated += usize::from(proved);
        Answer::json(
            200,
            &json!({
                "type": "tls-alpn-01", "status": "processing", "token": format!("token{number}"),
                "url": format!("{}/challenge/{number}", self.base),
            }),
        )
    }

    fn finalize(&self, payload: &Value, fault: Fault) -> Answer {
        let request = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
        let domains = self.state().domains.clone();
        let mut names: Vec<&str> = domains.iter().map(String::as_str).collect();
        for name in &names {
            assert!(find(&request, name.as_bytes()).is_some(), "{name} is in the request");
        }
        let key = Requested::of(&request);
        let chain = match fault {
            Fault::OtherKey => {
                self.authority.sign(&names, self.days, &KeyPair::generate().unwrap())
            }
            Fault::Expired => self.authority.sign(&names, (-10, -2), &key),
            _ => {
                if fault == Fault::OtherName {
                    names = vec!["somebody.else"];
                }
                self.authority.sign(&names, self.days, &key)
            }
        };
        self.state().certificate = Some(chain);
        self.order(200)
    }
}

/// The key in a request for a certificate.
struct Requested(Vec<u8>);

impl Requested {
    fn of(request: &[u8]) -> Requested {
        // The end of the algorithm (P-256), and the beginning of a point of 65 bytes.
        let before = b"\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        let at = find(request, before).expect("a key of P-256") + before.len();
        Requested(request[at..at + 65].to_vec())
    }
}

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    fn new(status: u16, body: String) -> Answer {
        Answer { status, headers: Vec::new(), body }
    }

    fn json(status: u16, document: &Value) -> Answer {
        Answer::new(status, document.to_string())
            .with("Content-Type", "application/json".to_owned())
    }

    fn problem(status: u16, kind: &str) -> Answer {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        Answer::json(status, &json!({ "type": kind, "detail": "as the test wants it" }))
    }

    fn with(mut self, name: &'static str, value: String) -> Answer {
        self.headers.push((name, value));
        self
    }
}

fn read_request(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head.lines().next().unwrap().to_owned(), body))
}

/// Whether the hub answers for a name with the proof of this authorization (RFC 8737 section 3).
fn is_proved(hub: SocketAddr, name: &str, authorization: &[u8]) -> bool {
    let seen = Arc::new(Seen::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Seen>::clone(&seen))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let Ok(mut stream) = encrypted::connect(&Arc::new(config), hub, name) else { return false };
    assert_eq!(encrypted::agreed(&stream).1.as_deref(), Some("acme-tls/1"));
    // Nothing but the handshake belongs to this protocol.
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    let certificate = seen.0.lock().unwrap().clone();
    let mut extension =
        b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff\x04\x22\x04\x20".to_vec();
    extension.extend(digest(&SHA256, authorization).as_ref());
    find(&certificate, &extension).is_some() && find(&certificate, name.as_bytes()).is_some()
}

/// Takes any certificate and keeps it.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<u8>>);

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = own.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
