//! Figures of all turns, as rows and as a table of sums, medians and ratios. Knows no processes.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::{Opened, Slice};
use crate::order::Faults;
use crate::scenarios::{Measure, Scenario};

/// One turn of one server.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// The contestant's name.
    pub(crate) server: String,
    /// From 0.
    pub(crate) round: usize,
    /// CPU of the server with all its processes, in seconds.
    pub(crate) cpu: f64,
    /// CPU that others used meanwhile, in cores.
    pub(crate) foreign: f64,
    /// Whether that was so much that the turn says little.
    pub(crate) disturbed: bool,
    /// What was published.
    pub(crate) slice: Option<Slice>,
    /// What was opened.
    pub(crate) opened: Option<Opened>,
    /// Memory that the open streams took, in bytes.
    pub(crate) resident: Option<u64>,
    /// The same after they got something.
    pub(crate) resident_after: Option<u64>,
}

impl Row {
    /// Why the turn does not count, if it does not.
    pub(crate) fn void(&self) -> Option<String> {
        let (slice, opened) = (self.slice.as_ref(), self.opened.as_ref());
        let ended = slice.map_or(0, |slice| slice.ended);
        let refused = opened.map_or(0, |opened| opened.refused);
        let faults = [slice.map(|slice| slice.faults), opened.map(|opened| opened.faults)];
        let faults: Vec<_> = faults.into_iter().flatten().filter(Faults::any).collect();
        if ended == 0 && refused == 0 && faults.is_empty() {
            return None;
        }
        let reasons = [slice.map(|slice| &slice.reason), opened.map(|opened| &opened.reason)];
        let reasons: Vec<&str> = reasons.into_iter().flatten().map(String::as_str).collect();
        Some(format!(
            "{} {} round {}: {ended} streams ended, {refused} refused ({}), {faults:?}",
            self.scenario,
            self.server,
            self.round,
            reasons.join(" ")
        ))
    }

    /// What the turn's CPU was spent on: streams; deliveries; or publications, where no more than
    /// one listens to each, since peers without private updates deliver more of them.
    fn units(&self) -> f64 {
        let count = match (&self.slice, &self.opened) {
            (_, Some(opened)) => opened.streams as u64,
            (Some(slice), _) => slice.deliveries.max(slice.publishes),
            (None, None) => 0,
        };
        count as f64
    }

    fn cost(&self) -> f64 {
        self.cpu / self.units().max(1.0)
    }

    fn rate(&self) -> f64 {
        let seconds = match (&self.slice, &self.opened) {
            (_, Some(opened)) => opened.seconds,
            (Some(slice), _) => slice.seconds,
            (None, None) => 0.0,
        };
        if seconds > 0.0 { self.units() / seconds } else { 0.0 }
    }
}

/// The turns of one server.
struct Turns<'a> {
    name: &'a str,
    rows: Vec<&'a Row>,
}

impl Turns<'_> {
    fn cost(&self) -> f64 {
        let cpu: f64 = self.rows.iter().map(|row| row.cpu).sum();
        let units: f64 = self.rows.iter().map(|row| row.units()).sum();
        cpu / units.max(1.0)
    }

    fn median(&self, figure: impl Fn(&Row) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.rows.iter().map(|row| figure(row)).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(0.0)
    }

    fn slices(&self, figure: impl Fn(&Slice) -> f64) -> f64 {
        self.median(|row| row.slice.as_ref().map_or(0.0, &figure))
    }

    /// The ratio of sums, and the least and largest of single rounds.
    fn ratio(&self, base: &Turns<'_>) -> String {
        let each = self.rows.iter().zip(&base.rows).map(|(own, base)| own.cost() / base.cost());
        let each: Vec<f64> = each.collect();
        let least = each.iter().copied().fold(f64::INFINITY, f64::min);
        let most = each.iter().copied().fold(0.0, f64::max);
        format!("{:.2} ({least:.2}–{most:.2})", self.cost() / base.cost())
    }
}

/// A table in Markdown, under a heading of its own.
pub(crate) fn markdown(scenario: &Scenario, flags: &str, rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.round == 0) {
        names.push(&row.server);
    }
    let turns: Vec<Turns<'_>> = names
        .into_iter()
        .map(|name| Turns { name, rows: rows.iter().filter(|row| row.server == name).collect() })
        .collect();
    let bases: Vec<&Turns<'_>> = scenario
        .bases
        .iter()
        .filter_map(|base| turns.iter().find(|turns| turns.name == *base))
        .collect();
    let columns = columns(scenario.measure, &bases);
    let mut out = format!("### {}: {}\n\nLoad: `{flags}`.\n\n", scenario.name, scenario.about);
    let heads: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
    // Writing to a string does not fail.
    let _ok = writeln!(out, "| server | {} |", heads.join(" | "));
    let _ok = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
    for turns in &turns {
        let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(turns)).collect();
        let _ok = writeln!(out, "| {} | {} |", turns.name, cells.join(" | "));
    }
    for row in rows.iter().filter_map(Row::void) {
        let _ok = writeln!(out, "\n**VOID**: {row}");
    }
    let disturbed = rows.iter().filter(|row| row.disturbed).count();
    if disturbed > 0 {
        let _ok = writeln!(out, "\nDisturbed by others: {disturbed} of {} turns.", rows.len());
    }
    out
}

type Column<'a> = (String, Box<dyn Fn(&Turns<'_>) -> String + 'a>);

fn column<'a>(head: &str, cell: impl Fn(&Turns<'_>) -> String + 'a) -> Column<'a> {
    (head.to_owned(), Box::new(cell))
}

fn columns<'a>(measure: Measure, bases: &[&'a Turns<'a>]) -> Vec<Column<'a>> {
    let mut columns =
        vec![column("CPU s per million", |turns| format!("{:.2}", turns.cost() * 1e6))];
    for base in bases {
        let base = *base;
        let head = format!("CPU × {}", base.name);
        columns.push(column(&head, |turns| turns.ratio(base)));
    }
    columns.push(column("per second", |turns| format!("{:.0}", turns.median(Row::rate))));
    if let Some(base) = bases.first().copied() {
        let head = format!("rate × {}", base.name);
        columns.push(column(&head, |turns| {
            format!("{:.2}", turns.median(Row::rate) / base.median(Row::rate))
        }));
    }
    match measure {
        Measure::Slices(_) => columns.extend(slice_columns(bases.first().copied())),
        Measure::Idle(_) => {
            let each =
                |bytes: Option<u64>, row: &Row| bytes.unwrap_or(0) as f64 / row.units().max(1.0);
            columns.push(column("bytes per stream", move |turns| {
                format!("{:.0}", turns.median(|row| each(row.resident, row)))
            }));
            columns.push(column("after updates", move |turns| {
                format!("{:.0}", turns.median(|row| each(row.resident_after, row)))
            }));
            columns.push(column("last delivered after ms", |turns| {
                format!("{:.0}", turns.slices(|slice| slice.delivered.p999))
            }));
        }
        Measure::Opening => {}
        Measure::Storm(_) => columns.push(column("deliveries", |turns| {
            let of = |row: &Row| row.opened.as_ref().map_or(0, |opened| opened.deliveries) as f64;
            format!("{:.0}", turns.median(of))
        })),
    }
    columns
}

fn slice_columns<'a>(base: Option<&'a Turns<'a>>) -> Vec<Column<'a>> {
    let p99 = |turns: &Turns<'_>| turns.slices(|slice| slice.delivered.p99);
    let mut columns = vec![
        column("acknowledged p50 / p99 ms", |turns| {
            let (p50, p99) = (|s: &Slice| s.acknowledged.p50, |s: &Slice| s.acknowledged.p99);
            format!("{:.2} / {:.2}", turns.slices(p50), turns.slices(p99))
        }),
        column("delivered p50 / p99 / p99.9 ms", move |turns| {
            let p50 = turns.slices(|slice| slice.delivered.p50);
            let p999 = turns.slices(|slice| slice.delivered.p999);
            format!("{p50:.2} / {:.2} / {p999:.2}", p99(turns))
        }),
    ];
    if let Some(base) = base {
        let head = format!("delivered p99 × {}", base.name);
        columns.push(column(&head, move |turns| match p99(base) {
            0.0 => "–".to_owned(),
            base => format!("{:.2}", p99(turns) / base),
        }));
    }
    columns.push(column("frames per read", |turns| {
        let of = |slice: &Slice| slice.deliveries as f64 / (slice.reads as f64).max(1.0);
        format!("{:.1}", turns.slices(of))
    }));
    columns.push(column("cores: server / generator", |turns| {
        let busy = |cpu: fn(&Row, &Slice) -> f64| {
            let of = |row: &Row| row.slice.as_ref().map_or(0.0, |s| cpu(row, s) / s.seconds);
            turns.median(of)
        };
        format!("{:.2} / {:.2}", busy(|row, _| row.cpu), busy(|_, slice| slice.own_cpu))
    }));
    columns.push(column("visitors or changes a second", |turns| {
        format!("{:.0}", turns.slices(|slice| slice.visits as f64 / slice.seconds))
    }));
    columns.push(column("not published in time", |turns| {
        let owed: u64 = turns.rows.iter().filter_map(|row| Some(row.slice.as_ref()?.owed)).sum();
        owed.to_string()
    }));
    columns.push(column("generator s per million", |turns| {
        let own = |row: &Row| row.slice.as_ref().map_or(0.0, |slice| slice.own_cpu);
        format!("{:.2}", turns.median(|row| own(row) * 1e6 / row.units().max(1.0)))
    }));
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::scenario;

    fn row(server: &str, round: usize, cpu: f64, deliveries: u64) -> Row {
        let slice = Slice { deliveries, publishes: 1, reads: 10, seconds: 0.5, ..Slice::default() };
        Row {
            scenario: "a1".to_owned(),
            server: server.to_owned(),
            round,
            cpu,
            foreign: 0.0,
            disturbed: false,
            slice: Some(slice),
            opened: None,
            resident: None,
            resident_after: None,
        }
    }

    #[test]
    fn ratios_are_of_sums_and_ranges_of_rounds() {
        let rows = [
            row("tidings", 0, 3.0, 100),
            row("floor-write", 0, 1.0, 100),
            row("tidings", 1, 1.0, 100),
            row("floor-write", 1, 1.0, 100),
        ];
        let text = markdown(scenario("a1").unwrap(), "--window 1", &rows);
        assert!(text.contains("| tidings | 20000.00 | 2.00 (1.00–3.00) | 200 |"), "{text}");
        assert!(text.contains("| floor-write | 10000.00 | 1.00 (1.00–1.00) |"), "{text}");
        assert!(!text.contains("VOID"), "{text}");
    }

    #[test]
    fn a_turn_with_a_fault_is_void_and_the_table_says_so() {
        let mut rows = [row("tidings", 0, 1.0, 100)];
        if let Some(slice) = &mut rows[0].slice {
            slice.faults.lost = 1;
        }
        assert!(rows[0].void().unwrap().contains("lost: 1"));
        let text = markdown(scenario("a1").unwrap(), "", &rows);
        assert!(text.contains("**VOID**: a1 tidings round 0"), "{text}");
        let mut ended = row("tidings", 0, 1.0, 100);
        if let Some(slice) = &mut ended.slice {
            (slice.ended, slice.reason) = (2, "reset".to_owned());
        }
        assert!(ended.void().unwrap().contains("2 streams ended, 0 refused (reset)"));
    }
}
