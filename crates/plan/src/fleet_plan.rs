//! What a fleet needs now: which members are captured into which repositories, which captures are copied, and why.
//! It must never leave out a member without saying so, nor decide on what nobody knows as if it were known.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lifeboat_fleet::{Copy, Fleet, Member, Protection, Role};

use crate::due::{Due, DueReason, Freshness, Turns};
use crate::guard::Flag;

/// One copy of a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CopyName {
    /// The app.
    pub app: String,
    /// The member.
    pub member: String,
    /// The repository.
    pub repository: String,
}

/// What is known of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFacts {
    /// The instant of its newest capture that can be seen and that a recovery point names, if there is one.
    pub newest: Option<Timestamp>,
    /// What is suspicious about that one.
    pub flag: Option<Flag>,
    /// Why nobody knows whether it is the newest.
    pub unknown: Option<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct FleetRequest<'a> {
    /// These apps, whether their turn has come or not; if none is named, what is due of all.
    pub apps: &'a [String],
    /// The machine that it is asked on.
    pub host: &'a str,
    /// The instant.
    pub now: Timestamp,
    /// The time zone of the machine, for a fleet that names none.
    pub zone: &'a TimeZone,
}

/// What a fleet needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetPlan {
    /// Apps with their members, in the order of the file.
    pub apps: Vec<AppPlan>,
}

/// What an app needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPlan {
    /// The app.
    pub app: String,
    /// The machine that it lives on, if it is another one: nothing of it is done here.
    pub elsewhere: Option<String>,
    /// Its members, but for those that are exempt.
    pub members: Vec<MemberPlan>,
    /// Members that are not protected, each with the reason; all of the app if it is exempt itself.
    pub exempt: Vec<(String, String)>,
}

/// What a member needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPlan {
    /// The member.
    pub member: String,
    /// What it is: `volume`, `postgresql` or `command`.
    pub kind: &'static str,
    /// The policy that holds for it.
    pub policy: String,
    /// Its copies, the primary first.
    pub copies: Vec<CopyPlan>,
}

/// What one copy of a member needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// The repository.
    pub repository: String,
    /// The repository that captures are copied from; none where they are made.
    pub from: Option<String>,
    /// The newest capture that can be seen.
    pub newest: Option<Timestamp>,
    /// What is suspicious about it.
    pub flag: Option<Flag>,
    /// Why nobody knows whether it is the newest.
    pub unknown: Option<String>,
    /// How that stands beside what was promised.
    pub freshness: Freshness,
    /// Whether something is to be done.
    pub due: Due,
}

impl CopyPlan {
    /// Why something is to be done now.
    #[must_use]
    pub fn reason(&self) -> Option<DueReason> {
        match self.due {
            Due::Now(reason) => Some(reason),
            Due::At(_) | Due::Never => None,
        }
    }
}

impl FleetPlan {
    /// Whether nothing is to be done now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due().next().is_none()
    }

    /// What is to be done now.
    pub fn due(&self) -> impl Iterator<Item = (&AppPlan, &MemberPlan, &CopyPlan)> {
        self.copies()
            .filter(|(app, _, copy)| app.elsewhere.is_none() && copy.reason().is_some())
    }

    /// All copies.
    pub fn copies(&self) -> impl Iterator<Item = (&AppPlan, &MemberPlan, &CopyPlan)> {
        self.apps.iter().flat_map(|app| {
            let members = app.members.iter();
            members
                .flat_map(move |member| member.copies.iter().map(move |copy| (app, member, copy)))
        })
    }
}

/// What a member is.
#[must_use]
pub fn kind_of(member: Member<'_>) -> &'static str {
    match member {
        Member::Volume(_) => "volume",
        Member::Database(_) => "postgresql",
        Member::Command(_) => "command",
    }
}

/// Decides what a fleet needs. Copies of which nothing is known count as unknown, and are tried when their turn is asked for.
#[must_use]
pub fn plan_fleet(
    fleet: &Fleet,
    facts: &BTreeMap<CopyName, CopyFacts>,
    request: &FleetRequest<'_>,
) -> FleetPlan {
    let protections = fleet.members();
    let is_asked = |app: &str| request.apps.is_empty() || request.apps.iter().any(|one| one == app);
    let apps = fleet.apps.iter().filter(|app| is_asked(&app.name.value));
    let apps = apps.map(|app| {
        let name = &app.name.value;
        let own = protections.iter();
        let own = own.filter(|one| one.app.name.value == *name);
        let exempt = match &app.exempt {
            Some(why) => vec![(name.clone(), why.clone())],
            None => app.members().filter_map(exempt_of).collect(),
        };
        let host = app.host.as_ref().map(|host| host.value.as_str());
        AppPlan {
            app: name.clone(),
            elsewhere: host.filter(|host| *host != request.host).map(str::to_owned),
            members: own
                .map(|one| member_plan(fleet, one, facts, request))
                .collect(),
            exempt,
        }
    });
    FleetPlan {
        apps: apps.collect(),
    }
}

fn exempt_of(member: Member<'_>) -> Option<(String, String)> {
    let why = match member {
        Member::Volume(one) => one.exempt.as_ref(),
        Member::Database(one) => one.exempt.as_ref(),
        Member::Command(one) => one.exempt.as_ref(),
    };
    Some((member.name().value.clone(), why?.clone()))
}

fn member_plan(
    fleet: &Fleet,
    protection: &Protection<'_>,
    facts: &BTreeMap<CopyName, CopyFacts>,
    request: &FleetRequest<'_>,
) -> MemberPlan {
    let (app, member) = (&protection.app.name.value, &protection.member.name().value);
    let known = |repository: &str| {
        let name = CopyName {
            app: app.clone(),
            member: member.clone(),
            repository: repository.to_owned(),
        };
        let nobody = || CopyFacts {
            unknown: Some("nobody looked".to_owned()),
            ..CopyFacts::default()
        };
        facts.get(&name).cloned().unwrap_or_else(nobody)
    };
    let mut copies: Vec<CopyPlan> = Vec::new();
    for copy in &protection.copies {
        let planned = copy_plan(fleet, protection, copy, &known, request);
        copies.push(planned);
    }
    // A copy follows what it is copied from: when that is due, and when it has something newer.
    let primary = copies.first().map(|first| (first.due, first.newest));
    if let Some((due, newest)) = primary {
        for copy in copies.iter_mut().filter(|copy| copy.from.is_some()) {
            copy.due = match (due, newest) {
                (Due::Now(reason), _) => Due::Now(reason),
                (_, Some(newest)) if copy.newest.is_none_or(|own| own < newest) => {
                    Due::Now(DueReason::Behind(newest))
                }
                (later, _) => later,
            };
        }
    }
    MemberPlan {
        member: member.clone(),
        kind: kind_of(protection.member),
        policy: protection.policy.name.value.clone(),
        copies,
    }
}

fn copy_plan(
    fleet: &Fleet,
    protection: &Protection<'_>,
    copy: &Copy<'_>,
    known: &dyn Fn(&str) -> CopyFacts,
    request: &FleetRequest<'_>,
) -> CopyPlan {
    let repository = &copy.repository.name.value;
    let from = match copy.role {
        Role::CopyOf(primary) => Some(primary.to_owned()),
        Role::Primary | Role::Independent => None,
    };
    // Copies of one member share the shift, so that a copy is not late before its source is.
    let seed = format!(
        "{}/{}/{}/{}",
        fleet.name,
        protection.app.name.value,
        protection.member.name().value,
        from.as_deref().unwrap_or(repository)
    );
    let turns = Turns::new(
        copy.schedule,
        copy.jitter,
        &seed,
        fleet.time_zone(request.zone),
    );
    let CopyFacts {
        newest,
        flag,
        unknown,
    } = known(repository);
    let freshness = match &unknown {
        Some(_) => Freshness::Unknown,
        None => turns.freshness(newest, copy.rpo, request.now),
    };
    let due = match request.apps.is_empty() {
        true => turns.due(newest, request.now),
        false => Due::Now(DueReason::Asked),
    };
    CopyPlan {
        repository: repository.clone(),
        from,
        newest,
        flag,
        unknown,
        freshness,
        due,
    }
}
