//! Subscribers who are to get the same, byte for byte. What the first of them got is parsed and
//! kept as a script, what the others got is compared with it: equal parsers find the same in equal
//! bytes. Who got something else, a heartbeat or a chunk that ends elsewhere, is parsed until an
//! update behind which it is as far as the script. Knows no sockets and counts nothing.

use super::script::{Place, Script, lines};
use crate::decode::{Broken, Dialect, Found, Stream};
use crate::limits::{SCRIPT_BYTES, SCRIPT_BYTES_MAX};

/// Subscribers by what they get.
pub(crate) struct Alike {
    /// For each subscriber, its class and its number there.
    places: Vec<(usize, usize)>,
    classes: Vec<Class>,
}

impl Alike {
    /// For subscribers of these classes, numbers without large gaps.
    pub(crate) fn new(classes: impl Iterator<Item = usize>) -> Alike {
        let mut alike = Alike { places: Vec::new(), classes: Vec::new() };
        for class in classes {
            while alike.classes.len() <= class {
                alike.classes.push(Class::default());
            }
            if let Some(Class { readers, .. }) = alike.classes.get_mut(class) {
                alike.places.push((class, readers.len()));
                readers.push(Reader::Alone(Stream::behind_head(Dialect::Events)));
            }
        }
        alike
    }

    /// A subscriber's stream begins, from its first byte on.
    pub(crate) fn begin(&mut self, subscriber: usize) {
        if let Some((class, number)) = self.find(subscriber)
            && let Some(reader) = class.readers.get_mut(number)
        {
            *reader = Reader::Alone(Stream::behind_head(Dialect::Events));
        }
    }

    /// Takes what arrived for a subscriber and tells what is in it.
    ///
    /// # Errors
    ///
    /// Those of its stream.
    pub(crate) fn take(
        &mut self,
        subscriber: usize,
        bytes: &[u8],
        tell: &mut dyn FnMut(Found),
    ) -> Result<(), Broken> {
        let Some((class, number)) = self.find(subscriber) else { return Err(Broken::Refused) };
        class.take(number, bytes, tell)
    }

    fn find(&mut self, subscriber: usize) -> Option<(&mut Class, usize)> {
        let (class, number) = *self.places.get(subscriber)?;
        Some((self.classes.get_mut(class)?, number))
    }
}

/// Subscribers with one script.
#[derive(Default)]
struct Class {
    readers: Vec<Reader>,
    /// None before the first update, and where nobody is along any more.
    script: Option<Script>,
    /// Bytes of the script above which it is asked who needs them.
    bytes: usize,
}

/// How far somebody is.
enum Reader {
    /// With a parser of its own.
    Alone(Stream),
    /// At a place of the script.
    Along(Place),
}

impl Class {
    fn take(
        &mut self,
        number: usize,
        mut bytes: &[u8],
        tell: &mut dyn FnMut(Found),
    ) -> Result<(), Broken> {
        // Each time an update further, or alone from where it was along.
        while !bytes.is_empty() {
            let Some(reader) = self.readers.get_mut(number) else { return Ok(()) };
            let used = match (reader, &mut self.script) {
                (Reader::Along(place), Some(script)) => {
                    let used = script.common(place.position, bytes);
                    script.pass(place, used, tell);
                    let (place, behind) = (*place, bytes.get(used..).unwrap_or(&[]));
                    if behind.is_empty() {
                        return Ok(());
                    }
                    if place.position == script.end() {
                        return self.lead(number, behind, tell);
                    }
                    self.leave(number, place)?;
                    used
                }
                _ => self.alone(number, bytes, tell)?,
            };
            bytes = bytes.get(used..).unwrap_or(&[]);
        }
        Ok(())
    }

    /// Somebody at the script's end brings what follows.
    fn lead(
        &mut self,
        number: usize,
        bytes: &[u8],
        tell: &mut dyn FnMut(Found),
    ) -> Result<(), Broken> {
        if let (Some(script), Some(Reader::Along(place))) =
            (&mut self.script, self.readers.get_mut(number))
        {
            script.extend(bytes)?;
            script.pass(place, bytes.len(), tell);
        }
        self.forget()
    }

    /// From this place on somebody has a parser of its own.
    fn leave(&mut self, number: usize, place: Place) -> Result<(), Broken> {
        if let (Some(script), Some(reader)) = (&self.script, self.readers.get_mut(number)) {
            *reader = Reader::Alone(script.parser_at(place)?);
        }
        Ok(())
    }

    /// Parses until an update from which on somebody is along again. How many bytes that took.
    fn alone(
        &mut self,
        number: usize,
        bytes: &[u8],
        tell: &mut dyn FnMut(Found),
    ) -> Result<usize, Broken> {
        let mut used = 0;
        for line in lines(bytes) {
            let Some(Reader::Alone(stream)) = self.readers.get_mut(number) else {
                return Err(Broken::Endless);
            };
            let mut update = None;
            stream.feed(line, &mut |found| {
                tell(found);
                if let Found::Update(number, length) = found {
                    update = Some((number, length));
                }
            })?;
            used += line.len();
            if let Some((update, length)) = update
                && self.join(number, update, length)
            {
                break;
            }
        }
        Ok(used)
    }

    /// Whether somebody who has just got an update is along from here on.
    fn join(&mut self, number: usize, update: u64, length: usize) -> bool {
        let Some(Reader::Alone(stream)) = self.readers.get(number) else { return false };
        let known = self.script.as_ref().and_then(|script| script.place(update, stream));
        let place = match known {
            Some(place) => place,
            // Nobody reads what nobody else gets, and what somebody is at stays.
            None if self.readers.len() < 2 || self.along().next().is_some() => return false,
            None => {
                let (script, place) = Script::behind(update, length, stream.clone());
                (self.script, self.bytes) = (Some(script), SCRIPT_BYTES);
                place
            }
        };
        if let Some(reader) = self.readers.get_mut(number) {
            *reader = Reader::Along(place);
        }
        true
    }

    fn along(&self) -> impl Iterator<Item = (usize, Place)> {
        self.readers.iter().enumerate().filter_map(|(number, reader)| match reader {
            Reader::Along(place) => Some((number, *place)),
            Reader::Alone(_) => None,
        })
    }

    /// Forgets what everybody has who is along, and leaves behind who is too far behind.
    fn forget(&mut self) -> Result<(), Broken> {
        let kept = |class: &Class| class.script.as_ref().map_or(0, Script::kept);
        if kept(self) <= self.bytes {
            return Ok(());
        }
        if kept(self) > SCRIPT_BYTES_MAX {
            let end = self.script.as_ref().map_or(0, Script::end);
            self.leave_before(end.saturating_sub(SCRIPT_BYTES_MAX as u64 / 2))?;
        }
        let last = self.along().map(|(_, place)| place).min_by_key(|place| place.position);
        if let (Some(script), Some(place)) = (&mut self.script, last) {
            script.forget(place);
        }
        if kept(self) > SCRIPT_BYTES_MAX {
            // So much without an update in it is not worth comparing.
            self.leave_before(u64::MAX)?;
            self.script = None;
        }
        self.bytes = (kept(self) * 2).clamp(SCRIPT_BYTES, SCRIPT_BYTES_MAX);
        Ok(())
    }

    /// Whoever is before this position has a parser of its own from now on.
    fn leave_before(&mut self, position: u64) -> Result<(), Broken> {
        let late = |(_, place): &(usize, Place)| place.position < position;
        let late: Vec<_> = self.along().filter(late).collect();
        late.into_iter().try_for_each(|(number, place)| self.leave(number, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const OTHERS_LENGTH: usize = "bench 7 99 xx".len();

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn event(number: u64) -> String {
        chunk(&format!("id: urn:{number}\ndata: bench {number} 99 xx\n\n"))
    }

    fn events(numbers: impl IntoIterator<Item = u64>) -> String {
        numbers.into_iter().map(event).collect()
    }

    /// Subscribers of one class, whose heads came.
    fn alike(count: usize) -> Alike {
        let mut alike = Alike::new((0..count).map(|_| 0));
        (0..count)
            .for_each(|subscriber| assert_eq!(take(&mut alike, subscriber, HEAD), [u64::MAX]));
        alike
    }

    /// The numbers of updates that are found, the largest number for the beginning of a stream.
    fn try_take(alike: &mut Alike, subscriber: usize, bytes: &[u8]) -> Result<Vec<u64>, Broken> {
        let mut told = Vec::new();
        alike.take(subscriber, bytes, &mut |found| {
            told.push(if let Found::Update(number, _) = found { number } else { u64::MAX });
        })?;
        Ok(told)
    }

    fn take(alike: &mut Alike, subscriber: usize, text: &str) -> Vec<u64> {
        try_take(alike, subscriber, text.as_bytes()).unwrap()
    }

    /// Who is compared and not parsed.
    fn along(alike: &Alike) -> Vec<usize> {
        alike.classes[0].along().map(|(number, _)| number).collect()
    }

    #[test]
    fn what_is_equal_is_told_to_all_and_parsed_for_one() {
        let mut alike = alike(3);
        let text = events(0..9);
        for subscriber in 0..3 {
            assert_eq!(take(&mut alike, subscriber, &text), Vec::from_iter(0..9));
        }
        assert_eq!(along(&alike), [0, 1, 2]);
        // Whoever comes first is parsed, now another one.
        for subscriber in [2, 0, 1] {
            assert_eq!(take(&mut alike, subscriber, &events(9..12)), [9, 10, 11]);
        }
        assert_eq!(along(&alike), [0, 1, 2]);
    }

    #[test]
    fn what_is_lost_repeated_swapped_or_foreign_is_told_as_it_came() {
        let cases: [&[u64]; 6] = [
            &[0, 1, 3, 4, 5],
            &[0, 1, 2, 2, 3, 4, 5],
            &[0, 1, 3, 2, 4, 5],
            &[0, 1, 2, 99, 3, 4, 5],
            &[5, 4, 3, 2, 1, 0],
            &[0, 1, 2, 3, 4],
        ];
        for case in cases {
            // Before the others and behind them.
            for order in [[0, 1, 2], [1, 2, 0]] {
                let mut alike = alike(3);
                for subscriber in order {
                    let own = if subscriber == 0 { case } else { &[0, 1, 2, 3, 4, 5] };
                    let text = events(own.iter().copied());
                    assert_eq!(take(&mut alike, subscriber, &text), own, "{case:?} {order:?}");
                }
            }
        }
    }

    #[test]
    fn an_update_of_another_length_is_told_with_that() {
        let mut alike = alike(2);
        let longer = chunk("id: urn:1\ndata: bench 1 99 xxx\n\n");
        for (subscriber, second, length) in [(0, event(1), 0), (1, longer, 1)] {
            let mut told = Vec::new();
            let text = event(0) + &second + &event(2);
            let tell = &mut |found| told.push(found);
            alike.take(subscriber, text.as_bytes(), tell).unwrap();
            let update = |number, more| Found::Update(number, OTHERS_LENGTH + more);
            assert_eq!(told, [update(0, 0), update(1, length), update(2, 0)]);
        }
    }

    #[test]
    fn who_got_a_comment_is_along_again_behind_the_next_update() {
        for first in 0..2 {
            let mut alike = alike(2);
            let plain = events(0..6);
            let commented = events(0..3) + &chunk(":\n") + &events(3..6);
            for subscriber in [first, 1 - first] {
                let text = if subscriber == 0 { &plain } else { &commented };
                assert_eq!(take(&mut alike, subscriber, text), Vec::from_iter(0..6));
            }
            assert_eq!(along(&alike), [0, 1], "the first was {first}");
        }
    }

    #[test]
    fn who_got_it_in_other_chunks_is_told_the_same() {
        let whole: String =
            (0..6).map(|number| format!("id: a\ndata: bench {number} 99 xx\n\n")).collect();
        for at in 1..whole.len() {
            let (left, right) = whole.split_at(at);
            let mut alike = alike(3);
            let texts = [events(0..6), chunk(&whole), chunk(left) + &chunk(right)];
            for (subscriber, text) in texts.iter().enumerate() {
                assert_eq!(take(&mut alike, subscriber, text), Vec::from_iter(0..6), "{at}");
                assert_eq!(take(&mut alike, subscriber, &event(6)), [6], "{at}");
            }
        }
    }

    #[test]
    fn an_update_is_told_when_its_last_byte_is_there_wherever_reads_end() {
        let text = events(0..4);
        for at in 0..=text.len() {
            let mut alike = alike(3);
            let (left, right) = text.split_at(at);
            // The first reads all, others in two parts; and the first reads the first part only.
            for firsts in [&[text.as_str()][..], &[left][..], &[left, right][..]] {
                firsts.iter().for_each(|part| drop(take(&mut alike, 0, part)));
                let mut stream = Stream::behind_head(Dialect::Events);
                let mut count = 0;
                stream.feed((HEAD.to_owned() + left).as_bytes(), &mut |_| count += 1).unwrap();
                for subscriber in 1..3 {
                    let told = take(&mut alike, subscriber, left);
                    assert_eq!(told.len(), count - 1, "{at}");
                    let rest = take(&mut alike, subscriber, right);
                    assert_eq!([told, rest].concat(), [0, 1, 2, 3], "{at}");
                }
                (0..3).for_each(|subscriber| alike.begin(subscriber));
                (0..3).for_each(|subscriber| drop(take(&mut alike, subscriber, HEAD)));
            }
        }
    }

    #[test]
    fn nonsense_and_ends_break_the_stream_that_has_them_and_no_other() {
        for bad in ["data: x\n\n", "0\r\n\r\n"] {
            let mut alike = alike(3);
            (0..3).for_each(|subscriber| drop(take(&mut alike, subscriber, &events(0..2))));
            // At the end of what is known, and beside what is known.
            assert!(try_take(&mut alike, 0, (event(2) + bad).as_bytes()).is_err());
            alike.begin(0);
            assert_eq!(take(&mut alike, 1, &events(2..4)), [2, 3]);
            assert_eq!(take(&mut alike, 2, &event(2)), [2]);
            assert!(try_take(&mut alike, 2, bad.as_bytes()).is_err());
            assert_eq!(take(&mut alike, 1, &event(4)), [4]);
        }
    }

    #[test]
    fn what_everybody_has_is_forgotten_and_who_is_far_behind_is_told_all_the_same() {
        let mut alike = alike(3);
        let long = "x".repeat(50_000);
        let event = |number| chunk(&format!("data: bench {number} 99 {long}\n\n"));
        for number in 0..20 {
            (0..3).for_each(|who| assert_eq!(take(&mut alike, who, &event(number)), [number]));
        }
        let kept = |alike: &Alike| alike.classes[0].script.as_ref().map_or(0, Script::kept);
        assert!(kept(&alike) <= SCRIPT_BYTES + 2 * event(0).len());
        // The last one stays away for longer than anything is kept, in the midst of an update.
        let cut = event(20);
        let (begun, rest) = cut.split_at(100);
        assert!(take(&mut alike, 2, begun).is_empty());
        for number in 20..300 {
            (0..2).for_each(|who| assert_eq!(take(&mut alike, who, &event(number)), [number]));
            assert!(kept(&alike) <= SCRIPT_BYTES_MAX + event(0).len());
        }
        assert_eq!(along(&alike), [0, 1]);
        assert_eq!(take(&mut alike, 2, rest), [20]);
        for number in 21..300 {
            assert_eq!(take(&mut alike, 2, &event(number)), [number]);
        }
        assert_eq!(along(&alike), [0, 1, 2]);
    }

    #[test]
    fn comments_without_end_are_not_kept() {
        let mut alike = alike(2);
        (0..2).for_each(|who| assert_eq!(take(&mut alike, who, &event(0)), [0]));
        let comments = chunk(&":\n".repeat(100_000)).repeat(SCRIPT_BYTES_MAX / 200_000 + 1);
        assert!(take(&mut alike, 0, &comments).is_empty());
        assert!(alike.classes[0].script.is_none() && along(&alike).is_empty());
        assert_eq!(take(&mut alike, 0, &event(1)), [1]);
        assert_eq!(take(&mut alike, 1, &(comments + &event(1))), [1]);
        assert_eq!(along(&alike), [0, 1]);
    }

    #[test]
    fn who_shares_with_nobody_keeps_nothing() {
        let mut alike = alike(1);
        assert_eq!(take(&mut alike, 0, &events(0..9)), Vec::from_iter(0..9));
        assert!(alike.classes[0].script.is_none());
    }

    /// Whatever comes in whatever parts: who is compared is told what a parser finds.
    #[test]
    fn everybody_is_told_what_a_parser_of_his_own_would_tell() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 16).unwrap() % below
        };
        for round in 0..300 {
            let mut alike = alike(4);
            let mut streams: Vec<Vec<u8>> = Vec::new();
            for _ in 0..4 {
                let mut parts: Vec<String> = (0..12).map(event).collect();
                for _ in 0..random(3) {
                    let (at, other) = (random(parts.len()), random(parts.len()));
                    match random(6) {
                        0 => drop(parts.remove(at)),
                        1 => parts.insert(at, event(other as u64)),
                        2 => parts.swap(at, other),
                        3 => parts.insert(at, chunk(":\n")),
                        4 => parts[at] = chunk(&format!("data: bench {other} 9\r\n\r\n")),
                        _ => parts[at].replace_range(..1, "?"),
                    }
                }
                streams.push(parts.concat().into_bytes());
            }
            let mut own = vec![Stream::behind_head(Dialect::Events); 4];
            own.iter_mut().for_each(|own| own.feed(HEAD.as_bytes(), &mut |_| {}).unwrap());
            while streams.iter().any(|stream| !stream.is_empty()) {
                let who = random(4);
                let length = (random(120) + 1).min(streams[who].len());
                let part: Vec<u8> = streams[who].drain(..length).collect();
                let (mut told, mut wanted) = (Vec::new(), Vec::new());
                let result = alike.take(who, &part, &mut |found| told.push(found));
                let expected = own[who].feed(&part, &mut |found| wanted.push(found));
                assert_eq!(result, expected, "{round}");
                if expected.is_err() {
                    // Nothing is told of a piece that breaks the script's end.
                    assert!(wanted.starts_with(&told), "{round}");
                    streams[who].clear();
                } else {
                    assert_eq!(told, wanted, "{round}");
                }
            }
        }
    }
}
