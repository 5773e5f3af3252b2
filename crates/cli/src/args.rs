//! The arguments of the program, declared once: parsing, help, completions and man pages all come from here.
//! It must never read a secret from the command line: a process list shows it to everybody.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use lifeboat_repo::{MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES};

use crate::db::Db;
use crate::exit::{Exit, TABLE};
use crate::failure::{Failure, Outcome};
use crate::fleet;
use crate::repo::RepoCommand;
use crate::ui::Ui;
use crate::wal::Wal;

/// Lifeboat protects the state of self-hosted apps and proves that it comes back.
#[derive(Parser)]
#[command(name = "lifeboat", version, max_term_width = 100, after_help = TABLE, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The arguments of the program as the user sees them.
pub fn command() -> clap::Command {
    examples_last(Cli::command())
}

/// Puts what is told of a command beyond its first line behind its options, so that both kinds of help are short.
fn examples_last(command: clap::Command) -> clap::Command {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let more = command.get_long_about().map(ToString::to_string);
    let more = more.and_then(|text| Some(text.strip_prefix(&about)?.trim().to_owned()));
    match more {
        Some(more) if !more.is_empty() => command.long_about(None).after_help(more),
        _ => command,
    }
    .mut_subcommands(examples_last)
}

/// The areas of the program.
#[derive(Subcommand)]
pub enum Command {
    Plan(fleet::Plan),
    Backup(fleet::Backup),
    Status(fleet::Status),
    /// Work on one repository, as users of restic know it
    Repo(Box<Repo>),
    /// Capture, restore and verify databases
    Db(Box<Db>),
    /// Archive PostgreSQL's log, and get it back
    Wal(Box<Wal>),
    /// Write shell completions or man pages
    Generate(Generate),
}

/// `lifeboat repo`.
#[derive(Args)]
#[command(arg_required_else_help = true)]
pub struct Repo {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: RepoCommand,
}

/// Options of every command on a repository.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Where the repository is
    #[arg(
        short,
        long,
        global = true,
        env = "RESTIC_REPOSITORY",
        hide_env_values = true,
        value_name = "LOCATION"
    )]
    pub repo: Option<String>,
    /// A file that says where the repository is
    #[arg(
        long,
        global = true,
        env = "RESTIC_REPOSITORY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub repository_file: Option<std::path::PathBuf>,
    /// A file that holds the password
    #[arg(
        short,
        long,
        global = true,
        env = "RESTIC_PASSWORD_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub password_file: Option<std::path::PathBuf>,
    /// A command that prints the password
    #[arg(
        long,
        global = true,
        env = "RESTIC_PASSWORD_COMMAND",
        hide_env_values = true,
        value_name = "COMMAND"
    )]
    pub password_command: Option<String>,
    /// The key to try first
    #[arg(long, global = true, env = "RESTIC_KEY_HINT", value_name = "ID")]
    pub key_hint: Option<String>,
    /// How long to wait for a lock, as 30s, 10m or 1h
    #[arg(long, global = true, value_name = "DURATION")]
    pub retry_lock: Option<String>,
    /// Take no lock; for commands that only read
    #[arg(long, global = true)]
    pub no_lock: bool,
    /// Memory for data on its way, in MiB, 160 if not given: less is slower, more rarely faster
    #[arg(long, global = true, env = "LIFEBOAT_MEMORY", value_name = "MIB")]
    pub memory: Option<usize>,
    /// Print JSON for programs: one object a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only errors and results
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more; twice for every entry
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Options of remote repositories.
    #[command(flatten)]
    pub remote: Remote,
}

impl Global {
    /// Memory for data on its way, in bytes.
    ///
    /// # Errors
    /// When it is too little for the largest chunk and the smallest pack.
    pub fn memory_bytes(&self) -> Result<usize, Failure> {
        const MIB: usize = 1 << 20;
        let bytes = self
            .memory
            .map_or(MEMORY_DEFAULT_BYTES, |mib| mib.saturating_mul(MIB));
        match bytes < MEMORY_MIN_BYTES {
            true => Err(Failure::new(format!(
                "--memory {} is too little: {} MiB are the least",
                bytes / MIB,
                MEMORY_MIN_BYTES / MIB
            ))),
            false => Ok(bytes),
        }
    }
}

/// Options of every command, for repositories on other machines.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options for remote repositories")]
pub struct Remote {
    /// An option of one kind of place, as s3.region=eu-west-1
    #[arg(short, long = "option", global = true, value_name = "KEY=VALUE")]
    pub options: Vec<String>,
    /// Certificates to trust instead of the system's, PEM
    #[arg(
        long,
        global = true,
        env = "RESTIC_CACERT",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "FILE"
    )]
    pub cacert: Vec<std::path::PathBuf>,
    /// Our certificate and its key, PEM
    #[arg(
        long,
        global = true,
        env = "RESTIC_TLS_CLIENT_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub tls_client_cert: Option<std::path::PathBuf>,
    /// Believe any server; whoever is between reads and changes what is sent
    #[arg(long, global = true)]
    pub insecure_tls: bool,
    /// Send no faster than that, in KiB a second
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_upload: Option<u32>,
    /// Receive no faster than that, in KiB a second
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_download: Option<u32>,
    /// Without a byte for so long, a request is stuck and tried again; as 90s or 5m, 2m if not given
    #[arg(long, global = true, value_name = "DURATION")]
    pub stuck_request_timeout: Option<String>,
    /// Where snapshots, indexes and trees are kept; restic can share it
    #[arg(
        long,
        global = true,
        env = "RESTIC_CACHE_DIR",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub cache_dir: Option<std::path::PathBuf>,
    /// Keep nothing on this machine
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Remove caches of repositories that were not used for 30 days
    #[arg(long, global = true)]
    pub cleanup_cache: bool,
    /// How long what fails is tried again, if not as long as usual; commands choose it.
    #[arg(skip)]
    pub patience: Option<std::time::Duration>,
}

/// `lifeboat generate`.
#[derive(Args)]
pub struct Generate {
    /// What to write.
    #[command(subcommand)]
    pub what: GenerateWhat,
}

/// What can be generated.
#[derive(Subcommand)]
pub enum GenerateWhat {
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Man pages, one for each command, into a directory
    Man {
        /// The directory; it is made if it is not there
        dir: std::path::PathBuf,
    },
}

/// Writes completions or man pages.
pub fn generate(generate: &Generate, ui: &Ui) -> Outcome {
    let mut command = command();
    match &generate.what {
        GenerateWhat::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut command, "lifeboat", &mut script);
            ui.write(&script);
        }
        GenerateWhat::Man { dir } => {
            let made = std::fs::create_dir_all(dir);
            made.and_then(|()| clap_mangen::generate_to(command, dir))
                .map_err(|error| {
                    let doing = format!("write man pages to {}", dir.display());
                    Failure::from_error(&error).while_doing(doing)
                })?;
        }
    }
    Ok(Exit::Done)
}

/// What happens to files that are there already.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OverwriteArg {
    /// Compare their content and write what differs
    Always,
    /// Take those of the same size and time for the same
    IfChanged,
    /// Overwrite only those older than in the snapshot
    IfNewer,
    /// Leave them as they are
    Never,
}
