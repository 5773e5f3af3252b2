//! A plan for people and programs: what is done now, what comes when, and how old what is there is.
//! It must never show a member as protected that is not.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lifeboat_plan::{AppPlan, CopyPlan, Due, DueReason, FleetPlan, MemberPlan};
use serde_json::json;

use super::file::FleetFile;
use crate::ui::Ui;

/// What would be done, and when.
pub fn plan(ui: &Ui, plan: &FleetPlan, file: &FleetFile, now: Timestamp) {
    let local = TimeZone::system();
    let zone = file.fleet.time_zone(&local);
    show(ui, plan, now, zone, |copy| match copy.due {
        Due::Now(reason) => format!("now, {}", reason_text(reason, zone)),
        Due::At(at) => format!(
            "at {} (in {})",
            clock(at, zone),
            span(at.duration_since(now))
        ),
        Due::Never => "never again".to_owned(),
    });
}

/// How old what comes back is.
pub fn status(ui: &Ui, plan: &FleetPlan, file: &FleetFile, now: Timestamp) {
    let local = TimeZone::system();
    let zone = file.fleet.time_zone(&local);
    show(ui, plan, now, zone, |copy| match copy.flag {
        None => copy.freshness.name().to_owned(),
        Some(flag) => format!("{}, but the source is {flag}", copy.freshness.name()),
    });
}

/// A time of a capture, as the clocks of the fleet show it.
pub fn time(time: lifeboat_format::Timestamp, zone: &TimeZone) -> String {
    let at = Timestamp::from_nanosecond(time.unix_nanoseconds());
    at.map_or_else(|_| time.to_string(), |at| clock(at, zone))
}

/// That nothing is due, and what comes next.
pub fn nothing(ui: &Ui, plan: &FleetPlan, file: &FleetFile, now: Timestamp) {
    let local = TimeZone::system();
    let zone = file.fleet.time_zone(&local);
    let here = plan.copies().filter(|(app, ..)| app.elsewhere.is_none());
    let next = here.filter_map(|(app, member, copy)| match copy.due {
        Due::At(at) => Some((at, app, member, copy)),
        Due::Now(_) | Due::Never => None,
    });
    let next = next.min_by_key(|(at, ..)| *at);
    match next {
        _ if ui.json => ui.object(&json!({
            "message_type": "summary", "steps_done": 0, "steps_failed": 0, "next": next.map(|(at, ..)| at.to_string()),
        })),
        None => ui.say("nothing is due"),
        Some((at, app, member, copy)) => ui.say(format_args!(
            "nothing is due; next is {}/{} in {} at {} (in {})",
            app.app,
            member.member,
            copy.repository,
            clock(at, zone),
            span(at.duration_since(now))
        )),
    }
}

fn show(
    ui: &Ui,
    plan: &FleetPlan,
    now: Timestamp,
    zone: &TimeZone,
    word: impl Fn(&CopyPlan) -> String,
) {
    for app in &plan.apps {
        if !ui.json {
            let place = app.elsewhere.as_ref().map(|host| format!(", on {host}"));
            ui.line(format_args!("{}{}", app.app, place.unwrap_or_default()));
        }
        for member in &app.members {
            for copy in &member.copies {
                let word = match &app.elsewhere {
                    None => word(copy),
                    Some(_) => copy.freshness.name().to_owned(),
                };
                match ui.json {
                    true => object(ui, (app, member, copy), now),
                    false => line(ui, (member, copy), now, zone, &word),
                }
            }
        }
        for (name, why) in &app.exempt {
            match ui.json {
                true => ui.object(&json!({"message_type": "exempt", "app": app.app, "member": name, "reason": why})),
                false => ui.line(format_args!("  {name:<16} not protected: {why}")),
            }
        }
    }
}

fn line(
    ui: &Ui,
    (member, copy): (&MemberPlan, &CopyPlan),
    now: Timestamp,
    zone: &TimeZone,
    word: &str,
) {
    let age = match (&copy.unknown, copy.newest) {
        (Some(why), None) => format!("not known: {why}"),
        (Some(why), Some(newest)) => {
            format!("newest that can be read {}: {why}", clock(newest, zone))
        }
        (None, None) => "no capture".to_owned(),
        (None, Some(newest)) => format!(
            "newest {} ({} old)",
            clock(newest, zone),
            span(now.duration_since(newest))
        ),
    };
    let from = copy.from.as_ref().map(|from| format!(" from {from}"));
    ui.line(format_args!(
        "  {:<16} {:<10} {:<24} {word}; {age}",
        member.member,
        member.kind,
        format!("{}{}", copy.repository, from.unwrap_or_default())
    ));
}

fn object(ui: &Ui, (app, member, copy): (&AppPlan, &MemberPlan, &CopyPlan), now: Timestamp) {
    let (due, reason, at) = match copy.due {
        _ if app.elsewhere.is_some() => (false, None, None),
        Due::Now(reason) => (true, Some(reason_name(reason)), None),
        Due::At(at) => (false, None, Some(at.to_string())),
        Due::Never => (false, None, None),
    };
    let age = copy
        .newest
        .map(|newest| now.duration_since(newest).as_secs());
    ui.object(&json!({
        "message_type": "copy", "app": app.app, "member": member.member, "kind": member.kind, "policy": member.policy,
        "host": app.elsewhere, "repository": copy.repository, "from": copy.from, "due": due, "reason": reason, "next": at,
        "newest": copy.newest.map(|newest| newest.to_string()), "age_seconds": age, "state": copy.freshness.name(), "flag": copy.flag, "unknown": copy.unknown,
    }));
}

fn reason_name(reason: DueReason) -> &'static str {
    match reason {
        DueReason::First => "first",
        DueReason::Turn(_) => "turn",
        DueReason::Missed(_) => "missed",
        DueReason::Behind(_) => "behind",
        DueReason::Asked => "asked",
    }
}

fn reason_text(reason: DueReason, zone: &TimeZone) -> String {
    match reason {
        DueReason::First => "the first".to_owned(),
        DueReason::Turn(at) => format!("its turn was at {}", clock(at, zone)),
        DueReason::Missed(at) => format!("turns were missed, the last at {}", clock(at, zone)),
        DueReason::Behind(at) => format!("what it is copied from has one of {}", clock(at, zone)),
        DueReason::Asked => "as asked".to_owned(),
    }
}

fn clock(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// A length of time in its two largest units.
fn span(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_600, "1 h 0 min"),
            (93_784, "1 d 2 h"),
            (-5, "0 s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(SignedDuration::from_secs(seconds)), text);
        }
    }
}
