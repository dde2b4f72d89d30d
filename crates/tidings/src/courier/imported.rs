//! What an import has done, in one line for people. Knows nothing of what it counts.

use crate::limits::IMPORT_PROBLEMS_SHOWN_MAX;

/// How many of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    /// That were brought.
    pub(super) new: u64,
    /// That were brought before.
    pub(super) there: u64,
}

impl Counted {
    pub(super) fn count(&mut self, is_new: bool) {
        *(if is_new { &mut self.new } else { &mut self.there }) += 1;
    }
}

/// What was brought, or what would be.
#[derive(Debug, Default)]
pub struct Imported {
    pub(super) audiences: Counted,
    pub(super) renamed: u64,
    pub(super) topics: Counted,
    pub(super) messages: Counted,
    pub(super) left_out: u64,
    pub(super) is_dry: bool,
    /// What people should know, the first of it, by ids alone.
    pub problems: Vec<String>,
}

impl Imported {
    /// One line for people.
    pub fn report(&self) -> String {
        let would = if self.is_dry { "would bring " } else { "" };
        let kind = |name: &str, counted: Counted| {
            format!("{name}: {} new, {} there already", counted.new, counted.there)
        };
        let renamed = match self.renamed {
            0 => String::new(),
            count => format!(", {count} renamed"),
        };
        format!(
            "{would}{}{renamed}; {}; {}; left out: {}\n",
            kind("audiences", self.audiences),
            kind("topics", self.topics),
            kind("messages", self.messages),
            self.left_out
        )
    }

    pub(super) fn leave_out(&mut self, what: &str, id: &str, why: &str) {
        self.left_out += 1;
        self.say(format!("left out: {what} {id}: {why}"));
    }

    pub(super) fn say(&mut self, problem: String) {
        if self.problems.len() < IMPORT_PROBLEMS_SHOWN_MAX {
            self.problems.push(problem);
        }
    }
}
