//! The damage matrix: each kind of file, missing, cut short, with one bit flipped, or with the content of another.
//! A check names what is damaged and nothing else; a restore saves all that the damage did not touch, and names the rest.

#[path = "../common/mod.rs"]
mod common;
mod fixture;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use common::{
    PASSWORD, Seen, back_up, back_up_with_index, check_all, copy, init, lock, open, restore, same,
    small_tree, soak,
};
use fixture::*;
use lifeboat_format::{BlobKind, Id, NodeKind};
use lifeboat_protect::ProtectError;
use lifeboat_repo::backend::{Backend, BackendError, FileKind, FileName, MemoryBackend};
use lifeboat_repo::{
    BlobReader, FindingKind, Identity, Index, KeyCost, PackListing, RepoError, Repository,
    all_locks, remove_locks,
};
use lifeboat_testkit::random::Random;
use lifeboat_testkit::replay::{self, Note};

#[test]
fn a_damaged_config_is_named() {
    let fixture = Fixture::new(1);
    let name = FileName::CONFIG;
    let content = fixture.content(name);
    let other = MemoryBackend::new();
    init(other.clone());
    let mut all = damages(name, &content, None, &offsets_of_sealed(content.len()));
    all.push(Damage {
        what: "of another repository".into(),
        changes: vec![(name, Some(other.load(name, u64::MAX).unwrap()))],
    });
    for damage in all {
        let _note = Note::new(format!("config, {}", damage.what));
        let before = open(fixture.backend.fork()).unwrap();
        damage
            .changes
            .iter()
            .for_each(|(name, content)| match content {
                Some(content) => before.backend().save(*name, &[content]).unwrap(),
                None => before.backend().remove(*name).unwrap(),
            });
        // Whoever has the repository open already loses nothing.
        let found = findings_of(&before, &[FindingKind::Config]);
        assert_eq!(found[&FindingKind::Config], ["config".to_owned()].into());
        assert_all_restores(&before, &fixture, None);
        match open(damage.apply(&fixture.backend)).map(drop) {
            Err(RepoError::Backend(BackendError::NoRepository { .. })) => {
                assert_eq!(damage.what, "missing");
            }
            Err(RepoError::Damaged { name, .. }) => assert_eq!(name, FileName::CONFIG),
            other => panic!("{other:?}"),
        }
        // Nobody makes a new repository over the old one.
        let again = Repository::init(
            Arc::new(damage.apply(&fixture.backend)),
            PASSWORD,
            2,
            None,
            &Identity::default(),
            KeyCost::Test,
        );
        assert!(matches!(
            again.map(drop),
            Err(RepoError::Exists { .. } | RepoError::Refused(_))
        ));
    }
}

#[test]
fn a_damaged_key_is_named_and_the_others_open() {
    let fixture = Fixture::new(2);
    let repository = open(fixture.backend.clone()).unwrap();
    let (first, second) = (
        repository.key_id(),
        repository
            .add_key(SECOND_PASSWORD, &Identity::default(), KeyCost::Test)
            .unwrap(),
    );
    for (id, other, password, others) in [
        (first, second, PASSWORD, SECOND_PASSWORD),
        (second, first, SECOND_PASSWORD, PASSWORD),
    ] {
        let (name, other) = (
            FileName::new(FileKind::Key, id),
            FileName::new(FileKind::Key, other),
        );
        let content = fixture.content(name);
        let offsets: Vec<_> = (1..6)
            .map(|part| ("text".to_owned(), content.len() * part / 6))
            .collect();
        for damage in damages(
            name,
            &content,
            Some((other, fixture.content(other))),
            &offsets,
        ) {
            let _note = Note::new(format!("key {id}, {}", damage.what));
            let backend: Arc<dyn Backend> = Arc::new(damage.apply(&fixture.backend));
            match Repository::open(backend.clone(), password, None).map(drop) {
                Err(RepoError::WrongPassword { .. }) => assert_eq!(damage.what, "missing"),
                Err(RepoError::Damaged { name, .. }) => {
                    assert!(damage.files().contains(&name), "{name}");
                }
                other => panic!("{other:?}"),
            }
            let opened = Repository::open(backend, others, None);
            if damage.changes.len() > 1 {
                assert!(opened.is_err(), "both keys are damaged");
                continue;
            }
            let opened = Arc::new(opened.unwrap());
            let found = findings_of(&opened, &[FindingKind::Key]);
            if damage.what == "missing" {
                assert!(
                    found.is_empty(),
                    "nobody knows how many keys there should be"
                );
            } else {
                assert_eq!(found[&FindingKind::Key], [format!("key {id}")].into());
            }
            assert_all_restores(&opened, &fixture, None);
        }
    }
}

#[test]
fn a_damaged_lock_stops_writers_and_nothing_else() {
    let fixture = Fixture::new(3);
    let repository = open(fixture.backend.clone()).unwrap();
    let (held, other) = (
        lock(&repository, false).unwrap(),
        lock(&repository, false).unwrap(),
    );
    let name = FileName::new(FileKind::Lock, held.id());
    let other_name = FileName::new(FileKind::Lock, other.id());
    let content = fixture.content(name);
    let other_content = fixture.content(other_name);
    for damage in damages(
        name,
        &content,
        Some((other_name, other_content)),
        &offsets_of_sealed(content.len()),
    ) {
        let _note = Note::new(format!("lock, {}", damage.what));
        let backend = damage.apply(&fixture.backend);
        let opened = open(backend.clone()).unwrap();
        match lock(&opened, false).map(drop) {
            // A lock that is empty was never written whole.
            Ok(()) => assert!(damage.is_gone(), "taken beside a lock that can't be read"),
            Err(RepoError::LockUnreadable { id, .. }) => {
                assert!(damage.files().contains(&FileName::new(FileKind::Lock, id)));
                let done = remove_locks(&opened, false).unwrap();
                assert_eq!(done.removed, 0, "not known to be stale");
                assert!(!done.unreadable.is_empty());
                remove_locks(&opened, true).unwrap();
                assert!(all_locks(&opened).unwrap().is_empty());
                drop(lock(&opened, true).unwrap());
            }
            Err(other) => panic!("{other:?}"),
        }
        let opened = open(damage.apply(&fixture.backend)).unwrap();
        assert!(findings_of(&opened, &[]).is_empty());
        assert_all_restores(&opened, &fixture, None);
    }
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_restore() {
    let fixture = Fixture::new(4);
    for (id, other) in [
        (fixture.first.0, fixture.second.0),
        (fixture.second.0, fixture.first.0),
    ] {
        let (name, other) = (
            FileName::new(FileKind::Snapshot, id),
            FileName::new(FileKind::Snapshot, other),
        );
        let content = fixture.content(name);
        for damage in damages(
            name,
            &content,
            Some((other, fixture.content(other))),
            &offsets_of_sealed(content.len()),
        ) {
            let _note = Note::new(format!("snapshot {id}, {}", damage.what));
            let backend = damage.apply(&fixture.backend);
            let repository = open(backend.clone()).unwrap();
            let snapshots = repository.snapshots().unwrap();
            let named: BTreeSet<Id> = snapshots.damaged.iter().map(|(id, _)| *id).collect();
            let damaged: BTreeSet<Id> = damage.files().iter().map(|name| name.id).collect();
            assert_eq!(snapshots.all.len(), 2 - damaged.len());
            let found = findings_of(&repository, &[FindingKind::Snapshot]);
            if damage.what == "missing" {
                assert!(named.is_empty() && found.is_empty());
            } else {
                assert_eq!(named, damaged);
                let names: BTreeSet<_> =
                    damaged.iter().map(|id| format!("snapshot {id}")).collect();
                assert_eq!(found[&FindingKind::Snapshot], names);
            }
            assert!(matches!(
                repository.snapshot(id),
                Err(RepoError::Damaged { .. } | RepoError::Backend(BackendError::Missing { .. }))
            ));
            if damage.changes.len() == 1 {
                assert_all_restores(&repository, &fixture, Some(id));
            }
            assert_next_backup(&backend, &fixture);
        }
    }
}

/// What a snapshot holds below the directory that was backed up, as an undamaged repository says.
struct Content {
    /// Trees on the way to the directory: without them nothing of it can be found.
    above: Vec<Id>,
    /// Directories by path, with their tree.
    dirs: BTreeMap<PathBuf, Id>,
    /// Files by path, with their blobs.
    files: BTreeMap<PathBuf, Vec<Id>>,
}

impl Content {
    fn of(fixture: &Fixture, snapshot: Id) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let repository = open(fixture.backend.fork()).unwrap();
        let (index, _) = repository
            .load_index(PackListing::Skip, &lifeboat_flow::Cancel::new())
            .unwrap();
        let reader = BlobReader::new(&repository, &index);
        let mut above = vec![repository.snapshot(snapshot).unwrap().tree];
        for part in fixture.tree.components().skip(1) {
            let tree = reader.tree(*above.last().unwrap()).unwrap();
            let node = tree.find(part.as_os_str().as_bytes()).unwrap();
            above.push(node.subtree.unwrap());
        }
        let mut content = Self {
            above,
            dirs: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        let mut todo = vec![(PathBuf::new(), *content.above.last().unwrap())];
        while let Some((path, id)) = todo.pop() {
            for node in reader.tree(id).unwrap().nodes {
                let path = path.join(std::ffi::OsStr::from_bytes(&node.name));
                match node.kind {
                    NodeKind::Dir => {
                        let subtree = node.subtree.unwrap();
                        content.dirs.insert(path.clone(), subtree);
                        todo.push((path, subtree));
                    }
                    NodeKind::File => {
                        content.files.insert(path, node.content.unwrap());
                    }
                    _ => {}
                }
            }
        }
        content
    }
}

/// Restores a snapshot of a damaged repository and compares with what can be known without these blobs.
fn assert_saves_the_rest(
    repository: &Arc<Repository>,
    fixture: &Fixture,
    (snapshot, kept): &(Id, PathBuf),
    content: &Content,
    lost: &HashSet<(BlobKind, Id)>,
) {
    let is_lost = |kind, id: &Id| lost.contains(&(kind, *id));
    let to = tempfile::tempdir_in(fixture.scratch.path()).unwrap();
    let seen = Seen::default();
    let done = restore(
        repository,
        *snapshot,
        &fixture.tree,
        to.path(),
        |_| {},
        &seen,
    );
    if content.above.iter().any(|id| is_lost(BlobKind::Tree, id)) {
        assert!(
            matches!(
                &done,
                Err(ProtectError::Repo(
                    RepoError::BlobUnknown { .. } | RepoError::BlobDamaged { .. }
                ))
            ),
            "{done:?}"
        );
        return;
    }
    let outcome = done.unwrap();
    let hidden: Vec<&PathBuf> = content
        .dirs
        .iter()
        .filter(|(_, tree)| is_lost(BlobKind::Tree, tree))
        .map(|(path, _)| path)
        .collect();
    let is_hidden = |path: &Path| {
        hidden
            .iter()
            .any(|dir| path != **dir && path.starts_with(dir))
    };
    let problems = seen.problems();
    let mut expected = 0;
    for dir in hidden.iter().filter(|dir| !is_hidden(dir)) {
        expected += 1;
        let named = problems
            .iter()
            .any(|problem| problem.contains(dir.to_str().unwrap()));
        assert!(named, "{} is not named in {problems:?}", dir.display());
    }
    for (path, blobs) in &content.files {
        let restored = to.path().join(path);
        if is_hidden(path) {
            assert!(!restored.exists());
        } else if blobs.iter().any(|blob| is_lost(BlobKind::Data, blob)) {
            expected += 1;
            let named = problems
                .iter()
                .any(|problem| problem.contains(path.to_str().unwrap()));
            assert!(named, "{} is not named in {problems:?}", path.display());
            assert!(!restored.exists(), "{} is not whole", path.display());
        } else {
            let same = std::fs::read(&restored).unwrap_or_default()
                == std::fs::read(kept.join(path)).unwrap();
            assert!(
                same,
                "{} is not damaged, but lost: {problems:?}",
                path.display()
            );
        }
    }
    assert_eq!(outcome.problems > 0, expected > 0, "{problems:?}");
    assert_eq!(outcome.problems, problems.len() as u64);
    // Nothing but what was named is missing or different: the rest of the trees is compared as a whole.
    for difference in same().differences(kept, to.path()).unwrap() {
        let path = &difference.path;
        let excused = is_hidden(path)
            || hidden.contains(&path)
            || content
                .files
                .get(path)
                .is_some_and(|blobs| blobs.iter().any(|blob| is_lost(BlobKind::Data, blob)))
            || path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(".lifeboat-partial-"))
            // Hard links of a file that is hidden in another directory.
            || format!("{:?}", difference.what).starts_with("HardLinks");
        assert!(excused, "{difference}");
    }
}

#[test]
fn a_damaged_index_file_is_named_and_what_others_cover_restores() {
    let fixture = Fixture::new(5);
    let clean = open(fixture.backend.fork()).unwrap();
    let names = fixture.names(FileKind::Index);
    assert!(names.len() >= 2);
    for (number, name) in names.iter().enumerate() {
        let other = names[(number + 1) % names.len()];
        let content = fixture.content(*name);
        for damage in damages(
            *name,
            &content,
            Some((other, fixture.content(other))),
            &offsets_of_sealed(content.len()),
        ) {
            let _note = Note::new(format!("index file {}, {}", name.id, damage.what));
            let backend = damage.apply(&fixture.backend);
            let repository = open(backend.clone()).unwrap();
            let mut lost = HashSet::new();
            let mut kept = HashSet::new();
            for name in &names {
                let set = match damage.files().contains(name) {
                    true => &mut lost,
                    false => &mut kept,
                };
                let file = clean.load_index_file(name.id).unwrap();
                set.extend(
                    file.packs
                        .iter()
                        .flat_map(|pack| &pack.blobs)
                        .map(|b| (b.kind, b.id)),
                );
            }
            lost.retain(|blob| !kept.contains(blob));
            assert!(!lost.is_empty());
            let found = findings_of(
                &repository,
                &[
                    FindingKind::Index,
                    FindingKind::Tree,
                    FindingKind::BlobMissing,
                    FindingKind::PackUnindexed,
                ],
            );
            if damage.what == "missing" {
                assert!(!found.contains_key(&FindingKind::Index));
            } else {
                let named: BTreeSet<_> = damage
                    .files()
                    .iter()
                    .map(|name| format!("index file {}", name.id))
                    .collect();
                assert_eq!(found[&FindingKind::Index], named);
            }
            assert!(found.contains_key(&FindingKind::PackUnindexed));
            assert!(check_all(&repository).is_serious());
            for snapshot in fixture.snapshots() {
                let content = Content::of(&fixture, snapshot.0);
                assert_saves_the_rest(&repository, &fixture, snapshot, &content, &lost);
            }
            assert_next_backup(&backend, &fixture);
        }
    }
}

/// The blobs of a pack with their places, as the undamaged index says.
type Blobs = Vec<(BlobKind, Id, std::ops::Range<usize>)>;

fn blobs_by_pack(fixture: &Fixture) -> BTreeMap<Id, Blobs> {
    let repository = open(fixture.backend.fork()).unwrap();
    let (index, _) = repository
        .load_index(PackListing::Skip, &lifeboat_flow::Cancel::new())
        .unwrap();
    let mut packs: BTreeMap<Id, Blobs> = BTreeMap::new();
    index.each(|kind, id, place| {
        let from = place.offset_bytes as usize;
        let range = from..from + place.length_bytes as usize;
        packs.entry(place.pack).or_default().push((kind, id, range));
    });
    packs
        .values_mut()
        .for_each(|blobs| blobs.sort_by_key(|(_, _, range)| range.start));
    packs
}

fn offsets_of_pack(length: usize, blobs: &Blobs) -> Vec<(String, usize)> {
    let mut offsets = Vec::new();
    for number in BTreeSet::from([0, blobs.len() / 2, blobs.len() - 1]) {
        let (_, _, range) = &blobs[number];
        offsets.push((format!("blob {number}'s nonce"), range.start + 2));
        offsets.push((
            format!("blob {number}'s body"),
            usize::midpoint(range.start, range.end),
        ));
        offsets.push((format!("blob {number}'s tag"), range.end - 3));
    }
    let header = blobs.last().unwrap().2.end;
    offsets.push(("the header's nonce".into(), header + 1));
    offsets.push(("the header's body".into(), usize::midpoint(header, length)));
    offsets.push(("the header's tag".into(), length - 7));
    offsets.push(("the header's length".into(), length - 4));
    offsets.push(("the header's length".into(), length - 1));
    offsets
}

#[test]
fn a_damaged_pack_is_named_and_costs_what_is_in_it() {
    let fixture = Fixture::new(6);
    let packs = blobs_by_pack(&fixture);
    let of_kind = |wanted| -> Vec<Id> {
        let packs = packs.iter().filter(|(_, blobs)| blobs[0].0 == wanted);
        packs.map(|(id, _)| *id).collect()
    };
    let (data, trees) = (of_kind(BlobKind::Data), of_kind(BlobKind::Tree));
    assert!(
        data.len() >= 4 && trees.len() >= 2,
        "{} {}",
        data.len(),
        trees.len()
    );
    let contents = fixture
        .snapshots()
        .map(|(id, _)| Content::of(&fixture, *id));
    let mut cases = Vec::new();
    for same_kind in [&data, &trees] {
        for (number, id) in same_kind.iter().enumerate() {
            let other = FileName::new(FileKind::Pack, same_kind[(number + 1) % same_kind.len()]);
            let name = FileName::new(FileKind::Pack, *id);
            let content = fixture.content(name);
            let offsets = offsets_of_pack(content.len(), &packs[id]);
            cases.extend(damages(
                name,
                &content,
                Some((other, fixture.content(other))),
                &offsets,
            ));
        }
    }
    let seed = replay::seed();
    let _seed = Note::seed(seed);
    if !soak() {
        // Flipped bits are many and alike; all others are always tried.
        let mut random = Random::new(seed);
        cases.retain(|damage| !damage.what.contains("flipped") || random.chance(40));
    }
    for damage in &cases {
        let damaged: BTreeSet<Id> = damage.files().iter().map(|name| name.id).collect();
        let _note = Note::new(format!("pack {damaged:?}, {}", damage.what));
        let mut lost = HashSet::new();
        for (name, content) in &damage.changes {
            let before = fixture.content(*name);
            for (kind, id, range) in &packs[&name.id] {
                let after = content
                    .as_ref()
                    .and_then(|content| content.get(range.clone()));
                if after != Some(&before[range.clone()]) {
                    lost.insert((*kind, *id));
                }
            }
        }
        let backend = damage.apply(&fixture.backend);
        let repository = open(backend.clone()).unwrap();
        assert_names(&repository, damage, &damaged, &contents, &lost);
        for (snapshot, content) in fixture.snapshots().into_iter().zip(&contents) {
            assert_saves_the_rest(&repository, &fixture, snapshot, content, &lost);
        }
        if damage.is_gone() {
            assert_next_backup(&backend, &fixture);
        }
    }
}

/// A check names exactly the damaged packs, and the trees that went with them.
fn assert_names(
    repository: &Repository,
    damage: &Damage,
    damaged: &BTreeSet<Id>,
    contents: &[Content],
    lost: &HashSet<(BlobKind, Id)>,
) {
    let found = findings_of(
        repository,
        &[
            FindingKind::PackMissing,
            FindingKind::PackDamaged,
            FindingKind::Tree,
        ],
    );
    let mut named = BTreeSet::new();
    for kind in [FindingKind::PackMissing, FindingKind::PackDamaged] {
        named.extend(found.get(&kind).into_iter().flatten().cloned());
    }
    let expected: BTreeSet<_> = damaged.iter().map(|id| format!("pack {id}")).collect();
    assert_eq!(named, expected);
    if damage.what == "missing" {
        assert!(!found.contains_key(&FindingKind::PackDamaged));
    } else {
        assert_eq!(found[&FindingKind::PackDamaged], expected);
    }
    // A tree below a lost tree is not reached, so that at least the topmost are named.
    let trees: BTreeSet<String> = contents
        .iter()
        .flat_map(|content| content.above.iter().chain(content.dirs.values()))
        .filter(|id| lost.contains(&(BlobKind::Tree, **id)))
        .map(|id| format!("tree {id} "))
        .collect();
    let named = found.get(&FindingKind::Tree).cloned().unwrap_or_default();
    assert_eq!(named.is_empty(), trees.is_empty());
    for finding in named {
        assert!(
            trees.iter().any(|tree| finding.starts_with(tree)),
            "{finding}"
        );
    }
}

#[test]
fn a_blob_that_lies_in_another_pack_too_is_read_from_there() {
    let fixture = Fixture::new(7);
    let packs = blobs_by_pack(&fixture);
    // A writer that knows of nothing stores everything again.
    let repository = open(fixture.backend.clone()).unwrap();
    back_up_with_index(
        &repository,
        &fixture.first.1,
        RwLock::new(Index::new()),
        &Seen::default(),
    )
    .unwrap();
    back_up_with_index(
        &repository,
        &fixture.second.1,
        RwLock::new(Index::new()),
        &Seen::default(),
    )
    .unwrap();
    for (id, blobs) in packs
        .iter()
        .filter(|(_, blobs)| blobs[0].0 == BlobKind::Data)
    {
        let name = FileName::new(FileKind::Pack, *id);
        let content = fixture.content(name);
        let offsets = [(
            "a body".to_owned(),
            usize::midpoint(blobs[0].2.start, blobs[0].2.end),
        )];
        for damage in damages(name, &content, None, &offsets) {
            let _note = Note::new(format!("pack {id}, {}", damage.what));
            let damaged = open(damage.apply(&fixture.backend)).unwrap();
            assert_all_restores(&damaged, &fixture, None);
            let found = findings_of(
                &damaged,
                &[FindingKind::PackMissing, FindingKind::PackDamaged],
            );
            assert!(
                found
                    .values()
                    .flatten()
                    .all(|what| *what == format!("pack {id}"))
            );
            assert!(!found.is_empty(), "two copies do not make the damage good");
        }
    }
}

#[test]
fn a_restore_over_what_is_right_needs_no_pack() {
    let fixture = Fixture::new(8);
    let packs = blobs_by_pack(&fixture);
    let backend = fixture.backend.fork();
    for (id, _) in packs
        .iter()
        .filter(|(_, blobs)| blobs[0].0 == BlobKind::Data)
    {
        backend.remove(FileName::new(FileKind::Pack, *id)).unwrap();
    }
    let repository = open(backend).unwrap();
    let to = fixture.scratch.path().join("in place");
    copy(&fixture.second.1, &to);
    // A file with several names is written anew, because writing through one would change the others.
    std::fs::remove_file(to.join("a/hard link")).unwrap();
    let seen = Seen::default();
    restore(
        &repository,
        fixture.second.0,
        &fixture.tree,
        &to,
        |o| o.delete = true,
        &seen,
    )
    .unwrap();
    assert_eq!(seen.problems(), Vec::<String>::new());
    // Where the first state differs, each file is named, and what is there is not deleted.
    let over = fixture.scratch.path().join("over the first state");
    copy(&fixture.first.1, &over);
    std::fs::remove_file(over.join("a/hard link")).unwrap();
    let seen = Seen::default();
    let outcome = restore(
        &repository,
        fixture.second.0,
        &fixture.tree,
        &over,
        |o| o.delete = true,
        &seen,
    )
    .unwrap();
    assert_eq!(outcome.deleted, 0);
    let problems = seen.problems();
    for number in 0..4 {
        let name = format!("new/file {number}");
        assert!(problems.iter().any(|p| p.contains(&name)), "{problems:?}");
    }
    assert!(over.join("a/file 1").exists());
    same().assert_same(&fixture.second.1, &to);
}

#[test]
fn what_is_saved_of_a_file_has_its_length_with_zeros_for_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let content = Random::new(3).bytes(12 << 20);
    std::fs::write(tree.join("large"), &content).unwrap();
    let backend = MemoryBackend::new();
    let repository = init(backend.clone());
    let made = back_up(&repository, &tree, &Seen::default()).unwrap();
    let cancel = lifeboat_flow::Cancel::new();
    let (index, _) = repository.load_index(PackListing::Skip, &cancel).unwrap();
    let reader = BlobReader::new(&repository, &index);
    let path = tree.to_string_lossy().into_owned();
    let root = lifeboat_protect::subfolder(&reader, made.tree, path.as_bytes()).unwrap();
    let blobs = reader.tree(root).unwrap().nodes[0].content.clone().unwrap();
    assert!(blobs.len() > 1, "the file has several blobs");
    let last = index.find(BlobKind::Data, blobs.last().unwrap()).unwrap();
    backend
        .remove(FileName::new(FileKind::Pack, last.pack))
        .unwrap();
    let to = dir.path().join("restored");
    let seen = Seen::default();
    let outcome = restore(
        &repository,
        made.snapshot.unwrap(),
        &tree,
        &to,
        |_| {},
        &seen,
    )
    .unwrap();
    assert!(outcome.problems > 0);
    let names: Vec<PathBuf> = std::fs::read_dir(&to)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let saved = std::fs::read(&names[0]).unwrap();
    assert!(!names[0].ends_with("large"), "not under its own name");
    let mut expected = content;
    let mut at = 0;
    for blob in &blobs {
        let place = index.find(BlobKind::Data, blob).unwrap();
        let end = at + usize::try_from(place.plain_bytes()).unwrap();
        if place.pack == last.pack {
            expected[at..end].fill(0);
        }
        at = end;
    }
    assert!(saved == expected, "what was lost is zero, and nothing else");
}
