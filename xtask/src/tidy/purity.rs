//! What a pure crate must not reach for: clock, randomness, files, environment, processes, network.
//! Clippy's ban lists calls one by one and this looks for whole modules; neither alone is enough.

use std::path::Path;

use super::PURE;
use super::source::{Source, has_word};
use super::text::TextFile;
use super::violation::Violation;
use crate::workspace::{Crate, When};

/// Modules of the standard library that are the outside world.
const MODULES: &[&str] = &["fs", "net", "process", "env"];
const CALLS: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "getrandom",
    "rand",
];
/// Crates whose only use is the outside world.
const DEPENDENCIES: &[&str] = &[
    "getrandom",
    "rand",
    "fastrand",
    "rustix",
    "libc",
    "xattr",
    "tokio",
    "tempfile",
];

/// The same input must give the same output, or a plan cannot be printed today and trusted tomorrow.
pub(super) fn no_outside_world(source: &Source) -> Vec<Violation> {
    if !PURE.contains(&source.layer()) {
        return Vec::new();
    }
    let mut in_std_use = false;
    let mut violations = Vec::new();
    for line in source.shipped_lines() {
        in_std_use |= line.code.contains("std::{");
        let module = MODULES.iter().find(|module| {
            has_word(&line.code, &format!("std::{module}"))
                || (in_std_use && has_word(&line.code, module))
        });
        let found = module.map(|module| format!("std::{module}"));
        let found = found.or_else(|| {
            CALLS
                .iter()
                .find(|call| has_word(&line.code, call))
                .map(|&call| call.to_owned())
        });
        if let Some(found) = found {
            let why = format!("`{found}` in a pure crate: pass the value in");
            violations.push(Violation::new(source.path(), line.number, why));
        }
        in_std_use &= !line.code.contains(';');
    }
    violations
}

/// A pure crate does not depend on what is useful for nothing but effects, except in tests.
pub(super) fn no_impure_dependencies(crates: &[Crate]) -> Vec<Violation> {
    let pure = crates.iter().filter(|krate| {
        PURE.iter()
            .any(|layer| krate.name == format!("lifeboat-{layer}"))
    });
    let found = pure.flat_map(|krate| {
        let impure = |(name, when): &&(String, When)| {
            *when == When::Always && DEPENDENCIES.contains(&name.as_str())
        };
        krate.dependencies.iter().filter(impure).map(|(name, _)| {
            let why = format!("the pure crate {} must not depend on {name}", krate.name);
            Violation::new(&krate.dir.join("Cargo.toml"), 1, why)
        })
    });
    found.collect()
}

/// Every pure crate that exists has a ban list for clippy, and all of them ban at least what the shortest bans.
pub(super) fn same_lint_everywhere(files: &[TextFile]) -> Vec<Violation> {
    let text_of = |path: &Path| {
        files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    };
    let mut violations = Vec::new();
    let mut common: Option<Vec<&str>> = None;
    for layer in PURE {
        let dir = Path::new("crates").join(layer);
        if text_of(&dir.join("Cargo.toml")).is_none() {
            continue;
        }
        let path = dir.join("clippy.toml");
        let Some(text) = text_of(&path) else {
            violations.push(Violation::new(
                &path,
                1,
                "a pure crate needs a ban list for clippy: copy that of format",
            ));
            continue;
        };
        let bans: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("path = \"std::"))
            .collect();
        let expected = common.get_or_insert_with(|| bans.clone());
        for missing in expected.iter().filter(|ban| !bans.contains(ban)) {
            violations.push(Violation::new(
                &path,
                1,
                format!("the ban list lacks `{missing}`, which other pure crates have"),
            ));
        }
        for extra in bans.iter().filter(|ban| !expected.contains(ban)) {
            violations.push(Violation::new(
                &path,
                1,
                format!("the ban list has `{extra}`, which other pure crates lack"),
            ));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        no_outside_world(&Source::of(&TextFile::sample(path, text)).unwrap()).len()
    }

    #[test]
    fn every_way_out_is_found() {
        for bad in [
            "use std::fs;",
            "use std::{fs, io};",
            "use std::{\n  io,\n  net::TcpStream,\n};",
            "std::process::exit(1)",
            "std::env::var(\"X\")",
            "SystemTime::now()",
            "std::time::Instant::now()",
            "jiff::Timestamp::now()",
            "Zoned::now()",
            "getrandom::fill(&mut x)",
            "rand::random()",
        ] {
            assert_eq!(count("crates/plan/src/a.rs", bad), 1, "{bad}");
        }
    }

    #[test]
    fn effects_are_fine_where_they_belong() {
        assert_eq!(count("crates/repo/src/a.rs", "use std::fs;"), 0);
        assert_eq!(count("crates/plan/tests/a.rs", "use std::fs;"), 0);
        assert_eq!(
            count(
                "crates/plan/src/a.rs",
                "#[cfg(test)]\nmod tests { use std::fs; }"
            ),
            0
        );
        assert_eq!(
            count(
                "crates/plan/src/a.rs",
                "use std::{io, fmt};\nlet process = operand;"
            ),
            0
        );
    }

    #[test]
    fn impure_dependencies_are_found() {
        let krate = |name: &str, when| Crate {
            name: name.into(),
            dir: "crates/x".into(),
            dependencies: vec![("getrandom".into(), when), ("serde".into(), When::Always)],
        };
        assert_eq!(
            no_impure_dependencies(&[krate("lifeboat-plan", When::Always)]).len(),
            1
        );
        assert_eq!(
            no_impure_dependencies(&[krate("lifeboat-plan", When::Testing)]).len(),
            0
        );
        assert_eq!(
            no_impure_dependencies(&[krate("lifeboat-repo", When::Always)]).len(),
            0
        );
    }

    #[test]
    fn ban_lists_are_there_and_alike() {
        let manifest = |layer: &str| TextFile::sample(&format!("crates/{layer}/Cargo.toml"), "");
        let bans = |layer: &str, text: &str| {
            TextFile::sample(&format!("crates/{layer}/clippy.toml"), text)
        };
        let clock = "{ path = \"std::time::Instant::now\" },";
        assert_eq!(same_lint_everywhere(&[manifest("format")]).len(), 1);
        assert_eq!(same_lint_everywhere(&[manifest("repo")]).len(), 0);
        let both = [manifest("format"), manifest("plan")];
        let alike = [bans("format", clock), bans("plan", clock)];
        assert_eq!(
            same_lint_everywhere(&[both.clone(), alike].concat()).len(),
            0
        );
        let unlike = [bans("format", clock), bans("plan", "")];
        assert_eq!(same_lint_everywhere(&[both, unlike].concat()).len(), 1);
    }
}
