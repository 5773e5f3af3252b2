//! How time and memory grow with the work: a sixteenth, a quarter and all of it.
//! The exponent describes these three points and promises nothing of a fourth.

use super::Bench;
use super::corpus::Kind;
use super::data::{Data, OPENING, OURS, Quantity, Table, Values};
use super::local::OPENINGS;
use super::tool::Operation;
use crate::failure::Result;

pub(super) const SECTION: &str = "growth";
/// The parts of the work, the smallest first, with the rows that they have.
pub(super) const PARTS: [(u64, &str); 3] = [
    (16, "first backup of 1/16"),
    (4, "first backup of 1/4"),
    (1, "first backup of all"),
];
const KINDS: [Kind; 2] = [Kind::Random, Kind::Tree];

/// Ours alone, or everybody where that was asked for.
pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for kind in KINDS {
        let table = Table {
            section: SECTION,
            name: kind.name(),
        };
        for (part, row) in PARTS {
            let corpus = bench.warm(kind.ensure_part(bench.quick, part)?)?;
            if part == 1 {
                bench
                    .data
                    .title(table, &format!("growth, {}", corpus.title()));
            }
            let work = match kind {
                Kind::Tree => corpus.amount.files,
                _ => corpus.amount.bytes >> 20,
            };
            for run in 1..=bench.runs {
                for at in bench.order(run) {
                    let name = bench.tools[at].name;
                    if name != OURS && !bench.all_grow {
                        continue;
                    }
                    let scratch = bench.place.scratch(&corpus, 1)?;
                    let (dir, report) = (scratch.join("tool"), scratch.join("time"));
                    bench.tools[at].prepare(&dir)?;
                    let operation = Operation::FirstBackup;
                    let command = bench.tools[at].command(operation, &dir, &corpus.path)?;
                    bench.perform(table, row, at, run, &command, &report)?;
                    let amount = Values::from([(Quantity::Work, work as f64)]);
                    bench.data.add(table, row, name, run, amount);
                    for _ in 0..OPENINGS {
                        let operation = Operation::Snapshots;
                        let command = bench.tools[at].command(operation, &dir, &corpus.path)?;
                        bench.perform(table, OPENING, at, run, &command, &report)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What one program needed for each part of the work.
pub(super) struct Growth {
    /// Work, then seconds without opening.
    pub seconds: Vec<(f64, f64)>,
    /// Work, then MiB.
    pub peak_mib: Vec<(f64, f64)>,
}

/// The points of a table, if all were measured.
pub(super) fn points(data: &Data, table: Table, tool: &str) -> Option<Growth> {
    let (mut seconds, mut peak_mib) = (Vec::new(), Vec::new());
    for (_, row) in PARTS {
        let work = data.median(table, row, tool, Quantity::Work)?;
        let wall = data.median_without_opening(table, row, tool)?;
        seconds.push((work, wall));
        peak_mib.push((work, data.median(table, row, tool, Quantity::Peak)?));
    }
    Some(Growth { seconds, peak_mib })
}

/// The exponent of the power of x that fits best, by least squares of the logarithms: 1 is proportional.
pub(super) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean_x = logs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = logs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let exponent = covariance / variance;
    exponent.is_finite().then_some(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_that_of_the_power() {
        let close = |points: &[(f64, f64)], expected: f64| {
            let found = exponent(points).unwrap();
            assert!((found - expected).abs() < 1e-9, "{found}");
        };
        close(&[(1.0, 3.0), (4.0, 12.0), (16.0, 48.0)], 1.0);
        close(&[(1.0, 3.0), (4.0, 48.0), (16.0, 768.0)], 2.0);
        close(&[(1.0, 7.0), (4.0, 7.0), (16.0, 7.0)], 0.0);
        // Between two powers it lies between them.
        let between = exponent(&[(1.0, 1.0), (4.0, 4.0), (16.0, 64.0)]).unwrap();
        assert!(between > 1.0 && between < 2.0);
        assert_eq!(exponent(&[(1.0, 1.0)]), None);
    }
}
