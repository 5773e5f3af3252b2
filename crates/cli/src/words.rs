//! The options by which another process of this program opens the same repository, from whatever directory it runs in.
//! It must never decide who may see them: a location can have a password in it, and command lines are read by others.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_repo::backend::Location;

use crate::args::Global;
use crate::failure::Failure;

/// An option, and its value if it takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As `--repo`.
    pub option: &'static str,
    /// As `/srv/backup`.
    pub value: Option<OsString>,
}

impl Word {
    fn new(option: &'static str, value: impl Into<OsString>) -> Self {
        Self {
            option,
            value: Some(value.into()),
        }
    }

    /// As one argument: `--repo=/srv/backup`.
    pub fn joined(&self) -> OsString {
        let mut text = OsString::from(self.option);
        if let Some(value) = &self.value {
            text.push("=");
            text.push(value);
        }
        text
    }
}

/// What says where the repository is and opens it.
pub fn access(global: &Global) -> Result<Vec<Word>, Failure> {
    let mut words = Vec::new();
    let remote = &global.remote;
    if let Some(location) = &global.repo {
        let place = match location.parse() {
            Ok(Location::Local(path)) => absolute(&path)?.into_os_string(),
            _ => location.into(),
        };
        words.push(Word::new("--repo", place));
    }
    let mut files = |option, files: &[PathBuf]| -> Result<(), Failure> {
        for file in files {
            words.push(Word::new(option, absolute(file)?));
        }
        Ok(())
    };
    files("--repository-file", global.repository_file.as_slice())?;
    files("--password-file", global.password_file.as_slice())?;
    files("--tls-client-cert", remote.tls_client_cert.as_slice())?;
    files("--cacert", &remote.cacert)?;
    let mut texts = |option, texts: &[String]| {
        words.extend(texts.iter().map(|text| Word::new(option, text)));
    };
    texts("--password-command", global.password_command.as_slice());
    texts("--key-hint", global.key_hint.as_slice());
    texts("--option", &remote.options);
    if remote.insecure_tls {
        words.push(Word {
            option: "--insecure-tls",
            value: None,
        });
    }
    Ok(words)
}

/// All that decides how it is used, too.
pub fn all(global: &Global) -> Result<Vec<Word>, Failure> {
    let remote = &global.remote;
    let mut words = access(global)?;
    let numbers = [
        ("--memory", global.memory.map(|number| number.to_string())),
        (
            "--limit-upload",
            remote.limit_upload.map(|number| number.to_string()),
        ),
        (
            "--limit-download",
            remote.limit_download.map(|number| number.to_string()),
        ),
        (
            "--stuck-request-timeout",
            remote.stuck_request_timeout.clone(),
        ),
    ];
    let numbers = numbers
        .into_iter()
        .filter_map(|(option, value)| Some(Word::new(option, value?)));
    words.extend(numbers);
    if let Some(dir) = &remote.cache_dir {
        words.push(Word::new("--cache-dir", absolute(dir)?));
    }
    if remote.no_cache {
        words.push(Word {
            option: "--no-cache",
            value: None,
        });
    }
    Ok(words)
}

/// Whether what these options mean may depend on the directory in which they are used, other than by files that they name.
pub fn need_directory(global: &Global) -> bool {
    let starts_programs = ["sftp.", "rclone."];
    global.password_command.is_some()
        || global.remote.options.iter().any(|option| {
            let option = option.trim_start().to_ascii_lowercase();
            starts_programs.iter().any(|kind| option.starts_with(kind))
        })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        Failure::from_error(&error).while_doing(format_args!("find {}", path.display()))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Given {
        #[command(flatten)]
        global: Global,
    }

    fn given(words: &[&str]) -> Global {
        Given::try_parse_from([&["lifeboat"], words].concat())
            .unwrap()
            .global
    }

    #[test]
    fn another_process_reads_the_same_options() {
        let global = given(&[
            "--repo=srv/backup",
            "--password-file=-odd",
            "--key-hint=ab",
            "--memory=200",
            "--option=s3.region= eu",
            "--cacert=a.pem,b.pem",
            "--insecure-tls",
            "--limit-upload=7",
            "--cache-dir=cache",
            "--no-cache",
            "--verbose",
            "--json",
        ]);
        let words = all(&global).unwrap();
        let joined: Vec<String> = words
            .iter()
            .map(|word| word.joined().into_string().unwrap())
            .collect();
        let texts: Vec<&str> = joined.iter().map(String::as_str).collect();
        let again = given(&texts);
        assert_eq!(all(&again).unwrap(), words);
        assert_eq!((again.json, again.verbose), (false, 0));
        let here = std::env::current_dir().unwrap();
        let expected = here.join("srv/backup").display().to_string();
        assert_eq!(again.repo, Some(expected));
        assert_eq!(
            again.remote.cacert,
            [here.join("a.pem"), here.join("b.pem")]
        );
        assert_eq!(again.remote.options, ["s3.region= eu"]);
    }

    #[test]
    fn programs_that_are_started_may_depend_on_the_directory() {
        assert!(need_directory(&given(&["--password-command=./pw"])));
        assert!(need_directory(&given(&["-o", "Rclone.program=./rclone"])));
        assert!(!need_directory(&given(&["-o", "s3.region=eu", "--repo=x"])));
    }
}
