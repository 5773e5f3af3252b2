//! Which entries of a volume are read, as far as the file system has to be asked.
//! It must never decide about a target that the user named: that is read whatever the rules say.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use lifeboat_flow::EntryKind;
use rustix::fs::Stat;

use super::metadata::{kind_of, size_of};
use super::tagged::tags_of;
use super::{DirTag, VolumeOptions};

/// What decides about the entries of a volume.
#[derive(Debug)]
pub(crate) struct Rules {
    options: VolumeOptions,
    /// The file system of each target by its absolute path.
    devices: HashMap<PathBuf, u64>,
}

/// What decides about the entries of one directory.
pub(crate) struct DirRules<'a> {
    rules: &'a Rules,
    /// Tags that it has: only entries that are all of them are wanted.
    tags: Vec<&'a [u8]>,
    /// The file system that entries must be on: that of the nearest target.
    device: Option<u64>,
    /// Whether the directory itself is on it: then mount points in it are wanted as directories.
    is_on_device: bool,
}

impl Rules {
    pub(crate) fn new(mut options: VolumeOptions, devices: HashMap<PathBuf, u64>) -> Self {
        if options.exclude_caches {
            options.exclude_if_present.push(DirTag::cache());
        }
        Self { options, devices }
    }

    /// For the entries of an open directory at an absolute path.
    pub(crate) fn of_dir(&self, dir: impl AsFd, path: &Path) -> DirRules<'_> {
        let tags = tags_of(&dir, &self.options.exclude_if_present);
        let nearest = || {
            path.ancestors()
                .find_map(|ancestor| self.devices.get(ancestor))
        };
        let device = self
            .options
            .one_file_system
            .then(nearest)
            .flatten()
            .copied();
        let is_on_device = device
            .is_none_or(|device| rustix::fs::fstat(dir).is_ok_and(|stat| stat.st_dev == device));
        DirRules {
            rules: self,
            tags,
            device,
            is_on_device,
        }
    }
}

impl DirRules<'_> {
    /// Whether an entry of this name may be wanted, before it is looked at.
    pub(crate) fn lets_name(&self, name: &[u8]) -> bool {
        self.tags.iter().all(|tag| *tag == name)
    }

    /// Whether an entry is wanted.
    pub(crate) fn lets(&self, path: &Path, stat: &Stat) -> bool {
        let Some(kind) = kind_of(stat) else {
            return false;
        };
        let is_dir = kind == EntryKind::Dir;
        // A target inside another may be on a file system of its own.
        let device = self
            .device
            .map(|device| self.rules.devices.get(path).copied().unwrap_or(device));
        if device.is_some_and(|device| device != stat.st_dev) && !(is_dir && self.is_on_device) {
            return false;
        }
        let options = &self.rules.options;
        if !is_dir
            && options
                .exclude_larger_than_bytes
                .is_some_and(|limit| size_of(stat) > limit)
        {
            return false;
        }
        let size_bytes = if kind == EntryKind::File {
            size_of(stat)
        } else {
            0
        };
        options
            .select
            .as_ref()
            .is_none_or(|select| select(path, kind, size_bytes))
    }
}
