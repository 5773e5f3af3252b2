//! What a cluster held when it was captured, and what of that is missing in one that was restored.
//! It must never hold what the tables hold: names, numbers and sizes alone go into a capture's record.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::check::{Findings, Found};
use super::server_log::is_not_of_the_capture;

/// How many of its rows a table may lack before that is a finding, in percent: a baseline and the end of a capture are not the
/// same instant, and in between rows may go.
const ROWS_LOST_MAX_PERCENT: u64 = 10;
/// How small a database may have become before that is a finding, in percent of its size.
const SIZE_MIN_PERCENT: u64 = 50;
/// Below this many bytes sizes say nothing.
const SIZE_MIN_BYTES: u64 = 64 << 20;

/// Why a database was not looked at where there are so many.
pub(super) const TOO_MANY: &str = "there are more databases than are looked at";

/// What a cluster holds. It is to be taken before the capture ends: then what is in it must be in the capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The version of the server, as a number such as 150018.
    pub version: u32,
    /// A superuser of the cluster: the one that `initdb` made.
    pub superuser: String,
    /// The libraries that its server was started with, as `shared_preload_libraries` says it.
    pub preload_libraries: String,
    /// Up to which size of a table its rows were counted, in bytes.
    pub exact_up_to_bytes: u64,
    /// Its databases, without those that were not looked at.
    pub databases: Vec<DatabaseBaseline>,
    /// Databases that were not looked at, and why.
    pub skipped: Vec<Skipped>,
}

/// What a database holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseBaseline {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// How many tables and materialised views it has, unlogged and temporary ones not counted.
    pub tables: u64,
    /// The largest of them.
    pub largest: Vec<TableBaseline>,
    /// Its extensions.
    pub extensions: Vec<ExtensionBaseline>,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableBaseline {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: Rows,
    /// Its size in bytes, without its indexes.
    pub size_bytes: u64,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rows {
    /// They were counted.
    Exact(u64),
    /// The server thinks so (`pg_class.reltuples`).
    Estimate(u64),
    /// Nobody has counted them yet.
    Unknown,
}

/// An extension that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionBaseline {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A database that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why not.
    pub why: String,
}

/// How near a baseline is to what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// It was taken a little before: some rows may be gone.
    Near,
    /// It was taken of the very snapshot that was dumped: rows that were counted are the same. A restored dump has no
    /// dead rows, so that sizes say nothing.
    Same,
}

impl Baseline {
    /// The names of all extensions.
    #[must_use]
    pub fn extensions(&self) -> BTreeSet<String> {
        let all = self
            .databases
            .iter()
            .flat_map(|database| &database.extensions);
        all.map(|extension| extension.name.clone()).collect()
    }

    /// What of this is missing, or became less than a capture explains, in a cluster that was restored from it.
    #[must_use]
    pub fn compare(&self, restored: &Self, closeness: Closeness) -> Found {
        let mut findings = Findings::default();
        let there: BTreeMap<&str, &DatabaseBaseline> = restored
            .databases
            .iter()
            .map(|database| (&*database.name, database))
            .collect();
        let skipped: BTreeMap<&str, &str> = restored
            .skipped
            .iter()
            .map(|skipped| (&*skipped.name, &*skipped.why))
            .collect();
        let mut unknown = None;
        for was in &self.databases {
            let name = &was.name;
            match (there.get(&**name), skipped.get(&**name)) {
                (Some(is), _) => was.compare(is, closeness, &mut findings),
                (None, Some(why)) if says_nothing(why) => {
                    unknown.get_or_insert_with(|| format!("the database {name}: {why}"));
                }
                (None, Some(why)) => {
                    findings.add(|| format!("the database {name} can't be looked at: {why}"))
                }
                (None, None) => findings.add(|| format!("the database {name} is missing")),
            }
        }
        match (findings.found(), unknown) {
            (Found::Nothing, Some(why)) => Found::Unknown(why),
            (found, _) => found,
        }
    }
}

/// Whether the reason why a database was not looked at lies with this machine.
fn says_nothing(why: &str) -> bool {
    why == TOO_MANY || is_not_of_the_capture(why) || why.contains("statement timeout")
}

impl DatabaseBaseline {
    fn compare(&self, is: &Self, closeness: Closeness, findings: &mut Findings) {
        let name = &self.name;
        let (was_bytes, is_bytes) = (self.size_bytes, is.size_bytes);
        let says_sizes = closeness == Closeness::Near && was_bytes >= SIZE_MIN_BYTES;
        if says_sizes && is_bytes < was_bytes / 100 * SIZE_MIN_PERCENT {
            findings
                .add(|| format!("the database {name} has {is_bytes} bytes, and had {was_bytes}"));
        }
        if is.tables < self.tables {
            findings.add(|| {
                format!(
                    "the database {name} has {} tables, and had {}",
                    is.tables, self.tables
                )
            });
        }
        let extensions: BTreeSet<&str> = is
            .extensions
            .iter()
            .map(|extension| &*extension.name)
            .collect();
        for extension in &self.extensions {
            if !extensions.contains(&*extension.name) {
                findings
                    .add(|| format!("the database {name} lacks the extension {}", extension.name));
            }
        }
        let tables: BTreeMap<(&str, &str), &TableBaseline> = is
            .largest
            .iter()
            .map(|table| ((&*table.schema, &*table.name), table))
            .collect();
        // Where not all are listed, one that is not there may only have become smaller than others.
        let is_whole = is.largest.len() as u64 >= is.tables;
        for table in &self.largest {
            let TableBaseline {
                schema,
                name: table_name,
                ..
            } = table;
            match tables.get(&(&**schema, &**table_name)) {
                Some(is) => {
                    if let Some(finding) = table.shrunk(is, closeness) {
                        findings
                            .add(|| format!("the table {schema}.{table_name} of {name} {finding}"));
                    }
                }
                None if is_whole => {
                    findings.add(|| format!("the table {schema}.{table_name} of {name} is missing"))
                }
                None => {}
            }
        }
    }
}

impl TableBaseline {
    /// What is less than it was, beyond what a capture explains.
    fn shrunk(&self, is: &Self, closeness: Closeness) -> Option<String> {
        let (was, is) = match (self.rows, is.rows) {
            (Rows::Exact(was), Rows::Exact(is)) if closeness == Closeness::Same => {
                return (was != is).then(|| format!("has {is} rows, and had {was}"));
            }
            (Rows::Exact(was), Rows::Exact(is)) | (Rows::Estimate(was), Rows::Estimate(is)) => {
                (was, is)
            }
            // A count and an estimate say little of each other, unless nothing is left.
            (Rows::Estimate(was), Rows::Exact(0)) => (was, 0),
            _ => return None,
        };
        let may_lack = was / 100 * ROWS_LOST_MAX_PERCENT + was % 100 * ROWS_LOST_MAX_PERCENT / 100;
        let is_less = is == 0 && was > 0 || is < was - may_lack;
        is_less.then(|| format!("has {is} rows, and had {was}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, rows: Rows) -> TableBaseline {
        TableBaseline {
            schema: "public".into(),
            name: name.into(),
            rows,
            size_bytes: 8192,
        }
    }

    fn of(tables: Vec<TableBaseline>) -> Baseline {
        Baseline {
            databases: vec![DatabaseBaseline {
                name: "app".into(),
                size_bytes: 100 << 20,
                tables: tables.len() as u64,
                largest: tables,
                extensions: vec![ExtensionBaseline {
                    name: "hstore".into(),
                    version: "1.8".into(),
                }],
            }],
            ..Baseline::default()
        }
    }

    fn findings(was: &Baseline, is: &Baseline) -> Vec<String> {
        match was.compare(is, Closeness::Near) {
            Found::Nothing => Vec::new(),
            Found::Wrong { findings, .. } => findings,
            Found::Unknown(why) => panic!("{why}"),
        }
    }

    #[test]
    fn what_is_the_same_or_more_is_no_finding() {
        let was = of(vec![
            table("a", Rows::Exact(100)),
            table("b", Rows::Unknown),
            table("c", Rows::Estimate(7)),
        ]);
        assert_eq!(was.compare(&was, Closeness::Near), Found::Nothing);
        let is = of(vec![
            table("a", Rows::Exact(90)),
            table("b", Rows::Exact(0)),
            table("c", Rows::Exact(1)),
            table("d", Rows::Exact(1)),
        ]);
        assert_eq!(findings(&was, &is), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_less_is_named() {
        let was = of(vec![
            table("a", Rows::Exact(100)),
            table("b", Rows::Exact(1)),
            table("c", Rows::Estimate(7)),
            table("d", Rows::Exact(1)),
        ]);
        let mut is = of(vec![
            table("a", Rows::Exact(89)),
            table("b", Rows::Exact(0)),
            table("c", Rows::Exact(0)),
        ]);
        is.databases[0].size_bytes = 49 << 20;
        is.databases[0].extensions.clear();
        assert_eq!(
            findings(&was, &is),
            [
                format!(
                    "the database app has {} bytes, and had {}",
                    49 << 20,
                    100 << 20
                ),
                "the database app has 3 tables, and had 4".into(),
                "the database app lacks the extension hstore".into(),
                "the table public.a of app has 89 rows, and had 100".into(),
                "the table public.b of app has 0 rows, and had 1".into(),
                "the table public.c of app has 0 rows, and had 7".into(),
                "the table public.d of app is missing".into(),
            ]
        );
        is.databases.clear();
        assert_eq!(findings(&was, &is), ["the database app is missing"]);
        is.skipped.push(Skipped {
            name: "app".into(),
            why: "why".into(),
        });
        assert_eq!(
            findings(&was, &is),
            ["the database app can't be looked at: why"]
        );
        is.skipped[0].why = TOO_MANY.into();
        let found = was.compare(&is, Closeness::Near);
        assert!(matches!(found, Found::Unknown(_)), "{found:?}");
    }

    #[test]
    fn of_the_same_snapshot_each_row_counts_and_no_size() {
        let was = of(vec![table("a", Rows::Exact(100))]);
        let mut is = of(vec![table("a", Rows::Exact(99))]);
        is.databases[0].size_bytes = 1;
        let Found::Wrong { findings, .. } = was.compare(&is, Closeness::Same) else {
            panic!("nothing found");
        };
        assert_eq!(
            findings,
            ["the table public.a of app has 99 rows, and had 100"]
        );
    }

    #[test]
    fn a_table_is_not_missed_where_not_all_are_listed() {
        let was = of(vec![table("a", Rows::Exact(1))]);
        let mut is = of(vec![table("b", Rows::Exact(1))]);
        is.databases[0].tables = 2;
        assert_eq!(was.compare(&is, Closeness::Near), Found::Nothing);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let was = of(vec![
            table("a", Rows::Exact(100)),
            table("b", Rows::Unknown),
            table("c", Rows::Estimate(7)),
        ]);
        let text = serde_json::to_string(&was).expect("JSON");
        assert!(
            text.contains(r#""rows":{"exact":100}"#) && text.contains(r#""rows":"unknown""#),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<Baseline>(&text).expect("a baseline"),
            was
        );
    }
}
