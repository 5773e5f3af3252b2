//! What tests of the program share: places with a repository that opens at once, and both programs run the same way.

#![allow(dead_code, reason = "each test uses a part")]

mod place;
mod run;

pub use place::Place;
pub use run::{Program, Run, array, objects, summary};
