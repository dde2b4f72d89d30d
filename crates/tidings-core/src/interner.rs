//! One compiled matcher for equal patterns, for as long as somebody uses it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::limits::SWEEP_AT_MIN;
use crate::matcher::{BadPattern, Language, Matcher};
use crate::namespace::Namespace;

#[derive(Debug, Default)]
pub(crate) struct Interner {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    matchers: HashMap<(Language, Box<str>), Weak<Matcher>>,
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn matcher(
        &self,
        language: Language,
        pattern: &str,
        namespace: &Namespace,
    ) -> Result<Arc<Matcher>, BadPattern> {
        let key = (language, Box::from(pattern));
        if let Some(known) = self.lock().matchers.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        // Compiled outside the lock: a costly pattern makes nobody else wait.
        let fresh = Arc::new(Matcher::parse(language, pattern, namespace)?);
        let mut table = self.lock();
        if let Some(known) = table.matchers.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        table.matchers.insert(key, Arc::downgrade(&fresh));
        if table.matchers.len() >= table.sweep_at.max(SWEEP_AT_MIN) {
            table.matchers.retain(|_, matcher| matcher.strong_count() > 0);
            table.sweep_at = table.matchers.len() * 2;
        }
        Ok(fresh)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
