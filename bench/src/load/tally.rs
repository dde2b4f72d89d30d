//! Counts what arrives and remembers what is on its way. Knows no sockets.

use crate::histogram::Histogram;
use crate::limits::REMEMBERED_MAX;
use crate::order::{Member, Order, Place};

/// An update that was published.
#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    /// Nanoseconds of the generator's clock.
    at: u64,
    place: Place,
    /// Deliveries to come.
    waiting: u32,
    /// Those of them that watchers wait for.
    watched: u32,
    acknowledged: bool,
}

/// What one slice counts, and the account of all.
pub(crate) struct Tally {
    order: Order,
    /// The last updates, by the low bits of their numbers.
    sent: Vec<Option<Sent>>,
    /// The number of the next update.
    next: u64,
    /// Updates that not everybody has, or whose publisher has no answer.
    pub(crate) unfinished: usize,
    /// Updates that not all watchers have who should.
    pub(crate) unseen: usize,
    /// For each topic, who gets public updates and who private ones.
    receivers: Vec<[u32; 2]>,
    /// The same of watchers.
    watching: Vec<[u32; 2]>,
    /// Whether a subscriber is one.
    watchers: Vec<bool>,
    members: Vec<Member>,
    payload: usize,
    pub(crate) deliveries: u64,
    pub(crate) publishes: u64,
    pub(crate) reads: u64,
    /// Deliveries of updates that nobody knows, or with a wrong length.
    pub(crate) unknown: u64,
    pub(crate) acknowledged: Histogram,
    pub(crate) delivered: Histogram,
}

impl Tally {
    /// For these subscribers, and updates of `payload` bytes. Nobody watches.
    pub(crate) fn new(
        publishers: usize,
        topics: usize,
        members: Vec<Member>,
        payload: usize,
    ) -> Tally {
        let complete = members.iter().filter(|member| member.complete);
        Tally {
            order: Order::new(publishers, topics, members.clone()),
            sent: vec![None; REMEMBERED_MAX],
            next: 0,
            unfinished: 0,
            unseen: 0,
            receivers: by_topic(topics, complete),
            watching: vec![[0, 0]; topics],
            watchers: vec![false; members.len()],
            members,
            payload,
            deliveries: 0,
            publishes: 0,
            reads: 0,
            unknown: 0,
            acknowledged: Histogram::default(),
            delivered: Histogram::default(),
        }
    }

    /// These subscribers tell how far the server is.
    pub(crate) fn watch(mut self, is_watcher: impl Fn(usize) -> bool) -> Tally {
        let complete = self.members.iter().enumerate().filter(|(_, member)| member.complete);
        let watchers = complete.filter(|(number, _)| is_watcher(*number));
        for (number, _) in watchers.clone() {
            if let Some(watcher) = self.watchers.get_mut(number) {
                *watcher = true;
            }
        }
        self.watching = by_topic(self.watching.len(), watchers.map(|(_, member)| member));
        self
    }

    /// Begins a slice.
    pub(crate) fn clear(&mut self) {
        (self.deliveries, self.publishes, self.reads) = (0, 0, 0);
        self.acknowledged.clear();
        self.delivered.clear();
    }

    /// The number of the next update.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    fn slot(&mut self, number: u64) -> Option<&mut Option<Sent>> {
        // The remainder is below the length of a list.
        self.sent.get_mut(usize::try_from(number).ok()? % REMEMBERED_MAX)
    }

    /// Whether another update can be remembered.
    pub(crate) fn has_room(&self) -> bool {
        self.unfinished < REMEMBERED_MAX / 2
    }

    /// Notes the next update.
    pub(crate) fn send(&mut self, publisher: usize, topic: usize, private: bool, at: u64) {
        let number = self.next;
        let place = self.order.send(publisher, topic, private);
        let receivers = self.receivers.get(topic).copied().unwrap_or_default();
        let watchers = self.watching.get(topic).copied().unwrap_or_default();
        let of = |[all, with_token]: [u32; 2]| if private { with_token } else { all };
        let (waiting, watched) = (of(receivers), of(watchers));
        if let Some(slot) = self.slot(number) {
            *slot = Some(Sent { number, at, place, waiting, watched, acknowledged: false });
        }
        self.next += 1;
        self.publishes += 1;
        self.unfinished += 1;
        self.unseen += usize::from(watched > 0);
    }

    /// Notes that a publisher was answered.
    pub(crate) fn acknowledge(&mut self, number: u64, now: u64) {
        let Some(Some(sent)) = self.slot(number) else { return };
        if sent.number != number || sent.acknowledged {
            return;
        }
        sent.acknowledged = true;
        let (at, done) = (sent.at, sent.waiting == 0);
        self.unfinished -= usize::from(done);
        self.acknowledged.add(now.saturating_sub(at));
    }

    /// Notes a delivery with a payload of so many bytes.
    pub(crate) fn deliver(&mut self, subscriber: usize, number: u64, length: usize, now: u64) {
        let slot = self.slot(number).map(|slot| *slot);
        let Some(Some(sent)) = slot.filter(|slot| slot.is_some_and(|sent| sent.number == number))
        else {
            self.unknown += 1;
            return;
        };
        if length != self.payload {
            self.unknown += 1;
            return;
        }
        let expected = self.order.receive(subscriber, sent.place);
        if !expected || !self.members.get(subscriber).is_some_and(|member| member.complete) {
            return;
        }
        self.deliveries += 1;
        self.delivered.add(now.saturating_sub(sent.at));
        let watches = self.watchers.get(subscriber).is_some_and(|watches| *watches);
        if let Some(Some(sent)) = self.slot(number) {
            sent.waiting = sent.waiting.saturating_sub(1);
            let done = sent.waiting == 0 && sent.acknowledged;
            let seen = watches && sent.watched == 1;
            sent.watched = sent.watched.saturating_sub(u32::from(watches));
            self.unfinished -= usize::from(done);
            self.unseen -= usize::from(seen);
        }
    }

    /// What went wrong, when everything should have arrived. Nothing is waited for any more.
    pub(crate) fn settle(&mut self) -> crate::order::Faults {
        let mut faults = self.order.settle();
        faults.astray += std::mem::take(&mut self.unknown);
        if self.unfinished > 0 {
            self.sent.fill(None);
            (self.unfinished, self.unseen) = (0, 0);
        }
        faults
    }
}

/// How many of each topic get public updates, and how many private ones.
fn by_topic<'a>(topics: usize, members: impl Iterator<Item = &'a Member>) -> Vec<[u32; 2]> {
    let mut counts = vec![[0, 0]; topics];
    for member in members {
        if let Some([public, private]) = counts.get_mut(member.topic) {
            *public += 1;
            *private += u32::from(member.token);
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let member = |token| Member { topic: 0, token, complete: true };
        Tally::new(1, 1, vec![member(true), member(false)], 256)
    }

    #[test]
    fn an_update_is_finished_when_all_have_it_and_its_publisher_knows() {
        let mut tally = tally();
        tally.send(0, 0, false, 100);
        tally.deliver(0, 0, 256, 200);
        tally.deliver(1, 0, 256, 200);
        assert_eq!(tally.unfinished, 1);
        tally.acknowledge(0, 300);
        assert_eq!((tally.unfinished, tally.deliveries), (0, 2));
        tally.send(0, 0, true, 400);
        tally.acknowledge(1, 500);
        tally.deliver(0, 1, 256, 500);
        assert_eq!(tally.unfinished, 0, "a private one is not waited for without a token");
        assert!(!tally.settle().any());
    }

    #[test]
    fn an_update_is_seen_when_all_watchers_have_it() {
        let mut tally = tally().watch(|number| number == 1);
        tally.send(0, 0, false, 100);
        tally.send(0, 0, true, 100);
        assert_eq!((tally.unseen, tally.unfinished), (1, 2), "who watches has no token");
        tally.deliver(0, 0, 256, 200);
        assert_eq!(tally.unseen, 1);
        tally.deliver(1, 0, 256, 200);
        tally.deliver(1, 0, 256, 200);
        assert_eq!((tally.unseen, tally.unfinished), (0, 2));
    }

    #[test]
    fn a_delivery_twice_is_counted_once_and_one_never_sent_is_a_fault() {
        let mut tally = tally();
        tally.send(0, 0, false, 100);
        tally.deliver(0, 0, 256, 200);
        tally.deliver(0, 0, 256, 200);
        tally.deliver(1, 0, 255, 200);
        tally.deliver(1, 9, 256, 200);
        assert_eq!(tally.deliveries, 1);
        let faults = tally.settle();
        assert_eq!((faults.duplicated, faults.lost, faults.astray), (1, 1, 2));
    }
}
