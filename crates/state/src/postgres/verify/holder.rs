//! The process that holds a scratch server: its life hangs on a pipe of which we have the other end.
//! It must never let the server outlive us, however we end, nor remove anything but the files that we made beside its socket.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use rustix::process::{Pid, Signal};

use super::settings::{CONFIG_FILE, HBA_FILE, IDENT_FILE};

/// How long a server may take to stop as it should: it writes what it holds in memory (PostgreSQL manual, "Shutting Down
/// the Server").
const FAST_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may take to stop at once, before it is killed.
const IMMEDIATE_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the holder may take once its server is gone.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Starts the server that it is told, passes on signals that are named on its standard input, and takes an end of that for
/// ours. It ends with its server and as that did. It stands in a group of its own, so that a Ctrl-C is for us alone.
const SCRIPT: &str = r#"trap '' HUP INT TERM
run=$1; shift
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
exec >/dev/null 2>&1
{ while read -r signal; do kill -s "$signal" "$server"; done; kill -s QUIT "$server"; } <&3 & reader=$!
exec 3<&-
wait "$server"; ended=$?
kill -s KILL "$reader"; wait "$reader"
rm -f -- "$run"/*.conf "$run"/.s.PGSQL.*
rmdir -- "$run"
exit "$ended"
"#;

/// A running server, and what holds it.
#[derive(Debug)]
pub(super) struct Holder {
    child: Child,
    ended: Option<ExitStatus>,
    run: PathBuf,
    lock: PathBuf,
}

impl Holder {
    /// Starts a command as somebody, with nothing of our environment; `run` is the directory that is emptied and removed
    /// when it has ended, `lock` the file in which the server says its process ID.
    pub(super) fn start(
        command: &[OsString],
        run: &Path,
        lock: &Path,
        user: Option<(u32, u32)>,
        environment: &[(OsString, OsString)],
    ) -> io::Result<(Self, ChildStderr)> {
        let mut holder = Command::new("/bin/sh");
        holder
            .args(["-c", SCRIPT, "lifeboat-scratch"])
            .arg(run)
            .args(command);
        holder
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)));
        holder.current_dir("/").process_group(0);
        if let Some((uid, gid)) = user {
            holder.uid(uid).gid(gid);
        }
        // What it writes to its standard output, other than its log, is of no use.
        holder
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = holder.spawn()?;
        let log = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let holder = Self {
            child,
            ended: None,
            run: run.to_owned(),
            lock: lock.to_owned(),
        };
        Ok((holder, log))
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Stops it as it should be and waits for it; whether it did so, in time and before somebody wished to stop.
    pub(super) fn stop(&mut self, cancel: &Cancel) -> io::Result<bool> {
        self.signal("INT");
        let is_ended = self.ends_within(FAST_STOP_TIMEOUT, cancel)?;
        if !is_ended {
            self.end()?;
        }
        Ok(is_ended && self.ended.is_some_and(|status| status.success()))
    }

    /// Ends it where it is, and waits for it.
    pub(super) fn end(&mut self) -> io::Result<()> {
        // This is what a wish to stop asks for, so none shortens it.
        let nobody = Cancel::new();
        self.signal("QUIT");
        if self.ends_within(IMMEDIATE_STOP_TIMEOUT, &nobody)? {
            return Ok(());
        }
        self.signal("KILL");
        if !self.ends_within(HOLDER_TIMEOUT, &nobody)? {
            self.child.kill()?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Ends a server whose holder was killed: nobody else would. One whose holder ended by itself has ended.
    fn end_orphan(&self) {
        if self.ended.is_none_or(|status| status.signal().is_none()) {
            return;
        }
        let server = || {
            let lock = fs::read_to_string(&self.lock).ok()?;
            Pid::from_raw(lock.lines().next()?.trim().parse().ok()?)
        };
        for (signal, timeout) in [
            (Signal::QUIT, IMMEDIATE_STOP_TIMEOUT),
            (Signal::KILL, HOLDER_TIMEOUT),
        ] {
            let Some(pid) = server() else {
                return;
            };
            let _ = rustix::process::kill_process(pid, signal);
            let began = Instant::now();
            while rustix::process::test_kill_process(pid).is_ok() && began.elapsed() < timeout {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// One that has ended does not listen.
    fn signal(&mut self, name: &str) {
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(format!("{name}\n").as_bytes());
        }
    }

    fn ends_within(&mut self, timeout: Duration, cancel: &Cancel) -> io::Result<bool> {
        let began = Instant::now();
        while self.ended()?.is_none() {
            if began.elapsed() > timeout || cancel.sleep(LOOK_EVERY).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if !matches!(self.ended(), Ok(Some(_))) {
            let _ = self.end();
        }
        self.end_orphan();
        // The user of the server may have been able to empty it, and no more.
        remove_run(&self.run);
    }
}

/// Removes the directory of a socket, if there is nothing in it but what belongs there.
pub(super) fn remove_run(run: &Path) {
    for name in [CONFIG_FILE, HBA_FILE, IDENT_FILE] {
        let _ = fs::remove_file(run.join(name));
    }
    let _ = fs::remove_dir(run);
}
