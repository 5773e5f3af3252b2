//! The resident process of `wal push` and `wal fetch`: it keeps the repository open between two commands of a server.
//! It must never be needed: whatever is wrong with it, the command does its work by itself.

mod ask;
mod key;
mod place;
mod serve;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lifeboat_flow::Event;
use lifeboat_plan::parse_go_duration;

use self::key::{Binary, key};
use self::place::{Place, Refused};
use crate::args::Global;
use crate::failure::Failure;
use crate::ui::Ui;
use crate::words;

pub use self::ask::{Asked, Resident};
pub use self::serve::Serve;
pub use self::wire::{Answer, Request, Told};

/// Between signs of life of a process that works.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(2);
/// Without a sign of life for so long, a process is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What a user can say of it.
#[derive(Args, Debug)]
pub struct ResidentArgs {
    /// Do it in this process; otherwise one is left behind that has the repository open for the next
    #[arg(long)]
    no_resident: bool,
    /// When that one ends, once nobody asks any more
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    resident_idle: String,
}

impl ResidentArgs {
    /// The way to the process; `None` if there is to be none.
    pub fn find(&self, global: &Global, ui: &Ui) -> Result<Option<Resident>, Failure> {
        let idle = parse_go_duration(&self.resident_idle)
            .map_err(|error| Failure::from_error(&error).while_doing("--resident-idle"))?;
        if self.no_resident || !ask::adopter_bears_it() {
            return Ok(None);
        }
        match Identity::of(global) {
            Ok(identity) => Ok(Some(Resident::new(identity, idle))),
            Err(Refused(why)) => {
                let text = format!("working without a resident process: {why}");
                ui.notes().event(Event::Note(text));
                Ok(None)
            }
        }
    }
}

/// Who a process is, and where it is reached.
#[derive(Debug)]
pub struct Identity {
    place: Place,
    key: String,
    socket: PathBuf,
    binary: Binary,
    options: Vec<OsString>,
    /// The directory in which it must stay, if what it was told means something else elsewhere.
    directory: Option<PathBuf>,
}

impl Identity {
    /// The one of these options.
    fn of(global: &Global) -> Result<Self, Refused> {
        let refused = |error: std::io::Error| Refused(error.to_string());
        let options = words::all(global).map_err(|failure| Refused(failure.message))?;
        let options: Vec<OsString> = options.iter().map(words::Word::joined).collect();
        let directory = match words::need_directory(global) {
            true => Some(std::env::current_dir().map_err(refused)?),
            false => None,
        };
        let place = Place::find()?;
        let salt = place.salt().map_err(refused)?;
        let binary = Binary::own().map_err(refused)?;
        let variables = std::env::vars_os().collect();
        let key = key(&salt, &binary, &options, directory.as_deref(), &variables);
        Ok(Self {
            socket: place.socket(&key)?,
            place,
            key,
            binary,
            options,
            directory,
        })
    }
}
