//! rest-server, the server whose protocol our REST backend speaks, for tests to run against.
//! It is a fixed version whose source is checked against a hash written here, never "the latest".

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Toolbox, golang, module};
use crate::failure::{Failure, Result};
use crate::shell;

const VERSION: &str = "0.14.0";
/// Its name in the cache's `bin`.
const NAME: &str = "rest-server";
const MODULE: module::Module = module::Module {
    path: "github.com/restic/rest-server",
    version: VERSION,
    sum: "h1:II5myUaSHEc5133fkM4BL5zINJIV8vaPRwTair/hr4Q=",
};

/// rest-server, built into the cache.
pub(crate) fn ensure(tools: &Toolbox) -> Result<PathBuf> {
    let server = tools.bin(NAME);
    if is_known(&server) {
        return Ok(server);
    }
    let go = golang::ensure(tools)?;
    println!("  building rest-server {VERSION} (once)");
    let source = module::download(&go, &MODULE)?;
    let server = tools.build(NAME, |path| {
        module::build(&go, &source, "./cmd/rest-server", path)
    })?;
    if is_known(&server) {
        Ok(server)
    } else {
        Err(Failure::new(format!(
            "{} does not say that it is rest-server {VERSION}",
            server.display()
        )))
    }
}

/// `rest-server version rest-server 0.14.0 compiled with …`
fn is_known(server: &Path) -> bool {
    let said = shell::output(Command::new(server).arg("--version"));
    said.is_ok_and(|said| said.split_whitespace().any(|word| word == VERSION))
}
