//! What each stage of a backup is worth on this processor alone, told by an example of the crate `format`.
//! It carries numbers over and never calculates with them: which limit follows is decided in `limit`.

use serde_json::Value;

use super::Bench;
use super::corpus::Corpus;
use super::data::{Quantity, Table, Values};
use crate::failure::{Failure, Result};
use crate::{shell, workspace};

/// The table of a section that holds the stages, which no program's name belongs to.
pub(super) const NAME: &str = "stages";
const EXAMPLE: &str = "stages";

/// Measures the stages with the data of a corpus.
pub(super) fn measure(bench: &mut Bench, section: &str, corpus: &Corpus) -> Result<()> {
    let table = Table {
        section,
        name: NAME,
    };
    // To try the benchmark itself, what is quick to build will do.
    let profile: &[&str] = if bench.quick { &[] } else { &["--release"] };
    let mut run = workspace::cargo();
    run.args([
        "run",
        "--quiet",
        "-p",
        "lifeboat-format",
        "--example",
        EXAMPLE,
    ]);
    run.args(profile).arg("--").arg(&corpus.path);
    let scratch = bench.place.scratch(corpus, 1)?;
    let told = shell::output(run.arg(scratch.path()))?;
    for line in told.lines() {
        let (row, values) =
            read(line).ok_or_else(|| Failure::new(format!("{EXAMPLE} said {line}")))?;
        bench.data.add(table, &row, NAME, 1, values);
    }
    println!("  measured {} stages alone", told.lines().count());
    Ok(())
}

/// A row and its numbers; instructions, where there is a choice, are named behind the stage.
fn read(line: &str) -> Option<(String, Values)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let mega = |name: &str| Some(line[name].as_f64()? / 1e6);
    if let Some(stage) = line["passing"].as_str() {
        return Some((
            stage.to_owned(),
            Values::from([(Quantity::Passing, mega("bytes")?)]),
        ));
    }
    let stage = line["stage"].as_str()?;
    let row = match line["kernel"].as_str()? {
        "" => stage.to_owned(),
        kernel => format!("{stage} with {kernel}"),
    };
    let values = [
        (Quantity::OneCore, mega("one_core")?),
        (Quantity::AllCores, mega("all_cores")?),
    ];
    Some((row, Values::from(values)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_bytes_are_read() {
        let rate = r#"{"stage":"chunk","kernel":"avx2","one_core":2000000,"all_cores":4000000}"#;
        let (row, values) = read(rate).unwrap();
        assert_eq!(row, "chunk with avx2");
        assert_eq!(
            (values[&Quantity::OneCore], values[&Quantity::AllCores]),
            (2.0, 4.0)
        );
        let (row, values) = read(r#"{"passing":"seal","bytes":3000000}"#).unwrap();
        assert_eq!((row.as_str(), values[&Quantity::Passing]), ("seal", 3.0));
        let plain = r#"{"stage":"seal","kernel":"","one_core":1,"all_cores":1}"#;
        assert_eq!(read(plain).unwrap().0, "seal");
        assert_eq!(read("error"), None);
    }
}
