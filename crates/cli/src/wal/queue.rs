//! How much of the log may wait on the server's disk, and what becomes of more when the repository does not take it.
//! It must never give up a segment unless the user chose so, and never without a loud word in the server's log.

use clap::{Args, ValueEnum};
use lifeboat_plan::parse_size;
use lifeboat_protect::postgres::{LogFile, QueueLimit, WhenFull, waiting, waiting_bytes};
use lifeboat_state::postgres::SegmentBytes;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// The options of it.
#[derive(Args, Debug)]
pub struct QueueArgs {
    /// How much of the log may wait on the server's disk, as 20G
    #[arg(long, value_name = "SIZE")]
    queue_limit: Option<String>,
    /// With more than that, when it can't be stored: the server keeps it, or it is given up, and the archive has a hole
    #[arg(
        long,
        value_name = "WHAT",
        requires = "queue_limit",
        default_value = "block"
    )]
    queue_full: QueueFull,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum QueueFull {
    // It ends with an error: the server tries again, and its disk may fill.
    Block,
    // It ends as if the file were archived.
    Drop,
}

/// How much may wait.
pub struct Limit(QueueLimit);

impl QueueArgs {
    /// The limit, if there is one.
    pub fn limit(&self) -> Result<Option<Limit>, Failure> {
        let Some(text) = &self.queue_limit else {
            return Ok(None);
        };
        let max_bytes = parse_size(text)
            .map_err(|error| Failure::from_error(&error).while_doing("--queue-limit"))?;
        Ok(Some(Limit(QueueLimit {
            max_bytes,
            when_full: match self.queue_full {
                QueueFull::Block => WhenFull::Block,
                QueueFull::Drop => WhenFull::Drop,
            },
        })))
    }
}

impl Limit {
    /// Ends a push that failed.
    pub fn end(
        &self,
        file: &LogFile,
        size: SegmentBytes,
        failure: Failure,
        is_of_store: bool,
        ui: &Ui,
    ) -> Outcome {
        let names = match waiting(&file.path) {
            Ok(names) => names,
            Err(error) => {
                ui.warn(format_args!(
                    "how much of the log waits is not known: {error}"
                ));
                return Err(failure);
            }
        };
        let bytes = waiting_bytes(&names, size);
        if !self.0.is_over(bytes) {
            return Err(failure);
        }
        let over = format!(
            "{} of the log wait on the server's disk, more than the {} of --queue-limit",
            format::bytes(bytes),
            format::bytes(self.0.max_bytes)
        );
        if !self.0.gives_up(bytes, is_of_store) {
            ui.warn(over);
            return Err(failure);
        }
        ui.warn(format_args!(
            "{} IS NOT ARCHIVED AND GIVEN UP: {over}, and {}. THE ARCHIVE HAS A HOLE FROM HERE ON: no recovery comes beyond it from an older capture, so make a new one with `lifeboat db capture`",
            file.name, failure.message
        ));
        Ok(Exit::Done)
    }
}
