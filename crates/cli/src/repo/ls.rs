//! `lifeboat repo ls`: what is in a snapshot.
//! It must never pass over a directory that can't be read in silence.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, ValueEnum};
use lifeboat_format::{Id, Node, Snapshot};
use lifeboat_plan::clean_path;
use lifeboat_repo::{BlobReader, PackListing};
use serde_json::Value;

use super::ls_ncdu::Ncdu;
use super::near_path::subfolder;
use super::node_view::{self, LongForm, named};
use super::out::Out;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::snapshots::to_json;
use super::tree_walk::{TreeWalk, Unread};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// List the entries of a snapshot
///
/// Examples:
///   lifeboat repo ls latest
///   lifeboat repo ls --long latest /srv/vaultwarden
///   lifeboat repo ls --sort size --reverse latest:/srv
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Ls {
    /// The snapshot: an ID, `latest`, `latest~1`, or with a directory of it as ID:DIR
    #[arg(value_name = "SNAPSHOT[:DIR]")]
    snapshot: String,
    /// List only these directories, given with their whole path in the snapshot
    #[arg(value_name = "DIR")]
    dirs: Vec<OsString>,
    /// Show permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Go into the directories below those given
    #[arg(long)]
    recursive: bool,
    /// Show sizes with units
    #[arg(long)]
    human_readable: bool,
    /// The order
    #[arg(short, long, value_enum, default_value = "name", value_name = "BY")]
    sort: Sort,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Write what `ncdu -f -` reads
    #[arg(long, conflicts_with = "reverse")]
    ncdu: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// By what a listing is sorted; the same are sorted by path.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// As the snapshot has them: by name in each directory
    Name,
    /// By size
    Size,
    /// By time of the last change of content
    #[value(alias = "time")]
    Mtime,
    /// By time of the last access
    Atime,
    /// By time of the last change of the inode
    Ctime,
    /// By what follows the last dot of the name
    Extension,
}

impl Ls {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut out = Out::stdout(ui);
        let outcome = self.list(global, ui, &mut out);
        out.end(outcome)
    }

    fn list(&self, global: &Global, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let dirs = self.dirs()?;
        if self.ncdu && (ui.json || self.sort != Sort::Name) {
            return Err(Failure::new(
                "--ncdu is a form and an order of its own, which --json and --sort can't change",
            ));
        }
        let session = Session::open(global, ui, Locking::Read)?;
        let found = select::one(&session, ui, &self.snapshot, &self.filter.filter())?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let root = subfolder(&reader, found.snapshot.tree, &found.subfolder)?;
        let show = Show {
            json: ui.json,
            long: self.long.then(|| LongForm::new(self.human_readable)),
        };
        let mut ncdu = self.ncdu.then(Ncdu::default);
        match &ncdu {
            Some(ncdu) => ncdu.begin(out, &found.snapshot, root)?,
            None => show.head(out, found.id, &found.snapshot, root)?,
        }
        let mut unread = Unread::default();
        let mut sorted = Vec::new();
        let is_sorted = self.sort != Sort::Name || self.reverse;
        let mut met = vec![false; dirs.len()];
        let mut walk = TreeWalk::new(&reader, root, &session.cancel);
        loop {
            let seen = match walk.step() {
                Ok(Some(seen)) => seen,
                Ok(None) => break,
                Err(failure) => {
                    unread.name(ui, failure)?;
                    continue;
                }
            };
            for (dir, met) in dirs.iter().zip(&mut met) {
                *met |= dir == seen.path;
            }
            let is_wanted = dirs.is_empty() || dirs.iter().any(|dir| is_within(dir, seen.path));
            let leads_on = dirs.is_empty() || dirs.iter().any(|dir| is_within(seen.path, dir));
            match &mut ncdu {
                Some(ncdu) if is_wanted || leads_on => ncdu.node(out, seen.depth, seen.node)?,
                None if is_wanted && is_sorted => {
                    sorted.push((seen.path.to_vec(), lean(seen.node)))
                }
                None if is_wanted => show.node(out, seen.path, seen.node)?,
                _ => {}
            }
            if !(leads_on || is_wanted && self.recursive) {
                walk.skip();
            }
        }
        if is_sorted {
            sorted.sort_by(|a, b| self.sort.compare(a, b));
            if self.reverse {
                sorted.reverse();
            }
        }
        for (path, node) in &sorted {
            show.node(out, path, node)?;
        }
        if let Some(ncdu) = &mut ncdu {
            ncdu.end(out)?;
        }
        let exit = unread.end()?;
        match dirs
            .iter()
            .zip(met)
            .find(|(dir, met)| !met && dir.as_slice() != b"/")
        {
            Some((dir, _)) => Err(Failure::new(format!(
                "list {}: it is not in snapshot {}",
                named(dir),
                found.id.short()
            ))
            .hint("`lifeboat repo ls SNAPSHOT` lists everything that is in it")),
            None => Ok(exit),
        }
    }

    fn dirs(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let one = |dir: &OsString| match dir.as_bytes() {
            path @ [b'/', ..] => Ok(clean_path(path)),
            _ => Err(Failure::new(format!(
                "list {}: it does not begin with a slash",
                dir.display()
            ))
            .hint(
                "give directories with their whole path, as a listing of the snapshot shows them",
            )),
        };
        self.dirs.iter().map(one).collect()
    }
}

/// How entries are shown.
struct Show {
    json: bool,
    long: Option<LongForm>,
}

impl Show {
    fn head(
        &self,
        out: &mut Out<'_>,
        id: Id,
        snapshot: &Snapshot,
        root: Id,
    ) -> Result<(), Failure> {
        if !self.json {
            let Snapshot {
                paths,
                time,
                username,
                hostname,
                ..
            } = snapshot;
            return out.say(format!(
                "snapshot {} of {} at {time} by {username}@{hostname}:",
                id.short(),
                paths.join(", ")
            ));
        }
        let mut object = to_json(id, snapshot);
        if let Some(object) = object.as_object_mut() {
            object.insert("tree".into(), root.to_string().into());
            object.insert("message_type".into(), "snapshot".into());
            object.insert("struct_type".into(), "snapshot".into());
        }
        out.line(object.to_string())
    }

    fn node(&self, out: &mut Out<'_>, path: &[u8], node: &Node) -> Result<(), Failure> {
        if self.json {
            let object: Value = node_view::ls_object(path, node);
            return out.line(object.to_string());
        }
        out.line(node_view::line(
            path,
            node,
            self.long.as_ref(),
            out.is_terminal,
        ))
    }
}

impl Sort {
    fn compare(
        self,
        (path, node): &(Vec<u8>, Node),
        (other_path, other): &(Vec<u8>, Node),
    ) -> Ordering {
        let order = match self {
            // The walk's own order.
            Self::Name => return Ordering::Equal,
            Self::Size => node.size_bytes.cmp(&other.size_bytes),
            Self::Mtime => node.modified.cmp(&other.modified),
            Self::Atime => node.accessed.cmp(&other.accessed),
            Self::Ctime => node.changed.cmp(&other.changed),
            Self::Extension => extension(&node.name).cmp(extension(&other.name)),
        };
        order.then_with(|| path.cmp(other_path))
    }
}

/// From the last dot of a name on, as Go's `filepath.Ext`.
fn extension(name: &[u8]) -> &[u8] {
    let dot = name.iter().rposition(|byte| *byte == b'.');
    dot.and_then(|at| name.get(at..)).unwrap_or_default()
}

/// Whether a path is a directory or lies in it.
fn is_within(dir: &[u8], path: &[u8]) -> bool {
    dir == b"/"
        || path
            .strip_prefix(dir)
            .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

/// What a listing shows of an entry, without what may be large.
fn lean(node: &Node) -> Node {
    let mut lean = Node::bare(&node.name, node.kind.clone());
    lean.link_target.clone_from(&node.link_target);
    Node {
        mode: node.mode,
        modified: node.modified,
        accessed: node.accessed,
        changed: node.changed,
        uid: node.uid,
        gid: node.gid,
        inode: node.inode,
        size_bytes: node.size_bytes,
        ..lean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_holds_itself_and_what_is_below() {
        for (dir, path, within) in [
            ("/", "/a", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/ab", false),
            ("/a/b", "/a", false),
        ] {
            assert_eq!(
                is_within(dir.as_bytes(), path.as_bytes()),
                within,
                "{dir} {path}"
            );
        }
    }

    #[test]
    fn extensions_begin_with_the_last_dot() {
        assert_eq!(
            (
                extension(b"a.tar.gz"),
                extension(b".hidden"),
                extension(b"none")
            ),
            (&b".gz"[..], &b".hidden"[..], &b""[..])
        );
    }
}
