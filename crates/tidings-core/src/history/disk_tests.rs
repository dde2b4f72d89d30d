//! The disk history against a model: reopened, crashed, damaged, trimmed, with clocks that jump.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::Stored;
use crate::hub_tests::{FakeClock, options, update};
use crate::limits::SEGMENT_BYTES_MIN;
use crate::store::Store;
use crate::*;

fn on_disk(folder: &Path) -> HistoryOptions {
    HistoryOptions {
        hold_bytes: 0,
        path: Some(folder.to_owned()),
        durability: Durability::Fsync,
        keep: Keep::default(),
        segment_bytes: SEGMENT_BYTES_MIN,
    }
}

fn hub(folder: &Path) -> Hub {
    hub_with(on_disk(folder), &Arc::new(FakeClock::default()))
}

fn hub_with(history: HistoryOptions, clock: &Arc<FakeClock>) -> Hub {
    Hub::open(options(history), Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

async fn publish(hub: &Hub, topic: &str, data: &str) -> Receipt {
    hub.publish(&Grant::operator(), update(topic, data)).await.unwrap()
}

/// What a reader from the start gets: data, or the gaps it is told.
fn read_all(hub: &Hub) -> Vec<Result<String, Missed>> {
    let matchers = vec![Arc::new(Matcher::Any)];
    let grant = Arc::new(Grant::operator());
    let mut subscription =
        hub.subscribe(Selection { matchers, grant, scope: None }, Start::Earliest);
    let mut all = Vec::new();
    while !subscription.is_live() {
        let mut batch = Batch::new();
        let taken = subscription.take(&mut batch);
        let text = |entry: &Arc<Entry>| String::from_utf8(entry.update.data.to_vec()).unwrap();
        all.extend(batch.iter().map(|entry| Ok(text(entry))));
        if let Err(missed) = taken {
            all.push(Err(missed));
        }
    }
    all
}

fn data(hub: &Hub) -> Vec<String> {
    read_all(hub).into_iter().map(|read| read.expect("no gap")).collect()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// Flips a byte of the record that holds `data`.
fn damage(path: &Path, data: &str) {
    let bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(data.len()).position(|window| window == data.as_bytes()).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
}

fn large(number: usize) -> String {
    format!("entry {number:06} {}", "x".repeat(2_000))
}

#[tokio::test]
async fn a_reopened_history_has_everything_in_order_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut cursor = Arc::<str>::from("");
    for life in 0..3 {
        let hub = hub(folder.path());
        for number in 0..400 {
            let text = large(life * 400 + number);
            let receipt = publish(&hub, "a", &text).await;
            assert_eq!(receipt.durability, Durability::Fsync);
            if expected.len() == 450 {
                cursor = receipt.cursor;
            }
            expected.push(text);
        }
        assert!(data(&hub) == expected);
    }
    assert!(segments(folder.path()).len() > 2);
    let hub = hub(folder.path());
    let Located::Entry(after) = hub.locate(&cursor) else { panic!() };
    let matchers = vec![Arc::new(Matcher::Any)];
    let selection = Selection { matchers, grant: Arc::new(Grant::anonymous()), scope: None };
    let mut behind = hub.subscribe(selection, Start::After(after));
    let mut batch = Batch::new();
    while !behind.is_live() {
        behind.take(&mut batch).unwrap();
    }
    assert_eq!(batch.len(), expected.len() - 451);
    assert_eq!(hub.last_entry().unwrap().update.data, expected.last().unwrap().as_bytes());
}

#[tokio::test]
async fn publishers_ids_are_found_in_every_segment_at_their_earliest_entry() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = std::collections::HashMap::new();
    for _ in 0..2 {
        let hub = hub(folder.path());
        for number in 0..900 {
            let mut named = update("a", &large(number));
            let id = format!("id-{}", number % 700);
            named.id = Some(Line::parse(&id).unwrap());
            let receipt = hub.publish(&Grant::operator(), named).await.unwrap();
            first.entry(id).or_insert(receipt.offset);
        }
        for (id, offset) in &first {
            assert_eq!(hub.locate(id), Located::Entry(*offset), "{id}");
        }
        assert_eq!(hub.locate("id-700"), Located::Unknown);
    }
    assert!(segments(folder.path()).len() > 2);
}

#[tokio::test]
async fn a_damaged_middle_is_a_told_gap_and_the_check_names_the_segment() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path());
    for number in 0..1_000 {
        publish(&hub, "a", &large(number)).await;
    }
    drop(hub);
    let files = segments(folder.path());
    assert!(files.len() >= 2);
    // One in the middle of a closed segment, the last of the open one, and one before it.
    damage(&files[0], "entry 000100");
    damage(files.last().unwrap(), "entry 000999");
    damage(files.last().unwrap(), "entry 000997");
    let report = check(folder.path()).unwrap();
    let bad: Vec<_> = report.segments.iter().filter(|one| !one.problems.is_empty()).collect();
    let paths: Vec<_> = bad.iter().map(|one| one.path.clone()).collect();
    assert_eq!(paths, [files[0].clone(), files.last().unwrap().clone()]);
    let hub = self::hub(folder.path());
    let read = read_all(&hub);
    let told = read.iter().filter(|one| one.is_err()).count();
    assert_eq!(told, 3, "{:?}", read.iter().filter(|one| one.is_err()).collect::<Vec<_>>());
    assert_eq!(read.len() - told, 997);
    assert!(read[100].is_err() && read[99].is_ok() && read[101].is_ok());
    // New entries stand behind the damage.
    publish(&hub, "a", "new").await;
    assert_eq!(read_all(&hub).last().unwrap().as_deref(), Ok("new"));
}

/// Makes the record of topic `a` that holds `data` one that cannot be read, with a right checksum.
fn make_nonsense(path: &Path, data: &str) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(data.len()).position(|window| window == data.as_bytes()).unwrap();
    // Head, body up to the topics, the one topic.
    let start = at - (24 + 14 + 3);
    let length = u32::from_le_bytes(bytes[start..start + 4].try_into().unwrap()) as usize;
    // The flag of attributes: the data is none.
    bytes[start + 32] |= 1 << 7;
    let crc = crc32fast::hash(&bytes[start + 8..start + 24 + length]);
    bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn an_entry_that_makes_no_sense_is_told_as_missed() {
    let folder = tempfile::tempdir().unwrap();
    let first = hub(folder.path());
    let mut places = Vec::new();
    for number in 0..6 {
        places.push(publish(&first, "a", &format!("entry {number}")).await.offset);
    }
    drop(first);
    let file = segments(folder.path()).pop().unwrap();
    for number in [0, 3, 4] {
        make_nonsense(&file, &format!("entry {number}"));
    }
    let hub = hub(folder.path());
    let ephemeral = Update { ephemeral: true, ..update("a", "ephemeral") };
    hub.publish(&Grant::operator(), ephemeral).await.unwrap();
    let text = |number| Ok(format!("entry {number}"));
    let missed = |number: usize| {
        let until = places[number];
        Err(Missed { after: Offset::durable(until.durable - 1), until })
    };
    let all = read_all(&hub);
    let ephemeral = Ok("ephemeral".to_owned());
    assert_eq!(
        all,
        [missed(0), text(1), text(2), missed(3), missed(4), text(5), ephemeral.clone()]
    );
    // Whoever did not ask for it does not miss it.
    let other = hub.matcher(Language::Exact, "b").unwrap();
    let grant = Arc::new(Grant::operator());
    let selection = Selection { matchers: vec![other], grant, scope: None };
    let mut others = hub.subscribe(selection, Start::Earliest);
    while !others.is_live() {
        others.take(&mut Batch::new()).unwrap();
    }
    assert_eq!(hub.counters().missed.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_lost_sidecar_is_made_again_also_when_a_block_edge_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path());
    for number in 0..1_000 {
        publish(&hub, "a", &large(number)).await;
    }
    drop(hub);
    let first = &segments(folder.path())[0];
    std::fs::remove_file(first.with_extension("idx")).unwrap();
    for number in 120..140 {
        damage(first, &format!("entry {number:06}"));
    }
    let hub = self::hub(folder.path());
    let read = read_all(&hub);
    assert_eq!(read.iter().filter(|one| one.is_ok()).count(), 980);
    assert!(read.iter().any(Result::is_err), "the gap is told");
    assert!(first.with_extension("idx").exists());
}

#[tokio::test]
async fn only_one_hub_uses_a_folder_and_only_a_known_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let first = hub(folder.path());
    publish(&first, "a", "x").await;
    let clock = || Arc::new(FakeClock::default()) as Arc<dyn Clock>;
    let second = Hub::open(options(on_disk(folder.path())), clock());
    let text = second.unwrap_err().to_string();
    assert!(text.contains("in use by another process"), "{text}");
    drop(first);
    let segment = &segments(folder.path())[0];
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.write_all_at(&77u32.to_le_bytes(), 8).unwrap();
    let other = Hub::open(options(on_disk(folder.path())), clock()).unwrap_err().to_string();
    assert!(other.contains("version 77") && other.contains("version 1"), "{other}");
    file.write_all_at(b"NOTOURS!", 0).unwrap();
    let foreign = Hub::open(options(on_disk(folder.path())), clock()).unwrap_err().to_string();
    assert!(foreign.contains("not a Tidings history file"), "{foreign}");
}

#[tokio::test]
async fn retention_keeps_what_was_promised_and_readers_of_the_rest_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let keep = Keep { entries: Some(200), ..Keep::default() };
    let hub = hub_with(HistoryOptions { keep, ..on_disk(folder.path()) }, &clock);
    let first = publish(&hub, "a", "first").await;
    for number in 0..2_000 {
        publish(&hub, "a", &number.to_string()).await;
        clock.monotonic.fetch_add(1_000, Ordering::Relaxed);
    }
    let kept = data(&hub);
    assert!(kept.len() >= 200 && kept.len() < 300, "{}", kept.len());
    assert_eq!(kept.last().unwrap(), "1999");
    assert_eq!(hub.locate(&first.cursor), Located::Trimmed);
    let matchers = vec![Arc::new(Matcher::Any)];
    let selection = Selection { matchers, grant: Arc::new(Grant::anonymous()), scope: None };
    let mut behind = hub.subscribe(selection, Start::After(first.offset));
    let missed = behind.take(&mut Batch::new()).unwrap_err();
    assert_eq!(missed.after, first.offset);
    let mut batch = Batch::new();
    behind.take(&mut batch).unwrap();
    // Another segment may have gone since.
    let rest: Vec<_> = batch.iter().map(|entry| entry.update.data.as_ref()).collect();
    let from = kept.iter().position(|text| text.as_bytes() == rest[0]).unwrap();
    let kept: Vec<_> = kept[from..].iter().map(String::as_bytes).collect();
    assert!(kept.starts_with(&rest), "without a gap");
}

#[tokio::test]
async fn age_is_the_time_that_the_hub_was_running_so_that_a_jumping_clock_deletes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let hour = 3_600_000;
    let keep = Keep { age: Some(Duration::from_millis(hour)), ..Keep::default() };
    let history = HistoryOptions { keep, ..on_disk(folder.path()) };
    let mut ids = std::collections::HashSet::new();
    for (life, jump) in [0, hour, 10 * 365 * 24 * hour, 5].into_iter().enumerate() {
        clock.wall.store(jump + hour, Ordering::Relaxed);
        let hub = hub_with(history.clone(), &clock);
        for number in 0..10 {
            let receipt = publish(&hub, "a", &format!("{life} {number}")).await;
            assert!(ids.insert(receipt.id), "an id was repeated");
            clock.monotonic.fetch_add(2_000, Ordering::Relaxed);
        }
        clock.wall.store(0, Ordering::Relaxed);
        publish(&hub, "a", "after a jump back").await;
        assert_eq!(data(&hub).len(), (life + 1) * 11);
    }
    let hub = hub_with(history, &clock);
    for _ in 0..20 {
        clock.monotonic.fetch_add(hour / 10, Ordering::Relaxed);
        publish(&hub, "a", "later").await;
    }
    let kept = data(&hub);
    assert!(kept.iter().all(|text| text == "later"), "{kept:?}");
    assert!(kept.len() >= 10 && kept.len() < 20, "{}", kept.len());
}

#[tokio::test]
async fn the_epoch_changes_when_acknowledged_entries_may_be_gone_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let cursor_of = async |hub: &Hub| {
        let mut cursor = Arc::<str>::from("");
        for number in 0..600 {
            cursor = publish(hub, "a", &large(number)).await.cursor;
        }
        cursor
    };
    let first = cursor_of(&hub(&path)).await;
    assert!(matches!(hub(&path).locate(&first), Located::Entry(_)));
    // A copy, as from a backup.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let restored = hub(&copy);
    assert_eq!(restored.locate(&first), Located::OtherEpoch);
    assert_eq!(data(&restored).len(), 600);
    let cursor = cursor_of(&restored).await;
    drop(restored);
    assert!(matches!(hub(&copy).locate(&cursor), Located::Entry(_)));
    // A segment that is gone: the newest, then one in the middle.
    std::fs::remove_file(segments(&copy).last().unwrap()).unwrap();
    let shorter = hub(&copy);
    assert_eq!(shorter.locate(&cursor), Located::OtherEpoch);
    let cursor = cursor_of(&shorter).await;
    drop(shorter);
    let files = segments(&copy);
    std::fs::remove_file(&files[files.len() / 2]).unwrap();
    let hub = hub(&copy);
    assert_eq!(hub.locate(&cursor), Located::OtherEpoch);
    assert!(read_all(&hub).iter().any(Result::is_err), "the missing segment is a told gap");
}

#[tokio::test]
async fn a_repeated_publication_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut keyed = update("a", "x");
    keyed.idempotency_key = Some(Line::parse("key").unwrap());
    let first = hub(folder.path()).publish(&Grant::operator(), keyed.clone()).await.unwrap();
    let hub = hub(folder.path());
    let again = hub.publish(&Grant::operator(), keyed).await.unwrap();
    assert_eq!(again, Receipt { repeated: true, ..first });
    assert_eq!(data(&hub).len(), 1);
}

#[tokio::test]
async fn a_key_is_remembered_after_a_long_pause() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let age = u64::try_from(limits::IDEMPOTENCY_AGE.as_millis()).unwrap();
    let keyed = |key: &str| {
        let idempotency_key = Some(Line::parse(key).unwrap());
        Update { idempotency_key, ..update("a", key) }
    };
    let operator = Grant::operator();
    let first = hub_with(on_disk(folder.path()), &clock);
    for key in ["early", "late"] {
        first.publish(&operator, keyed(key)).await.unwrap();
        for time in [&clock.wall, &clock.monotonic] {
            time.fetch_add(age + 1, Ordering::Relaxed);
        }
    }
    publish(&first, "a", "without a key").await;
    let last = first.publish(&operator, keyed("last")).await.unwrap();
    clock.wall.fetch_add(age - 1, Ordering::Relaxed);
    first.publish(&operator, keyed("newest")).await.unwrap();
    drop(first);
    // The hub is away for a day, and the computer was started anew.
    clock.wall.fetch_add(24 * 3_600_000, Ordering::Relaxed);
    clock.monotonic.store(age * 10, Ordering::Relaxed);
    let hub = hub_with(on_disk(folder.path()), &clock);
    clock.monotonic.fetch_add(age, Ordering::Relaxed);
    let again = hub.publish(&operator, keyed("last")).await.unwrap();
    assert_eq!(again, Receipt { repeated: true, ..last });
    assert!(hub.publish(&operator, keyed("newest")).await.unwrap().repeated);
    for old in ["early", "late"] {
        assert!(!hub.publish(&operator, keyed(old)).await.unwrap().repeated, "{old}");
    }
    clock.monotonic.fetch_add(1, Ordering::Relaxed);
    assert!(!hub.publish(&operator, keyed("last")).await.unwrap().repeated);
}

#[tokio::test]
async fn an_empty_segment_gives_its_name_to_one_that_is_large_enough() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for _ in 0..3 {
        let hub = hub(folder.path());
        for size in [10, 900_000, 600_000, 1_000_000, 20] {
            let text = "x".repeat(size);
            publish(&hub, "a", &text).await;
            expected.push(text);
        }
        assert!(data(&hub) == expected);
    }
    assert!(data(&hub(folder.path())) == expected);
}

#[tokio::test]
async fn a_place_of_the_hub_is_not_shadowed_by_a_publisher_who_repeats_it_as_an_id() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path());
    let first = publish(&hub, "a", "first").await;
    publish(&hub, "a", "between").await;
    let mut copy = update("a", "copy");
    copy.id = Some(Line::parse(&first.cursor).unwrap());
    hub.publish(&Grant::operator(), copy).await.unwrap();
    assert_eq!(hub.locate(&first.cursor), Located::Entry(first.offset));
}

#[tokio::test]
async fn all_segments_removed_after_a_crash_is_a_new_epoch_and_a_quiet_run_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let clock = Arc::new(FakeClock::default());
    let store = Store::open(&on_disk(&path), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let offset = Offset::durable(store.start.durable + 1);
    let entry = Entry::new(offset, store.epoch, 1, update("a", "x"), Arc::clone(&store.ids));
    store.history.append(&[Arc::new(entry)]).unwrap();
    let epoch = store.epoch;
    drop(store);
    std::fs::remove_file(&segments(&path)[0]).unwrap();
    let epoch_now = || {
        let store = Store::open(&on_disk(&path), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        store.history.close();
        store.epoch
    };
    let other = epoch_now();
    assert_ne!(other, epoch);
    assert_eq!(epoch_now(), other, "nothing was lost since");
    // An epoch that ended closes its segment; runs that publish nothing do not begin more of them.
    publish(&hub(&path), "a", "y").await;
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let cursors: Vec<_> = (0..3).map(|_| hub(&copy).cursor(Offset::durable(1))).collect();
    assert_eq!(cursors[0], cursors[1]);
    assert_eq!(cursors[1], cursors[2]);
}

#[tokio::test]
async fn a_publishers_id_from_an_epoch_that_lost_entries_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let mut named = update("a", "x");
    named.id = Some(Line::parse("mine").unwrap());
    let hub = hub(&path);
    hub.publish(&Grant::operator(), named).await.unwrap();
    assert!(matches!(hub.locate("mine"), Located::Entry(_)));
    drop(hub);
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let restored = self::hub(&copy);
    assert_eq!(restored.locate("mine"), Located::OtherEpoch);
    assert_eq!(data(&restored), ["x"]);
}

#[test]
fn files_of_a_history_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hub = hub(folder.path());
    for number in 0..600 {
        runtime.block_on(publish(&hub, "a", &large(number)));
    }
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn a_history_that_is_deleted_in_use_stops_being_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let hub = hub_with(on_disk(folder.path()), &clock);
    publish(&hub, "a", "x").await;
    std::fs::remove_file(&segments(folder.path())[0]).unwrap();
    clock.monotonic.fetch_add(2_000, Ordering::Relaxed);
    // The batch at hand may still be acknowledged; the writer looks behind each.
    let _last = hub.publish(&Grant::operator(), update("a", "y")).await;
    let refused = hub.publish(&Grant::operator(), update("a", "z")).await;
    assert!(matches!(refused, Err(Refused::StorageFailed(_))), "{refused:?}");
    assert!(!hub.is_writable());
}

/// One thing that happens to a history in the model test.
#[derive(Debug, Clone)]
enum Happening {
    /// A batch of so many entries of this size is acknowledged.
    Append(usize, usize),
    /// The process ends; the batch being written reached the disk in part.
    Crash(usize, Vec<(usize, usize)>),
    /// The process ends well.
    Close,
    /// So many milliseconds pass, and the history lets go of what is old: nothing here.
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let holes = proptest::collection::vec((0usize..200_000, 1usize..5_000), 0..5);
    prop_oneof![
        4 => (1usize..40, 0usize..60_000).prop_map(|(count, size)| Happening::Append(count, size)),
        2 => (0usize..40, holes).prop_map(|(count, holes)| Happening::Crash(count, holes)),
        1 => Just(Happening::Close),
        1 => (0u64..20_000_000).prop_map(Happening::Wait),
    ]
}

struct Model {
    clock: Arc<FakeClock>,
    folder: tempfile::TempDir,
    store: Option<Store>,
    next: u64,
    acknowledged: Vec<u64>,
}

impl Model {
    fn open(&mut self) -> &Store {
        // An age that never comes, but makes segments end.
        let keep = Keep { age: Some(Duration::from_secs(24 * 3_600)), ..Keep::default() };
        let options = HistoryOptions { keep, ..on_disk(self.folder.path()) };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        self.store.get_or_insert_with(|| {
            let store = Store::open(&options, clock).unwrap();
            let last = self.acknowledged.last().copied().unwrap_or(0);
            assert!(store.start.durable > last, "a place is never used twice");
            self.next = store.start.durable;
            store
        })
    }

    fn batch(&mut self, count: usize, size: usize) -> Vec<Arc<Entry>> {
        let (ids, epoch) = (Arc::clone(&self.open().ids), self.open().epoch);
        let mut entries = Vec::new();
        for _ in 0..count {
            self.next += 1;
            let update = update("a", &"y".repeat(size));
            let offset = Offset::durable(self.next);
            entries.push(Arc::new(Entry::new(offset, epoch, 1, update, Arc::clone(&ids))));
        }
        entries
    }

    fn read(&mut self) -> Vec<u64> {
        let store = self.open();
        let bounds = store.history.bounds();
        let mut position = bounds.before_first;
        let mut read = Vec::new();
        while position < bounds.last {
            let mut visit = |stored: &Stored<'_>| {
                read.push(stored.to_entry().unwrap().offset.durable);
                read.len() % 7 != 0
            };
            let reached = store.history.scan(position, bounds.last, &mut visit).expect("no gap");
            assert!(reached > position, "a scan moves on");
            position = reached;
        }
        read
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Append(count, size) => {
                let batch = self.batch(*count, *size);
                self.open().history.append(&batch).unwrap();
                self.acknowledged.extend(batch.iter().map(|entry| entry.offset.durable));
            }
            Happening::Crash(count, holes) => {
                let batch = self.batch(*count, 500);
                let file = segments(self.folder.path()).pop();
                let before = file.as_ref().map(|file| std::fs::read(file).unwrap());
                self.open().history.append(&batch).unwrap();
                self.store = None;
                // Undo parts of what the unacknowledged batch wrote.
                let after = segments(self.folder.path()).pop();
                if let (Some(file), Some(old)) = (after, before) {
                    undo(&file, &old, holes);
                }
            }
            Happening::Wait(time) => {
                self.clock.monotonic.fetch_add(*time, Ordering::Relaxed);
                self.open().history.maintain().unwrap();
            }
            Happening::Close => {
                if let Some(store) = self.store.take() {
                    store.history.close();
                }
            }
        }
    }
}

fn undo(file: &Path, old: &[u8], holes: &[(usize, usize)]) {
    let mut bytes = std::fs::read(file).unwrap();
    if bytes.len() != old.len() || bytes[..64] != old[..64] {
        return;
    }
    let start = bytes.iter().zip(old).position(|(new, old)| new != old);
    let end = bytes.iter().zip(old).rposition(|(new, old)| new != old);
    let (Some(start), Some(end)) = (start, end) else { return };
    for (from, length) in holes {
        let from = start + from % (end - start + 1);
        let until = (from + length).min(end + 1);
        bytes[from..until].copy_from_slice(&old[from..until]);
    }
    std::fs::write(file, bytes).unwrap();
}

/// Runs what happens and compares what is read after each step with what was acknowledged.
fn check_model(happenings: &[Happening]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(FakeClock::default());
    let mut model = Model { clock, folder, store: None, next: 0, acknowledged: Vec::new() };
    for happening in happenings {
        model.happen(happening);
        let read = model.read();
        prop_assert!(read.is_sorted_by(|first, second| first < second));
        let acknowledged: Vec<_> = read
            .iter()
            .copied()
            .filter(|offset| model.acknowledged.binary_search(offset).is_ok())
            .collect();
        prop_assert_eq!(&acknowledged, &model.acknowledged);
    }
    Ok(())
}

#[test]
fn a_segment_that_got_no_entry_hides_nothing_behind_it() {
    let happenings = [
        Happening::Append(1, 0),
        Happening::Crash(0, Vec::new()),
        Happening::Wait(10_800_001),
        Happening::Close,
        Happening::Append(19, 55_144),
    ];
    check_model(&happenings).unwrap();
}

#[tokio::test]
async fn a_segment_is_written_ahead_with_zeros_and_never_beyond_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let hub = hub(folder.path());
    let large = "x".repeat(300 * 1024);
    let mut expected = Vec::new();
    for number in 0..8 {
        let text = format!("{number} {large}");
        publish(&hub, "a", &text).await;
        expected.push(text);
        for path in segments(folder.path()) {
            let length = std::fs::metadata(&path).unwrap().len();
            assert!(length <= SEGMENT_BYTES_MIN, "{length} bytes at update {number}");
        }
    }
    assert!(segments(folder.path()).len() > 2, "several segments were filled");
    assert_eq!(data(&hub), expected);
    drop(hub);
    // As if the process had died with zeros behind its last record.
    let last = segments(folder.path()).pop().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
    file.set_len(SEGMENT_BYTES_MIN).unwrap();
    let reopened = hub_with(on_disk(folder.path()), &Arc::new(FakeClock::default()));
    assert_eq!(data(&reopened), expected);
    publish(&reopened, "a", "behind them").await;
    assert_eq!(data(&reopened).last().unwrap(), "behind them");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn no_acknowledged_entry_is_lost_or_moved_whatever_happens(
        happenings in proptest::collection::vec(happening(), 1..12)
    ) {
        check_model(&happenings)?;
    }
}
