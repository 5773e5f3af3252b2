//! What would repair a repository, decided from what a check found.
//! It must never advise what gives data up before what could bring it back.

use lifeboat_format::Id;

use super::{Finding, FindingKind};

/// A repair, as the commands under `repair` do them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// `repair index`: the index does not say what is there.
    Index {
        /// Whether the headers of all packs must be read: a pack of the right size holds something else.
        read_all_packs: bool,
    },
    /// `repair packs`: these packs are damaged, what is good in them should be saved.
    Packs(Vec<Id>),
    /// `prune`: packs that are marked for deletion are needed after all, and prune indexes them again.
    Prune,
    /// `repair snapshots`: snapshots, or what they need, is lost.
    Snapshots {
        /// Whether data is, and not only a snapshot's own file.
        data: bool,
    },
}

/// The repairs in their order: the index first, because it decides what counts as lost; the snapshots last.
pub(super) fn repairs(
    findings: &[Finding],
    damaged_packs: &[Id],
    index_differs: bool,
) -> Vec<Repair> {
    let has = |kind: FindingKind| findings.iter().any(|finding| finding.kind == kind);
    let is_missing = |finding: &Finding| {
        finding.kind == FindingKind::PackMissing
            && !damaged_packs
                .iter()
                .any(|pack| finding.what == format!("pack {pack}"))
    };
    let is_lost = has(FindingKind::BlobMissing) || has(FindingKind::Tree);
    let mut repairs = Vec::new();
    // A pack that nobody indexed is untidy and no more, unless something is missing that may be in it.
    if index_differs
        || has(FindingKind::Index)
        || findings.iter().any(is_missing)
        || is_lost && has(FindingKind::PackUnindexed)
    {
        repairs.push(Repair::Index {
            read_all_packs: index_differs,
        });
    }
    if !damaged_packs.is_empty() {
        repairs.push(Repair::Packs(damaged_packs.to_vec()));
    }
    if has(FindingKind::PackMarked) {
        repairs.push(Repair::Prune);
    }
    let data = is_lost || has(FindingKind::PackMissing) || !damaged_packs.is_empty();
    if data || has(FindingKind::Snapshot) {
        repairs.push(Repair::Snapshots { data });
    }
    repairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(kind: FindingKind, what: &str) -> Finding {
        Finding {
            kind,
            what: what.to_owned(),
            why: String::new(),
            serious: kind != FindingKind::PackUnindexed,
        }
    }

    #[test]
    fn the_index_comes_first_and_the_snapshots_last() {
        use FindingKind as K;
        let index = Repair::Index {
            read_all_packs: false,
        };
        let pack = Id::of(b"pack");
        let snapshots = Repair::Snapshots { data: true };
        let of = |kinds: &[K]| {
            let all: Vec<_> = kinds.iter().map(|kind| finding(*kind, "it")).collect();
            repairs(&all, &[], false)
        };
        assert_eq!(of(&[]), []);
        assert_eq!(
            of(&[K::PackUnindexed]),
            [],
            "an interrupted backup is no damage"
        );
        assert_eq!(of(&[K::Index]), std::slice::from_ref(&index));
        assert_eq!(
            of(&[K::BlobMissing, K::PackUnindexed]),
            [index.clone(), snapshots.clone()]
        );
        assert_eq!(of(&[K::BlobMissing]), std::slice::from_ref(&snapshots));
        assert_eq!(of(&[K::Snapshot]), [Repair::Snapshots { data: false }]);
        assert_eq!(of(&[K::PackMissing]), [index, snapshots.clone()]);
        let short = [finding(K::PackMissing, &format!("pack {pack}"))];
        assert_eq!(
            repairs(&short, &[pack], false),
            [Repair::Packs(vec![pack]), snapshots]
        );
        assert_eq!(
            repairs(&[finding(K::PackDamaged, "pack")], &[], true),
            [Repair::Index {
                read_all_packs: true
            }]
        );
        assert_eq!(of(&[K::PackMarked]), [Repair::Prune]);
        assert_eq!(of(&[K::Key]), [], "no repair brings a key back");
    }
}
