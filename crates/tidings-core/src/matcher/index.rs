//! stub
use super::{Candidate, Matcher};
use std::sync::Arc;
/// stub
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MatcherId(usize);
impl MatcherId {
    /// stub
    pub fn new(i: usize) -> Self {
        Self(i)
    }
    /// stub
    pub fn index(self) -> usize {
        self.0
    }
}
/// stub
#[derive(Debug, Default)]
pub struct Index(Vec<(MatcherId, Arc<Matcher>)>);
impl Index {
    /// stub
    pub fn insert(&mut self, id: MatcherId, m: &Arc<Matcher>) {
        self.0.push((id, m.clone()));
    }
    /// stub
    pub fn remove(&mut self, id: MatcherId, _: &Matcher) {
        self.0.retain(|x| x.0 != id);
    }
    /// stub
    pub fn find(&self, c: &Candidate<'_>, f: &mut Vec<MatcherId>) {
        for (id, m) in &self.0 {
            if m.matches(c) {
                f.push(*id);
            }
        }
    }
}
