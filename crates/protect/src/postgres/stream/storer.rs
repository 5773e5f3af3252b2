//! The thread that stores the log, so that more can come meanwhile.
//! It must never remove a piece before what takes its place is durable.

use crossbeam_channel::{Receiver, Sender};
use lifeboat_flow::Cancel;
use lifeboat_repo::{Appended, LogError};
use lifeboat_state::postgres::{Lsn, Parcel, WalName};

use crate::postgres::archive::{Archive, ArchiveError};

/// What was stored.
pub(super) struct Stored {
    /// Its name.
    pub(super) name: WalName,
    /// Whether it was there before.
    pub(super) appended: Appended,
    /// The position up to which the log is durable now.
    pub(super) to: Lsn,
    /// Why what is not needed any more could not be removed.
    pub(super) unremoved: Option<ArchiveError>,
}

/// Stores what comes, in its order, until nothing more comes or something can't be stored.
pub(super) fn run(
    archive: &Archive<'_>,
    parcels: &Receiver<Parcel>,
    outcomes: &Sender<Result<Stored, ArchiveError>>,
    stop: &Cancel,
) {
    for parcel in parcels {
        let outcome = store(archive, &parcel, stop);
        let failed = outcome.is_err();
        if outcomes.send(outcome).is_err() || failed {
            return;
        }
    }
}

fn store(archive: &Archive<'_>, parcel: &Parcel, stop: &Cancel) -> Result<Stored, ArchiveError> {
    // A service runs for months, and what another repository holds under our key nobody can read.
    match archive.is_in_place() {
        Err(_) if stop.is_cancelled() => archive.is_in_place()?,
        looked => looked?,
    }
    let appended = match archive.push(parcel.name, &parcel.content) {
        // A wish to stop ends the wait for a place that does not answer; what came is still worth a last try.
        Err(ArchiveError::Log {
            cause: LogError::Cancelled(_),
            ..
        }) if stop.is_cancelled() => archive.push(parcel.name, &parcel.content)?,
        pushed => pushed?,
    };
    let mut unremoved = None;
    for piece in &parcel.replaced {
        if let Err(error) = archive.remove(*piece) {
            unremoved = Some(error);
        }
    }
    Ok(Stored {
        name: parcel.name,
        appended,
        to: parcel.to,
        unremoved,
    })
}
