//! One table of the results: for each row what each program needed, and how ours compares.
//! It shows numbers side by side and never a judgement.

use std::fmt::Write;

use super::data::{Data, OPENING, OURS, Quantity, Table};
use super::growth::{self, Growth};
use super::limit::{self, Stage};
use super::measure::Spread;
use super::targets;

/// A table with its title as a heading.
pub(super) fn show(data: &Data, table: Table, title: &str) -> String {
    let tools = data.tools(table);
    let mut shown = format!("\n### {title}\n\n| operation | |");
    for tool in &tools {
        let _ = write!(shown, " {tool} |");
    }
    shown.push_str(" ratio |\n|---|---|");
    shown.push_str(&"--:|".repeat(tools.len() + 1));
    shown.push('\n');
    for row in data.rows(table) {
        let mut name = row;
        for quantity in Quantity::ALL {
            let of = |tool: &&str| data.values(table, row, tool, quantity);
            let values: Vec<Vec<f64>> = tools.iter().map(of).collect();
            if values.iter().all(Vec::is_empty) {
                continue;
            }
            let digits = quantity.digits();
            let line = line(name, quantity.name(), &tools, values, digits);
            shown.push_str(&match quantity.is_compared() {
                true => line,
                false => with_ratio(&line, "–"),
            });
            name = "";
        }
        let without = |tool: &&str| data.without_opening(table, row, tool);
        let without: Vec<Vec<f64>> = tools.iter().map(without).collect();
        if row != OPENING && without.iter().any(|values| !values.is_empty()) {
            let mut line = line("", "wall s without opening", &tools, without, 2);
            if let Some(ratio) = targets::ratio_without_opening(data, table, row) {
                // The number that is compared has a bound below, so it is not made from what is shown.
                line = with_ratio(&line, &format!("{ratio:.2}"));
            }
            shown.push_str(&line);
        }
    }
    shown
}

fn line(row: &str, what: &str, tools: &[&str], values: Vec<Vec<f64>>, digits: usize) -> String {
    let mut medians = Vec::new();
    let cells: Vec<String> = values
        .into_iter()
        .map(|values| match values.is_empty() {
            true => "–".into(),
            false => {
                let spread = Spread::of(values);
                medians.push(spread.median);
                cell(spread, digits)
            }
        })
        .collect();
    let is_whole = tools.first() == Some(&OURS) && medians.len() == cells.len();
    let ratio = match medians.as_slice() {
        [ours, others @ ..] if is_whole && !others.is_empty() => {
            let best = others.iter().copied().fold(f64::INFINITY, f64::min);
            Some(best / ours).filter(|ratio| ratio.is_finite())
        }
        _ => None,
    };
    let ratio = ratio.map_or("–".into(), |ratio| format!("{ratio:.2}"));
    format!("| {row} | {what} | {} | {ratio} |\n", cells.join(" | "))
}

/// A line with something else in its last column.
fn with_ratio(line: &str, ratio: &str) -> String {
    let before = line.trim_end_matches(" |\n").rfind(' ').unwrap_or(0);
    format!("{} {ratio} |\n", &line[..before])
}

fn cell(spread: Spread, digits: usize) -> String {
    let Spread {
        median,
        least,
        most,
    } = spread;
    if least == most {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}

/// The stages of a section, and what of their limit is reached.
pub(super) fn stages(data: &Data, section: &str) -> Option<String> {
    let stages = limit::stages(data, section)?;
    let mut shown = String::from(
        "\n| stage | passing MB | one core MB/s | all cores MB/s | s |\n|---|--:|--:|--:|--:|\n",
    );
    for stage in &stages {
        let Stage {
            name,
            passing_mb,
            one_core,
            all_cores,
        } = stage;
        let seconds = stage.seconds();
        let _ = writeln!(
            shown,
            "| {name} | {passing_mb:.0} | {one_core:.0} | {all_cores:.0} | {seconds:.3} |"
        );
    }
    let limit: f64 = stages.iter().map(Stage::seconds).sum();
    let _ = write!(shown, "\nThe limit is {limit:.2} s");
    if let Some(part) = targets::part_of_limit(data, section) {
        let _ = write!(
            shown,
            "; the first backup takes {:.2} s without opening and so reaches {:.0} % of it",
            limit / part,
            part * 100.0
        );
    }
    shown.push_str(".\n");
    Some(shown)
}

/// The exponents of a table of growth.
pub(super) fn exponents(data: &Data, table: Table) -> String {
    let mut shown = String::new();
    for tool in data.tools(table) {
        let Some(Growth { seconds, peak_mib }) = growth::points(data, table, tool) else {
            continue;
        };
        // What is rounded to nothing has no sign.
        let exponent =
            |points| growth::exponent(points).map(|power| (power * 100.0).round() / 100.0 + 0.0);
        let exponents = exponent(&seconds).zip(exponent(&peak_mib));
        let Some((time, memory)) = exponents else {
            continue;
        };
        let _ = writeln!(
            shown,
            "\n{tool}: time without opening grows with the power {time:.2} of the work, peak memory with {memory:.2}."
        );
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::Values;
    use crate::bench::data::tests::{TREE, sample};

    #[test]
    fn a_table_has_medians_their_ends_and_ratios() {
        let mut data = sample(
            TREE,
            &[
                ("check", OURS, &[2.0, 3.0, 2.5]),
                ("check", "restic", &[5.0, 5.0, 5.0]),
                (OPENING, OURS, &[1.0, 1.0, 1.0]),
                (OPENING, "restic", &[1.0, 1.0, 1.0]),
                ("told", OURS, &[1.0, 1.0, 1.0]),
                ("told", "restic", &[2.0, 2.0, 2.0]),
            ],
        );
        data.add(
            TREE,
            "check",
            OURS,
            1,
            Values::from([(Quantity::Peak, 64.4)]),
        );
        let expected = "\n### small files\n\n\
             | operation | | lifeboat | restic | ratio |\n|---|---|--:|--:|--:|\n\
             | check | wall s | 2.50 (2.00–3.00) | 5.00 | 2.00 |\n\
             |  | peak MiB | 64 | – | – |\n\
             |  | wall s without opening | 1.50 (1.00–2.00) | 4.00 | 2.67 |\n\
             | snapshots | wall s | 1.00 | 1.00 | 1.00 |\n\
             | told | wall s | 1.00 | 2.00 | 2.00 |\n\
             |  | wall s without opening | 0.00 | 1.00 | 200.00 |\n";
        assert_eq!(show(&data, TREE, "small files"), expected);
    }

    #[test]
    fn nothing_is_compared_where_ours_took_no_part() {
        let data = sample(
            TREE,
            &[("check", "restic", &[5.0]), ("check", "rustic", &[4.0])],
        );
        let shown = show(&data, TREE, "small files");
        assert!(
            shown.contains("| check | wall s | 5.00 | 4.00 | – |"),
            "{shown}"
        );
    }
}
