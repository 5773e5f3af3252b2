//! Runs a test as a user without rights, by starting the test's own program again as that user.
//! It must never let such a test pass as root, to whom nothing is forbidden.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The user nobody on Debian.
pub const NOBODY: u32 = 65_534;

/// Runs `body` as a user without rights. `test` is the name of the test that calls this.
pub fn as_nobody(test: &str, body: fn()) {
    if !super::is_root() {
        return body();
    }
    // Where the program was built, others may not be let in.
    let dir = tempfile::tempdir().expect("a temporary directory");
    let program = dir.path().join("test");
    std::fs::copy(std::env::current_exe().expect("our own program"), &program).expect("copied");
    let scratch = dir.path().join("scratch");
    std::fs::create_dir(&scratch).expect("a directory");
    for (path, mode) in [(dir.path(), 0o755), (&program, 0o755), (&scratch, 0o777)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let output = patiently(|| {
        Command::new(&program)
            .args([test, "--exact", "--nocapture"])
            .env("TMPDIR", &scratch)
            .current_dir(&scratch)
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
    });
    let output = output.expect("started as nobody");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "as nobody: {said}"
    );
}

/// Starts a program that was just written: until another thread's child has let go of our file, the system calls it busy.
pub fn patiently<T>(mut start: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    for _ in 0..100 {
        match start() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            other => return other,
        }
    }
    start()
}
