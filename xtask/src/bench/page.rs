//! The results as a Markdown page that is committed: targets first, then every number.
//! It says how things were measured, and nothing that the data does not show.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::data::{Data, Table};
use super::growth;
use super::plot::Plot;
use super::targets;
use super::{Section, table};

/// How it was measured, for whoever doubts a number.
const HOW: &str = "\
Made by `make bench` from [results.jsonl](results.jsonl), which has every single measurement; nothing was dropped. \
`cargo xtask bench --only SECTION` measures a section anew and leaves the others as they were. Numbers are medians, with \
the least and the most beside them. A ratio is the best of the others divided by ours: above 1, Lifeboat needs less.

- The corpus lies in the page cache, repositories and what is restored lie in memory (`/dev/shm`) unless the table below \
says another place. Time on the processors is user and system; memory is the resident set at its peak.
- Opening a repository is slow on purpose, so that passwords cannot be guessed. `snapshots` does little else; where \
\"without opening\" is written, what it took the same program in the same run is taken off.
- Compression is of the same effort by what it reaches: `auto` for us (zstd's level 1, and 3 for blobs of 64 to 256 KiB) and \
for restic (the default of its own zstd in Go); rustic, which has the same zstd as we, is told level 1 too (its default is \
3). The sizes of the repositories are below. Nobody decrypts again what it just encrypted: we don't, restic gets \
`--no-extra-verify`, rustic `--set-extra-verify false`.
- Restoring over the same, verifying: `--overwrite always` for us and restic, `--verify-existing` for rustic; all three \
hash what is there. Trusting times: `--overwrite if-changed`; rustic does so by itself.
- A backup that is told which files changed: `--changed-files` for us. restic and rustic have no such option and look at \
every file.
- With a local repository no program has a cache from before, but where `blobs` says so. With S3, everybody keeps its own but restores without.
- After the first of the first backups of each corpus, `restic check --read-data` reads each program's repository; if it \
finds anything, there are no results.
- The limit of a first backup: the bytes that pass a stage divided by the rate that this stage has alone on all cores at \
once, best of five, summed over the stages. Chunking skips the first 512 KiB of each chunk; compression, encryption and \
all that follows see each blob once, and compression only what samples call worthwhile. Hashes count at the rate of the \
best way to make them, one, two or many at a time. Directories, opening files and waiting are in no stage.
";

/// What a section's stamp has, in the order of the columns.
const FACTS: [&str; 10] = [
    "date",
    "commit",
    "runs",
    "place",
    "processor",
    "cores",
    "memory GiB",
    "Linux",
    "compiler",
    "programs",
];

/// What people wrote about targets that were missed, beside the page.
pub(super) const REASONS: &str = "PROFILE.md";

pub(super) fn page(data: &Data, plots: &[Plot], has_reasons: bool) -> String {
    let mut page = format!("# Benchmark\n\n{HOW}");
    page.push_str(&stamps(data));
    page.push_str("\n## Targets\n\n| work | target | reached | |\n|---|--:|--:|---|\n");
    for target in targets::all(data) {
        let (found, verdict) = target.verdict();
        let (work, wanted) = (&target.work, target.goal.wanted());
        let _ = writeln!(page, "| {work} | {wanted} | {found} | {verdict} |");
    }
    page.push_str(
        "\nNumbers without a unit are ratios, by wall time unless size or memory is named. In parentheses: what this machine reaches without AVX-512.\n",
    );
    if has_reasons {
        let _ = writeln!(
            page,
            "\nWhere a number is not reached, [{REASONS}]({REASONS}) describes the profile that shows why."
        );
    }
    for plot in plots {
        let _ = write!(page, "\n![{}]({})\n", plot.title, plot.file);
    }
    for section in Section::ALL {
        page.push_str(&show(data, section));
    }
    page
}

/// When and where each section was measured.
fn stamps(data: &Data) -> String {
    let mut shown = format!("\n| section | {} |\n|---|", FACTS.join(" | "));
    shown.push_str(&"---|".repeat(FACTS.len()));
    shown.push('\n');
    let text = |facts: &Map<String, Value>, name: &str| match &facts.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "–".into(),
    };
    for section in Section::ALL {
        if let Some(facts) = data.facts(section.name()) {
            let cells: Vec<String> = FACTS.iter().map(|name| text(facts, name)).collect();
            let _ = writeln!(shown, "| {} | {} |", section.name(), cells.join(" | "));
        }
    }
    shown
}

fn show(data: &Data, section: Section) -> String {
    let name = section.name();
    if data.facts(name).is_none() {
        return String::new();
    }
    let mut shown = format!("\n## {name}\n\n{}\n", section.what());
    for (table_name, title) in data.tables(name) {
        let table = Table {
            section: name,
            name: table_name,
        };
        shown.push_str(&table::show(data, table, title));
        if name == growth::SECTION {
            shown.push_str(&table::exponents(data, table));
        }
    }
    shown.push_str(&table::stages(data, name).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::tests::{TREE, sample};

    #[test]
    fn a_page_has_what_was_measured_and_says_what_was_not() {
        let data = sample(
            TREE,
            &[
                ("restore", "restic", &[1.0]),
                ("restore", "lifeboat", &[0.25]),
            ],
        );
        let plots = [Plot {
            file: "a.svg",
            title: "a plot",
            svg: String::new(),
        }];
        let page = page(&data, &plots, true);
        for part in [
            "\n| tree | – | abc |",
            "| restore, tree | at least 2.0 | 4.00 | reached |",
            "| restore, random | at least 2.0 | – | not measured |",
            "![a plot](a.svg)",
            "[PROFILE.md](PROFILE.md)",
            "### small files",
            "| restore | wall s | 0.25 | 1.00 | 4.00 |",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        assert!(!page.contains("## disk"));
    }
}
