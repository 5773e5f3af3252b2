//! Copies a database by SQLite's backup interface: page by page to the same places, of one state.
//! It must never leave the state that the reader holds, nor take a copy for done that did not reach its end.

use std::path::Path;
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::reader::{Reader, Refusal};

/// Pages between two looks whether to stop. The reader's transaction holds the state from step to step, so that nothing
/// begins anew.
const STEP_PAGES: i32 = 1024;
/// How long a step that did nothing is tried again.
const STEP_WAIT_MAX: Duration = Duration::from_secs(30);
const STEP_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Makes the copy, of which nothing has to last: it is read at once by this process.
pub(super) fn copy(from: &Reader, to: &Path, cancel: &Cancel) -> Result<(), Refusal> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let closed = Refusal::Closed;
    let mut to = Connection::open_with_flags(to, flags).map_err(closed)?;
    to.pragma_update(None, "journal_mode", "OFF")
        .and_then(|()| to.pragma_update(None, "synchronous", "OFF"))
        .map_err(closed)?;
    {
        let backup = Backup::new(from.connection(), &mut to).map_err(closed)?;
        let mut stuck_since = None;
        loop {
            cancel.check()?;
            match backup.step(STEP_PAGES).map_err(Refusal::of)? {
                StepResult::Done => break,
                StepResult::More => stuck_since = None,
                _ => {
                    let since = stuck_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= STEP_WAIT_MAX {
                        return Err(Refusal::Busy(STEP_WAIT_MAX));
                    }
                    cancel.sleep(STEP_AGAIN_AFTER)?;
                }
            }
        }
    }
    to.close().map_err(|(_, error)| closed(error))
}
