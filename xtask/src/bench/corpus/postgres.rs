//! A PostgreSQL data directory with pgbench's tables in it, cleanly stopped.
//! The server listens on no network and runs as somebody who may not do anything else.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Result;
use crate::scratch::Scratch;
use crate::shell;
use crate::tools::{packages, postgres};

/// Who runs the server where we are root, which PostgreSQL refuses.
const USER: &str = "postgres";

/// Fills `dir` with a data directory of `scale` times 100,000 accounts.
pub(super) fn make(dir: &Path, scale: u64) -> Result<()> {
    let programs = postgres::ensure()?;
    // Not in the cache: the server's user may not go where our home is.
    let scratch = Scratch::create("postgres")?;
    if packages::is_root() {
        shell::run(Command::new("chown").arg(USER).arg(scratch.path()))?;
    }
    let server = Server {
        programs,
        data: scratch.join("data"),
        home: scratch.path().to_owned(),
    };
    server.initialise()?;
    server.start()?;
    let filled = server.fill(scale);
    let stopped = server.stop();
    filled.and(stopped)?;
    let mut copy = Command::new("cp");
    shell::run(copy.args(["-a", "--"]).arg(&server.data).arg(dir))
}

struct Server {
    programs: PathBuf,
    data: PathBuf,
    /// Where its socket lies.
    home: PathBuf,
}

impl Server {
    fn initialise(&self) -> Result<()> {
        let mut initdb = self.program("initdb");
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        shell::output(initdb.arg(&self.data)).map(drop)
    }

    fn start(&self) -> Result<()> {
        let settings = format!(
            "-c listen_addresses= -c fsync=off -c unix_socket_directories={}",
            self.home.display()
        );
        let mut start = self.program("pg_ctl");
        start
            .args(["start", "--silent", "--wait", "-D"])
            .arg(&self.data)
            .arg("-o")
            .arg(settings);
        // Its log must not hold our output open.
        shell::run(start.arg("-l").arg(self.home.join("log")))
    }

    fn fill(&self, scale: u64) -> Result<()> {
        let mut pgbench = self.program("pgbench");
        pgbench
            .args(["--initialize", "--quiet", "--username=postgres", "--host"])
            .arg(&self.home);
        shell::output(pgbench.arg(format!("--scale={scale}")).arg("postgres")).map(drop)
    }

    fn stop(&self) -> Result<()> {
        let mut stop = self.program("pg_ctl");
        shell::run(
            stop.args(["stop", "--silent", "--wait", "--mode=fast", "-D"])
                .arg(&self.data),
        )
    }

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
}
