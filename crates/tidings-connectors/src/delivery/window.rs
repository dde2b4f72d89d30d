//! The entries that a sink has taken from the history and that its position has not passed yet, in
//! order. Knows which are done, not why.

use std::collections::VecDeque;

use tidings_core::Offset;

/// Entries behind the position.
#[derive(Debug)]
pub(super) struct Window {
    places: VecDeque<Place>,
    bytes: usize,
    /// Up to where the history was taken.
    taken: Offset,
}

#[derive(Debug)]
struct Place {
    number: u64,
    weight: usize,
    is_done: bool,
}

impl Window {
    pub(super) fn new(position: Offset) -> Window {
        Window { places: VecDeque::new(), bytes: 0, taken: position }
    }

    /// Another entry, behind all others.
    pub(super) fn push(&mut self, number: u64, weight: usize) {
        self.places.push_back(Place { number, weight, is_done: false });
        self.bytes += weight;
    }

    /// The history was taken up to here, whatever of it was for this sink.
    pub(super) fn taken(&mut self, until: Offset) {
        self.taken = self.taken.max(until);
    }

    /// Nothing is owed for this entry any more. Answers whether it was known and open.
    pub(super) fn done(&mut self, number: u64) -> bool {
        let found = self.places.binary_search_by_key(&number, |place| place.number);
        let Some(place) = found.ok().and_then(|at| self.places.get_mut(at)) else { return false };
        let was_open = !std::mem::replace(&mut place.is_done, true);
        while let Some(first) = self.places.pop_front_if(|first| first.is_done) {
            self.bytes -= first.weight;
        }
        was_open
    }

    /// The place up to which nothing is owed.
    pub(super) fn position(&self) -> Offset {
        match self.places.front() {
            Some(open) => Offset::durable(open.number.saturating_sub(1)).min(self.taken),
            None => self.taken,
        }
    }

    /// Up to where the history was taken.
    pub(super) fn taken_until(&self) -> Offset {
        self.taken
    }

    /// Entries and bytes that are held for it.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.places.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_stands_before_the_first_that_is_open() {
        let mut window = Window::new(Offset::durable(4));
        for number in [6, 7, 9] {
            window.push(number, 10);
        }
        window.taken(Offset::durable(12));
        assert_eq!(window.position(), Offset::durable(5));
        assert!(window.done(7));
        assert!(!window.done(7) && !window.done(8));
        assert_eq!((window.position(), window.size()), (Offset::durable(5), (3, 30)));
        assert!(window.done(6));
        assert_eq!((window.position(), window.size()), (Offset::durable(8), (1, 10)));
        assert!(window.done(9));
        assert_eq!((window.position(), window.size()), (Offset::durable(12), (0, 0)));
    }
}
