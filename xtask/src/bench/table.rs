//! The results as a Markdown page that is committed.
//! It shows numbers side by side and never a judgement.

use std::fmt::Write;

use super::machine::Machine;
use super::measure::{Series, Spread};
use super::s3::S3Result;
use super::tool::{Operation, Tool};

/// All that was measured on one corpus: by operation, then by tool.
pub(super) struct CorpusResult {
    pub title: String,
    pub series: Vec<Vec<Series>>,
    pub repository_bytes: Vec<u64>,
}

pub(super) fn page(
    machine: &Machine,
    tools: &[Tool],
    runs: usize,
    results: &[CorpusResult],
    remote: &[S3Result],
) -> String {
    let mut page = String::new();
    let tools_line: Vec<String> = tools
        .iter()
        .map(|tool| format!("{} {}", tool.name, tool.version))
        .collect();
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "# Benchmark\n\n\
         Made by `make bench`, in one run; medians of {runs} runs, with the least and the most beside them. \
         Nothing was dropped. The data lies in the page cache, the repository in a local directory; \
         no program has a cache from before. Memory is the resident set at its peak, time on the processors is \
         user and system. The ratio is the better of the others divided by ours: above 1, Lifeboat needs less. Opening a repository is slow on purpose, so that passwords \
         cannot be guessed; `snapshots` does little else, and each other number contains it.\n\n\
         - date: {}\n- machine: {}, {} cores, {:.0} GiB of memory, Linux {}\n- commit: {}\n- compiler: {}\n- programs: {}\n",
        machine.date,
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.commit,
        machine.compiler,
        tools_line.join(", "),
    );
    for result in results {
        page.push_str(&table(tools, result));
    }
    if !remote.is_empty() {
        page.push_str(
            "\nAn S3 server (Garage) on the same machine, behind a proxy that counts and adds a round trip to each \
             request and to each new connection. Everybody has an own cache, which is removed before the restore. \
             `copy` goes into a second repository in the same bucket; `prune` follows the forgetting of a snapshot of \
             everything beside one of a half, and deletes at once. Bytes and requests are those between client and proxy.\n",
        );
    }
    for result in remote {
        page.push_str(&remote_table(tools, result));
    }
    page
}

fn head(tools: &[Tool], title: &str) -> String {
    let mut table = format!("\n## {title}\n\n| operation | |");
    for tool in tools {
        let _ = write!(table, " {} |", tool.name);
    }
    table.push_str(" ratio |\n|---|---|");
    table.push_str(&"--:|".repeat(tools.len() + 1));
    table.push('\n');
    table
}

fn row(tools: &[Tool], name: &str, what: &str, spreads: &[Spread], digits: usize) -> String {
    let cells = spreads
        .iter()
        .map(|spread| show(*spread, digits))
        .collect::<Vec<_>>()
        .join(" | ");
    let medians: Vec<f64> = spreads.iter().map(|spread| spread.median).collect();
    format!(
        "| {name} | {what} | {cells} | {} |\n",
        ratio(tools, &medians)
    )
}

/// The rows of what a process needed.
fn process_rows(tools: &[Tool], name: &str, series: &[Series]) -> String {
    let spreads = |of: fn(&Series) -> Spread| series.iter().map(of).collect::<Vec<_>>();
    [
        row(tools, name, "wall s", &spreads(Series::wall_seconds), 2),
        row(tools, "", "CPU s", &spreads(Series::cpu_seconds), 2),
        row(tools, "", "peak MiB", &spreads(Series::peak_mib), 0),
    ]
    .concat()
}

fn remote_table(tools: &[Tool], result: &S3Result) -> String {
    let mut table = head(tools, &result.title);
    for measured in &result.rows {
        table.push_str(&process_rows(tools, measured.name, &measured.series));
        for (what, digits, spreads) in measured.wire() {
            table.push_str(&row(tools, "", what, &spreads, digits));
        }
    }
    table
}

fn table(tools: &[Tool], result: &CorpusResult) -> String {
    let mut table = head(tools, &result.title);
    for (operation, series) in Operation::ALL.iter().zip(&result.series) {
        table.push_str(&process_rows(tools, operation.name(), series));
    }
    let sizes: Vec<f64> = result
        .repository_bytes
        .iter()
        .map(|bytes| *bytes as f64 / f64::from(1 << 20))
        .collect();
    let cells = sizes
        .iter()
        .map(|size| format!("{size:.1}"))
        .collect::<Vec<_>>()
        .join(" | ");
    let _ = writeln!(
        table,
        "| repository | MiB | {cells} | {} |",
        ratio(tools, &sizes)
    );
    table
}

fn show(spread: Spread, digits: usize) -> String {
    format!(
        "{:.digits$} ({:.digits$}–{:.digits$})",
        spread.median, spread.least, spread.most
    )
}

/// The better of the peers divided by ours, where we took part.
fn ratio(tools: &[Tool], values: &[f64]) -> String {
    match (tools.first(), values) {
        (Some(first), [ours, peers @ ..]) if first.name == "lifeboat" && !peers.is_empty() => {
            let best = peers.iter().copied().fold(f64::INFINITY, f64::min);
            format!("{:.2}", best / ours)
        }
        _ => "–".into(),
    }
}
