//! What is run around the captures of an app: hooks, and services of Compose that stand still meanwhile.
//! It must never leave a service stopped that it stopped, nor a hook running beyond its time.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_fleet::{App, Hook, OnFailure};
use lifeboat_flow::{Event, Problem};

use super::FleetRun;

/// How long a service may take to stop or start.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(300);
/// Between two looks at whether a hook has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl FleetRun<'_> {
    /// Runs what comes before the captures.
    ///
    /// # Errors
    /// When something failed without which there must be no capture.
    pub(super) fn before(&self, app: &App) -> Result<(), String> {
        for hook in &app.hooks.before {
            match (self.hook(hook), hook.on_failure) {
                (Ok(()), _) => {}
                (Err(why), OnFailure::Stop) => return Err(why),
                (Err(why), OnFailure::Continue) => self.tell(app, &hook.run.value, why),
            }
        }
        for words in services(app, ["stop", "pause"]) {
            self.compose(app, &words)?;
        }
        Ok(())
    }

    /// Runs what comes after them, all of it; gives what failed.
    pub(super) fn after(&self, app: &App) -> Vec<String> {
        let mut troubles = Vec::new();
        for words in services(app, ["start", "unpause"]) {
            troubles.extend(self.compose(app, &words).err());
        }
        for hook in &app.hooks.after {
            troubles.extend(self.hook(hook).err());
        }
        troubles
    }

    fn hook(&self, hook: &Hook) -> Result<(), String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &hook.run.value]);
        self.run_within(&mut shell, hook.timeout)
            .map_err(|why| format!("the hook `{}` {why}", hook.run.value))
    }

    fn compose(&self, app: &App, words: &[String]) -> Result<(), String> {
        let file = app
            .compose
            .as_ref()
            .map_or("compose.yaml", |file| file.value.as_str());
        let mut docker = Command::new("docker");
        docker
            .args(["compose", "-f"])
            .arg(self.dir.join(file))
            .args(words);
        self.run_within(&mut docker, SERVICE_TIMEOUT)
            .map_err(|why| format!("`docker compose {}` {why}", words.join(" ")))
    }

    /// Runs a command in the directory of the fleet file; what it says is on our standard error.
    fn run_within(&self, command: &mut Command, timeout: Duration) -> Result<(), String> {
        use std::os::unix::process::CommandExt;
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
        let began = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("failed: {status}")),
                Ok(None) if began.elapsed() < timeout && !self.cancel.is_cancelled() => {
                    // Whoever wishes to stop is heard at the next look.
                    let _ = self.cancel.sleep(LOOK_EVERY);
                }
                ended => {
                    let group = i32::try_from(child.id())
                        .ok()
                        .and_then(rustix::process::Pid::from_raw);
                    if let Some(group) = group {
                        // It may have ended by itself.
                        let _ = rustix::process::kill_process_group(
                            group,
                            rustix::process::Signal::KILL,
                        );
                    }
                    let _ = child.wait();
                    return Err(match ended {
                        Err(error) => format!("can't be waited for: {error}"),
                        Ok(_) if self.cancel.is_cancelled() => "was interrupted".to_owned(),
                        Ok(_) => format!("took more than {} s, and was stopped", timeout.as_secs()),
                    });
                }
            }
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

/// The words for `docker compose` that let services stand still, or go on.
fn services(app: &App, [stop, pause]: [&str; 2]) -> Vec<Vec<String>> {
    let lists = [(stop, &app.hooks.stop), (pause, &app.hooks.pause)];
    let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
    let words = lists.map(|(word, names)| {
        let names = names.iter().map(|name| name.value.clone());
        std::iter::once(word.to_owned()).chain(names).collect()
    });
    words.collect()
}
