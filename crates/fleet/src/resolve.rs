//! Which member is protected how: each with the policy that holds for it, and its copies.
//! It never leaves a member without a policy or a copy, nor lets a volume back up the repository that it goes into.

use crate::app::App;
use crate::command::Command;
use crate::database::Database;
use crate::dir::Dir;
use crate::fleet::Fleet;
use crate::jitter::Jitter;
use crate::keep::Keep;
use crate::key_path;
use crate::policy::{Copies, Policy, Timing};
use crate::problems::Problems;
use crate::repository::Repository;
use crate::schedule::Schedule;
use crate::spot::{Placed, Spot};
use crate::time_span::TimeSpan;
use crate::volume::Volume;

/// How one member is protected.
#[derive(Clone, Debug, PartialEq)]
pub struct Protection<'f> {
    /// Its app.
    pub app: &'f App,
    /// The member.
    pub member: Member<'f>,
    /// The machine that it lives on; none is the one that reads the file.
    pub host: Option<&'f str>,
    /// The policy that holds for it.
    pub policy: &'f Policy,
    /// Its copies, the primary first.
    pub copies: Vec<Copy<'f>>,
    /// Whether a log of it is archived.
    pub log: bool,
}

/// A member of an app.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Member<'f> {
    /// A directory tree.
    Volume(&'f Volume),
    /// A database.
    Database(&'f Database),
    /// The output of a command.
    Command(&'f Command),
}

/// The protection of a member in one repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Copy<'f> {
    /// The repository.
    pub repository: &'f Repository,
    /// When.
    pub schedule: &'f Schedule,
    /// By how much that is shifted.
    pub jitter: Jitter,
    /// What is kept.
    pub keep: &'f Keep,
    /// How much time may be lost with it alone. What may be lost at all is said by the policy.
    pub rpo: Option<TimeSpan>,
    /// Where its captures come from.
    pub role: Role<'f>,
}

/// Where the captures of a copy come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'f> {
    /// From the member; others are copied from it.
    Primary,
    /// From the repository of this name.
    CopyOf(&'f str),
    /// From the member, whatever becomes of other copies.
    Independent,
}

impl<'f> Member<'f> {
    /// Its name in the app, and where that stands.
    #[must_use]
    pub fn name(self) -> &'f Placed<String> {
        match self {
            Self::Volume(one) => &one.name,
            Self::Database(one) => &one.name,
            Self::Command(one) => &one.name,
        }
    }

    /// Its own policy.
    fn policy(self) -> Option<&'f Placed<String>> {
        match self {
            Self::Volume(one) => one.policy.as_ref(),
            Self::Database(one) => one.policy.as_ref(),
            Self::Command(one) => one.policy.as_ref(),
        }
    }

    fn is_exempt(self) -> bool {
        match self {
            Self::Volume(one) => one.exempt.is_some(),
            Self::Database(one) => one.exempt.is_some(),
            Self::Command(one) => one.exempt.is_some(),
        }
    }

    /// The key that it stands under, and what it is called.
    fn kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Volume(_) => ("volumes", "a volume"),
            Self::Database(_) => ("databases", "a database captured like this"),
            Self::Command(_) => ("commands", "a command"),
        }
    }

    fn has_log(self, keeps_window: bool) -> bool {
        matches!(self, Self::Database(database) if database.has_log(keeps_window))
    }
}

impl Protection<'_> {
    /// The path that its captures have.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/apps/{}/{}", self.app.name.value, self.member.name().value)
    }
}

impl App {
    /// Its members: volumes, databases, commands.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let volumes = self.volumes.iter().map(Member::Volume);
        let databases = self.databases.iter().map(Member::Database);
        volumes
            .chain(databases)
            .chain(self.commands.iter().map(Member::Command))
    }
}

impl Fleet {
    /// Every member that is protected, in the order of the file.
    #[must_use]
    pub fn members(&self) -> Vec<Protection<'_>> {
        protections(self, &mut Problems::default())
    }

    /// What is allowed and may be meant otherwise.
    #[must_use]
    pub fn warnings(&self) -> Vec<FleetWarning> {
        let mut seen: Vec<(Dir, &App, &Volume)> = Vec::new();
        let mut warnings = Vec::new();
        for app in self.apps.iter().filter(|app| app.exempt.is_none()) {
            for volume in app.volumes.iter().filter(|volume| volume.exempt.is_none()) {
                let dir = Dir::of(&self.file, &volume.path.value);
                let host = |app: &App| app.host.as_ref().map(|host| host.value.clone());
                let twin = seen
                    .iter()
                    .find(|(other, of, _)| *other == dir && host(of) == host(app));
                if let Some((_, other, first)) = twin {
                    let (name, spot) = (&other.name.value, first.path.spot);
                    warnings.push(FleetWarning {
                        spot: volume.path.spot,
                        path: key_path::below(&place_of(app, Member::Volume(volume)), "path"),
                        what: format!(
                            "this directory is protected by the app {name} already, at {spot}"
                        ),
                    });
                }
                seen.push((dir, app, volume));
            }
        }
        warnings
    }
}

/// Something that is allowed and may be meant otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetWarning {
    /// Where.
    pub spot: Spot,
    /// The keys that lead there.
    pub path: String,
    /// What.
    pub what: String,
}

/// Notes what of a fleet does not go together.
pub(crate) fn check(fleet: &Fleet, problems: &mut Problems) {
    check_repositories(fleet, problems);
    for protection in protections(fleet, problems) {
        check_window(&protection, problems);
        check_objective(&protection, problems);
        if let Member::Volume(volume) = protection.member {
            check_volume(fleet, protection.app, volume, problems);
        }
    }
}

fn place_of(app: &App, member: Member<'_>) -> String {
    let app = key_path::below("apps", &app.name.value);
    key_path::below(
        &key_path::below(&app, member.kind().0),
        &member.name().value,
    )
}

fn protections<'f>(fleet: &'f Fleet, problems: &mut Problems) -> Vec<Protection<'f>> {
    let mut found = Vec::new();
    for app in fleet.apps.iter().filter(|app| app.exempt.is_none()) {
        for member in app.members().filter(|member| !member.is_exempt()) {
            let place = place_of(app, member);
            let named = member
                .policy()
                .or(app.policy.as_ref())
                .or(fleet.defaults.policy.as_ref());
            let Some(policy) = named.and_then(|name| fleet.policy(&name.value)) else {
                let hint = "name a `policy` here, in the app or in `defaults`, or say why not: `exempt: REASON`";
                problems.add(
                    member.name().spot,
                    place,
                    "no policy holds for this member",
                    Some(hint.to_owned()),
                );
                continue;
            };
            let copies = copies(fleet, app, policy);
            if copies.is_empty() {
                let hint = "declare one under `repositories`".to_owned();
                problems.add(
                    member.name().spot,
                    place,
                    "there is no repository for this member",
                    hint,
                );
                continue;
            }
            let mut timings = policy.copies.timings();
            let log = member.has_log(timings.any(|timing| timing.keep.window.is_some()));
            let host = app.host.as_ref().map(|host| host.value.as_str());
            found.push(Protection {
                app,
                member,
                host,
                policy,
                copies,
                log,
            });
        }
    }
    found
}

fn copies<'f>(fleet: &'f Fleet, app: &'f App, policy: &'f Policy) -> Vec<Copy<'f>> {
    let copy = |repository, timing: &'f Timing, rpo: Option<Placed<TimeSpan>>, role| Copy {
        repository,
        schedule: &timing.schedule.value,
        jitter: timing.jitter,
        keep: &timing.keep,
        rpo: rpo.map(|rpo| rpo.value),
        role,
    };
    match &policy.copies {
        Copies::Independent(copies) => {
            let found = copies.iter().filter_map(|one| {
                let repository = fleet.repository(&one.to.value)?;
                Some(copy(repository, &one.timing, one.rpo, Role::Independent))
            });
            found.collect()
        }
        Copies::Chained(timing) => {
            let named = app
                .repositories
                .as_ref()
                .or(fleet.defaults.repositories.as_ref());
            let repositories: Vec<&Repository> = match named {
                Some(names) => names
                    .iter()
                    .filter_map(|name| fleet.repository(&name.value))
                    .collect(),
                None => fleet.repositories.iter().collect(),
            };
            let primary = repositories.first().map(|first| first.name.value.as_str());
            let roles = std::iter::once(Role::Primary).chain(std::iter::repeat(
                primary.map_or(Role::Primary, Role::CopyOf),
            ));
            let found = repositories.into_iter().zip(roles);
            found
                .map(|(repository, role)| copy(repository, timing, policy.rpo, role))
                .collect()
        }
    }
}

/// Two names of one repository would be two copies in one place.
fn check_repositories(fleet: &Fleet, problems: &mut Problems) {
    for (at, one) in fleet.repositories.iter().enumerate() {
        let mut before = fleet.repositories.iter().take(at);
        let template = one.url.value.template().trim_end_matches('/');
        if let Some(first) =
            before.find(|other| other.url.value.template().trim_end_matches('/') == template)
        {
            let path = key_path::below(&key_path::below("repositories", &one.name.value), "url");
            let what = format!(
                "the repository `{}` lies there already, at {}",
                first.name.value, first.url.spot
            );
            let hint = "two copies in one place are one: keep one of the two".to_owned();
            problems.add(one.url.spot, path, what, hint);
        }
    }
}

/// A window is kept by log; what has none can't be recovered to any instant.
fn check_window(protection: &Protection<'_>, problems: &mut Problems) {
    let mut timings = protection.policy.copies.timings();
    let Some(window) = timings.find_map(|timing| timing.keep.window) else {
        return;
    };
    if protection.log {
        return;
    }
    let (member, policy) = (protection.member, &protection.policy.name.value);
    let what = format!(
        "the policy `{policy}` keeps a recovery window, at {}, and {} has no log",
        window.spot,
        member.kind().1
    );
    let hint = "name a policy without `window` for it".to_owned();
    problems.add(
        member.name().spot,
        place_of(protection.app, member),
        what,
        hint,
    );
}

/// What is captured less often than it may be lost misses its objective from the first day.
fn check_objective(protection: &Protection<'_>, problems: &mut Problems) {
    if protection.log {
        return;
    }
    let member = protection.member;
    let policy = key_path::below("policies", &protection.policy.name.value);
    let mut tell = |rpo: Placed<TimeSpan>, path: String, schedule: &Schedule| {
        let what = format!(
            "{} can't be met by the schedule `{schedule}`, for `{}/{}`",
            rpo.value,
            protection.app.name.value,
            member.name().value
        );
        let hint = "capture more often, or allow for more".to_owned();
        problems.add(rpo.spot, path, what, hint);
    };
    let misses = |rpo: Placed<TimeSpan>, timing: &Timing| {
        rpo.value.duration() < timing.schedule.value.period()
    };
    if let Copies::Independent(copies) = &protection.policy.copies {
        for (index, copy) in copies.iter().enumerate() {
            if let Some(rpo) = copy.rpo.filter(|rpo| misses(*rpo, &copy.timing)) {
                let path = key_path::item(&key_path::below(&policy, "copies"), index);
                tell(
                    rpo,
                    key_path::below(&path, "rpo"),
                    &copy.timing.schedule.value,
                );
            }
        }
    }
    let timings = || protection.policy.copies.timings();
    let most_often = timings().min_by_key(|timing| timing.schedule.value.period());
    if let (Some(rpo), Some(timing)) = (protection.policy.rpo, most_often)
        && misses(rpo, timing)
    {
        tell(rpo, key_path::below(&policy, "rpo"), &timing.schedule.value);
    }
}

/// What is no data, or would hold its own backup, is no volume.
fn check_volume(fleet: &Fleet, app: &App, volume: &Volume, problems: &mut Problems) {
    let place = key_path::below(&place_of(app, Member::Volume(volume)), "path");
    let mut tell = |what: String, hint: &str| {
        problems.add(volume.path.spot, place.clone(), what, Some(hint.to_owned()));
    };
    let dir = Dir::of(&fleet.file, &volume.path.value);
    for system in ["/proc", "/sys", "/dev"] {
        if dir.is_in(&Dir::of("", system)) {
            tell(
                format!("{system} is the kernel's, and no data"),
                "name the directory that holds the data",
            );
        }
    }
    if dir == Dir::of("", "/") && !volume.one_file_system {
        tell(
            "the whole machine has /proc, /sys and /dev in it".to_owned(),
            "add `one_file_system: true`, or name the directories that hold data",
        );
    }
    for repository in &fleet.repositories {
        let Some(local) = repository.url.value.local_dir() else {
            continue;
        };
        let other = Dir::of(&fleet.file, local);
        let (name, spot) = (&repository.name.value, repository.url.spot);
        if dir.is_in(&other) {
            tell(
                format!("this lies in the repository `{name}`, at {spot}"),
                "a repository is not backed up into itself: name another directory",
            );
        } else if other.is_in(&dir) {
            tell(
                format!("the repository `{name}` lies in this, at {spot}"),
                "it would back up itself: name the directories beside it",
            );
        }
    }
}
