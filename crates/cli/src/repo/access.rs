//! What names a repository and opens it: its location and password, for the repository of a command and for the one it reads from.
//! It must never ask for a password where nobody can answer, and never show one.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use lifeboat_repo::backend::Location;

use crate::args::Global;
use crate::failure::Failure;

/// Longest file that is read for a password or location, in bytes.
const SMALL_TEXT_MAX_BYTES: u64 = 64 * 1024;

/// The repository that a command reads from, beside the one it works on.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "The repository to read from")]
pub struct FromArgs {
    /// Where it is
    #[arg(
        long,
        env = "RESTIC_FROM_REPOSITORY",
        hide_env_values = true,
        value_name = "LOCATION"
    )]
    pub from_repo: Option<String>,
    /// A file that says where it is
    #[arg(
        long,
        env = "RESTIC_FROM_REPOSITORY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub from_repository_file: Option<PathBuf>,
    /// A file that holds its password
    #[arg(
        long,
        env = "RESTIC_FROM_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub from_password_file: Option<PathBuf>,
    /// A command that prints its password
    #[arg(
        long,
        env = "RESTIC_FROM_PASSWORD_COMMAND",
        hide_env_values = true,
        value_name = "COMMAND"
    )]
    pub from_password_command: Option<String>,
    /// Its key to try first
    #[arg(long, env = "RESTIC_FROM_KEY_HINT", value_name = "ID")]
    pub from_key_hint: Option<String>,
    /// Its password is empty
    #[arg(long, conflicts_with_all = ["from_password_file", "from_password_command"])]
    pub from_insecure_no_password: bool,
}

impl FromArgs {
    /// Whether a repository to read from is named.
    pub fn is_given(&self) -> bool {
        self.from_repo.is_some() || self.from_repository_file.is_some()
    }
}

/// What a user calls the options and variables of one repository.
#[derive(Debug)]
struct Words {
    repository: &'static str,
    repo: &'static str,
    repo_variable: &'static str,
    repository_file: &'static str,
    password_file: &'static str,
    password_command: &'static str,
    password_variable: &'static str,
    prompt: &'static str,
}

const OWN: Words = Words {
    repository: "the repository",
    repo: "--repo",
    repo_variable: "RESTIC_REPOSITORY",
    repository_file: "--repository-file",
    password_file: "--password-file",
    password_command: "--password-command",
    password_variable: "RESTIC_PASSWORD",
    prompt: "password for the repository: ",
};

const FROM: Words = Words {
    repository: "the repository to read from",
    repo: "--from-repo",
    repo_variable: "RESTIC_FROM_REPOSITORY",
    repository_file: "--from-repository-file",
    password_file: "--from-password-file",
    password_command: "--from-password-command",
    password_variable: "RESTIC_FROM_PASSWORD",
    prompt: "password for the repository to read from: ",
};

/// What names one repository and opens it.
#[derive(Debug)]
pub struct Access<'a> {
    repo: Option<&'a str>,
    repository_file: Option<&'a Path>,
    password_file: Option<&'a Path>,
    password_command: Option<&'a str>,
    /// The key to try first.
    pub key_hint: Option<&'a str>,
    password_is_empty: bool,
    words: &'static Words,
}

impl<'a> Access<'a> {
    /// To the repository that a command works on.
    pub fn own(global: &'a Global) -> Self {
        Self {
            repo: global.repo.as_deref(),
            repository_file: global.repository_file.as_deref(),
            password_file: global.password_file.as_deref(),
            password_command: global.password_command.as_deref(),
            key_hint: global.key_hint.as_deref(),
            password_is_empty: false,
            words: &OWN,
        }
    }

    /// To the repository that a command reads from.
    pub fn from(from: &'a FromArgs) -> Self {
        Self {
            repo: from.from_repo.as_deref(),
            repository_file: from.from_repository_file.as_deref(),
            password_file: from.from_password_file.as_deref(),
            password_command: from.from_password_command.as_deref(),
            key_hint: from.from_key_hint.as_deref(),
            password_is_empty: from.from_insecure_no_password,
            words: &FROM,
        }
    }

    /// Where the repository is.
    pub fn location(&self) -> Result<Location, Failure> {
        let words = self.words;
        let text = match (self.repo, self.repository_file) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(format!(
                    "{} and {} both say where {} is; give one of them",
                    words.repo, words.repository_file, words.repository
                )));
            }
            (Some(location), None) => location.to_owned(),
            (None, Some(file)) => {
                small_text(file, &format!("the location of {} from", words.repository))?
                    .trim()
                    .to_owned()
            }
            (None, None) => {
                return Err(
                    Failure::new(format!("nothing says where {} is", words.repository)).hint(
                        format!(
                            "give it with {} or in the variable {}",
                            words.repo, words.repo_variable
                        ),
                    ),
                );
            }
        };
        if text.is_empty() {
            return Err(Failure::new(format!(
                "the location of {} is empty",
                words.repository
            )));
        }
        text.parse::<Location>()
            .map_err(|error| Failure::from_error(&error))
    }

    /// Whether somebody at a terminal is asked for the password.
    pub fn asks_for_password(&self) -> bool {
        !self.password_is_empty
            && self.password_file.is_none()
            && self.password_command.is_none()
            && std::env::var_os(self.words.password_variable).is_none()
            && std::io::stdin().is_terminal()
    }

    /// The password, or what somebody at a terminal types.
    pub fn password(&self) -> Result<String, Failure> {
        self.password_asked(self.words.prompt)
    }

    /// A new password, typed twice.
    pub fn new_password(&self, prompt: &str) -> Result<String, Failure> {
        let password = self.password_asked(prompt)?;
        if self.asks_for_password() {
            typed_again(&password)?;
        }
        Ok(password)
    }

    fn password_asked(&self, prompt: &str) -> Result<String, Failure> {
        let words = self.words;
        if self.password_is_empty {
            return Ok(String::new());
        }
        let ways = format!(
            "give one with {}, {} or in the variable {}",
            words.password_file, words.password_command, words.password_variable
        );
        let (password, from) = match (self.password_file, self.password_command) {
            (Some(_), Some(_)) => {
                return Err(Failure::new(format!(
                    "{} and {} both say what the password is; give one of them",
                    words.password_file, words.password_command
                )));
            }
            (Some(file), None) => (password_of_file(file)?, file.display().to_string()),
            (None, Some(command)) => (
                password_of_command(command, words.password_command, None)?,
                format!("the command of {}", words.password_command),
            ),
            (None, None) => match std::env::var(words.password_variable) {
                Ok(password) => (password, words.password_variable.to_owned()),
                Err(_) if std::io::stdin().is_terminal() => {
                    let typed = rpassword::prompt_password(prompt).map_err(|error| {
                        Failure::from_error(&error).while_doing("read the password")
                    })?;
                    (typed, "the terminal".to_owned())
                }
                Err(_) => {
                    let of_what = match words.repository {
                        "the repository" => String::new(),
                        other => format!(" of {other}"),
                    };
                    return Err(Failure::new(format!(
                        "nothing says what the password{of_what} is, and nobody is there to type it"
                    ))
                    .hint(ways));
                }
            },
        };
        if password.is_empty() {
            return Err(Failure::new(format!(
                "the password from {from} is empty, and that protects nothing"
            ))
            .hint(ways));
        }
        Ok(password)
    }
}

/// A password from a file. As with restic, white space at both ends is taken for an accident.
pub fn password_of_file(file: &Path) -> Result<String, Failure> {
    Ok(small_text(file, "the password from")?.trim().to_owned())
}

/// Asks for the same password once more.
pub fn typed_again(password: &str) -> Result<(), Failure> {
    let again = rpassword::prompt_password("the same again: ")
        .map_err(|error| Failure::from_error(&error).while_doing("read the password"))?;
    if again == password {
        Ok(())
    } else {
        Err(Failure::new("the two passwords differ"))
    }
}

/// A password that a command prints, which runs in a directory if one is named.
pub fn password_of_command(
    command: &str,
    option: &str,
    dir: Option<&Path>,
) -> Result<String, Failure> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| {
        Failure::new(format!(
            "{option} is empty or has a quote that does not end"
        ))
    })?;
    let (program, arguments) = words
        .split_first()
        .map(|(program, arguments)| (program.as_str(), arguments))
        .unwrap_or_default();
    let doing = format!("run the command of {option}");
    let mut run = Command::new(program);
    if let Some(dir) = dir {
        run.current_dir(dir);
    }
    let run = run
        .args(arguments)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output();
    let output = run.map_err(|error| {
        Failure::from_error(&error).while_doing(format_args!("{doing}: {program}"))
    })?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "{doing}: it ended with {}",
            output.status
        )));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("{doing}: it printed bytes that are no UTF-8")))?;
    Ok(text.trim().to_owned())
}

/// The text of a file that can only be small.
pub fn small_text(file: &Path, what: &str) -> Result<String, Failure> {
    let doing = format!("read {what} {}", file.display());
    let failed = |error: std::io::Error| Failure::from_error(&error).while_doing(&doing);
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > SMALL_TEXT_MAX_BYTES {
        return Err(Failure::new(format!(
            "{doing}: it has {size} bytes, at most {SMALL_TEXT_MAX_BYTES} can be meant"
        )));
    }
    std::fs::read_to_string(file).map_err(failed)
}
