//! The same checks as a verification, but all of them, with what was found and what would pass. For
//! the operator's own eyes: findings quote the token's claims, never its signature or a key.

use serde_json::Value;

use super::issuer::Issuer;
use super::jwt::{self, Compact, DETAILS, LEGACY, LEGACY_NAMESPACED};
use super::problem::TokenCause;
use super::verify::{Check, Route, signer};
use super::{Auth, Generation, Role, claims};
use crate::limits::{FINDING_CHARS_MAX, TOKEN_BYTES_MAX};

/// One check of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was checked: a claim or a part of the token.
    pub check: &'static str,
    /// What the token has there.
    pub found: String,
    /// What passes there.
    pub wanted: String,
    /// Why it does not pass; `None` when it does.
    pub problem: Option<TokenCause>,
}

impl Auth {
    /// Every check of a token in one role at `now`, in milliseconds since 1970. The token is
    /// accepted when no finding has a problem. Checks that need one before them to pass are left
    /// out when it does not.
    pub fn explain(&self, token: &str, role: Role, now: u64) -> Vec<Finding> {
        let length = token.len();
        let finding = |check, found: String, wanted: &str, problem| Finding {
            check,
            found,
            wanted: wanted.to_owned(),
            problem,
        };
        let form = "three parts of base64url: a JSON header, a JSON payload, a signature";
        let token = match jwt::read(token) {
            Ok(token) => token,
            Err(cause) => {
                let shorter = format!("{TOKEN_BYTES_MAX} bytes at most");
                let wanted = if cause == TokenCause::TooLong { &shorter } else { form };
                return vec![finding("form", format!("{length} bytes"), wanted, Some(cause))];
            }
        };
        let mut findings = vec![finding("form", format!("{length} bytes"), form, None)];
        match self.route(&token) {
            Ok(route) => {
                findings.push(self.issuer_finding(&token, Some(&route), None));
                findings.push(algorithm_finding(&token, &route, role));
                let signer = signer(&route, &token, role).map(|signer| signer.issuer);
                findings.push(signature_finding(&route, role, &signer));
                // Without a signer, the first candidate's rules tell what would be looked at.
                if let Some(issuer) = signer.ok().or(route.issuers.first().copied()) {
                    findings.extend(
                        Check::of(route.generation).iter().map(|check| {
                            check_finding(*check, &token, route.generation, issuer, now)
                        }),
                    );
                }
                findings.push(self.grant_finding(&token, route.generation, role));
            }
            Err(problem) => {
                findings.push(self.issuer_finding(&token, None, Some(problem.cause)));
                // Whose key it was cannot be said; the rest is as for any issuer.
                let generation = problem.generation;
                if let Some(issuer) = self.issuers.first() {
                    findings.extend(
                        Check::of(generation)
                            .iter()
                            .map(|check| check_finding(*check, &token, generation, issuer, now)),
                    );
                }
                findings.push(self.grant_finding(&token, generation, role));
            }
        }
        findings
    }

    /// The checks that a refused token fails, with what was found and what would pass, in one line
    /// of bounded length for the operator's log. Empty when all pass, as for a revoked token.
    /// `topics` says whether topics may be shown.
    pub fn failed_checks(&self, token: &str, role: Role, now: u64, topics: bool) -> String {
        let findings = self.explain(token, role, now);
        let failed = findings.iter().filter(|finding| finding.problem.is_some());
        let words = |finding: &Finding| {
            let is_grant = [DETAILS, LEGACY, LEGACY_NAMESPACED].contains(&finding.check);
            let found = if is_grant && !topics {
                "not shown without log.topics".to_owned()
            } else {
                shortened(&finding.found)
            };
            format!("{}: {found}, would pass: {}", finding.check, shortened(&finding.wanted))
        };
        failed.map(words).collect::<Vec<_>>().join("; ")
    }

    fn issuer_finding(
        &self,
        token: &Compact<'_>,
        route: Option<&Route<'_>>,
        problem: Option<TokenCause>,
    ) -> Finding {
        let mut wanted: Vec<String> = Vec::new();
        for issuer in self.issuers.iter().filter(|issuer| !issuer.is_own) {
            let generations = match (issuer.accepts_draft, issuer.accepts_final) {
                (true, true) => "1.0 and 0.x",
                (true, false) => "0.x",
                (false, _) => "1.0",
            };
            wanted.push(format!("{:?} for {generations}", issuer.id));
        }
        if self.accepts(Generation::Draft) {
            wanted.push("any other or none for 0.x".to_owned());
        }
        let judged = match route.map(|route| route.generation) {
            Some(Generation::Draft) => ", judged as 0.x",
            Some(Generation::Final) => ", judged as 1.0",
            None => "",
        };
        let found = format!("{}{judged}", shown(token.claims.get("iss")));
        Finding { check: "iss", found, wanted: wanted.join(", "), problem }
    }

    fn grant_finding(&self, token: &Compact<'_>, generation: Generation, role: Role) -> Finding {
        let (name, wanted) = match generation {
            Generation::Final => (
                DETAILS,
                format!(
                    "a detail of type {:?} with the action {role} and topics",
                    claims::DETAIL_TYPE
                ),
            ),
            Generation::Draft if token.claims.contains_key(LEGACY_NAMESPACED) => {
                (LEGACY_NAMESPACED, format!("an object with a list {role}"))
            }
            Generation::Draft => (LEGACY, format!("an object with a list {role}")),
        };
        let granted = self.granted(token, generation, role);
        let found = match &granted {
            Ok(granted) if !granted.may => format!("nothing about {role}"),
            Ok(granted) => format!("{} topic matchers for {role}", granted.matchers.len()),
            Err(_) => shown(token.claims.get(name)),
        };
        Finding { check: name, found, wanted, problem: granted.err() }
    }
}

fn algorithm_finding(token: &Compact<'_>, route: &Route<'_>, role: Role) -> Finding {
    let keys: Vec<_> = route.issuers.iter().filter_map(|issuer| issuer.keys(role)).collect();
    let algorithms: Vec<_> = keys.iter().flat_map(|keys| keys.algorithms()).collect();
    let mut wanted: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let problem = if keys.is_empty() {
        Some(TokenCause::NoKey)
    } else if token.algorithm.is_some_and(|algorithm| algorithms.contains(&algorithm)) {
        None
    } else {
        Some(TokenCause::AlgorithmNotAllowed)
    };
    let found = shown(token.header.get("alg"));
    Finding { check: "alg", found, wanted: wanted.join(", "), problem }
}

fn signature_finding(
    route: &Route<'_>,
    role: Role,
    signer: &Result<&Issuer, TokenCause>,
) -> Finding {
    let found = match signer {
        Ok(issuer) => format!("made by the {role} key of {:?}", issuer.id),
        Err(_) => "not made by any key that may".to_owned(),
    };
    let ids: Vec<_> = route.issuers.iter().map(|issuer| format!("{:?}", issuer.id)).collect();
    let wanted = format!("the {role} key of {}", ids.join(" or "));
    Finding { check: "signature", found, wanted, problem: signer.clone().err() }
}

fn check_finding(
    check: Check,
    token: &Compact<'_>,
    generation: Generation,
    issuer: &Issuer,
    now: u64,
) -> Finding {
    let seconds = now / 1_000;
    let (name, found, wanted) = match check {
        Check::Type => ("typ", token.header.get("typ"), "at+jwt".to_owned()),
        Check::Expiry => {
            let absent = if generation == Generation::Draft { ", or none" } else { "" };
            ("exp", token.claims.get("exp"), format!("after now ({seconds}){absent}"))
        }
        Check::NotBefore => {
            ("nbf", token.claims.get("nbf"), format!("not after now ({seconds}), or none"))
        }
        Check::Audience => ("aud", token.claims.get("aud"), issuer.audience.join(" or ")),
        Check::Subject => ("sub", token.claims.get("sub"), "a text, or none".to_owned()),
        Check::TokenId => ("jti", token.claims.get("jti"), "a text, or none".to_owned()),
    };
    let problem = check.run(token, generation, issuer, now).err();
    Finding { check: name, found: shown(found), wanted, problem }
}

/// The beginning of a text for the operator's log, in which nothing ends the line.
pub(crate) fn shortened(text: &str) -> String {
    let shown = |character: char| if character.is_control() { ' ' } else { character };
    let mut short: String = text.chars().take(FINDING_CHARS_MAX).map(shown).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A claim as JSON text, which also keeps control characters off the operator's terminal.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;
    use tidings_core::Namespace;

    const NOW: u64 = 1_800_000_000;

    /// What is said of one check of a token that nobody signed.
    fn finding(check: &str, header: &Value, claims: &Value) -> Finding {
        let key = json!({ "key": "0123456789abcdef0123456789abcdef" });
        let issuer = json!({ "id": "i", "accept": ["1.0", "0.x"], "publish": key });
        let options = serde_json::from_value(json!({ "issuer": [issuer] })).unwrap();
        let namespace = Namespace::new("https://hub.example/hub".parse().unwrap());
        let auth = Auth::offline(&options, &namespace).unwrap();
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let token = format!("{}.{}.", encode(header), encode(claims));
        let findings = auth.explain(&token, Role::Publish, NOW * 1_000);
        findings.into_iter().find(|one| one.check == check).unwrap()
    }

    #[test]
    fn findings_quote_the_token_and_say_what_would_pass() {
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let last = json!({ "iss": "i", "exp": 7, "authorization_details": [] });
        let draft = json!({ "iss": "i", "exp": 7, "mercure": {} });
        let found = |check, claims| {
            let one = finding(check, &header, claims);
            (one.found, one.wanted)
        };
        let expiry = ("7".to_owned(), format!("after now ({NOW})"));
        assert_eq!(found("exp", &last), expiry);
        assert_eq!(found("exp", &draft), (expiry.0, format!("{}, or none", expiry.1)));
        assert_eq!(found("nbf", &draft).0, "nothing");
        assert_eq!(found("typ", &last), ("\"JWT\"".to_owned(), "at+jwt".to_owned()));
        let (made, key) = found("signature", &last);
        assert_eq!(made, "not made by any key that may");
        assert_eq!(key, "the publish key of \"i\"");
    }

    #[test]
    fn the_claim_that_counts_is_the_one_that_is_explained() {
        let header = json!({ "alg": "HS256" });
        let said = |check, claims: Value| {
            let one = finding(check, &header, &claims);
            (one.found, one.wanted)
        };
        let wanted = "an object with a list publish".to_owned();
        let nothing = ("nothing about publish".to_owned(), wanted.clone());
        let two = ("2 topic matchers for publish".to_owned(), wanted.clone());
        let none = ("0 topic matchers for publish".to_owned(), wanted);
        assert_eq!(said("mercure", json!({ "mercure": {} })), nothing);
        assert_eq!(said("mercure", json!({ "mercure": { "publish": [] } })), none);
        assert_eq!(said("mercure", json!({ "mercure": { "publish": ["a", "b"] } })), two);
        let both = json!({ LEGACY: { "publish": ["*"] }, LEGACY_NAMESPACED: {} });
        assert_eq!(said(LEGACY_NAMESPACED, both), nothing);
        let bad = said(LEGACY_NAMESPACED, json!({ LEGACY_NAMESPACED: [1] }));
        assert_eq!(bad.0, "[1]");
    }
}
