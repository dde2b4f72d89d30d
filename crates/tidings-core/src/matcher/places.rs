//! A set of places in a text, by which patterns are matched without going back: each step of a
//! pattern turns the places where it may begin into the places where it may end. The cost is
//! bounded by steps times bytes, whatever the pattern. Knows no pattern language.

use crate::matcher::steps::Steps;

/// What one search costs beside the bytes that it passes.
const STEPS_PER_FIND: usize = 24;

/// What stands behind a literal. Where it is a wildcard, only the first place that reaches as far
/// as others do has to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// A wildcard for everything.
    Everything,
    /// A run without this byte.
    Run(u8),
    /// Something else.
    Anything,
}

/// Places between the bytes of a text, from 0 to its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    words: Vec<u64>,
    length: usize,
}

impl Places {
    /// No place of a text with `length` bytes.
    pub(super) fn none(length: usize) -> Places {
        Places { words: vec![0; length / 64 + 1], length }
    }

    /// Only the beginning of a text with `length` bytes.
    pub(super) fn beginning(length: usize) -> Places {
        let mut places = Places::none(length);
        places.add(0);
        places
    }

    /// Whether `place` is in the set.
    pub(super) fn holds(&self, place: usize) -> bool {
        self.words.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Whether the end of the text is in the set.
    pub(super) fn holds_end(&self) -> bool {
        self.holds(self.length)
    }

    /// Adds `place`; places behind the text are not kept.
    pub(super) fn add(&mut self, place: usize) {
        if place <= self.length
            && let Some(word) = self.words.get_mut(place / 64)
        {
            *word |= 1 << (place % 64);
        }
    }

    /// Adds all places of `other`.
    pub(super) fn add_all(&mut self, other: &Places) {
        for (word, added) in self.words.iter_mut().zip(&other.words) {
            *word |= added;
        }
    }

    /// Whether nothing can match any more.
    pub(super) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Adds all places from `first` to `last`, both included.
    pub(super) fn add_all_between(&mut self, first: usize, last: usize) {
        let last = last.min(self.length);
        if first > last {
            return;
        }
        let (low, high) = (first / 64, last / 64);
        let above = u64::MAX << (first % 64);
        let below = u64::MAX >> (63 - last % 64);
        for (at, word) in self.words.iter_mut().enumerate().take(high + 1).skip(low) {
            let mut added = u64::MAX;
            if at == low {
                added &= above;
            }
            if at == high {
                added &= below;
            }
            *word |= added;
        }
    }

    /// The first place that is `from` or behind it.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let mut above = u64::MAX << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(from / 64) {
            let word = word & above;
            if word != 0 {
                return Some(at * 64 + word.trailing_zeros() as usize);
            }
            above = u64::MAX;
        }
        None
    }

    /// Every place that a run of any bytes reaches, at least `least` of them.
    pub(super) fn after_anything(&self, least: usize) -> Places {
        let mut ends = Places::none(self.length);
        if let Some(first) = self.next(0) {
            ends.add_all_between(first + least, self.length);
        }
        ends
    }

    /// Every place that a run of at least one byte other than `stop` reaches.
    pub(super) fn after_run(&self, text: &[u8], stop: u8, steps: &mut Steps) -> Places {
        let mut ends = Places::none(self.length);
        let mut from = self.next(0);
        while let Some(first) = from {
            if !steps.take(STEPS_PER_FIND) {
                break;
            }
            let rest = text.get(first..).unwrap_or_default();
            let last = memchr::memchr(stop, rest).map_or(self.length, |length| first + length);
            ends.add_all_between(first + 1, last);
            from = self.next(last + 1);
        }
        ends
    }

    /// The ends of `literal` where it stands at one of these places: all that matter to what
    /// follows it.
    pub(super) fn after_literal(
        &self,
        text: &[u8],
        literal: &[u8],
        follows: Follows,
        steps: &mut Steps,
    ) -> Places {
        let mut ends = Places::none(self.length);
        let finder = memchr::memmem::Finder::new(literal);
        let mut from = self.next(0);
        while let Some(first) = from {
            if !steps.take(STEPS_PER_FIND + literal.len() / 16) {
                break;
            }
            let rest = text.get(first..).unwrap_or_default();
            let Some(found) = finder.find(rest) else { break };
            let found = first + found;
            from = self.next(found + 1);
            if !self.holds(found) {
                continue;
            }
            let end = found + literal.len();
            ends.add(end);
            match follows {
                Follows::Anything => {}
                Follows::Everything => break,
                Follows::Run(stop) => {
                    let rest = text.get(end..).unwrap_or_default();
                    let Some(length) = memchr::memchr(stop, rest) else { break };
                    // The next end that matters lies behind the stop.
                    from = self.next(found + length + 1);
                }
            }
        }
        ends
    }

    /// The places in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                // Clears the lowest bit; there is none left when `bit` is 64.
                left &= left.checked_sub(1)?;
                Some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No more than a failing test can do without.
    fn all(places: &Places) -> Vec<usize> {
        places.iter().take(1_000).collect()
    }

    #[test]
    fn places_lie_between_bytes_and_no_further() {
        let mut places = Places::beginning(64);
        places.add(64);
        places.add(65);
        assert_eq!(all(&places), [0, 64]);
        assert!(places.holds_end() && !places.holds(65) && !places.holds(63));
        assert!(Places::none(64).is_empty());
    }

    fn places(length: usize, held: &[usize]) -> Places {
        let mut places = Places::none(length);
        held.iter().for_each(|place| places.add(*place));
        places
    }

    fn literal(from: &Places, text: &[u8], literal: &[u8], follows: Follows) -> Vec<usize> {
        all(&from.after_literal(text, literal, follows, &mut Steps::unlimited()))
    }

    #[test]
    fn a_literal_moves_each_place_where_it_stands() {
        let from = places(5, &[0, 1, 3]);
        assert_eq!(literal(&from, b"abab_", b"ab", Follows::Anything), [2]);
        assert_eq!(literal(&from, b"ababa", b"ba", Follows::Anything), [3, 5]);
        assert!(literal(&from, b"ababa", b"xx", Follows::Anything).is_empty());
        let all = places(4, &[0, 1, 2, 3, 4]);
        assert_eq!(literal(&all, b"aaaa", b"aa", Follows::Anything), [2, 3, 4]);
    }

    #[test]
    fn only_what_reaches_further_matters_before_a_wildcard() {
        let all = places(7, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(literal(&all, b"aaa/aa/", b"a", Follows::Everything), [1]);
        assert_eq!(literal(&all, b"aaa/aa/", b"a", Follows::Run(b'/')), [1, 5]);
        assert_eq!(literal(&all, b"aaa/aa/", b"a/a", Follows::Run(b'/')), [5]);
        assert_eq!(literal(&all, b"/a/a/a/", b"/a/", Follows::Run(b'/')), [3, 5, 7]);
    }

    #[test]
    fn ranges_are_places_one_by_one() {
        for first in [0, 1, 63, 64, 65, 127, 130] {
            for last in [0, 62, 63, 64, 128, 129, 130, 140] {
                let mut ranged = Places::none(130);
                ranged.add_all_between(first, last);
                let single: Vec<usize> = (first..=last.min(130)).collect();
                assert_eq!(ranged, places(130, &single), "{first} {last}");
                assert_eq!(ranged.next(0), single.first().copied());
                assert_eq!(ranged.next(64), single.iter().copied().find(|place| *place >= 64));
            }
        }
        let run = places(6, &[0, 1, 4]).after_run(b"ab/c/d", b'/', &mut Steps::unlimited());
        assert_eq!(all(&run), [1, 2]);
        assert_eq!(places(3, &[1]).after_anything(1), places(3, &[2, 3]));
        assert_eq!(places(3, &[3]).after_anything(1), places(3, &[]));
    }

    #[test]
    fn m22_a_search_costs_more_for_a_longer_literal() {
        let cost = |literal: &[u8]| {
            let mut steps = Steps::exactly(10_000);
            Places::beginning(3).after_literal(b"abc", literal, Follows::Anything, &mut steps);
            10_000 - steps.left()
        };
        assert_eq!(cost(b"a"), 24);
        assert_eq!(cost(&[b'x'; 160]), 34);
        // Longer than what a search costs otherwise.
        assert_eq!(cost(&[b'x'; 1_600]), 124);
    }
}
