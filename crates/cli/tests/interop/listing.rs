//! What `ls --json` lists, against what the file system says, in a form in which both can be compared.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lifeboat_testkit::restic::Said;
use serde_json::Value;

use crate::common::objects;

/// The nodes of a listing.
pub(crate) fn listed(said: &Said) -> Vec<String> {
    let nodes = objects(said);
    let is_node = |object: &&Value| object["struct_type"] == "node";
    let mut lines: Vec<String> = nodes.iter().filter(is_node).map(line).collect();
    lines.sort();
    lines
}

fn line(node: &Value) -> String {
    let time: Timestamp = node["mtime"].as_str().unwrap().parse().unwrap();
    format!(
        "{} {} {}:{} {} bytes, {}",
        collapsed(node["path"].as_str().unwrap()),
        node["type"].as_str().unwrap(),
        node["uid"],
        node["gid"],
        node["size"].as_u64().unwrap_or(0),
        time.as_nanosecond()
    )
}

/// The nodes that a listing of a backup of `.` in this directory must have.
pub(crate) fn walked(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let found = path.symlink_metadata().unwrap();
            let kind = found.file_type();
            // Sockets are left out of backups.
            if kind.is_socket() {
                continue;
            }
            if kind.is_dir() {
                pending.push(path.clone());
            }
            lines.push(walked_line(root, path, &found));
        }
    }
    lines.sort();
    lines
}

fn walked_line(root: &Path, path: PathBuf, found: &fs::Metadata) -> String {
    let kind = found.file_type();
    let name = if kind.is_dir() {
        "dir"
    } else if kind.is_file() {
        "file"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_block_device() {
        "dev"
    } else {
        "chardev"
    };
    let size_bytes = if kind.is_file() { found.len() } else { 0 };
    let below = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
    let nanoseconds = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    format!(
        "/{} {name} {}:{} {size_bytes} bytes, {nanoseconds}",
        collapsed(&String::from_utf8_lossy(below)),
        found.uid(),
        found.gid(),
    )
}

/// Go replaces each byte that is no UTF-8 by one character, Rust each beginning of one: any number counts as one.
fn collapsed(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if letter != char::REPLACEMENT_CHARACTER || !out.ends_with(letter) {
            out.push(letter);
        }
    }
    out
}
