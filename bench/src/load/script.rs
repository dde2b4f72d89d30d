//! What subscribers get who are to get the same, byte for byte, and what is in it. Knows no
//! subscribers.

use std::collections::{HashMap, VecDeque};

use crate::decode::{Broken, Found, Stream};

/// An update in a script.
#[derive(Debug)]
struct Mark {
    /// Bytes of the script up to its last one.
    end: u64,
    number: u64,
    /// Bytes of its payload.
    length: usize,
    /// The parser as it is behind it.
    behind: Stream,
}

/// A place in a script: whoever is there would find in what follows what the script's parser found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes of the script before it.
    pub(super) position: u64,
    /// Updates of the script before it, of which there is at least one.
    pub(super) updates: u64,
}

/// The last bytes that somebody got, parsed once. It begins and ends anywhere, but a mark with the
/// parser's state is always at or before its first byte.
#[derive(Debug)]
pub(super) struct Script {
    bytes: Vec<u8>,
    /// The position of the first of these bytes.
    begin: u64,
    marks: VecDeque<Mark>,
    /// Updates before the first of these marks.
    forgotten: u64,
    /// How many updates there are up to and with the one of a number.
    numbers: HashMap<u64, u64>,
    /// The parser as it is behind the last byte.
    parser: Stream,
}

impl Script {
    /// A script that begins behind an update, with the parser as it is there.
    pub(super) fn behind(number: u64, length: usize, parser: Stream) -> (Script, Place) {
        let mark = Mark { end: 0, number, length, behind: parser.clone() };
        let script = Script {
            bytes: Vec::new(),
            begin: 0,
            marks: VecDeque::from([mark]),
            forgotten: 0,
            numbers: HashMap::from([(number, 1)]),
            parser,
        };
        (script, Place { position: 0, updates: 1 })
    }

    /// The position behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.bytes.len()
    }

    /// The place behind an update, if it is in the script and the parser is the same there.
    pub(super) fn place(&self, number: u64, parser: &Stream) -> Option<Place> {
        let updates = *self.numbers.get(&number)?;
        let mark = self.mark(updates.checked_sub(1)?)?;
        // What ended in the same update may be packed otherwise.
        (mark.behind == *parser).then_some(Place { position: mark.end, updates })
    }

    fn mark(&self, number: u64) -> Option<&Mark> {
        self.marks.get(usize::try_from(number.checked_sub(self.forgotten)?).ok()?)
    }

    /// The bytes from a position on: none where the script does not go so far, or has forgotten.
    fn from(&self, position: u64) -> &[u8] {
        let skipped = position.checked_sub(self.begin).and_then(|by| usize::try_from(by).ok());
        skipped.and_then(|by| self.bytes.get(by..)).unwrap_or(&[])
    }

    /// How many of these bytes are those that the script has at this position.
    pub(super) fn common(&self, position: u64, bytes: &[u8]) -> usize {
        let own = self.from(position);
        let length = own.len().min(bytes.len());
        match own.get(..length) == bytes.get(..length) {
            true => length,
            false => own.iter().zip(bytes).take_while(|(own, other)| own == other).count(),
        }
    }

    /// Goes on by so many bytes, which are there, and tells what is complete then.
    pub(super) fn pass(&self, place: &mut Place, bytes: usize, tell: &mut dyn FnMut(Found)) {
        place.position += bytes as u64;
        while let Some(mark) = self.mark(place.updates).filter(|mark| mark.end <= place.position) {
            tell(Found::Update(mark.number, mark.length));
            place.updates += 1;
        }
    }

    /// Goes on with what the first got who came to the end.
    ///
    /// # Errors
    ///
    /// When the parser says so. The script is then as it was.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let mut parser = self.parser.clone();
        let mut marks = Vec::new();
        let mut end = self.end();
        for line in lines(bytes) {
            end += line.len() as u64;
            let found = update(&mut parser, line)?;
            let mark = |(number, length)| Mark { end, number, length, behind: parser.clone() };
            marks.extend(found.map(mark));
        }
        let before = self.forgotten + self.marks.len() as u64;
        self.numbers.extend((before + 1..).zip(&marks).map(|(place, mark)| (mark.number, place)));
        self.marks.extend(marks);
        self.bytes.extend_from_slice(bytes);
        self.parser = parser;
        Ok(())
    }

    /// The parser as it is at a place that is not forgotten.
    ///
    /// # Errors
    ///
    /// None where it had none when it was here before.
    pub(super) fn parser_at(&self, place: Place) -> Result<Stream, Broken> {
        let mark = place.updates.checked_sub(1).and_then(|last| self.mark(last));
        let Some(mark) = mark else { return Err(Broken::Endless) };
        let mut parser = mark.behind.clone();
        let since = usize::try_from(place.position - mark.end).unwrap_or(usize::MAX);
        // Nothing is complete in it, or it would have a mark.
        parser.feed(self.from(mark.end).get(..since).unwrap_or(&[]), &mut |_| {})?;
        Ok(parser)
    }

    /// Forgets what nobody needs who is at this place or behind it.
    pub(super) fn forget(&mut self, before: Place) {
        while self.forgotten + 1 < before.updates
            && let Some(mark) = self.marks.pop_front()
        {
            self.forgotten += 1;
            if self.numbers.get(&mark.number) == Some(&self.forgotten) {
                self.numbers.remove(&mark.number);
            }
        }
        let begin = self.marks.front().map_or(before.position, |mark| mark.end);
        let length = usize::try_from(begin.saturating_sub(self.begin)).unwrap_or(usize::MAX);
        self.bytes.drain(..length.min(self.bytes.len()));
        self.begin = self.begin.max(begin);
    }
}

/// Bytes in pieces, each but the last with the line end at its end. At most one update is complete
/// with each, and with its last byte, however it is packed.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

/// The update that is complete with this piece.
pub(super) fn update(parser: &mut Stream, line: &[u8]) -> Result<Option<(u64, usize)>, Broken> {
    let mut complete = None;
    parser.feed(line, &mut |found| {
        if let Found::Update(number, length) = found {
            complete = Some((number, length));
        }
    })?;
    Ok(complete)
}
