//! What a token is worth to a socket: by one token somebody may read, publish, or both. Whether it
//! is valid is `auth`'s business.

use std::sync::Arc;

use tidings_core::{Clock, Grant};

use crate::auth::{Auth, Generation, Role, TokenCause, TokenProblem, Verified};

/// What a token allows.
#[derive(Debug, Clone)]
pub(super) struct Right {
    pub(super) subscribe: Option<Arc<Verified>>,
    /// Only where it grants anything.
    pub(super) publish: Option<Arc<Verified>>,
}

impl Right {
    /// What is read by. Who may only publish reads what everybody may, and ends with its token.
    pub(super) fn grant(&self) -> Option<Arc<Grant>> {
        let verified = self.subscribe.as_ref().or(self.publish.as_ref())?;
        Some(Arc::clone(&verified.grant))
    }

    /// When it ends, in milliseconds since 1970 by the wall clock.
    pub(super) fn expires(&self) -> Option<u64> {
        let ends = [&self.subscribe, &self.publish].into_iter().flatten();
        ends.filter_map(|verified| verified.grant.expires).min()
    }
}

type Judged = Result<Arc<Verified>, TokenProblem>;

/// Judges a token in both roles, and once more where its key may have come into its issuer's set
/// since the set was read.
///
/// # Errors
///
/// Why it is worth nothing, for the operator's log.
pub(super) async fn judge(
    auth: &Auth,
    clock: &dyn Clock,
    token: &str,
) -> Result<Right, TokenCause> {
    let judged_by = auth.keys_generation();
    let both =
        || [Role::Subscribe, Role::Publish].map(|role| auth.verify(token, role, clock.wall()));
    let first = both();
    let [Err(one), Err(other)] = &first else { return right(first) };
    // Rare, and large: kept apart.
    let may_come = Box::pin(async {
        auth.key_may_come(&one.cause, judged_by).await
            || auth.key_may_come(&other.cause, judged_by).await
    });
    if may_come.await { right(both()) } else { right(first) }
}

/// The same for who may only read by it, whatever else it allows. A token that allows no reading is
/// worth nothing then, as to a stream.
///
/// # Errors
///
/// As of [`judge`].
pub(super) async fn judge_reader(
    auth: &Auth,
    clock: &dyn Clock,
    token: &str,
) -> Result<Right, TokenCause> {
    let judged_by = auth.keys_generation();
    let subscriber = || auth.verify(token, Role::Subscribe, clock.wall());
    let first = subscriber();
    let judged = match &first {
        Err(problem) if Box::pin(auth.key_may_come(&problem.cause, judged_by)).await => {
            subscriber()
        }
        _ => first,
    };
    let verified = judged.map_err(|problem| problem.cause)?;
    Ok(Right { subscribe: Some(verified), publish: None })
}

fn right([subscribe, publish]: [Judged; 2]) -> Result<Right, TokenCause> {
    let publish = publish.ok().filter(|verified| may_publish(verified));
    match subscribe {
        Err(problem) if publish.is_none() => Err(problem.cause),
        subscribe => Ok(Right { subscribe: subscribe.ok(), publish }),
    }
}

/// Whether the token is a publisher's at all.
fn may_publish(verified: &Verified) -> bool {
    match verified.generation {
        Generation::Draft => verified.may,
        Generation::Final => !verified.grant.publish.is_empty(),
    }
}
