//! What a database holds becomes audiences, topics and entries of the history. Knows no SQL, and
//! nothing of folders.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use tidings_core::{Grant, Hub, Line, Refused, Update};
use tidings_frontends::courier::{
    Audience, AudienceProblem, Audiences, Dates, How, NotedTopic, topic,
};

use super::brought::{Brought, Id};
use super::database::{Found, Message, View};
use super::import::ImportProblem;
use super::imported::Imported;
use crate::limits::{IMPORT_PORTION, IMPORT_PORTION_BYTES};

/// Ids of audiences here, by those in the database.
type Ids = HashMap<String, String>;

/// Where things go.
pub(super) struct Bring<'h> {
    hub: &'h Hub,
    audiences: Audiences,
    brought: Brought<'h>,
    /// What was published last, and is not noted yet.
    published: Vec<Id>,
    imported: Imported,
}

/// Messages that are published together.
#[derive(Default)]
struct Portion {
    ids: Vec<Id>,
    updates: Vec<Update>,
    bytes: usize,
}

impl<'h> Bring<'h> {
    /// Into this hub, which has these audiences and knows what was brought.
    pub(super) fn new(hub: &'h Hub, audiences: Audiences, brought: Brought<'h>) -> Bring<'h> {
        let imported = Imported::default();
        Bring { hub, audiences, brought, published: Vec::new(), imported }
    }

    /// Into a hub that goes when this has been said. What was brought stands elsewhere, where
    /// nothing is written.
    pub(super) fn rehearsing(
        hub: &'h Hub,
        audiences: Audiences,
        brought: Brought<'h>,
    ) -> Bring<'h> {
        let imported = Imported { is_dry: true, ..Imported::default() };
        Bring { imported, ..Bring::new(hub, audiences, brought) }
    }

    /// Everything.
    pub(super) async fn all(mut self, view: &View<'_>) -> Result<Imported, ImportProblem> {
        let ids = self.audiences(view.audiences().await?)?;
        self.topics(view, &ids).await?;
        self.messages(view, &ids).await?;
        Ok(self.imported)
    }

    fn audiences(&mut self, found: Vec<Found>) -> Result<Ids, ImportProblem> {
        let mut wanted = Vec::with_capacity(found.len());
        for row in found {
            let dates = dates(&row);
            let Found { id, text, .. } = row;
            match Id::parse(&id) {
                Some(_) => wanted.push(Audience { id, name: text.unwrap_or_default(), dates }),
                None => self.imported.leave_out("audience", &id, "its id is no UUID"),
            }
        }
        let was_known = |audience: &Audience| self.audiences.find_id(&audience.id).is_some();
        let before: Vec<_> =
            wanted.iter().map(|audience| (audience.id.clone(), was_known(audience))).collect();
        let taken = self.audiences.take_all(wanted)?;
        let mut ids = HashMap::new();
        for ((id, was_known), taken) in before.into_iter().zip(taken) {
            match taken {
                Ok(taken) => {
                    self.imported.audiences.count(taken.how == How::New);
                    self.imported.renamed += u64::from(taken.how == How::Renamed);
                    if taken.how == How::Joined && was_known {
                        self.imported.say(format!(
                            "audience {id}: another one has its name by now: what was brought of \
                             it before stays where it is, what comes goes to that one"
                        ));
                    }
                    ids.insert(id, taken.id);
                }
                Err(AudienceProblem::BadName) => {
                    self.imported.leave_out("audience", &id, "nobody can have its name");
                }
                Err(problem) => self.imported.leave_out("audience", &id, &problem.to_string()),
            }
        }
        Ok(ids)
    }

    async fn topics(&mut self, view: &View<'_>, ids: &Ids) -> Result<(), ImportProblem> {
        let mut rows = view.topics().await?;
        let mut portion = Vec::with_capacity(IMPORT_PORTION);
        while let Some(row) = rows.try_next().await? {
            let dates = dates(&row);
            let Found { id, text, of, .. } = row;
            let Some(audience) = of.and_then(|of| ids.get(&of)) else {
                self.imported.leave_out("topic", &id, "its audience is not there");
                continue;
            };
            let topic = NotedTopic { id, topic: text.unwrap_or_default(), dates };
            portion.push((audience.clone(), topic));
            if portion.len() == IMPORT_PORTION {
                self.note_topics(std::mem::take(&mut portion))?;
            }
        }
        self.note_topics(portion)
    }

    /// Topics need not be noted down to be used: the messages of one that cannot be come all the
    /// same.
    fn note_topics(&mut self, portion: Vec<(String, NotedTopic)>) -> Result<(), ImportProblem> {
        let ids: Vec<_> = portion.iter().map(|(_, topic)| topic.id.clone()).collect();
        for (id, taken) in ids.iter().zip(self.audiences.take_topics(portion)?) {
            match taken {
                Ok(taken) => self.imported.topics.count(taken.is_new),
                Err(problem) => {
                    let why = format!("{problem}; its messages are brought");
                    self.imported.leave_out("topic", id, &why);
                }
            }
        }
        Ok(())
    }

    async fn messages(&mut self, view: &View<'_>, ids: &Ids) -> Result<(), ImportProblem> {
        let mut messages = view.messages().await?;
        let mut portion = Portion::default();
        while let Some(message) = messages.try_next().await? {
            let Some(id) = Id::parse(&message.id) else {
                self.imported.leave_out("message", &message.id, "its id is no UUID");
                continue;
            };
            if self.brought.knows(id)? {
                self.imported.messages.count(false);
                continue;
            }
            match update(id, &message, ids) {
                Ok(update) => portion.push(id, update),
                Err(why) => self.imported.leave_out("message", &message.id, why),
            }
            if portion.is_full() {
                self.publish(std::mem::take(&mut portion)).await?;
            }
        }
        self.publish(portion).await?;
        if !self.imported.is_dry {
            self.brought.note(&self.published)?;
        }
        Ok(())
    }

    async fn publish(&mut self, portion: Portion) -> Result<(), ImportProblem> {
        let Portion { ids, updates, .. } = portion;
        if !self.imported.is_dry {
            self.brought.begin(&self.published, &ids)?;
        }
        self.published.clear();
        let placed = self.hub.publish_all(&Grant::operator(), updates).await;
        for (answer, id) in placed.into_iter().zip(ids) {
            match answer {
                Ok(_) => self.published.push(id),
                Err(Refused::Flawed(flaw)) => {
                    self.imported.leave_out("message", &id.to_string(), &flaw.to_string());
                }
                // The next import finds out what of the portion is there.
                Err(refused) => return Err(refused.into()),
            }
        }
        self.imported.messages.new += self.published.len() as u64;
        Ok(())
    }
}

impl Portion {
    fn push(&mut self, id: Id, update: Update) {
        self.bytes = self.bytes.saturating_add(update.weight());
        self.ids.push(id);
        self.updates.push(update);
    }

    fn is_full(&self) -> bool {
        self.ids.len() >= IMPORT_PORTION || self.bytes >= IMPORT_PORTION_BYTES
    }
}

fn dates(found: &Found) -> Dates {
    Dates { created: found.created, updated: found.updated, deleted: found.deleted }
}

/// A message as an update, with its own id and the time when it was made.
fn update(id: Id, message: &Message, ids: &Ids) -> Result<Update, &'static str> {
    let (audience, text) = message.topic.as_ref().ok_or("its topic is not there")?;
    let audience = audience.as_ref().and_then(|audience| ids.get(audience));
    let audience = audience.ok_or("its audience is not there")?;
    let topic = topic(audience, text).map_err(|_| "its topic is too long")?;
    let data = message.text.clone().unwrap_or_else(|| "null".to_owned());
    let mut update = Update::new(topic, data.into_bytes());
    update.private = true;
    update.content_type = Line::parse("application/json").ok();
    update.id = Line::parse(&id.urn()).ok();
    if let Ok(name) = Line::parse("created_at") {
        update.attributes.push((name, message.created.to_string()));
    }
    Ok(update)
}
