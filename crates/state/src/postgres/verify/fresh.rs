//! An empty cluster of our own, made by `initdb`, for what was dumped to be restored into.
//! It must never be made where something is, nor as root.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::programs::Programs;

/// The last lines of what `initdb` says that are kept.
const WORDS_MAX_LINES: usize = 5;
/// Who runs the server where we are root and nobody is called as PostgreSQL's packages call him: `nobody`, on Linux.
const NOBODY: (u32, u32) = (65_534, 65_534);
/// Where users are listed.
const USERS: &str = "/etc/passwd";
/// As whom packages run PostgreSQL.
const SERVER_USER: &str = "postgres";

/// A cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FreshError {
    /// Its directory, or the program that makes it.
    #[error("{doing} {}", .path.display())]
    Make {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// `initdb` refused.
    #[error("make an empty cluster: {0}")]
    Refused(String),
}

/// Makes an empty cluster in `data`, which is not there yet, with a superuser of this name. It belongs to us, or to the user
/// of PostgreSQL's packages if we are root.
///
/// # Errors
/// When it can't be made.
pub fn make_cluster(programs: &Programs, data: &Path, superuser: &str) -> Result<(), FreshError> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |cause| FreshError::Make { doing, path, cause }
    };
    DirBuilder::new()
        .mode(0o700)
        .create(data)
        .map_err(failed("make", data))?;
    let program = programs.path("initdb");
    let mut initdb = Command::new(&program);
    initdb
        .args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"])
        .arg(format!("--username={superuser}"))
        .arg("--pgdata")
        .arg(data)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = server_user();
        chown(data, Some(uid), Some(gid)).map_err(failed("give away", data))?;
        initdb.uid(uid).gid(gid);
    }
    let output = initdb.output().map_err(failed("start", &program))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(WORDS_MAX_LINES);
    Err(FreshError::Refused(
        lines.get(skipped..).unwrap_or_default().join("; "),
    ))
}

/// The numbers of PostgreSQL's own user.
fn server_user() -> (u32, u32) {
    let users = std::fs::read_to_string(USERS).unwrap_or_default();
    let numbers = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_it = fields.next() == Some(SERVER_USER);
        let mut numbers = fields.skip(1).map_while(|field| field.parse().ok());
        is_it.then(|| Some((numbers.next()?, numbers.next()?)))?
    });
    numbers.filter(|(uid, _)| *uid != 0).unwrap_or(NOBODY)
}
