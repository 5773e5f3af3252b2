//! A listing in the form that `ncdu -f` reads: directories as nested lists.
//! It must never leave a list open: a reader takes it whole or not at all.

use lifeboat_format::{Id, Node, NodeKind, Snapshot};
use serde_json::{Value, json};

use super::node_view::text;
use super::out::Out;
use crate::failure::Failure;

/// Space on a disk is counted in these.
const BLOCK_BYTES: u64 = 512;

/// A listing that is being written (<https://dev.yorhel.nl/ncdu/jsonfmt>).
#[derive(Default)]
pub struct Ncdu {
    /// Directories that are open, without the top.
    open: usize,
}

impl Ncdu {
    /// Begins with the snapshot and the top directory.
    pub fn begin(&self, out: &mut Out<'_>, snapshot: &Snapshot, root: Id) -> Result<(), Failure> {
        let mut about: Value = serde_json::from_slice(&snapshot.to_json()).unwrap_or_default();
        if let Some(about) = about.as_object_mut() {
            about.insert("tree".into(), root.to_string().into());
        }
        out.write(format!("[1, 2, {about}, [{{\"name\":\"/\"}}").as_bytes())
    }

    /// An entry, with the number of directories above it: 1 for what is in the top.
    pub fn node(&mut self, out: &mut Out<'_>, depth: usize, node: &Node) -> Result<(), Failure> {
        self.close(out, depth.saturating_sub(1))?;
        let is_dir = node.kind == NodeKind::Dir;
        let dsize = node
            .size_bytes
            .checked_next_multiple_of(BLOCK_BYTES)
            .unwrap_or(node.size_bytes);
        let object = json!({
            "name": text(&node.name), "asize": node.size_bytes, "dsize": dsize, "dev": node.device_id, "ino": node.inode, "nlink": node.links,
            "notreg": !matches!(node.kind, NodeKind::Dir | NodeKind::File), "uid": node.uid, "gid": node.gid, "mode": node.mode.permissions(),
            // ncdu knows no time before 1970.
            "mtime": node.modified.seconds.max(0),
        });
        let indent = "  ".repeat(self.open + 1);
        let bracket = if is_dir { "[" } else { "" };
        self.open += usize::from(is_dir);
        out.write(format!(",\n{indent}{bracket}{object}").as_bytes())
    }

    /// Ends the listing.
    pub fn end(&mut self, out: &mut Out<'_>) -> Result<(), Failure> {
        self.close(out, 0)?;
        out.write(b"\n]\n]\n")
    }

    fn close(&mut self, out: &mut Out<'_>, open: usize) -> Result<(), Failure> {
        while self.open > open {
            out.write(b"]")?;
            self.open -= 1;
        }
        Ok(())
    }
}
