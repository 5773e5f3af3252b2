//! The exit statuses of the program: restic's where it has one, our own above.
//! It must never say 0 when something that was asked for was not done.

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something failed.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// `wal fetch`: the archive ends before what was asked for.
    EndOfLog,
    /// `wal fetch`: anything else, on which a server stops.
    FetchFailed,
    /// Some source data could not be read; the rest is saved.
    Incomplete,
    /// There is no repository at the location.
    NoRepository,
    /// Somebody else holds a lock.
    Locked,
    /// No key fits the password.
    WrongPassword,
    /// What was verified does not come back.
    NotRecoverable,
    /// A capture is overdue, or an objective missed.
    Late,
    /// Whether it comes back could not be determined.
    Undetermined,
    /// Somebody stopped the program.
    Interrupted,
}

impl Exit {
    /// The number that the system is given.
    pub fn code(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Failed | Self::EndOfLog => 1,
            Self::Usage => 2,
            Self::FetchFailed => 200,
            Self::Incomplete => 3,
            Self::NoRepository => 10,
            Self::Locked => 11,
            Self::WrongPassword => 12,
            Self::NotRecoverable => 20,
            Self::Late => 21,
            Self::Undetermined => 22,
            Self::Interrupted => 130,
        }
    }
}

/// The table that the manual and the help show.
pub const TABLE: &str = "\
Exit status:
   0  done
   1  failed
   2  wrong usage
   3  some source data could not be read; the rest is saved
  10  no repository at the location
  11  the repository is locked
  12  wrong password
  20  what was verified does not come back
  21  a capture is overdue, or an objective missed
  22  whether it comes back could not be determined
 130  interrupted
 200  wal fetch: whatever is no proof that the log ends";
