//! Audiences and topics as answers show them. The names of the fields are those of the programs
//! that read them. Knows no request.

use serde::Serialize;

use super::audiences::{Audience, Dates, NotedTopic};
use crate::tokens::date::precise;

/// An audience.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AudienceDocument<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(flatten)]
    dates: DatesDocument,
}

/// A topic.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicDocument<'a> {
    id: &'a str,
    topic: &'a str,
    audience: AudienceDocument<'a>,
    audience_id: &'a str,
    #[serde(flatten)]
    dates: DatesDocument,
}

/// What opens a connection.
#[derive(Serialize)]
pub(super) struct SignDocument<'a> {
    pub(super) key: &'a str,
    pub(super) url: &'a str,
    /// Where a later connection may go on that wants what came since.
    pub(super) cursor: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DatesDocument {
    created_at: String,
    updated_at: String,
    deleted_at: Option<String>,
}

impl From<Dates> for DatesDocument {
    fn from(dates: Dates) -> DatesDocument {
        DatesDocument {
            created_at: precise(dates.created),
            updated_at: precise(dates.updated),
            deleted_at: dates.deleted.map(precise),
        }
    }
}

impl<'a> AudienceDocument<'a> {
    pub(super) fn of(audience: &'a Audience) -> AudienceDocument<'a> {
        let dates = audience.dates.into();
        AudienceDocument { id: &audience.id, name: &audience.name, dates }
    }
}

impl<'a> TopicDocument<'a> {
    pub(super) fn of(audience: &'a Audience, topic: &'a NotedTopic) -> TopicDocument<'a> {
        TopicDocument {
            id: &topic.id,
            topic: &topic.topic,
            audience: AudienceDocument::of(audience),
            audience_id: &audience.id,
            dates: topic.dates.into(),
        }
    }
}
