//! What the commands do with a repository, each as a function that says what came out of it.

use super::mounted::run_mount;
use super::repairs::{
    check_holds, run_repair_index, run_repair_packs, run_repair_packs_by, run_repair_packs_from,
    run_repair_snapshots, with_a_damaged_pack, with_lost_data, without_a_pack,
    without_an_index_file,
};
use super::upkeep::{
    copy_holds, migrate_holds, of_version_1, prune_holds, recover_holds, rewrite_holds, run_copy,
    run_copy_from, run_migrate, run_prune, run_prune_at_once, run_recover, run_rewrite, with_waste,
};
use super::*;

/// What came of a command, in words that are the same each time; or why it failed.
pub(crate) type Done = Result<String, String>;

type Run = fn(&World, &Arc<dyn Backend>) -> Done;
type Holds = fn(&World, &MemoryBackend);
type Base = fn(&World) -> MemoryBackend;

/// One command of the matrix.
#[derive(Clone, Copy)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Runs it.
    pub(crate) run: Run,
    /// Looks, without faults, whether what was acknowledged is so.
    pub(crate) holds: Holds,
    /// Which of the world's snapshots must outlive it.
    pub(crate) keeps: &'static [usize],
    /// What it begins with.
    pub(crate) base: Base,
    /// Whether that is damaged, and this is to heal it.
    pub(crate) heals: bool,
    /// Whether it changes nothing.
    pub(crate) reads: bool,
}

const BOTH: &[usize] = &[0, 1];

/// A command that changes nothing of which more could be said than that it stays.
const fn reader(name: &'static str, run: Run) -> Command {
    Command {
        reads: true,
        ..writer(name, run, |_, _| {}, BOTH)
    }
}

const fn writer(name: &'static str, run: Run, holds: Holds, keeps: &'static [usize]) -> Command {
    Command {
        name,
        run,
        holds,
        keeps,
        base: |world| world.backend.fork(),
        heals: false,
        reads: false,
    }
}

impl Command {
    const fn beginning_with(self, base: Base) -> Self {
        Self { base, ..self }
    }

    const fn healing(self, base: Base) -> Self {
        Self {
            base,
            heals: true,
            ..self
        }
    }
}

pub(crate) const COMMANDS: &[Command] = &[
    writer("init", run_init, |_, _| {}, &[]).beginning_with(|_| MemoryBackend::new()),
    writer("backup", run_backup, backup_holds, BOTH),
    reader("restore", run_restore),
    reader("snapshots", run_snapshots),
    reader("ls", run_ls),
    reader("check", run_check),
    writer("forget", run_forget, forget_holds, &[1]),
    writer("tag", run_tag, tag_holds, BOTH),
    writer("key-add", run_key_add, key_holds, BOTH),
    writer("key-passwd", run_key_passwd, key_holds, BOTH),
    writer("key-remove", run_key_remove, key_remove_holds, BOTH).beginning_with(with_another_key),
    reader("key-list", run_key_list),
    writer("unlock", run_unlock, unlock_holds, BOTH),
    reader("cat", run_cat),
    reader("dump", run_dump),
    reader("diff", run_diff),
    reader("find", run_find),
    reader("stats", run_stats),
    writer("prune", run_prune, prune_holds, &[1]).beginning_with(with_waste),
    writer("prune-at-once", run_prune_at_once, prune_holds, &[1]).beginning_with(with_waste),
    writer("copy", run_copy, copy_holds, &[]).beginning_with(|world| world.empty.fork()),
    reader("copy-from", run_copy_from),
    writer("rewrite", run_rewrite, rewrite_holds, &[]),
    writer("recover", run_recover, recover_holds, &[1]).beginning_with(with_waste),
    writer("migrate", run_migrate, migrate_holds, &[]).beginning_with(of_version_1),
    writer("repair-index", run_repair_index, check_holds, BOTH).healing(without_an_index_file),
    writer("repair-snapshots", run_repair_snapshots, check_holds, &[]).healing(without_a_pack),
    writer("repair-packs", run_repair_packs, check_holds, BOTH).healing(with_a_damaged_pack),
    writer(
        "repair-packs-from",
        run_repair_packs_from,
        check_holds,
        BOTH,
    )
    .healing(with_lost_data),
    reader("repair-packs-by", run_repair_packs_by),
    reader("mount", run_mount),
    writer("try-delete", run_try_delete, |_, _| {}, BOTH),
];

pub(crate) fn told<T>(result: Result<T, RepoError>) -> Result<T, String> {
    result.map_err(|error| chain(&error))
}

fn opened(backend: &Arc<dyn Backend>) -> Result<Arc<Repository>, String> {
    // Whoever changed the password has the new one in mind.
    let open = |password| Repository::open(Arc::clone(backend), password, None);
    match open(PASSWORD) {
        Err(RepoError::WrongPassword { .. }) => told(open(NEW_PASSWORD).map(Arc::new)),
        other => told(other.map(Arc::new)),
    }
}

/// A repository with its lock, as each command opens one.
pub(crate) fn locked(
    backend: &Arc<dyn Backend>,
    exclusive: bool,
) -> Result<(Arc<Repository>, LockGuard), String> {
    let repository = opened(backend)?;
    let guard = told(lock(&repository, exclusive))?;
    Ok((repository, guard))
}

fn run_init(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let who = Identity::of_this_process();
    let made = Repository::init(Arc::clone(backend), PASSWORD, 2, None, &who, KeyCost::Test);
    match made {
        Ok(_) | Err(RepoError::Exists { .. }) => Ok("it is there".into()),
        Err(error) => Err(chain(&error)),
    }
}

fn run_backup(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let repository = opened(backend)?;
    let seen = Seen::default();
    let outcome = back_up(&repository, &world.tree, &seen).map_err(|error| chain(&error))?;
    if outcome.problems > 0 {
        return Err(format!("problems: {:?}", seen.problems()));
    }
    Ok("a snapshot".into())
}

fn backup_holds(world: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    let all = repository.snapshots().unwrap().all;
    let (_, newest) = all.last().unwrap();
    assert!(all.len() > 2, "the acknowledged snapshot is not there");
    world
        .restored_equals(&repository, newest.tree, &world.now)
        .unwrap();
}

fn run_restore(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    let (tree, state) = &world.states[1];
    world.restored_equals(&repository, *tree, state)?;
    Ok("equal".into())
}

/// All snapshots; one that can't be read is a failure of the command.
pub(crate) fn snapshots(repository: &Repository) -> Result<Vec<(Id, Snapshot)>, String> {
    let found = told(repository.snapshots())?;
    match found.damaged.into_iter().next() {
        Some((_, error)) => Err(chain(&error)),
        None => Ok(found.all),
    }
}

pub(crate) fn trees(repository: &Repository) -> Result<String, String> {
    let all = snapshots(repository)?;
    let lines = all
        .iter()
        .map(|(_, snapshot)| format!("{} {:?}\n", snapshot.tree.short(), snapshot.tags));
    Ok(lines.collect())
}

fn run_snapshots(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    trees(&repository)
}

pub(crate) fn index(repository: &Repository) -> Result<Index, String> {
    let (index, report) = told(repository.load_index(PackListing::Skip, &Cancel::new()))?;
    match report.damaged.into_iter().next() {
        Some((_, error)) => Err(chain(&error)),
        None => Ok(index),
    }
}

/// Calls `each` with the path of every node below a tree.
pub(crate) fn walk(
    reader: &BlobReader<'_>,
    tree: Id,
    path: &str,
    each: &mut dyn FnMut(&str, &Node),
) -> Result<(), String> {
    for node in told(reader.tree(tree))?.nodes {
        let path = format!("{path}/{}", String::from_utf8_lossy(&node.name));
        each(&path, &node);
        if let Some(subtree) = node.subtree {
            walk(reader, subtree, &path, each)?;
        }
    }
    Ok(())
}

/// Calls `each` with every node of one of the world's snapshots.
fn walk_state(
    world: &World,
    backend: &Arc<dyn Backend>,
    state: usize,
    each: &mut dyn FnMut(&str, &Node),
) -> Result<(), String> {
    let (repository, _lock) = locked(backend, false)?;
    let wanted = world.states[state].0;
    let all = snapshots(&repository)?;
    let (_, snapshot) = all
        .iter()
        .find(|(_, snapshot)| snapshot.tree == wanted)
        .ok_or("there is no such snapshot")?;
    let index = index(&repository)?;
    walk(
        &BlobReader::new(&repository, &index),
        snapshot.tree,
        "",
        each,
    )
}

fn run_ls(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let mut lines = String::new();
    walk_state(world, backend, 1, &mut |path, node| {
        lines.push_str(&format!("{path} {}\n", node.size_bytes));
    })?;
    Ok(lines)
}

fn run_find(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let mut hits = String::new();
    for state in 0..world.states.len() {
        walk_state(world, backend, state, &mut |path, node| {
            if node.name == b"file 1" {
                hits.push_str(&format!("{state} {path}\n"));
            }
        })?;
    }
    Ok(hits)
}

fn run_diff(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let mut sides = [BTreeMap::new(), BTreeMap::new()];
    for (state, side) in sides.iter_mut().enumerate() {
        walk_state(world, backend, state, &mut |path, node| {
            side.insert(path.to_owned(), node.content.clone());
        })?;
    }
    let [before, after] = sides;
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    let come = after
        .iter()
        .filter(|(path, content)| before.get(*path) != Some(content));
    let minus = gone.map(|(path, _)| format!("- {path}\n"));
    Ok(minus
        .chain(come.map(|(path, _)| format!("+ {path}\n")))
        .collect())
}

fn run_stats(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let (mut files, mut bytes) = (0, 0);
    walk_state(world, backend, 1, &mut |_, node| {
        files += u64::from(node.kind == NodeKind::File);
        bytes += node.size_bytes;
    })?;
    Ok(format!("{files} files, {bytes} bytes"))
}

fn run_dump(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let mut content = Vec::new();
    walk_state(world, backend, 1, &mut |path, node| {
        if path.ends_with("b/large") {
            content = node.content.clone().unwrap_or_default();
        }
    })?;
    let repository = opened(backend)?;
    let index = index(&repository)?;
    let reader = BlobReader::new(&repository, &index);
    let (mut whole, mut blob) = (Vec::new(), Vec::new());
    for id in content {
        told(reader.read(BlobKind::Data, id, &mut blob))?;
        whole.extend_from_slice(&blob);
    }
    Ok(format!("{} bytes, {}", whole.len(), Id::of(&whole)))
}

fn run_cat(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    let mut all = Id::of(&told(repository.load_json(FileName::CONFIG))?).short();
    for kind in [FileKind::Snapshot, FileKind::Index] {
        for id in told(repository.ids(kind))? {
            let json = told(repository.load_json(FileName::new(kind, id)))?;
            all.push_str(&Id::of(&json).short());
        }
    }
    for kind in [FileKind::Key, FileKind::Pack] {
        for id in told(repository.ids(kind))? {
            let raw = told(repository.load_raw(FileName::new(kind, id)))?;
            all.push_str(&Id::of(&raw).short());
        }
    }
    Ok(all)
}

fn run_check(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    let packs = told(repository.packs())?;
    let options = CheckOptions {
        read_packs: Some(packs.into_keys().collect()),
        threads: 2,
        ..Default::default()
    };
    let report = told(repository.check(&options, &Counters::default(), &Cancel::new()))?;
    if let Some(finding) = report.findings.first() {
        return Err(finding.to_string());
    }
    Ok(format!(
        "{} snapshots, {} trees, {} packs read",
        report.snapshots, report.trees, report.packs_read
    ))
}

fn run_forget(world: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    for (id, snapshot) in snapshots(&repository)? {
        if snapshot.tree == world.states[0].0 {
            told(lock.ensure())?;
            told(repository.remove_snapshot(id))?;
        }
    }
    Ok("forgotten".into())
}

fn forget_holds(world: &World, left: &MemoryBackend) {
    let all = open(left.clone()).unwrap().snapshots().unwrap().all;
    let trees: Vec<Id> = all.iter().map(|(_, snapshot)| snapshot.tree).collect();
    assert_eq!(trees, [world.states[1].0]);
}

fn run_tag(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    let all = snapshots(&repository)?;
    for (id, mut snapshot) in all.clone() {
        if snapshot.tags != ["kept"] {
            snapshot.tags = vec!["kept".into()];
            snapshot.original.get_or_insert(id);
            // As the command does: whose old one could not be removed is not stored once more.
            let earlier = all.iter().find(|(_, known)| *known == snapshot);
            let new = match earlier {
                Some((earlier, _)) => *earlier,
                None => told(repository.save_snapshot_under(Some(&lock), &snapshot))?,
            };
            told(lock.ensure())?;
            told(repository.remove_replaced(id, new))?;
        }
    }
    Ok("tagged".into())
}

fn tag_holds(_: &World, left: &MemoryBackend) {
    let all = open(left.clone()).unwrap().snapshots().unwrap().all;
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|(_, snapshot)| snapshot.tags == ["kept"]));
}

fn run_key_add(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let repository = opened(backend)?;
    told(repository.add_key(NEW_PASSWORD, &Identity::default(), KeyCost::Test))?;
    Ok("added".into())
}

fn run_key_passwd(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let mut repository = opened(backend)?;
    let repository = Arc::get_mut(&mut repository).ok_or("it is shared")?;
    let old = repository.key_id();
    let new = told(repository.add_key(NEW_PASSWORD, &Identity::default(), KeyCost::Test))?;
    repository.use_key(new);
    told(repository.remove_key(old))?;
    Ok("changed".into())
}

fn key_holds(_: &World, left: &MemoryBackend) {
    Repository::open(Arc::new(left.clone()), NEW_PASSWORD, None).unwrap();
}

/// A repository with a second key.
fn with_another_key(world: &World) -> MemoryBackend {
    let left = world.backend.fork();
    let repository = open(left.clone()).unwrap();
    let added = repository.add_key(NEW_PASSWORD, &Identity::default(), KeyCost::Test);
    added.unwrap();
    left
}

fn run_key_remove(_: &World, backend: &Arc<dyn Backend>) -> Done {
    // Not by the key that goes.
    let opened = told(Repository::open(Arc::clone(backend), PASSWORD, None))?;
    let repository = Arc::new(opened);
    let lock = told(lock(&repository, true))?;
    for id in told(repository.ids(FileKind::Key))? {
        if id != repository.key_id() {
            told(lock.ensure())?;
            told(repository.remove_key(id))?;
        }
    }
    Ok("removed".into())
}

fn key_remove_holds(_: &World, left: &MemoryBackend) {
    open(left.clone()).unwrap();
    assert!(Repository::open(Arc::new(left.clone()), NEW_PASSWORD, None).is_err());
}

fn run_key_list(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    let keys = told(repository.ids(FileKind::Key))?;
    Ok(format!("{keys:?}"))
}

fn run_try_delete(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, _lock) = locked(backend, false)?;
    match told(repository.try_delete())? {
        Destroyed::Gone => Ok("gone".into()),
        // The backend does not say so for good, but who asked is told what it said.
        other => Err(format!("{other:?}")),
    }
}

fn run_unlock(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let repository = opened(backend)?;
    told(remove_locks(&repository, false))?;
    // As the command does, which names those that stay.
    match told(all_locks(&repository))?.first() {
        Some((id, _)) => Err(format!("lock {} stays", id.short())),
        None => Ok("unlocked".into()),
    }
}

fn unlock_holds(_: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    assert!(all_locks(&repository).unwrap().is_empty());
}
