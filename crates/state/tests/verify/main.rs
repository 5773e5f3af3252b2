//! Restored clusters are recovered by real servers and judged: what comes back, what does not, and what can't be known.
//! No verdict is believed because a server answered, and none of these servers may reach anything outside its scratch.

mod checks;
mod isolation;
mod live;
mod servers;
mod verdicts;
