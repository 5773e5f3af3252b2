//! `lifeboat repo dump`: a file of a snapshot, or a directory of it as a tar archive.
//! It must never end well after less than everything was written.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use lifeboat_flow::Cancel;
use lifeboat_format::{BlobKind, Id, Node, NodeKind};
use lifeboat_plan::{check_node_name, clean_path};
use lifeboat_protect::ProtectError;
use lifeboat_repo::{BlobReader, PackListing, RepoError};

use super::near_path::{hint, subfolder};
use super::node_view::named;
use super::out::Out;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::tar_entry::TarEntries;
use super::tree_walk::TreeWalk;
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Write a file of a snapshot, or a directory of it as an archive, to standard output
///
/// Paths in the archive begin at the top of the snapshot, or at DIR. Examples:
///   lifeboat repo dump latest /etc/hosts
///   lifeboat repo dump latest:/srv/www / | tar -C /tmp/www -x
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Dump {
    /// The snapshot: an ID, `latest`, `latest~1`, or with a directory of it as ID:DIR
    #[arg(value_name = "SNAPSHOT[:DIR]")]
    snapshot: String,
    /// The file or directory, with its whole path in the snapshot; `/` for everything
    #[arg(value_name = "FILE")]
    file: OsString,
    /// The form of archives
    #[arg(short, long, value_enum, default_value = "tar", value_name = "FORMAT")]
    archive: Archive,
    /// Write into this file, which gets its name when it is whole
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// The form of an archive.
#[derive(Clone, Copy, ValueEnum)]
enum Archive {
    /// POSIX.1-2001, which every tar of today reads
    Tar,
}

impl Dump {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let session = Session::open(global, ui, Locking::Read)?;
        let mut out = match &self.target {
            Some(path) => Out::file(ui, path)?,
            None => Out::stdout(ui),
        };
        let outcome = self.dump(&session, ui, &mut out);
        let outcome = outcome
            .map_err(|failure| failure.while_doing(format_args!("dump {}", self.file.display())));
        out.end(outcome)
    }

    fn dump(&self, session: &Session, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let found = select::one(session, ui, &self.snapshot, &self.filter.filter())?;
        let (index, _) = session.index(ui, PackListing::Skip)?;
        let reader = BlobReader::new(&session.repository, &index);
        let root = subfolder(&reader, found.snapshot.tree, &found.subfolder)?;
        let path = clean_path(&[b"/", self.file.as_bytes()].concat());
        let contents = Contents {
            reader: &reader,
            cancel: &session.cancel,
        };
        let tree = match find(&reader, root, &path)? {
            Place::File(node) => {
                contents.check(&node)?;
                contents.write(&node, out)?;
                return Ok(Exit::Done);
            }
            Place::Dir(tree) => tree,
        };
        if self.target.is_none() && std::io::stdout().is_terminal() {
            return Err(
                Failure::new("it is a directory, and a terminal can't show an archive")
                    .hint("redirect the output or name a file with --target"),
            );
        }
        match self.archive {
            Archive::Tar => tar(
                &contents,
                TreeWalk::below(&reader, tree, &path, &session.cancel),
                ui,
                out,
            ),
        }
    }
}

enum Place {
    File(Box<Node>),
    Dir(Id),
}

/// What is at a path.
fn find(reader: &BlobReader<'_>, root: Id, path: &[u8]) -> Result<Place, Failure> {
    let Some((above, name)) = path.strip_prefix(b"/").and_then(|path| {
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = slash.map_or((&b""[..], path), |at| {
            (
                path.get(..at).unwrap_or_default(),
                path.get(at + 1..).unwrap_or_default(),
            )
        });
        (!name.is_empty()).then_some((above, name))
    }) else {
        return Ok(Place::Dir(root));
    };
    let found = lifeboat_protect::subfolder(reader, root, above);
    let tree = found.map_err(|error| match error {
        ProtectError::NotInSnapshot(_) => {
            Failure::from(error).hint(hint(reader, root, path, false))
        }
        other => other.into(),
    })?;
    let tree = reader.tree(tree)?;
    let node = tree.find(name).ok_or_else(|| {
        Failure::new("it is not in the snapshot").hint(hint(reader, root, path, false))
    })?;
    match (&node.kind, node.subtree) {
        (NodeKind::File, _) => Ok(Place::File(Box::new(node.clone()))),
        (NodeKind::Dir, Some(tree)) => Ok(Place::Dir(tree)),
        (kind, _) => Err(Failure::new(format!(
            "it is neither a file nor a directory but a {}",
            kind.word()
        ))),
    }
}

/// Reads the content of files.
struct Contents<'a, 'r> {
    reader: &'a BlobReader<'r>,
    cancel: &'a Cancel,
}

impl Contents<'_, '_> {
    /// Whether the blobs of a file are known and have its size: an archive says the size before the content.
    fn check(&self, node: &Node) -> Result<(), Failure> {
        let kind = BlobKind::Data;
        let mut bytes = 0u64;
        for id in node.content.iter().flatten() {
            let size = self
                .reader
                .index()
                .plain_bytes(kind, id)
                .ok_or(RepoError::BlobUnknown { kind, id: *id })?;
            bytes = bytes.saturating_add(size);
        }
        if bytes == node.size_bytes {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the snapshot says that it has {} bytes, its content has {bytes}",
            node.size_bytes
        )))
    }

    fn write(&self, node: &Node, out: &mut Out<'_>) -> Result<(), Failure> {
        let mut blob = Vec::new();
        for id in node.content.iter().flatten() {
            self.cancel.check()?;
            self.reader.read(BlobKind::Data, *id, &mut blob)?;
            out.write(&blob)?;
        }
        Ok(())
    }
}

/// Writes everything on a walk as a tar archive.
///
/// What an archive can't hold is named and left out. Once an entry is begun there is no way back, so that a blob that
/// can't be read ends the archive there.
fn tar(
    contents: &Contents<'_, '_>,
    mut walk: TreeWalk<'_, '_>,
    ui: &Ui,
    out: &mut Out<'_>,
) -> Outcome {
    let mut entries = TarEntries::default();
    let (mut left_out, mut sockets) = (0u64, 0u64);
    while let Some(seen) = walk.step()? {
        let shown = named(seen.path);
        let is_wrong = match check_node_name(&seen.node.name) {
            Err(error) => Some(error.to_string()),
            Ok(()) if seen.is_repeated => Some("its directory names it twice".to_owned()),
            Ok(()) if seen.node.kind == NodeKind::File => contents
                .check(seen.node)
                .err()
                .map(|failure| failure.message),
            Ok(()) => None,
        };
        if let Some(why) = is_wrong {
            ui.warn(format_args!("{shown} is left out: {why}"));
            left_out += 1;
            walk.skip();
            continue;
        }
        let path = seen.path.strip_prefix(b"/").unwrap_or(seen.path);
        let Some(head) = entries.head(path, seen.node) else {
            if seen.node.kind == NodeKind::Socket {
                sockets += 1;
            } else {
                ui.warn(format_args!(
                    "{shown} is left out: no archive knows what a {:?} is",
                    seen.node.kind.word()
                ));
                left_out += 1;
            }
            continue;
        };
        out.write(&head.bytes)?;
        if head.content_bytes > 0 {
            contents
                .write(seen.node, out)
                .map_err(|failure| failure.while_doing(&shown))?;
            out.write(TarEntries::padding(head.content_bytes))?;
        }
    }
    out.write(TarEntries::END)?;
    if sockets > 0 && ui.verbose > 0 {
        ui.warn(format_args!(
            "{} are left out: an archive can't hold them",
            format::count(sockets, "socket")
        ));
    }
    if left_out > 0 {
        return Err(Failure::new(format!(
            "{} are left out of the archive; they are named above",
            format::count(left_out, "entry")
        )));
    }
    Ok(Exit::Done)
}
