//! The limit that the processor sets to a first backup: what its stages take, each as fast as it is alone.
//! It knows no program: opening, directories, system calls and waiting are what a program adds to it.

use super::data::{Data, Quantity, Table};
use super::stages;

/// The stages of a backup, and those among the rates that may be taken for each: the best counts.
const STAGES: [(&str, &[&str]); 7] = [
    ("read", &["read"]),
    ("chunk", &["chunk"]),
    ("hash", &["hash one", "hash two", "hash many"]),
    ("compress", &["compress"]),
    ("seal", &["seal"]),
    ("pack hash", &["hash one", "hash two", "hash many"]),
    ("write", &["write"]),
];

/// One stage: its bytes in MB, the rate of all cores together in MB/s, and the seconds that follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stage {
    pub name: &'static str,
    pub passing_mb: f64,
    pub one_core: f64,
    pub all_cores: f64,
}

impl Stage {
    pub(super) fn seconds(&self) -> f64 {
        match self.passing_mb {
            0.0 => 0.0,
            passing => passing / self.all_cores,
        }
    }
}

/// The stages of a section, if they were measured.
pub(super) fn stages(data: &Data, section: &str) -> Option<Vec<Stage>> {
    let table = Table {
        section,
        name: stages::NAME,
    };
    let best = |rates: &[&str], quantity| {
        let rows = data.rows(table).into_iter();
        // Instructions stand behind the name of a stage.
        let of_stage = |row: &&str| rates.contains(&row.split(" with ").next().unwrap_or_default());
        rows.filter(of_stage)
            .filter_map(|row| data.median(table, row, stages::NAME, quantity))
            .fold(0.0, f64::max)
    };
    let stage = |(name, rates): (&'static str, &[&str])| {
        Some(Stage {
            name,
            passing_mb: data.median(table, name, stages::NAME, Quantity::Passing)?,
            one_core: best(rates, Quantity::OneCore),
            all_cores: best(rates, Quantity::AllCores),
        })
    };
    STAGES.into_iter().map(stage).collect()
}

/// The seconds below which no backup of a section's corpus can be.
pub(super) fn seconds(data: &Data, section: &str) -> Option<f64> {
    let stages = stages(data, section)?;
    Some(stages.iter().map(Stage::seconds).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::Values;

    #[test]
    fn the_limit_is_the_sum_of_the_stages_with_the_best_rates() {
        let mut data = Data::default();
        let table = Table {
            section: "random",
            name: stages::NAME,
        };
        assert_eq!(seconds(&data, "random"), None);
        let mut rate = |row: &str, all_cores: f64| {
            let values = [(Quantity::OneCore, 1.0), (Quantity::AllCores, all_cores)];
            data.add(table, row, stages::NAME, 1, Values::from(values));
        };
        rate("read", 1000.0);
        rate("chunk with scalar", 1.0);
        rate("chunk with avx2", 500.0);
        rate("hash one with avx2", 100.0);
        rate("hash two with avx2", 200.0);
        rate("seal", 400.0);
        rate("write", 800.0);
        for (stage, passing) in [
            ("read", 1000.0),
            ("chunk", 500.0),
            ("hash", 200.0),
            // Nothing is worth compressing, so that no rate is needed.
            ("compress", 0.0),
            ("seal", 400.0),
            ("pack hash", 200.0),
            ("write", 800.0),
        ] {
            data.add(
                table,
                stage,
                stages::NAME,
                1,
                Values::from([(Quantity::Passing, passing)]),
            );
        }
        assert_eq!(seconds(&data, "random"), Some(6.0));
        let stages = stages(&data, "random").unwrap();
        assert_eq!((stages[1].all_cores, stages[5].all_cores), (500.0, 200.0));
    }
}
