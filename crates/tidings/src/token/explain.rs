//! Says for each check of a token what was found and what would pass, and what the token grants.
//! Runs the hub's own checks with the hub's own options; decides nothing.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::{Language, Matcher, Namespace};
use tidings_frontends::auth::{Auth, BadKeys, Finding, Options, Role};
use tidings_frontends::limits::TOKEN_BYTES_MAX;

use super::dates;

/// What `tidings token explain` is told.
#[derive(Clone, clap::Args)]
pub(crate) struct ExplainArguments {
    /// The token; standard input when it is left out or `-`
    #[arg(value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

// By hand: a token never reaches a log through `{:?}`.
impl fmt::Debug for ExplainArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExplainArguments").finish_non_exhaustive()
    }
}

impl ExplainArguments {
    /// The token without white space around it and without a `Bearer` before it.
    ///
    /// # Errors
    /// When standard input cannot be read as text.
    pub(crate) fn read_token(&self) -> std::io::Result<String> {
        let text = match self.token.as_deref() {
            Some(token) if token != "-" => token.to_owned(),
            _ => {
                let mut text = String::new();
                // Twice the limit shows that a token is too long, whatever stands around it.
                let limit = u64::try_from(2 * TOKEN_BYTES_MAX).unwrap_or(u64::MAX);
                std::io::stdin().lock().take(limit).read_to_string(&mut text)?;
                text
            }
        };
        let token = text.trim();
        let bare = token.split_once(' ').filter(|(name, _)| name.eq_ignore_ascii_case("bearer"));
        Ok(bare.map_or(token, |(_, bare)| bare.trim()).to_owned())
    }
}

/// A token looked at in both roles.
#[derive(Debug)]
pub(crate) struct Explanation {
    /// For publishing and for subscribing.
    pub(crate) roles: Vec<InRole>,
    /// Key sets that could not be read, and why: keys of theirs are not known here.
    pub(crate) unread: Vec<String>,
}

/// A token looked at in one role.
#[derive(Debug)]
pub(crate) struct InRole {
    /// The role.
    pub(crate) role: Role,
    /// Every check.
    pub(crate) findings: Vec<Finding>,
    /// What it grants, in words; `None` when it is refused.
    pub(crate) grants: Option<Vec<String>>,
}

impl Explanation {
    /// Whether the token is accepted and grants something in at least one role.
    pub(crate) fn is_useful(&self) -> bool {
        self.roles.iter().any(|role| role.grants.as_ref().is_some_and(|list| !list.is_empty()))
    }
}

/// Matchers do not say what they were made of, so that is written down here, in words.
type Made = Vec<(Arc<Matcher>, String)>;

/// Runs every check on `token` at the time `now`, in milliseconds since 1970, as the hub of this
/// namespace would with these options.
///
/// # Errors
/// When the options' keys cannot be used.
pub(crate) fn explain(
    options: &Options,
    namespace: &Namespace,
    token: &str,
    now: u64,
) -> Result<Explanation, BadKeys> {
    let made = Arc::new(Mutex::new(Made::new()));
    let (notes, own) = (Arc::clone(&made), namespace.clone());
    let auth = Auth::with_matchers(options, namespace, move |language, pattern| {
        let matcher = Arc::new(Matcher::parse(language, pattern, &own)?);
        let words = if matches!(*matcher, Matcher::Any) {
            "every topic".to_owned()
        } else {
            format!("{} {pattern:?}", name(language))
        };
        let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((Arc::clone(&matcher), words));
        Ok(matcher)
    })?;
    let unread = crate::app::read_key_sets(auth.key_sets(), now);
    let in_role = |role| {
        let mut findings = auth.explain(token, role, now);
        findings.iter_mut().for_each(|finding| date(finding, now));
        let grants = auth.verify(token, role, now).ok().map(|verified| {
            let matchers = match role {
                Role::Publish => &verified.grant.publish,
                Role::Subscribe => &verified.grant.subscribe,
            };
            let made = made.lock().unwrap_or_else(PoisonError::into_inner);
            let words = |matcher| made.iter().find(|(other, _)| Arc::ptr_eq(other, matcher));
            matchers.iter().filter_map(words).map(|(_, words)| words.clone()).collect()
        });
        InRole { role, findings, grants }
    };
    let roles = vec![in_role(Role::Publish), in_role(Role::Subscribe)];
    Ok(Explanation { roles, unread })
}

/// Adds the date to a claim that is a time.
fn date(finding: &mut Finding, now: u64) {
    let now = i64::try_from(now / 1_000).unwrap_or(i64::MAX);
    let seconds = finding.found.parse().ok().filter(|_| matches!(finding.check, "exp" | "nbf"));
    if let Some(date) = seconds.and_then(|seconds| dates::shown(seconds, now)) {
        finding.found.push_str(&format!(" ({date})"));
    }
}

fn name(language: Language) -> &'static str {
    match language {
        Language::Exact => "exact",
        Language::UrlPattern => "urlpattern",
        Language::UriTemplate => "uritemplate",
        Language::Mqtt => "mqtt",
        Language::Nats => "nats",
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, role) in self.roles.iter().enumerate() {
            if number > 0 {
                writeln!(formatter)?;
            }
            write!(formatter, "{role}")?;
        }
        self.unread.iter().try_for_each(|problem| writeln!(formatter, "\n{problem}"))
    }
}

impl fmt::Display for InRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match &self.grants {
            Some(list) if list.is_empty() => "accepted, grants nothing",
            Some(_) => "accepted",
            None => "refused",
        };
        writeln!(formatter, "To {}: {outcome}", self.role)?;
        for finding in &self.findings {
            let Finding { check, found, wanted, problem } = finding;
            match problem {
                None => writeln!(formatter, "  ok    {check}: {found}")?,
                Some(problem) => {
                    writeln!(formatter, "  FAIL  {check}: {found}")?;
                    writeln!(formatter, "        {problem}; would pass: {wanted}")?;
                }
            }
        }
        for granted in self.grants.iter().flatten() {
            writeln!(formatter, "  grants {granted}")?;
        }
        Ok(())
    }
}
