//! What is minted is accepted by the hub's own checks, and explained when it is not.

use clap::Parser;
use serde_json::json;
use tidings_core::Namespace;
use tidings_frontends::auth::Options;

use super::mint::{Lifetime, mint_at};
use super::{ExplainArguments, Explanation, MintArguments, MintError, decode, explain};

const HUB: &str = "https://hub.example/.well-known/mercure";
const NOW: u64 = 1_800_000_000;
const SECRET: &str = "one secret for both roles, long enough";

#[derive(Parser)]
struct Mint {
    #[command(flatten)]
    arguments: MintArguments,
}

fn options(accept: &[&str]) -> Options {
    let key = json!({ "key": SECRET });
    serde_json::from_value(json!({ "issuer": [
        { "id": "https://issuer.example", "accept": accept, "publish": key, "subscribe": key },
    ] }))
    .unwrap()
}

fn namespace() -> Namespace {
    Namespace::new(HUB.parse().unwrap())
}

fn arguments(line: &str) -> MintArguments {
    let words = std::iter::once("mint").chain(line.split_ascii_whitespace());
    Mint::try_parse_from(words).unwrap().arguments
}

fn minted(line: &str, options: &Options) -> Result<String, MintError> {
    let mut arguments = arguments(line);
    arguments.complete_from(options, namespace().hub_url())?;
    mint_at(&arguments, NOW)
}

fn explained(token: &str, options: &Options, now: u64) -> Explanation {
    asked("", token, options, now)
}

#[derive(Parser)]
struct Explain {
    #[command(flatten)]
    arguments: ExplainArguments,
}

fn asked(line: &str, token: &str, options: &Options, now: u64) -> Explanation {
    let words = std::iter::once("explain").chain(line.split_ascii_whitespace());
    let arguments = Explain::try_parse_from(words).unwrap().arguments;
    explain(options, &namespace(), token, &arguments, now * 1_000).unwrap()
}

#[test]
fn topics_are_judged_with_what_grants_them_or_why_nothing_does() {
    for accept in [&["1.0"][..], &["0.x"]] {
        let options = options(accept);
        let token = minted("--publish https://e.com/1 --publish * --subscribe urn:s", &options);
        let token = token.unwrap();
        let line = "--publish https://e.com/1 --publish urn:other --subscribe urn:s";
        let explanation = asked(line, &token, &options, NOW);
        let text = explanation.to_string();
        assert!(explanation.is_useful(), "{text}");
        assert!(text.contains("may publish to \"https://e.com/1\", by "), "{text}");
        assert!(text.contains("may publish to \"urn:other\", by every topic"), "{text}");
        assert!(text.contains("may read private updates of \"urn:s\", by "), "{text}");
        for (line, reason) in [
            ("--subscribe urn:other", "updates of \"urn:other\": nothing that it grants matches"),
            ("--publish /.well-known/mercure/x", "reserved for the hub itself"),
            ("--publish https://other.example/.well-known/%6Dercure", "reserved"),
        ] {
            let explanation = asked(line, &token, &options, NOW);
            let text = explanation.to_string();
            assert!(!explanation.is_useful(), "{text}");
            assert!(text.contains("may NOT") && text.contains(reason), "{text}");
        }
        let late = asked("--publish urn:x", &token, &options, NOW + 1_000_000);
        let text = late.to_string();
        assert!(text.contains("may NOT publish to \"urn:x\": the token is refused"), "{text}");
    }
}

#[test]
fn every_check_is_listed_also_behind_the_first_that_fails() {
    let options = options(&["1.0"]);
    let token = minted("--issuer https://issuer.example --publish *", &options).unwrap();
    let mut others = options.clone();
    others.issuer[0].id = "https://another.example".to_owned();
    let text = explained(&token, &others, NOW + 1_000_000).to_string();
    for check in ["FAIL  iss: ", "ok    typ: ", "FAIL  exp: ", "ok    nbf: ", "ok    aud: "] {
        assert!(text.contains(check), "{check}: {text}");
    }
    assert!(text.contains("ok    authorization_details: 1 topic matchers for publish"), "{text}");
}

#[test]
fn minted_tokens_are_accepted_and_explained() {
    for accept in [&["1.0"][..], &["0.x"], &["0.x", "1.0"]] {
        let options = options(accept);
        let token = minted("--publish https://e.com/1 --subscribe *", &options).unwrap();
        let explanation = explained(&token, &options, NOW);
        let text = explanation.to_string();
        assert!(explanation.is_useful(), "{text}");
        assert!(!text.contains("FAIL"), "{text}");
        assert!(text.contains("https://e.com/1") && text.contains("grants every topic"), "{text}");
        assert!(!text.contains(&token) && !text.contains(SECRET), "{text}");
        let generation = if accept.contains(&"1.0") { "judged as 1.0" } else { "judged as 0.x" };
        assert!(text.contains(generation), "{text}");
    }
}

#[test]
fn explanations_name_the_check_that_fails_and_what_would_pass() {
    let options = options(&["1.0"]);
    let token = minted("--publish a --audience https://other.example", &options).unwrap();
    let explanation = explained(&token, &options, NOW + 3_600);
    assert!(!explanation.is_useful());
    let text = explanation.to_string();
    assert!(text.contains("To publish: refused"), "{text}");
    assert!(text.contains("FAIL  exp: 1800003600"), "{text}");
    assert!(text.contains("FAIL  aud: [\"https://other.example\"]"), "{text}");
    assert!(text.contains(&format!("would pass: {HUB}")), "{text}");
    let text = explained("garbage\u{1b}[2J", &options, NOW).to_string();
    assert!(text.contains("FAIL  form") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn options_shape_the_token() {
    let options = options(&["1.0", "0.x"]);
    let line = "--subscribe /books/:id --match-type urlpattern --subject bob --lifetime 2m \
                --payload {\"name\":1} --kid one";
    let text = explained(&minted(line, &options).unwrap(), &options, NOW + 119).to_string();
    assert!(text.contains("To subscribe: accepted\n"), "{text}");
    assert!(text.contains("exp: 1800000120"), "{text}");
    let never = minted("--generation 0.x --publish * --lifetime never", &options).unwrap();
    assert!(explained(&never, &options, NOW * 1_000).is_useful());
}

#[test]
fn what_cannot_be_minted_says_why() {
    let options = options(&["1.0"]);
    let refused = |line: &str| minted(line, &options).unwrap_err().to_string();
    assert!(refused("").contains("grants nothing"));
    assert!(refused("--publish a --lifetime never").contains("--lifetime"));
    assert!(refused("--publish a --match-type glob").contains("glob"));
    assert!(refused("--publish a --issuer x").contains("\"x\""));
    assert!(refused("--subscribe a --payload []").contains("object"));
    assert!(refused("--subscribe a --payload {").contains("JSON"));
    assert!(refused("--publish a --algorithm none").contains("none"));
    assert!(refused("--publish a --algorithm RS256").contains("PKCS #8"));
    assert!(refused("--publish a --key-file /nowhere/key").contains("/nowhere/key"));
    assert!(matches!(mint_at(&arguments("--publish a"), NOW), Err(MintError::Needed("issuer"))));
    let draft = "--generation 0.x --publish a --match-type exact";
    assert!(refused(draft).contains("--match-type"));
}

#[test]
fn patterns_that_no_hub_takes_are_not_minted() {
    let both = options(&["1.0", "0.x"]);
    for line in [
        "--publish /books/:id( --match-type urlpattern",
        "--subscribe a/#/b --match-type mqtt",
        "--subscribe a.>.b --match-type nats",
    ] {
        let error = minted(line, &both).unwrap_err();
        assert!(matches!(error, MintError::Pattern { .. }), "{line}: {error}");
        let role = line.split(' ').next().unwrap();
        assert!(error.to_string().starts_with(role), "{error}");
    }
    for line in ["--publish * --match-type mqtt", "--subscribe /books/:id --match-type urlpattern"]
    {
        let token = minted(line, &both).unwrap();
        assert!(explained(&token, &both, NOW).is_useful(), "{line}");
    }
}

#[test]
fn times_of_a_token_are_dates() {
    let options = options(&["1.0"]);
    let token = minted("--publish a --lifetime 2m", &options).unwrap();
    let text = explained(&token, &options, NOW + 60).to_string();
    assert!(text.contains("exp: 1800000120 (2027-01-15T08:02:00Z, in 1m)"), "{text}");
    let text = explained(&token, &options, NOW + 180).to_string();
    assert!(text.contains("exp: 1800000120 (2027-01-15T08:02:00Z, 1m ago)"), "{text}");
}

#[test]
fn a_token_is_decoded_without_any_issuer() {
    let token = minted("--publish https://e.com/1 --subject b\u{9b}", &options(&["1.0"])).unwrap();
    let text = decode(&token, NOW * 1_000);
    assert!(text.contains("ok    form") && text.contains("https://e.com/1"), "{text}");
    assert!(text.contains("exp: 2027-01-15T09:00:00Z, in 1h"), "{text}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!text.contains(signature) && !text.contains('\u{9b}'), "{text}");
    let text = decode("garbage", NOW * 1_000);
    assert!(text.contains("FAIL  form: 7 bytes"), "{text}");
}

#[test]
fn keys_of_two_roles_do_not_sign_one_token() {
    let options: Options = serde_json::from_value(json!({ "issuer": [{
        "id": "i", "publish": { "key": SECRET }, "subscribe": { "key": SECRET.repeat(2) },
    }, {
        "id": "public", "publish": { "key_file": "k.pem", "algorithm": "ES256" },
    }] }))
    .unwrap();
    let error = minted("--publish a --subscribe a", &options);
    assert!(matches!(error, Err(MintError::TwoKeys(_))));
    assert!(
        explained(&minted("--subscribe a", &options).unwrap(), &options_of(&options), NOW)
            .is_useful()
    );
    let error = minted("--publish a --issuer public", &options);
    assert!(matches!(error, Err(MintError::PublicKeyOnly(_))));
}

fn options_of(options: &Options) -> Options {
    let mut options = options.clone();
    options.issuer.truncate(1);
    options
}

#[test]
fn a_private_key_file_signs_for_its_public_key() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../tidings-frontends/tests-data");
    for (name, algorithm) in
        [("p256", "ES256"), ("p384", "ES384"), ("rsa2048", "PS384"), ("ed25519", "EdDSA")]
    {
        let options = serde_json::from_value(json!({ "issuer": [{
            "id": "i",
            "publish": { "key_file": format!("{data}/{name}.public.pem"), "algorithm": algorithm },
        }] }))
        .unwrap();
        let line = format!("--publish a --key-file {data}/{name}.private.pem");
        let token = minted(&line, &options).unwrap();
        assert!(explained(&token, &options, NOW).is_useful(), "{algorithm}");
    }
}

#[test]
fn lifetimes_have_units() {
    for (text, seconds) in
        [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7_200), ("7d", 604_800), ("1h30m", 5_400)]
    {
        assert_eq!(text.parse(), Ok(Lifetime(Some(seconds))));
    }
    assert_eq!("never".parse(), Ok(Lifetime(None)));
    for bad in ["", "s", "-1s", "1x", "h1", "1h1", "99999999999999999999", "9999999999999999999d"] {
        assert!(bad.parse::<Lifetime>().is_err(), "{bad}");
    }
}

#[test]
fn a_token_is_read_with_or_without_its_scheme() {
    for text in ["abc", " abc\n", "Bearer abc", "bearer  abc "] {
        let arguments =
            ExplainArguments { token: Some(text.to_owned()), publish: vec![], subscribe: vec![] };
        assert_eq!(arguments.read_token().unwrap(), "abc");
        assert!(!format!("{arguments:?}").contains("abc"));
    }
}
