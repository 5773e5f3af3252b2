//! Segments of the log that go into an archive one after the other, as a server pushes them, beside pgBackRest.
//! No push counts before it is acknowledged, and none is left out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Bench;
use super::cluster::Cluster;
use super::data::{OURS, Quantity, Table, Values};
use super::measure::Spread;
use super::pgbackrest::{self, PgBackRest, Store};
use super::s3::{Bucket, Server};
use super::tls::Tls;
use super::tool::{Dialect, PASSWORD, REPOSITORY, Tool};
use crate::failure::{Failure, Result, While};
use crate::scratch::Scratch;
use crate::tools::create_dir;
use crate::tree::{self, Amount};
use crate::{shell, units};

pub(super) const LOCAL: Table<'static> = Table {
    section: "pushes",
    name: "local",
};
pub(super) const FAR: Table<'static> = Table {
    section: "pushes",
    name: "far",
};
pub(super) const ROW: &str = "all segments";
const SEGMENTS: usize = 128;
const QUICK_SEGMENTS: usize = 6;
const SEGMENT_BYTES: u64 = 16 << 20;
/// The server writes this much more than is pushed, so that what is pushed is whole.
const SPARE_SEGMENTS: usize = 4;
/// So many times 100,000 accounts surely fill three segments.
const SCALE_OF_THREE: usize = 4;
/// How far away the bucket is, in milliseconds.
const ROUND_TRIP_MS: u64 = 20;
const FAR_PROCESSES: usize = 4;
/// Our resident process ends so soon after the last push.
const IDLE: &str = "2s";
/// Until it surely has.
const IDLE_WAIT: Duration = Duration::from_secs(3);

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let count = if bench.quick {
        QUICK_SEGMENTS
    } else {
        SEGMENTS
    };
    let amount = Amount {
        files: 2000,
        bytes: 3 * count as u64 * SEGMENT_BYTES,
    };
    let scratch = bench.place.scratch_for(amount, 1)?;
    Cluster::let_pass(scratch.path())?;
    create_dir(&scratch.join("server"))?;
    let cluster = Cluster::make(&scratch.join("server"), &[])?;
    cluster.start(&["wal_keep_size=64GB", "max_wal_size=64GB", "autovacuum=off"])?;
    cluster.fill(((count + SPARE_SEGMENTS) * SCALE_OF_THREE / 3) as u64)?;
    cluster.stop()?;
    let segments = segments(&cluster.data, count)?;
    let work = format!("{count} segments of {}", units::size(SEGMENT_BYTES));
    bench
        .data
        .title(LOCAL, &format!("into a directory: {work}"));
    let far = format!("through S3, {ROUND_TRIP_MS} ms away: {work}");
    bench.data.title(FAR, &far);
    for run in 1..=bench.runs {
        for table in [LOCAL, FAR] {
            one_run(bench, table, run, (&scratch, &cluster, &segments))?;
        }
    }
    Ok(())
}

/// The names of the first whole segments.
fn segments(data: &Path, count: usize) -> Result<Vec<String>> {
    let names = tree::list(&data.join("pg_wal"))?;
    let names = names.iter().filter_map(|path| path.file_name()?.to_str());
    let names: Vec<String> = names
        .filter(|name| name.len() == 24)
        .map(str::to_owned)
        .collect();
    if names.len() < count + 1 {
        return Err(Failure::new(format!(
            "the server wrote {} segments only",
            names.len()
        )));
    }
    Ok(names.into_iter().take(count).collect())
}

fn one_run(
    bench: &mut Bench,
    table: Table,
    run: usize,
    (scratch, cluster, segments): (&Scratch, &Cluster, &[String]),
) -> Result<()> {
    let dir = scratch.join("store");
    create_dir(&dir)?;
    // A server of its own for each run: none works on what another run left behind.
    let mut server = None;
    if table == FAR {
        let mut started = Server::start(&dir)?;
        started.set_round_trip(ROUND_TRIP_MS)?;
        let to = started
            .bucket()
            .endpoint
            .trim_start_matches("http://")
            .to_owned();
        let tls = Tls::start(&dir.join("tls"), &to)?;
        server = Some((started, tls));
    }
    let place = server.as_ref().map(|(server, tls)| (server.bucket(), tls));
    let ours = bench
        .tools
        .iter()
        .find(|tool| tool.dialect == Dialect::Lifeboat);
    let ours = ours
        .map(|tool| Ours::prepare(tool, &dir.join(OURS), place))
        .transpose()?;
    let (store, processes) = match place {
        None => (Store::Dir, 1),
        Some((bucket, tls)) => {
            let (port, authority) = (tls.port, tls.authority.as_path());
            (
                Store::Bucket {
                    bucket,
                    port,
                    authority,
                },
                FAR_PROCESSES,
            )
        }
    };
    let peer = PgBackRest::prepare(&dir.join(pgbackrest::NAME), cluster, &store, processes)?;
    let mut order = vec![Who::Peer(&peer)];
    if let Some(ours) = &ours {
        order.insert(run % 2, Who::Ours(ours));
    }
    for who in order {
        let (name, values) = (who.name(), push_all(&cluster.data, segments, &who)?);
        let shown = format!("run {run} {}, {ROW}", table.name);
        println!(
            "  {shown:<48} {name:<10} {:8.2} s wall {:8.1} ms {:8.2} s CPU",
            values[&Quantity::Wall],
            values[&Quantity::Latency],
            values[&Quantity::AllCpu]
        );
        bench.data.add(table, ROW, name, run, values);
        // Nobody's background process works while another one is measured.
        std::thread::sleep(IDLE_WAIT);
    }
    if let Some(ours) = &ours {
        ours.holds(segments.len())?;
    }
    drop(server);
    super::place::remove(&dir)
}

/// Who pushes.
enum Who<'a> {
    Ours(&'a Ours<'a>),
    Peer(&'a PgBackRest),
}

impl Who<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => OURS,
            Self::Peer(_) => pgbackrest::NAME,
        }
    }

    fn push(&self, path: &str) -> Command {
        match self {
            Self::Ours(ours) => ours.push(path),
            Self::Peer(peer) => peer.push(path),
        }
    }
}

/// Pushes as the server does: what is to be archived is marked, pushed in its order, and marked as done.
fn push_all(data: &Path, segments: &[String], who: &Who<'_>) -> Result<Values> {
    let status = data.join("pg_wal/archive_status");
    let mark = |name: &str, kind: &str| status.join(format!("{name}.{kind}"));
    for name in segments {
        // From a push before this one.
        let _ = std::fs::remove_file(mark(name, "done"));
        std::fs::write(mark(name, "ready"), "").doing(|| "cannot mark a segment".into())?;
    }
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let mut latencies = Vec::new();
    for name in segments {
        let started = Instant::now();
        let mut shell = Command::new("sh");
        let command = who.push(&format!("pg_wal/{name}"));
        shell
            .args(["-c", &line(&command)?])
            .current_dir(data)
            .stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell::output(&mut shell)?;
        latencies.push(started.elapsed().as_secs_f64() * 1000.0);
        std::fs::rename(mark(name, "ready"), mark(name, "done"))
            .doing(|| "cannot mark a segment".into())?;
    }
    let wall = began.elapsed().as_secs_f64();
    let spread = Spread::of(latencies);
    Ok(Values::from([
        (Quantity::Wall, wall),
        (Quantity::Latency, spread.median),
        (Quantity::LatencyMost, spread.most),
        (Quantity::AllCpu, cpu_seconds()? - cpu),
    ]))
}

/// A command as a line for the shell.
fn line(command: &Command) -> Result<String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Option<Vec<&str>> = words.map(|word| word.to_str()).collect();
    let words = words.ok_or_else(|| Failure::new("a path is no text"))?;
    let quoted = words.into_iter().map(|word| format!("'{word}'"));
    Ok(quoted.collect::<Vec<_>>().join(" "))
}

/// What all processors have worked so far, in seconds, but for waiting.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat").doing(|| "cannot read /proc/stat".into())?;
    let numbers = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1);
    let ticks: Vec<f64> = numbers.filter_map(|number| number.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq (proc(5)).
    let [user, nice, system, _, _, irq, softirq, ..] = ticks.as_slice() else {
        return Err(Failure::new("/proc/stat has no processors"));
    };
    let a_second = shell::output(Command::new("getconf").arg("CLK_TCK"))?;
    let ticks_a_second: f64 = a_second
        .trim()
        .parse()
        .doing(|| "how long is a tick?".into())?;
    Ok((user + nice + system + irq + softirq) / ticks_a_second)
}

/// Our repository, and how it is reached.
struct Ours<'a> {
    tool: &'a Tool,
    dir: PathBuf,
    place: Option<(&'a Bucket, &'a Tls)>,
}

impl<'a> Ours<'a> {
    fn prepare(tool: &'a Tool, dir: &Path, place: Option<(&'a Bucket, &'a Tls)>) -> Result<Self> {
        create_dir(dir)?;
        std::fs::write(dir.join(PASSWORD), "benchmark\n")
            .doing(|| "cannot write a password".into())?;
        let ours = Self {
            tool,
            dir: dir.to_owned(),
            place,
        };
        shell::output(ours.command("repo").arg("init"))?;
        Ok(ours)
    }

    fn command(&self, area: &str) -> Command {
        let mut command = self.tool.of_area(&self.dir, area);
        command.arg("--password-file").arg(self.dir.join(PASSWORD));
        command.arg("-r");
        match self.place {
            None => command.arg(self.dir.join(REPOSITORY)),
            Some((bucket, tls)) => {
                command.arg(format!(
                    "s3:https://localhost:{}/{}/ours",
                    tls.port, bucket.name
                ));
                command.args([
                    "-o",
                    &format!("s3.region={}", bucket.region),
                    "-o",
                    "s3.bucket-lookup=path",
                ]);
                command.arg("--cacert").arg(&tls.authority);
                command.env("AWS_ACCESS_KEY_ID", &bucket.key_id);
                command.env("AWS_SECRET_ACCESS_KEY", &bucket.secret)
            }
        };
        command
    }

    fn push(&self, path: &str) -> Command {
        let mut command = self.command("wal");
        command.args(["push", path, "--resident-idle", IDLE]);
        command
    }

    /// Whether all came.
    fn holds(&self, count: usize) -> Result<()> {
        let said = shell::output(self.command("wal").arg("status"))?;
        match said.contains(&format!("{count} segments")) {
            true => Ok(()),
            false => Err(Failure::new(format!(
                "of {count} segments there are\n{said}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_shell_keeps_its_words() {
        let mut command = Command::new("echo");
        command.args(["a b", "$HOME"]);
        assert_eq!(line(&command).unwrap(), "'echo' 'a b' '$HOME'");
    }

    #[test]
    fn processors_work() {
        let before = cpu_seconds().unwrap();
        assert!(before > 0.0 && cpu_seconds().unwrap() >= before);
    }
}
