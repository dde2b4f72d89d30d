//! A set of places in a text, by which patterns are matched without going back: each step of a
//! pattern turns the places where it may begin into the places where it may end. The cost is
//! bounded by steps times bytes, whatever the pattern. Knows no pattern language.

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

    /// The ends of `literal` wherever it stands at one of these places.
    pub(super) fn after_literal(&self, text: &[u8], literal: &[u8]) -> Places {
        let mut ends = Places::none(self.length);
        for place in self.iter() {
            if text.get(place..).is_some_and(|rest| rest.starts_with(literal)) {
                ends.add(place + literal.len());
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

    #[test]
    fn places_lie_between_bytes_and_no_further() {
        let mut places = Places::beginning(64);
        places.add(64);
        places.add(65);
        assert_eq!(places.iter().collect::<Vec<_>>(), [0, 64]);
        assert!(places.holds_end() && !places.holds(65) && !places.holds(63));
        assert!(Places::none(64).is_empty());
    }

    #[test]
    fn a_literal_moves_each_place_where_it_stands() {
        let mut places = Places::none(5);
        places.add(0);
        places.add(1);
        places.add(3);
        assert_eq!(places.after_literal(b"abab_", b"ab").iter().collect::<Vec<_>>(), [2]);
        assert_eq!(places.after_literal(b"ababa", b"ba").iter().collect::<Vec<_>>(), [3, 5]);
        assert!(places.after_literal(b"ababa", b"xx").is_empty());
    }
}
