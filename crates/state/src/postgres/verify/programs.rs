//! The programs of PostgreSQL on this machine, of the major version that a cluster needs.
//! It must never take those of another version: a server of one does not read the files of the other.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the suffix of a library may be: of Linux and the BSDs, and of macOS.
const LIBRARY_SUFFIXES: [&str; 2] = ["so", "dylib"];
/// How names of libraries begin that lie where the server keeps its own.
const LIBRARY_DIR: &str = "$libdir/";

/// The programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    dir: PathBuf,
    major: u32,
    version: String,
}

/// There are none that fit.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// No server of this version.
    #[error(
        "no postgres {major} in {}{}; install the server of PostgreSQL {major} (Debian: postgresql-{major}, with its \
         contrib modules), or name the directory of its programs",
        listed(looked_in),
        with_others(others)
    )]
    Missing {
        /// The major version that the cluster needs.
        major: u32,
        /// Where it was looked for.
        looked_in: Vec<PathBuf>,
        /// What was there instead: program and version.
        others: Vec<(PathBuf, String)>,
    },
    /// One is there, and says nothing.
    #[error("ask {} for its version", program.display())]
    Ask {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

pub(in crate::postgres) fn listed(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    dirs.join(", ")
}

fn with_others(others: &[(PathBuf, String)]) -> String {
    let others = others.iter();
    let others: Vec<String> = others
        .map(|(path, version)| format!("{} is {version}", path.display()))
        .collect();
    if others.is_empty() {
        return String::new();
    }
    format!(" ({})", others.join(", "))
}

impl Programs {
    /// Looks for the programs of a major version: in the directory that somebody named and nowhere else, or else where
    /// packages put them, and then in `others`, such as those of `PATH`.
    ///
    /// # Errors
    /// When there are none of this version.
    pub fn find(
        major: u32,
        named: Option<&Path>,
        others: &[PathBuf],
    ) -> Result<Self, ProgramsError> {
        let looked_in: Vec<PathBuf> = match named {
            Some(dir) => vec![dir.to_owned()],
            None => known_dirs(major)
                .into_iter()
                .chain(others.iter().cloned())
                .collect(),
        };
        let mut wrong = Vec::new();
        for dir in &looked_in {
            let program = dir.join("postgres");
            let version = match version_of(&program) {
                Ok(version) => version,
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) if named.is_some() => return Err(ProgramsError::Ask { program, cause }),
                Err(_) => continue,
            };
            if major_of(&version) == Some(major) {
                return Ok(Self {
                    dir: dir.clone(),
                    major,
                    version,
                });
            }
            wrong.push((program, version));
        }
        Err(ProgramsError::Missing {
            major,
            looked_in,
            others: wrong,
        })
    }

    /// The path of one of them, whether it is there or not.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The major version.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The version in the words of the server, such as `15.18`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which of these libraries and extensions the server would not find. Where its directories can't be found out, none
    /// is said to be missing, and the server itself has to say so.
    #[must_use]
    pub fn missing(&self, libraries: &[String], extensions: &BTreeSet<String>) -> Vec<String> {
        let mut missing = Vec::new();
        if let Some(dir) = self.told_dir("--pkglibdir", &["../lib", "../lib/postgresql"], "plpgsql")
        {
            let is_there = |name: &String| is_library(&dir, name);
            let libraries = libraries.iter().filter(|name| !is_there(name));
            missing.extend(libraries.map(|name| format!("the library {name}")));
        }
        if let Some(dir) = self.told_dir(
            "--sharedir",
            &["../share", "../share/postgresql"],
            "extension",
        ) {
            let is_there = |name: &String| {
                dir.join("extension")
                    .join(format!("{name}.control"))
                    .exists()
            };
            let extensions = extensions.iter().filter(|name| !is_there(name));
            missing.extend(extensions.map(|name| format!("the extension {name}")));
        }
        missing
    }

    /// A directory of the server: what `pg_config` says, or the one of these beside the programs that holds a thing which
    /// is always there.
    fn told_dir(&self, option: &str, beside: &[&str], sign: &str) -> Option<PathBuf> {
        let told = output_of(&self.path("pg_config"), option).ok();
        let told = told.map(|text| PathBuf::from(text.trim_end()));
        let beside = beside.iter().map(|path| self.dir.join(path));
        let mut dirs = told.into_iter().chain(beside);
        dirs.find(|dir| dir.join(sign).exists() || is_library(dir, sign))
    }
}

/// Whether a server that keeps its libraries in `dir` finds this one.
fn is_library(dir: &Path, name: &str) -> bool {
    // A path from the root stays what it is.
    let path = dir.join(name.strip_prefix(LIBRARY_DIR).unwrap_or(name));
    let with = |suffix: &&str| {
        let mut path = path.clone().into_os_string();
        path.push(".");
        path.push(suffix);
        Path::new(&path).exists()
    };
    path.is_file() || LIBRARY_SUFFIXES.iter().any(with)
}

/// Where packages put the programs: Debian and the official images, those of PostgreSQL for Red Hat, and Homebrew.
pub(in crate::postgres) fn known_dirs(major: u32) -> Vec<PathBuf> {
    let dirs = [
        format!("/usr/lib/postgresql/{major}/bin"),
        format!("/usr/pgsql-{major}/bin"),
        format!("/opt/homebrew/opt/postgresql@{major}/bin"),
        format!("/usr/local/opt/postgresql@{major}/bin"),
        format!("/usr/libexec/postgresql{major}"),
        "/usr/local/pgsql/bin".to_owned(),
    ];
    dirs.map(PathBuf::from).to_vec()
}

/// What `postgres --version` says behind its name: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
pub(in crate::postgres) fn version_of(program: &Path) -> io::Result<String> {
    let text = output_of(program, "--version")?;
    let (_, version) = text.split_once("(PostgreSQL) ").unwrap_or_default();
    let version = version.split_whitespace().next();
    version
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("it says {:?}", text.trim_end())))
}

fn output_of(program: &Path, argument: impl AsRef<OsStr>) -> io::Result<String> {
    let mut command = Command::new(program);
    let output = command
        .arg(argument)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number before the first dot, or before the letters of a version that is being tried: `18beta1`.
#[must_use]
pub fn major_of(version: &str) -> Option<u32> {
    let digits = version
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_say_them() {
        for (text, major) in [
            ("15.18", Some(15)),
            ("18beta1", Some(18)),
            ("9.6.24", Some(9)),
            ("devel", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn a_version_that_is_not_there_is_told_with_where_it_was_looked_for() {
        let elsewhere = PathBuf::from("/nowhere/bin");
        let error = Programs::find(9, None, std::slice::from_ref(&elsewhere)).expect_err("no 9");
        let text = error.to_string();
        assert!(
            text.starts_with("no postgres 9 in /usr/lib/postgresql/9/bin, "),
            "{text}"
        );
        assert!(
            text.contains(
                "/nowhere/bin; install the server of PostgreSQL 9 (Debian: postgresql-9,"
            ),
            "{text}"
        );
        let named = Programs::find(9, Some(&elsewhere), &[]).expect_err("no 9");
        assert!(
            matches!(named, ProgramsError::Missing { looked_in, .. } if looked_in == [elsewhere])
        );
    }
}
