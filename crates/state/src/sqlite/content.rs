//! The content of a database while it is stored: a copy of it, or its file as it is.
//! It must never pass off a file as it is for more than that: why it is no copy is among its faults.

use std::fs::File;
use std::io::{self, Read};

use lifeboat_flow::{ChunkRule, Content, Entry, SourceError};

use super::turn::Turn;

/// A copy.
pub(super) struct CopyContent {
    pub(super) file: File,
    /// What the database was before it was copied.
    pub(super) entry: Option<Entry>,
    pub(super) rule: ChunkRule,
    pub(super) faults: Vec<String>,
    pub(super) read_bytes: u64,
}

impl Read for CopyContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read(buf)?;
        self.read_bytes += got as u64;
        Ok(got)
    }
}

impl Content for CopyContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        Ok(self.entry.take().map(|entry| Entry {
            size_bytes: self.read_bytes,
            ..entry
        }))
    }

    fn chunk_rule(&self) -> ChunkRule {
        self.rule
    }

    fn faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }
}

/// A file of which the beginning was read to see what it is.
pub(super) struct BegunContent {
    pub(super) begin: Vec<u8>,
    pub(super) given: usize,
    pub(super) rest: Box<dyn Content>,
    pub(super) fault: Option<String>,
    /// Of a database: until its file is closed.
    pub(super) _turn: Option<Turn>,
}

impl Read for BegunContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.begin.get(self.given..).unwrap_or_default();
        let length = left.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..length), left.get(..length)) {
            to.copy_from_slice(from);
        }
        self.given += length;
        // As much as is asked for, so that a small file still takes two calls.
        match buf.get_mut(length..) {
            Some(more) if !more.is_empty() => match self.rest.read(more) {
                Ok(got) => Ok(length + got),
                Err(_) if length > 0 => Ok(length),
                Err(error) => Err(error),
            },
            _ => Ok(length),
        }
    }
}

impl Content for BegunContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        self.rest.finish()
    }

    fn changed(&self) -> bool {
        self.rest.changed()
    }

    fn chunk_rule(&self) -> ChunkRule {
        self.rest.chunk_rule()
    }

    fn faults(&mut self) -> Vec<String> {
        let mut faults = self.rest.faults();
        faults.extend(self.fault.take());
        faults
    }
}
