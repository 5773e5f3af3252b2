//! `lifeboat repo cat`: the objects of a repository as they are, for whoever wants to look inside.
//! It must never show the keys unless `masterkey` is asked for by that word.

use clap::{Args, ValueEnum};
use lifeboat_format::{BlobKind, Id};
use lifeboat_repo::backend::{FileKind, FileName};
use lifeboat_repo::{BlobReader, PackListing, RepoError};

use super::near_path::subfolder;
use super::out::Out;
use super::pretty_json::pretty_json;
use super::select::{self, Filter};
use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// Longest pack that is shown, in bytes: restic makes none of more than 128 MiB.
const PACK_MAX_BYTES: u64 = 1 << 30;

/// Show an object of the repository as it is
///
/// `masterkey` shows the keys that everything is encrypted with: whoever sees them can read all snapshots.
///
/// Examples:
///   lifeboat repo cat config
///   lifeboat repo cat tree latest:/srv
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Cat {
    /// What it is
    #[arg(value_enum)]
    what: What,
    /// Its ID or the first digits of it; for a tree the snapshot, with a directory as ID:DIR
    #[arg(required_if_eq_any = [("what", "index"), ("what", "snapshot"), ("what", "key"), ("what", "lock"), ("what", "pack"), ("what", "blob"), ("what", "tree")])]
    id: Option<String>,
}

/// What can be shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The repository's version, ID and polynomial
    Config,
    /// An index file
    Index,
    /// A snapshot
    Snapshot,
    /// A key file, whose content is encrypted
    Key,
    /// The keys of the repository, not encrypted
    Masterkey,
    /// A lock
    Lock,
    /// A pack, byte for byte
    Pack,
    /// The content of a blob
    Blob,
    /// The tree of a snapshot or of a directory of it
    Tree,
}

impl Cat {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut out = Out::stdout(ui);
        let outcome = self.show(global, ui, &mut out);
        out.end(outcome)
    }

    fn show(&self, global: &Global, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let session = Session::open(global, ui, Locking::Read)?;
        let repository = &session.repository;
        let id = self.id.as_deref().unwrap_or_default();
        let named = |kind| repository.find(kind, id).map(|id| FileName::new(kind, id));
        match self.what {
            What::Config => out.line(pretty_json(&repository.config().to_json()))?,
            What::Masterkey => out.line(pretty_json(&repository.master().to_json()))?,
            What::Snapshot => {
                let found = select::one(&session, ui, id, &Filter::default())?;
                out.line(pretty_json(&found.snapshot.to_json()))?;
            }
            What::Key => out.line(pretty_json(&repository.load_raw(named(FileKind::Key)?)?))?,
            What::Lock => out.line(pretty_json(&repository.load_json(named(FileKind::Lock)?)?))?,
            What::Index => {
                let json = repository.load_json(named(FileKind::Index)?)?;
                // It may end its own line.
                out.line(json.strip_suffix(b"\n").unwrap_or(&json))?;
            }
            What::Pack => return pack(&session, out, named(FileKind::Pack)?),
            What::Blob => return blob(&session, ui, out, id),
            What::Tree => {
                let found = select::one(&session, ui, id, &Filter::default())?;
                let (index, _) = session.index(ui, PackListing::Skip)?;
                let reader = BlobReader::new(repository, &index);
                let tree = subfolder(&reader, found.snapshot.tree, &found.subfolder)?;
                let mut json = Vec::new();
                reader.read(BlobKind::Tree, tree, &mut json)?;
                out.write(&json)?;
            }
        }
        Ok(Exit::Done)
    }
}

/// A pack is shown even if it is damaged, because that is when somebody wants to see it.
fn pack(session: &Session, out: &mut Out<'_>, name: FileName) -> Outcome {
    let raw = session
        .repository
        .backend()
        .load(name, PACK_MAX_BYTES)
        .map_err(RepoError::from)?;
    out.write(&raw)?;
    let got = Id::of(&raw);
    if got == name.id {
        return Ok(Exit::Done);
    }
    Err(Failure::new(format!(
        "pack {} is damaged: its content, which was shown, has the hash {got}",
        name.id
    ))
    .hint("`lifeboat repo check --read-data` names what is damaged in it"))
}

fn blob(session: &Session, ui: &Ui, out: &mut Out<'_>, digits: &str) -> Outcome {
    let (index, _) = session.index(ui, PackListing::Skip)?;
    let digits = digits.to_ascii_lowercase();
    let mut found: Vec<(BlobKind, Id)> = Vec::new();
    match digits.parse() {
        Ok(id) => found.extend(
            [BlobKind::Data, BlobKind::Tree]
                .into_iter()
                .filter(|kind| index.find(*kind, &id).is_some())
                .map(|kind| (kind, id)),
        ),
        Err(_) => index.each(|kind, id, _| {
            if id.hex().starts_with(digits.as_bytes()) {
                found.push((kind, id));
            }
        }),
    }
    found.sort();
    found.dedup_by_key(|(_, id)| *id);
    let reader = BlobReader::new(&session.repository, &index);
    match found.as_slice() {
        [(kind, id)] => {
            let mut content = Vec::new();
            reader.read(*kind, *id, &mut content)?;
            out.write(&content)?;
            Ok(Exit::Done)
        }
        [] => Err(Failure::new(format!(
            "no blob in the index has an ID that begins with {digits:?}"
        ))),
        several => {
            let shown: Vec<String> = several.iter().take(5).map(|(_, id)| id.short()).collect();
            Err(Failure::new(format!(
                "{} blobs have an ID that begins with {digits:?}: {} …",
                several.len(),
                shown.join(", ")
            ))
            .hint("give more digits"))
        }
    }
}
