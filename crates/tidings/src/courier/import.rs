//! `tidings courier import`: from a database to a data folder, or to a rehearsal of it. Knows no
//! SQL, and not what is brought.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidings_core::limits::RECORD_BYTES_MAX;
use tidings_core::{
    Clock, Durability, HistoryOptions, Hub, HubOptions, Keep, Namespace, OpenError, Refused, State,
    StateError, Table, Write,
};
use tidings_frontends::courier::{AudienceProblem, Audiences};
use url::Url;

use super::bring::Bring;
use super::brought::Brought;
use super::database::Database;
use super::imported::Imported;
use crate::clock::SystemClock;
use crate::config::Variables;
use crate::limits::{IMPORT_PORTION, IMPORT_SEGMENT_BYTES};

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
    /// Only say what would come
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
    #[error("the data folder cannot be used: {0}")]
    State(#[from] StateError),
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

impl ImportArguments {
    /// Brings everything that was not brought before. What is not told here is in `variables`.
    ///
    /// # Errors
    ///
    /// See [`ImportProblem`].
    pub async fn run(&self, variables: &Variables) -> Result<Imported, ImportProblem> {
        let variable = |name| variables.get(name).map(str::to_owned);
        let url = self.database_url.clone().or_else(|| variable("COURIER_DATABASE_URL"));
        let url = url.ok_or(ImportProblem::NoDatabase)?;
        let schema = self.schema.clone().or_else(|| variable("COURIER_DATABASE_NAMESPACE"));
        let schema = schema.unwrap_or_else(|| "courier".to_owned());
        let data = self.data.clone().or_else(|| variable("TIDINGS_DATA").map(PathBuf::from));
        if data.is_none() && !self.dry_run {
            return Err(ImportProblem::NoData);
        }
        let mut database = Database::open(&url, &schema).await?;
        let view = database.view().await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        if self.dry_run {
            let kept = State::open(file_of(data.as_deref()).as_deref())?;
            let hub = rehearsal(&kept, Arc::clone(&clock))?;
            let audiences = Audiences::open(hub.clone(), clock)?;
            let bring = Bring::rehearsing(&hub, audiences, Brought::new(&kept));
            return bring.all(&view).await;
        }
        let hub = open(data.as_deref(), Arc::clone(&clock))?;
        let brought = Brought::new(hub.state());
        brought.settle(&hub)?;
        let audiences = Audiences::open(hub.clone(), clock)?;
        let imported = Bring::new(&hub, audiences, brought).all(&view).await;
        hub.shut_down();
        imported
    }
}

/// The state in this folder, if there is one.
fn file_of(data: Option<&Path>) -> Option<PathBuf> {
    data.map(|data| data.join("state")).filter(|file| file.is_file())
}

/// The hub in this folder, which keeps everything for now: how much stays is for who serves it.
/// Without a folder it is in memory, and keeps nothing that is published.
pub(super) fn open(data: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Hub, OpenError> {
    let nothing = Keep { entries: Some(1), ..Keep::default() };
    let (durability, keep) = match data {
        Some(_) => (Durability::Fsync, Keep::default()),
        None => (Durability::Memory, nothing),
    };
    let history = HistoryOptions {
        hold_bytes: 0,
        path: data.map(Path::to_owned),
        durability,
        keep,
        segment_bytes: IMPORT_SEGMENT_BYTES,
    };
    let own = Url::parse("http://localhost/.well-known/mercure").expect("a constant URL");
    let namespace = Namespace::new(own);
    Hub::open(HubOptions { namespace, update_bytes_max: RECORD_BYTES_MAX, history }, clock)
}

/// A hub in memory with the audiences and topics of another one's state: what is brought there is
/// what would be brought.
fn rehearsal(kept: &State, clock: Arc<dyn Clock>) -> Result<Hub, ImportProblem> {
    let hub = open(None, clock)?;
    for table in [Table::Audiences, Table::AudienceTopics] {
        let mut from = Vec::new();
        loop {
            let rows = kept.range(table, &from, None, IMPORT_PORTION)?;
            let writes = rows.iter().map(|(key, row)| Write { table, key, value: Some(row) });
            hub.state().commit(&writes.collect::<Vec<_>>())?;
            let Some((last, _)) = rows.last() else { break };
            // The next key there can be.
            from = [last.as_slice(), &[0]].concat();
        }
    }
    Ok(hub)
}
