//! A PostgreSQL data directory with pgbench's tables in it, cleanly stopped.
//! Nothing that the server needed beside it is left behind.

use std::path::Path;
use std::process::Command;

use crate::bench::cluster::Cluster;
use crate::failure::Result;
use crate::scratch::Scratch;
use crate::shell;

/// Fills `dir` with a data directory of `scale` times 100,000 accounts.
pub(super) fn make(dir: &Path, scale: u64) -> Result<()> {
    // Not in the cache: the server's user may not go where our home is.
    let scratch = Scratch::create("postgres")?;
    let cluster = Cluster::make(scratch.path(), &[])?;
    cluster.start(&[])?;
    cluster.fill(scale)?;
    cluster.stop()?;
    let mut copy = Command::new("cp");
    shell::run(copy.args(["-a", "--"]).arg(&cluster.data).arg(dir))
}
