//! What the commands do with a repository, each as a function that says what came out of it.

use super::*;

/// What came of a command, in words that are the same each time; or why it failed.
pub(crate) type Done = Result<String, String>;

/// One command of the matrix.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Runs it.
    pub(crate) run: fn(&World, &Arc<dyn Backend>) -> Done,
    /// Looks, without faults, whether what was acknowledged is so.
    pub(crate) holds: fn(&World, &MemoryBackend),
    /// Which of the world's snapshots must outlive it.
    pub(crate) keeps: &'static [usize],
}

const BOTH: &[usize] = &[0, 1];
const NOTHING_MORE: fn(&World, &MemoryBackend) = |_, _| {};

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "init",
        run: run_init,
        holds: NOTHING_MORE,
        keeps: &[],
    },
    Command {
        name: "backup",
        run: run_backup,
        holds: backup_holds,
        keeps: BOTH,
    },
    Command {
        name: "restore",
        run: run_restore,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "snapshots",
        run: run_snapshots,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "ls",
        run: run_ls,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "check",
        run: run_check,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "forget",
        run: run_forget,
        holds: forget_holds,
        keeps: &[1],
    },
    Command {
        name: "tag",
        run: run_tag,
        holds: tag_holds,
        keeps: BOTH,
    },
    Command {
        name: "key-add",
        run: run_key_add,
        holds: key_holds,
        keeps: BOTH,
    },
    Command {
        name: "key-passwd",
        run: run_key_passwd,
        holds: key_holds,
        keeps: BOTH,
    },
    Command {
        name: "unlock",
        run: run_unlock,
        holds: unlock_holds,
        keeps: BOTH,
    },
    Command {
        name: "cat",
        run: run_cat,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "dump",
        run: run_dump,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "diff",
        run: run_diff,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "find",
        run: run_find,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
    Command {
        name: "stats",
        run: run_stats,
        holds: NOTHING_MORE,
        keeps: BOTH,
    },
];

fn told<T>(result: Result<T, RepoError>) -> Result<T, String> {
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
fn locked(
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
fn snapshots(repository: &Repository) -> Result<Vec<(Id, Snapshot)>, String> {
    let found = told(repository.snapshots())?;
    match found.damaged.into_iter().next() {
        Some((_, error)) => Err(chain(&error)),
        None => Ok(found.all),
    }
}

fn trees(repository: &Repository) -> Result<String, String> {
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

fn index(repository: &Repository) -> Result<Index, String> {
    let (index, report) = told(repository.load_index(PackListing::Skip, &Cancel::new()))?;
    match report.damaged.into_iter().next() {
        Some((_, error)) => Err(chain(&error)),
        None => Ok(index),
    }
}

/// Calls `each` with the path of every node below a tree.
fn walk(
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
    assert!(
        all.iter()
            .all(|(_, snapshot)| snapshot.tree != world.states[0].0)
    );
}

fn run_tag(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let (repository, lock) = locked(backend, true)?;
    for (id, mut snapshot) in snapshots(&repository)? {
        if snapshot.tags != ["kept"] {
            snapshot.tags = vec!["kept".into()];
            snapshot.original.get_or_insert(id);
            told(lock.ensure())?;
            told(repository.save_snapshot(&snapshot))?;
            told(repository.remove_snapshot(id))?;
        }
    }
    Ok("tagged".into())
}

fn tag_holds(_: &World, left: &MemoryBackend) {
    let all = open(left.clone()).unwrap().snapshots().unwrap().all;
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

fn run_unlock(_: &World, backend: &Arc<dyn Backend>) -> Done {
    let repository = opened(backend)?;
    told(remove_locks(&repository, false))?;
    Ok("unlocked".into())
}

fn unlock_holds(_: &World, left: &MemoryBackend) {
    let repository = open(left.clone()).unwrap();
    assert!(all_locks(&repository).unwrap().is_empty());
}
