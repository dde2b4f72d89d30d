//! Which audience has which name: of one name there is one, and an id is one whatever it is called.
//! Knows no storage.

use std::collections::HashMap;
use std::sync::Arc;

use super::audiences::{Audience, AudienceProblem};
use crate::limits::{AUDIENCE_TEXT_CHARACTERS_MAX, AUDIENCES_MAX};

/// An audience that was brought from elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which one it is here, by its id: another one where its name was there.
    pub id: String,
    /// What became of it.
    pub how: How,
}

/// What became of an audience that was brought from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It was not there.
    New,
    /// It was there under this name.
    Known,
    /// It was there under another name, which is free now.
    Renamed,
    /// Another one has its name: what belongs to it belongs to that one from now on.
    Joined,
}

/// Audiences by name and by id.
#[derive(Default, Clone)]
pub(super) struct Known {
    pub(super) by_name: HashMap<String, Arc<Audience>>,
    pub(super) by_id: HashMap<String, Arc<Audience>>,
}

impl Known {
    /// Puts it in the place of the one of its id. What that one was called leads nowhere then.
    pub(super) fn put(&mut self, audience: Audience) -> Arc<Audience> {
        let audience = Arc::new(audience);
        let before = self.by_id.insert(audience.id.clone(), Arc::clone(&audience));
        let names = |before: &Arc<Audience>| self.by_name.get(&before.name) == Some(before);
        if let Some(before) = before.filter(names) {
            self.by_name.remove(&before.name);
        }
        if !audience.name.is_empty() {
            self.by_name.insert(audience.name.clone(), Arc::clone(&audience));
        }
        audience
    }

    /// Puts it there, unless its name is there.
    pub(super) fn take(&mut self, audience: Audience) -> Result<Taken, AudienceProblem> {
        if !is_name(&audience.name) {
            return Err(AudienceProblem::BadName);
        }
        if let Some(named) = self.by_name.get(&audience.name) {
            let how = if named.id == audience.id { How::Known } else { How::Joined };
            return Ok(Taken { id: named.id.clone(), how });
        }
        let how = match self.by_id.contains_key(&audience.id) {
            true => How::Renamed,
            false if self.by_id.len() >= AUDIENCES_MAX => {
                return Err(AudienceProblem::TooManyAudiences);
            }
            false => How::New,
        };
        Ok(Taken { id: self.put(audience).id.clone(), how })
    }
}

/// Whether somebody can have this name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && is_short(text)
}

/// Whether this is as long as names and topics are at most.
pub(super) fn is_short(text: &str) -> bool {
    text.chars().nth(AUDIENCE_TEXT_CHARACTERS_MAX).is_none()
}
