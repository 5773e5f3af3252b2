//! What a restore of dumps does to a server, in order: roles, a database under a name of its own, and its real name last.
//! It must never fill a database that is there, nor take its name without leaving it under another.

use std::fmt;

use lifeboat_flow::Timestamp;
use lifeboat_state::postgres::dump::{
    DatabaseRecord, DumpRecord, Globals, LogicalMember, RoleStatement, TargetFacts,
};

/// The longest name of a database, in bytes (PostgreSQL manual, "Identifiers and Key Words").
const NAME_MAX_BYTES: usize = 63;
/// Databases to be connected with while others get their names.
const HOMES: [&str; 2] = ["postgres", "template1"];

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct DumpRequest<'a> {
    /// The databases; all of the capture if none are named.
    pub databases: &'a [String],
    /// Another name for the only one.
    pub rename: Option<&'a str>,
    /// Make the roles that the server lacks.
    pub globals: bool,
    /// Leave out who owns what, and who may do what.
    pub no_owner: bool,
    /// Take the names of databases that are there; those are kept under another name.
    pub replace: bool,
    /// The database that the server is asked with.
    pub connected: &'a str,
    /// The time, which is in the names that are made.
    pub now: Timestamp,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum DumpStep {
    /// Roles are made.
    Roles(Vec<RoleStatement>),
    /// An empty database is made.
    Create {
        /// As it was.
        dump: Box<DumpRecord>,
        /// Its name for now.
        temporary: String,
    },
    /// It is filled.
    Fill {
        /// From this dump.
        dump: Box<DumpRecord>,
        /// Its name for now.
        temporary: String,
    },
    /// It gets its settings, its owner and its rights.
    Complete {
        /// As they were.
        dump: Box<DumpRecord>,
        /// Its name for now.
        temporary: String,
    },
    /// It gets its name.
    Name {
        /// Its name until now.
        temporary: String,
        /// Its name from now on.
        name: String,
        /// The name that one gets that is there.
        aside: Option<String>,
    },
}

/// What a restore does.
#[derive(Clone, Debug, PartialEq)]
pub struct DumpPlan {
    /// In this order.
    pub steps: Vec<DumpStep>,
    /// The database that the server is asked with.
    pub home: String,
    /// The version of the server.
    pub version: u32,
    /// Leave out who owns what, and who may do what.
    pub no_owner: bool,
    /// Tablespaces that the server lacks: then everything goes into the default one.
    pub missing_tablespaces: Vec<String>,
    /// Databases that are there already and had nothing of their own in the capture.
    pub left: Vec<DatabaseRecord>,
}

/// A restore that can't be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpPlanError {
    /// A database is not in the capture.
    #[error("the capture has no database {name:?}; it has {}", .known.join(", "))]
    Unknown {
        /// The one that was named.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// One that would be made is there.
    #[error(
        "the server has a database {0:?} already, and a restore never goes into one that is there"
    )]
    Exists(String),
    /// One that would be replaced is in use.
    #[error("{} the database {name:?}, so that it can't be given another name", used_by(*.sessions))]
    InUse {
        /// Which.
        name: String,
        /// How many sessions use it.
        sessions: u64,
    },
    /// A new name needs one database.
    #[error("a new name is for one database, and {0} would be restored")]
    OneName(usize),
    /// A name that no database can have.
    #[error("{0:?} is no name for a database: that has 1 to 63 bytes")]
    NoName(String),
    /// No database is left to be connected with.
    #[error("no database is left to be connected with while others are replaced")]
    NoHome,
}

fn used_by(count: u64) -> String {
    match count {
        1 => "1 session uses".to_owned(),
        count => format!("{count} sessions use"),
    }
}

/// Decides.
///
/// # Errors
/// When a database is not in the capture, or its name is taken.
pub fn plan_dumps(
    member: &LogicalMember,
    globals: &Globals,
    request: &DumpRequest<'_>,
    target: &TargetFacts,
) -> Result<DumpPlan, DumpPlanError> {
    let mut chosen: Vec<&DumpRecord> = member.logical.databases.iter().collect();
    for name in request.databases {
        if !chosen.iter().any(|dump| dump.database.name == *name) {
            return Err(DumpPlanError::Unknown {
                name: name.clone(),
                known: chosen
                    .iter()
                    .map(|dump| dump.database.name.clone())
                    .collect(),
            });
        }
    }
    if !request.databases.is_empty() {
        chosen.retain(|dump| request.databases.contains(&dump.database.name));
    }
    if request.rename.is_some() && chosen.len() != 1 {
        return Err(DumpPlanError::OneName(chosen.len()));
    }
    let there = |name: &str| target.databases.iter().find(|there| there.name == name);
    let stamp = stamp(request.now);
    let (mut steps, mut left, mut replaced, mut number) = (Vec::new(), Vec::new(), Vec::new(), 0);
    if request.globals {
        let roles = globals.lacking(&target.roles);
        steps.extend((!roles.is_empty()).then_some(DumpStep::Roles(roles)));
    }
    for dump in chosen {
        let name = request.rename.unwrap_or(&dump.database.name).to_owned();
        if name.len() > NAME_MAX_BYTES || name.is_empty() {
            return Err(DumpPlanError::NoName(name));
        }
        let aside = match there(&name) {
            None => None,
            Some(there) if request.replace => {
                if there.sessions > 0 {
                    return Err(DumpPlanError::InUse {
                        name,
                        sessions: there.sessions,
                    });
                }
                Some(aside_name(&name, &stamp))
            }
            // A new cluster has a database `postgres`, and nearly nobody keeps anything in it.
            Some(_)
                if request.databases.is_empty()
                    && request.rename.is_none()
                    && dump.objects == Some(0) =>
            {
                left.push(dump.database.clone());
                continue;
            }
            Some(_) => return Err(DumpPlanError::Exists(name)),
        };
        if let Some(aside) = &aside {
            if there(aside).is_some() {
                return Err(DumpPlanError::Exists(aside.clone()));
            }
            replaced.push(name.clone());
        }
        let temporary = loop {
            number += 1;
            let temporary = format!("lifeboat_restoring_{stamp}_{number}");
            if there(&temporary).is_none() {
                break temporary;
            }
        };
        let dump = Box::new(dump.clone());
        steps.push(DumpStep::Create {
            dump: dump.clone(),
            temporary: temporary.clone(),
        });
        steps.push(DumpStep::Fill {
            dump: dump.clone(),
            temporary: temporary.clone(),
        });
        steps.push(DumpStep::Complete {
            dump,
            temporary: temporary.clone(),
        });
        steps.push(DumpStep::Name {
            temporary,
            name,
            aside,
        });
    }
    let homes = std::iter::once(request.connected).chain(HOMES);
    let mut homes = homes.filter(|home| there(home).is_some());
    let home = homes.find(|home| !replaced.iter().any(|name| name == home));
    let lacks = |space: &&String| !target.tablespaces.contains(*space);
    Ok(DumpPlan {
        steps,
        home: home.ok_or(DumpPlanError::NoHome)?.to_owned(),
        version: target.version,
        no_owner: request.no_owner,
        missing_tablespaces: globals.tablespaces.iter().filter(lacks).cloned().collect(),
        left,
    })
}

/// A time as a part of a name, as `20261121T030004Z`.
fn stamp(time: Timestamp) -> String {
    let text = Timestamp::utc(time.seconds, 0).to_string();
    text.replace(['-', ':'], "")
}

/// The name of a database that was replaced; one that would be too long is cut.
fn aside_name(name: &str, stamp: &str) -> String {
    let end = format!("_before_{stamp}");
    let mut room = NAME_MAX_BYTES.saturating_sub(end.len()).min(name.len());
    while !name.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{end}", name.get(..room).unwrap_or_default())
}

impl fmt::Display for DumpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Roles(statements) => {
                let made = statements.iter().filter(|statement| statement.makes);
                let made: Vec<&str> = made.map(|statement| &*statement.role).collect();
                write!(f, "make the roles {}", made.join(", "))
            }
            Self::Create { dump, temporary } => {
                let database = &dump.database;
                write!(
                    f,
                    "create the database {temporary}: {}, {}",
                    database.encoding,
                    database.locale.as_ref().unwrap_or(&database.collate)
                )
            }
            Self::Fill { dump, temporary } => write!(f, "restore {} into {temporary}", dump.file),
            Self::Complete { temporary, .. } => {
                write!(f, "give {temporary} its settings, owner and rights")
            }
            Self::Name {
                temporary,
                name,
                aside: None,
            } => write!(f, "rename {temporary} to {name}"),
            Self::Name {
                temporary,
                name,
                aside: Some(aside),
            } => write!(
                f,
                "rename {name}, which is there, to {aside}, and {temporary} to {name}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_state::postgres::dump::{LogicalCapture, TargetDatabase};
    use lifeboat_state::postgres::{CaptureKind, ENGINE, MEMBER_VERSION};

    use super::*;

    fn member(databases: &[(&str, u64)]) -> LogicalMember {
        let dump = |(name, objects): &(&str, u64)| DumpRecord {
            database: DatabaseRecord {
                name: (*name).into(),
                encoding: "UTF8".into(),
                collate: "C".into(),
                ..DatabaseRecord::default()
            },
            file: format!("{name}.dump"),
            instant: Timestamp::utc(0, 0),
            bytes: 1,
            tables: None,
            objects: Some(*objects),
        };
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
            flags: Vec::new(),
            logical: LogicalCapture {
                system_id: None,
                standby: false,
                dump_version: "15.18".into(),
                role_passwords: true,
                databases: databases.iter().map(dump).collect(),
                left_out: Vec::new(),
            },
            baseline: None,
        }
    }

    fn target(databases: &[(&str, u64)]) -> TargetFacts {
        let database = |(name, sessions): &(&str, u64)| TargetDatabase {
            name: (*name).into(),
            sessions: *sessions,
        };
        TargetFacts {
            version: 150_018,
            databases: databases.iter().map(database).collect(),
            roles: ["me".to_owned()].into(),
            tablespaces: ["pg_default".to_owned()].into(),
        }
    }

    fn request<'a>() -> DumpRequest<'a> {
        DumpRequest {
            databases: &[],
            rename: None,
            globals: false,
            no_owner: false,
            replace: false,
            connected: "postgres",
            now: Timestamp::utc(1_795_230_004, 7),
        }
    }

    fn planned(
        member: &LogicalMember,
        request: &DumpRequest<'_>,
        target: &TargetFacts,
    ) -> Result<DumpPlan, DumpPlanError> {
        plan_dumps(member, &Globals::default(), request, target)
    }

    fn shown(plan: &DumpPlan) -> Vec<String> {
        plan.steps.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_database_has_its_name_last_and_an_empty_postgres_is_left() {
        let globals = Globals::parse(
            "CREATE ROLE me;\nCREATE ROLE b;\nALTER ROLE b LOGIN;\nCREATE TABLESPACE fast LOCATION '/x';\n",
        );
        let request = DumpRequest {
            globals: true,
            ..request()
        };
        let plan = plan_dumps(
            &member(&[("app", 3), ("postgres", 0)]),
            &globals,
            &request,
            &target(&[("postgres", 0)]),
        )
        .unwrap();
        let temporary = "lifeboat_restoring_20261121T030004Z_1";
        assert_eq!(
            shown(&plan),
            [
                "make the roles b".to_owned(),
                format!("create the database {temporary}: UTF8, C"),
                format!("restore app.dump into {temporary}"),
                format!("give {temporary} its settings, owner and rights"),
                format!("rename {temporary} to app"),
            ]
        );
        let left = plan.left.iter().map(|database| &*database.name);
        assert_eq!(left.collect::<Vec<_>>(), ["postgres"]);
        assert_eq!(plan.missing_tablespaces, ["fast"]);
    }

    #[test]
    fn one_that_is_there_is_never_filled_and_is_kept_when_it_is_replaced() {
        let (one, there) = (
            member(&[("postgres", 1)]),
            target(&[("postgres", 0), ("template1", 0)]),
        );
        assert_eq!(
            planned(&one, &request(), &there),
            Err(DumpPlanError::Exists("postgres".into()))
        );
        let replace = DumpRequest {
            replace: true,
            ..request()
        };
        let plan = planned(&one, &replace, &there).unwrap();
        assert_eq!(plan.home, "template1");
        assert!(
            shown(&plan)[3].starts_with(
                "rename postgres, which is there, to postgres_before_20261121T030004Z, and "
            ),
            "{:?}",
            shown(&plan)
        );
        let used = target(&[("postgres", 2)]);
        let error = planned(&one, &replace, &used).unwrap_err();
        assert!(error.to_string().starts_with("2 sessions use"), "{error}");
        // Who asks for one gets it, or hears why not.
        let empty = member(&[("postgres", 0)]);
        let named = ["postgres".to_owned()];
        for request in [
            DumpRequest {
                rename: Some("template1"),
                ..request()
            },
            DumpRequest {
                databases: &named,
                ..request()
            },
        ] {
            let error = planned(&empty, &request, &there).unwrap_err();
            assert!(matches!(error, DumpPlanError::Exists(_)), "{error}");
        }
        let alone = target(&[("postgres", 0)]);
        assert_eq!(planned(&one, &replace, &alone), Err(DumpPlanError::NoHome));
    }

    #[test]
    fn what_is_not_there_or_not_one_is_refused() {
        let two = member(&[("a", 1), ("b", 1)]);
        let there = target(&[("postgres", 0)]);
        let unknown = ["c".to_owned()];
        let wrong = DumpRequest {
            databases: &unknown,
            ..request()
        };
        let error = planned(&two, &wrong, &there).unwrap_err().to_string();
        assert!(error.contains("no database \"c\"; it has a, b"), "{error}");
        let renamed = DumpRequest {
            rename: Some("c"),
            ..request()
        };
        assert_eq!(
            planned(&two, &renamed, &there),
            Err(DumpPlanError::OneName(2))
        );
        assert_eq!(
            aside_name(&"ä".repeat(31), "x"),
            format!("{}_before_x", "ä".repeat(27))
        );
    }
}
