//! How far the log of a cluster is folded, noted beside the log: so that nobody has to ask snapshots who need not.
//! A mark must never come after the removal of what it stands for, nor be needed to find what is folded.

use lifeboat_repo::backend::LogName;
use lifeboat_state::postgres::{SegmentName, WalName};

use super::{Archive, ArchiveError, FOLDER};

/// The folder of an archive that holds marks.
const MARKS: &str = "folds";
/// What a mark's name has behind that of the segment.
const SUFFIX: &str = ".folded";
/// What stands in it: always the same, since an object never changes.
const CONTENT: &[u8] = b"folded\n";

impl Archive<'_> {
    /// For each timeline, the newest of the segments that are folded. Where a repository was copied without its log there
    /// are folds and no marks; where there are marks, there is one for each timeline, and all histories are in the log.
    pub(super) fn marks(&self) -> Result<Vec<SegmentName>, ArchiveError> {
        let folder = format!("{FOLDER}/{}/{MARKS}", self.system_id).parse()?;
        let entries = self.repository.log().list(Some(&folder));
        let entries = entries.map_err(|cause| self.failed(cause))?;
        let segments = entries.iter().filter_map(|entry| {
            let name = entry.name.parts().last()?.strip_suffix(SUFFIX)?;
            match name.parse() {
                Ok(WalName::Segment(segment)) => Some(segment),
                _ => None,
            }
        });
        Ok(segments.collect())
    }

    /// Whether a segment lies before where its timeline is folded to.
    pub(super) fn is_behind_mark(&self, name: WalName, marks: &[SegmentName]) -> bool {
        let WalName::Segment(segment) = name else {
            return false;
        };
        let of_timeline = |mark: &&SegmentName| mark.timeline == segment.timeline;
        marks
            .iter()
            .filter(of_timeline)
            .any(|mark| segment <= *mark)
    }

    /// Whether folds have to be asked for what is not in the log.
    pub(super) fn may_be_folded(&self, name: WalName) -> Result<bool, ArchiveError> {
        let marks = self.marks()?;
        let is_small = matches!(name, WalName::Partial(_) | WalName::Backup(..));
        Ok(marks.is_empty() || is_small || self.is_behind_mark(name, &marks))
    }

    /// Notes how far timelines are folded, and takes older notes away.
    pub(super) fn mark(&self, newest: &[SegmentName]) -> Result<(), ArchiveError> {
        let log = self.repository.log();
        for segment in newest {
            let marked = log.append(&self.mark_name(*segment)?, CONTENT);
            marked.map_err(|cause| self.failed(cause))?;
        }
        for old in self.marks()? {
            if !newest.contains(&old) {
                let removed = log.remove(&self.mark_name(old)?);
                removed.map_err(|cause| self.failed(cause))?;
            }
        }
        Ok(())
    }

    fn mark_name(&self, segment: SegmentName) -> Result<LogName, ArchiveError> {
        Ok(format!("{FOLDER}/{}/{MARKS}/{segment}{SUFFIX}", self.system_id).parse()?)
    }
}
