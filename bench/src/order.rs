//! Whether everybody got everything once and in one order. Knows no sockets and no payloads.
//!
//! Updates are counted for each topic, class (public or private) and publisher. A publisher sends
//! one after the other, so that every subscriber must see its counts without gap or repeat. In
//! which order updates of different publishers come is the hub's choice, but it must be the same
//! for all: each subscriber keeps a rolling hash of what it got, and one of what was public in it,
//! which are compared when everything is delivered.

/// Multiplies a rolling hash: any large odd number spreads well enough.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// An update, as far as order is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Who sent it.
    pub(crate) publisher: usize,
    /// Its topic.
    pub(crate) topic: usize,
    /// Whether only those with a token get it.
    pub(crate) private: bool,
    /// How many of this publisher, topic and class went before.
    pub(crate) sequence: u32,
}

/// A subscriber, as far as order is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// What it subscribed to.
    pub(crate) topic: usize,
    /// Whether it gets private updates.
    pub(crate) token: bool,
    /// Whether it must have got everything at the end. Those who read slowly need not.
    pub(crate) complete: bool,
}

/// What went wrong; all zero in a run that counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Faults {
    /// Deliveries that did not come.
    pub(crate) lost: u64,
    /// Deliveries that came again.
    pub(crate) duplicated: u64,
    /// Deliveries behind later ones, and subscribers whose order is not that of the others.
    pub(crate) misordered: u64,
    /// Deliveries of another topic, or of private updates without a token.
    pub(crate) astray: u64,
}

impl Faults {
    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        *self != Faults::default()
    }
}

/// Keeps account for all subscribers.
pub(crate) struct Order {
    publishers: usize,
    members: Vec<Member>,
    accounts: Vec<Account>,
    /// For each subscriber, class and publisher: the count that comes next.
    next: Vec<u32>,
    /// For each topic, class and publisher: how many were sent.
    sent: Vec<u32>,
    faults: Faults,
}

#[derive(Debug, Default, Clone, Copy)]
struct Account {
    all: u64,
    public: u64,
    /// Skipped, and not come late so far.
    missing: u32,
}

impl Order {
    /// For so many publishers and topics and these subscribers.
    pub(crate) fn new(publishers: usize, topics: usize, members: Vec<Member>) -> Order {
        Order {
            publishers,
            next: vec![0; members.len() * 2 * publishers],
            sent: vec![0; topics * 2 * publishers],
            accounts: vec![Account::default(); members.len()],
            members,
            faults: Faults::default(),
        }
    }

    fn index(&self, owner: usize, private: bool, publisher: usize) -> usize {
        (owner * 2 + usize::from(private)) * self.publishers + publisher
    }

    /// The place of the next update of this publisher.
    pub(crate) fn send(&mut self, publisher: usize, topic: usize, private: bool) -> Place {
        let index = self.index(topic, private, publisher);
        let mut place = Place { publisher, topic, private, sequence: 0 };
        if let Some(sent) = self.sent.get_mut(index) {
            place.sequence = *sent;
            *sent += 1;
        }
        place
    }

    /// Notes a delivery. Whether it is one that was waited for.
    pub(crate) fn receive(&mut self, subscriber: usize, update: Place) -> bool {
        let index = self.index(subscriber, update.private, update.publisher);
        let (Some(member), Some(account), Some(next)) = (
            self.members.get(subscriber),
            self.accounts.get_mut(subscriber),
            self.next.get_mut(index),
        ) else {
            self.faults.astray += 1;
            return false;
        };
        if member.topic != update.topic || (update.private && !member.token) {
            self.faults.astray += 1;
            return false;
        }
        if update.sequence < *next && account.missing == 0 {
            self.faults.duplicated += 1;
            return false;
        }
        if update.sequence < *next {
            account.missing -= 1;
            self.faults.misordered += 1;
        } else {
            account.missing += update.sequence - *next;
            *next = update.sequence + 1;
        }
        let what = (u64::from(update.sequence) << 16 | update.publisher as u64) << 1;
        let step = |hash: u64, what: u64| (hash ^ what).wrapping_mul(SPREAD).rotate_left(29);
        account.all = step(account.all, what | u64::from(update.private));
        if !update.private {
            account.public = step(account.public, what);
        }
        true
    }

    /// What went wrong since the last time, when everything must have arrived. What is lost is told
    /// once.
    pub(crate) fn settle(&mut self) -> Faults {
        let mut models: Vec<Option<Account>> = vec![None; self.sent.len()];
        for (number, (member, account)) in
            self.members.iter().zip(&mut self.accounts).enumerate().filter(|(_, m)| m.0.complete)
        {
            let width = 2 * self.publishers;
            let reach = if member.token { width } else { self.publishers };
            let got = self.next.iter_mut().skip(number * width).take(reach);
            for (next, &sent) in got.zip(self.sent.iter().skip(member.topic * width)) {
                self.faults.lost += u64::from(sent - *next);
                *next = sent;
            }
            self.faults.lost += u64::from(account.missing);
            account.missing = 0;
            // The first of each topic and class is what the others are compared with. A token's
            // holder is compared with another one, and in what is public with anybody.
            let mut model = |class: usize| match models.get_mut(member.topic * 2 + class) {
                Some(Some(model)) => *model,
                Some(none) => *none.insert(*account),
                None => *account,
            };
            let public = model(0).public;
            let all = if member.token { model(1).all } else { public };
            if account.public != public || account.all != all {
                self.faults.misordered += 1;
                (account.public, account.all) = (public, all);
            }
        }
        std::mem::take(&mut self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Faults = Faults { lost: 0, duplicated: 0, misordered: 0, astray: 0 };

    /// Three subscribers of one topic, the last without a token.
    fn order() -> Order {
        let member = |token| Member { topic: 0, token, complete: true };
        Order::new(2, 2, vec![member(true), member(true), member(false)])
    }

    /// Sends these and delivers them to all but the second, who gets what `change` makes of it.
    fn faults(
        sent: &[(usize, bool)],
        change: impl Fn(usize, &mut Vec<Place>),
        subscriber: usize,
    ) -> Faults {
        let mut order = order();
        let places: Vec<Place> =
            sent.iter().map(|(who, what)| order.send(*who, 0, *what)).collect();
        for number in 0..3 {
            let mut mine = places.clone();
            mine.retain(|place| number < 2 || !place.private);
            if number == subscriber {
                change(number, &mut mine);
            }
            for place in mine {
                order.receive(number, place);
            }
        }
        let found = order.settle();
        assert_eq!(order.settle(), NONE, "told once");
        found
    }

    const SENT: &[(usize, bool)] =
        &[(0, false), (1, false), (0, true), (1, true), (0, false), (0, false), (1, false)];

    #[test]
    fn everything_once_and_in_order_is_no_fault() {
        for subscriber in 0..3 {
            assert_eq!(faults(SENT, |_, _| (), subscriber), NONE);
        }
    }

    #[test]
    fn a_lost_delivery_is_found_wherever_it_is() {
        for subscriber in 0..3 {
            for at in 0..(if subscriber == 2 { 5 } else { 7 }) {
                let found = faults(
                    SENT,
                    |_, places| {
                        places.remove(at);
                    },
                    subscriber,
                );
                assert_eq!((found.lost, found.duplicated), (1, 0), "{subscriber} {at}");
            }
        }
    }

    #[test]
    fn a_doubled_delivery_is_found_wherever_it_is() {
        for at in 0..7 {
            let found = faults(SENT, |_, places| places.insert(at + 1, places[at]), 1);
            assert_eq!(found, Faults { duplicated: 1, ..NONE }, "{at}");
        }
    }

    #[test]
    fn a_swapped_delivery_is_found_wherever_it_is_and_whosever_it_is() {
        for subscriber in 0..2 {
            for at in 0..6 {
                let found = faults(SENT, |_, places| places.swap(at, at + 1), subscriber);
                assert!(found.misordered > 0 && found.lost + found.duplicated == 0, "{at}");
            }
        }
        for at in 0..4 {
            let found = faults(SENT, |_, places| places.swap(at, at + 1), 2);
            assert!(found.misordered > 0 && found.lost + found.duplicated == 0, "{at}");
        }
    }

    #[test]
    fn what_is_not_for_a_subscriber_is_found() {
        let mut order = order();
        let (private, foreign) = (order.send(0, 0, true), order.send(0, 1, false));
        assert!(order.receive(0, private) && order.receive(1, private));
        assert!(!order.receive(2, private) && !order.receive(0, foreign));
        assert_eq!(order.settle(), Faults { astray: 2, ..NONE });
    }
}
