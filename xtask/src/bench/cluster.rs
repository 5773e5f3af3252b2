//! A PostgreSQL server that the benchmark fills and works on.
//! It listens on no network, and never runs as somebody who may do anything else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Result, While};
use crate::shell;
use crate::tools::{packages, postgres};

/// Who runs the server where we are root, which PostgreSQL refuses.
pub(super) const USER: &str = "postgres";

/// A cluster with its server.
pub(super) struct Cluster {
    programs: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its socket lies.
    pub home: PathBuf,
}

impl Cluster {
    /// Makes one below a directory, which its user may pass through from then on; no server runs yet.
    pub(super) fn make(home: &Path, more: &[&str]) -> Result<Self> {
        let programs = postgres::ensure()?;
        if packages::is_root() {
            shell::run(Command::new("chown").arg(USER).arg(home))?;
        }
        let cluster = Self {
            programs,
            data: home.join("data"),
            home: home.to_owned(),
        };
        let mut initdb = cluster.program("initdb");
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.args(more).arg("-D").arg(&cluster.data);
        shell::output(&mut initdb)?;
        Ok(cluster)
    }

    /// Lets everybody pass through a directory, as the server's user must.
    pub(super) fn let_pass(dir: &Path) -> Result<()> {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))
            .doing(|| format!("cannot open {}", dir.display()))
    }

    /// Starts the server, with settings as `name=value`.
    pub(super) fn start(&self, settings: &[&str]) -> Result<()> {
        let home = self.home.display();
        let mut all =
            format!("-c listen_addresses= -c fsync=off -c unix_socket_directories={home}");
        for setting in settings {
            all.push_str(" -c ");
            all.push_str(setting);
        }
        let mut start = self.program("pg_ctl");
        start
            .args(["start", "--silent", "--wait", "-D"])
            .arg(&self.data)
            .arg("-o")
            .arg(all);
        // Its log must not hold our output open.
        shell::run(start.arg("-l").arg(self.home.join("log")))
    }

    /// Makes pgbench's tables, with so many times 100,000 accounts.
    pub(super) fn fill(&self, scale: u64) -> Result<()> {
        self.pgbench(&["--initialize", "--quiet", &format!("--scale={scale}")])
    }

    pub(super) fn pgbench(&self, words: &[&str]) -> Result<()> {
        let mut pgbench = self.program("pgbench");
        pgbench
            .args(["--username=postgres", "--host"])
            .arg(&self.home);
        shell::output(pgbench.args(words).arg("postgres")).map(drop)
    }

    /// What the server answers.
    pub(super) fn sql(&self, sql: &str) -> Result<String> {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            USER,
            "-d",
            "postgres",
        ]);
        psql.arg("-h").arg(&self.home);
        Ok(shell::output(psql.args(["-c", sql]))?.trim().to_owned())
    }

    pub(super) fn stop(&self) -> Result<()> {
        let mut stop = self.program("pg_ctl");
        shell::run(
            stop.args(["stop", "--silent", "--wait", "--mode=fast", "-D"])
                .arg(&self.data),
        )
    }

    /// A program of the server's package, as the server's user.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if packages::is_root() {
            let mut runuser = Command::new("runuser");
            runuser.args(["-u", USER, "--"]).arg(program);
            runuser
        } else {
            Command::new(program)
        };
        command.current_dir(&self.home);
        command
    }

    /// A program of the server's package, as whoever we are.
    pub(super) fn own(&self, name: &str) -> Command {
        Command::new(self.programs.join(name))
    }
}

/// What the server's programs say that they are.
pub(super) fn version() -> Result<String> {
    let said = shell::output(Command::new(postgres::ensure()?.join("postgres")).arg("--version"))?;
    let number = said.split_whitespace().nth(2).unwrap_or("?");
    Ok(format!("PostgreSQL {number}"))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            // What it was for has failed, and has been told.
            let mut stop = self.program("pg_ctl");
            stop.args(["stop", "--silent", "--mode=immediate", "-D"]);
            let _ = shell::output(stop.arg(&self.data));
        }
    }
}
