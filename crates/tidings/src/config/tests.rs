//! Whole configurations, from text and variables to what runs or what is reported.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tidings_frontends::auth::{Generation, WELL_KNOWN_SECRET as DEVELOPMENT_KEY};

use super::*;

const MINIMAL: &str = r#"
public_url = "https://hub.example.com"
[[auth.issuer]]
id = "https://example.com"
publish = { key = "0123456789abcdef0123456789abcdef" }
"#;

fn load(text: &str) -> Result<Config, String> {
    load_under(text, &Variables::default())
}

fn load_under(text: &str, variables: &Variables) -> Result<Config, String> {
    from_text("tidings.toml", text, variables).map_err(|mistakes| mistakes.report(false))
}

fn image<const N: usize>(variables: [(&str, &str); N]) -> Result<Config, String> {
    from_variables(&variables.into()).map_err(|mistakes| mistakes.report(false))
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let report = load(text).expect_err("it was accepted");
    for part in expected {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
}

#[test]
fn a_history_in_memory_does_not_fill_the_memory() {
    let size = |history: &str| {
        let text = format!("{MINIMAL}[history]\ndurability = \"memory\"\n{history}");
        load(&text).unwrap().history.keep.size
    };
    assert_eq!(size(""), Some(64 << 20));
    assert_eq!(size("keep.size = \"1 GiB\"\n"), Some(1 << 30));
    assert_eq!(size("keep.age = \"1h\"\n"), Some(64 << 20));
}

#[test]
fn minimal_file_has_the_defaults_of_the_reference() {
    let config = load(MINIMAL).unwrap();
    assert_eq!(config.listen, ["0.0.0.0:3000".parse().unwrap()]);
    assert_eq!(config.hub_url().as_str(), "https://hub.example.com/.well-known/mercure");
    assert_eq!(config.history.durability, Durability::Fsync);
    assert_eq!(config.history.path.as_deref(), Some("/var/lib/tidings".as_ref()));
    assert_eq!(config.history.keep.age, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(config.history.keep.size, Some(10 << 30));
    assert_eq!(config.history.keep.entries, None);
    assert_eq!(config.history.segment_bytes, 64 << 20);
    assert_eq!(config.auth.issuer[0].accept, [Generation::Final]);
    assert_eq!(config.auth.issuer[0].publish.as_ref().unwrap().algorithm, "HS256");
    assert!(config.auth.query_token && !config.auth.anonymous);
    assert_eq!(config.mercure.anonymous_replay_max, Some(10_000));
    assert_eq!(config.mercure.update_size_max, 1 << 20);
    assert_eq!(config.mercure.heartbeat, Some(Duration::from_secs(15)));
    assert_eq!(config.mercure.connection_age_max, Some(Duration::from_secs(3_600)));
    assert_eq!(config.http.header_timeout, Duration::from_secs(30));
    assert_eq!(config.http.shutdown_budget, Duration::from_secs(8));
    assert_eq!(config.http.connections_max, 100_000);
    assert_eq!(config.admin.listen, Some("127.0.0.1:3001".parse().unwrap()));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn example_of_a_whole_file_is_read() {
    let config = load(
        r#"
listen = ["127.0.0.1:0", "[::1]:0"]
public_url = "https://example.com/hub/"
[history]
durability = "memory"
keep = { age = "off", size = "1MB", entries = 5 }
[auth]
anonymous = true
[[auth.issuer]]
id = "a"
accept = ["0.x"]
subscribe = { key = "k", algorithm = "HS512", kid = "1" }
[mercure]
cors_origins = ["https://*.example.com", "http://localhost:*", "null", "*"]
heartbeat = "off"
[http]
trusted_proxies = ["10.0.0.0/8", "::1"]
[admin]
listen = "off"
"#,
    )
    .unwrap();
    assert_eq!(config.hub_url().as_str(), "https://example.com/hub/.well-known/mercure");
    assert_eq!(config.history.path, None);
    assert_eq!(config.history.keep, Keep { age: None, size: Some(1_000_000), entries: Some(5) });
    assert_eq!(config.mercure.heartbeat, None);
    assert_eq!(config.http.trusted_proxies[1].to_string(), "::1/128");
    assert_eq!(config.admin.listen, None);
    assert_eq!(config.listen.len(), 2);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line_and_a_hint() {
    let text = format!(
        "lisen = \"0.0.0.0:80\"\nlisten = \"localhost:80\"\n{MINIMAL}subscribe = {{ keyy = 1 }}\n\
         [history]\ndurability = \"fsnc\"\nkeep = {{ age = 7 }}\n[[sink]]\nkind = \"webhok\"\n"
    );
    refused(
        &text,
        &[
            "tidings.toml:1:1",
            "did you mean `listen`?",
            "lisen = ",
            "tidings.toml:2:10",
            "write the number: \"127.0.0.1:80\"",
            "unknown key `keyy` in [auth.issuer[0].subscribe]",
            "did you mean `key`?",
            "does not take \"fsnc\"",
            "fsync, written, memory",
            "`age` takes a duration as in \"15s\", not a number",
            "unknown kind \"webhok\"",
            "tidings.toml:13:8",
            "did you mean \"webhook\"? kinds of sink: webhook, nats",
            "`name` is missing here",
            "8 mistakes",
        ],
    );
}

#[test]
fn grammar_mistakes_are_reported_with_their_line() {
    refused(
        "listen \"0.0.0.0:80\"\n[log\nlevel = 1",
        &["tidings.toml:1:", "listen \"0.0.0.0:80\""],
    );
    refused(&format!("{MINIMAL}\npublish = 1"), &["tidings.toml:7:1", "duplicate key"]);
}

#[test]
fn misplaced_key_is_told_its_table() {
    refused(&format!("durability = \"fsync\"\n{MINIMAL}"), &["did you mean `history.durability`?"]);
    let set = format!("{MINIMAL}subscribe = {{ jwks_uri = \"https://e\" }}");
    refused(&set, &["`jwks`, the address of a key set"]);
}

#[test]
fn admin_token_is_long_enough_and_comes_from_one_place() {
    refused(&format!("{MINIMAL}[admin]\ntoken = \"short\""), &["16 visible characters", "openssl"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let config = load(&format!("{MINIMAL}[admin]\ntoken_file = {file:?}")).unwrap();
    assert_eq!(config.admin.token.as_deref(), Some("0123456789abcdef"));
    assert!(!format!("{:?}", config.admin).contains("0123"));
    let both = format!("{MINIMAL}[admin]\ntoken = \"0123456789abcdef\"\ntoken_file = {file:?}");
    refused(&both, &["set one of them"]);
    refused(&format!("{MINIMAL}[admin]\ntoken_file = \"/nowhere/token\""), &["cannot read"]);
}

#[test]
fn key_sets_are_checked_without_a_network() {
    let with = |key: &str| format!("{MINIMAL}subscribe = {{ {key} }}");
    let config =
        load(&with("jwks = \"https://unreachable.invalid/keys\", algorithms = [\"ES256\"]"));
    let options = config.unwrap().auth.issuer[0].subscribe.clone().unwrap();
    assert_eq!(options.algorithms, ["ES256"]);
    for (key, message) in [
        ("jwks = \"http://issuer.example/keys\"", "is not https://"),
        ("jwks = \"https://e/keys\", key = \"k\"", "set one of"),
        ("jwks = \"https://e/keys\", algorithm = \"ES256\"", "`algorithm` has no effect here"),
        ("jwks = \"https://e/keys\", algorithms = [\"HS256\"]", "does not take \"HS256\""),
        ("jwks = \"file:///nowhere/keys.json\"", "cannot read /nowhere/keys.json"),
        (
            "key = \"0123456789abcdef0123456789abcdef\", algorithms = [\"ES256\"]",
            "one key takes one",
        ),
    ] {
        refused(&with(key), &[message]);
    }
}

#[test]
fn the_cookie_has_a_name_or_is_off() {
    let cookie = |value: &str| load(&format!("{MINIMAL}[mercure]\ncookie = {value}"));
    assert_eq!(cookie("'off'").unwrap().mercure.cookie, None);
    assert_eq!(cookie("'__Host-t'").unwrap().mercure.cookie.as_deref(), Some("__Host-t"));
    let default = load(MINIMAL).unwrap().mercure.cookie;
    assert_eq!(default.as_deref(), Some(tidings_frontends::limits::COOKIE_DEFAULT));
    for wrong in ["''", "'a b'", "'a;b'", "'a=b'", "'é'"] {
        refused(
            &format!("{MINIMAL}[mercure]\ncookie = {wrong}"),
            &["`cookie` has", "which no cookie can be called"],
        );
    }
    refused(&format!("{MINIMAL}[mercure]\ncookie = true"), &["takes the name of a cookie"]);
}

#[test]
fn secrets_are_never_shown() {
    for text in [
        "[[auth.issuer]]\nid = 'a'\npublish = { key = \"hunter2\", algoritm = \"HS256\" }",
        "[[auth.issuer]]\nid = 'a'\npublish = { ky = \"hunter2\" }",
        "[[auth.issuer]]\nid = 'a'\npublish = \"hunter2\"",
        "[[auth.issuer]]\nid = 'a'\n[auth.issuer.publish]\nkey \"hunter2\"",
        "[[auth.issuer]]\nid = 'a'\npublish = { key = \"hunter2\"",
        "[[auth.issuer]]\nid = 'a'\npublish = { key = [\"hunter2\"] }",
        "[[auth.issuer]]\nid = 'a'\n[auth.issuer.publish]\nkey = \"\"\"\nhunter2\nhunter2",
        "[admin]\ntoken = \"hunter2\" listen = 1",
        "[admin]\ntoken = \"hunter2\"",
        "[admin]\ntoken = [\"hunter2\"]\npassword = \"hunter2\"",
        "public_url = \"https://me:hunter2@example.com\"",
        "public_url = \"https://me:hunter2example.com\"",
        "[[sink]]\nkind = \"webhook\"\nurl = \"https://me:hunter2a.example/\"",
        "[[sink]]\nkind = \"webhook\"\nurl = \"me:hunter2\"",
        "[[sink]]\nkind = \"nats\"\nurl = \"nats://a,me:hunter2\"",
        "[[source]]\nkind = \"nats\"\nurl = \"nats://me:hunter2 @a\"",
        "[[sink]]\nkind = \"x\"\nurl = \"amqp://hunter2\"\nheaders = { a = [\"hunter2\"] }",
        "hunter2",
        "hunter2 = ",
    ] {
        let report = load(text).unwrap_err();
        // An unknown name itself is shown: it is no value.
        let shown = report.contains("hunter2") && !text.starts_with("hunter2");
        assert!(!shown, "{text}\n{report}");
    }
    let secret = ("TIDINGS_ADMIN_TOKENN", "hunter2");
    let json = ("TIDINGS_AUTH_ISSUER", r#"[{"id": "a", "publish": {"kye": "hunter2"}}]"#);
    for variable in [secret, json] {
        let report = load_under(MINIMAL, &[variable].into()).unwrap_err();
        assert!(!report.contains("hunter2"), "{report}");
    }
    let debug = format!("{:?}", load(MINIMAL).unwrap());
    assert!(!debug.contains("0123456789abcdef"), "{debug}");
}

#[test]
fn secrets_in_the_wrong_place_are_not_shown() {
    const SECRET: &str = "c2VjcmV0/c2VjcmV0c2VjcmV0+c2VjcmV0c2VjcmV0c2VjcmV0";
    let issuer = "[[auth.issuer]]\nid = 'a'\npublish";
    for text in [
        format!("{issuer} = {{ key_file = '{SECRET}' }}"),
        format!("{issuer} = {{ key_file = 'hunter2 {SECRET}' }}"),
        format!("{issuer}.key_file = '{SECRET}'"),
        format!("{issuer} = {{ key = 'k', algorithm = '{SECRET}' }}"),
        format!("listen = '{SECRET}'"),
        format!("public_url = '{SECRET}'"),
        format!("auth.anonymous = '{SECRET}'"),
        format!("mercure.heartbeat = '{SECRET}'"),
        format!("mercure.cors_origins = ['{SECRET}']"),
        format!("http.trusted_proxies = ['{SECRET}']"),
        format!("history.keep.size = '{SECRET}'"),
        format!("hub_path = '{SECRET}'"),
    ] {
        let report = load(&text).unwrap_err();
        assert!(!report.contains("c2VjcmV0"), "{text}\n{report}");
    }
    for name in ["PUBLISH_KEY_FILE", "PUBLISH_KEY_FILE_FILE", "PUBLISH_ALGORITHM", "ID_FILE"] {
        let name = format!("TIDINGS_AUTH_ISSUER_0_{name}");
        let report = load_under(MINIMAL, &[(name.as_str(), SECRET)].into()).unwrap_err();
        assert!(!report.contains("c2VjcmV0"), "{report}");
    }
    let report = load(&format!("{issuer} = {{ key_file = '/nowhere/a.key' }}")).unwrap_err();
    assert!(report.contains("cannot read /nowhere/a.key"), "{report}");
    assert!(report.contains("key_file = '/nowhere/a.key'"), "{report}");
}

#[test]
fn variables_are_over_the_file() {
    let config = load_under(
        &format!("{MINIMAL}[mercure]\ncors_origins = [\"https://a.example\"]\nheartbeat = \"20s\""),
        &[
            ("TIDINGS_LISTEN", "127.0.0.1:1, [::1]:2"),
            ("TIDINGS_HISTORY_DURABILITY", "memory"),
            ("TIDINGS_HISTORY_KEEP_ENTRIES", "7"),
            ("TIDINGS_HTTP_CONNECTIONS_MAX", "9"),
            ("TIDINGS_AUTH_ANONYMOUS", "true"),
            ("TIDINGS_MERCURE__CORS_ORIGINS", r#"["https://b.example", "null"]"#),
            ("TIDINGS_LOG_FORMAT", ""),
        ]
        .into(),
    )
    .unwrap();
    assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
    assert_eq!(config.history.path, None);
    assert_eq!(config.history.keep.entries, Some(7));
    assert_eq!(config.http.connections_max, 9);
    assert!(config.auth.anonymous);
    assert_eq!(config.mercure.cors_origins, ["https://b.example", "null"]);
    assert_eq!(config.mercure.heartbeat, Some(Duration::from_secs(20)));
    assert_eq!(config.log.format, LogFormat::Text);
}

#[test]
fn wrong_variables_are_named() {
    let variables = [("TIDINGS_HISTORY_DURABILITY", "disk"), ("TIDINGS_AUTH_ANONYMOUS", "maybe")];
    let report = load_under(MINIMAL, &variables.into()).unwrap_err();
    for part in ["TIDINGS_HISTORY_DURABILITY: `durability`", "TIDINGS_AUTH_ANONYMOUS: ", "2 mist"] {
        assert!(report.contains(part), "{report}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let key = "publish = { key = \"0123456789abcdef0123456789abcdef\" }";
    refused("", &["nobody could publish"]);
    refused(
        &format!("[[auth.issuer]]\nid = 'a'\n{key}"),
        &["`public_url` is needed", "tidings.toml:1:"],
    );
    refused(
        &format!("{MINIMAL}[[auth.issuer]]\nid = 'https://example.com'\n{key}"),
        &["is there twice"],
    );
    refused(&format!("{MINIMAL}[[auth.issuer]]\nid = 'b'"), &["has no key"]);
    refused(&format!("{MINIMAL}[[auth.issuer]]\n{key}"), &["`id` is missing", "id = \"https"]);
    refused(&format!("{MINIMAL}accept = []"), &["`accept` is empty"]);
    refused(&format!("{MINIMAL}accept = [\"2.0\"]"), &["takes 1.0, 0.x"]);
    refused(&format!("{MINIMAL}subscribe = {{ kid = \"1\" }}"), &["set `key` or `key_file`"]);
    refused(
        &format!("{MINIMAL}subscribe = {{ key = \"k\", key_file = \"f\" }}"),
        &["set one of `key`"],
    );
    refused(
        &format!("{MINIMAL}[history]\ndurability = \"memory\"\npath = \"/x\""),
        &["has no file", "tidings.toml:8:8"],
    );
    refused(
        &format!("{MINIMAL}[history]\nkeep = {{ size = \"64 MiB\" }}"),
        &["two files of 64 MiB"],
    );
    refused(&format!("{MINIMAL}[history]\nkeep = {{ age = \"0s\" }}"), &["nothing would be kept"]);
    refused(&format!("{MINIMAL}[history]\nsegment_size = \"1 KiB\""), &["1 MiB to 64 MiB"]);
    refused(&format!("{MINIMAL}[mercure]\nheartbeat = \"10ms\""), &["too short"]);
    refused(&format!("{MINIMAL}[admin]\nlisten = \"0.0.0.0:3000\""), &["listened on twice"]);
    refused(
        &format!("{MINIMAL}[log]\nlevel = \"inof\""),
        &["`level` names", "did you mean \"info\"?"],
    );
    refused(&format!("hub_path = \"/a/../b\"\n{MINIMAL}"), &["it takes a plain path"]);
    refused(&format!("{MINIMAL}[mercure]\ncors_origins = [\"https://a/\"]"), &["not an origin"]);
    let shown = format!("{MINIMAL}[mercure]\ncors_origins = [\"https://u:hush@a\"]");
    refused(&shown, &["has \"https://…\", which is not an origin"]);
    refused(&MINIMAL.replace("hub.example.com", "hub.example.com//x"), &["two slashes"]);
}

#[test]
fn keys_must_fit_their_algorithm() {
    let pem = "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----";
    let subscribe = |options: &str| format!("{MINIMAL}subscribe = {{ {options} }}");
    refused(&subscribe(&format!("key = \"{pem}\"")), &["HS256 needs a secret"]);
    refused(&subscribe("key = \"secret\", algorithm = \"RS256\""), &["needs a public key as PEM"]);
    let private = pem.replace("PUBLIC", "PRIVATE");
    refused(&subscribe(&format!("key = \"{private}\", algorithm = \"ES256\"")), &["a private key"]);
    refused(&subscribe("key = \"k\", algorithm = \"none\""), &["does not take \"none\""]);
    refused(&subscribe("key_file = \"/does/not/exist\""), &["cannot read /does/not/exist"]);
    refused(
        &subscribe(&format!("key = \"{pem}\", algorithm = \"EdDSA\"")),
        &["does not fit EdDSA"],
    );
    refused(&subscribe("key = \"too short\""), &["shorter than the 32 bytes", "tidings.toml:6:"]);
    let public = "../tidings-frontends/tests-data/p256.public.pem";
    assert!(load(&subscribe(&format!("key_file = \"{public}\", algorithm = \"ES256\""))).is_ok());
}

#[test]
fn well_known_key_needs_consent() {
    let text = MINIMAL.replace("0123456789abcdef0123456789abcdef", DEVELOPMENT_KEY);
    refused(&text, &["everybody can sign", "allow_weak_keys"]);
    let report = load(&text).unwrap_err();
    assert!(!report.contains(DEVELOPMENT_KEY), "{report}");
    assert!(load(&format!("{text}[auth]\nallow_weak_keys = true")).is_ok());
}

const KEY: (&str, &str) = ("MERCURE_PUBLISHER_JWT_KEY", "0123456789abcdef0123456789abcdef");

#[test]
fn environment_of_the_mercure_image_configures_a_hub() {
    let config = image([
        KEY,
        ("MERCURE_SUBSCRIBER_JWT_KEY", "fedcba9876543210fedcba9876543210"),
        ("MERCURE_SUBSCRIBER_JWT_ALG", "HS512"),
        ("SERVER_NAME", "http://hub.example:8080"),
        ("MERCURE_TRUSTED_ISSUERS", "https://a.example https://b.example"),
        (
            "MERCURE_EXTRA_DIRECTIVES",
            "# ours\nanonymous\ncors_origins https://a.example http://localhost:8000\n\
             heartbeat 30s\nwrite_timeout 0\nmax_request_body_size 2MiB\n\
             transport bolt {\n  path /data/mercure.db\n  size 1000\n}\n\
             protocol_version_compatibility 8\n\
             publish_origins https://a.example\ncookie_name access",
        ),
    ])
    .unwrap();
    assert_eq!(config.listen, ["0.0.0.0:8080".parse().unwrap()]);
    assert_eq!(config.public_url.as_str(), "http://hub.example:8080/");
    assert!(config.auth.anonymous);
    assert_eq!(config.auth.issuer.len(), 2);
    for issuer in &config.auth.issuer {
        assert_eq!(issuer.accept, [Generation::Final, Generation::Draft]);
        assert_eq!(issuer.subscribe.as_ref().unwrap().algorithm, "HS512");
    }
    assert_eq!(config.mercure.cors_origins, ["https://a.example", "http://localhost:8000"]);
    assert_eq!(config.mercure.publish_origins, ["https://a.example"]);
    assert_eq!(config.mercure.cookie.as_deref(), Some("access"));
    assert_eq!(config.mercure.heartbeat, Some(Duration::from_secs(30)));
    assert_eq!(config.mercure.connection_age_max, None);
    assert_eq!(config.mercure.update_size_max, 2 << 20);
    assert_eq!(config.history.path.as_deref(), Some("/data/tidings".as_ref()));
    assert_eq!(config.history.keep, Keep { age: None, size: None, entries: Some(1000) });
    assert_eq!(config.notes.len(), 1, "{:?}", config.notes);
}

#[test]
fn clients_of_the_image_are_bounded_by_address_once_its_proxies_are_known() {
    let limit = |name, value| image([KEY, (name, value)]).unwrap().http.connections_per_address_max;
    assert!(limit("SERVER_NAME", ":80") > 1_000_000);
    assert_eq!(limit("TIDINGS_HTTP_TRUSTED_PROXIES", "10.0.0.0/8"), 1_024);
    assert_eq!(limit("TIDINGS_HTTP_CONNECTIONS_PER_ADDRESS_MAX", "7"), 7);
    assert_eq!(load(MINIMAL).unwrap().http.connections_per_address_max, 1_024);
}

#[test]
fn a_public_name_of_the_image_means_tls_with_an_ordered_certificate() {
    let config = image([KEY, ("SERVER_NAME", "hub.example.com")]).unwrap();
    assert_eq!(config.public_url.as_str(), "https://hub.example.com/");
    assert_eq!(config.listen, ["0.0.0.0:80".parse().unwrap()]);
    assert_eq!(config.tls.listen, ["0.0.0.0:443".parse().unwrap()]);
    assert!(config.tls.redirect && config.tls.hsts.is_none());
    let acme = config.tls.acme.unwrap();
    assert_eq!(acme.domains, ["hub.example.com"]);
    assert_eq!(acme.folder, Path::new("/var/lib/tidings/acme"));
    assert!(config.notes[0].contains("terms of service"), "{:?}", config.notes);
    let memory = ("MERCURE_TRANSPORT_URL", "local://");
    let report = image([KEY, ("SERVER_NAME", "hub.example.com"), memory]).unwrap_err();
    assert!(report.contains("need a folder"), "{report}");
}

#[test]
fn tls_is_off_unless_something_listens() {
    let config = load(MINIMAL).unwrap();
    assert!(config.tls.listen.is_empty() && config.tls.acme.is_none() && !config.tls.redirect);
}

#[test]
fn image_without_a_known_url_speaks_the_older_generation() {
    let config = image([KEY, ("SERVER_NAME", ":80")]).unwrap();
    assert_eq!(config.auth.issuer[0].id, "https://localhost");
    assert_eq!(config.auth.issuer[0].accept, [Generation::Draft]);
    assert!(config.notes[0].contains("TIDINGS_PUBLIC_URL"));
    let url = ("TIDINGS_PUBLIC_URL", "https://hub.example");
    let config = image([KEY, ("SERVER_NAME", ":80"), url]).unwrap();
    assert_eq!(config.auth.issuer[0].accept, [Generation::Final, Generation::Draft]);
    let report = image([KEY, ("MERCURE_TRUSTED_ISSUERS", "https://a")]).unwrap_err();
    assert!(report.contains("`public_url` is needed"), "{report}");
}

#[test]
fn directives_without_an_equivalent_are_named() {
    for (directive, name) in [
        ("subscriptions yes", "`subscriptions`"),
        ("playground", "`playground`"),
        ("cookie_name", "wrong number of arguments"),
        ("cookie_name a=b", "which no cookie can be called"),
        ("dispatch_timeout 5s", "`dispatch_timeout`"),
        ("protocol_version_compatibility 7", "`protocol_version_compatibility`"),
        ("transport redis {\n}", "`transport`"),
        ("publish_origins example.com", "not an origin"),
        ("transport bolt {\n bucket_name x\n}", "`bucket_name`"),
        ("transport bolt {\n size 10\n cleanup_frequency 0.3\n}", "`cleanup_frequency`"),
        ("transport_url bolt://x?cleanup_frequency=0.3", "`cleanup_frequency`"),
        ("anonymus", "did you mean `anonymous`?"),
        ("anonymous yes", "wrong number of arguments"),
        ("issuer x {\n publisher {\n jwks x\n}\n}", "`jwt KEY ALGORITHM`"),
        (
            "issuer https://x {\n authorization_server\n publisher {\n jwt k\n}\n}",
            "keys for one role",
        ),
        ("transport bolt {", "a block is not closed"),
    ] {
        let text = format!("cors_origins *\n{directive}");
        let report = image([KEY, ("MERCURE_EXTRA_DIRECTIVES", &text)]).unwrap_err();
        assert!(report.contains(name), "{report}");
        assert!(report.contains("MERCURE_EXTRA_DIRECTIVES, line 2: "), "{report}");
    }
    for (name, value, part) in [
        ("SERVER_NAME", "localhost", "needs TLS"),
        ("CADDY_EXTRA_CONFIG", "x", "no equivalent"),
        ("MERCURE_SUBSCRIBER_JWT_KYE", "hunter2", "did you mean MERCURE_SUBSCRIBER_JWT_KEY?"),
    ] {
        let report = image([KEY, (name, value)]).unwrap_err();
        assert!(report.contains(part) && report.contains(name), "{report}");
        assert!(!report.contains("hunter2"), "{report}");
    }
    assert!(image([KEY, ("MERCURE_URL", "http://hub"), ("MERCURE_PORT", "tcp://1")]).is_ok());
}

#[test]
fn key_sets_and_metadata_of_the_image_are_read() {
    let text = "issuer https://set.example {\n publisher {\n jwks_uri https://set.example/k ES256\n}\n}\n\
                issuer https://found.example {\n authorization_server\n}";
    let url = ("TIDINGS_PUBLIC_URL", "https://hub.example");
    let config = image([KEY, ("MERCURE_EXTRA_DIRECTIVES", text), url]).unwrap();
    let [_, set, found] = &config.auth.issuer[..] else { panic!("{:?}", config.auth) };
    let publish = set.publish.as_ref().unwrap();
    assert_eq!(publish.jwks.as_deref(), Some("https://set.example/k"));
    assert_eq!(publish.algorithms, ["ES256"]);
    assert!(found.discover && found.publish.is_none() && !set.discover);
}

#[test]
fn issuers_of_the_image_keep_their_own_keys() {
    let text = "issuer https://own {\n publisher {\n jwt {env.OWN} HS384\n }\n}\n\
                resource_identifier https://hub.example/.well-known/mercure";
    let own = ("OWN", "own key own key own key own key own key own key.");
    let config = image([KEY, own, ("MERCURE_EXTRA_DIRECTIVES", text)]).unwrap();
    assert_eq!(config.public_url.as_str(), "https://hub.example/");
    let issuer = &config.auth.issuer[1];
    assert_eq!(issuer.id, "https://own");
    assert_eq!(issuer.accept, [Generation::Final]);
    assert_eq!(issuer.publish.as_ref().unwrap().algorithm, "HS384");
    assert_eq!(issuer.publish.as_ref().unwrap().key.as_deref(), Some(own.1));
}

#[test]
fn environment_of_an_older_hub_configures_one() {
    let config = image([
        ("JWT_KEY", KEY.1),
        ("CORS_ALLOWED_ORIGINS", "https://a.example,https://b.example"),
        ("ALLOW_ANONYMOUS", "1"),
        ("ADDR", ":3333"),
        ("DB_PATH", "/data/updates.db"),
        ("LOG_FORMAT", "JSON"),
        ("HEARTBEAT_INTERVAL", "0"),
        ("PUBLISH_ALLOWED_ORIGINS", "https://a.example,https://b.example"),
    ])
    .unwrap();
    assert_eq!(config.listen, ["0.0.0.0:3333".parse().unwrap()]);
    assert!(config.auth.anonymous);
    assert_eq!(config.mercure.cors_origins.len(), 2);
    assert_eq!(config.mercure.publish_origins.len(), 2);
    assert_eq!(config.mercure.heartbeat, None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.history.path.as_deref(), Some("/data/tidings".as_ref()));
    assert_eq!(config.auth.issuer[0].accept, [Generation::Draft]);
    let report = image([("JWT_KEY", KEY.1), ("METRICS", "1")]).unwrap_err();
    assert!(report.contains("METRICS: has no equivalent"), "{report}");
    for name in ["ACME_HOSTS", "CERT_FILE"] {
        let report = image([("JWT_KEY", KEY.1), (name, "x")]).unwrap_err();
        assert!(report.contains(&format!("{name}: is not read")), "{report}");
        assert!(report.contains("TIDINGS_TLS_CERTIFICATE"), "{report}");
    }
    // Without a key of an older hub, such names are somebody else's.
    let report = image([("ADDR", "nonsense")]).unwrap_err();
    assert!(!report.contains("ADDR"), "{report}");
}

#[test]
fn hub_without_any_configuration_is_told_what_to_do() {
    let report = image([]).unwrap_err();
    assert!(report.contains("tidings dev"), "{report}");
}

#[test]
fn file_that_is_not_there_or_not_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidings.toml");
    assert!(super::load(Some(&path)).unwrap_err().report(false).contains("tidings.toml"));
    std::fs::write(&path, b"listen = 1\n\xff").unwrap();
    let report = super::load(Some(&path)).unwrap_err().report(false);
    assert!(report.contains("line 2 is not UTF-8"), "{report}");
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    let report = super::load(Some(&path)).unwrap_err().report(false);
    assert!(report.contains("larger than 1 MiB"), "{report}");
}

proptest! {
    #[test]
    fn no_file_panics(text in r#"([a-z_.]{1,12}|[\[\]{}=",#'\n ]|"|é|0x1|1.5|listen|auth|key|issuer){0,40}"#) {
        fuzz_config(text.as_bytes());
    }

    #[test]
    fn damaged_reference_never_panics(at in 0usize..9_000, byte: u8) {
        let mut text = reference().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        fuzz_config(&text);
    }

    #[test]
    fn no_directives_panic(text in r#"(issuer|transport|bolt|size|jwt|[a-z{}"`#\\$:\n ]){0,40}"#) {
        fuzz_directives(text.as_bytes());
    }
}
