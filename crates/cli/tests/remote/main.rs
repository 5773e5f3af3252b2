//! Proves the program against real servers: a whole life of a repository on each, judged by restic in the end, what is
//! believed of a cache, and what is said when somebody mistypes what leads there.

mod append_only;
mod cached;
mod life;
mod messages;
mod peer;
