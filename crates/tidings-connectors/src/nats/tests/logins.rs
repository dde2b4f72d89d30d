//! Every way to log in, and what is told when it is the wrong one.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair as TlsKey};

use super::*;
use crate::nats::nkey::{checked, seed_of};
use crate::secret::Secret;

/// Publishes once by a login.
async fn works(options: ServerOptions) {
    let timeout = Span(Duration::from_secs(5));
    let options = SinkOptions { server: options, timeout, ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let outcome = deliver(&sink, vec![update("a", "")]).await;
    assert_eq!((outcome.delivered, outcome.failure), (1, None));
}

/// What the operator is told about a login, or a server, that is not right.
async fn told(options: ServerOptions) -> Link {
    let options = SinkOptions { server: options, ..SinkOptions::default() };
    let sink = NatsSink::start("out", options).unwrap();
    let wanted = |link: &Link| !matches!(link, Link::Beginning);
    reaches(&mut sink.link(), wanted).await
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text))
}

#[tokio::test]
async fn user_and_password_work_and_a_wrong_one_is_told() {
    let config = "authorization: { user: me, password: \"s3cret p@ss\" }\n";
    let server = TestServer::start(config, &[]);
    let user = some("me");
    let with = |password: &str| ServerOptions {
        user: user.clone(),
        password: secret(password),
        ..server.options()
    };
    works(with("s3cret p@ss")).await;
    let url = format!("nats://me:s3cret%20p%40ss@127.0.0.1:{}", server.port);
    works(ServerOptions { url, ..ServerOptions::default() }).await;
    for wrong in [with("hidden"), server.options()] {
        let Link::Rejected(reason) = told(wrong).await else { panic!("not rejected") };
        assert!(reason.contains("Authorization Violation"), "{reason}");
        assert!(!reason.contains("hidden"), "{reason}");
    }
}

#[tokio::test]
async fn a_refused_login_is_tried_again() {
    let mut server = TestServer::start("authorization: { user: me, password: b }\n", &[]);
    let mut options = source(&server, &["a"]);
    (options.server.user, options.server.password) = (some("me"), secret("a"));
    let mut running = Running::begin(options, 8);
    reaches(&mut running.link, |link| matches!(link, Link::Rejected(_))).await;
    server.kill();
    let config = server.folder.path().join("server.conf");
    std::fs::write(config, "authorization: { user: me, password: a }\n").unwrap();
    server.restart();
    running.connected().await;
}

#[tokio::test]
async fn a_token_works() {
    let server = TestServer::start("authorization: { token: \"t0ken\" }\n", &[]);
    works(ServerOptions { token: secret("t0ken"), ..server.options() }).await;
    let url = format!("nats://t0ken@127.0.0.1:{}", server.port);
    works(ServerOptions { url, ..ServerOptions::default() }).await;
    let wrong = ServerOptions { token: secret("hidden"), ..server.options() };
    assert!(matches!(told(wrong).await, Link::Rejected(_)));
}

#[tokio::test]
async fn an_nkey_works() {
    let (seed, public) = seed_of([5; 32]);
    let config = format!("authorization: {{ users: [ {{ nkey: {public} }} ] }}\n");
    let server = TestServer::start(&config, &[]);
    works(ServerOptions { nkey_seed: secret(&seed), ..server.options() }).await;
    let wrong = ServerOptions { nkey_seed: secret(&seed_of([6; 32]).0), ..server.options() };
    assert!(matches!(told(wrong).await, Link::Rejected(_)));
}

/// A key of an operator (`O`) or account (`A`), with its public name.
fn authority(prefix: u8, raw: [u8; 32]) -> (Ed25519KeyPair, String) {
    let key = Ed25519KeyPair::from_seed_unchecked(&raw).unwrap();
    let mut bytes = vec![prefix];
    bytes.extend_from_slice(key.public_key().as_ref());
    (key, checked(bytes))
}

fn token(signer: &(Ed25519KeyPair, String), subject: &str, kind: &str) -> String {
    let limits = match kind {
        "account" => serde_json::json!({
            "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1,
            "exports": -1, "wildcards": true
        }),
        _ => serde_json::json!({ "subs": -1, "data": -1, "payload": -1 }),
    };
    let mut nats = serde_json::json!({ "type": kind, "version": 2 });
    match kind {
        "account" => nats["limits"] = limits,
        "user" => {
            for name in ["subs", "data", "payload"] {
                nats[name] = limits[name].clone();
            }
        }
        _ => {}
    }
    let claims = serde_json::json!({
        "jti": "1", "iat": 1_600_000_000, "iss": signer.1, "name": kind, "sub": subject,
        "nats": nats
    });
    let header = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = URL_SAFE_NO_PAD.encode(signer.0.sign(body.as_bytes()));
    format!("{body}.{signature}")
}

#[tokio::test]
async fn a_credentials_file_works() {
    let operator = authority(14 << 3, [1; 32]);
    let account = authority(0, [2; 32]);
    let (seed, public) = seed_of([3; 32]);
    let config = format!(
        "operator: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {} }}\n",
        token(&operator, &operator.1, "operator"),
        account.1,
        token(&operator, &account.1, "account"),
    );
    let server = TestServer::start(&config, &[]);
    let path = server.folder.path().join("user.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n",
        token(&account, &public, "user"),
    );
    std::fs::write(&path, &text).unwrap();
    let creds_file = Some(path.clone());
    works(ServerOptions { creds_file, ..server.options() }).await;
    std::fs::write(&path, text.replace(&seed, &seed_of([4; 32]).0)).unwrap();
    let wrong = ServerOptions { creds_file: Some(path), ..server.options() };
    assert!(matches!(told(wrong).await, Link::Rejected(_)));
}

/// Certificates of a server and a client in a folder, and the configuration that names them.
fn certificates(folder: &TempDir) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, TlsKey::generate().unwrap()).unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), issuer.pem()).unwrap();
    for name in ["server", "client"] {
        let key = TlsKey::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    let shown = |name: &str| path(name).display().to_string();
    format!(
        "cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\"",
        shown("server.pem"),
        shown("server.key"),
        shown("ca.pem")
    )
}

#[tokio::test]
async fn tls_works_where_the_server_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(&folder);
    let server = TestServer::start_in(folder, &format!("tls: {{ {files} }}\n"), &[]);
    let ca_file = Some(server.folder.path().join("ca.pem"));
    works(ServerOptions { ca_file: ca_file.clone(), ..server.options() }).await;
    let url = format!("tls://localhost:{}", server.port);
    works(ServerOptions { url, ca_file, ..ServerOptions::default() }).await;
    let Link::Unreachable(reason) = told(server.options()).await else { panic!() };
    assert!(reason.contains("certificate"), "{reason}");

    let with =
        ServerOptions { ca_file: Some(server.folder.path().join("ca.pem")), ..server.options() };
    let mut running =
        Running::start(SourceOptions { server: with.clone(), ..source(&server, &["large"]) }).await;
    let sink = NatsSink::start("out", SinkOptions { server: with, ..sink(&server) }).unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
    assert_eq!(deliver(&sink, vec![update("large", data.clone()); 8]).await.delivered, 8);
    for _ in 0..8 {
        assert!(running.next_update().await.data == data);
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_works() {
    let folder = tempfile::tempdir().unwrap();
    let files = certificates(&folder);
    let server = TestServer::start_in(folder, &format!("tls: {{ {files}, verify: true }}\n"), &[]);
    let path = |name: &str| Some(server.folder.path().join(name));
    let without = ServerOptions { ca_file: path("ca.pem"), ..server.options() };
    let own = ServerOptions {
        cert_file: path("client.pem"),
        key_file: path("client.key"),
        ..without.clone()
    };
    works(own).await;
    assert!(matches!(told(without).await, Link::Unreachable(_)));
    let half = ServerOptions { cert_file: path("client.pem"), ..server.options() };
    assert_eq!(half.problems().first().map(|problem| problem.path.as_str()), Some("key_file"));
}

#[tokio::test]
async fn tls_that_is_wanted_is_never_done_without() {
    let server = TestServer::plain();
    let url = format!("tls://me:hidden@127.0.0.1:{}", server.port);
    let options = ServerOptions { url, ..ServerOptions::default() };
    let Link::Unreachable(reason) = told(options).await else { panic!() };
    assert!(reason.contains("does not speak TLS"), "{reason}");
    assert!(!reason.contains("hidden"), "{reason}");
}
