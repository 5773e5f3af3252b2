//! The rules that no compiler knows, each a small function in the file of its noun, run over the whole checkout.
//! Tidy reports and never repairs: a rule that could be applied blindly belongs in rustfmt.

mod documents;
mod header;
mod layers;
mod length;
mod panics;
mod places;
mod printing;
mod purity;
mod safety;
mod source;
mod text;
mod violation;
mod whitespace;

mod ignored;

use std::path::Path;

use crate::failure::{Failure, Result};
use crate::workspace;
use source::Source;
use violation::Violation;

/// The crates that turn the same input into the same output, always and everywhere.
const PURE: &[&str] = &["fleet", "format", "kernels", "flow", "plan", "render"];

/// Rules about one Rust file.
const SOURCE_RULES: &[fn(&Source) -> Vec<Violation>] = &[
    header::says_what_and_what_not,
    length::fits_in_a_head,
    printing::only_the_edge_prints,
    panics::errors_are_returned,
    safety::unsafe_only_in_kernels,
    purity::no_outside_world,
    ignored::every_test_runs,
];

/// Prints every violation; fails if there is one.
pub(crate) fn run() -> Result<()> {
    let root = workspace::root();
    let violations = check(&root)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => {
            println!("tidy: no violations");
            Ok(())
        }
        1 => Err(Failure::new("1 violation")),
        many => Err(Failure::new(format!("{many} violations"))),
    }
}

fn check(root: &Path) -> Result<Vec<Violation>> {
    let crates = workspace::crates()?;
    let files = text::read_all(root)?;
    let mut violations = layers::follow_the_layout(&crates);
    violations.extend(purity::no_impure_dependencies(&crates));
    violations.extend(purity::same_lint_everywhere(&files));
    violations.extend(documents::are_there(&files));
    violations.extend(documents::links_resolve(&files, |target| {
        root.join(target).exists()
    }));
    for file in &files {
        violations.extend(whitespace::none_trails(file));
        violations.extend(places::names_no_workplace(file, &places::of_checkout(root)));
    }
    for source in files.iter().filter_map(Source::of) {
        violations.extend(SOURCE_RULES.iter().flat_map(|rule| rule(&source)));
    }
    violations.sort();
    Ok(violations)
}
