//! The same work against an S3 server, near and 20 ms away: time, memory, bytes and requests on the way.
//! Nobody is told more about the server than the others, and no request is left out of the count.

mod server;
mod task;

use super::Bench;
use super::corpus::{Corpus, Kind};
use super::data::{Quantity, Table, Values};
use super::place;
use crate::failure::Result;
use server::Wire;
pub(super) use server::{Bucket, Server};
use task::{Place, Task};

/// How far away the server is, as what each request takes longer, in milliseconds; what is stored, and what is done.
const ROUNDS: [(&str, u64, Kind, &[Task]); 3] = [
    ("near", 0, Kind::Remote, &Task::ALL),
    ("far", 20, Kind::Remote, &Task::ALL),
    (FAR_TREE.name, 20, Kind::Tree, &Task::USUAL),
];

/// The table of which targets speak.
pub(super) const FAR_TREE: Table<'static> = Table {
    section: "s3",
    name: "far tree",
};

/// Measures everything at each distance.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for (name, round_trip_ms, kind, tasks) in ROUNDS {
        let table = Table {
            section: FAR_TREE.section,
            name,
        };
        let corpus = bench.corpus(kind)?;
        let title = format!("S3, {round_trip_ms} ms away: {}", corpus.title());
        bench.data.title(table, &title);
        for run in 1..=bench.runs {
            one_run(bench, table, &corpus, run, round_trip_ms, tasks)?;
        }
    }
    Ok(())
}

fn one_run(
    bench: &mut Bench,
    table: Table,
    corpus: &Corpus,
    run: usize,
    round_trip_ms: u64,
    tasks: &[Task],
) -> Result<()> {
    // What one of them restored, beside the repositories of all.
    let repositories = if tasks.contains(&Task::Copy) { 2 } else { 1 };
    let copies = repositories * bench.tools.len() as u64 + 1;
    let scratch = bench.place.scratch(corpus, copies)?;
    // A server of its own for each run: none works on what another run left behind.
    let mut server = Server::start(scratch.path())?;
    server.set_round_trip(round_trip_ms)?;
    let places: Vec<Place> = bench
        .tools
        .iter()
        .map(|tool| Place::prepare(tool, &scratch.join(tool.name), server.bucket()))
        .collect::<Result<_>>()?;
    for (row, task) in tasks.iter().enumerate() {
        for at in bench.order(run + row) {
            let place = &places[at];
            place.before(*task, &corpus.path)?;
            server.traffic()?;
            let command = place.command(*task, &corpus.path);
            bench.perform(table, task.name(), at, run, &command, &scratch.join("time"))?;
            let wire = server.traffic()?;
            if *task == Task::Restore {
                corpus.is_below(&place.restored())?;
                place::remove(&place.restored())?;
            }
            let name = bench.tools[at].name;
            bench.data.add(table, task.name(), name, run, values(&wire));
        }
    }
    Ok(())
}

/// What passed on the way.
fn values(wire: &Wire) -> Values {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Values::from([
        (Quantity::Sent, mib(wire.up_bytes)),
        (Quantity::Received, mib(wire.down_bytes)),
        (Quantity::Requests, wire.requests as f64),
        (Quantity::Connections, wire.connections as f64),
    ])
}
