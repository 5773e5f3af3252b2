//! What was measured, as lines of JSON that are committed: everything else is made from them.
//! No measurement is ever changed here; a section that is measured anew replaces what it was before, whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::measure::{Measurement, Spread};
use crate::failure::{Failure, Result, While};

/// The programs in the order in which they are shown, ours first.
pub(super) const OURS: &str = "lifeboat";
const TOOLS: [&str; 5] = [OURS, "restic", "rustic", "pgbackrest", "pg_basebackup"];
/// The row that is almost nothing but opening the repository.
pub(super) const OPENING: &str = "snapshots";
/// `first backup by avx2` is a row of ours alone: the others are taken from the row `first backup`.
const BY: &str = " by ";
/// Times that lie closer together than this can't be told apart, in seconds.
const RESOLUTION_SECONDS: f64 = 0.005;

/// What a number is, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    Wall,
    Cpu,
    Peak,
    StillToSync,
    Sent,
    Received,
    Requests,
    Connections,
    Repository,
    Stored,
    Latency,
    LatencyMost,
    AllCpu,
    Work,
    FileSyncs,
    DirectorySyncs,
    DiskSyncs,
    OneCore,
    AllCores,
    Passing,
}

impl Quantity {
    pub(super) const ALL: [Self; 20] = [
        Self::Wall,
        Self::Cpu,
        Self::Peak,
        Self::StillToSync,
        Self::Sent,
        Self::Received,
        Self::Requests,
        Self::Connections,
        Self::Repository,
        Self::Stored,
        Self::Latency,
        Self::LatencyMost,
        Self::AllCpu,
        Self::Work,
        Self::FileSyncs,
        Self::DirectorySyncs,
        Self::DiskSyncs,
        Self::OneCore,
        Self::AllCores,
        Self::Passing,
    ];

    /// As it is shown and stored.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall s",
            Self::Cpu => "CPU s",
            Self::Peak => "peak MiB",
            Self::StillToSync => "left to sync s",
            Self::Sent => "sent MiB",
            Self::Received => "received MiB",
            Self::Requests => "requests",
            Self::Connections => "connections",
            Self::Repository => "repository MiB",
            Self::Stored => "newly stored MiB",
            Self::Latency => "median ms",
            Self::LatencyMost => "most ms",
            Self::AllCpu => "CPU s of all processes",
            Self::Work => "work",
            Self::FileSyncs => "files synced",
            Self::DirectorySyncs => "directories synced",
            Self::DiskSyncs => "file systems synced",
            Self::OneCore => "one core MB/s",
            Self::AllCores => "all cores MB/s",
            Self::Passing => "passing MB",
        }
    }

    /// Digits behind the point.
    pub(super) fn digits(self) -> usize {
        match self {
            Self::Wall | Self::Cpu | Self::AllCpu | Self::StillToSync => 2,
            Self::Sent
            | Self::Received
            | Self::Repository
            | Self::Stored
            | Self::Latency
            | Self::LatencyMost => 1,
            _ => 0,
        }
    }

    /// Whether less of it is better, so that a ratio says something.
    pub(super) fn is_compared(self) -> bool {
        let counts = [
            Self::StillToSync,
            Self::Work,
            Self::FileSyncs,
            Self::DirectorySyncs,
            Self::DiskSyncs,
        ];
        !counts.contains(&self)
    }

    fn of_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|quantity| quantity.name() == name)
    }
}

pub(super) type Values = BTreeMap<Quantity, f64>;

impl From<Measurement> for Values {
    fn from(measured: Measurement) -> Self {
        BTreeMap::from([
            (Quantity::Wall, measured.wall.as_secs_f64()),
            (Quantity::Cpu, measured.cpu_seconds),
            (Quantity::Peak, measured.peak_kib as f64 / 1024.0),
        ])
    }
}

/// Where a number belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table<'t> {
    pub section: &'t str,
    pub name: &'t str,
}

/// What one program needed once.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    section: String,
    table: String,
    row: String,
    tool: String,
    run: usize,
    values: Values,
}

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data {
    /// By section: when, where and with what it was measured.
    stamps: Vec<(String, Map<String, Value>)>,
    /// By section and table: what stands over it.
    titles: Vec<(String, String, String)>,
    samples: Vec<Sample>,
}

impl Data {
    pub(super) fn stamp(&mut self, section: &str, facts: Map<String, Value>) {
        self.stamps.push((section.to_owned(), facts));
    }

    pub(super) fn title(&mut self, table: Table, title: &str) {
        let title = (
            table.section.to_owned(),
            table.name.to_owned(),
            title.to_owned(),
        );
        self.titles.push(title);
    }

    pub(super) fn add(
        &mut self,
        table: Table,
        row: &str,
        tool: &str,
        run: usize,
        values: impl Into<Values>,
    ) {
        self.samples.push(Sample {
            section: table.section.to_owned(),
            table: table.name.to_owned(),
            row: row.to_owned(),
            tool: tool.to_owned(),
            run,
            values: values.into(),
        });
    }

    /// Takes over the sections of `newer`, whole.
    pub(super) fn merge(&mut self, newer: Self) {
        let is_old = |section: &str| newer.stamps.iter().all(|(name, _)| name != section);
        self.stamps.retain(|(section, _)| is_old(section));
        self.titles.retain(|(section, ..)| is_old(section));
        self.samples.retain(|sample| is_old(&sample.section));
        self.stamps.extend(newer.stamps);
        self.titles.extend(newer.titles);
        self.samples.extend(newer.samples);
    }

    pub(super) fn facts(&self, section: &str) -> Option<&Map<String, Value>> {
        let found = self.stamps.iter().find(|(name, _)| name == section);
        found.map(|(_, facts)| facts)
    }

    /// The names and titles of a section's tables.
    pub(super) fn tables(&self, section: &str) -> impl Iterator<Item = (&str, &str)> {
        let of_section = self.titles.iter().filter(move |(name, ..)| name == section);
        of_section.map(|(_, table, title)| (table.as_str(), title.as_str()))
    }

    fn samples(&self, table: Table) -> impl Iterator<Item = &Sample> {
        let is_in =
            move |sample: &&Sample| sample.section == table.section && sample.table == table.name;
        self.samples.iter().filter(is_in)
    }

    /// The programs that took part, ours first.
    pub(super) fn tools(&self, table: Table) -> Vec<&'static str> {
        let took_part = |tool: &&str| self.samples(table).any(|sample| sample.tool == *tool);
        TOOLS.into_iter().filter(took_part).collect()
    }

    /// The rows in the order in which they were measured, but for those that only others are compared with.
    pub(super) fn rows(&self, table: Table) -> Vec<&str> {
        let mut rows: Vec<&str> = Vec::new();
        for sample in self.samples(table) {
            let is_compared_with = || {
                self.samples(table).any(|other| {
                    other
                        .row
                        .split_once(BY)
                        .is_some_and(|(row, _)| row == sample.row)
                })
            };
            if !rows.contains(&sample.row.as_str()) && !is_compared_with() {
                rows.push(&sample.row);
            }
        }
        rows
    }

    /// All that a program needed for a row, in the order of the runs.
    pub(super) fn values(
        &self,
        table: Table,
        row: &str,
        tool: &str,
        quantity: Quantity,
    ) -> Vec<f64> {
        let of_row = |row: &str| -> Vec<f64> {
            let samples = self.samples(table);
            let samples = samples.filter(|sample| sample.row == row && sample.tool == tool);
            samples
                .filter_map(|sample| sample.values.get(&quantity).copied())
                .collect()
        };
        let found = of_row(row);
        match row.split_once(BY) {
            Some((without, _)) if found.is_empty() => of_row(without),
            _ => found,
        }
    }

    /// The median of these, if there are any.
    pub(super) fn median(
        &self,
        table: Table,
        row: &str,
        tool: &str,
        quantity: Quantity,
    ) -> Option<f64> {
        let values = self.values(table, row, tool, quantity);
        (!values.is_empty()).then(|| Spread::of(values).median)
    }

    /// The wall time of each run, less what opening the repository took this program in the same run.
    pub(super) fn without_opening(&self, table: Table, row: &str, tool: &str) -> Vec<f64> {
        let runs = self.samples(table);
        let runs = runs.filter(|sample| sample.row == row && sample.tool == tool);
        let less = |sample: &Sample| {
            let opening = self.samples(table).filter(|other| {
                other.row == OPENING && other.tool == tool && other.run == sample.run
            });
            let opening: Vec<f64> = opening.filter_map(Sample::wall).collect();
            let opening = (!opening.is_empty()).then(|| Spread::of(opening).median);
            Some(sample.wall()? - opening?)
        };
        runs.filter_map(less).collect()
    }

    /// The median of these, if there are any; less than can be told apart counts as that.
    pub(super) fn median_without_opening(
        &self,
        table: Table,
        row: &str,
        tool: &str,
    ) -> Option<f64> {
        let seconds = self.without_opening(table, row, tool);
        let is_known = !seconds.is_empty();
        is_known.then(|| Spread::of(seconds).median.max(RESOLUTION_SECONDS))
    }

    /// The same data as [`Data::parse`] reads: by section, first what concerns all of it.
    pub(super) fn to_lines(&self) -> String {
        let mut lines = String::new();
        let mut push = |line: Value| {
            lines.push_str(&line.to_string());
            lines.push('\n');
        };
        for (section, facts) in &self.stamps {
            push(json!({"section": section, "stamp": facts}));
            for (_, table, title) in self.titles.iter().filter(|(name, ..)| name == section) {
                push(json!({"section": section, "table": table, "title": title}));
            }
            for sample in &self.samples {
                if sample.section == *section {
                    push(sample.to_json());
                }
            }
        }
        lines
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut data = Self::default();
        for (number, line) in text.lines().enumerate() {
            let value: Value =
                serde_json::from_str(line).doing(|| format!("line {} of the data", number + 1))?;
            let read = data.read(&value);
            read.ok_or_else(|| Failure::new(format!("line {} of the data: {line}", number + 1)))?;
        }
        Ok(data)
    }

    fn read(&mut self, line: &Value) -> Option<()> {
        let text = |name: &str| line[name].as_str();
        let section = text("section")?;
        if let Some(facts) = line["stamp"].as_object() {
            self.stamp(section, facts.clone());
            return Some(());
        }
        let table = Table {
            section,
            name: text("table")?,
        };
        if let Some(title) = text("title") {
            self.title(table, title);
            return Some(());
        }
        let values = line["values"].as_object()?.iter();
        let values = values.map(|(name, value)| Some((Quantity::of_name(name)?, value.as_f64()?)));
        let values: Values = values.collect::<Option<_>>()?;
        let run = usize::try_from(line["run"].as_u64()?).ok()?;
        self.add(table, text("row")?, text("tool")?, run, values);
        Some(())
    }
}

impl Sample {
    fn wall(&self) -> Option<f64> {
        self.values.get(&Quantity::Wall).copied()
    }

    fn to_json(&self) -> Value {
        // More digits than a clock has tell nothing.
        let short = |value: f64| (value * 10_000.0).round() / 10_000.0;
        let values: Map<String, Value> = self
            .values
            .iter()
            .map(|(quantity, value)| (quantity.name().to_owned(), json!(short(*value))))
            .collect();
        json!({
            "section": self.section,
            "table": self.table,
            "row": self.row,
            "tool": self.tool,
            "run": self.run,
            "values": values,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) const TREE: Table = Table {
        section: "tree",
        name: "tree",
    };

    /// Wall times by row and tool, one a run, in a section that is stamped.
    pub(in crate::bench) fn sample(table: Table, rows: &[(&str, &str, &[f64])]) -> Data {
        let mut data = Data::default();
        data.stamp(
            table.section,
            Map::from_iter([("commit".into(), json!("abc"))]),
        );
        data.title(table, "small files");
        for (row, tool, walls) in rows {
            for (run, wall) in walls.iter().enumerate() {
                data.add(
                    table,
                    row,
                    tool,
                    run + 1,
                    Values::from([(Quantity::Wall, *wall)]),
                );
            }
        }
        data
    }

    #[test]
    fn lines_lead_back() {
        let data = sample(TREE, &[("check", "restic", &[1.5, 2.25])]);
        let lines = data.to_lines();
        assert_eq!(lines.lines().count(), 4);
        assert_eq!(Data::parse(&lines).unwrap(), data);
        let said = Data::parse("{\"section\":\"a\"}\n")
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("line 1 of the data"), "{said}");
    }

    #[test]
    fn a_section_that_is_measured_anew_replaces_what_it_was() {
        let other = Table {
            section: "disk",
            name: "disk",
        };
        let mut data = sample(TREE, &[("check", "restic", &[1.0, 2.0])]);
        data.merge(sample(other, &[("check", "restic", &[3.0])]));
        data.merge(sample(TREE, &[("restore", "rustic", &[4.0])]));
        let wall = |table, row, tool| data.values(table, row, tool, Quantity::Wall);
        assert_eq!(wall(TREE, "check", "restic"), Vec::<f64>::new());
        assert_eq!(wall(TREE, "restore", "rustic"), [4.0]);
        assert_eq!(wall(other, "check", "restic"), [3.0]);
        assert_eq!(data.tables("tree").count(), 1);
        assert!(data.facts("tree").is_some() && data.facts("s3").is_none());
    }

    #[test]
    fn opening_is_taken_off_in_each_run() {
        let data = sample(
            TREE,
            &[
                ("backup", OURS, &[1.0, 2.0]),
                (OPENING, OURS, &[0.25, 0.75]),
                ("backup", "restic", &[3.0]),
            ],
        );
        assert_eq!(data.without_opening(TREE, "backup", OURS), [0.75, 1.25]);
        let median = |tool| data.median_without_opening(TREE, "backup", tool);
        assert_eq!((median(OURS), median("restic")), (Some(1.0), None));
    }

    #[test]
    fn rows_of_instructions_are_compared_with_the_row_of_the_others() {
        let data = sample(
            TREE,
            &[
                ("backup by avx2", OURS, &[1.0]),
                ("backup by scalar", OURS, &[2.0]),
                ("backup", "restic", &[3.0]),
            ],
        );
        assert_eq!(data.rows(TREE), ["backup by avx2", "backup by scalar"]);
        assert_eq!(data.tools(TREE), [OURS, "restic"]);
        let wall = |tool| data.median(TREE, "backup by avx2", tool, Quantity::Wall);
        assert_eq!(
            (wall(OURS), wall("restic"), wall("rustic")),
            (Some(1.0), Some(3.0), None)
        );
    }
}
