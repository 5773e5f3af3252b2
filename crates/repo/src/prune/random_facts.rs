//! Proves of random repositories that the plan never lets go of what is needed, deletes nothing before its time, and
//! comes to an end: packs are missing, cut, marked, named twice, and blobs lie in several of them. It must never be a part
//! of what is shipped.

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};
    use std::sync::Arc;
    use std::time::Duration;

    use lifeboat_format::{BlobKind, Id, IndexBlob, IndexFile, IndexPack, MarkedPack, Timestamp};
    use lifeboat_testkit::random::Random;
    use lifeboat_testkit::replay::{self, Note};

    use crate::RepoError;
    use crate::index::builder::ImageBuilder;
    use crate::prune::choice::good_places;
    use crate::prune::facts::{Facts, Gathering, Proof};
    use crate::prune::options::{MaxUnused, PruneOptions};
    use crate::prune::plan::{Fate, Phase, PrunePlan, decide};

    const WORLDS: u64 = 500;
    /// Prunes that it may take until nothing is left to do: one for each pack, where little is repacked at a time.
    const ROUNDS_MAX: u32 = 30;
    const HOUR: i64 = 3600;
    const NOW: Timestamp = Timestamp {
        seconds: 1_800_000_000,
        nanoseconds: 0,
        offset_seconds: 0,
    };

    type Blob = (BlobKind, Id);

    /// A repository without content.
    #[derive(Clone, Default)]
    struct World {
        files: Vec<IndexFile>,
        listed: HashMap<Id, u64>,
        used: BTreeSet<Blob>,
    }

    fn blob(number: u64) -> Blob {
        let kind = if number.is_multiple_of(3) {
            BlobKind::Tree
        } else {
            BlobKind::Data
        };
        (kind, Id::of(&number.to_le_bytes()))
    }

    fn pack(name: &str, blobs: &[Blob], random: &mut Random) -> IndexPack {
        let mut offset_bytes = 0;
        let blobs = blobs.iter().map(|(kind, id)| {
            let length_bytes = 40 + u32::try_from(random.below(4000)).unwrap();
            let blob = IndexBlob {
                id: *id,
                kind: *kind,
                offset_bytes,
                length_bytes,
                raw_length_bytes: if random.chance(70) { 5000 } else { 0 },
            };
            offset_bytes += length_bytes;
            blob
        });
        IndexPack {
            blobs: blobs.collect(),
            id: Id::of(name.as_bytes()),
        }
    }

    impl World {
        fn random(random: &mut Random, is_damaged: bool) -> Self {
            let mut world = Self::default();
            let blobs = 1 + random.below(40);
            let packs = random.below(25);
            world.files = vec![IndexFile::default(); 1 + random.index(5)];
            for number in 0..packs {
                let count = 1 + random.index(6);
                let held: Vec<Blob> = (0..count).map(|_| blob(random.below(blobs))).collect();
                let pack = pack(&format!("pack {number}"), &held, random);
                let size = match random.below(100) {
                    0..4 if is_damaged => None,
                    4..8 if is_damaged => Some(pack.expected_bytes() / 2),
                    _ => Some(pack.expected_bytes()),
                };
                world.listed.extend(size.map(|size| (pack.id, size)));
                let times = if random.chance(10) { 2 } else { 1 };
                for _ in 0..times {
                    let count = world.files.len();
                    let file = &mut world.files[random.index(count)];
                    if random.chance(25) {
                        file.packs_to_delete.push(MarkedPack {
                            id: pack.id,
                            blobs: pack.blobs.clone(),
                            time: random.chance(90).then(|| random_time(random)),
                            size_bytes: None,
                        });
                    } else {
                        file.packs.push(pack.clone());
                    }
                }
            }
            for number in 0..random.below(4) {
                world
                    .listed
                    .insert(Id::of(format!("unknown {number}").as_bytes()), 100);
            }
            let named: BTreeSet<Blob> = world.blobs().into_iter().collect();
            world.used = named.into_iter().filter(|_| random.chance(60)).collect();
            world
        }

        /// Every blob that any file names.
        fn blobs(&self) -> Vec<Blob> {
            let packs = self.files.iter().flat_map(|file| &file.packs);
            let marked = self.files.iter().flat_map(|file| &file.packs_to_delete);
            let blobs = packs.flat_map(|pack| &pack.blobs);
            let all = blobs.chain(marked.flat_map(|pack| &pack.blobs));
            all.map(|blob| (blob.kind, blob.id)).collect()
        }

        /// The files of an image first, if there is one, and the others one by one.
        fn gather(&self, image: Option<usize>) -> Option<Facts> {
            let mut gathering = Gathering::new(self.listed.clone(), true);
            let id = |number: usize| Id::of(format!("index {number}").as_bytes());
            let mut builder = ImageBuilder::new(None);
            for (number, file) in self.files.iter().enumerate().take(image.unwrap_or(0)) {
                builder.add(id(number), file.clone()).unwrap();
            }
            let built = Arc::new(builder.finish(None).unwrap());
            if image.is_some() && !gathering.take_image(&built).unwrap() {
                return None;
            }
            for (number, file) in self.files.iter().enumerate().skip(image.unwrap_or(0)) {
                gathering.take(id(number), file.clone()).unwrap();
            }
            (!gathering.contradicts_image()).then(|| gathering.finish().unwrap())
        }

        /// As often with an image as without, where that makes a difference.
        fn facts(&self, proof: Proof) -> Facts {
            let bytes: u64 = self
                .listed
                .values()
                .fold(0, |sum, bytes| sum.wrapping_add(*bytes));
            let image = bytes
                .is_multiple_of(2)
                .then_some(self.files.len().div_ceil(2));
            let gathered = image.and_then(|_| self.gather(image));
            let mut facts = gathered.or_else(|| self.gather(None)).unwrap();
            for (kind, id) in &self.used {
                for number in facts.index.numbers(*kind, id) {
                    facts.used.set(*kind, number);
                }
            }
            facts.proof = proof;
            facts
        }

        /// What the files say of a pack.
        fn named(&self, id: Id) -> IndexPack {
            let packs = self.files.iter().flat_map(|file| file.packs.clone());
            let marked = self
                .files
                .iter()
                .flat_map(|file| file.packs_to_delete.clone());
            let mut all = packs.chain(marked.map(MarkedPack::unmarked));
            all.find(|pack| pack.id == id).unwrap()
        }

        /// Whether a used blob has a place in a pack that is whole, unmarked if that is asked for.
        fn has(&self, facts: &Facts, (kind, id): &Blob, unmarked: bool) -> bool {
            good_places(facts, *kind, id).any(|(_, pack)| {
                let pack = &facts.packs[pack as usize];
                !unmarked || pack.mark.is_none()
            })
        }

        /// What the first step leaves: the copies, in packs of their own.
        fn repack(&mut self, facts: &Facts, plan: &PrunePlan, random: &mut Random) -> Proof {
            let mut proof = Proof {
                is_wanted: true,
                ..Proof::default()
            };
            let mut copied: BTreeSet<Blob> = BTreeSet::new();
            for places in &plan.repack {
                proof.repacked.insert(facts.packs[places.pack as usize].id);
                for (kind, number) in &places.places {
                    let (id, ..) = facts.index.place_at(*kind, *number).unwrap();
                    assert!(copied.insert((*kind, id)), "a blob is copied twice");
                }
            }
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let blobs = copied.iter().filter(|blob| blob.0 == kind);
                let blobs: Vec<Blob> = blobs.copied().collect();
                if !blobs.is_empty() {
                    let mut new = pack(&format!("new {}", random.number()), &blobs, random);
                    new.blobs
                        .iter_mut()
                        .for_each(|blob| blob.raw_length_bytes = 5000);
                    self.listed.insert(new.id, new.expected_bytes());
                    proof.written.insert(new.id);
                    self.files.push(IndexFile {
                        packs: vec![new],
                        packs_to_delete: Vec::new(),
                    });
                }
            }
            for places in &plan.prove {
                for (kind, number) in &places.places {
                    let (id, pack, _) = facts.index.place_at(*kind, *number).unwrap();
                    proof
                        .good
                        .insert((facts.packs[pack as usize].id, *kind, id));
                }
            }
            proof
        }

        /// What the second step leaves.
        fn remove(&self, facts: &Facts, plan: &PrunePlan) -> Self {
            let mut file = IndexFile::default();
            let mut listed = self.listed.clone();
            for (pack, fate) in facts.packs.iter().zip(&plan.fates) {
                let indexed = self.named(pack.id);
                assert_eq!(indexed.blobs.len(), pack.blobs);
                if let Some(known) = facts.index_pack(pack) {
                    assert_eq!(format!("{known:?}"), format!("{indexed:?}"));
                }
                let time = match fate {
                    Fate::Keep | Fate::Recover => {
                        file.packs.push(indexed);
                        continue;
                    }
                    Fate::Mark | Fate::Remark => Some(plan.now),
                    Fate::Wait => pack.mark.unwrap().time,
                    Fate::Delete | Fate::Forget => {
                        listed.remove(&pack.id);
                        continue;
                    }
                    Fate::Repack => panic!("nothing is repacked now"),
                };
                file.packs_to_delete.push(MarkedPack {
                    id: pack.id,
                    blobs: indexed.blobs,
                    time,
                    size_bytes: None,
                });
            }
            for (id, size) in &facts.unindexed {
                if plan.instant_delete {
                    listed.remove(id);
                } else {
                    file.packs_to_delete.push(MarkedPack {
                        id: *id,
                        blobs: Vec::new(),
                        time: Some(plan.now),
                        size_bytes: Some(*size),
                    });
                }
            }
            Self {
                files: vec![file],
                listed,
                used: self.used.clone(),
            }
        }
    }

    fn random_time(random: &mut Random) -> Timestamp {
        let hours = i64::try_from(random.below(60)).unwrap();
        // Ahead by less than clocks may be apart.
        match hours - 5 {
            ago @ 0.. => Timestamp::utc(NOW.seconds - ago * HOUR, 0),
            ahead => Timestamp::utc(NOW.seconds - ahead * HOUR / 6, 0),
        }
    }

    fn options(random: &mut Random) -> PruneOptions {
        PruneOptions {
            max_unused: *random.pick(&[
                MaxUnused::Unlimited,
                MaxUnused::Bytes(0),
                MaxUnused::Bytes(3000),
                MaxUnused::Percent(5.0),
            ]),
            max_repack_bytes: *random.pick(&[u64::MAX, u64::MAX, 10_000, 0]),
            small_pack_bytes: *random.pick(&[None, Some(0), Some(5000)]),
            repack_uncompressed: random.chance(20),
            repack_cacheable_only: random.chance(20),
            instant_delete: random.chance(20),
            ..PruneOptions::default()
        }
    }

    /// What must hold of every plan.
    fn assert_fates(facts: &Facts, plan: &PrunePlan, options: &PruneOptions) {
        let due = NOW.seconds - i64::try_from(options.keep_delete.as_secs()).unwrap();
        for (pack, fate) in facts.packs.iter().zip(&plan.fates) {
            let is_due = || {
                let time = pack.mark.and_then(|mark| mark.time);
                time.is_some_and(|time| time.seconds <= due)
            };
            match fate {
                Fate::Delete => assert!(options.instant_delete || is_due()),
                Fate::Mark | Fate::Repack | Fate::Keep => assert!(pack.mark.is_none()),
                Fate::Wait | Fate::Remark => assert!(pack.mark.is_some() && !is_due()),
                Fate::Recover => assert!(pack.mark.is_some() && pack.is_whole()),
                Fate::Forget => assert!(pack.listed_bytes.is_none()),
            }
        }
    }

    /// Whole prunes until one finds nothing new; also how many it took.
    fn until_quiet(mut world: World, options: &PruneOptions, random: &mut Random) -> (World, u32) {
        for round in 1..ROUNDS_MAX {
            let facts = world.facts(Proof::default());
            let whole = decide(&facts, options, Phase::Whole, NOW).unwrap();
            let is_quiet = |fate: &Fate| matches!(fate, Fate::Keep | Fate::Wait);
            if whole.fates.iter().all(is_quiet) {
                return (world, round);
            }
            let proof = world.repack(&facts, &whole, random);
            let facts = world.facts(proof);
            let removal = decide(&facts, options, Phase::Removal, NOW).unwrap();
            world = world.remove(&facts, &removal);
        }
        panic!("it comes to no end");
    }

    #[test]
    fn a_plan_keeps_what_is_needed_and_comes_to_an_end() {
        let seed = replay::seed();
        let _note = Note::seed(seed);
        let mut fates = BTreeMap::new();
        let (mut refused, mut more_rounds) = (0, 0);
        for number in 0..WORLDS {
            let _note = Note::new(format!("world {number}"));
            let mut random = Random::new(seed.wrapping_add(number));
            let is_damaged = random.chance(40);
            let mut world = World::random(&mut random, is_damaged);
            let options = options(&mut random);
            let facts = world.facts(Proof::default());
            let is_lost = world
                .used
                .iter()
                .any(|blob| !world.has(&facts, blob, false));
            let plan = match decide(&facts, &options, Phase::Whole, NOW) {
                Ok(plan) => plan,
                Err(_) => {
                    assert!(is_lost, "nothing was lost");
                    refused += 1;
                    continue;
                }
            };
            assert!(!is_lost);
            assert_fates(&facts, &plan, &options);
            for fate in &plan.fates {
                *fates.entry(format!("{fate:?}")).or_insert(0) += 1;
            }
            let proof = world.repack(&facts, &plan, &mut random);
            let facts = world.facts(proof);
            let removal = decide(&facts, &options, Phase::Removal, NOW).unwrap();
            assert_fates(&facts, &removal, &options);
            for (pack, fate) in facts.packs.iter().zip(&removal.fates) {
                if facts.proof.repacked.contains(&pack.id) {
                    assert!(matches!(fate, Fate::Mark | Fate::Delete), "{fate:?}");
                }
            }
            let after = world.remove(&facts, &removal);
            let later = after.facts(Proof::default());
            for blob in &world.used {
                assert!(after.has(&later, blob, true), "{blob:?} is lost");
            }
            // Nothing new is found soon, also not a day later, when all that waited goes.
            let (after, rounds) = until_quiet(after, &options, &mut random);
            // A limit of what is repacked lets each prune do a part.
            more_rounds += u64::from(rounds > 1 && options.max_repack_bytes == u64::MAX);
            let later = after.facts(Proof::default());
            let tomorrow = Timestamp::utc(NOW.seconds + 60 * HOUR, 0);
            let last = decide(&later, &options, Phase::Removal, tomorrow).unwrap();
            let end = after.remove(&later, &last).facts(Proof::default());
            assert!(end.unindexed.is_empty() && end.packs.iter().all(|pack| pack.mark.is_none()));
            for blob in &world.used {
                assert!(after.has(&end, blob, true), "{blob:?} is lost a day later");
            }
            let is_free = options.max_unused == MaxUnused::Bytes(0)
                && options.max_repack_bytes == u64::MAX
                && !options.repack_cacheable_only;
            if is_free {
                let places = end.packs.iter().map(|pack| pack.blobs);
                assert_eq!(places.sum::<usize>(), world.used.len(), "waste is left");
            }
        }
        for fate in [
            "Keep", "Repack", "Mark", "Wait", "Remark", "Recover", "Delete", "Forget",
        ] {
            assert!(fates.get(fate).is_some_and(|count| *count > 3), "{fates:?}");
        }
        assert!(refused > 3 && refused < WORLDS / 2, "{refused}");
        // What is indexed again may hold waste, which only the next prune sees.
        assert!(more_rounds < WORLDS / 4, "{more_rounds}");
    }

    #[test]
    fn a_blob_that_is_damaged_holds_its_pack() {
        let mut random = Random::new(1);
        let blobs = [blob(1), blob(2)];
        let [first, second] = ["first", "second"].map(|name| pack(name, &blobs, &mut random));
        let mut world = World {
            used: blobs.into(),
            ..World::default()
        };
        for pack in [&first, &second] {
            world.listed.insert(pack.id, pack.expected_bytes());
        }
        world.files.push(IndexFile {
            packs: vec![first.clone(), second.clone()],
            packs_to_delete: Vec::new(),
        });
        let fates = |damaged: &[(Id, Blob)]| {
            let places = damaged.iter().map(|(pack, (kind, id))| (*pack, *kind, *id));
            let good = [&first, &second].into_iter().flat_map(|pack| {
                let name = |blob: &IndexBlob| (pack.id, blob.kind, blob.id);
                pack.blobs.iter().map(name)
            });
            let facts = world.facts(Proof {
                damaged: places.collect(),
                good: good.collect(),
                is_wanted: true,
                ..Proof::default()
            });
            let plan = decide(&facts, &PruneOptions::default(), Phase::Removal, NOW).unwrap();
            let mut fates = plan.fates.clone();
            fates.sort_by_key(|fate| *fate != Fate::Keep);
            fates
        };
        use Fate::{Keep, Mark};
        assert_eq!(fates(&[]), [Keep, Mark]);
        // One copy is damaged in each: both stay, whichever was to go.
        let crossed = [(first.id, blobs[0]), (second.id, blobs[1])];
        assert_eq!(fates(&crossed), [Keep, Keep]);
        let everywhere = [(first.id, blobs[0]), (second.id, blobs[0])];
        assert_eq!(fates(&everywhere), [Keep, Keep]);
        // A copy that nobody read is no reason to let the other go.
        let facts = world.facts(Proof {
            is_wanted: true,
            ..Proof::default()
        });
        let plan = decide(&facts, &PruneOptions::default(), Phase::Removal, NOW).unwrap();
        assert_eq!(plan.fates, [Keep, Keep]);
    }

    #[test]
    fn time_is_counted_in_whole() {
        let mut random = Random::new(1);
        let pack = pack("a pack", &[blob(1)], &mut random);
        let fate = |time: Option<Timestamp>| {
            let mut world = World::default();
            world.listed.insert(pack.id, pack.expected_bytes());
            world.files.push(IndexFile {
                packs: Vec::new(),
                packs_to_delete: vec![MarkedPack {
                    id: pack.id,
                    blobs: pack.blobs.clone(),
                    time,
                    size_bytes: None,
                }],
            });
            let facts = world.facts(Proof::default());
            let options = PruneOptions {
                keep_delete: Duration::from_secs(23 * 3600),
                ..PruneOptions::default()
            };
            decide(&facts, &options, Phase::Whole, NOW).unwrap().fates[0]
        };
        let at = |seconds| Some(Timestamp::utc(NOW.seconds + seconds, 0));
        assert_eq!(fate(at(-23 * HOUR)), Fate::Delete);
        assert_eq!(fate(at(-23 * HOUR + 1)), Fate::Wait);
        assert_eq!(fate(at(0)), Fate::Wait);
        // A clock that was wrong must not keep a pack for ever, nor delete it at once.
        assert_eq!(fate(at(1)), Fate::Remark);
        assert_eq!(fate(None), Fate::Remark);
        assert_eq!(fate(at(365 * 24 * HOUR)), Fate::Remark);
    }

    #[test]
    fn a_clock_that_is_behind_marks_nothing() {
        let mut random = Random::new(1);
        let (unneeded, marked) = (
            pack("a", &[blob(1)], &mut random),
            pack("b", &[], &mut random),
        );
        let plan = |snapshot: i64, mark: i64, options: &PruneOptions| {
            let at = |seconds| Timestamp::utc(NOW.seconds + seconds, 0);
            let mut world = World::default();
            world.listed.insert(unneeded.id, unneeded.expected_bytes());
            world.listed.insert(marked.id, 100);
            world.files.push(IndexFile {
                packs: vec![unneeded.clone()],
                packs_to_delete: vec![MarkedPack {
                    id: marked.id,
                    blobs: Vec::new(),
                    time: Some(at(mark)),
                    size_bytes: Some(100),
                }],
            });
            let mut facts = world.facts(Proof::default());
            facts.newest_snapshot = Some((Id::of(b"snapshot"), at(snapshot)));
            decide(&facts, options, Phase::Whole, NOW)
        };
        let options = PruneOptions::default();
        let fates = |plan: Result<PrunePlan, RepoError>| plan.unwrap().fates;
        assert_eq!(fates(plan(-5, -5, &options)), [Fate::Mark, Fate::Wait]);
        assert_eq!(
            fates(plan(HOUR, HOUR, &options)),
            [Fate::Mark, Fate::Remark]
        );
        for (snapshot, mark) in [(HOUR + 1, 0), (0, HOUR + 1), (50 * 365 * 24 * HOUR, 0)] {
            let error = plan(snapshot, mark, &options).map(drop).unwrap_err();
            assert!(matches!(error, RepoError::ClockBehind { .. }), "{error}");
        }
        // A mark that is years ahead is what is wrong.
        let years = 3 * 365 * 24 * HOUR;
        assert_eq!(fates(plan(0, years, &options)), [Fate::Mark, Fate::Remark]);
        let at_once = PruneOptions {
            instant_delete: true,
            ..PruneOptions::default()
        };
        assert_eq!(
            fates(plan(years, 0, &at_once)),
            [Fate::Delete, Fate::Delete]
        );
    }
}
