//! Which copy of each used blob stays: of several places exactly one is chosen.
//! It must never choose a place in a pack that is not there as the index describes it, or that was found damaged.

use lifeboat_format::{BlobKind, Id};

use super::facts::{Facts, PackFact};
use crate::blob_set::PlaceBits;

/// The chosen places.
#[derive(Default)]
pub(super) struct Choice {
    /// One place of each used blob; all places of one that is damaged everywhere.
    pub(super) chosen: PlaceBits,
    /// By pack: whether it holds a blob that is damaged everywhere. Nothing of it may go.
    pub(super) held: Vec<bool>,
    /// Used blobs that no pack holds that is there.
    pub(super) lost: Vec<Lost>,
}

/// A used blob that no pack holds that is there.
pub(super) struct Lost {
    pub(super) kind: BlobKind,
    pub(super) blob: Id,
    pub(super) pack: Id,
}

/// What of a pack snapshots could use, whichever copies are chosen.
#[derive(Clone, Copy, Default)]
struct Worth {
    used_bytes: u64,
    unused_bytes: u64,
    /// Whether it is the only place of something used.
    is_needed: bool,
}

/// Chooses. Packs that stay anyway are preferred; what was repacked in this run, and after that what is marked, is the
/// last resort. Packs that hold nothing but copies of what is used come before those that hold unused blobs too: such
/// packs are what an interrupted repack leaves, and it must not be for nothing.
pub(super) fn choose(facts: &Facts) -> Choice {
    let ranks = ranks(facts);
    let mut choice = Choice {
        chosen: PlaceBits::of(&facts.index),
        held: vec![false; facts.packs.len()],
        lost: Vec::new(),
    };
    for kind in [BlobKind::Data, BlobKind::Tree] {
        for number in used_numbers(facts, kind) {
            let Some((id, pack, _)) = facts.index.place_at(kind, number) else {
                continue;
            };
            let mut all = facts.index.numbers(kind, &id);
            let good = good_places(facts, kind, &id);
            let best = good.min_by_key(|(number, pack)| {
                let rank = ranks.get(*pack as usize).copied();
                let is_unproven = !is_proven(facts, *pack, kind, &id);
                let is_last = facts.packs.get(*pack as usize).is_none_or(|pack| {
                    pack.mark.is_some() || facts.proof.repacked.contains(&pack.id)
                });
                (is_last, is_unproven, rank.unwrap_or(u32::MAX), *number)
            });
            match best {
                Some((best, _)) if best == number => {
                    choice.chosen.set(kind, number);
                }
                Some(_) => {}
                None => {
                    let whole = facts
                        .packs
                        .get(pack as usize)
                        .is_some_and(PackFact::is_whole);
                    if whole {
                        choice.chosen.set(kind, number);
                        if let Some(held) = choice.held.get_mut(pack as usize) {
                            *held = true;
                        }
                    } else if all.all(|other| is_gone(facts, kind, other)) {
                        choice.lost.push(Lost {
                            kind,
                            blob: id,
                            pack: facts
                                .packs
                                .get(pack as usize)
                                .map_or(Id::default(), |pack| pack.id),
                        });
                    }
                }
            }
        }
    }
    choice
}

/// Numbers of all places of used blobs.
pub(super) fn used_numbers(facts: &Facts, kind: BlobKind) -> impl Iterator<Item = u32> + '_ {
    let count = u32::try_from(facts.index.len(kind)).unwrap_or(u32::MAX);
    (0..count).filter(move |number| facts.used.has(kind, *number))
}

/// The places of a blob that can be relied on: their numbers with those of their packs.
pub(super) fn good_places<'a>(
    facts: &'a Facts,
    kind: BlobKind,
    id: &'a Id,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    facts.index.numbers(kind, id).filter_map(move |number| {
        let (_, pack, _) = facts.index.place_at(kind, number)?;
        let fact = facts.packs.get(pack as usize)?;
        let damaged = &facts.proof.damaged;
        let is_good =
            fact.is_whole() && (damaged.is_empty() || !damaged.contains(&(fact.id, kind, *id)));
        is_good.then_some((number, pack))
    })
}

/// Whether this run wrote or read this place, if that matters: then others may go.
pub(super) fn is_proven(facts: &Facts, pack: u32, kind: BlobKind, id: &Id) -> bool {
    let proof = &facts.proof;
    let pack = facts.packs.get(pack as usize);
    !proof.is_wanted
        || pack.is_some_and(|pack| {
            proof.written.contains(&pack.id) || proof.good.contains(&(pack.id, kind, *id))
        })
}

fn is_gone(facts: &Facts, kind: BlobKind, number: u32) -> bool {
    let place = facts.index.place_at(kind, number);
    let pack = place.and_then(|(_, pack, _)| facts.packs.get(pack as usize));
    !pack.is_some_and(PackFact::is_whole)
}

/// For each pack its place in the order of preference.
fn ranks(facts: &Facts) -> Vec<u32> {
    let mut worth = vec![Worth::default(); facts.packs.len()];
    for (kind, number) in facts.places() {
        let Some((id, pack, place)) = facts.index.place_at(kind, number) else {
            continue;
        };
        let Some(pack) = worth.get_mut(pack as usize) else {
            continue;
        };
        let bytes = u64::from(place.length_bytes);
        if !facts.used.has(kind, number) {
            pack.unused_bytes += bytes;
            continue;
        }
        pack.used_bytes += bytes;
        let unmarked = good_places(facts, kind, &id).filter(|(_, pack)| {
            let other = facts.packs.get(*pack as usize);
            other.is_some_and(|other| other.mark.is_none())
        });
        pack.is_needed |= unmarked.take(2).count() < 2;
    }
    let mut order: Vec<u32> = (0..).take(facts.packs.len()).collect();
    order.sort_by_cached_key(|number| {
        let fact = facts.packs.get(*number as usize);
        let worth = worth.get(*number as usize).copied().unwrap_or_default();
        let class = match (worth.unused_bytes, worth.is_needed) {
            (0, true) => 0,
            (0, false) => 1,
            (_, true) => 2,
            (_, false) => 3,
        };
        let all_bytes = worth.used_bytes + worth.unused_bytes;
        let waste = (worth.unused_bytes * 1000).checked_div(all_bytes);
        (
            fact.is_none_or(|fact| fact.mark.is_some()),
            fact.is_some_and(|fact| facts.proof.repacked.contains(&fact.id)),
            class,
            waste,
            std::cmp::Reverse(worth.used_bytes),
            fact.map(|fact| fact.id),
        )
    });
    let mut ranks = vec![0; facts.packs.len()];
    for (rank, number) in (0..).zip(order) {
        if let Some(slot) = ranks.get_mut(number as usize) {
            *slot = rank;
        }
    }
    ranks
}
