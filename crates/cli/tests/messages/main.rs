//! Proves what the program says when something is wrong: each message word for word, its exit status, and that a wish to
//! stop is heard, a secret never shown and each kind of output kept apart.

mod disk;
mod options;
mod output;
mod passwords;
mod paths;
mod repository;
mod snapshots;
mod stop;
mod world;
