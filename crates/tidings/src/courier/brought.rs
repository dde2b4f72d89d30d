//! Which messages were brought already. Knows no database and no audience.
//!
//! A message is known by its id alone, of which there is one in the world, and each id that was
//! brought has a row. Nothing shorter says it for certain: times do not (a message may be written
//! down late, with a clock that goes wrong, or without a time), and neither does the name of the
//! database (which has many spellings, and is another one after a restore). The history says it
//! only as long as it keeps the message. A row takes some fifty bytes, a tenth of what the message
//! itself takes in the history.
//!
//! What is published is noted afterwards, so whoever is interrupted does not know what became of
//! the last portion. Its ids are noted before it is published, and then the history is asked, which
//! finds messages by their ids.

use std::fmt::{self, Write as _};

use tidings_core::{Hub, Located, State, StateError, Table, Write};

/// The row with the ids of the last portion. Others are as long as an id.
const PORTION: &[u8] = b"portion";

/// The id of a message: a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id([u8; 16]);

impl Id {
    /// The id in a text as databases write it: 32 hexadecimal digits, with dashes among them.
    pub(super) fn parse(text: &str) -> Option<Id> {
        let mut digits = [0; 32];
        let has_dashes = |text: &str| {
            text.len() == 36
                && text.bytes().enumerate().all(|(at, byte)| match at {
                    8 | 13 | 18 | 23 => byte == b'-',
                    _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                })
        };
        if !has_dashes(text) {
            return None;
        }
        for (place, byte) in digits.iter_mut().zip(text.bytes().filter(|byte| *byte != b'-')) {
            *place = byte;
        }
        let digits = std::str::from_utf8(&digits).ok()?;
        u128::from_str_radix(digits, 16).ok().map(|number| Id(number.to_be_bytes()))
    }

    /// As an update has it.
    pub(super) fn urn(self) -> String {
        format!("urn:uuid:{self}")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", u128::from_be_bytes(self.0));
        for (at, digit) in digits.chars().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                formatter.write_char('-')?;
            }
            formatter.write_char(digit)?;
        }
        Ok(())
    }
}

/// Ids of messages, as the state of a hub keeps them.
pub(super) struct Brought<'s> {
    state: &'s State,
}

impl Brought<'_> {
    /// Those in this state.
    pub(super) fn new(state: &State) -> Brought<'_> {
        Brought { state }
    }

    /// Whether this message was brought. Reads the disk.
    pub(super) fn knows(&self, id: Id) -> Result<bool, StateError> {
        Ok(self.state.get(Table::Brought, &id.0)?.is_some())
    }

    /// Notes that those before were published and these are about to be. Blocks on the disk.
    pub(super) fn begin(&self, before: &[Id], portion: &[Id]) -> Result<(), StateError> {
        let ids: Vec<u8> = portion.iter().flat_map(|id| id.0).collect();
        let mut writes = rows(before);
        writes.push(Write { table: Table::Brought, key: PORTION, value: Some(&ids) });
        self.state.commit(&writes)
    }

    /// Notes that these were published. Blocks on the disk.
    pub(super) fn note(&self, ids: &[Id]) -> Result<(), StateError> {
        self.state.commit(&rows(ids))
    }

    /// Finds out what became of the last portion, where nobody has noted it. Blocks on the disk.
    pub(super) fn settle(&self, hub: &Hub) -> Result<(), StateError> {
        let Some(ids) = self.state.get(Table::Brought, PORTION)? else { return Ok(()) };
        let mut published = Vec::new();
        for id in ids.as_chunks::<16>().0 {
            let id = Id(*id);
            let is_there =
                || matches!(hub.locate(&id.urn()), Located::Entry(_) | Located::OtherEpoch);
            if !self.knows(id)? && is_there() {
                published.push(id);
            }
        }
        self.note(&published)
    }
}

fn rows(ids: &[Id]) -> Vec<Write<'_>> {
    let table = Table::Brought;
    ids.iter().map(|Id(key)| Write { table, key, value: Some(&[]) }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidings_core::{Grant, Line, Topic, Update};

    use super::super::import::open;
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn an_id_is_a_uuid_as_databases_write_it() {
        let text = "01234567-89ab-4cde-8f01-23456789abcd";
        assert_eq!(Id::parse(text).unwrap().urn(), format!("urn:uuid:{text}"));
        let zeros = "00000000-0000-0000-0000-000000000000";
        assert_eq!(Id::parse(zeros).unwrap().urn(), format!("urn:uuid:{zeros}"));
        for bad in [
            "",
            "0123456789ab4cde8f0123456789abcd",
            "0123456-789ab-4cde-8f01-23456789abcd",
            "01234567-89AB-4cde-8f01-23456789abcd",
            "01234567-89ab-4cde-8f01-23456789abc-",
            "01234567-89ab-4cde-8f01-23456789abcé",
            "+1234567-89ab-4cde-8f01-23456789abcd",
            "01234567-89ab-4cde-8f01-23456789abcd0",
        ] {
            assert_eq!(Id::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_stands_in_the_history_of_a_portion_that_broke_off_is_noted() {
        let data = tempfile::tempdir().unwrap();
        let hub = || open(Some(data.path()), Arc::new(SystemClock::new())).unwrap();
        let ids: Vec<_> = (0..10_u8).map(|number| Id([number; 16])).collect();
        let begun = hub();
        let brought = Brought::new(begun.state());
        brought.settle(&begun).unwrap();
        brought.begin(&ids[..1], &ids).unwrap();
        for id in &ids[..6] {
            let mut update = Update::new(Topic::parse("a").unwrap(), "x");
            update.id = Line::parse(&id.urn()).ok();
            begun.publish(&Grant::operator(), update).await.unwrap();
        }
        begun.shut_down();
        drop(begun);
        let again = hub();
        let brought = Brought::new(again.state());
        let known = || ids.iter().filter(|id| brought.knows(**id).unwrap()).count();
        assert_eq!(known(), 1);
        brought.settle(&again).unwrap();
        assert_eq!(known(), 6);
        assert!(!brought.knows(Id(*b"portion\0\0\0\0\0\0\0\0\0")).unwrap());
    }
}
