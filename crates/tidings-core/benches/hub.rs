//! What the core costs beside its floor: durable publishing against a bare group-commit loop, and
//! replay through a subscription. Prints figures and ratios; judges nothing.
//!
//! `scripts/bench-core` runs it, once more with a slow disk.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tidings_core::{
    Batch, Clock, Durability, Grant, HistoryOptions, Hub, HubOptions, Keep, Language, Matcher,
    Namespace, Selection, Start, Topic, Update,
};
use tokio::sync::oneshot;

const PUBLISHERS: usize = 64;
const PAYLOAD: usize = 1024;
const SLICE: Duration = Duration::from_millis(700);
const ROUNDS: usize = 7;
const ENTRIES: usize = 1_000_000;

struct Now(Instant);

impl Clock for Now {
    fn wall(&self) -> u64 {
        1_700_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap_or(0)
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

fn open(folder: &Path, durability: Durability) -> Hub {
    let url = "https://hub.example/.well-known/mercure".parse().expect("a URL");
    let history = HistoryOptions {
        hold_bytes: 0,
        path: Some(folder.to_owned()),
        durability,
        keep: Keep::default(),
        segment_bytes: 64 * 1024 * 1024,
    };
    let namespace = Namespace::new(url);
    let options = HubOptions { namespace, update_bytes_max: 1024 * 1024, history };
    Hub::open(options, Arc::new(Now(Instant::now()))).expect("the history opens")
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder on this disk");
    let only = std::env::args().nth(1).filter(|word| !word.starts_with('-'));
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("publish") {
        for subscribers in [0, 1_000] {
            publish(&runtime, folder.path(), subscribers);
        }
    }
    if wanted("replay") {
        replay(&runtime, folder.path());
    }
}

/// Interleaved slices of the bare loop and of the hub; medians of the rates.
fn publish(runtime: &tokio::runtime::Runtime, folder: &Path, subscribers: usize) {
    let hub_folder = folder.join(format!("hub-{subscribers}"));
    let hub = open(&hub_folder, Durability::Fsync);
    let _readers: Vec<_> = (0..subscribers)
        .map(|_| {
            let matchers = vec![hub.matcher(Language::Exact, "https://example.com/a").expect("ok")];
            let selection =
                Selection { matchers, grant: Arc::new(Grant::anonymous()), scope: None };
            let mut subscription = hub.subscribe(selection, Start::Now);
            runtime.spawn(async move {
                let mut batch = Batch::new();
                loop {
                    batch.clear();
                    let _told = subscription.next(&mut batch).await;
                }
            })
        })
        .collect();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let file = folder.join(format!("bare-{subscribers}-{round}"));
        bare.push(runtime.block_on(bare_slice(&file)));
        std::fs::remove_file(&file).expect("the file is there");
        ours.push(runtime.block_on(hub_slice(&hub)));
    }
    let ratios = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    println!(
        "durable publish, {PUBLISHERS} publishers, {PAYLOAD} B, {subscribers} subscribers: \
         hub {:.0}/s, bare group commit {:.0}/s, ratio {:.2}",
        median(ours),
        median(bare),
        median(ratios)
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Publishes by the hub for one slice; answers updates a second.
async fn hub_slice(hub: &Hub) -> f64 {
    let published = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (hub, published) = (hub.clone(), Arc::clone(&published));
        tasks.spawn(async move {
            let grant = Grant::operator();
            let topic = Topic::parse("https://example.com/a").expect("a topic");
            let data = bytes::Bytes::from(vec![b'x'; PAYLOAD]);
            while begin.elapsed() < SLICE {
                let update = Update::new(topic.clone(), data.clone());
                hub.publish(&grant, update).await.expect("published");
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    published.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// The same publishers and bytes with nothing but one committer thread behind them.
async fn bare_slice(path: &Path) -> f64 {
    let file = File::create(path).expect("a file");
    file.set_len(1 << 30).expect("a sparse file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 1 << 30).expect("space");
    let (queue, queued) = mpsc::channel::<oneshot::Sender<()>>();
    let committer = std::thread::spawn(move || {
        let record = vec![b'x'; PAYLOAD + 100];
        let (mut position, mut bytes) = (0, Vec::new());
        while let Ok(first) = queued.recv() {
            let mut batch = vec![first];
            batch.extend(queued.try_iter());
            bytes.clear();
            batch.iter().for_each(|_| bytes.extend_from_slice(&record));
            file.write_all_at(&bytes, position).expect("written");
            file.sync_data().expect("synced");
            position += bytes.len() as u64;
            for waiting in batch {
                let _gone = waiting.send(());
            }
        }
    });
    let published = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (queue, published) = (queue.clone(), Arc::clone(&published));
        tasks.spawn(async move {
            while begin.elapsed() < SLICE {
                let (done, waiting) = oneshot::channel();
                queue.send(done).expect("the committer runs");
                waiting.await.expect("committed");
                published.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    drop(queue);
    while tasks.join_next().await.is_some() {}
    let rate = published.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64();
    committer.join().expect("the committer ended well");
    rate
}

/// Entries a second through one subscription on one thread, from a warm page cache.
fn replay(runtime: &tokio::runtime::Runtime, folder: &Path) {
    let hub = open(&folder.join("replay"), Durability::Written);
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let hub = hub.clone();
            tasks.spawn(async move {
                let grant = Grant::operator();
                for number in 0..ENTRIES / PUBLISHERS {
                    let each = publisher * (ENTRIES / PUBLISHERS) + number;
                    let topic = format!("https://example.com/books/{}", each % 1_000);
                    let topic = Topic::parse(&topic).expect("a topic");
                    let update = Update::new(topic, vec![b'x'; 256]);
                    hub.publish(&grant, update).await.expect("published");
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
    let template = "https://example.com/books/7{?x}";
    for (name, language, pattern) in [
        ("all", Language::Exact, "*"),
        ("1 in 1,000, exact", Language::Exact, "https://example.com/books/7"),
        ("1 in 1,000, URL pattern", Language::UrlPattern, "https://example.com/books/7"),
        ("1 in 1,000, template", Language::UriTemplate, template),
    ] {
        let matcher = hub.matcher(language, pattern).expect("a pattern");
        let rates = (0..ROUNDS).map(|_| one_replay(&hub, &matcher)).collect();
        println!("replay, 256 B, matcher selects {name}: {:.0} entries/s", median(rates));
    }
}

fn one_replay(hub: &Hub, matcher: &Arc<Matcher>) -> f64 {
    let matchers = vec![Arc::clone(matcher)];
    let selection = Selection { matchers, grant: Arc::new(Grant::anonymous()), scope: None };
    let mut subscription = hub.subscribe(selection, Start::Earliest);
    let begin = Instant::now();
    let (mut batch, mut taken) = (Batch::new(), 0);
    while !subscription.is_live() {
        batch.clear();
        subscription.take(&mut batch).expect("no gap");
        taken += batch.len();
    }
    assert!(taken >= ENTRIES / PUBLISHERS * PUBLISHERS / 1_000, "something was selected");
    (ENTRIES / PUBLISHERS * PUBLISHERS) as f64 / begin.elapsed().as_secs_f64()
}
