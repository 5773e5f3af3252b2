//! `lifeboat repo recover`: makes a snapshot of directories that no snapshot leads to any more.
//! It must never change or remove anything that is there: it adds one snapshot.

use std::sync::{PoisonError, RwLock};

use clap::Args;
use lifeboat_flow::{Counters, Event, EventSink, Problem};
use lifeboat_format::{BlobKind, Id, Snapshot};
use lifeboat_repo::{Identity, Ingest, IngestOptions, PackListing, RepoError, now, recovered_tree};
use serde_json::json;

use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::progress::{self, Shown, workers};
use crate::ui::Ui;

/// The path of the snapshot (restic's).
const PATH: &str = "/recover";
/// Its tag (restic's).
const TAG: &str = "recovered";

/// Make a snapshot of directories that no snapshot leads to any more
///
/// For when a snapshot was forgotten by mistake, or its file was lost. Each such directory, as the top of a forgotten
/// snapshot, is a directory of the new snapshot, named by its ID. What a prune has only marked comes back too; what it
/// has deleted can't.
///
/// Example: lifeboat repo recover --dry-run
#[derive(Args)]
pub struct Recover {
    /// Say what would be recovered and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Recover {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let locking = match self.dry_run {
            true => Locking::Read,
            false => Locking::Exclusive,
        };
        let session = Session::open(global, ui, locking)?;
        let snapshots = session.snapshots(ui)?;
        let (mut index, report) = session.index(ui, PackListing::Compare)?;
        let unindexed = session
            .repository
            .read_unindexed(&mut index, &report, &session.cancel)?;
        let marked = session
            .repository
            .read_marked(&mut index, &report, &session.cancel)?;
        for (id, why) in unindexed.unreadable.iter().chain(&marked.unreadable) {
            unread(ui, format!("pack {}", id.short()), why);
        }
        if !unindexed.packs.is_empty() {
            let packs = format::count(unindexed.packs.len() as u64, "pack");
            ui.say(format_args!("{packs} in no index file, searched as well"));
        }
        if !marked.packs.is_empty() {
            let packs = format::count(marked.packs.len() as u64, "pack");
            ui.say(format_args!(
                "{packs} marked to be deleted by a prune, searched as well"
            ));
        }
        let counters = Counters::default();
        let shown = Shown {
            noun: "trees",
            stored: false,
            totals_known: false,
        };
        let threads = session.repository.backend().connections().max(workers());
        let found = progress::during(ui, &counters, shown, || {
            session.repository.find_lost_roots(
                &index,
                &snapshots,
                threads,
                &counters,
                &session.cancel,
            )
        })?;
        for (id, why) in &found.unreadable {
            unread(ui, format!("tree {}", id.short()), why);
        }
        for root in &found.roots {
            if ui.json {
                ui.object(&json!({"message_type": "root", "tree": root.to_string()}));
            } else if self.dry_run || ui.verbose > 0 {
                ui.say(format_args!("tree {} has no snapshot", root.short()));
            }
        }
        let mut saved = None;
        if !self.dry_run && !found.roots.is_empty() {
            // What the new snapshot leads to must be indexed, without a mark, before it is written.
            let mut packs = unindexed.packs;
            packs.extend(marked.packs);
            session
                .repository
                .index_packs(packs, session.lock.as_ref(), &session.cancel)?;
            saved = Some(save(&session, RwLock::new(index), &found.roots)?);
        }
        let roots = format::count(found.roots.len() as u64, "directory");
        let trees = format::count(found.trees, "tree");
        if ui.json {
            ui.object(&json!({"message_type": "summary", "dry_run": self.dry_run, "trees": found.trees, "roots": found.roots.len(), "unreadable_trees": found.unreadable.len(), "snapshot_id": saved.map(|id: Id| id.to_string())}));
        }
        match (saved, found.roots.is_empty()) {
            (Some(id), _) => ui.say(format_args!(
                "snapshot {} saved with {roots}, of {trees} in the repository",
                id.short()
            )),
            (None, true) => ui.say(format_args!("every one of {trees} belongs to a snapshot")),
            (None, false) => ui.say(format_args!("dry run: {roots} would be recovered")),
        }
        if found.unreadable.is_empty() {
            return Ok(Exit::Done);
        }
        let unread = format::count(found.unreadable.len() as u64, "tree");
        Err(Failure::new(format!("{unread} can't be read"))
            .hint("what lies below them may be among what was recovered"))
    }
}

fn unread(ui: &Ui, path: String, why: &str) {
    ui.event(Event::Problem(Problem {
        path,
        doing: "read".into(),
        why: why.to_owned(),
    }));
}

/// Stores the tree that holds the roots, and the snapshot last.
fn save(
    session: &Session,
    index: RwLock<lifeboat_repo::Index>,
    roots: &[Id],
) -> Result<Id, Failure> {
    let (repository, lock, time) = (&session.repository, session.lock.as_ref(), now());
    {
        let index = index.read().unwrap_or_else(PoisonError::into_inner);
        for root in roots {
            // Noted as relied on, so that they are looked for once more.
            let _ = index.rely(BlobKind::Tree, root);
        }
    }
    let tree = recovered_tree(roots, time);
    let json = tree
        .to_json()
        .map_err(|error| Failure::from_error(&error))?;
    let id = Id::of(&json);
    let options = IngestOptions::default();
    Ingest::run(repository, &index, lock, options, |ingest| {
        let mut sealer = ingest.sealer()?;
        ingest.add(BlobKind::Tree, id, &json, &mut sealer)?;
        Ok::<(), RepoError>(())
    })?;
    repository.confirm_relied(&index)?;
    session.cancel.check()?;
    let who = Identity::of_this_process();
    let snapshot = Snapshot {
        time,
        parent: None,
        tree: id,
        paths: vec![PATH.into()],
        hostname: who.hostname,
        username: who.username,
        uid: who.uid,
        gid: who.gid,
        excludes: Vec::new(),
        tags: vec![TAG.into()],
        original: None,
        whole: None,
        program_version: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).into(),
        summary: None,
    };
    Ok(repository.save_snapshot_under(lock, &snapshot)?)
}
