//! The captures of an app: of each member that is due into each repository that it is due in, and the recovery point.
//! It must never write the recovery point before the captures, nor call a member captured that was not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use lifeboat_fleet::{Command, Database, Member, Method, Repository as Place, Volume};
use lifeboat_flow::{Cancel, Cancelled, Source, Timestamp, chain};
use lifeboat_format::{Id, Snapshot, SnapshotSummary};
use lifeboat_plan::{Case, FilesEngine, Flag, MemberState, PatternSet, PointMember, kind_of};
use lifeboat_repo::{Index, PackListing, Repository, Snapshots};
use lifeboat_state::postgres::client::Host;
use lifeboat_state::sqlite::SqliteSource;
use lifeboat_state::{CommandSource, VolumeOptions, VolumeSource};

use super::done::{FleetDone, StepDone, StepResult};
use super::{DueMember, FleetRun, Store, Turn};
use crate::backup::{BackupOptions, ChangeRule};
use crate::below::Below;
use crate::files_capture::{FilesCapture, FilesCaptured};
use crate::fleet::{Fleet, FleetError};
use crate::node::node_of;
use crate::point::{PointWriter, path_of, tags_of};
use crate::postgres::{Capture, CaptureError, DumpCapture, DumpCaptureError};

/// Files that are read at once, at least.
const READERS_MIN: usize = 2;

/// A repository with what is in it.
struct Opened {
    store: Store,
    snapshots: Snapshots,
    index: RwLock<Index>,
    fleet: Fleet,
}

/// A capture that was made, and what its recovery point says of it.
struct Made {
    snapshot: Option<Id>,
    instant: Timestamp,
    tree: Id,
    engine: String,
    bytes: u64,
    summary: SnapshotSummary,
    faults: u64,
    flag: Option<Flag>,
}

/// Why there is none.
enum Unmade {
    Stopped(Cancelled),
    Failed(String),
}

/// A repository that captures go into, open, and the members that are due in it.
pub(super) struct OpenPlace<'t> {
    name: &'t str,
    members: Vec<&'t DueMember<'t>>,
    opened: Opened,
}

impl<'t> OpenPlace<'t> {
    pub(super) fn name(&self) -> &'t str {
        self.name
    }

    pub(super) fn members(&self) -> &[&'t DueMember<'t>] {
        &self.members
    }
}

impl FleetRun<'_> {
    /// Opens all repositories that captures are due in; steps of those that can't be had have failed.
    pub(super) fn open_all<'t>(
        &'t self,
        turn: &'t Turn<'t>,
        done: &mut FleetDone,
    ) -> Result<Vec<OpenPlace<'t>>, Cancelled> {
        let mut places = Vec::new();
        // In the order of the file: the first is the one that others are copied from.
        for place in &self.fleet.repositories {
            let name = place.name.value.as_str();
            let is_due = |member: &&DueMember<'_>| {
                let mut copies = member.copies.iter();
                copies.any(|copy| copy.repository == name && copy.from.is_none())
            };
            let members: Vec<&DueMember<'_>> = turn.members.iter().filter(is_due).collect();
            if members.is_empty() {
                continue;
            }
            self.cancel.check()?;
            match self.open(turn, place) {
                Ok(opened) => {
                    for (id, error) in &opened.snapshots.damaged {
                        let why = chain(error);
                        let trouble =
                            format!("the snapshot {} in {name} can't be read: {why}", id.short());
                        // Other apps are kept there too.
                        if !done.troubles.contains(&trouble) {
                            done.troubles.push(trouble);
                        }
                    }
                    places.push(OpenPlace {
                        name,
                        members,
                        opened,
                    });
                }
                Err(Unmade::Stopped(stop)) => return Err(stop),
                Err(Unmade::Failed(why)) => self.fail(turn, name, &members, &why, done),
            }
        }
        Ok(places)
    }

    /// Captures what is due, repository by repository.
    pub(super) fn captures(
        &self,
        turn: &Turn<'_>,
        places: &[OpenPlace<'_>],
        done: &mut FleetDone,
    ) -> Result<(), Cancelled> {
        for place in places {
            self.into(turn, place, done)?;
        }
        Ok(())
    }

    fn open(&self, turn: &Turn<'_>, place: &Place) -> Result<Opened, Unmade> {
        let store = self.outside.open(place, turn.name(), true);
        let store = store.map_err(|error| match error.is_wish {
            true => Unmade::Stopped(Cancelled),
            false => Unmade::Failed(error.message),
        })?;
        // Snapshots before the index: what a snapshot names was indexed before it was written.
        let snapshots = store.repository.snapshots().map_err(unmade)?;
        let (index, _) = store
            .repository
            .load_index(PackListing::Compare, self.cancel)
            .map_err(unmade)?;
        if let Some(lock) = &store.lock {
            lock.ensure().map_err(unmade)?;
        }
        Ok(Opened {
            fleet: self.identity(&store.repository).map_err(unmade)?,
            store,
            snapshots,
            index: RwLock::new(index),
        })
    }

    /// Who the fleet is: what the repository knows, or what one before it did, or somebody new.
    pub(super) fn identity(&self, repository: &Repository) -> Result<Fleet, FleetError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let new = known
            .clone()
            .unwrap_or_else(|| Fleet::new(&self.fleet.name, &self.who.hostname, (self.now)()));
        let fleet = Fleet::find_or_take(repository, &new)?;
        known.get_or_insert_with(|| fleet.clone());
        Ok(fleet)
    }

    fn into(
        &self,
        turn: &Turn<'_>,
        place: &OpenPlace<'_>,
        done: &mut FleetDone,
    ) -> Result<(), Cancelled> {
        let OpenPlace {
            name: repository,
            members,
            opened,
        } = place;
        let repository = *repository;
        let mut stopped = Ok(());
        let mut captured = BTreeMap::new();
        for member in members {
            self.events.begins(turn.name(), member.name(), repository);
            let began = Instant::now();
            let (point, result) = match self.capture(turn, opened, member) {
                Ok(made) => (made.in_point(opened), made.result()),
                Err(Unmade::Stopped(stop)) => {
                    stopped = Err(stop);
                    break;
                }
                Err(Unmade::Failed(why)) => {
                    (failed_in_point(member, &why), StepResult::Failed(why))
                }
            };
            captured.insert(member.name().to_owned(), point);
            self.end(
                done,
                StepDone {
                    app: turn.name().to_owned(),
                    member: member.name().to_owned(),
                    repository: repository.to_owned(),
                    result,
                    took: began.elapsed(),
                },
            );
        }
        let is_captured = |point: &PointMember| point.state == MemberState::Captured;
        if !captured.values().any(is_captured) {
            // Nothing new can come back: the point before says what does.
            return stopped;
        }
        // Also for what was captured until somebody wished to stop: it is small, and done at once.
        let unheard = Cancel::new();
        let writer = PointWriter {
            repository: &opened.store.repository,
            index: &opened.index,
            lock: opened.store.lock.as_ref(),
            fleet: &opened.fleet,
            app: turn.name(),
            fleet_file: Some(self.text),
            ingest: self.ingest,
            events: self.events,
            cancel: &unheard,
        };
        let draft = self.draft(opened, turn.name(), path_of(turn.name()));
        let written = writer.follow(&opened.snapshots.all, captured, draft, (self.now)());
        if let Err(error) = written {
            let app = turn.name();
            done.troubles
                .push(format!("{app} in {repository}: {}", chain(&error)));
        }
        stopped
    }

    fn draft(&self, opened: &Opened, app: &str, path: String) -> Snapshot {
        Snapshot {
            time: (self.now)(),
            parent: None,
            tree: Id::default(),
            paths: vec![path],
            hostname: self.fleet.name.clone(),
            username: self.who.username.clone(),
            uid: self.who.uid,
            gid: self.who.gid,
            excludes: Vec::new(),
            tags: tags_of(app, &opened.fleet),
            original: None,
            whole: None,
            program_version: self.program.to_owned(),
            summary: None,
        }
    }

    fn options(&self, opened: &Opened) -> BackupOptions {
        BackupOptions {
            parent: None,
            changed: None,
            change_rule: ChangeRule::default(),
            skip_if_unchanged: false,
            refuse_empty: false,
            workers: self.workers,
            readers: self.workers.max(READERS_MIN),
            scan: false,
            ingest: self
                .ingest
                .uploaders_for(&**opened.store.repository.backend()),
        }
    }

    fn capture(
        &self,
        turn: &Turn<'_>,
        opened: &Opened,
        member: &DueMember<'_>,
    ) -> Result<Made, Unmade> {
        let path = member.protection.path();
        let host = &self.fleet.name;
        let is_of_it =
            |snapshot: &Snapshot| snapshot.hostname == *host && snapshot.paths == [path.as_str()];
        let all = opened.snapshots.all.iter().rev();
        let mut before: Vec<(Id, &Snapshot)> = all
            .filter(|(_, snapshot)| is_of_it(snapshot))
            .map(|(id, snapshot)| (*id, snapshot))
            .collect();
        before.sort_by_key(|(_, snapshot)| std::cmp::Reverse(snapshot.time));
        let draft = self.draft(opened, turn.name(), path.clone());
        let subject = Subject {
            app: turn.name(),
            member: member.name(),
            before: &before,
            opened,
        };
        match member.member() {
            Member::Volume(volume) => self.volume(&subject, volume, draft),
            Member::Command(command) => self.command(&subject, command, draft),
            Member::Database(database) => self.database(&subject, database, draft),
        }
    }

    fn volume(&self, of: &Subject<'_>, volume: &Volume, draft: Snapshot) -> Result<Made, Unmade> {
        let path = self.dir.join(&volume.path.value);
        let failed = |why: String| Unmade::Failed(format!("{}: {why}", path.display()));
        // What a link leads to is the volume.
        let place = std::fs::canonicalize(&path).map_err(|error| failed(error.to_string()))?;
        if !place.is_dir() {
            return Err(failed("it is no directory".to_owned()));
        }
        let patterns = volume.exclude.iter().map(|pattern| pattern.value.as_str());
        let patterns = PatternSet::parse(patterns, Case::Sensitive).map_err(unmade)?;
        let select: Option<lifeboat_state::Select> = match patterns.is_empty() {
            true => None,
            false => {
                let top = place.clone();
                Some(Arc::new(move |path: &std::path::Path, _, _| {
                    use std::os::unix::ffi::OsStrExt;
                    // A pattern that begins with a slash begins at the volume.
                    let below = path.strip_prefix(&top).unwrap_or(path);
                    let below = [b"/", below.as_os_str().as_bytes()].concat();
                    !patterns.decide(&below).matched
                }))
            }
        };
        let options = VolumeOptions {
            select,
            one_file_system: volume.one_file_system,
            ..VolumeOptions::default()
        };
        let source = VolumeSource::new(vec![place.clone()], options).map_err(unmade)?;
        let dir = source
            .entries_of(&place)
            .into_iter()
            .next()
            .unwrap_or_default();
        let below = Below::new(&source, dir);
        let itself = below.itself().map_err(unmade)?.map(node_of);
        let origin = place.to_string_lossy();
        let scratch = self.scratch.to_path_buf();
        let databases = SqliteSource::new(&below, place.clone(), scratch, self.cancel, self.events);
        let source: &dyn Source = match volume.sqlite {
            true => &databases,
            false => &below,
        };
        let files = of.files(self, FilesEngine::Volume, &origin, source);
        let files = FilesCapture {
            dir: itself,
            guarded: volume.guard,
            ..files
        };
        Ok(files.run(draft, self.now).map_err(unmade)?.into())
    }

    fn command(
        &self,
        of: &Subject<'_>,
        command: &Command,
        draft: Snapshot,
    ) -> Result<Made, Unmade> {
        let seconds = command.timeout.as_secs().to_string();
        let words = [
            "timeout",
            "-k",
            "10",
            &seconds,
            "sh",
            "-c",
            &command.run.value,
        ];
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let source = CommandSource::new(of.member.as_bytes(), (self.now)(), words, None);
        let source = source.map_err(unmade)?.alone_in(self.dir);
        let files = of.files(self, FilesEngine::Command, &command.run.value, &source);
        match files.run(draft, self.now).map_err(unmade) {
            Ok(made) => Ok(made.into()),
            // The error names what keeps its time.
            Err(Unmade::Failed(why)) => {
                Err(Unmade::Failed(format!("`{}`: {why}", command.run.value)))
            }
            Err(stopped) => Err(stopped),
        }
    }

    fn database(
        &self,
        of: &Subject<'_>,
        database: &Database,
        draft: Snapshot,
    ) -> Result<Made, Unmade> {
        let address = self.outside.address(database);
        let address = address.map_err(|error| Unmade::Failed(error.message))?;
        let data = database
            .data
            .as_ref()
            .map(|data| PathBuf::from(&data.value));
        let before = of.before.first().copied();
        let Opened {
            store,
            index,
            fleet,
            ..
        } = of.opened;
        if database.method == Some(Method::Dump) {
            let databases: Vec<String> = database
                .databases
                .iter()
                .map(|name| name.value.clone())
                .collect();
            let capture = DumpCapture {
                repository: &store.repository,
                index,
                lock: store.lock.as_ref(),
                address: &address,
                databases: &databases,
                programs: None,
                other_dirs: self.program_dirs,
                app: of.app,
                member: of.member,
                fleet: Some(fleet),
                before,
                options: self.options(of.opened),
                counters: self.counters,
                events: self.events,
                cancel: self.cancel,
            };
            let made = capture
                .run(draft, self.now)
                .map_err(unmade::<DumpCaptureError>)?;
            return Ok(Made {
                snapshot: made.snapshot,
                instant: made.member.instant,
                tree: made.tree,
                engine: made.member.engine,
                bytes: made.summary.total_bytes_processed,
                summary: made.summary,
                faults: 0,
                flag: made.member.flags.first().map(|_| Flag::Emptied),
            });
        }
        let capture = Capture {
            repository: &store.repository,
            index,
            lock: store.lock.as_ref(),
            address: &address,
            data: data.as_deref(),
            app: of.app,
            member: of.member,
            fleet: Some(fleet),
            chunk_bytes: None,
            before,
            options: self.options(of.opened),
            counters: self.counters,
            events: self.events,
            stage: &|_| {},
            cancel: self.cancel,
        };
        let is_far = data.is_none() && !is_here(&address.host);
        let made = match database.method {
            Some(Method::Stream) => capture.run_remote(draft, self.now),
            None if is_far => capture.run_remote(draft, self.now),
            _ => capture.run(draft, self.now),
        };
        let made = made.map_err(unmade::<CaptureError>)?;
        Ok(Made {
            snapshot: made.snapshot,
            instant: made.member.instant,
            tree: made.tree,
            engine: made.member.engine,
            bytes: made.summary.total_bytes_processed,
            summary: made.summary,
            faults: made.member.faults_count,
            flag: None,
        })
    }
}

/// What is captured.
struct Subject<'a> {
    app: &'a str,
    member: &'a str,
    /// Captures of it, the newest first.
    before: &'a [(Id, &'a Snapshot)],
    opened: &'a Opened,
}

impl<'a> Subject<'a> {
    fn files(
        &self,
        run: &'a FleetRun<'_>,
        engine: FilesEngine,
        origin: &'a str,
        source: &'a dyn Source,
    ) -> FilesCapture<'a> {
        let Opened {
            store,
            index,
            fleet,
            ..
        } = self.opened;
        FilesCapture {
            repository: &store.repository,
            index,
            lock: store.lock.as_ref(),
            app: self.app,
            member: self.member,
            fleet: Some(fleet),
            engine,
            origin,
            source,
            dir: None,
            before: self.before,
            guarded: true,
            options: run.options(self.opened),
            counters: run.counters,
            events: run.events,
            cancel: run.cancel,
        }
    }
}

impl From<FilesCaptured> for Made {
    fn from(made: FilesCaptured) -> Self {
        Self {
            snapshot: made.snapshot,
            instant: made.record.instant,
            tree: made.tree,
            engine: made.record.engine.name().to_owned(),
            bytes: made.record.bytes,
            summary: made.summary,
            faults: made.record.faults_count,
            flag: made.record.flag,
        }
    }
}

impl Made {
    fn in_point(&self, opened: &Opened) -> PointMember {
        PointMember {
            state: MemberState::Captured,
            engine: self.engine.clone(),
            instant: Some(self.instant),
            tree: Some(self.tree),
            repository: Some(opened.store.repository.config().id.to_string()),
            faults: self.faults,
            error: None,
        }
    }

    fn result(&self) -> StepResult {
        StepResult::Captured {
            snapshot: self.snapshot,
            instant: self.instant,
            bytes: self.bytes,
            stored_bytes: self.summary.data_added_packed,
            faults: self.faults,
            flag: self.flag,
        }
    }
}

fn failed_in_point(member: &DueMember<'_>, why: &str) -> PointMember {
    PointMember {
        state: MemberState::Failed,
        engine: kind_of(member.member()).to_owned(),
        instant: None,
        tree: None,
        repository: None,
        faults: 0,
        error: Some(why.to_owned()),
    }
}

fn unmade<E: std::error::Error + 'static>(error: E) -> Unmade {
    match Cancelled::is_cause_of(&error) {
        true => Unmade::Stopped(Cancelled),
        false => Unmade::Failed(chain(&error)),
    }
}

/// Whether a server runs on this machine, as far as its address tells.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Socket(_) => true,
        Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
    }
}
