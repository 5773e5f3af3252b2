//! Shows how far a command is: a line that is redrawn on a terminal, plain lines elsewhere, JSON objects for programs.
//! It must never slow the work down: it samples counters from a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use lifeboat_flow::Counters;
use serde_json::json;

use crate::format;
use crate::ui::Ui;

/// Between two redraws on a terminal.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(500);
/// Between two JSON objects.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// Between two lines where nobody watches.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// What is shown.
#[derive(Clone, Copy)]
pub struct Shown {
    /// The noun for files: `files`, `packs`.
    pub noun: &'static str,
    /// Whether bytes stored are of interest.
    pub stored: bool,
    /// Whether the totals are final, so that the time left can be told.
    pub totals_known: bool,
}

/// Runs `work` and shows its progress meanwhile.
pub fn during<T>(ui: &Ui, counters: &Counters, shown: Shown, work: impl FnOnce() -> T) -> T {
    if ui.quiet {
        return work();
    }
    let interval = match () {
        () if ui.json => JSON_INTERVAL,
        () if ui.is_terminal => TERMINAL_INTERVAL,
        () => PLAIN_INTERVAL,
    };
    let interval = asked_interval().unwrap_or(interval);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let began = Instant::now();
            let mut next = began + interval;
            while !done.load(Ordering::Acquire) {
                let now = Instant::now();
                if now < next {
                    std::thread::park_timeout(next - now);
                    continue;
                }
                next = now + interval;
                show(ui, counters, shown, began.elapsed());
            }
        });
        let stop = StopWatcher(&done, watcher.thread().clone());
        let value = work();
        drop(stop);
        // A watcher that panicked has shown nothing; the work is what counts.
        let _ = watcher.join();
        ui.clear_status();
        value
    })
}

/// What restic's users ask for by a variable: updates a second, at most sixty.
fn asked_interval() -> Option<Duration> {
    let asked: f64 = std::env::var("RESTIC_PROGRESS_FPS").ok()?.parse().ok()?;
    (asked > 0.0).then(|| Duration::from_secs_f64((1.0 / asked).clamp(1.0 / 60.0, 3600.0)))
}

struct StopWatcher<'a>(&'a AtomicBool, Thread);

impl Drop for StopWatcher<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.unpark();
    }
}

fn show(ui: &Ui, counters: &Counters, shown: Shown, elapsed: Duration) {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (files, bytes) = (of(&counters.files_done), of(&counters.bytes_done));
    let (files_total, bytes_total) = (
        of(&counters.files_total).max(files),
        of(&counters.bytes_total),
    );
    let problems = of(&counters.problems);
    let knows_end = shown.totals_known && bytes_total >= bytes && bytes_total > 0;
    let fraction = if knows_end {
        bytes as f64 / bytes_total as f64
    } else {
        0.0
    };
    let left =
        (knows_end && fraction > 0.001).then(|| elapsed.mul_f64((1.0 - fraction) / fraction));
    if ui.json {
        let mut status = json!({
            "message_type": "status", "seconds_elapsed": elapsed.as_secs(), "percent_done": fraction,
            "total_files": files_total, "files_done": files, "total_bytes": bytes_total.max(bytes), "bytes_done": bytes, "error_count": problems,
        });
        if let (Some(left), Some(object)) = (left, status.as_object_mut()) {
            object.insert("seconds_remaining".into(), left.as_secs().into());
        }
        ui.object(&status);
        return;
    }
    let mut text = format!("[{}]", format::duration(elapsed));
    if knows_end {
        text.push_str(&format!(" {:.1}%", fraction * 100.0));
    }
    text.push_str(&format!(
        "  {files} {}, {} ({})",
        shown.noun,
        format::bytes(bytes),
        format::rate(bytes, elapsed)
    ));
    if shown.stored {
        text.push_str(&format!(
            ", {} stored",
            format::bytes(of(&counters.bytes_stored))
        ));
    }
    if problems > 0 {
        text.push_str(&format!(", {}", format::count(problems, "error")));
    }
    if let Some(left) = left {
        text.push_str(&format!("  ETA {}", format::duration(left)));
    }
    if ui.is_terminal {
        ui.status(&text)
    } else {
        ui.status_line(&text)
    }
}

/// Threads for work that a processor does: one a core.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
