//! The whole test run: what it needs, then every check, the quick ones first; it stops at the first that fails.
//! A check is never skipped because a tool is missing: the tool is installed, or the run fails and says how to.

use std::process::Command;
use std::time::Instant;

use crate::failure::{Failure, Result, While};
use crate::tidy;
use crate::tools::{self, Toolbox, garage, packages, postgres, rest_server, restic, rust, rustic};
use crate::{shell, workspace};

/// Where tests find the oracles, besides the cache itself.
const RESTIC: &str = "LIFEBOAT_RESTIC";
const RESTIC_OF_DEBIAN_12: &str = "LIFEBOAT_RESTIC_014";
const REST_SERVER: &str = "LIFEBOAT_REST_SERVER";
/// Where tests find the S3 server.
const GARAGE: &str = "LIFEBOAT_GARAGE";
/// Where tests find the program that works on repositories without locks.
const RUSTIC: &str = "LIFEBOAT_RUSTIC";
/// Tells tests to run their matrices whole.
const SOAK: &str = "LIFEBOAT_SOAK";

/// A check and how it is run.
type Step<'a> = (&'a str, Box<dyn FnOnce() -> Result<()> + 'a>);

/// Runs everything.
pub(crate) fn test() -> Result<()> {
    let mut oracles = None;
    step("toolchain", rust::ensure_components)?;
    step("format", || {
        shell::run(cargo("fmt").args(["--all", "--check"]))
    })?;
    step("tidy", tidy::run)?;
    step("tools", || {
        oracles = Some(Oracles::ensure()?);
        Ok(())
    })?;
    let oracles = oracles.ok_or_else(|| Failure::new("no oracles"))?;
    let rest: [Step<'_>; 3] = [
        (
            "lint",
            Box::new(|| {
                shell::run(locked(&mut cargo("clippy")).args([
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ]))
            }),
        ),
        (
            "tests",
            Box::new(|| {
                shell::run(oracles.show_to(locked(&mut cargo("test")).args(["--workspace"])))
            }),
        ),
        (
            "documentation",
            Box::new(|| {
                let mut doc = cargo("doc");
                locked(&mut doc)
                    .args(["--workspace", "--no-deps"])
                    .env("RUSTDOCFLAGS", "-Dwarnings");
                shell::run(&mut doc)
            }),
        ),
    ];
    for (name, run) in rest {
        step(name, run)?;
    }
    println!("\nall checks passed");
    Ok(())
}

/// Installs what the tests need and says where it is.
pub(crate) fn tools() -> Result<()> {
    rust::ensure_components()?;
    let oracles = Oracles::ensure()?;
    println!("{RESTIC}={}", oracles.current.display());
    println!("{RESTIC_OF_DEBIAN_12}={}", oracles.of_debian_12.display());
    println!("{REST_SERVER}={}", oracles.rest_server.display());
    println!("{GARAGE}={}", oracles.garage.display());
    println!("{RUSTIC}={}", oracles.rustic.display());
    Ok(())
}

/// Runs the tests with their matrices whole, in an optimised build.
pub(crate) fn soak() -> Result<()> {
    let oracles = Oracles::ensure()?;
    let mut command = cargo("test");
    locked(&mut command)
        .args(["--workspace", "--release"])
        .env(SOAK, "1");
    step("soak", || shell::run(oracles.show_to(&mut command)))
}

/// Fuzzes each target for a while; a crash stops the run and leaves its input in `fuzz/artifacts`.
pub(crate) fn fuzz(options: &[String]) -> Result<()> {
    let seconds: u32 = match options {
        [] => 60,
        [seconds] => seconds
            .parse()
            .doing(|| format!("{seconds:?} is no number of seconds"))?,
        _ => return Err(Failure::new("fuzz takes one number of seconds")),
    };
    let dir = workspace::root().join("fuzz");
    if !dir.join("Cargo.toml").exists() {
        return Err(Failure::new("there are no fuzz targets"));
    }
    let program = tools::fuzz::ensure(&Toolbox::open()?)?;
    let fuzz = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .current_dir(&dir)
            .env("RUSTC_BOOTSTRAP", "1")
            .args(arguments);
        command
    };
    let targets = shell::output(&mut fuzz(&["list"]))?;
    for target in targets.split_whitespace() {
        // What is found on the way goes first and stays out of the corpus that is kept.
        let found = format!("target/corpus/{target}");
        tools::create_dir(&dir.join(&found))?;
        let kept = format!("corpus/{target}");
        let time = format!("-max_total_time={seconds}");
        step(target, || {
            shell::run(&mut fuzz(&["run", target, &found, &kept, "--", &time]))
        })?;
    }
    Ok(())
}

/// The programs that tests ask for the truth, and the servers that they run.
struct Oracles {
    current: std::path::PathBuf,
    of_debian_12: std::path::PathBuf,
    rest_server: std::path::PathBuf,
    garage: std::path::PathBuf,
    rustic: std::path::PathBuf,
}

impl Oracles {
    fn ensure() -> Result<Self> {
        packages::ensure(packages::FOR_TESTS)?;
        postgres::ensure()?;
        let tools = Toolbox::open()?;
        Ok(Self {
            current: restic::current(&tools)?,
            of_debian_12: restic::of_debian_12(&tools)?,
            rest_server: rest_server::ensure(&tools)?,
            garage: garage::ensure(&tools)?,
            rustic: rustic::for_tests(&tools)?,
        })
    }

    fn show_to<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env(RESTIC, &self.current)
            .env(RESTIC_OF_DEBIAN_12, &self.of_debian_12)
            .env(REST_SERVER, &self.rest_server)
            .env(GARAGE, &self.garage)
            .env(RUSTIC, &self.rustic)
    }
}

fn cargo(subcommand: &str) -> Command {
    let mut command = workspace::cargo();
    command.arg(subcommand);
    command
}

/// Continuous integration builds exactly what was committed.
fn locked(command: &mut Command) -> &mut Command {
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        command.arg("--locked")
    } else {
        command
    }
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = run();
    let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
    println!(
        "== {name} {verdict} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    outcome.map_err(|failure| Failure::new(format!("{name}: {failure}")))
}
