//! What a token says when no issuer is configured that could judge it. Verifies nothing but the
//! form, and never says that a token is good.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tidings_core::Namespace;
use tidings_frontends::auth::{Auth, Options, Role};
use url::Url;

use super::dates;
use crate::client::printable;

/// The claims that are times.
const TIMES: [&str; 3] = ["iat", "nbf", "exp"];

/// The header and the claims of a token, line by line, at the time `now` in milliseconds since
/// 1970; or what is wrong with its form.
pub(crate) fn decode(token: &str, now: u64) -> String {
    // The form does not depend on the hub.
    let hub = Url::parse("http://localhost/.well-known/mercure").expect("a constant URL");
    let findings = Auth::offline(&Options::default(), &Namespace::new(hub))
        .map(|auth| auth.explain(token, Role::Publish, now))
        .unwrap_or_default();
    let problem = findings.iter().find_map(|finding| {
        let problem = finding.problem.as_ref().filter(|_| finding.check == "form")?;
        Some(format!(
            "  FAIL  form: {}\n        {problem}; would pass: {}\n",
            finding.found, finding.wanted
        ))
    });
    if let Some(problem) = problem {
        return problem;
    }
    let mut parts = token.split('.').map(part);
    let (header, claims) = (parts.next().flatten(), parts.next().flatten());
    let mut text = format!("  ok    form: {} bytes\n", token.len());
    for (name, part) in [("header", &header), ("claims", &claims)] {
        let json = part.as_ref().map(Value::to_string).unwrap_or_default();
        text.push_str(&format!("  {name}: {}\n", printable(&json)));
    }
    let now = i64::try_from(now / 1_000).unwrap_or(i64::MAX);
    for name in TIMES {
        let time = claims.as_ref().and_then(|claims| claims.get(name)?.as_i64());
        if let Some(date) = time.and_then(|time| dates::shown(time, now)) {
            text.push_str(&format!("  {name}: {date}\n"));
        }
    }
    text
}

/// A part of a token as the JSON that it is.
pub(super) fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
