//! Why the targets of a volume can't be read as a whole.
//! It must never stand for one entry that can't be read: that is a problem of the listing it is in.

use std::io;
use std::path::PathBuf;

use lifeboat_flow::Problem;

/// The targets can't be read as a whole.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// No target was given.
    #[error("no path was given to read")]
    NoTargets,
    /// None of the targets is there.
    #[error("none of the given paths can be read: {}", .0.iter().map(|problem| format!("{}: {}", problem.path, problem.why)).collect::<Vec<_>>().join("; "))]
    AllMissing(Vec<Problem>),
    /// A directory that has to be looked into to place the targets can't be.
    #[error("read directory {}", .path.display())]
    Unreadable {
        /// The directory, as the user wrote it.
        path: PathBuf,
        /// Why it can't be read.
        #[source]
        cause: io::Error,
    },
}
