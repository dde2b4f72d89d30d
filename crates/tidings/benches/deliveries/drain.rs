//! How soon a backlog is delivered by a sink with a rate, and whether the rate holds.

use crate::Arguments;
use crate::endpoint::Endpoint;
use crate::figures::table;
use crate::hub::Hub;
use crate::publisher::now;
use crate::webhooks::{KEY, backlog};

/// Wanted: at most 1.1 × the time that the rate allows, and in no second more than the rate + 5 %.
pub(crate) fn run(arguments: &Arguments) {
    let (entries, rate) = (arguments.get("entries", 100_000), arguments.get("rate", 5_000));
    let (topics, bytes) = (arguments.get("topics", 1_000), arguments.get("bytes", 1_024));
    let mut endpoint = Endpoint::start(None);
    let sink = format!(
        "[[sink]]\nkind = \"webhook\"\nname = \"bench\"\ntopics = [\"*\"]\nkey = \"topic\"\n\
         rate = {rate}\nsecrets = [\"whsec_{KEY}\"]\nurl = \"{}\"\n",
        endpoint.url("good")
    );
    let hub = Hub::start("fsync", None, &sink);
    backlog(&hub, entries, topics, bytes);
    endpoint.reset();
    let begin = now();
    hub.reload(&sink);
    let report = endpoint.wait_for(entries);
    // A sink with a rate sends nothing in its first second: that is in the time.
    let took = report.last.saturating_sub(begin) as f64 / 1e9;
    let allowed = entries as f64 / f64::from(rate);
    let part = report.busiest as f64 / f64::from(rate);
    let heads = ["allowed s", "took s", "× (≤ 1.1)", "most in a second", "× rate (≤ 1.05)"];
    let row = vec![
        format!("{allowed:.1}"),
        format!("{took:.1}"),
        format!("{:.3}", took / allowed),
        report.busiest.to_string(),
        format!("{part:.3}"),
    ];
    table(&format!("drain: {entries} updates that wait, {rate} a second"), &heads, &[row]);
}
