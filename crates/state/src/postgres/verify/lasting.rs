//! What was in a cluster all the time between two looks at it: so it was there at every moment in between, too.
//! It must never hold more than the earlier look found, nor more than the later one.

use std::collections::{BTreeMap, BTreeSet};

use super::baseline::{Baseline, DatabaseBaseline, Rows, TableBaseline};

impl Baseline {
    /// What of this was still there at a later look.
    #[must_use]
    pub fn lasting(mut self, later: &Self) -> Self {
        let there: BTreeMap<&str, &DatabaseBaseline> = later
            .databases
            .iter()
            .map(|database| (&*database.name, database))
            .collect();
        self.databases
            .retain_mut(|database| match there.get(&*database.name) {
                Some(later) => {
                    database.keep_lasting(later);
                    true
                }
                None => false,
            });
        self
    }
}

impl DatabaseBaseline {
    fn keep_lasting(&mut self, later: &Self) {
        let extensions: BTreeSet<&str> = later
            .extensions
            .iter()
            .map(|extension| &*extension.name)
            .collect();
        self.extensions
            .retain(|extension| extensions.contains(&*extension.name));
        self.size_bytes = self.size_bytes.min(later.size_bytes);
        let is_whole = |database: &Self| database.largest.len() as u64 >= database.tables;
        let are_whole = is_whole(self) && is_whole(later);
        let tables: BTreeMap<(&str, &str), &TableBaseline> = later
            .largest
            .iter()
            .map(|table| ((&*table.schema, &*table.name), table))
            .collect();
        self.largest
            .retain_mut(|table| match tables.get(&(&*table.schema, &*table.name)) {
                Some(later) => {
                    table.rows = match (table.rows, later.rows) {
                        (Rows::Exact(was), Rows::Exact(is)) => Rows::Exact(was.min(is)),
                        (Rows::Estimate(was), Rows::Estimate(is)) => Rows::Estimate(was.min(is)),
                        // It became too large to be counted, or small enough.
                        _ => Rows::Unknown,
                    };
                    table.size_bytes = table.size_bytes.min(later.size_bytes);
                    true
                }
                None => false,
            });
        self.tables = match are_whole {
            true => self.largest.len() as u64,
            false => self.tables.min(later.tables),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::baseline::ExtensionBaseline;
    use super::*;

    fn of(name: &str, tables: &[(&str, Rows)], extensions: &[&str]) -> DatabaseBaseline {
        let table = |(name, rows): &(&str, Rows)| TableBaseline {
            schema: "public".into(),
            name: (*name).into(),
            rows: *rows,
            size_bytes: 8192,
        };
        let extension = |name: &&str| ExtensionBaseline {
            name: (*name).into(),
            version: "1".into(),
        };
        DatabaseBaseline {
            name: name.into(),
            size_bytes: 100,
            tables: tables.len() as u64,
            largest: tables.iter().map(table).collect(),
            extensions: extensions.iter().map(extension).collect(),
        }
    }

    #[test]
    fn what_came_or_went_in_between_is_not_asked_for() {
        use Rows::{Estimate, Exact, Unknown};
        let all = |databases: &[DatabaseBaseline]| Baseline {
            databases: databases.to_vec(),
            ..Baseline::default()
        };
        let earlier = all(&[
            of(
                "app",
                &[
                    ("gone", Exact(1)),
                    ("less", Exact(9)),
                    ("more", Estimate(4)),
                    ("grown", Exact(7)),
                ],
                &["a", "b"],
            ),
            of("dropped", &[], &[]),
        ]);
        let later = all(&[
            of(
                "app",
                &[
                    ("less", Exact(3)),
                    ("more", Estimate(5)),
                    ("new", Exact(1)),
                    ("grown", Estimate(8)),
                ],
                &["b", "c"],
            ),
            of("made", &[], &[]),
        ]);
        let lasting = all(&[of(
            "app",
            &[
                ("less", Exact(3)),
                ("more", Estimate(4)),
                ("grown", Unknown),
            ],
            &["b"],
        )]);
        assert_eq!(earlier.lasting(&later), lasting);
    }
}
