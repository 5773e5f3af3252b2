//! Which crate may know which, after the map in ARCHITECTURE.md.
//! The table is the only exception list: a crate that is not in it must not exist.

use std::path::Path;

use super::violation::Violation;
use crate::workspace::{Crate, When};

/// A layer and the layers it may know. Whatever is not named here is forbidden.
const LAYERS: &[(&str, &[&str])] = &[
    ("fleet", &[]),
    ("kernels", &[]),
    ("format", &["kernels"]),
    ("flow", &["format"]),
    ("plan", &["fleet", "format"]),
    ("audit", &["fleet"]),
    ("render", &["fleet"]),
    ("repo", &["format", "kernels", "flow"]),
    ("state", &["fleet", "flow"]),
    (
        "protect",
        &["fleet", "format", "flow", "plan", "repo", "state"],
    ),
    (
        "cli",
        &[
            "fleet", "format", "flow", "plan", "audit", "render", "repo", "state", "protect",
        ],
    ),
    (
        "testkit",
        &[
            "fleet", "format", "kernels", "flow", "plan", "audit", "render", "repo", "state",
            "protect",
        ],
    ),
    ("xtask", &[]),
];

/// Tests may also know what serves tests.
const FOR_TESTS: &str = "testkit";

/// Layers that never meet, not even in a test: whoever needs both is `protect`.
const STRANGERS: (&str, &str) = ("repo", "state");

/// Holds the dependency rules, so that a decision stays pure and a repository never learns what a database is.
pub(super) fn follow_the_layout(crates: &[Crate]) -> Vec<Violation> {
    crates.iter().flat_map(check).collect()
}

fn check(krate: &Crate) -> Vec<Violation> {
    let manifest = krate.dir.join("Cargo.toml");
    let broken = |why: String| Violation::new(&manifest, 1, why);
    let layer = layer_of(&krate.name);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| Some(*name) == layer) else {
        return vec![broken(format!(
            "{} is no crate of the map: add it to ARCHITECTURE.md and to the layers of tidy first",
            krate.name
        ))];
    };
    let layer = layer.unwrap_or_default();
    let mut violations = Vec::new();
    let expected = if layer == "xtask" {
        Path::new("xtask").to_owned()
    } else {
        Path::new("crates").join(layer)
    };
    if krate.dir != expected {
        violations.push(broken(format!(
            "{} belongs in {}, as its name says",
            krate.name,
            expected.display()
        )));
    }
    for (name, when) in &krate.dependencies {
        let Some(dependency) = layer_of(name) else {
            continue;
        };
        let serves_tests = *when == When::Testing && dependency == FOR_TESTS;
        let is_itself = dependency == layer;
        let may_in_tests = *when == When::Testing && is_itself;
        if !allowed.contains(&dependency) && !serves_tests && !may_in_tests {
            violations.push(broken(forbidden(layer, dependency, allowed)));
        }
    }
    violations
}

fn forbidden(layer: &str, dependency: &str, allowed: &[&str]) -> String {
    let (one, other) = STRANGERS;
    if (layer, dependency) == (one, other) || (layer, dependency) == (other, one) {
        return format!("{layer} must not know {dependency}: the two meet in protect alone");
    }
    match allowed {
        [] => format!("{layer} must not know {dependency}: it knows no crate of ours"),
        _ => format!(
            "{layer} must not know {dependency}: it may know {}",
            allowed.join(", ")
        ),
    }
}

/// `format` for `lifeboat-format`, `cli` for `lifeboat`; a crate that is not ours has none.
fn layer_of(name: &str) -> Option<&str> {
    match name {
        "lifeboat" => Some("cli"),
        "xtask" => Some("xtask"),
        _ => name.strip_prefix("lifeboat-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(name: &str, dir: &str, dependencies: &[(&str, When)]) -> Crate {
        let dependencies = dependencies
            .iter()
            .map(|(name, when)| ((*name).to_owned(), *when))
            .collect();
        Crate {
            name: name.into(),
            dir: dir.into(),
            dependencies,
        }
    }

    fn says(krate: &Crate) -> Vec<String> {
        check(krate).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_map_allows_passes() {
        let always = When::Always;
        assert!(
            says(&krate(
                "lifeboat-format",
                "crates/format",
                &[("lifeboat-kernels", always), ("serde", always)]
            ))
            .is_empty()
        );
        assert!(
            says(&krate(
                "lifeboat-repo",
                "crates/repo",
                &[("lifeboat-testkit", When::Testing)]
            ))
            .is_empty()
        );
        assert!(
            says(&krate(
                "lifeboat",
                "crates/cli",
                &[("lifeboat-protect", always)]
            ))
            .is_empty()
        );
        assert!(says(&krate("xtask", "xtask", &[("serde_json", always)])).is_empty());
    }

    #[test]
    fn repo_and_state_never_meet() {
        for when in [When::Always, When::Testing] {
            let said = says(&krate(
                "lifeboat-repo",
                "crates/repo",
                &[("lifeboat-state", when)],
            ));
            assert_eq!(
                said,
                [
                    "crates/repo/Cargo.toml:1: repo must not know state: the two meet in protect alone"
                ]
            );
        }
    }

    #[test]
    fn upward_unknown_and_misplaced_crates_are_found() {
        for (bad, why) in [
            (
                krate(
                    "lifeboat-kernels",
                    "crates/kernels",
                    &[("lifeboat-format", When::Always)],
                ),
                "knows no crate of ours",
            ),
            (
                krate(
                    "lifeboat-plan",
                    "crates/plan",
                    &[("lifeboat-repo", When::Always)],
                ),
                "may know fleet, format",
            ),
            (
                krate(
                    "lifeboat-repo",
                    "crates/repo",
                    &[("lifeboat-testkit", When::Always)],
                ),
                "must not know testkit",
            ),
            (
                krate(
                    "lifeboat-testkit",
                    "crates/testkit",
                    &[("lifeboat", When::Always)],
                ),
                "must not know cli",
            ),
            (
                krate("lifeboat-utils", "crates/utils", &[]),
                "no crate of the map",
            ),
            (
                krate("helpers", "crates/helpers", &[]),
                "no crate of the map",
            ),
            (
                krate("lifeboat-flow", "crates/stream", &[]),
                "belongs in crates/flow",
            ),
        ] {
            let said = says(&bad);
            assert!(
                said.len() == 1 && said[0].contains(why),
                "{said:?} should say {why:?}"
            );
        }
    }
}
