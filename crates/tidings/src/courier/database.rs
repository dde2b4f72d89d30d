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

/// A date in milliseconds since 1970; null where it is none that a calendar has.
fn milliseconds(column: &str) -> String {
    format!("CASE WHEN isfinite({column}) THEN (extract(epoch from {column}) * 1000)::bigint END")
}

/// An open connection.
pub(super) struct Database {
    client: Client,
    /// The schema's name, quoted.
    schema: String,
    /// What moves the bytes, as long as this is there.
    _moving: JoinSet<()>,
}

/// A row of audiences or of topics.
pub(super) struct Found {
    pub(super) id: String,
    /// The name or the topic; `None` where it is null.
    pub(super) text: Option<String>,
    /// What it belongs to; nothing for audiences.
    pub(super) of: Option<String>,
    /// In milliseconds since 1970; zero where that is not known.
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) deleted: Option<u64>,
}

/// A row of messages.
pub(super) struct Message {
    pub(super) id: String,
    /// `None` where it is null.
    pub(super) text: Option<String>,
    /// The audience of its topic, and what that one calls it; `None` where the topic is not there.
    pub(super) topic: Option<(Option<String>, String)>,
    /// In milliseconds since 1970; zero where that is not known.
    pub(super) created: u64,
}

/// Rows as they come.
pub(super) type Rows<T> = Pin<Box<dyn Stream<Item = Result<T, ImportProblem>>>>;

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
        let schema = format!("\"{}\"", schema.replace('"', "\"\""));
        Ok(Database { client, schema, _moving: moving })
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
        self.found("audiences", "name::text, NULL::text").await?.try_collect().await
    }

    /// All topics, the oldest first.
    pub(super) async fn topics(&self) -> Result<Rows<Found>, ImportProblem> {
        self.found("topics", "topic::text, audience_id::text").await
    }

    async fn found(&self, table: &str, columns: &str) -> Result<Rows<Found>, ImportProblem> {
        let dates = ["created_at", "updated_at", "deleted_at"].map(milliseconds).join(", ");
        let query = format!(
            "SELECT id::text, {columns}, {dates} FROM {}.{table} \
             ORDER BY created_at NULLS FIRST, id",
            self.schema
        );
        self.rows(&query, found).await
    }

    /// All messages, the oldest first.
    pub(super) async fn messages(&self) -> Result<Rows<Message>, ImportProblem> {
        let query = format!(
            "SELECT m.id::text, m.message::text, t.id IS NOT NULL, t.audience_id::text, \
             t.topic::text, {} FROM {schema}.messages m \
             LEFT JOIN {schema}.topics t ON t.id = m.topic_id \
             ORDER BY m.created_at NULLS FIRST, m.id",
            milliseconds("m.created_at"),
            schema = self.schema
        );
        self.rows(&query, message).await
    }

    async fn rows<T: 'static>(
        &self,
        query: &str,
        read: fn(&Row) -> Result<T, ImportProblem>,
    ) -> Result<Rows<T>, ImportProblem> {
        let none: [&str; 0] = [];
        let rows = self.transaction.query_raw(query, none).await?;
        let rows = rows.map_err(ImportProblem::from);
        Ok(Box::pin(rows.and_then(move |row| std::future::ready(read(&row)))))
    }
}

fn time(row: &Row, at: usize) -> Result<Option<u64>, ImportProblem> {
    let time: Option<i64> = row.try_get(at)?;
    Ok(time.map(|time| u64::try_from(time).unwrap_or(0)))
}

fn found(row: &Row) -> Result<Found, ImportProblem> {
    Ok(Found {
        id: row.try_get(0)?,
        text: row.try_get(1)?,
        of: row.try_get(2)?,
        created: time(row, 3)?.unwrap_or(0),
        updated: time(row, 4)?.unwrap_or(0),
        deleted: time(row, 5)?,
    })
}

fn message(row: &Row) -> Result<Message, ImportProblem> {
    let (is_there, audience): (bool, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
    let topic: Option<String> = row.try_get(4)?;
    Ok(Message {
        id: row.try_get(0)?,
        text: row.try_get(1)?,
        topic: is_there.then(|| (audience, topic.unwrap_or_default())),
        created: time(row, 5)?.unwrap_or(0),
    })
}
