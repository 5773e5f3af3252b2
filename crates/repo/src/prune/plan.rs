//! The decision: what becomes of each pack and each index file, from facts, the user's wishes and the time.
//! It must never let go of the last good copy of a used blob, and never decide anything on a pack that it can't place.

use std::collections::HashMap;
use std::time::Duration;

use lifeboat_format::{BlobKind, Id, Timestamp};

use super::choice::{Choice, choose, good_places, is_proven, used_numbers};
use super::clock::refuse_if_behind;
use super::facts::{Facts, Mark, PackFact};
use super::options::PruneOptions;
use super::stats::{PackWorth, PruneStats, later};
use crate::{PACK_SIZE_MIN_BYTES, RepoError};

/// Small packs are repacked if there are so many of them (restic's number): fewer are not worth it, and the last pack
/// of each run is small anyway.
const SMALL_PACKS_MIN: usize = 10;
/// An index file with fewer blobs is joined with others when index files are written anyway (rustic's number).
const SMALL_INDEX_MAX_BLOBS: usize = 10_000;
/// So many small index files are reason enough to write index files.
const SMALL_INDEX_FILES_MIN: usize = 10;
/// An uncompressed tree below this is not worth repacking, in bytes: compressed it may be larger.
const SMALL_TREE_MAX_BYTES: u64 = 512;
const SECOND_NANOSECONDS: i128 = 1_000_000_000;

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is.
    Keep,
    /// What is used of it is copied; then it is marked.
    Repack,
    /// It is marked for deletion.
    Mark,
    /// It is marked and stays so.
    Wait,
    /// It is marked with a time that can't be right, and marked anew.
    Remark,
    /// It is marked, and needed after all: it is indexed again.
    Recover,
    /// It is deleted.
    Delete,
    /// It is not there and not needed: index files no longer name it.
    Forget,
}

impl Fate {
    /// Whether index files name the pack as one that may be relied on afterwards.
    fn stays(self) -> bool {
        matches!(self, Self::Keep | Self::Recover)
    }

    /// Whether the index file that names the pack must be written anew.
    fn changes(self) -> bool {
        !matches!(self, Self::Keep | Self::Wait)
    }
}

/// Places of blobs in one pack, by numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct PlacesOfPack {
    pub(super) pack: u32,
    pub(super) places: Vec<(BlobKind, u32)>,
}

/// What is to be done.
#[derive(Default)]
pub struct PrunePlan {
    /// The fate of each pack, by its number.
    pub(super) fates: Vec<Fate>,
    /// What is copied, the packs with most waste first.
    pub(super) repack: Vec<PlacesOfPack>,
    /// Places that are to be read first, because other copies of the same blobs go.
    pub(super) prove: Vec<PlacesOfPack>,
    /// Index files that are written anew, by their numbers.
    pub(super) rewrite: Vec<usize>,
    /// The moment of the decision.
    pub(super) now: Timestamp,
    /// How long a marked pack waits.
    pub(super) keep_delete: Duration,
    /// Whether what is not needed goes at once.
    pub(super) instant_delete: bool,
    /// In numbers.
    pub stats: PruneStats,
}

/// How far a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// All that is to be done, to begin with repacking.
    Whole,
    /// What is done alone on the repository: marking, deleting, indexing again.
    Removal,
}

impl PrunePlan {
    /// Whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rewrite.is_empty() && self.repack.is_empty() && self.stats.unindexed.packs == 0
    }

    /// Whether packs must be read and written before anything can be removed.
    #[must_use]
    pub fn reads_packs(&self) -> bool {
        !self.repack.is_empty() || !self.prove.is_empty()
    }

    /// The moment from which on what is marked now may be deleted.
    #[must_use]
    pub fn due(&self) -> Timestamp {
        later(self.now, self.keep_delete)
    }

    /// The packs with what becomes of them, those that simply stay left out.
    pub fn changes<'a>(&'a self, facts: &'a Facts) -> impl Iterator<Item = (Id, Fate, u64)> + 'a {
        let named = facts.packs.iter().zip(&self.fates);
        let named = named
            .filter(|(_, fate)| **fate != Fate::Keep)
            .map(|(pack, fate)| (pack.id, *fate, pack.listed_bytes.unwrap_or(0)));
        let fate = if self.instant_delete {
            Fate::Delete
        } else {
            Fate::Mark
        };
        let unindexed = facts.unindexed.iter();
        named.chain(unindexed.map(move |(id, size_bytes)| (*id, fate, *size_bytes)))
    }
}

/// Decides.
///
/// # Errors
/// When packs are missing that snapshots need, options can't be followed, or this machine's clock can't date a mark.
pub(super) fn decide(
    facts: &Facts,
    options: &PruneOptions,
    phase: Phase,
    now: Timestamp,
) -> Result<PrunePlan, RepoError> {
    if options.repack_uncompressed && !facts.compresses {
        return Err(RepoError::Refused(
            "a repository of version 1 can't hold compressed data, so there is nothing to repack for that".into(),
        ));
    }
    let choice = choose(facts);
    refuse_lost(facts, &choice)?;
    let worths = PackWorth::of_all(facts, &choice);
    let mut fates = first_fates(facts, &choice, &worths, options, now);
    let mut stats = PruneStats::of_blobs(facts, &worths, &fates);
    if phase == Phase::Whole {
        select_repacks(facts, &choice, &worths, options, &mut fates, &stats);
    } else if facts.proof.is_wanted {
        keep_unproven(facts, &choice, &mut fates);
    }
    let marks = |fate: &Fate| matches!(fate, Fate::Mark | Fate::Remark | Fate::Repack);
    if !options.instant_delete && (fates.iter().any(marks) || !facts.unindexed.is_empty()) {
        refuse_if_behind(facts, now)?;
    }
    let (repack, prove) = copies(facts, &choice, &fates);
    guard(facts, &fates)?;
    let rewrite = files_to_write(facts, &fates);
    stats.count_fates(facts, &worths, &fates, &rewrite);
    stats.count_times(facts, &fates, options.keep_delete, now);
    Ok(PrunePlan {
        fates,
        repack: in_order(facts, &worths, repack),
        prove: in_order(facts, &worths, prove),
        rewrite,
        now,
        keep_delete: options.keep_delete,
        instant_delete: options.instant_delete,
        stats,
    })
}

fn refuse_lost(facts: &Facts, choice: &Choice) -> Result<(), RepoError> {
    let Some(first) = choice.lost.first() else {
        return Ok(());
    };
    let pack = facts.packs.iter().find(|pack| pack.id == first.pack);
    let why = match pack.map(|pack| (pack.listed_bytes, pack.expected_bytes)) {
        Some((Some(listed), expected)) => {
            format!("has {listed} bytes where the index expects {expected}")
        }
        _ => "is not there".to_owned(),
    };
    let (kind, blob, count) = (first.kind.word(), first.blob, choice.lost.len());
    Err(RepoError::Refused(format!(
        "{count} blobs that snapshots need can't be found: the first is the {kind} blob {blob}, whose pack {} {why}; nothing is removed from a damaged repository",
        first.pack
    )))
}

/// What becomes of each pack, repacking left aside.
fn first_fates(
    facts: &Facts,
    choice: &Choice,
    worths: &[PackWorth],
    options: &PruneOptions,
    now: Timestamp,
) -> Vec<Fate> {
    let all = facts.packs.iter().zip(worths).zip(&choice.held);
    all.map(|((pack, worth), is_held)| match pack.mark {
        None if worth.used_blobs > 0 || *is_held => Fate::Keep,
        Some(_) if worth.used_blobs > 0 || *is_held => Fate::Recover,
        _ if pack.listed_bytes.is_none() => Fate::Forget,
        _ if options.instant_delete => Fate::Delete,
        None => Fate::Mark,
        Some(mark) => fate_of_mark(mark, options.keep_delete, now),
    })
    .collect()
}

fn fate_of_mark(mark: Mark, keep_delete: Duration, now: Timestamp) -> Fate {
    let Some(time) = mark.time.filter(|time| *time <= now) else {
        return Fate::Remark;
    };
    if time <= earlier(now, keep_delete) {
        Fate::Delete
    } else {
        Fate::Wait
    }
}

/// A moment so long before another.
fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let by = i128::try_from(by.as_nanos()).unwrap_or(i128::MAX);
    let at = now.unix_nanoseconds().saturating_sub(by);
    let seconds = i64::try_from(at.div_euclid(SECOND_NANOSECONDS)).unwrap_or(i64::MIN);
    let nanoseconds = u32::try_from(at.rem_euclid(SECOND_NANOSECONDS)).unwrap_or(0);
    Timestamp::utc(seconds, nanoseconds)
}

/// A pack that could be repacked.
struct Candidate {
    pack: usize,
    holds_trees: bool,
    is_small: bool,
    must: bool,
}

/// Turns the fate of packs that are worth it from staying to being repacked.
fn select_repacks(
    facts: &Facts,
    choice: &Choice,
    worths: &[PackWorth],
    options: &PruneOptions,
    fates: &mut [Fate],
    stats: &PruneStats,
) {
    let small_bytes = small_bytes(facts, options);
    let (mut candidates, mut small) = (Vec::new(), Vec::new());
    for (number, (pack, worth)) in facts.packs.iter().zip(worths).enumerate() {
        let is_held = choice.held.get(number).copied().unwrap_or(true);
        let is_kept = fates.get(number) == Some(&Fate::Keep) && !is_held;
        let holds_trees = worth.trees > 0;
        if !is_kept || (options.repack_cacheable_only && !holds_trees) {
            continue;
        }
        let is_mixed = holds_trees && worth.data > 0;
        let must = facts.compresses
            && (worth.uncompressed_tree_bytes >= SMALL_TREE_MAX_BYTES
                || (options.repack_uncompressed && worth.uncompressed_bytes > 0));
        let candidate = Candidate {
            pack: number,
            holds_trees,
            is_small: pack.expected_bytes < small_bytes,
            must,
        };
        if worth.unused_blobs > 0 || is_mixed || must {
            candidates.push(candidate);
        } else if candidate.is_small {
            small.push(candidate);
        }
    }
    if small.len() >= SMALL_PACKS_MIN {
        candidates.append(&mut small);
    }
    let worth_of = |number: usize| worths.get(number).copied().unwrap_or_default();
    candidates.sort_by(|one, other| {
        let (a, b) = (worth_of(one.pack), worth_of(other.pack));
        let waste = |a: PackWorth, b: PackWorth| {
            u128::from(a.unused_bytes) * u128::from(b.used_bytes + b.unused_bytes)
        };
        (other.holds_trees, other.is_small)
            .cmp(&(one.holds_trees, one.is_small))
            .then(waste(b, a).cmp(&waste(a, b)))
            .then_with(|| id_of(facts, one.pack).cmp(&id_of(facts, other.pack)))
    });
    let limit = options.max_unused.bytes(stats.used.bytes);
    let gone: u64 = going(facts, worths, fates);
    let mut unused = (stats.duplicate.bytes + stats.unused.bytes).saturating_sub(gone);
    let mut repacked = 0u64;
    for candidate in candidates {
        let worth = worth_of(candidate.pack);
        let size = facts
            .packs
            .get(candidate.pack)
            .map_or(0, |pack| pack.expected_bytes);
        if repacked.saturating_add(size) > options.max_repack_bytes {
            continue;
        }
        let is_wanted = candidate.must || candidate.holds_trees || candidate.is_small;
        if !is_wanted && unused <= limit {
            continue;
        }
        if let Some(fate) = fates.get_mut(candidate.pack) {
            *fate = Fate::Repack;
            repacked += size;
            unused = unused.saturating_sub(worth.unused_bytes);
        }
    }
}

/// Bytes of blobs that go with the packs that hold nothing used.
fn going(facts: &Facts, worths: &[PackWorth], fates: &[Fate]) -> u64 {
    let all = facts.packs.iter().zip(worths).zip(fates);
    all.filter(|((pack, _), fate)| pack.mark.is_none() && !fate.stays())
        .map(|((_, worth), _)| worth.unused_bytes)
        .sum()
}

/// Below which size a pack counts as small. If nobody says: below four fifths of what nearly all have (restic's rule).
fn small_bytes(facts: &Facts, options: &PruneOptions) -> u64 {
    if let Some(bytes) = options.small_pack_bytes {
        return bytes;
    }
    let unmarked = facts.packs.iter().filter(|pack| pack.mark.is_none());
    let mut sizes: Vec<u64> = unmarked.map(|pack| pack.expected_bytes).collect();
    sizes.sort_unstable();
    let low = sizes.get(sizes.len() * 3 / 100).copied().unwrap_or(0);
    low.max(PACK_SIZE_MIN_BYTES as u64) / 5 * 4
}

/// Packs go whose used blobs lie elsewhere too, if these other places were read in this run; the rest stays.
fn keep_unproven(facts: &Facts, choice: &Choice, fates: &mut [Fate]) {
    let is_safe = |kind: BlobKind, id: &Id| {
        good_places(facts, kind, id).any(|(number, pack)| {
            choice.chosen.has(kind, number) && is_proven(facts, pack, kind, id)
        })
    };
    let goes = |number: u32, fates: &[Fate]| {
        let number = number as usize;
        let is_marked = facts
            .packs
            .get(number)
            .is_none_or(|pack| pack.mark.is_some());
        !is_marked && matches!(fates.get(number), Some(Fate::Mark | Fate::Delete))
    };
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for number in used_numbers(facts, kind) {
            if let Some((id, pack, _)) = facts.index.place_at(kind, number)
                && goes(pack, fates)
                && !is_safe(kind, &id)
                && let Some(fate) = fates.get_mut(pack as usize)
            {
                *fate = Fate::Keep;
            }
        }
    }
}

type Places = HashMap<u32, Vec<(BlobKind, u32)>>;

/// What is copied out of packs that are repacked, and the places that are relied on instead of copies that go.
fn copies(facts: &Facts, choice: &Choice, fates: &[Fate]) -> (Places, Places) {
    let fate = |pack: u32| fates.get(pack as usize).copied().unwrap_or(Fate::Keep);
    let is_marked = |pack: u32| {
        facts
            .packs
            .get(pack as usize)
            .is_some_and(|pack| pack.mark.is_some())
    };
    let (mut repack, mut prove) = (Places::new(), Places::new());
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for number in used_numbers(facts, kind) {
            if !choice.chosen.has(kind, number) {
                continue;
            }
            let Some((id, pack, _)) = facts.index.place_at(kind, number) else {
                continue;
            };
            let kept = || {
                let good = good_places(facts, kind, &id);
                good.filter(|(_, pack)| fate(*pack) == Fate::Keep).min()
            };
            match fate(pack) {
                Fate::Repack => match kept() {
                    Some((number, pack)) => prove.entry(pack).or_default().push((kind, number)),
                    None => repack.entry(pack).or_default().push((kind, number)),
                },
                Fate::Keep => {
                    // Also a pack that is cut short may hold the only copy that is sound.
                    let goes = facts.index.numbers(kind, &id).any(|number| {
                        let place = facts.index.place_at(kind, number);
                        place.is_some_and(|(_, pack, _)| !fate(pack).stays() && !is_marked(pack))
                    });
                    if goes {
                        prove.entry(pack).or_default().push((kind, number));
                    }
                }
                _ => {}
            }
        }
    }
    // A pack may be repacked of which nothing is left to copy.
    for (number, _) in (0..).zip(fates).filter(|(_, fate)| **fate == Fate::Repack) {
        repack.entry(number).or_default();
    }
    (repack, prove)
}

/// Looks once more at the whole plan: each used blob must keep a good place, or be copied out of one.
fn guard(facts: &Facts, fates: &[Fate]) -> Result<(), RepoError> {
    let stays = |pack: u32| {
        let fate = fates.get(pack as usize);
        fate.is_some_and(|fate| fate.stays() || *fate == Fate::Repack)
    };
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for number in used_numbers(facts, kind) {
            let Some((id, pack, _)) = facts.index.place_at(kind, number) else {
                continue;
            };
            let is_safe = stays(pack) || good_places(facts, kind, &id).any(|(_, pack)| stays(pack));
            if !is_safe || !keeps_good(facts, kind, &id, stays) {
                return Err(RepoError::Refused(format!(
                    "the plan would lose the {} blob {id}: this is an error of the program, and nothing was removed",
                    kind.word()
                )));
            }
        }
    }
    Ok(())
}

/// Whether a good place of a blob stays, if it has any.
fn keeps_good(facts: &Facts, kind: BlobKind, id: &Id, stays: impl Fn(u32) -> bool) -> bool {
    let mut good = good_places(facts, kind, id).peekable();
    good.peek().is_none() || good.any(|(_, pack)| stays(pack))
}

/// The index files that are written anew: those that must, and with them the small ones.
fn files_to_write(facts: &Facts, fates: &[Fate]) -> Vec<usize> {
    let changes = |number: &u32| {
        fates
            .get(*number as usize)
            .is_some_and(|fate| fate.changes())
    };
    let files = facts.files.iter().enumerate();
    let must = |file: &super::facts::IndexFileFact| {
        file.is_dirty || file.packs.is_empty() || file.packs.iter().any(changes)
    };
    let is_small = |file: &super::facts::IndexFileFact| file.blobs < SMALL_INDEX_MAX_BLOBS;
    let small = facts.files.iter().filter(|file| is_small(file)).count();
    let writes = facts.files.iter().any(must)
        || !facts.unindexed.is_empty()
        || small >= SMALL_INDEX_FILES_MIN;
    let chosen = files.filter(|(_, file)| must(file) || (writes && is_small(file)));
    chosen.map(|(number, _)| number).collect()
}

fn id_of(facts: &Facts, pack: usize) -> Option<Id> {
    facts.packs.get(pack).map(|pack: &PackFact| pack.id)
}

/// Packs with most waste first; within a pack in the order of places.
fn in_order(facts: &Facts, worths: &[PackWorth], places: Places) -> Vec<PlacesOfPack> {
    let mut all: Vec<PlacesOfPack> = places
        .into_iter()
        .map(|(pack, mut places)| {
            let offset = |(kind, number): &(BlobKind, u32)| {
                let place = facts.index.place_at(*kind, *number);
                place.map(|(_, _, place)| place.offset_bytes)
            };
            places.sort_by_key(offset);
            PlacesOfPack { pack, places }
        })
        .collect();
    all.sort_by_cached_key(|pack| {
        let number = pack.pack as usize;
        let worth = worths.get(number).copied().unwrap_or_default();
        let waste = (worth.unused_bytes * 1000).checked_div(worth.used_bytes + worth.unused_bytes);
        (std::cmp::Reverse(waste), id_of(facts, number))
    });
    all
}
