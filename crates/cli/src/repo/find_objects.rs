//! Finds the entries that use blobs and trees, given by ID or by the packs that hold them.
//! It must never take a pack that can't be read for an empty one.

use std::collections::{BTreeSet, HashSet};

use jiff::tz::TimeZone;
use lifeboat_format::{BlobKind, Id, Node, NodeKind, Snapshot};
use lifeboat_repo::{BlobReader, Index, chain};
use serde_json::{Map, Value};

use super::node_view::{local_time, shown, text};
use super::out::Out;
use super::session::Session;
use super::tree_walk::{TreeWalk, Unread};
use crate::failure::{Failure, Outcome};
use crate::ui::Ui;

/// What the IDs are of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// Data blobs.
    Blob,
    /// Trees.
    Tree,
    /// Packs, for all that is in them.
    Pack,
}

/// A search.
pub struct Objects<'a> {
    session: &'a Session,
    index: &'a Index,
    ui: &'a Ui,
    data: Ids,
    trees: Ids,
    zone: TimeZone,
    hits: u64,
    /// What was found and what was asked for by its whole ID.
    known: BTreeSet<(BlobKind, Id)>,
}

/// IDs, whole or by their first digits.
#[derive(Default)]
struct Ids {
    whole: HashSet<Id>,
    prefixes: Vec<String>,
}

impl Ids {
    fn has(&self, id: &Id) -> bool {
        self.whole.contains(id)
            || self
                .prefixes
                .iter()
                .any(|prefix| id.hex().starts_with(prefix.as_bytes()))
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.prefixes.is_empty()
    }

    fn parse(texts: &[String]) -> Result<Self, Failure> {
        let mut ids = Self::default();
        for given in texts {
            let given = given.to_ascii_lowercase();
            if given.is_empty()
                || given.len() > Id::BYTES * 2
                || !given.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                return Err(Failure::new(format!("{given:?} is no ID"))
                    .hint("an ID is 64 hexadecimal digits, of which the first few are enough"));
            }
            match given.parse() {
                Ok(id) => {
                    ids.whole.insert(id);
                }
                Err(_) => ids.prefixes.push(given),
            }
        }
        Ok(ids)
    }
}

impl<'a> Objects<'a> {
    /// A search for these IDs.
    pub fn new(
        session: &'a Session,
        index: &'a Index,
        ui: &'a Ui,
        kind: ObjectKind,
        texts: &[String],
    ) -> Result<Self, Failure> {
        let ids = Ids::parse(texts)?;
        let (mut data, mut trees) = (Ids::default(), Ids::default());
        match kind {
            ObjectKind::Blob => data = ids,
            ObjectKind::Tree => trees = ids,
            ObjectKind::Pack => {
                for (kind, id) in blobs_of_packs(session, index, ui, texts)? {
                    let ids = if kind == BlobKind::Data {
                        &mut data
                    } else {
                        &mut trees
                    };
                    ids.whole.insert(id);
                }
            }
        }
        let mut known = BTreeSet::new();
        known.extend(data.whole.iter().map(|id| (BlobKind::Data, *id)));
        known.extend(trees.whole.iter().map(|id| (BlobKind::Tree, *id)));
        Ok(Self {
            session,
            index,
            ui,
            data,
            trees,
            zone: TimeZone::system(),
            hits: 0,
            known,
        })
    }

    /// Looks through snapshots and shows what is found.
    pub fn find(&mut self, out: &mut Out<'_>, snapshots: &[(Id, Snapshot)]) -> Outcome {
        let session = self.session;
        let reader = BlobReader::new(&session.repository, self.index);
        let mut unread = Unread::default();
        for (id, snapshot) in snapshots {
            if self.trees.has(&snapshot.tree) {
                self.hit(
                    out,
                    (BlobKind::Tree, snapshot.tree),
                    b"/",
                    None,
                    *id,
                    snapshot,
                )?;
            }
            let mut walk = TreeWalk::new(&reader, snapshot.tree, &session.cancel);
            loop {
                match walk.step() {
                    Ok(Some(seen)) => {
                        self.look_at(out, seen.path, seen.node, seen.parent, *id, snapshot)?
                    }
                    Ok(None) => break,
                    Err(failure) => unread.name(
                        self.ui,
                        failure.while_doing(format_args!("snapshot {}", id.short())),
                    )?,
                }
            }
            out.flush()?;
        }
        match (self.ui.json, self.hits) {
            (true, 0) => out.line("[]")?,
            (true, _) => out.line("]")?,
            (false, 0) => out.say("no snapshot uses that")?,
            (false, _) => {}
        }
        unread.end()
    }

    fn look_at(
        &mut self,
        out: &mut Out<'_>,
        path: &[u8],
        node: &Node,
        parent: Id,
        id: Id,
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        if let Some(tree) = node.subtree.filter(|tree| self.trees.has(tree)) {
            self.hit(out, (BlobKind::Tree, tree), path, None, id, snapshot)?;
        }
        if node.kind != NodeKind::File || self.data.is_empty() {
            return Ok(());
        }
        for blob in node.content.iter().flatten() {
            if self.data.has(blob) {
                self.hit(
                    out,
                    (BlobKind::Data, *blob),
                    path,
                    Some(parent),
                    id,
                    snapshot,
                )?;
            }
        }
        Ok(())
    }

    fn hit(
        &mut self,
        out: &mut Out<'_>,
        object: (BlobKind, Id),
        path: &[u8],
        parent: Option<Id>,
        id: Id,
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        self.known.insert(object);
        let (kind, object) = (
            if object.0 == BlobKind::Data {
                "blob"
            } else {
                "tree"
            },
            object.1,
        );
        self.hits += 1;
        if !self.ui.json {
            let mut line = format!("{kind} {object} is ").into_bytes();
            line.extend_from_slice(&shown(path, out.is_terminal));
            line.extend_from_slice(
                format!(
                    " in snapshot {} of {}",
                    id.short(),
                    local_time(snapshot.time, &self.zone)
                )
                .as_bytes(),
            );
            if let Some(parent) = parent {
                line.extend_from_slice(format!(", named by tree {}", parent.short()).as_bytes());
            }
            return out.line(line);
        }
        out.write(if self.hits == 1 { b"[" } else { b"," })?;
        let mut value = Map::new();
        value.insert("object_type".into(), kind.into());
        value.insert("id".into(), object.to_string().into());
        value.insert("path".into(), text(path).into());
        if let Some(parent) = parent {
            value.insert("parent_tree".into(), parent.to_string().into());
        }
        value.insert("snapshot".into(), id.to_string().into());
        value.insert("time".into(), snapshot.time.confined().to_string().into());
        out.write(Value::Object(value).to_string().as_bytes())
    }

    /// Shows where the blobs lie.
    pub fn show_packs(&self, out: &mut Out<'_>) -> Result<(), Failure> {
        for (kind, id) in &self.known {
            let places = self.index.find_all(*kind, id);
            if places.is_empty() {
                out.say(format!("{} blob {id} is in no index file", kind.word()))?;
            }
            for place in places {
                out.say(format!(
                    "{} blob {id} lies in pack {}, {} bytes from {} on",
                    kind.word(),
                    place.pack,
                    place.length_bytes,
                    place.offset_bytes
                ))?;
            }
        }
        Ok(())
    }
}

/// What is in packs, by their own headers, or by the index where a pack is gone or damaged.
fn blobs_of_packs(
    session: &Session,
    index: &Index,
    ui: &Ui,
    texts: &[String],
) -> Result<Vec<(BlobKind, Id)>, Failure> {
    let mut found = Vec::new();
    let listed = session.repository.packs()?;
    for prefix in texts {
        session.cancel.check()?;
        let prefix = prefix.to_ascii_lowercase();
        let fits = |id: &Id| id.hex().starts_with(prefix.as_bytes());
        let mut lost = Vec::new();
        let mut packs = 0;
        for (id, size) in listed.iter().filter(|(id, _)| fits(id)) {
            packs += 1;
            match session.repository.pack_header(*id, *size) {
                Ok(blobs) => found.extend(blobs.into_iter().map(|(kind, blob, _)| (kind, blob))),
                Err(error) => {
                    ui.warn(format_args!("the header of pack {} can't be read, so what the index says is in it counts: {}", id.short(), chain(&error)));
                    lost.push(*id);
                }
            }
        }
        if packs == 0 {
            lost = index
                .packs()
                .map(|(id, _)| id)
                .filter(|id| fits(id))
                .collect();
            if let Some(first) = lost.first() {
                ui.warn(format_args!(
                    "pack {} is not there, so what the index says was in it counts",
                    first.short()
                ));
            }
        }
        if packs == 0 && lost.is_empty() {
            return Err(Failure::new(format!(
                "no pack has an ID that begins with {prefix:?}"
            )));
        }
        if !lost.is_empty() {
            index.each(|kind, id, place| {
                if lost.contains(&place.pack) {
                    found.push((kind, id));
                }
            });
        }
    }
    Ok(found)
}
