//! `tidings courier import`: what the database of a Courier holds becomes audiences, topics and
//! entries of the history. Knows no SQL.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tidings_core::limits::RECORD_BYTES_MAX;
use tidings_core::{
    Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Line, Namespace, OpenError,
    Refused, Update,
};
use tidings_frontends::courier::{Audience, AudienceProblem, Audiences, Dates, NotedTopic, topic};
use url::Url;

use super::database::{Database, Found, View};
use crate::clock::SystemClock;
use crate::config::Variables;
use crate::limits::{IMPORT_PORTION, IMPORT_PROBLEMS_SHOWN_MAX, IMPORT_SEGMENT_BYTES};

/// What `tidings courier import` is told.
#[derive(Debug, Clone, clap::Args)]
pub struct ImportArguments {
    /// The database [default: COURIER_DATABASE_URL], as in `postgres://user@host/name`
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Its schema [default: COURIER_DATABASE_NAMESPACE, else courier]
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
    /// The data folder of the hub [default: TIDINGS_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only say what there is
    #[arg(long)]
    dry_run: bool,
}

/// Nothing more was brought. What was, stays; the next import goes on there.
#[derive(Debug, thiserror::Error)]
pub enum ImportProblem {
    /// The operator's mistake.
    #[error("no database is named: write --database-url, or set COURIER_DATABASE_URL")]
    NoDatabase,
    /// The operator's mistake.
    #[error("no data folder is named: write --data, or set TIDINGS_DATA")]
    NoData,
    /// The operator's mistake.
    #[error("the URL of the database cannot be read: {0}")]
    Url(#[source] tokio_postgres::Error),
    /// The database's, or the network's.
    #[error("the database cannot be reached: {}", chain(.0))]
    Connect(#[source] tokio_postgres::Error),
    /// The database's.
    #[error("the database cannot be read: {}", chain(.0))]
    Read(#[from] tokio_postgres::Error),
    /// This machine's certificates.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The data folder.
    #[error("the data folder cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// The data folder.
    #[error(transparent)]
    Audiences(#[from] AudienceProblem),
    /// The data folder.
    #[error("a message cannot be stored: {0}")]
    Refused(#[from] Refused),
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// What was brought.
#[derive(Debug, Default)]
pub struct Imported {
    audiences: u64,
    merged: u64,
    topics: u64,
    messages: u64,
    left_out: u64,
    is_dry: bool,
    /// What was left out and why, the first of it; by ids alone.
    pub problems: Vec<String>,
}

impl Imported {
    /// One line for people.
    pub fn report(&self) -> String {
        let would = if self.is_dry { "would bring " } else { "" };
        format!(
            "{would}audiences: {} ({} more of a name that is there already), topics: {}, \
             messages: {}, left out: {}\n",
            self.audiences, self.merged, self.topics, self.messages, self.left_out
        )
    }

    fn leave_out(&mut self, what: &str, id: &str, why: &str) {
        self.left_out += 1;
        if self.problems.len() < IMPORT_PROBLEMS_SHOWN_MAX {
            self.problems.push(format!("{what} {id}: {why}"));
        }
    }
}

/// How far the messages of a database have come.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    database: String,
    place: i64,
    id: String,
}

impl ImportArguments {
    /// Brings everything that was not brought before.
    ///
    /// # Errors
    ///
    /// See [`ImportProblem`].
    pub async fn run(&self) -> Result<Imported, ImportProblem> {
        let (variables, _) = Variables::of_process_and_parents(Path::new("."));
        let variable = |name| variables.get(name).map(str::to_owned);
        let url = self.database_url.clone().or_else(|| variable("COURIER_DATABASE_URL"));
        let url = url.ok_or(ImportProblem::NoDatabase)?;
        let schema = self.schema.clone().or_else(|| variable("COURIER_DATABASE_NAMESPACE"));
        let schema = schema.unwrap_or_else(|| "courier".to_owned());
        let data = self.data.clone().or_else(|| variable("TIDINGS_DATA").map(PathBuf::from));
        let mut database = Database::open(&url, &schema).await?;
        let name = database.name.clone();
        let view = database.view().await?;
        if self.dry_run {
            return Ok(Imported {
                audiences: view.audiences().await?.len() as u64,
                topics: view.topics().await?.len() as u64,
                messages: view.count((i64::MIN, "")).await?,
                is_dry: true,
                ..Imported::default()
            });
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let hub = open(&data.ok_or(ImportProblem::NoData)?, Arc::clone(&clock))?;
        let audiences = Audiences::open(hub.clone(), clock)?;
        let mut import = Import { hub, audiences, imported: Imported::default() };
        let brought = import.bring(&view, &name).await;
        import.hub.shut_down();
        brought.map(|()| import.imported)
    }
}

/// The hub in this folder, which keeps everything for now: how much stays is for who serves it.
fn open(data: &Path, clock: Arc<dyn Clock>) -> Result<Hub, OpenError> {
    let history = HistoryOptions {
        hold_bytes: 0,
        path: Some(data.to_owned()),
        durability: Durability::Fsync,
        keep: Keep::default(),
        segment_bytes: IMPORT_SEGMENT_BYTES,
    };
    let own = Url::parse("http://localhost/.well-known/mercure").expect("a constant URL");
    let namespace = Namespace::new(own);
    Hub::open(HubOptions { namespace, update_bytes_max: RECORD_BYTES_MAX, history }, clock)
}

/// Where things go.
struct Import {
    hub: Hub,
    audiences: Audiences,
    imported: Imported,
}

/// An audience's id and what it calls a topic, by the topic's id.
type Topics = HashMap<String, (String, String)>;

impl Import {
    async fn bring(&mut self, view: &View<'_>, database: &str) -> Result<(), ImportProblem> {
        let audiences = self.bring_audiences(view.audiences().await?)?;
        let topics = self.bring_topics(view.topics().await?, &audiences)?;
        let mut progress = self.progress(database)?;
        let mut messages = view.messages((progress.place, &progress.id)).await?;
        let mut portion = Vec::new();
        while let Some(message) = messages.try_next().await? {
            portion.push(message);
            if portion.len() == IMPORT_PORTION {
                self.bring_messages(std::mem::take(&mut portion), &topics, &mut progress).await?;
            }
        }
        self.bring_messages(portion, &topics, &mut progress).await
    }

    /// Ids of audiences here, by those there: of one name there is one.
    fn bring_audiences(
        &mut self,
        found: Vec<Found>,
    ) -> Result<HashMap<String, String>, ImportProblem> {
        let mut ids = HashMap::new();
        for audience in found {
            let dates = dates(&audience);
            let Found { id, text, .. } = audience;
            let name = text.unwrap_or_default();
            let was_there = self.audiences.find(&name).is_some_and(|known| known.id != id);
            match self.audiences.take(Audience { id: id.clone(), name, dates }) {
                Ok(taken) => {
                    let count = &mut self.imported;
                    *(if was_there { &mut count.merged } else { &mut count.audiences }) += 1;
                    ids.insert(id, taken.id.clone());
                }
                Err(AudienceProblem::BadName) => {
                    self.imported.leave_out("audience", &id, "nobody can have its name");
                }
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(ids)
    }

    fn bring_topics(
        &mut self,
        found: Vec<Found>,
        audiences: &HashMap<String, String>,
    ) -> Result<Topics, ImportProblem> {
        let mut topics = HashMap::new();
        for row in found {
            let dates = dates(&row);
            let Found { id, text, of, .. } = row;
            let Some(audience) = of.and_then(|of| audiences.get(&of)) else {
                self.imported.leave_out("topic", &id, "its audience is not there");
                continue;
            };
            let text = text.unwrap_or_default();
            let noted = NotedTopic { id: id.clone(), topic: text.clone(), dates };
            match self.audiences.take_topic(audience, noted) {
                Ok(_) => {
                    self.imported.topics += 1;
                    topics.insert(id, (audience.clone(), text));
                }
                Err(AudienceProblem::BadTopic) => {
                    self.imported.leave_out("topic", &id, "it is too long");
                }
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(topics)
    }

    /// Publishes these, then notes how far it has come: whoever was interrupted brings a portion
    /// again at most, of which the hub knows what it has.
    async fn bring_messages(
        &mut self,
        portion: Vec<Found>,
        topics: &Topics,
        progress: &mut Progress,
    ) -> Result<(), ImportProblem> {
        let Some(last) = portion.last().map(|last| (last.place, last.id.clone())) else {
            return Ok(());
        };
        let mut updates = Vec::with_capacity(portion.len());
        let mut ids = Vec::with_capacity(portion.len());
        for message in portion {
            match update(&message, topics) {
                Ok(update) => {
                    updates.push(update);
                    ids.push(message.id);
                }
                Err(why) => self.imported.leave_out("message", &message.id, why),
            }
        }
        let placed = self.hub.publish_all(&Grant::operator(), updates).await;
        for (answer, id) in placed.into_iter().zip(ids) {
            match answer {
                Ok(_) => self.imported.messages += 1,
                Err(Refused::Flawed(flaw)) => {
                    self.imported.leave_out("message", &id, &flaw.to_string());
                }
                Err(refused) => return Err(refused.into()),
            }
        }
        (progress.place, progress.id) = last;
        // Texts and a number, into memory: nothing of it can fail.
        let row = serde_json::to_vec(progress).unwrap_or_default();
        Ok(self.audiences.note_imported(&row)?)
    }

    /// How far an earlier import of the same database has come.
    fn progress(&self, database: &str) -> Result<Progress, ImportProblem> {
        let noted = self.audiences.imported()?;
        let noted = noted.and_then(|row| serde_json::from_slice::<Progress>(&row).ok());
        let same = noted.filter(|noted| noted.database == database);
        let anew =
            || Progress { database: database.to_owned(), place: i64::MIN, id: String::new() };
        Ok(same.unwrap_or_else(anew))
    }
}

fn dates(found: &Found) -> Dates {
    Dates { created: found.created, updated: found.updated, deleted: found.deleted }
}

/// A message as an update, with its own id and the time when it was made.
fn update(message: &Found, topics: &Topics) -> Result<Update, &'static str> {
    let topic_id = message.of.as_deref().unwrap_or_default();
    let (audience, text) = topics.get(topic_id).ok_or("its topic is not there")?;
    let topic = topic(audience, text).map_err(|_| "its topic is too long")?;
    let data = message.text.clone().unwrap_or_else(|| "null".to_owned());
    let mut update = Update::new(topic, data.into_bytes());
    update.private = true;
    update.content_type = Line::parse("application/json").ok();
    update.id = Line::parse(&format!("urn:uuid:{}", message.id)).ok();
    update.idempotency_key = Line::parse(&format!("courier {}", message.id)).ok();
    if let Ok(name) = Line::parse("created_at") {
        update.attributes.push((name, message.created.to_string()));
    }
    Ok(update)
}
