//! One-use tickets for streams: each stands for a token that was shown before, and for what is
//! subscribed to. In memory only, so a restart forgets them. Knows no request and no protocol.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidings_core::{Language, TokenIdentity};

use crate::auth::Verified;
use crate::limits::{
    TICKET_BYTES_BESIDE, TICKET_BYTES_EACH_MAX, TICKET_BYTES_MAX, TICKET_BYTES_OF_KEY_MAX,
    TICKET_MATCHER_BYTES_BESIDE, TICKETS_EACH_MAX, TICKETS_MAX, TICKETS_OF_KEY_MAX,
};

/// What is kept of a ticket's text.
type Name = [u8; SHA256_OUTPUT_LEN];

/// Whose tickets they are, for the limits that each has. Those of a token that was made for an API
/// key are the key's too, however many tokens it gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// A token, by a hash of its name.
    Token(Name),
    /// An API key, by its id.
    Key(Box<str>),
}

impl Owner {
    /// A token: its issuer's name for it, or where it has none the bytes that were presented.
    /// `None` where nothing can be hashed.
    pub(super) fn token(identity: &TokenIdentity, presented: &[u8]) -> Option<Owner> {
        let named = identity.issuer.as_deref().zip(identity.token_id.as_deref());
        let hashed = match named {
            // No text of a token begins with a zero, and no issuer's name has one.
            Some((issuer, name)) => [b"\0", issuer.as_bytes(), b"\0", name.as_bytes()].concat(),
            None => presented.to_vec(),
        };
        name(&hashed).map(Owner::Token)
    }

    /// Tickets at one time, and bytes of them.
    fn limits(&self) -> (usize, usize) {
        match self {
            Owner::Token(_) => (TICKETS_EACH_MAX, TICKET_BYTES_EACH_MAX),
            Owner::Key(_) => (TICKETS_OF_KEY_MAX, TICKET_BYTES_OF_KEY_MAX),
        }
    }
}

/// What a ticket stands for.
pub(super) struct Ticket {
    /// The token that was shown.
    pub(super) verified: Arc<Verified>,
    /// What is subscribed to.
    pub(super) matchers: Vec<(Language, String)>,
}

impl Ticket {
    /// What it takes in memory: its texts, what stands around each, and what is kept of the token.
    fn bytes(&self) -> usize {
        let Verified { grant, details, .. } = &*self.verified;
        let pieces = self.matchers.len() + grant.subscribe.len() + details.len();
        let texts: usize = self.matchers.iter().map(|(_, text)| text.len()).sum();
        TICKET_BYTES_BESIDE + TICKET_MATCHER_BYTES_BESIDE * pieces + texts
    }
}

/// One of them, until it is used or too old.
struct Kept {
    ticket: Ticket,
    owners: Box<[Owner]>,
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
    of_owner: HashMap<Owner, Held>,
    bytes: usize,
    /// When old ones were thrown away last, in milliseconds since 1970.
    cleared: u64,
}

/// What one owner has.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    tickets: usize,
    bytes: usize,
}

fn name(bytes: &[u8]) -> Option<Name> {
    digest(&SHA256, bytes).as_ref().try_into().ok()
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
        owners: Vec<Owner>,
        now: u64,
        expires: u64,
    ) -> Result<String, NoTicket> {
        let mut random = [0; 32];
        rand::fill(&mut random).map_err(|_| NoTicket::NoRandomness)?;
        let text = URL_SAFE_NO_PAD.encode(random);
        let name = name(text.as_bytes()).ok_or(NoTicket::NoRandomness)?;
        let mut drawer = self.lock();
        drawer.clear(now);
        let more = ticket.bytes();
        let is_full = drawer.kept.len() >= TICKETS_MAX
            || drawer.bytes.saturating_add(more) > TICKET_BYTES_MAX
            || owners.iter().any(|owner| !drawer.has_room(owner, more));
        if is_full {
            return Err(NoTicket::TooMany);
        }
        drawer.bytes += more;
        for owner in &owners {
            let held = drawer.of_owner.entry(owner.clone()).or_default();
            held.tickets += 1;
            held.bytes += more;
        }
        drawer.kept.insert(name, Kept { ticket, owners: owners.into(), expires });
        Ok(text)
    }

    /// Takes a ticket out, if it is there and not too old at `now` (milliseconds since 1970).
    pub(super) fn take(&self, text: &str, now: u64) -> Option<Ticket> {
        let name = name(text.as_bytes())?;
        let mut drawer = self.lock();
        let kept = drawer.kept.remove(&name)?;
        drawer.forget(&kept);
        (now < kept.expires).then_some(kept.ticket)
    }
}

impl Drawer {
    fn has_room(&self, owner: &Owner, more: usize) -> bool {
        let held = self.of_owner.get(owner).copied().unwrap_or_default();
        let (tickets, bytes) = owner.limits();
        held.tickets < tickets && held.bytes.saturating_add(more) <= bytes
    }

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
        let less = kept.ticket.bytes();
        self.bytes = self.bytes.saturating_sub(less);
        for owner in &kept.owners {
            let Some(held) = self.of_owner.get_mut(owner) else { continue };
            held.tickets = held.tickets.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(less);
            if held.tickets == 0 {
                self.of_owner.remove(owner);
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

    fn token(number: usize) -> Owner {
        Owner::token(&TokenIdentity::default(), number.to_string().as_bytes()).unwrap()
    }

    fn put(tickets: &Tickets, owner: usize, now: u64, expires: u64) -> Result<String, NoTicket> {
        tickets.put(ticket("a"), vec![token(owner)], now, expires)
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
        let large = "a".repeat(TICKET_BYTES_OF_KEY_MAX / 2);
        let put = |owner: usize| {
            tickets.put(ticket(&large), vec![Owner::Key(owner.to_string().into())], 0, 9)
        };
        let fit = TICKET_BYTES_MAX / ticket(&large).bytes();
        let first = put(0).unwrap();
        assert!((1..fit).all(|owner| put(owner).is_ok()));
        assert_eq!(put(fit), Err(NoTicket::TooMany));
        tickets.take(&first, 0).unwrap();
        assert!(put(fit).is_ok());
    }

    #[test]
    fn an_owner_has_its_bytes_and_others_have_theirs() {
        let tickets = Tickets::default();
        let large = "a".repeat(TICKET_BYTES_EACH_MAX / 2);
        let put = |owner| tickets.put(ticket(&large), vec![token(owner)], 0, 9);
        let first = put(1).unwrap();
        assert_eq!(put(1), Err(NoTicket::TooMany));
        assert!(put(2).is_ok());
        tickets.take(&first, 0).unwrap();
        assert!(put(1).is_ok());
    }

    #[test]
    fn small_tickets_weigh_something() {
        let tickets = Tickets::default();
        let put = |number: usize| {
            tickets.put(ticket(""), vec![Owner::Key((number % 1_000).to_string().into())], 0, 9)
        };
        let most = TICKET_BYTES_MAX / TICKET_BYTES_BESIDE;
        let made = (0..TICKETS_MAX).take_while(|number| put(*number).is_ok()).count();
        assert!(made <= most && made * 2 > most, "{made} of {most}");
    }

    #[test]
    fn all_tokens_of_a_key_are_one_owner() {
        let tickets = Tickets::default();
        let key = || Owner::Key("key".into());
        let put = |number| tickets.put(ticket("a"), vec![token(number), key()], 0, 9);
        for number in 0..TICKETS_OF_KEY_MAX {
            put(number).unwrap();
        }
        assert_eq!(put(TICKETS_OF_KEY_MAX), Err(NoTicket::TooMany));
        assert_eq!(tickets.put(ticket("a"), vec![key()], 0, 9), Err(NoTicket::TooMany));
        assert!(tickets.put(ticket("a"), vec![token(0)], 0, 9).is_ok(), "of another key");
    }

    #[test]
    fn a_token_is_known_by_its_name_or_by_its_bytes() {
        let named = |issuer: &str, name: &str| TokenIdentity {
            issuer: Some(issuer.into()),
            token_id: Some(name.into()),
            ..TokenIdentity::default()
        };
        let owner = |identity: &TokenIdentity, bytes: &str| {
            Owner::token(identity, bytes.as_bytes()).unwrap()
        };
        assert_eq!(owner(&named("i", "a"), "x"), owner(&named("i", "a"), "y"));
        assert_ne!(owner(&named("i", "a"), "x"), owner(&named("i", "b"), "x"));
        assert_ne!(owner(&named("i", "a"), "x"), owner(&named("j", "a"), "x"));
        let unnamed = TokenIdentity::default();
        assert_eq!(owner(&unnamed, "x"), owner(&unnamed, "x"));
        assert_ne!(owner(&unnamed, "x"), owner(&unnamed, "y"));
    }
}
