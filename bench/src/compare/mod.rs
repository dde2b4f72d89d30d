//! Lets servers work in turn, in one run, and says what each costs: absolute figures move with the
//! machine, ratios between servers that took turns do not. Servers are on CPUs of their own, with
//! all their threads, and generators on others. Knows nothing of protocols.

mod generator;
mod process;
mod server;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::contestants::{Contestant, contestant};
use crate::limits::FOREIGN_CORES_MAX;
use crate::load::{Opened, Slice};
use crate::scenarios::{Measure, SCENARIOS, Scenario, scenario};
use generator::Generator;
pub(crate) use server::Program;
use server::{Place, Server};
use table::Row;

/// Until a server has noticed that its streams are closed, and an idle one is idle.
const REST: Duration = Duration::from_millis(500);
/// How long streams are idle before memory is looked at: what opening them took is back by then.
const SETTLING: Duration = Duration::from_secs(15);
/// Publishing before the first round, which does not count.
const WARMING: Duration = Duration::from_millis(200);

/// The flags of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareOptions {
    /// What to measure: a1, a16, b, b5, c, d, e, f, f1, f100, r, t, h2, cores, w, stalled, connect,
    /// fsync, million.
    #[arg(long, value_delimiter = ',', required = true)]
    scenario: Vec<String>,
    /// Turns of each server.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Servers instead of the scenario's own: tidings, floor-write, floor-batch, nchan, redis,
    /// nats, mosquitto, uws …
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Another server, as NAME=COMMAND with {port} in it, that speaks Mercure. May be repeated.
    #[arg(long)]
    server: Vec<String>,
    /// The hub's program. Unset, $TIDINGS, or `tidings` beside this program.
    #[arg(long)]
    tidings: Option<PathBuf>,
    /// More configuration of the hub, TOML with tables of their own.
    #[arg(long, default_value = "")]
    settings: String,
    /// CPUs of servers, as taskset takes them.
    #[arg(long, default_value = "0")]
    server_cpus: String,
    /// CPUs of load generators.
    #[arg(long, default_value = "1")]
    load_cpus: String,
    /// Milliseconds of a slice, instead of the scenario's.
    #[arg(long)]
    slice: Option<u64>,
    /// More flags for all load generators, such as `--payload 2048`.
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    load: String,
    /// Fewer connections, where the scenario says how many.
    #[arg(long)]
    quick: bool,
    /// Appends every turn as a line of JSON.
    #[arg(long)]
    rows: Option<PathBuf>,
}

/// A server with its generator.
struct Running {
    contestant: Contestant,
    server: Server,
    generator: Generator,
}

/// Measures all scenarios and prints their tables. An error if a delivery was lost, repeated or
/// misordered anywhere.
pub(crate) fn run(options: &CompareOptions) -> io::Result<()> {
    let place = Place {
        tidings: hub_program(options)?,
        server_cpus: options.server_cpus.clone(),
        load_cpus: options.load_cpus.clone(),
        settings: options.settings.clone(),
    };
    let mut void = Vec::new();
    for name in &options.scenario {
        let known = || SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(" ");
        let scenario = scenario(name)
            .ok_or_else(|| io::Error::other(format!("{name}: not one of {}", known())))?;
        let rows = measure(scenario, options, &place)?;
        writeln!(
            io::stdout(),
            "{}",
            table::markdown(scenario, scenario.flags(options.quick), &rows)
        )?;
        if let Some(path) = &options.rows {
            let mut file = File::options().create(true).append(true).open(path)?;
            for row in &rows {
                writeln!(file, "{}", serde_json::to_string(row)?)?;
            }
        }
        // A peer that mixes up the order of several publishers is that: its table says so.
        let ours =
            |row: &&Row| ["tidings", "floor"].iter().any(|name| row.server.starts_with(name));
        void.extend(rows.iter().filter(ours).filter_map(Row::void));
    }
    if void.is_empty() {
        return Ok(());
    }
    let which = void.join("\n  ");
    Err(io::Error::other(format!(
        "VOID: not everything was delivered once and in order:\n  {which}"
    )))
}

fn hub_program(options: &CompareOptions) -> io::Result<PathBuf> {
    let given = options.tidings.clone().or_else(|| std::env::var_os("TIDINGS").map(PathBuf::from));
    given.map_or_else(|| Ok(std::env::current_exe()?.with_file_name("tidings")), Ok)
}

fn contestants(scenario: &Scenario, options: &CompareOptions) -> io::Result<Vec<Contestant>> {
    let own = scenario.servers.iter().map(|name| (*name).to_owned()).collect();
    let names: Vec<String> = if options.servers.is_empty() { own } else { options.servers.clone() };
    let mut found = Vec::new();
    for name in names {
        let known = contestant(&name);
        let known = known.ok_or_else(|| io::Error::other(format!("{name}: unknown server")))?;
        if known.program.is_installed() {
            found.push(known);
        } else {
            writeln!(io::stderr(), "{name} is not installed: left out")?;
        }
    }
    for other in &options.server {
        let (name, command) = other
            .split_once('=')
            .ok_or_else(|| io::Error::other(format!("{other}: say NAME=COMMAND")))?;
        let program = Program::Other(command.to_owned());
        found.push(Contestant { name: name.to_owned(), program, load: "", cpus: None });
    }
    Ok(found)
}

/// Starts a server with its generator.
fn start(
    scenario: &Scenario,
    contestant: &Contestant,
    options: &CompareOptions,
    place: &Place,
) -> io::Result<Running> {
    let cpus = contestant.cpus.unwrap_or(&place.server_cpus).to_owned();
    let server = Server::start(&contestant.program, &Place { server_cpus: cpus, ..place.clone() })?;
    let flags = [scenario.flags(options.quick), contestant.load, &options.load].join(" ");
    let generator = Generator::start(&server, &flags, &place.load_cpus)?;
    Ok(Running { contestant: contestant.clone(), server, generator })
}

fn measure(
    scenario: &'static Scenario,
    options: &CompareOptions,
    place: &Place,
) -> io::Result<Vec<Row>> {
    let contestants = contestants(scenario, options)?;
    let mut rows = Vec::new();
    if let Measure::Idle(length) = scenario.measure {
        for round in 0..options.rounds {
            for contestant in &contestants {
                let mut running = start(scenario, contestant, options, place)?;
                rows.push(idle(scenario, &mut running, round, length)?);
            }
        }
        return Ok(rows);
    }
    let mut all = Vec::new();
    for contestant in &contestants {
        let mut running = start(scenario, contestant, options, place)?;
        if scenario.measure != Measure::Opening {
            let row = turn(scenario, &mut running, 0, |running| opened(running, "open"))?;
            check_open(&row)?;
        }
        if matches!(scenario.measure, Measure::Slices(_)) {
            running.generator.ask::<Slice>(&format!("go {}", WARMING.as_millis()))?;
        }
        all.push(running);
    }
    std::thread::sleep(REST);
    for round in 0..options.rounds {
        for running in &mut all {
            rows.push(match scenario.measure {
                Measure::Slices(length) => {
                    let command = format!("go {}", options.slice.unwrap_or(length));
                    turn(scenario, running, round, |running| {
                        let slice = running.generator.ask::<Slice>(&command)?;
                        Ok((Some(slice), None))
                    })?
                }
                Measure::Storm(missed) => turn(scenario, running, round, |running| {
                    opened(running, &format!("storm {missed}"))
                })?,
                Measure::Opening | Measure::Idle(_) => {
                    let row = turn(scenario, running, round, |running| opened(running, "open"))?;
                    check_open(&row)?;
                    running.generator.ask::<Opened>("close")?;
                    std::thread::sleep(REST);
                    row
                }
            });
        }
    }
    if matches!(scenario.measure, Measure::Slices(_)) {
        stragglers(&mut all, &mut rows)?;
    }
    Ok(rows)
}

/// What came after the last turn and should not have is the last turn's fault.
fn stragglers(all: &mut [Running], rows: &mut [Row]) -> io::Result<()> {
    std::thread::sleep(REST);
    for running in all {
        let late = running.generator.ask::<Slice>("go 0")?;
        let last = rows.iter_mut().rev().find(|row| row.server == running.contestant.name);
        if let Some(slice) = last.and_then(|row| row.slice.as_mut())
            && late.faults.any()
        {
            slice.faults = late.faults;
        }
    }
    Ok(())
}

/// What a turn brings.
type Brought = (Option<Slice>, Option<Opened>);

fn opened(running: &mut Running, command: &str) -> io::Result<Brought> {
    Ok((None, Some(running.generator.ask::<Opened>(command)?)))
}

fn check_open(row: &Row) -> io::Result<()> {
    match &row.opened {
        Some(opened) if opened.refused > 0 => Err(io::Error::other(format!(
            "{}: {} of {} streams were refused: {}",
            row.server,
            opened.refused,
            opened.refused + opened.streams,
            opened.reason
        ))),
        _ => Ok(()),
    }
}

/// One turn, with the CPU that it took.
fn turn(
    scenario: &Scenario,
    running: &mut Running,
    round: usize,
    act: impl FnOnce(&mut Running) -> io::Result<Brought>,
) -> io::Result<Row> {
    let began = std::time::Instant::now();
    let pid = running.server.pid();
    let cpu = process::cpu(pid)?;
    let machine = process::machine()?;
    let load = running.generator.cpu()?;
    let (slice, opened) = act(running)?;
    let cpu = process::cpu(pid)? - cpu;
    let load = running.generator.cpu()? - load;
    let seconds = began.elapsed().as_secs_f64();
    let foreign = ((process::machine()? - machine - cpu - load) / seconds).max(0.0);
    Ok(Row {
        scenario: scenario.name.to_owned(),
        server: running.contestant.name.clone(),
        round,
        cpu,
        foreign,
        disturbed: foreign > FOREIGN_CORES_MAX,
        slice,
        opened,
        resident: None,
        resident_after: None,
    })
}

/// Memory of streams at which nothing happens, and what it is when they got something.
fn idle(scenario: &Scenario, running: &mut Running, round: usize, length: u64) -> io::Result<Row> {
    let pid = running.server.pid();
    std::thread::sleep(REST);
    let before = process::resident(pid);
    let mut row = turn(scenario, running, round, |running| opened(running, "open"))?;
    check_open(&row)?;
    std::thread::sleep(SETTLING);
    row.resident = Some(process::resident(pid).saturating_sub(before));
    row.slice = Some(running.generator.ask::<Slice>(&format!("go {length}"))?);
    row.resident_after = Some(process::resident(pid).saturating_sub(before));
    Ok(row)
}
