//! Says for each check of a token what was found and what would pass, and what the token grants.
//! Runs the hub's own checks with the hub's own options; decides nothing.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use tidings_core::{Candidate, Language, Matcher, Namespace, Topic};
use tidings_frontends::auth::{Auth, BadKeys, Finding, Generation, Options, Role};
use tidings_frontends::limits::TOKEN_BYTES_MAX;
use tidings_frontends::mercure::is_reserved_in_draft;

use super::dates;

/// What `tidings token explain` is told.
#[derive(Clone, clap::Args)]
pub(crate) struct ExplainArguments {
    /// The token; standard input when it is left out or `-`
    #[arg(value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Say whether it may publish to this topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) publish: Vec<String>,
    /// Say whether it may read private updates of this topic; may be repeated
    #[arg(long, value_name = "TOPIC")]
    pub(crate) subscribe: Vec<String>,
}

// By hand: a token never reaches a log through `{:?}`.
impl fmt::Debug for ExplainArguments {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ExplainArguments").finish_non_exhaustive()
    }
}

impl ExplainArguments {
    fn topics(&self, role: Role) -> &[String] {
        match role {
            Role::Publish => &self.publish,
            Role::Subscribe => &self.subscribe,
        }
    }

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
    /// What was asked about topics.
    pub(crate) verdicts: Vec<Verdict>,
}

/// Whether a topic may be used, and why.
#[derive(Debug)]
pub(crate) struct Verdict {
    topic: String,
    /// What grants it, or why nothing does.
    reason: Result<String, String>,
}

impl Explanation {
    /// Whether the token is accepted and grants something in at least one role, and all that was
    /// asked about.
    pub(crate) fn is_useful(&self) -> bool {
        let mut verdicts = self.roles.iter().flat_map(|role| &role.verdicts);
        if verdicts.any(|verdict| verdict.reason.is_err()) {
            return false;
        }
        self.roles.iter().any(|role| role.grants.as_ref().is_some_and(|list| !list.is_empty()))
    }
}

/// Matchers do not say what they were made of, so that is written down here, in words.
type Made = Vec<(Arc<Matcher>, String)>;

/// Runs every check on `token` at the time `now`, in milliseconds since 1970, as the hub of this
/// namespace would with these options; and says what it may do with the topics that `asked` names.
///
/// # Errors
/// When the options' keys cannot be used.
pub(crate) fn explain(
    options: &Options,
    namespace: &Namespace,
    token: &str,
    asked: &ExplainArguments,
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
        let verified = auth.verify(token, role, now).ok();
        let made = made.lock().unwrap_or_else(PoisonError::into_inner);
        let granted = verified.as_ref().map(|verified| {
            let matchers = match role {
                Role::Publish => &verified.grant.publish,
                Role::Subscribe => &verified.grant.subscribe,
            };
            let words = |matcher| made.iter().find(|(other, _)| Arc::ptr_eq(other, matcher));
            let granted: Granted<'_> = matchers
                .iter()
                .filter_map(|matcher| words(matcher).map(|(_, words)| (&**matcher, words.as_str())))
                .collect();
            (verified.generation, granted)
        });
        let verdict = |topic: &String| Verdict {
            topic: topic.clone(),
            reason: judge(topic, role, granted.as_ref(), namespace),
        };
        let verdicts = asked.topics(role).iter().map(verdict).collect();
        let words = |(_, granted): &(_, Granted<'_>)| {
            granted.iter().map(|(_, words)| (*words).to_owned()).collect()
        };
        let grants = granted.as_ref().map(words);
        InRole { role, findings, grants, verdicts }
    };
    let roles = vec![in_role(Role::Publish), in_role(Role::Subscribe)];
    Ok(Explanation { roles, unread })
}

/// Matchers of a token with their words.
pub(super) type Granted<'m> = Vec<(&'m Matcher, &'m str)>;

/// What grants a topic, or why nothing does.
pub(super) fn judge(
    topic: &str,
    role: Role,
    granted: Option<&(Generation, Granted<'_>)>,
    namespace: &Namespace,
) -> Result<String, String> {
    let (generation, granted) = granted.ok_or("the token is refused")?;
    Topic::parse(topic).map_err(|bad| bad.to_string())?;
    let candidate = Candidate::new(topic, namespace);
    if role == Role::Publish {
        if *generation == Generation::Final && topic == "*" {
            return Err("`*` is no topic in 1.0".to_owned());
        }
        let in_draft = *generation == Generation::Draft && is_reserved_in_draft(topic);
        if candidate.is_reserved() || in_draft {
            return Err("the topic is reserved for the hub itself".to_owned());
        }
    }
    let covering = granted.iter().find(|(matcher, _)| matcher.matches(&candidate));
    let words = covering.map(|(_, words)| (*words).to_owned());
    words.ok_or_else(|| "nothing that it grants matches the topic".to_owned())
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
        let what = match self.role {
            Role::Publish => "publish to",
            Role::Subscribe => "read private updates of",
        };
        for Verdict { topic, reason } in &self.verdicts {
            match reason {
                Ok(words) => writeln!(formatter, "  may {what} {topic:?}, by {words}")?,
                Err(reason) => writeln!(formatter, "  may NOT {what} {topic:?}: {reason}")?,
            }
        }
        Ok(())
    }
}
