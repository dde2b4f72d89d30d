//! Finds the segments of a folder and makes them usable: reads sidecars, makes missing ones, and
//! recovers the segment that was being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::note::CleanEnd;
use super::recovery::{self, Known, Scanned};
use super::segment::{Active, Header, Segment, sidecar_path};
use super::sidecar::Sidecar;
use crate::error::{OpenError, io_error};

/// What a folder holds.
pub(crate) struct Opened {
    /// In order.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// The last of them, when it can be gone on with.
    pub(crate) active: Option<Active>,
    /// Milliseconds that hubs have been running on this folder, as far as is known.
    pub(crate) observed: u64,
    /// A segment is missing between two others.
    pub(crate) torn_out: bool,
}

impl Opened {
    /// The last offset that stands in the folder.
    pub(crate) fn last(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.contents().last)
    }
}

/// The segment files of a folder, in order. Half-made files of an earlier process are removed.
pub(crate) fn segment_files(folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| io_error(folder, source))? {
        let path = entry.map_err(|source| io_error(folder, source))?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => files.push(path),
            Some("new") => {
                std::fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
            }
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

/// Opens all segments of a folder. `clean` is how the last process ended, if it ended well.
pub(crate) fn open(folder: &Path, clean: Option<CleanEnd>) -> Result<Opened, OpenError> {
    let files = segment_files(folder)?;
    let mut opened = Opened {
        segments: Vec::new(),
        active: None,
        observed: clean.map_or(0, |clean| clean.observed),
        torn_out: false,
    };
    let headers: Vec<_> = files.iter().map(|path| Header::read(path)).collect::<Result<_, _>>()?;
    for (at, (path, header)) in files.into_iter().zip(&headers).enumerate() {
        let segment = match Sidecar::read(&sidecar_path(&path)) {
            Some(sidecar) => {
                opened.observed = opened.observed.max(sidecar.closed);
                Arc::new(Segment::new(*header, path, sidecar.contents()))
            }
            None => match headers.get(at + 1) {
                Some(next) => close_late(path, *header, next)?,
                None => {
                    let segment = recover_last(path, *header, clean)?;
                    let active = Active::resume(Arc::clone(&segment));
                    opened.active = Some(active.map_err(|error| io_error(&segment.path, error))?);
                    segment
                }
            },
        };
        opened.observed = opened.observed.max(header.observed);
        let before = opened.segments.last().map(|before| before.header.base);
        opened.torn_out |= before.is_some_and(|before| before != header.previous);
        opened.segments.push(segment);
    }
    Ok(opened)
}

/// The segment that was being written when the last process ended.
fn recover_last(
    path: PathBuf,
    header: Header,
    clean: Option<CleanEnd>,
) -> Result<Arc<Segment>, OpenError> {
    let scanned = match clean.filter(|clean| clean.base == header.base) {
        Some(CleanEnd { position: end, last, .. }) => {
            recovery::inspect(&path, &header, Known { end, last })
        }
        None => recovery::recover(&path, &header),
    };
    let scanned = scanned.map_err(|source| io_error(&path, source))?;
    report_damage(&path, &scanned);
    Ok(Arc::new(Segment::new(header, path, scanned.contents)))
}

/// A segment that others follow but whose sidecar was lost, or never written.
fn close_late(path: PathBuf, header: Header, next: &Header) -> Result<Arc<Segment>, OpenError> {
    let scanned = recovery::inspect_followed(&path, &header, next.base);
    let scanned = scanned.map_err(|source| io_error(&path, source))?;
    report_damage(&path, &scanned);
    let segment = Arc::new(Segment::new(header, path, scanned.contents));
    let active = Active::resume(Arc::clone(&segment));
    let closed = active.and_then(|active| active.close(next.observed));
    closed.map_err(|source| io_error(&segment.path, source))?;
    Ok(segment)
}

fn report_damage(path: &Path, scanned: &Scanned) {
    if !scanned.damaged.is_empty() {
        tracing::error!(
            segment = %path.display(),
            places = scanned.damaged.len(),
            "damaged entries: readers are told of the gap"
        );
    }
}

/// One segment as a check finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// Entries that can be read.
    pub entries: u64,
    /// Bytes of records.
    pub bytes: u64,
    /// What is wrong with it, in words; empty when nothing is.
    pub problems: Vec<String>,
}

/// What a check of a data folder finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckReport {
    /// All segments, in order.
    pub segments: Vec<SegmentReport>,
}

/// Reads all segments without changing them. `clean` is how the last process ended, if known.
pub(crate) fn check(folder: &Path, clean: Option<CleanEnd>) -> Result<CheckReport, OpenError> {
    let mut report = CheckReport::default();
    let mut before = None;
    let files = std::fs::read_dir(folder).map_err(|source| io_error(folder, source))?;
    let mut files: Vec<_> = files
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    for path in files {
        let header = Header::read(&path)?;
        let sidecar = Sidecar::read(&sidecar_path(&path));
        let known = match (&sidecar, clean.filter(|clean| clean.base == header.base)) {
            (Some(sidecar), _) => Known { end: sidecar.end, last: sidecar.last },
            (None, Some(clean)) => Known { end: clean.position, last: clean.last },
            (None, None) => Known::default(),
        };
        let scanned = recovery::inspect(&path, &header, known);
        let scanned = scanned.map_err(|source| io_error(&path, source))?;
        let mut problems: Vec<_> = scanned
            .damaged
            .iter()
            .map(|position| format!("damaged entries from byte {position}"))
            .collect();
        let contents = &scanned.contents;
        if let Some(sidecar) = &sidecar {
            if sidecar.count != contents.count || sidecar.crc != contents.crc.clone().finalize() {
                let (has, had) = (contents.count, sidecar.count);
                problems.push(format!("{has} of {had} entries are readable"));
            }
            if !Sidecar::ids_are_whole(&sidecar_path(&path)) {
                problems.push("the table of ids is damaged".into());
            }
        }
        if before.is_some_and(|base| base != header.previous) {
            problems.push("a segment before it is missing".into());
        }
        before = Some(header.base);
        let (entries, bytes) = (contents.count, u64::from(contents.end));
        report.segments.push(SegmentReport { path, entries, bytes, problems });
    }
    Ok(report)
}
