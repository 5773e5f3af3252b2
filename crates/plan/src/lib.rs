//! Every decision as a pure function: what to back up, keep, restore and in which order.
//! It must never look at the outside: facts and `now` come in, plans and reasons go out, and the same facts give
//! the same plan on every machine.
//!
//! Where restic decides the same question, its answer is the law, because both programs work on one repository.

mod calendar_span;
mod civil;
mod clean;
mod glob;
mod go_duration;
mod pattern;
mod pattern_error;
mod pattern_file;
mod pattern_set;
mod size;

pub use calendar_span::{CalendarSpan, CalendarSpanError};
pub use clean::clean_path;
pub use go_duration::{GoDurationError, parse_go_duration};
pub use pattern::{Case, Pattern};
pub use pattern_error::{PatternError, PatternFault, PatternOrigin};
pub use pattern_file::parse_pattern_lines;
pub use pattern_set::{Match, PatternSet};
pub use size::{SizeError, parse_size};
