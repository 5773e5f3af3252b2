//! A repository over a backend: what is in it, how it is read, written, locked and checked.
//! It must never know where a member comes from or goes to: that is the work of `state`, and `protect` joins the two.

pub mod backend;
