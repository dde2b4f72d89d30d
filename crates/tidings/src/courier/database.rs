//! The database of a Courier: its connection, and its rows as they are. Nothing is written there.
//! Knows no hub.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_platform_verifier::Verifier;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, IsolationLevel, Row, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::import::ImportProblem;

/// Columns of dates in milliseconds since 1970.
const DATES: &str = "\
coalesce((extract(epoch from created_at) * 1000)::bigint, 0), \
coalesce((extract(epoch from updated_at) * 1000)::bigint, 0), \
(extract(epoch from deleted_at) * 1000)::bigint";

/// An open connection.
pub(super) struct Database {
    client: Client,
    /// The schema's name, quoted.
    schema: String,
    /// Which database it is, without login: the same again for another import.
    pub(super) name: String,
    /// What moves the bytes, as long as this is there.
    _moving: JoinSet<()>,
}

/// A row of audiences, of topics or of messages.
pub(super) struct Found {
    pub(super) id: String,
    /// The name, the topic or the message; `None` where it is null.
    pub(super) text: Option<String>,
    /// What it belongs to; nothing for audiences.
    pub(super) of: Option<String>,
    /// In milliseconds since 1970.
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) deleted: Option<u64>,
    /// When it was made in microseconds, for the order of messages; zero for others.
    pub(super) place: i64,
}

/// Messages as they come.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<Found, ImportProblem>>>>;

/// A view of everything at one moment.
pub(super) struct View<'d> {
    transaction: Transaction<'d>,
    schema: &'d str,
}

impl Database {
    /// Connects. Whether by TLS its `sslmode` says; the server's certificate has to be one that
    /// this machine trusts.
    pub(super) async fn open(url: &str, schema: &str) -> Result<Database, ImportProblem> {
        let config: Config = url.parse().map_err(ImportProblem::Url)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new(Arc::clone(&provider))?;
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let connected = config.connect(MakeRustlsConnect::new(tls)).await;
        let (client, connection) = connected.map_err(ImportProblem::Connect)?;
        let mut moving = JoinSet::new();
        moving.spawn(async move {
            // Whoever asks next is told what happened.
            let _ended = connection.await;
        });
        let places: Vec<_> = config.get_hosts().iter().map(|host| format!("{host:?}")).collect();
        let name = format!(
            "{} {:?} {} {schema}",
            places.join(","),
            config.get_ports(),
            config.get_dbname().unwrap_or_default()
        );
        let schema = format!("\"{}\"", schema.replace('"', "\"\""));
        Ok(Database { client, schema, name, _moving: moving })
    }

    /// A view that nobody changes any more.
    pub(super) async fn view(&mut self) -> Result<View<'_>, ImportProblem> {
        let transaction = self.client.build_transaction();
        let transaction = transaction.isolation_level(IsolationLevel::RepeatableRead);
        let transaction = transaction.read_only(true).start().await?;
        Ok(View { transaction, schema: &self.schema })
    }
}

impl View<'_> {
    /// All audiences, the oldest first.
    pub(super) async fn audiences(&self) -> Result<Vec<Found>, ImportProblem> {
        let query = format!(
            "SELECT id::text, name::text, NULL::text, {DATES}, 0::bigint \
             FROM {}.audiences ORDER BY created_at, id::text",
            self.schema
        );
        self.transaction.query(&query, &[]).await?.iter().map(found).collect()
    }

    /// All topics, the oldest first.
    pub(super) async fn topics(&self) -> Result<Vec<Found>, ImportProblem> {
        let query = format!(
            "SELECT id::text, topic::text, audience_id::text, {DATES}, 0::bigint \
             FROM {}.topics ORDER BY created_at, id::text",
            self.schema
        );
        self.transaction.query(&query, &[]).await?.iter().map(found).collect()
    }

    /// The messages behind this place, the oldest first.
    pub(super) async fn messages(&self, after: (i64, &str)) -> Result<Messages, ImportProblem> {
        let query = format!(
            "SELECT * FROM (SELECT id::text AS id, message::text, topic_id::text, {DATES}, \
             coalesce((extract(epoch from created_at) * 1000000)::bigint, 0) AS place \
             FROM {}.messages) AS messages WHERE (place, id) > ($1, $2) ORDER BY place, id",
            self.schema
        );
        let (place, id) = after;
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&place, &id];
        let rows = self.transaction.query_raw(&query, parameters).await?;
        let rows = rows.map_err(ImportProblem::from);
        Ok(Box::pin(rows.and_then(|row| std::future::ready(found(&row)))))
    }

    /// How many messages there are behind this place.
    pub(super) async fn count(&self, after: (i64, &str)) -> Result<u64, ImportProblem> {
        let query = format!(
            "SELECT count(*) FROM (SELECT id::text AS id, \
             coalesce((extract(epoch from created_at) * 1000000)::bigint, 0) AS place \
             FROM {}.messages) AS messages WHERE (place, id) > ($1, $2)",
            self.schema
        );
        let (place, id) = after;
        let counted: i64 = self.transaction.query_one(&query, &[&place, &id]).await?.try_get(0)?;
        Ok(u64::try_from(counted).unwrap_or(0))
    }
}

fn found(row: &Row) -> Result<Found, ImportProblem> {
    let time = |at: usize| -> Result<Option<u64>, ImportProblem> {
        let time: Option<i64> = row.try_get(at)?;
        Ok(time.map(|time| u64::try_from(time).unwrap_or(0)))
    };
    Ok(Found {
        id: row.try_get(0)?,
        text: row.try_get(1)?,
        of: row.try_get(2)?,
        created: time(3)?.unwrap_or(0),
        updated: time(4)?.unwrap_or(0),
        deleted: time(5)?,
        place: row.try_get(6)?,
    })
}
