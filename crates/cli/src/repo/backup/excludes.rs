//! What a backup leaves out: patterns, tagged directories, large files, other file systems.
//! It must never leave out what the user named as a target.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lifeboat_plan::{Case, Pattern, PatternSet, parse_pattern_lines, parse_size};
use lifeboat_state::{DirTag, VolumeOptions};

use crate::failure::Failure;

/// The options that leave things out.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "What to leave out")]
pub struct ExcludeArgs {
    /// Leave out what matches a pattern: `*.tmp`, `/srv/*/cache`, `**/node_modules`, `!keep.tmp`
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<String>,
    /// Read patterns from a file, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// Leave out what is in directories with a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what is in directories that hold such a file, if it begins with the header
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<String>,
    /// Leave out files larger than this, as 500M
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<String>,
    /// Stay on the file systems of the given paths
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl ExcludeArgs {
    /// Patterns as a snapshot records them.
    pub fn for_snapshot(&self) -> Vec<String> {
        // restic records only these, and neither those that ignore case nor the lines of files.
        self.exclude.clone()
    }

    /// The files of patterns.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.exclude_file.iter().chain(&self.iexclude_file)
    }

    /// What the source is told; and everything that decides what is left out, as a text to be compared. Files of patterns
    /// are read once: they may be pipes.
    pub fn volume_options(&self, with_atime: bool) -> Result<(VolumeOptions, String), Failure> {
        let patterns = patterns(
            &self.exclude,
            &self.iexclude,
            &self.exclude_file,
            &self.iexclude_file,
            "exclude",
        )?;
        let rules = format!("{self:?} {patterns:?} {with_atime}");
        let select: Option<lifeboat_state::Select> = if patterns.is_empty() {
            None
        } else {
            Some(Arc::new(move |path, _, _| {
                !patterns.decide(path.as_os_str().as_bytes()).matched
            }))
        };
        let larger = self
            .exclude_larger_than
            .as_deref()
            .map(parse_size)
            .transpose();
        let exclude_larger_than_bytes = larger
            .map_err(|error| Failure::from_error(&error).while_doing("--exclude-larger-than"))?;
        let exclude_if_present = self
            .exclude_if_present
            .iter()
            .map(|text| tag(text))
            .collect::<Result<_, _>>()?;
        let options = VolumeOptions {
            select,
            one_file_system: self.one_file_system,
            exclude_caches: self.exclude_caches,
            exclude_if_present,
            exclude_larger_than_bytes,
            with_atime,
        };
        Ok((options, rules))
    }
}

/// The patterns of four options; `what` is their common name.
pub fn patterns(
    plain: &[String],
    folded: &[String],
    plain_files: &[PathBuf],
    folded_files: &[PathBuf],
    what: &str,
) -> Result<PatternSet, Failure> {
    let mut all = Vec::new();
    for (texts, files, case, option) in [
        (plain, plain_files, Case::Sensitive, what.to_owned()),
        (folded, folded_files, Case::Insensitive, format!("i{what}")),
    ] {
        for text in texts.iter().filter(|text| !text.is_empty()) {
            all.push(Pattern::parse(text.as_bytes(), case).map_err(|error| {
                Failure::from_error(&error).while_doing(format_args!("--{option}"))
            })?);
        }
        for file in files {
            let doing = format!("--{option}-file {}", file.display());
            let text = std::fs::read(file)
                .map_err(|error| Failure::from_error(&error).while_doing(&doing))?;
            let variables = |name: &[u8]| {
                std::env::var_os(std::ffi::OsStr::from_bytes(name))
                    .map(|value| value.as_bytes().to_vec())
            };
            let lines = parse_pattern_lines(&text, &file.display().to_string(), case, &variables);
            all.extend(lines.map_err(|error| {
                Failure::from_error(&error).while_doing(format_args!("--{option}-file"))
            })?);
        }
    }
    Ok(PatternSet::new(all))
}

fn tag(text: &str) -> Result<DirTag, Failure> {
    let (name, header) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() || name.contains('/') {
        return Err(Failure::new(format!(
            "--exclude-if-present {text:?} does not begin with the name of a file"
        )));
    }
    Ok(DirTag {
        name: name.as_bytes().to_vec(),
        header: header.as_bytes().to_vec(),
    })
}
