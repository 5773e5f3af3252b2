//! A process on a leash: it ends when the test lets go, and also when the test binary ends without a word.
//! It must never outlive the tests: statics are not dropped, and a killed binary drops nothing.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Starts what it is told, and holds our end of its standard input. A line from us is a stop; an end without a line means
/// that we are gone, and then nobody else removes the directory. Ctrl-C reaches the whole group, and must not end the holder
/// before its work is done; a server that ends by itself ends the holder too.
const HOLDER: &str = r#"trap '' INT TERM HUP
directory=$1 signal=$2; shift 2
exec 3<&0
"$@" </dev/null 3<&- & server=$!
exec >/dev/null 2>&1
{ read -r _; said=$?; trap '' USR1; kill -s "$signal" "$server"; exit "$said"; } <&3 & reader=$!
exec 3<&-
wait "$server"; ended=$?
kill -s USR1 "$reader"
wait "$reader"
[ $? -eq 1 ] && rm -rf -- "$directory"
exit "$ended"
"#;

/// A running process that ends with us.
#[derive(Debug)]
pub struct Leashed(Child);

impl Leashed {
    /// A command to which arguments, variables, and standard output and error are added before [`start`](Self::start).
    /// Its directory is removed if we end without stopping it; the signal, `KILL` for one that need not be asked, stops it.
    #[must_use]
    pub fn command(program: &OsStr, directory: &Path, signal: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", HOLDER, "sh"]).arg(directory);
        command.arg(signal).arg(program).stdin(Stdio::piped());
        command
    }

    /// Starts a [`command`](Self::command).
    ///
    /// # Errors
    /// If there is no shell.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Whether it has ended by itself.
    ///
    /// # Panics
    /// If it can't be asked.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a process to ask").is_some()
    }

    /// Its standard error, if that is piped.
    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.0.stderr.take()
    }

    /// Stops it, waits, and says how it ended.
    ///
    /// # Panics
    /// If it can't be waited for.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(mut leash) = self.0.stdin.take() {
            // One that has ended by itself does not listen.
            let _ = leash.write_all(b"stop\n");
        }
        self.0.wait().expect("a process to wait for")
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until;

    /// A process that says its ID into a file, and then stays.
    fn start(directory: &Path) -> Leashed {
        let mut command = Leashed::command(OsStr::new("sh"), directory, "KILL");
        command.args(["-c", "echo $$ > pid.new; mv pid.new pid; exec sleep 1000"]);
        let leashed = Leashed::start(command.current_dir(directory)).unwrap();
        until("its ID is there", || directory.join("pid").exists());
        leashed
    }

    fn lives(directory: &Path) -> impl Fn() -> bool + use<> {
        let pid = std::fs::read_to_string(directory.join("pid")).unwrap();
        let process = Path::new("/proc").join(pid.trim());
        move || process.exists()
    }

    #[test]
    fn it_ends_when_it_is_told_and_its_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let mut leashed = start(directory.path());
        let lives = lives(directory.path());
        assert!(lives() && !leashed.has_ended());
        assert_eq!(leashed.stop().code(), Some(128 + 9));
        assert!(!lives() && directory.path().join("pid").exists());
    }

    #[test]
    fn it_ends_when_nobody_holds_it_and_its_files_go() {
        let directory = tempfile::tempdir().unwrap();
        let mut leashed = start(directory.path());
        let lives = lives(directory.path());
        drop(leashed.0.stdin.take());
        until("it ended", || !lives());
        until("its files went", || !directory.path().exists());
    }

    #[test]
    fn it_ends_by_itself_and_says_how() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Leashed::command(OsStr::new("sh"), directory.path(), "KILL");
        let mut leashed = Leashed::start(command.args(["-c", "exit 7"])).unwrap();
        until("it ended", || leashed.has_ended());
        assert_eq!(leashed.stop().code(), Some(7));
        assert!(directory.path().exists());
    }
}
