//! The text files of the checkout, read once for all rules.
//! What git does not keep (build output) and what is binary is not among them.

use std::path::{Path, PathBuf};

use crate::failure::{Result, While};

/// Directories that hold no text of ours.
const SKIPPED_DIRS: &[&str] = &[".git", "target", "node_modules"];
/// Golden output and fuzz corpora are what a program wrote, not what a person did.
const SKIPPED_PATHS: &[&str] = &["fuzz/corpus", "fuzz/artifacts", "fuzz/target"];
const EXTENSIONS: &[&str] = &["rs", "md", "toml", "sh", "yml", "yaml"];
const NAMES: &[&str] = &[
    "Makefile",
    "run",
    "LICENSE-MIT",
    "LICENSE-APACHE",
    ".gitignore",
];

#[derive(Clone, Debug)]
pub(crate) struct TextFile {
    /// Relative to the root.
    pub path: PathBuf,
    pub text: String,
}

impl TextFile {
    #[cfg(test)]
    pub(super) fn sample(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// Its lines, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .split('\n')
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    pub(super) fn has_extension(&self, extension: &str) -> bool {
        self.path
            .extension()
            .is_some_and(|found| found == extension)
    }
}

/// Every text file below `root`, ordered by path.
pub(super) fn read_all(root: &Path) -> Result<Vec<TextFile>> {
    let mut paths = Vec::new();
    walk(root, root, &mut paths)?;
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(root.join(&path))
                .doing(|| format!("cannot read {}", path.display()))?;
            Ok(TextFile {
                text: String::from_utf8_lossy(&bytes).into_owned(),
                path,
            })
        })
        .collect()
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let listing = || format!("cannot list {}", dir.display());
    for entry in std::fs::read_dir(dir).doing(listing)? {
        let entry = entry.doing(listing)?;
        let kind = entry.file_type().doing(listing)?;
        let path = entry.path();
        let relative = path.strip_prefix(root).unwrap_or(&path);
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() {
            let skipped = SKIPPED_DIRS.contains(&&*name)
                || SKIPPED_PATHS.iter().any(|skip| relative == Path::new(skip));
            if !skipped {
                walk(root, &path, found)?;
            }
        } else if kind.is_file() && is_text(&name) {
            found.push(relative.to_owned());
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    NAMES.contains(&name)
        || name
            .rsplit_once('.')
            .is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}
