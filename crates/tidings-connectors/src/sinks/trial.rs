//! Trying a sink out: one made-up update, delivered at once and beside everything else. It stands
//! in no history, is not tried again, and nothing follows it.

use std::time::{Duration, Instant};

use serde_json::json;
use tidings_core::{Line, Topic, Update};
use tokio::sync::oneshot;

use super::Sinks;
use crate::connector::{Outcome, Run};
use crate::delivery::run::Command;

/// The topic of made-up updates, and their event type.
const TOPIC: &str = "tidings.test";

/// What became of a made-up update.
#[derive(Debug)]
pub struct Trial {
    /// What became of it.
    pub outcome: Outcome,
    /// How long that took.
    pub took: Duration,
}

impl Sinks {
    /// Delivers one made-up update by the system of a sink, whatever the sink's rate and standing
    /// are; `None` when there is no such sink. Takes as long as the system may.
    pub async fn test(&self, name: &str) -> Option<Trial> {
        let (to, from) = oneshot::channel();
        self.command(name, Command::Lend(to)).await.then_some(())?;
        let sink = from.await.ok()?;
        let time = self.around.clock.wall();
        // Another id each time: receivers may leave out what they know.
        let number = u32::try_from(time % u64::from(u32::MAX)).unwrap_or_default();
        let entry = self.around.hub.made_up(update(name)?, time, number);
        let began = Instant::now();
        let outcome = sink.deliver(Run { entries: vec![entry], tries: 0 }).await;
        Some(Trial { outcome, took: began.elapsed() })
    }
}

fn update(sink: &str) -> Option<Update> {
    let data = json!({ "test": true, "sink": sink }).to_string();
    let mut update = Update::new(Topic::parse(TOPIC).ok()?, data);
    update.content_type = Line::parse("application/json").ok();
    update.event_type = Line::parse(TOPIC).ok();
    Some(update)
}
