//! The documents a reader expects, and the links between them.
//! Links to other sites are not followed: a rule that needs the network fails for reasons nobody here can mend.

use std::path::{Component, Path, PathBuf};

use super::text::TextFile;
use super::violation::Violation;

const EXPECTED: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "GLOSSARY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
];

/// Someone who restores at night looks for a file by the name it has everywhere.
pub(super) fn are_there(files: &[TextFile]) -> Vec<Violation> {
    let missing = EXPECTED
        .iter()
        .map(Path::new)
        .filter(|path| files.iter().all(|file| file.path != *path));
    missing
        .map(|path| Violation::new(path, 1, "this document is missing"))
        .collect()
}

/// A link that leads nowhere is worse than none.
pub(super) fn links_resolve(files: &[TextFile], exists: impl Fn(&Path) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.has_extension("md")) {
        for (number, target) in local_links(file) {
            if !resolve(&file.path, target).is_some_and(|path| exists(&path)) {
                violations.push(Violation::new(
                    &file.path,
                    number,
                    format!("the link to {target} leads nowhere"),
                ));
            }
        }
    }
    violations
}

/// Link targets that are paths, with their lines; what is in code is no link.
fn local_links(file: &TextFile) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_fence = false;
    for (number, line) in file.lines() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence {
            continue;
        }
        // Every second piece between backticks is code.
        let prose = line.split('`').step_by(2);
        let targets = prose
            .flat_map(|piece| piece.split("](").skip(1))
            .filter_map(|rest| rest.split_once(')'));
        links.extend(
            targets
                .map(|(target, _)| (number, target))
                .filter(|(_, target)| is_local(target)),
        );
    }
    links
}

fn is_local(target: &str) -> bool {
    !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
}

/// The path that `target` means in the document at `from`, or none if it leaves the checkout.
fn resolve(from: &Path, target: &str) -> Option<PathBuf> {
    let target = target.split(['#', ' ']).next().unwrap_or(target);
    let mut path = from.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => path = path.pop().then_some(path)?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_document_is_found() {
        let all: Vec<TextFile> = EXPECTED
            .iter()
            .map(|path| TextFile::sample(path, ""))
            .collect();
        assert_eq!(are_there(&all), []);
        assert_eq!(are_there(&all[1..]).len(), 1);
    }

    #[test]
    fn only_links_that_lead_nowhere_are_found() {
        let exists =
            |path: &Path| path == Path::new("docs/restore.md") || path == Path::new("README.md");
        let broken =
            |path: &str, text: &str| links_resolve(&[TextFile::sample(path, text)], exists).len();
        assert_eq!(
            broken(
                "README.md",
                "[a](docs/restore.md#first) [b](https://x.y/z) [c](#here)"
            ),
            0
        );
        assert_eq!(
            broken("docs/restore.md", "[a](../README.md) [b](./restore.md)"),
            0
        );
        assert_eq!(
            broken("README.md", "[a](docs/gone.md) and [b](restore.md)"),
            2
        );
        assert_eq!(
            broken("README.md", "[a](../outside.md)\n[b](/etc/passwd)"),
            2
        );
        assert_eq!(
            broken("README.md", "`[a](gone.md)`\n```\n[a](gone.md)\n```"),
            0
        );
    }
}
