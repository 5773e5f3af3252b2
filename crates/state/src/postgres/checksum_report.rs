//! What a server says of damaged pages while it sends a base backup, as faults that name file and block.
//! It must never let go of what the server said because it was said in other words.

use std::collections::BTreeMap;

use lifeboat_flow::EntryPath;

use super::base_backup::SentSpace;
use super::rules::has_checksums;

/// Warnings that are kept as they were said, where their words are not known.
const SAID_MAX: usize = 1000;

/// One fault: a file, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The file, below the data directory.
    pub path: EntryPath,
    /// What is wrong.
    pub why: String,
}

/// A damaged page: its number within the file, what it says, and what it should say.
type DamagedPage = (u32, u32, u32);

/// What a server has said so far.
#[derive(Debug, Default)]
pub struct ChecksumReport {
    /// By file as the server names it: the pages that it named, and how many there are.
    files: BTreeMap<String, (Vec<DamagedPage>, u64)>,
    /// What was said in other words.
    said: Vec<String>,
}

impl ChecksumReport {
    /// Takes what a server said; whether it is of damaged pages.
    pub fn hear(&mut self, notice: &str) -> bool {
        if let Some((file, page)) = named_page(notice) {
            self.files.entry(file.to_owned()).or_default().0.push(page);
            return true;
        }
        if let Some((file, count)) = total(notice) {
            self.files.entry(file.to_owned()).or_default().1 = count;
            return true;
        }
        // It names five pages of a file, and counts all of them in the end.
        let is_repeated = notice.starts_with("further checksum verification failures")
            || notice.ends_with("total checksum verification failures");
        if !is_repeated && self.said.len() < SAID_MAX {
            self.said.push(notice.to_owned());
        }
        is_repeated
    }

    /// All faults, when the server has said that there are some. `file_pages` is how many pages a file of a relation has.
    #[must_use]
    pub fn faults(self, spaces: &[SentSpace], file_pages: u32) -> Vec<PageFault> {
        let mut faults = Vec::new();
        for (file, (pages, count)) in &self.files {
            let path = path_of(file, spaces);
            let part = has_checksums(&path.0).map_or(0, |file| file.part);
            let first = part.wrapping_mul(file_pages);
            let named = pages.iter().map(|(block, said, expected)| {
                format!(
                    "block {} is damaged: its checksum is {said:#06x}, and its content has {expected:#06x}",
                    first.wrapping_add(*block)
                )
            });
            let more = count.saturating_sub(pages.len() as u64);
            let more = (more > 0).then(|| format!("{more} more blocks are damaged"));
            faults.extend(named.chain(more).map(|why| PageFault {
                path: path.clone(),
                why,
            }));
        }
        if faults.is_empty() {
            // It speaks another language.
            let said = match self.said.is_empty() {
                true => vec!["pages are damaged, and the server did not say which".to_owned()],
                false => self.said,
            };
            faults.extend(said.into_iter().map(|said| PageFault {
                path: EntryPath::top(),
                why: format!("the server found damaged pages and said: {said}"),
            }));
        }
        faults
    }
}

/// `checksum verification failed in file "./base/5/16384", block 7: calculated 3F1A but expected 12`
fn named_page(notice: &str) -> Option<(&str, DamagedPage)> {
    let rest = notice.strip_prefix("checksum verification failed in file \"")?;
    let (file, rest) = rest.rsplit_once("\", block ")?;
    let (block, rest) = rest.split_once(": calculated ")?;
    let (calculated, expected) = rest.split_once(" but expected ")?;
    let hexadecimal = |text| u32::from_str_radix(text, 16).ok();
    Some((
        file,
        (
            block.parse().ok()?,
            hexadecimal(expected)?,
            hexadecimal(calculated)?,
        ),
    ))
}

/// `file "./base/5/16384" has a total of 9 checksum verification failures`
fn total(notice: &str) -> Option<(&str, u64)> {
    let rest = notice.strip_prefix("file \"")?;
    let (file, rest) = rest.rsplit_once("\" has a total of ")?;
    let (count, _) = rest.split_once(" checksum verification failure")?;
    Some((file, count.parse().ok()?))
}

/// A path below the data directory: the server names files in tablespaces by where they are.
fn path_of(file: &str, spaces: &[SentSpace]) -> EntryPath {
    let below = |space: &SentSpace| {
        let rest = std::path::Path::new(file).strip_prefix(&space.location);
        let rest = rest.ok()?.to_str()?;
        Some(format!("pg_tblspc/{}/{rest}", space.oid))
    };
    let path = spaces.iter().find_map(below);
    let path = path.unwrap_or_else(|| file.strip_prefix("./").unwrap_or(file).to_owned());
    EntryPath(path.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(notices: &[&str]) -> Vec<String> {
        let mut report = ChecksumReport::default();
        for notice in notices {
            report.hear(notice);
        }
        let spaces = [SentSpace {
            oid: 16_385,
            location: "/srv/far".into(),
        }];
        let faults = report.faults(&spaces, 131_072);
        faults
            .into_iter()
            .map(|fault| format!("{}: {}", fault.path.display(), fault.why))
            .collect()
    }

    #[test]
    fn a_page_is_named_by_its_file_and_its_number_in_the_relation() {
        let found = faults(&[
            "checksum verification failed in file \"./base/5/16384.2\", block 7: calculated 3F1A but expected 12",
            "checksum verification failed in file \"/srv/far/PG_15_202209061/5/16390\", block 0: calculated 1 but expected FFFF",
            "further checksum verification failures in file \"./base/5/16384.2\" will not be reported",
            "file \"./base/5/16384.2\" has a total of 9 checksum verification failures",
            "10 total checksum verification failures",
        ]);
        assert_eq!(
            found,
            [
                "/base/5/16384.2: block 262151 is damaged: its checksum is 0x0012, and its content has 0x3f1a",
                "/base/5/16384.2: 8 more blocks are damaged",
                "/pg_tblspc/16385/PG_15_202209061/5/16390: block 0 is damaged: its checksum is 0xffff, and its content has 0x0001",
            ]
        );
    }

    #[test]
    fn other_words_are_kept_as_they_are() {
        let said = "Prüfsummenprüfung fehlgeschlagen in Datei »./base/5/16384«, Block 7";
        assert_eq!(
            faults(&[said]),
            [format!(
                "/: the server found damaged pages and said: {said}"
            )]
        );
        assert_eq!(faults(&[]).len(), 1);
    }
}
