//! Captures of a PostgreSQL cluster that runs, beside pgBackRest, pg_basebackup, and restic on the same directory.
//! Between two captures all see the same changes, and who is measured never works beside another.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bench;
use super::cluster::Cluster;
use super::data::{OURS, Quantity, Table, Values};
use super::measure::{self, Measurement};
use super::pgbackrest::{self, PgBackRest, Store};
use super::place;
use super::tool::{Dialect, Operation, REPOSITORY, RESTORED, Tool};
use crate::failure::{Failure, Result};
use crate::scratch::Scratch;
use crate::tools::create_dir;
use crate::tree::{self, Amount};
use crate::units;

pub(super) const TABLE: Table<'static> = Table {
    section: "captures",
    name: "captures",
};
pub(super) const FULL: &str = "first capture";
pub(super) const HEAVY: &str = "capture after 20,000 transactions";
pub(super) const LIGHT: &str = "capture after 15,000 inserts, 300 updates spread, rows read";
/// As light, with every change in one small table: what the tree of the directory costs is seen best.
const NARROW: &str = "capture after 15,000 inserts and 300 updates of one table";
pub(super) const RESTORE: &str = "restore";
const ROW: &str = "captures in a row, 400 transactions before each";
const IN_A_ROW: usize = 14;
/// What the peers are called.
const BASEBACKUP: &str = "pg_basebackup";
/// Where it puts one.
const CAPTURE: &str = "capture";
/// pgBackRest's processes; this machine's benchmark has as many cores at least.
const PROCESSES: usize = 2;
/// A data directory of 2 GB and more has so many times 100,000 accounts.
const SCALE: u64 = 150;
const QUICK_SCALE: u64 = 2;
/// What a scale takes on a disk with its indexes and its log, in bytes, rounded up.
const SCALE_BYTES: u64 = 16 << 20;
/// Room for the cluster, its log, what the programs store of it, and what one of them restores.
const COPIES: u64 = 5;

/// Who captures.
enum Who<'a> {
    Ours(&'a Tool, PathBuf),
    Restic(&'a Tool, PathBuf),
    PgBackRest(PgBackRest),
    /// It stores each capture by itself.
    BaseBackup(PathBuf),
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let scale = if bench.quick { QUICK_SCALE } else { SCALE };
    for run in 1..=bench.runs {
        let amount = Amount {
            files: 2000,
            bytes: scale * SCALE_BYTES,
        };
        let scratch = bench.place.scratch_for(amount, COPIES)?;
        Cluster::let_pass(scratch.path())?;
        create_dir(&scratch.join("server"))?;
        let cluster = Cluster::make(&scratch.join("server"), &["--data-checksums"])?;
        // The log of a capture is its own, and what else there is of it is nobody's work here.
        cluster.start(&[
            "max_wal_size=1GB",
            "checkpoint_timeout=1h",
            "autovacuum=off",
            "shared_buffers=512MB",
        ])?;
        cluster.fill(scale)?;
        cluster.sql(
            "create table notes (id serial primary key, at timestamptz default now(), text text)",
        )?;
        cluster.sql("checkpoint")?;
        if run == 1 {
            let size = units::size(tree::measure(&cluster.data.join("base"))?.bytes);
            let title = format!("a cluster that runs, with {size} of databases and page checksums");
            bench.data.title(TABLE, &title);
        }
        one_run(bench, run, &scratch, &cluster)?;
    }
    Ok(())
}

fn one_run(bench: &mut Bench, run: usize, scratch: &Scratch, cluster: &Cluster) -> Result<()> {
    let tools = bench.tools.clone();
    let mut all = Vec::new();
    for tool in &tools {
        let dir = scratch.join(tool.name);
        match tool.dialect {
            Dialect::Lifeboat => {
                tool.prepare(&dir)?;
                all.push(Who::Ours(tool, dir));
            }
            Dialect::Restic => {
                tool.prepare(&dir)?;
                all.push(Who::Restic(tool, dir));
            }
            Dialect::Rustic => {}
        }
    }
    let dir = scratch.join(pgbackrest::NAME);
    let peer = PgBackRest::prepare(&dir, cluster, &Store::Dir, PROCESSES)?;
    all.push(Who::PgBackRest(peer));
    create_dir(&scratch.join(BASEBACKUP))?;
    all.push(Who::BaseBackup(scratch.join(BASEBACKUP)));
    let report = scratch.join("time");
    let order = |turn: usize| {
        let count = all.len();
        (0..count).map(move |at| (at + turn + run) % count)
    };
    for (turn, row) in [FULL, HEAVY, LIGHT, NARROW].into_iter().enumerate() {
        match row {
            HEAVY => {
                cluster.pgbench(&["--client=2", "--transactions=10000", "--no-vacuum"])?;
                insert(cluster)?;
            }
            LIGHT => {
                insert(cluster)?;
                cluster.sql("update pgbench_accounts set abalance = 1 where aid % 50000 = 7")?;
                // Who reads a row first notes in it how the transaction that wrote it has ended.
                cluster.sql("select count(*), sum(abalance) from pgbench_accounts")?;
            }
            NARROW => {
                insert(cluster)?;
                cluster.sql("update notes set text = 'changed' where id % 100 = 0")?;
            }
            _ => {}
        }
        cluster.sql("checkpoint")?;
        for at in order(turn) {
            let who = &all[at];
            let (measured, stored) = who.captured(cluster, row == FULL, &report)?;
            add(bench, row, who, run, measured, stored);
        }
    }
    for at in order(run) {
        let who = &all[at];
        let target = who.target(scratch);
        let Some(command) = who.restore(&target)? else {
            continue;
        };
        let measured = measure::run(&command, &report)?;
        who.check_restored(cluster, &target)?;
        place::remove(&target)?;
        println!(
            "  {:<48} {:<9} {measured}",
            format!("run {run} {RESTORE}"),
            who.name()
        );
        bench.data.add(TABLE, RESTORE, who.name(), run, measured);
    }
    let nothing = Measurement {
        wall: Duration::ZERO,
        cpu_seconds: 0.0,
        peak_kib: 0,
    };
    let mut sums = vec![(nothing, 0); all.len()];
    for turn in 0..IN_A_ROW {
        cluster.pgbench(&["--client=2", "--transactions=200", "--no-vacuum"])?;
        cluster.sql("checkpoint")?;
        for at in order(turn) {
            let (measured, stored) = all[at].captured(cluster, false, &report)?;
            let (sum, stored_sum) = &mut sums[at];
            sum.wall += measured.wall;
            sum.cpu_seconds += measured.cpu_seconds;
            sum.peak_kib = sum.peak_kib.max(measured.peak_kib);
            *stored_sum += stored;
        }
    }
    for (who, (sum, stored)) in all.iter().zip(sums) {
        let row = format!("{IN_A_ROW} {ROW}");
        add(bench, &row, who, run, sum, stored);
    }
    if run == 1 {
        for who in &all {
            who.cross_check(&tools)?;
        }
    }
    cluster.stop()
}

fn insert(cluster: &Cluster) -> Result<()> {
    cluster
        .sql("insert into notes (text) select md5(g::text) || md5((g + 1)::text) from generate_series(1, 15000) g")
        .map(drop)
}

fn add(
    bench: &mut Bench,
    row: &str,
    who: &Who<'_>,
    run: usize,
    measured: Measurement,
    stored: u64,
) {
    let mib = stored as f64 / f64::from(1 << 20);
    let name = who.name();
    println!(
        "  {:<48} {name:<13} {measured} {mib:9.1} MiB stored",
        format!("run {run} {row}")
    );
    let mut values = Values::from(measured);
    values.insert(Quantity::Stored, mib);
    bench.data.add(TABLE, row, name, run, values);
}

impl Who<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(..) => OURS,
            Self::Restic(tool, _) => tool.name,
            Self::PgBackRest(_) => pgbackrest::NAME,
            Self::BaseBackup(_) => BASEBACKUP,
        }
    }

    /// Runs a capture, and gives by how many bytes the repository grew.
    fn captured(
        &self,
        cluster: &Cluster,
        is_first: bool,
        report: &Path,
    ) -> Result<(Measurement, u64)> {
        let before = self.stored_bytes()?;
        let measured = measure::run(&self.capture(cluster, is_first)?, report)?;
        let stored = self.stored_bytes()? - before;
        if let Self::BaseBackup(dir) = self {
            // There is no room for all of its captures, and none relies on another.
            place::remove(&dir.join(CAPTURE))?;
        }
        Ok((measured, stored))
    }

    /// All that lies in its repository.
    fn stored_bytes(&self) -> Result<u64> {
        let dir = match self {
            Self::Ours(_, dir) | Self::Restic(_, dir) => dir.join(REPOSITORY),
            Self::PgBackRest(peer) => peer.repository.clone(),
            Self::BaseBackup(dir) => dir.clone(),
        };
        Ok(tree::measure(&dir)?.bytes)
    }

    fn capture(&self, cluster: &Cluster, is_first: bool) -> Result<Command> {
        Ok(match self {
            Self::Ours(tool, dir) => {
                let mut command = tool.database(dir, "capture");
                command.arg("--postgres").arg(url(cluster));
                command
            }
            Self::Restic(tool, dir) => tool.command(Operation::FirstBackup, dir, &cluster.data)?,
            Self::PgBackRest(peer) => peer.backup(is_first),
            Self::BaseBackup(dir) => {
                let mut command = cluster.own(BASEBACKUP);
                command
                    .args(["-U", super::cluster::USER, "-h"])
                    .arg(&cluster.home);
                command.args([
                    "--checkpoint=fast",
                    "--wal-method=fetch",
                    "--no-sync",
                    "-Ft",
                    "-D",
                ]);
                command.arg(dir.join(CAPTURE));
                command
            }
        })
    }

    fn target(&self, scratch: &Scratch) -> PathBuf {
        match self {
            Self::Restic(_, dir) => dir.join(RESTORED),
            _ => scratch.join(RESTORED),
        }
    }

    /// `None` for who has no restore.
    fn restore(&self, target: &Path) -> Result<Option<Command>> {
        Ok(match self {
            Self::Ours(tool, dir) => {
                let mut command = tool.database(dir, "restore");
                command.arg("--target").arg(target);
                Some(command)
            }
            Self::Restic(tool, dir) => Some(tool.command(Operation::Restore, dir, target)?),
            Self::PgBackRest(peer) => {
                create_dir(target)?;
                Some(peer.restore(target))
            }
            Self::BaseBackup(_) => None,
        })
    }

    /// Whether as much was restored as there was.
    fn check_restored(&self, cluster: &Cluster, target: &Path) -> Result<()> {
        let below = match self {
            Self::Restic(..) => {
                target.join(cluster.data.strip_prefix("/").unwrap_or(&cluster.data))
            }
            _ => target.to_owned(),
        };
        let bytes = |dir: &Path| Ok::<u64, Failure>(tree::measure(&dir.join("base"))?.bytes);
        let (found, expected) = (bytes(&below)?, bytes(&cluster.data)?);
        if found * 100 < expected * 99 {
            return Err(Failure::new(format!(
                "{} restored {} of {}",
                self.name(),
                units::size(found),
                units::size(expected)
            )));
        }
        Ok(())
    }

    /// Whether restic finds what we stored sound.
    fn cross_check(&self, tools: &[Tool]) -> Result<()> {
        let Self::Ours(_, dir) = self else {
            return Ok(());
        };
        let restic = tools.iter().find(|tool| tool.dialect == Dialect::Restic);
        restic.map_or(Ok(()), |restic| restic.cross_check(dir))
    }
}

fn url(cluster: &Cluster) -> String {
    format!(
        "postgresql://postgres@/postgres?host={}",
        cluster.home.display()
    )
}
