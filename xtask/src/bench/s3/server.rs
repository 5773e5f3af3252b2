//! The S3 server that is measured against, behind a proxy that counts: a process that testkit has as an example.
//! It must never be stopped by anything but the end of its standard input.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::failure::{Failure, Result, While};
use crate::{shell, workspace};

const EXAMPLE: &str = "s3_behind_proxy";

/// How a bucket is reached.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Bucket {
    pub endpoint: String,
    pub name: String,
    pub key_id: String,
    pub secret: String,
    pub region: String,
}

/// What passed between a client and the server.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::bench) struct Wire {
    pub connections: u64,
    pub requests: u64,
    pub up_bytes: u64,
    pub down_bytes: u64,
}

/// A running server.
pub(in crate::bench) struct Server {
    bucket: Bucket,
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Server {
    /// Starts one that keeps its files in a directory.
    pub(in crate::bench) fn start(dir: &Path) -> Result<Self> {
        let mut build = workspace::cargo();
        build.args(["build", "--quiet", "-p", "lifeboat-testkit"]);
        shell::run(build.args(["--example", EXAMPLE]))?;
        let program = workspace::root()
            .join("target/debug/examples")
            .join(EXAMPLE);
        let mut process = Command::new(&program)
            .env("TMPDIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| format!("cannot start {}", program.display()))?;
        let input = process.stdin.take();
        let output = process.stdout.take();
        let output = output.ok_or_else(|| Failure::new("the server has no output"))?;
        let mut server = Self {
            bucket: Bucket {
                endpoint: String::new(),
                name: String::new(),
                key_id: String::new(),
                secret: String::new(),
                region: String::new(),
            },
            process,
            input,
            output: BufReader::new(output),
        };
        let told = server.read()?;
        let text = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        server.bucket = Bucket {
            endpoint: text("endpoint"),
            name: text("bucket"),
            key_id: text("key_id"),
            secret: text("secret"),
            region: text("region"),
        };
        Ok(server)
    }

    pub(in crate::bench) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(in crate::bench) fn set_round_trip(&mut self, milliseconds: u64) -> Result<()> {
        self.ask(&format!("round-trip {milliseconds}")).map(drop)
    }

    /// What passed since this was asked for last.
    pub(in crate::bench) fn traffic(&mut self) -> Result<Wire> {
        let told = self.ask("traffic")?;
        let number = |name: &str| told[name].as_u64().unwrap_or(0);
        Ok(Wire {
            connections: number("connections"),
            requests: number("requests"),
            up_bytes: number("up_bytes"),
            down_bytes: number("down_bytes"),
        })
    }

    fn ask(&mut self, line: &str) -> Result<Value> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}").doing(|| "cannot ask the server".into())?;
        }
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.output
            .read_line(&mut line)
            .doing(|| "cannot read what the server says".into())?;
        serde_json::from_str(&line)
            .map_err(|error| Failure::new(format!("the server said {line:?}: {error}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.input = None;
        // It ends by itself when nobody can ask any more.
        let _ = self.process.wait();
    }
}
