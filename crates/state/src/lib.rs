//! Members in and out: volumes, streams and commands.
