//! The content of a file of a data directory while it is read from under a running server, its pages compared with their checksums.
//! It must never call a page damaged that the server was only writing, nor pass over one that is.

use std::io::{self, Read};
use std::time::Duration;

use lifeboat_flow::{Cancel, ChunkRule, Content, Entry, SourceError};

use super::page::{PAGE_BYTES, PageState, judge};
use crate::volume::FileContent;

/// How often a page that looks wrong is read again, and how long to wait between two times: a server writes a page in far less.
const LOOKS_MAX: u32 = 10;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Damaged pages that are named, a file; where there are more, it is the file that is damaged.
const FAULTS_NAMED_MAX: usize = 8;

/// What is needed to compare pages with their checksums.
pub(super) struct PageCheck {
    /// The number of the first page in this file: the files of a relation are counted through.
    pub(super) first_block: u32,
    /// The wish to stop.
    pub(super) cancel: Cancel,
}

/// A file that is read as far as it reached when it was opened: what comes later is in the log.
pub(super) struct RelationContent {
    inner: FileContent,
    rule: ChunkRule,
    check: Option<PageCheck>,
    /// Where the next byte comes from.
    at: u64,
    size_bytes: u64,
    /// A page of which a part was given.
    page: Box<[u8; PAGE_BYTES]>,
    page_given: usize,
    faults: Vec<String>,
    faults_more: u64,
}

impl RelationContent {
    pub(super) fn new(inner: FileContent, rule: ChunkRule, check: Option<PageCheck>) -> Self {
        Self {
            size_bytes: inner.size_bytes(),
            inner,
            rule,
            check,
            at: 0,
            page: Box::new([0; PAGE_BYTES]),
            page_given: PAGE_BYTES,
            faults: Vec::new(),
            faults_more: 0,
        }
    }

    /// Fills as much of a buffer as there is, from here on.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.at += got as u64;
        Ok(got)
    }

    /// Compares whole pages that were read from a position on; those that were being written are replaced.
    fn compare(&mut self, pages: &mut [u8], from: u64) -> io::Result<()> {
        let Some(check) = &self.check else {
            return Ok(());
        };
        let (pages, _) = pages.as_chunks_mut::<PAGE_BYTES>();
        for (number, page) in pages.iter_mut().enumerate() {
            let offset = from + (number * PAGE_BYTES) as u64;
            let block = u32::try_from(offset / PAGE_BYTES as u64).unwrap_or(u32::MAX);
            let block = check.first_block.wrapping_add(block);
            if judge(page, block) == PageState::Right {
                continue;
            }
            let looks = match self.faults.len() < FAULTS_NAMED_MAX {
                true => LOOKS_MAX,
                false => 1,
            };
            let Some((said, expected)) =
                look_again(&self.inner, page, offset, block, looks, &check.cancel)?
            else {
                continue;
            };
            if self.faults.len() == FAULTS_NAMED_MAX {
                self.faults_more += 1;
                continue;
            }
            self.faults.push(format!(
                "block {block} is damaged: its checksum is {said:#06x}, and its content has {expected:#06x}"
            ));
        }
        Ok(())
    }
}

/// Reads a page again until it is right. What it says and what it should say, if it stays wrong and nobody writes it.
fn look_again(
    file: &FileContent,
    page: &mut [u8; PAGE_BYTES],
    offset: u64,
    block: u32,
    looks: u32,
    cancel: &Cancel,
) -> io::Result<Option<(u16, u16)>> {
    let (mut now, mut was_written) = ([0; PAGE_BYTES], false);
    for look in 1..=looks {
        if file.read_again(&mut now, offset)? < PAGE_BYTES {
            // The relation was made shorter, and the log says so.
            return Ok(None);
        }
        if now != *page {
            was_written = true;
            *page = now;
        }
        if judge(page, block) == PageState::Right {
            return Ok(None);
        }
        if look < looks {
            cancel.sleep(LOOK_AGAIN_AFTER).map_err(io::Error::other)?;
        }
    }
    match judge(page, block) {
        // Whoever writes it again and again has put it into the log as a whole.
        PageState::Wrong { said, expected, .. } if !was_written => Ok(Some((said, expected))),
        _ => Ok(None),
    }
}

impl Read for RelationContent {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.page.get(self.page_given..).unwrap_or_default();
        if !left.is_empty() {
            let length = left.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..length), left.get(..length)) {
                to.copy_from_slice(from);
            }
            self.page_given += length;
            return Ok(length);
        }
        let left_bytes =
            usize::try_from(self.size_bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let from = self.at;
        if self.check.is_none() || left_bytes < PAGE_BYTES {
            // What is no whole page was caught while the file grew.
            let length = buf.len().min(left_bytes);
            return self.fill(buf.get_mut(..length).unwrap_or_default());
        }
        if buf.len() >= PAGE_BYTES {
            let length = buf.len().min(left_bytes) / PAGE_BYTES * PAGE_BYTES;
            let got = self.fill(buf.get_mut(..length).unwrap_or_default())?;
            self.compare(buf.get_mut(..got).unwrap_or_default(), from)?;
            return Ok(got);
        }
        let mut page = std::mem::replace(&mut self.page, Box::new([0; PAGE_BYTES]));
        let got = self.fill(page.as_mut_slice())?;
        self.compare(page.get_mut(..got).unwrap_or_default(), from)?;
        // A short one goes to the end of the buffer, from where it is given.
        page.rotate_right(PAGE_BYTES - got);
        self.page = page;
        self.page_given = PAGE_BYTES - got;
        match got {
            0 => Ok(0),
            _ => self.read(buf),
        }
    }
}

impl Content for RelationContent {
    fn finish(&mut self) -> Result<Option<Entry>, SourceError> {
        self.inner.finish()
    }

    fn chunk_rule(&self) -> ChunkRule {
        self.rule
    }

    fn faults(&mut self) -> Vec<String> {
        if self.faults_more > 0 {
            self.faults
                .push(format!("{} more blocks are damaged", self.faults_more));
            self.faults_more = 0;
        }
        std::mem::take(&mut self.faults)
    }
}
