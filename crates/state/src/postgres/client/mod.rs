//! A connection to a server: queries as text, and streams of the replication protocol, on the thread that asks.
//! It must never show a password, and never wait without an end that somebody can set.

mod address;
mod connection;
mod copy_both;
mod copy_out;
mod error;
mod handshake;
mod passfile;
mod stream;
mod tls;
mod wire;

pub use address::{Address, AddressError, Host, Secret, TlsMode};
pub use connection::{Connection, Row, Session};
pub use copy_both::{Copied, CopyBoth};
pub use copy_out::CopyEnd;
pub use error::{PgError, ServerError};
pub use passfile::{PassfileError, password_from};
