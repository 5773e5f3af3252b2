//! Plots of the results as SVG, written by hand: bars of the ratios with their targets, and lines of growth.
//! Every mark is a number of the data; none is drawn for what was not measured.

use std::fmt::Write;

use super::data::{Data, OURS, Table};
use super::growth::{self, SECTION};
use super::targets::{Found, Goal, Target};

pub(super) struct Plot {
    /// Beside the page.
    pub file: &'static str,
    pub title: &'static str,
    pub svg: String,
}

/// Colours of their own for light and dark; the ground is painted too, since a page may differ from the system.
const STYLE: &str = "\
<style>\
.ground{fill:#ffffff}.text{fill:#1f2328;font:12px sans-serif}.faint{fill:#59636e;font:11px sans-serif}\
.good{fill:#1a7f37}.short{fill:#bf8700}.other{fill:#818b98}.mark{stroke:#1f2328;stroke-width:2}.grid{stroke:#d1d9e0}\
.line0{stroke:#0969da;fill:none;stroke-width:2}.line1{stroke:#bc4c00;fill:none;stroke-width:2}\
.line2{stroke:#8250df;fill:none;stroke-width:2}\
.dot0{fill:#0969da}.dot1{fill:#bc4c00}.dot2{fill:#8250df}\
@media (prefers-color-scheme:dark){\
.ground{fill:#0d1117}.text{fill:#f0f6fc}.faint{fill:#9198a1}\
.good{fill:#3fb950}.short{fill:#d29922}.other{fill:#656c76}.mark{stroke:#f0f6fc}.grid{stroke:#3d444d}\
.line0{stroke:#4493f8}.line1{stroke:#f0883e}.line2{stroke:#ab7df8}\
.dot0{fill:#4493f8}.dot1{fill:#f0883e}.dot2{fill:#ab7df8}\
}</style>";

pub(super) fn all(data: &Data, targets: &[Target]) -> Vec<Plot> {
    let ratios = ratios(targets).map(|svg| Plot {
        file: "ratios.svg",
        title: "How many times less time Lifeboat takes, with the target as a mark; grey: without AVX-512",
        svg,
    });
    let growth = [("random", "growth-random.svg"), ("tree", "growth-tree.svg")];
    let growth = growth.into_iter().filter_map(|(name, file)| {
        let table = Table {
            section: SECTION,
            name,
        };
        Some(Plot {
            file,
            title: match name {
                "random" => "Seconds of a first backup by MiB of a random file",
                _ => "Seconds of a first backup by number of files",
            },
            svg: lines(data, table)?,
        })
    });
    ratios.into_iter().chain(growth).collect()
}

fn open(width: f64, height: f64, title: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\"><title>{}</title>{STYLE}<rect class=\"ground\" width=\"100%\" \
         height=\"100%\"/>",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A bar for each ratio that was measured, on a scale of powers: 2 is as far from 1 as 4 is from 2.
fn ratios(targets: &[Target]) -> Option<String> {
    const LABEL: f64 = 330.0;
    const BARS: f64 = 360.0;
    const ROW: f64 = 22.0;
    const NUMBER: f64 = 48.0;
    let rows: Vec<(&Target, f64, f64)> = targets
        .iter()
        .filter_map(|target| match target.goal {
            Goal::Ratio(wanted) => Some((target, wanted, target.number()?)),
            _ => None,
        })
        .collect();
    let most = rows.iter().map(|(_, wanted, found)| wanted.max(*found));
    let most = most.reduce(f64::max)?;
    let (low, high) = (0.5_f64.ln(), (most * 1.1).max(4.0).ln());
    let x = |ratio: f64| LABEL + (ratio.ln().clamp(low, high) - low) / (high - low) * BARS;
    let height = ROW * (rows.len() as f64 + 2.0);
    let mut svg = open(LABEL + BARS + 90.0, height, "ratios with their targets");
    for tick in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0] {
        if tick <= high.exp() {
            let (at, end) = (x(tick), height - ROW);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{end:.1}\"/>\
                 <text class=\"faint\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                ROW / 2.0,
                height - ROW / 3.0
            );
        }
    }
    for (number, (target, wanted, found)) in rows.iter().enumerate() {
        let top = ROW * (number as f64 + 0.75);
        let class = match target.found {
            // Without AVX-512: neither reached nor missed.
            Found::NotHere(_) => "other",
            _ if found >= wanted => "good",
            _ => "short",
        };
        let (from, to, mark) = (x(0.5), x(*found), x(*wanted));
        let text = top + ROW * 0.55;
        let _ = write!(
            svg,
            "<text class=\"text\" x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <line class=\"mark\" x1=\"{mark:.1}\" x2=\"{mark:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"text\" x=\"{:.1}\" y=\"{text:.1}\">{found:.2}</text>",
            LABEL - 8.0,
            escape(&target.work),
            to - from,
            ROW * 0.7,
            top - 2.0,
            top + ROW * 0.7 + 2.0,
            // Beside the bar, but not across its mark.
            if (to - 4.0..to + NUMBER).contains(&mark) {
                mark + 6.0
            } else {
                to + 6.0
            },
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

/// Seconds without opening by work, both on scales of powers, a line for each program.
fn lines(data: &Data, table: Table) -> Option<String> {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 280.0;
    const MARGIN: f64 = 56.0;
    let tools = data.tools(table).into_iter();
    let tools: Vec<_> = tools
        .filter_map(|tool| Some((tool, growth::points(data, table, tool)?.seconds)))
        .collect();
    let all: Vec<(f64, f64)> = tools
        .iter()
        .flat_map(|(_, points)| points.clone())
        .collect();
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = || all.iter().map(of);
        let (least, most) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        Some((least.ln(), most.ln().max(least.ln() + 0.1)))
    };
    let ((left, right), (low, high)) = (range(|point| point.0)?, range(|point| point.1)?);
    let x = |work: f64| MARGIN + (work.ln() - left) / (right - left) * (WIDTH - 4.0 * MARGIN);
    let y = |seconds: f64| {
        HEIGHT - MARGIN - (seconds.ln() - low) / (high - low) * (HEIGHT - 2.0 * MARGIN)
    };
    let mut svg = open(WIDTH, HEIGHT, "growth");
    let base = HEIGHT - MARGIN / 2.0;
    for (work, _) in tools.first().map(|(_, points)| points.as_slice())? {
        let at = x(*work);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <text class=\"faint\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{work:.0}</text>",
            MARGIN / 2.0,
            base,
            base + 16.0
        );
    }
    for (number, (tool, points)) in tools.iter().enumerate() {
        let places: Vec<String> = points
            .iter()
            .map(|(work, seconds)| format!("{:.1},{:.1}", x(*work), y(*seconds)))
            .collect();
        let _ = write!(
            svg,
            "<polyline class=\"line{number}\" points=\"{}\"/>",
            places.join(" ")
        );
        for (work, seconds) in points {
            let (at, top) = (x(*work), y(*seconds));
            let _ = write!(
                svg,
                "<circle class=\"dot{number}\" cx=\"{at:.1}\" cy=\"{top:.1}\" r=\"4\"/>"
            );
            if *tool == OURS {
                let _ = write!(
                    svg,
                    "<text class=\"faint\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds:.2} s</text>",
                    top - 9.0
                );
            }
        }
        let (work, seconds) = points.last()?;
        let exponent = growth::exponent(points).unwrap_or(f64::NAN);
        let _ = write!(
            svg,
            "<text class=\"text\" x=\"{:.1}\" y=\"{:.1}\">{tool}, power {exponent:.2}</text>",
            x(*work) + 10.0,
            y(*seconds) + 4.0
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::{OPENING, Quantity, Values};

    fn target(work: &str, found: Found) -> Target {
        Target {
            work: work.into(),
            goal: Goal::Ratio(3.0),
            found,
        }
    }

    fn count(svg: &str, part: &str) -> usize {
        svg.matches(part).count()
    }

    #[test]
    fn each_ratio_has_a_bar_and_a_mark() {
        let targets = [
            target("tree & leaves", Found::Number(4.0)),
            target("random", Found::NotHere(Some(2.0))),
            target("far", Found::NotMeasured),
            Target {
                goal: Goal::PeakMax(1.0),
                ..target("memory", Found::Number(2.0))
            },
        ];
        let svg = ratios(&targets).unwrap();
        assert_eq!(
            ["good", "short", "other"].map(|class| count(&svg, &format!("class=\"{class}\""))),
            [1, 0, 1]
        );
        assert_eq!(count(&svg, "class=\"mark\""), 2);
        assert!(svg.contains("tree &amp; leaves") && !svg.contains("memory"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(ratios(&targets[2..]).is_none());
    }

    #[test]
    fn growth_is_a_line_for_each_program() {
        let table = Table {
            section: SECTION,
            name: "random",
        };
        let mut data = Data::default();
        assert!(lines(&data, table).is_none());
        for (part, row) in growth::PARTS {
            let work = 64.0 / part as f64;
            let values = [
                (Quantity::Work, work),
                (Quantity::Wall, work + 1.0),
                (Quantity::Peak, 10.0),
            ];
            data.add(table, row, OURS, part as usize, Values::from(values));
            let opening = Values::from([(Quantity::Wall, 1.0)]);
            data.add(table, OPENING, OURS, part as usize, opening);
        }
        let svg = lines(&data, table).unwrap();
        assert_eq!((count(&svg, "<polyline"), count(&svg, "<circle")), (1, 3));
        // As much more time as there is more work.
        assert!(svg.contains("lifeboat, power 1.00"), "{svg}");
        let plots = all(&data, &[]);
        assert_eq!(plots.len(), 1);
        assert_eq!(plots[0].file, "growth-random.svg");
    }
}
