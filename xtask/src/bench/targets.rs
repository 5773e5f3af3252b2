//! What is to be reached, and what of it these results reach: one table, decided by numbers alone.
//! A target is never lowered here because it was missed; what can't be measured here is said and not left out.

use super::corpus::Kind;
use super::data::{Data, OURS, Quantity, Table};
use super::tool::Operation;
use super::{blobs, captures, changed, disk, limit, pgbackrest, pushes, s3};

/// The best set of instructions, for which the higher targets are.
const WIDE: &str = "avx512";
/// 200 MB in MiB.
const PEAK_MAX_MIB: f64 = 200e6 / (1 << 20) as f64;

/// When a number is good.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// The better of the others divided by ours.
    Ratio(f64),
    /// Ours divided by another's.
    ShareMax(f64),
    /// The part of the limit that ours reaches.
    PartMin(f64),
    /// In MiB.
    PeakMax(f64),
}

impl Goal {
    fn is_reached(self, found: f64) -> bool {
        match self {
            Self::Ratio(least) | Self::PartMin(least) => found >= least,
            Self::ShareMax(most) | Self::PeakMax(most) => found <= most,
        }
    }

    /// A number in the words of this goal.
    fn show(self, number: f64) -> String {
        match self {
            Self::Ratio(_) | Self::ShareMax(_) => format!("{number:.2}"),
            Self::PartMin(_) => format!("{:.0} %", number * 100.0),
            Self::PeakMax(_) => format!("{number:.0} MiB"),
        }
    }

    pub(super) fn wanted(self) -> String {
        match self {
            Self::Ratio(least) => format!("at least {least:.1}"),
            Self::PartMin(least) => format!("at least {}", self.show(least)),
            Self::ShareMax(most) | Self::PeakMax(most) => format!("at most {}", self.show(most)),
        }
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    Number(f64),
    NotMeasured,
    /// With what this machine can do instead, if that was measured.
    NotHere(Option<f64>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Target {
    pub work: String,
    pub goal: Goal,
    pub found: Found,
}

impl Target {
    /// The number, and what it means.
    pub(super) fn verdict(&self) -> (String, &'static str) {
        match self.found {
            Found::Number(found) if self.goal.is_reached(found) => {
                (self.goal.show(found), "reached")
            }
            Found::Number(found) => (self.goal.show(found), "not reached"),
            Found::NotMeasured => ("–".into(), "not measured"),
            Found::NotHere(found) => (
                found.map_or("–".into(), |found| format!("({})", self.goal.show(found))),
                "not measurable here (no AVX-512)",
            ),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self.found {
            Found::Number(found) | Found::NotHere(Some(found)) => Some(found),
            _ => None,
        }
    }
}

/// All targets, in the order of the page.
pub(super) fn all(data: &Data) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut push = |work: String, goal: Goal, found: Found| {
        targets.push(Target { work, goal, found });
    };
    let number = |found: Option<f64>| found.map_or(Found::NotMeasured, Found::Number);
    let ratio = |table, row: &str| number(ratio(data, table, row));
    let backup = Operation::FirstBackup.name();
    for kind in Kind::LOCAL {
        let table = kernels(kind);
        let work = format!("first backup, {}", kind.name());
        push(work, Goal::Ratio(3.0), with_avx512(data, table));
    }
    for kind in Kind::LOCAL {
        let work = format!("first backup, {}, AVX-512 and GFNI off", kind.name());
        let row = format!("{backup} by {}", without_avx512(data, kernels(kind)));
        push(work, Goal::Ratio(2.0), ratio(kernels(kind), &row));
    }
    let tree = local(Kind::Tree);
    let unchanged = number(ratio_without_opening(
        data,
        tree,
        Operation::UnchangedBackup.name(),
    ));
    push(
        "unchanged backup, tree, without opening".into(),
        Goal::Ratio(5.0),
        unchanged,
    );
    let told = number(ratio_without_opening(data, changed::TABLE, changed::TOLD));
    push(
        "10 changed files, tree, without opening".into(),
        Goal::Ratio(50.0),
        told,
    );
    for kind in [Kind::Random, Kind::Tree] {
        let found = ratio(local(kind), Operation::Restore.name());
        push(format!("restore, {}", kind.name()), Goal::Ratio(2.0), found);
    }
    for (operation, least) in [(Operation::RestoreVerifying, 4.0), (Operation::Check, 2.0)] {
        for kind in Kind::LOCAL {
            let found = ratio(local(kind), operation.name());
            let work = format!("{}, {}", operation.name(), kind.name());
            push(work, Goal::Ratio(least), found);
        }
    }
    for row in [backup, Operation::Restore.name()] {
        let work = format!("S3, 20 ms away, tree: {row}");
        push(work, Goal::Ratio(2.0), ratio(s3::FAR_TREE, row));
    }
    let on_disk = ratio(disk::TABLE, backup);
    push(
        "first backup on the disk, with fsync".into(),
        Goal::Ratio(1.0),
        on_disk,
    );
    for kind in Kind::LOCAL {
        let size = |tool| data.median(local(kind), backup, tool, Quantity::Repository);
        let share = size(OURS).and_then(|ours| Some(ours / size("restic")?));
        let work = format!("size of the repository beside restic's, {}", kind.name());
        push(work, Goal::ShareMax(1.02), number(share));
    }
    for kind in [Kind::Random, Kind::Postgres] {
        let work = format!("part of the processor's limit, {}", kind.name());
        push(
            work,
            Goal::PartMin(0.7),
            number(part_of_limit(data, kind.name())),
        );
    }
    let goal = Goal::PeakMax(PEAK_MAX_MIB);
    push(
        "peak memory of anything above".into(),
        goal,
        number(peak_mib(data)),
    );
    for (how, row, least) in [
        ("with a cache", blobs::CACHED, 5.0),
        ("making a cache", blobs::MAKING_CACHE, 2.0),
        ("`--no-cache`", blobs::NO_CACHE, 2.0),
    ] {
        let found = ratio(blobs::TABLE, row);
        push(
            format!("open 10 million blobs, {how}"),
            Goal::Ratio(least),
            found,
        );
    }
    let peak = |tool: &str| data.median(blobs::TABLE, blobs::CACHED, tool, Quantity::Peak);
    let share = better(data, blobs::TABLE, peak).map(|ratio| 1.0 / ratio);
    push(
        "the same with a cache: peak memory beside the better of restic's and rustic's".into(),
        Goal::ShareMax(0.2),
        number(share),
    );
    let beside = |table, row: &str, quantity, peer: &str| {
        let of = |tool: &str| data.median(table, row, tool, quantity);
        of(peer).and_then(|peer| Some((peer, of(OURS)?)))
    };
    for row in [captures::FULL, captures::RESTORE] {
        let found = beside(captures::TABLE, row, Quantity::Wall, pgbackrest::NAME);
        push(
            format!("PostgreSQL: {row}, beside pgBackRest with two processes"),
            Goal::Ratio(1.0),
            number(found.map(|(peer, ours)| peer / ours)),
        );
    }
    for (row, most) in [(captures::HEAVY, 0.8), (captures::LIGHT, 0.4)] {
        let found = beside(captures::TABLE, row, Quantity::Stored, "restic");
        push(
            format!("PostgreSQL: newly stored by the {row}, beside restic's"),
            Goal::ShareMax(most),
            number(found.map(|(peer, ours)| ours / peer)),
        );
    }
    for (what, table) in [
        ("into a directory", pushes::LOCAL),
        ("through S3", pushes::FAR),
    ] {
        let found = beside(table, pushes::ROW, Quantity::Wall, pgbackrest::NAME);
        push(
            format!("PostgreSQL: segments pushed {what}, beside pgBackRest"),
            Goal::Ratio(1.0),
            number(found.map(|(peer, ours)| peer / ours)),
        );
    }
    targets
}

fn local(kind: Kind) -> Table<'static> {
    Table {
        section: kind.name(),
        name: kind.name(),
    }
}

fn kernels(kind: Kind) -> Table<'static> {
    Table {
        section: "kernels",
        name: kind.name(),
    }
}

/// With the best instructions, or with the best that are here.
fn with_avx512(data: &Data, table: Table) -> Found {
    let row = |kernel: &str| format!("{} by {kernel}", Operation::FirstBackup.name());
    match ratio(data, table, &row(WIDE)) {
        Some(found) => Found::Number(found),
        None if data.rows(table).is_empty() => Found::NotMeasured,
        None => Found::NotHere(ratio(data, table, &row(without_avx512(data, table)))),
    }
}

/// The best instructions but those; they were measured in this order.
fn without_avx512<'d>(data: &'d Data, table: Table) -> &'d str {
    let rows = data.rows(table).into_iter();
    let mut kernels = rows.filter_map(|row| Some(row.split_once(" by ")?.1));
    kernels.find(|kernel| *kernel != WIDE).unwrap_or("scalar")
}

/// The better of the others divided by ours, by wall time.
pub(super) fn ratio(data: &Data, table: Table, row: &str) -> Option<f64> {
    let wall = |tool: &str| data.median(table, row, tool, Quantity::Wall);
    better(data, table, wall)
}

/// The same with the time for opening taken off everybody's.
pub(super) fn ratio_without_opening(data: &Data, table: Table, row: &str) -> Option<f64> {
    let wall = |tool: &str| data.median_without_opening(table, row, tool);
    better(data, table, wall)
}

fn better(data: &Data, table: Table, of: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let others = data.tools(table).into_iter().filter(|tool| *tool != OURS);
    let best = others.filter_map(&of).reduce(f64::min)?;
    Some(best / of(OURS)?)
}

/// The limit divided by what a first backup takes without opening.
pub(super) fn part_of_limit(data: &Data, section: &str) -> Option<f64> {
    let table = Table {
        section,
        name: section,
    };
    let wall = data.median_without_opening(table, Operation::FirstBackup.name(), OURS)?;
    Some(limit::seconds(data, section)? / wall)
}

/// The most memory that we took with a local repository.
fn peak_mib(data: &Data) -> Option<f64> {
    let tables = Kind::LOCAL.into_iter().map(local).chain([changed::TABLE]);
    let peaks = tables.flat_map(|table| {
        let rows = data.rows(table).into_iter();
        rows.filter_map(move |row| data.median(table, row, OURS, Quantity::Peak))
    });
    peaks.reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::OPENING;
    use crate::bench::data::tests::{TREE, sample};

    fn found(data: &Data, work: &str) -> (String, &'static str) {
        let targets = all(data);
        let target = targets.iter().find(|target| target.work == work);
        target
            .unwrap_or_else(|| panic!("no target {work}"))
            .verdict()
    }

    #[test]
    fn what_was_not_measured_is_said() {
        for target in all(&Data::default()) {
            assert_eq!(
                target.verdict(),
                ("–".into(), "not measured"),
                "{}",
                target.work
            );
        }
    }

    #[test]
    fn the_better_of_the_others_counts() {
        let rows: &[(&str, &str, &[f64])] = &[
            ("restore", OURS, &[2.0]),
            ("restore", "restic", &[9.0]),
            ("restore", "rustic", &[4.5]),
            ("check --read-data", OURS, &[2.0]),
            ("check --read-data", "restic", &[3.0]),
        ];
        let data = sample(TREE, rows);
        assert_eq!(found(&data, "restore, tree"), ("2.25".into(), "reached"));
        assert_eq!(
            found(&data, "check --read-data, tree"),
            ("1.50".into(), "not reached")
        );
    }

    #[test]
    fn opening_is_excluded_and_too_little_makes_no_ratio() {
        let rows: &[(&str, &str, &[f64])] = &[
            ("unchanged backup", OURS, &[1.0]),
            ("unchanged backup", "restic", &[6.5]),
            (OPENING, OURS, &[1.1]),
            (OPENING, "restic", &[0.5]),
        ];
        let data = sample(TREE, rows);
        let (ratio, verdict) = found(&data, "unchanged backup, tree, without opening");
        assert_eq!((ratio.as_str(), verdict), ("1200.00", "reached"));
    }

    #[test]
    fn without_avx512_its_targets_are_not_measurable() {
        let table = kernels(Kind::Tree);
        let mut rows: Vec<(&str, &str, &[f64])> = vec![
            ("first backup by avx2", OURS, &[2.0]),
            ("first backup by scalar", OURS, &[4.0]),
            ("first backup", "restic", &[5.0]),
        ];
        let data = sample(table, &rows);
        let (wide, narrow) = (
            "first backup, tree",
            "first backup, tree, AVX-512 and GFNI off",
        );
        let here = ("(2.50)".into(), "not measurable here (no AVX-512)");
        assert_eq!(found(&data, wide), here);
        assert_eq!(found(&data, narrow), ("2.50".into(), "reached"));
        rows.insert(0, ("first backup by avx512", OURS, &[1.0]));
        let data = sample(table, &rows);
        assert_eq!(found(&data, wide), ("5.00".into(), "reached"));
        assert_eq!(found(&data, narrow), ("2.50".into(), "reached"));
    }

    #[test]
    fn both_ways_without_a_cache_and_memory_are_compared_with_the_better() {
        let rows: &[(&str, &str, &[f64])] = &[
            (blobs::MAKING_CACHE, OURS, &[2.0]),
            (blobs::NO_CACHE, OURS, &[4.0]),
            ("open without a cache", "restic", &[9.0]),
            ("open without a cache", "rustic", &[6.0]),
        ];
        let mut data = sample(blobs::TABLE, rows);
        for (tool, mib) in [(OURS, 100.0), ("restic", 900.0), ("rustic", 400.0)] {
            let peak = crate::bench::data::Values::from([(Quantity::Peak, mib)]);
            data.add(blobs::TABLE, blobs::CACHED, tool, 1, peak);
        }
        let found = |work| found(&data, work);
        assert_eq!(
            found("open 10 million blobs, making a cache"),
            ("3.00".into(), "reached")
        );
        assert_eq!(
            found("open 10 million blobs, `--no-cache`"),
            ("1.50".into(), "not reached")
        );
        assert_eq!(
            found("the same with a cache: peak memory beside the better of restic's and rustic's"),
            ("0.25".into(), "not reached")
        );
    }

    #[test]
    fn goals_have_two_directions() {
        assert!(Goal::Ratio(3.0).is_reached(3.0) && !Goal::Ratio(3.0).is_reached(2.99));
        assert!(Goal::ShareMax(1.02).is_reached(1.0) && !Goal::ShareMax(1.02).is_reached(1.03));
        assert_eq!(Goal::PartMin(0.7).wanted(), "at least 70 %");
        assert_eq!(Goal::PeakMax(PEAK_MAX_MIB).wanted(), "at most 191 MiB");
    }
}
