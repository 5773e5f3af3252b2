//! What folders of a server hold, many folders at once, because each costs three ways to the server and back.
//! It must never end well when one of them was not read to its end.

use std::collections::VecDeque;
use std::path::Path;

use super::failure::SftpError;
use super::handle::{Handle, names};
use super::packet::Name;
use super::session::{Session, Ticket};

/// How many folders are read at once.
const FOLDERS_AT_ONCE: usize = 32;
/// How many requests are in flight for one folder: at first, and at most when it goes on and on. A server tells about
/// a hundred names at once.
const FIRST_REQUESTS: usize = 2;
const REQUESTS_MAX: usize = 16;

/// Calls `each` with the number of the folder and its entries; with a failure comes the number of the folder.
pub(super) fn list<P: AsRef<Path>>(
    session: &Session,
    folders: &[P],
    each: &mut dyn FnMut(usize, Vec<Name>) -> Result<(), SftpError>,
) -> Result<(), (usize, SftpError)> {
    let mut begin = 0;
    for some in folders.chunks(FOLDERS_AT_ONCE) {
        let opening: Vec<_> = some
            .iter()
            .map(|folder| session.open_folder(folder.as_ref()))
            .collect();
        // All are waited for before one failure ends it, so that all are closed.
        let opened: Vec<_> = opening.into_iter().map(Handle::of).collect();
        let mut open = Vec::new();
        for (number, handle) in (begin..).zip(opened) {
            open.push(Folder::new(
                number,
                handle.map_err(|error| (number, error))?,
            ));
        }
        while !open.is_empty() {
            let mut going_on = Vec::new();
            for mut folder in open {
                let number = folder.number;
                let found = folder.next().map_err(|error| (number, error))?;
                if let Some(found) = found {
                    each(number, found).map_err(|error| (number, error))?;
                    going_on.push(folder);
                }
            }
            open = going_on;
        }
        begin += some.len();
    }
    Ok(())
}

/// A folder that is being read.
struct Folder<'a> {
    number: usize,
    handle: Handle<'a>,
    under_way: VecDeque<Ticket<'a>>,
    requests: usize,
}

impl<'a> Folder<'a> {
    fn new(number: usize, handle: Handle<'a>) -> Self {
        let mut this = Self {
            number,
            handle,
            under_way: VecDeque::new(),
            requests: FIRST_REQUESTS,
        };
        this.ask();
        this
    }

    fn ask(&mut self) {
        while self.under_way.len() < self.requests {
            self.under_way.push_back(self.handle.next_names());
        }
    }

    /// The next entries; `None` is the end.
    fn next(&mut self) -> Result<Option<Vec<Name>>, SftpError> {
        let Some(ticket) = self.under_way.pop_front() else {
            return Ok(None);
        };
        let found = names(ticket)?;
        if found.is_some() {
            self.requests = (self.requests + FIRST_REQUESTS).min(REQUESTS_MAX);
            self.ask();
        }
        Ok(found)
    }
}
