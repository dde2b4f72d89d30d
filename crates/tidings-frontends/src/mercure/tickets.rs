//! One-use tickets for streams: each stands for a token that was shown before, and for what is
//! subscribed to. In memory only, so a restart forgets them. Knows no request and no protocol.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidings_core::Language;

use crate::auth::Verified;
use crate::limits::{TICKET_BYTES_MAX, TICKETS_EACH_MAX, TICKETS_MAX};

/// What is kept of a ticket's text.
type Name = [u8; SHA256_OUTPUT_LEN];

/// Whose tickets they are, for the limit that each has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A token, by the place of what was verified. Its tickets keep that where it is.
    Token(usize),
    /// An API key, by its id.
    Key(Box<str>),
}

/// What a ticket stands for.
pub(super) struct Ticket {
    /// The token that was shown.
    pub(super) verified: Arc<Verified>,
    /// What is subscribed to.
    pub(super) matchers: Vec<(Language, String)>,
}

impl Ticket {
    fn bytes(&self) -> usize {
        self.matchers.iter().map(|(_, text)| text.len()).sum()
    }
}

/// One of them, until it is used or too old.
struct Kept {
    ticket: Ticket,
    owner: Owner,
    /// In milliseconds since 1970.
    expires: u64,
}

/// Why there is no ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoTicket {
    /// There are as many as there may be, of this owner or of all.
    TooMany,
    /// The system has no random numbers.
    NoRandomness,
}

/// All tickets.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Drawer>);

#[derive(Default)]
struct Drawer {
    kept: HashMap<Name, Kept>,
    of_owner: HashMap<Owner, usize>,
    bytes: usize,
    /// When old ones were thrown away last, in milliseconds since 1970.
    cleared: u64,
}

fn name(text: &str) -> Option<Name> {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().ok()
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, Drawer> {
        // Rows and counts change together and nothing between them panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a ticket until `expires` (milliseconds since 1970), and says how it is called.
    ///
    /// # Errors
    /// When there are too many, or no random numbers.
    pub(super) fn put(
        &self,
        ticket: Ticket,
        owner: Owner,
        now: u64,
        expires: u64,
    ) -> Result<String, NoTicket> {
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| NoTicket::NoRandomness)?;
        let text = URL_SAFE_NO_PAD.encode(random);
        let name = name(&text).ok_or(NoTicket::NoRandomness)?;
        let mut drawer = self.lock();
        drawer.clear(now);
        let of_owner = drawer.of_owner.get(&owner).copied().unwrap_or(0);
        let bytes = drawer.bytes.saturating_add(ticket.bytes());
        if of_owner >= TICKETS_EACH_MAX
            || drawer.kept.len() >= TICKETS_MAX
            || bytes > TICKET_BYTES_MAX
        {
            return Err(NoTicket::TooMany);
        }
        drawer.bytes = bytes;
        drawer.of_owner.insert(owner.clone(), of_owner + 1);
        drawer.kept.insert(name, Kept { ticket, owner, expires });
        Ok(text)
    }

    /// Takes a ticket out, if it is there and not too old at `now` (milliseconds since 1970).
    pub(super) fn take(&self, text: &str, now: u64) -> Option<Ticket> {
        let name = name(text)?;
        let mut drawer = self.lock();
        let kept = drawer.kept.remove(&name)?;
        drawer.forget(&kept);
        (now < kept.expires).then_some(kept.ticket)
    }
}

impl Drawer {
    /// Throws away what is too old, once a second at most: it is looked at one by one.
    fn clear(&mut self, now: u64) {
        if now.abs_diff(self.cleared) < 1_000 {
            return;
        }
        self.cleared = now;
        let old: Vec<_> = self.kept.extract_if(|_, kept| kept.expires <= now).collect();
        for (_, kept) in &old {
            self.forget(kept);
        }
    }

    fn forget(&mut self, kept: &Kept) {
        self.bytes = self.bytes.saturating_sub(kept.ticket.bytes());
        if let Some(count) = self.of_owner.get_mut(&kept.owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_owner.remove(&kept.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Generation;
    use tidings_core::Grant;

    fn ticket(text: &str) -> Ticket {
        let verified = Verified {
            generation: Generation::Final,
            grant: Arc::new(Grant::default()),
            details: Vec::new(),
            may: true,
        };
        Ticket { verified: Arc::new(verified), matchers: vec![(Language::Exact, text.to_owned())] }
    }

    fn put(tickets: &Tickets, owner: usize, now: u64, expires: u64) -> Result<String, NoTicket> {
        tickets.put(ticket("a"), Owner::Token(owner), now, expires)
    }

    #[test]
    fn a_ticket_is_good_once_and_until_its_end() {
        let tickets = Tickets::default();
        let text = put(&tickets, 1, 0, 30).unwrap();
        assert_eq!(text.len(), 43);
        assert!(tickets.take("other", 0).is_none());
        let taken = tickets.take(&text, 29).unwrap();
        assert_eq!(taken.matchers, [(Language::Exact, "a".to_owned())]);
        assert!(tickets.take(&text, 29).is_none(), "used");
        let late = put(&tickets, 1, 0, 30).unwrap();
        assert!(tickets.take(&late, 30).is_none());
        assert!(tickets.take(&late, 29).is_none(), "also the late use was its use");
        let drawer = tickets.lock();
        assert!(drawer.of_owner.is_empty() && drawer.kept.is_empty());
        assert_eq!(drawer.bytes, 0);
    }

    #[test]
    fn an_owner_has_its_number_and_others_have_theirs() {
        let tickets = Tickets::default();
        for _ in 0..TICKETS_EACH_MAX {
            put(&tickets, 1, 5_000, 6_000).unwrap();
        }
        assert_eq!(put(&tickets, 1, 5_000, 6_000), Err(NoTicket::TooMany));
        assert!(put(&tickets, 2, 5_000, 9_000).is_ok());
        assert!(put(&tickets, 1, 6_000, 7_000).is_ok(), "the old ones are gone");
        assert_eq!(tickets.lock().kept.len(), 2);
    }

    #[test]
    fn all_of_them_together_are_bounded_in_bytes() {
        let tickets = Tickets::default();
        let large = "a".repeat(TICKET_BYTES_MAX / 2 + 1);
        let put = |owner| tickets.put(ticket(&large), Owner::Key(owner), 0, 9);
        let first = put("a".into()).unwrap();
        assert_eq!(put("b".into()), Err(NoTicket::TooMany));
        tickets.take(&first, 0).unwrap();
        assert!(put("b".into()).is_ok());
    }
}
