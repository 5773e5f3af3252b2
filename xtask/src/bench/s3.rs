//! The same work against an S3 server, near and 20 ms away: time, memory, bytes and requests on the way.
//! Nobody is told more about the server than the others, and no request is left out of the count.

mod server;
mod task;

use std::path::Path;

use super::corpus::{Corpus, Kind};
use super::measure::{self, Measurement, Series, Spread};
use super::tool::Tool;
use crate::failure::{Failure, Result};
use crate::scratch::Scratch;
use crate::tree;
use server::{Server, Wire};
use task::{Place, Task};

/// How far away the server is: what each request takes longer, in milliseconds.
const ROUND_TRIPS_MS: [u64; 2] = [0, 20];

/// What all programs needed for one task: by tool.
pub(super) struct Row {
    pub name: &'static str,
    pub series: Vec<Series>,
    wires: Vec<Vec<Wire>>,
}

/// All that was measured at one distance.
pub(super) struct S3Result {
    pub title: String,
    pub rows: Vec<Row>,
}

impl Row {
    /// What passed on the way, as a name, digits and the numbers of each tool.
    pub(super) fn wire(&self) -> [(&'static str, usize, Vec<Spread>); 3] {
        let of = |value: &dyn Fn(&Wire) -> f64| {
            let spreads = self
                .wires
                .iter()
                .map(|wires| Spread::of(wires.iter().map(value).collect()));
            spreads.collect()
        };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        [
            ("sent MiB", 1, of(&|wire| mib(wire.up_bytes))),
            ("received MiB", 1, of(&|wire| mib(wire.down_bytes))),
            ("requests", 0, of(&|wire| wire.requests as f64)),
        ]
    }
}

/// Measures everything at each distance.
pub(super) fn measure(tools: &[Tool], runs: usize, quick: bool) -> Result<Vec<S3Result>> {
    let corpus = Kind::Remote.ensure(quick)?;
    corpus.warm()?;
    let mut results = Vec::new();
    for round_trip_ms in ROUND_TRIPS_MS {
        println!("\n== S3, {round_trip_ms} ms away: {}", corpus.description());
        let mut rows: Vec<Row> = Task::ALL
            .iter()
            .map(|task| Row {
                name: task.name(),
                series: vec![Series::default(); tools.len()],
                wires: vec![Vec::new(); tools.len()],
            })
            .collect();
        for run in 0..runs {
            // A server of its own for each run: none works on what another run left behind.
            let mut server = Server::start()?;
            server.set_round_trip(round_trip_ms)?;
            one_run(&corpus, tools, run, &mut server, &mut rows)?;
        }
        results.push(S3Result {
            title: format!("S3, {round_trip_ms} ms away: {}", corpus.description()),
            rows,
        });
    }
    Ok(results)
}

fn one_run(
    corpus: &Corpus,
    tools: &[Tool],
    run: usize,
    server: &mut Server,
    rows: &mut [Row],
) -> Result<()> {
    let scratch = Scratch::create("bench")?;
    let places: Vec<Place> = tools
        .iter()
        .map(|tool| Place::prepare(tool, &scratch.join(tool.name), server.bucket()))
        .collect::<Result<_>>()?;
    for (row, task) in Task::ALL.iter().enumerate() {
        for turn in 0..tools.len() {
            let column = (turn + run + row) % tools.len();
            let (tool, place) = (&tools[column], &places[column]);
            place.before(*task, &corpus.path)?;
            server.traffic()?;
            let command = place.command(*task, &corpus.path);
            let measured = measure::run(&command, &scratch.join("time"))?;
            let wire = server.traffic()?;
            check(*task, place, corpus)?;
            show(run, *task, tool, &measured, &wire);
            rows[row].series[column].add(measured);
            rows[row].wires[column].push(wire);
        }
    }
    Ok(())
}

/// What was restored is all there.
fn check(task: Task, place: &Place, corpus: &Corpus) -> Result<()> {
    if task != Task::Restore {
        return Ok(());
    }
    let inside = corpus.path.strip_prefix("/").unwrap_or(Path::new(""));
    let found = tree::measure(&place.restored().join(inside))?;
    if found == corpus.amount {
        return Ok(());
    }
    Err(Failure::new(format!(
        "restored {found:?} of {:?}",
        corpus.amount
    )))
}

fn show(run: usize, task: Task, tool: &Tool, measured: &Measurement, wire: &Wire) {
    println!(
        "  {:<24} {:<9} {measured} {:7.1} MiB up {:7.1} MiB down {:5} requests {:3} connections",
        format!("run {} {}", run + 1, task.name()),
        tool.name,
        wire.up_bytes as f64 / f64::from(1 << 20),
        wire.down_bytes as f64 / f64::from(1 << 20),
        wire.requests,
        wire.connections,
    );
}
