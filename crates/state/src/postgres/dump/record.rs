//! What `member.json` says of a logical capture: which databases were dumped, each as of which instant, and what was in them.
//! It must never change its meaning under one version number: captures of years ago are read by it.

use std::collections::BTreeMap;

use lifeboat_flow::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::member::{Beginning, CaptureKind, Member, MemberError};
use super::super::verify::{Baseline, DatabaseBaseline, Rows};
use super::database::DatabaseRecord;

/// The record of a logical capture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogicalMember {
    /// The version of the record, as in every other.
    pub version: u32,
    /// The app that it belongs to.
    pub app: String,
    /// Its name in the app.
    pub member: String,
    /// The UUID of the fleet, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<String>,
    /// The oldest of the instants of its databases.
    pub instant: Timestamp,
    /// [`CaptureKind::Logical`].
    pub kind: CaptureKind,
    /// The engine, as in every other.
    pub engine: String,
    /// The version of the server, such as 15.18.
    pub engine_version: String,
    /// Files of the capture.
    pub files: u64,
    /// Their content, in bytes.
    pub bytes: u64,
    /// What makes it doubtful whether it should take the place of captures before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<Flag>,
    /// The dumps.
    pub logical: LogicalCapture,
    /// What was in the databases, each as of its own snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
}

/// The dumps of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogicalCapture {
    /// The number that tells the cluster from all others, if the server told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_id: Option<String>,
    /// Whether a standby was asked.
    pub standby: bool,
    /// The version of `pg_dump`, such as 15.18.
    pub dump_version: String,
    /// Whether the roles have their passwords, as hashes.
    pub role_passwords: bool,
    /// The databases, by the names of their files.
    pub databases: Vec<DumpRecord>,
    /// Databases that let nobody in, which are not here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// A dump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpRecord {
    /// The database.
    #[serde(flatten)]
    pub database: DatabaseRecord,
    /// Its file among the dumps.
    pub file: String,
    /// What comes back is the database of this instant.
    pub instant: Timestamp,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// How many tables it has, if that could be asked in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<u64>,
    /// How many objects users made in it, if that could be asked in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
}

/// A doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "flag", rename_all = "snake_case")]
pub enum Flag {
    /// No table of a database has a row, and some had.
    Emptied {
        /// The database.
        database: String,
    },
}

/// The record of a capture of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Of the files of a server.
    Physical(Box<Member>),
    /// Of what a server tells.
    Logical(Box<LogicalMember>),
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is none, or none that is known.
    pub fn parse(json: &[u8]) -> Result<Self, MemberError> {
        match Beginning::parse(json)?.kind {
            CaptureKind::Physical => Ok(Self::Physical(Box::new(Member::parse(json)?))),
            CaptureKind::Logical => {
                let member = serde_json::from_slice(json).map_err(MemberError::Form)?;
                Ok(Self::Logical(Box::new(member)))
            }
        }
    }
}

impl LogicalMember {
    /// The record as it is stored.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn to_json(&self) -> Result<Vec<u8>, MemberError> {
        let mut json = serde_json::to_vec_pretty(self).map_err(MemberError::Form)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// What is doubtful about what is now, going by what was before. A database that was found empty stays so until it has rows
/// again: otherwise only the first of many empty dumps would be doubtful.
#[must_use]
pub fn flags(before: Option<&LogicalMember>, now: &Baseline) -> Vec<Flag> {
    let Some(before) = before else {
        return Vec::new();
    };
    let known = before.baseline.iter().flat_map(|known| &known.databases);
    let known: BTreeMap<&str, &DatabaseBaseline> =
        known.map(|database| (&*database.name, database)).collect();
    let mut flags = Vec::new();
    for database in &now.databases {
        let flag = Flag::Emptied {
            database: database.name.clone(),
        };
        let had = known
            .get(&*database.name)
            .is_some_and(|known| has_rows(known));
        if is_empty(database) && (had || before.flags.contains(&flag)) {
            flags.push(flag);
        }
    }
    flags
}

/// Whether some table surely had rows.
fn has_rows(database: &DatabaseBaseline) -> bool {
    let rows = database.largest.iter().map(|table| table.rows);
    rows.into_iter()
        .any(|rows| matches!(rows, Rows::Exact(1..) | Rows::Estimate(1..)))
}

/// Whether no table has any. What nobody has counted is large.
fn is_empty(database: &DatabaseBaseline) -> bool {
    let mut rows = database.largest.iter().map(|table| table.rows);
    rows.all(|rows| rows == Rows::Exact(0))
}

#[cfg(test)]
mod tests {
    use super::super::super::member::{ENGINE, MEMBER_VERSION};
    use super::super::super::verify::TableBaseline;
    use super::*;

    fn baseline(tables: &[Rows]) -> Baseline {
        let table = |(number, rows): (usize, &Rows)| TableBaseline {
            schema: "public".into(),
            name: format!("t{number}"),
            rows: *rows,
            size_bytes: 0,
        };
        Baseline {
            databases: vec![DatabaseBaseline {
                name: "app".into(),
                largest: tables.iter().enumerate().map(table).collect(),
                ..DatabaseBaseline::default()
            }],
            ..Baseline::default()
        }
    }

    fn member(baseline: Baseline, flags: Vec<Flag>) -> LogicalMember {
        LogicalMember {
            version: MEMBER_VERSION,
            app: "a".into(),
            member: "b".into(),
            fleet: None,
            instant: Timestamp::utc(0, 0),
            kind: CaptureKind::Logical,
            engine: ENGINE.into(),
            engine_version: "15.18".into(),
            files: 2,
            bytes: 3,
            flags,
            logical: LogicalCapture {
                system_id: Some("7".into()),
                standby: false,
                dump_version: "15.18".into(),
                role_passwords: true,
                databases: vec![DumpRecord {
                    database: DatabaseRecord::default(),
                    file: "app.dump".into(),
                    instant: Timestamp::utc(0, 0),
                    bytes: 3,
                    tables: None,
                    objects: Some(1),
                }],
                left_out: Vec::new(),
            },
            baseline: Some(baseline),
        }
    }

    #[test]
    fn only_a_database_that_had_rows_and_has_none_is_doubtful_until_it_has_some_again() {
        let full = baseline(&[Rows::Exact(0), Rows::Exact(2)]);
        let empty = baseline(&[Rows::Exact(0), Rows::Exact(0)]);
        let flag = vec![Flag::Emptied {
            database: "app".into(),
        }];
        let before = member(full.clone(), Vec::new());
        assert_eq!(flags(Some(&before), &empty), flag);
        assert_eq!(
            flags(Some(&before), &baseline(&[])),
            flag,
            "its tables are gone"
        );
        assert_eq!(
            flags(Some(&before), &baseline(&[Rows::Exact(0), Rows::Unknown])),
            []
        );
        assert_eq!(flags(Some(&before), &full), []);
        assert_eq!(flags(None, &empty), []);
        let before = member(empty.clone(), Vec::new());
        assert_eq!(flags(Some(&before), &empty), [], "it never had any");
        let before = member(empty.clone(), flag.clone());
        assert_eq!(flags(Some(&before), &empty), flag);
        assert_eq!(flags(Some(&before), &full), []);
    }

    #[test]
    fn a_record_is_read_as_its_kind_and_refused_as_the_other() {
        let member = member(
            baseline(&[Rows::Exact(1)]),
            vec![Flag::Emptied {
                database: "x".into(),
            }],
        );
        let json = member.to_json().unwrap();
        let text = String::from_utf8(json.clone()).unwrap();
        assert!(text.contains(r#""kind": "logical""#) && text.contains(r#""flag": "emptied""#));
        assert_eq!(
            Record::parse(&json).unwrap(),
            Record::Logical(Box::new(member))
        );
        let error = Member::parse(&json).unwrap_err().to_string();
        assert!(error.contains("logical"), "{error}");
    }
}
