//! What is run around the captures of an app: hooks, and services of Compose that stand still meanwhile.
//! It must never leave a service stopped that it stopped, nor a hook running beyond its time.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_fleet::{App, Hook, OnFailure};
use lifeboat_flow::{Cancel, Event, Problem};
use rustix::process::{Pid, Signal, kill_process_group};

use super::FleetRun;

/// How long a service may take to stop or start.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks at whether a hook has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What was run before captures.
#[derive(Default)]
pub(super) struct Before {
    /// Words for `docker compose` that let go on what stands still.
    undo: Vec<Vec<String>>,
}

impl FleetRun<'_> {
    /// Runs what comes before the captures. What stands still by then is in the first part, also if the rest failed.
    ///
    /// # Errors
    /// When something failed without which there must be no capture.
    pub(super) fn before(&self, app: &App) -> (Before, Result<(), String>) {
        let mut before = Before::default();
        let done = self.hooks_and_services(app, &mut before);
        (before, done)
    }

    fn hooks_and_services(&self, app: &App, before: &mut Before) -> Result<(), String> {
        let wish = Some(self.cancel);
        for hook in &app.hooks.before {
            match (self.hook(hook, wish), hook.on_failure) {
                (Ok(()), _) => {}
                (Err(why), OnFailure::Stop) => return Err(why),
                (Err(why), OnFailure::Continue) => self.tell(app, &hook.run.value, why),
            }
        }
        let services = [
            ("stop", "start", &app.hooks.stop),
            ("pause", "unpause", &app.hooks.pause),
        ];
        for (stop, start, names) in services {
            if names.is_empty() {
                continue;
            }
            let words = |word: &str| {
                let names = names.iter().map(|name| name.value.clone());
                std::iter::once(word.to_owned()).chain(names).collect()
            };
            // Before it is tried: what fails may have stopped some of them.
            before.undo.push(words(start));
            let words: Vec<String> = words(stop);
            self.compose(app, &words, wish)?;
        }
        Ok(())
    }

    /// Runs what comes after them, all of it, whoever wishes to stop; gives what failed.
    pub(super) fn after(&self, app: &App, before: &Before) -> Vec<String> {
        let services = before.undo.iter();
        let services = services.map(|words| self.compose(app, words, None));
        let hooks = app.hooks.after.iter().map(|hook| self.hook(hook, None));
        let failed = services.chain(hooks).filter_map(Result::err);
        failed
            .map(|why| format!("{}: {why}", app.name.value))
            .collect()
    }

    fn hook(&self, hook: &Hook, wish: Option<&Cancel>) -> Result<(), String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &hook.run.value]);
        self.run_within(&mut shell, hook.timeout, wish)
            .map_err(|why| format!("the hook `{}` {why}", hook.run.value))
    }

    fn compose(&self, app: &App, words: &[String], wish: Option<&Cancel>) -> Result<(), String> {
        let file = app.compose.as_ref();
        let file = file.map_or("compose.yaml", |file| file.value.as_str());
        let mut docker = Command::new("docker");
        docker
            .args(["compose", "-f"])
            .arg(self.dir.join(file))
            .args(words);
        self.run_within(&mut docker, SERVICE_TIMEOUT, wish)
            .map_err(|why| format!("`docker compose {}` {why}", words.join(" ")))
    }

    /// Runs a command in the directory of the fleet file; what it says is on our standard error.
    fn run_within(
        &self,
        command: &mut Command,
        timeout: Duration,
        wish: Option<&Cancel>,
    ) -> Result<(), String> {
        // A group of its own, so that what it starts ends with it.
        command
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .process_group(0);
        // What it prints is no result of ours.
        command.stdout(std::io::stderr());
        let mut child = command
            .spawn()
            .map_err(|error| format!("can't be run: {error}"))?;
        let is_wished = || wish.is_some_and(Cancel::is_cancelled);
        let began = Instant::now();
        loop {
            let why = match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("failed: {status}")),
                Ok(None) if is_wished() => "was interrupted".to_owned(),
                Ok(None) if began.elapsed() < timeout => {
                    std::thread::sleep(LOOK_EVERY);
                    continue;
                }
                Ok(None) => format!("took more than {} s, and was stopped", timeout.as_secs()),
                Err(error) => format!("can't be waited for: {error}"),
            };
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            // It may have ended by itself.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait();
            return Err(why);
        }
    }

    fn tell(&self, app: &App, what: &str, why: String) {
        self.events.event(Event::Problem(Problem {
            path: app.name.value.clone(),
            doing: format!("run `{what}`"),
            why,
        }));
    }
}
