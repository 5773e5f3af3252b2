//! Copies of programs that tests run as somebody else.
//! It must never hold a copy open for writing: another thread that starts a process just then would keep it busy.

use std::path::Path;
use std::process::Command;

/// Copies a program by a process of its own, whose open files no other thread's child inherits.
///
/// # Panics
/// If it can't be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("--").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{} can't be copied to {}",
        from.display(),
        to.display()
    );
}
