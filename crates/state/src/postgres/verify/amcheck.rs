//! PostgreSQL's own check of tables and indexes, `pg_amcheck`, on a scratch server.
//! It must never call something damaged that only this machine sorts in another way.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use lifeboat_flow::{Cancel, Cancelled};

use super::super::client::{Host, PgError};
use super::check::{Findings, Found};
use super::programs::Programs;
use super::scratch::ScratchServer;
use super::server_log::ServerLog;
use super::server_log::is_not_of_the_capture;
use super::settings::of_sessions;

/// Between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it waits for a lock: a prepared transaction that was restored holds its own for ever.
const LOCK_TIMEOUT_SECONDS: u32 = 60;
/// How long the server may take to answer a question about its collations.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// What it says of its complaints at most, in lines.
const COMPLAINTS_MAX_LINES: usize = 5;
/// The first major version that can switch off all event triggers of a session.
const WITHOUT_EVENT_TRIGGERS: u32 = 17;
/// Those that our sessions do not switch off before that version.
const EVENT_TRIGGERS: &str = "select evtname from pg_event_trigger where evtenabled in ('A', 'R')";
/// What it says of a database that has no amcheck.
const SKIPPED: &str = "skipping database";
/// It found something (PostgreSQL manual, "pg_amcheck").
const FOUND: i32 = 2;

/// Checks all databases.
pub(super) fn check(
    programs: &Programs,
    server: &ScratchServer,
    databases: &[String],
    cancel: &Cancel,
) -> Result<Found, Cancelled> {
    let program = programs.path("pg_amcheck");
    let installs = programs.major() >= WITHOUT_EVENT_TRIGGERS
        || !any_event_trigger(server, databases, cancel)?;
    let run = match Run::start(programs, server, installs) {
        Ok(run) => run,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let path = program.display();
            return Ok(Found::Unknown(format!(
                "there is no {path}; it came with PostgreSQL 14"
            )));
        }
        Err(cause) => {
            return Ok(Found::Unknown(format!(
                "{} can't be started: {cause}",
                program.display()
            )));
        }
    };
    let (status, (lines, before), (complaints, _)) = match run.finish(cancel)? {
        Ok(ended) => ended,
        Err(cause) => {
            return Ok(Found::Unknown(format!(
                "{} can't be waited for: {cause}",
                program.display()
            )));
        }
    };
    let skipped = complaints
        .iter()
        .find(|line| line.contains(SKIPPED))
        .cloned();
    if status.success() {
        return Ok(skipped.map_or(Found::Nothing, Found::Unknown));
    }
    if status.code() != Some(FOUND) || lines.is_empty() {
        let why = || format!("pg_amcheck ended with {status}: {}", last(&complaints));
        return Ok(Found::Unknown(skipped.unwrap_or_else(why)));
    }
    // What could not be looked at must not hide what was found elsewhere.
    let says_nothing = |finding: &String| {
        finding.contains("due to lock timeout") || is_not_of_the_capture(finding)
    };
    let (unseen, found): (Vec<String>, Vec<String>) =
        joined(&lines).into_iter().partition(says_nothing);
    if found.is_empty() {
        let unseen = unseen.first().map_or("", String::as_str);
        return Ok(Found::Unknown(format!(
            "something could not be looked at: {unseen}"
        )));
    }
    // An order that another library would make is no damage; anything else is.
    let is_order = |finding: &String| finding.contains("invariant violated");
    if before == 0
        && found.iter().all(is_order)
        && let Some(other) = other_collation(server, databases, cancel)?
    {
        let why = format!(
            "indexes are not in order, but {other}; on a machine with the same library they may be"
        );
        return Ok(Found::Unknown(why));
    }
    let mut findings = Findings::default();
    for finding in found {
        findings.add(|| finding);
    }
    findings.add_uncounted(before);
    Ok(findings.found())
}

/// Whether a trigger would see that an extension is installed, although our sessions let most of them not see it.
fn any_event_trigger(
    server: &ScratchServer,
    databases: &[String],
    cancel: &Cancel,
) -> Result<bool, Cancelled> {
    for database in databases {
        let asked = server.connect(database, cancel).and_then(|mut connection| {
            connection.query(EVENT_TRIGGERS, Some(ANSWER_TIMEOUT), cancel)
        });
        match asked {
            Ok(rows) if rows.is_empty() => {}
            Err(PgError::Cancelled(cancelled)) => return Err(cancelled),
            // Whoever can't be asked may have some.
            Ok(_) | Err(_) => return Ok(true),
        }
    }
    Ok(false)
}

/// What is found is a line that names a thing, and indented lines of what is wrong with it.
fn joined(lines: &[String]) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    for line in lines {
        match findings.last_mut() {
            Some(last) if line.starts_with(' ') => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => findings.push(line.trim().to_owned()),
        }
    }
    findings
}

fn last(complaints: &[String]) -> String {
    let skipped = complaints.len().saturating_sub(COMPLAINTS_MAX_LINES);
    complaints.get(skipped..).unwrap_or_default().join("; ")
}

/// A collation that this machine has in another version than the one that wrote the indexes, in words.
fn other_collation(
    server: &ScratchServer,
    databases: &[String],
    cancel: &Cancel,
) -> Result<Option<String>, Cancelled> {
    for database in databases {
        let asked = server.connect(database, cancel).and_then(|mut connection| {
            // Servers before 15 keep no version of a database's own collation.
            let of_database = match connection.version() {
                Some(version) if version >= 150_000 => {
                    "union all select 'default', datcollversion, pg_database_collation_actual_version(oid) \
                     from pg_database where datname = current_database()"
                }
                _ => "",
            };
            let sql = format!(
                "select name, kept, here from (select collname, collversion, pg_collation_actual_version(oid) \
                 from pg_collation {of_database}) as v (name, kept, here) where kept <> here limit 1"
            );
            connection.query(&sql, Some(ANSWER_TIMEOUT), cancel)
        });
        match asked {
            Ok(rows) => {
                if let Some([Some(name), Some(kept), Some(here)]) = rows.first().map(Vec::as_slice)
                {
                    return Ok(Some(format!(
                        "in {database} the collation {name} was of version {kept}, and is of {here} on this machine"
                    )));
                }
            }
            Err(PgError::Cancelled(cancelled)) => return Err(cancelled),
            // Whoever can't be asked does not excuse what was found.
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Lines that were said, and how many came before them.
type Said = (Vec<String>, u64);

/// The running program. Dropped, it is killed.
struct Run {
    child: Child,
    found: ServerLog,
    complaints: ServerLog,
}

impl Run {
    fn start(programs: &Programs, server: &ScratchServer, installs: bool) -> io::Result<Self> {
        let address = &server.address;
        let Host::Socket(dir) = &address.host else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let mut command = Command::new(programs.path("pg_amcheck"));
        command.args(["--all", "--no-password", "--host"]).arg(dir);
        command.arg("--maintenance-db").arg(&address.database);
        command
            .arg("--port")
            .arg(address.port.to_string())
            .arg("--username")
            .arg(&address.user);
        if installs {
            command.arg("--install-missing");
        }
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PGOPTIONS", options(programs.major()));
        command.current_dir("/").process_group(0);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = server.user() {
            command.uid(uid).gid(gid);
        }
        let mut child = command.spawn()?;
        let found = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let complaints = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self {
            child,
            found: ServerLog::read(found),
            complaints: ServerLog::read(complaints),
        })
    }

    /// Waits for it, and gives how it ended and what it said.
    fn finish(
        mut self,
        cancel: &Cancel,
    ) -> Result<io::Result<(ExitStatus, Said, Said)>, Cancelled> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.found.finish();
                    self.complaints.finish();
                    return Ok(Ok((status, self.found.kept(), self.complaints.kept())));
                }
                Ok(None) => cancel.sleep(LOOK_EVERY)?,
                Err(cause) => return Ok(Err(cause)),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Both do nothing once it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Settings of its sessions, as libpq takes them: none of them has a blank.
fn options(major: u32) -> OsString {
    let mut options = vec![format!("-c lock_timeout={LOCK_TIMEOUT_SECONDS}s")];
    options.extend(
        of_sessions(major)
            .iter()
            .map(|(name, value)| format!("-c {name}={value}")),
    );
    options.join(" ").into()
}
