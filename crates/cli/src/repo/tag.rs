//! `lifeboat repo tag`: changes the tags of snapshots.
//! It must never remove a snapshot before the one with the new tags is stored.

use clap::Args;
use lifeboat_plan::TagList;
use serde_json::json;

use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Change the tags of snapshots
///
/// Without a snapshot or filter all are changed. Example: lifeboat repo tag --add keep latest
#[derive(Args)]
pub struct Tag {
    /// The snapshots
    #[arg(value_name = "SNAPSHOT")]
    ids: Vec<String>,
    /// Replace all tags by these; an empty list removes all
    #[arg(long, value_name = "TAGS", conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    /// Add these tags
    #[arg(long, value_name = "TAGS")]
    add: Vec<String>,
    /// Remove these tags
    #[arg(long, value_name = "TAGS")]
    remove: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Tag {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        if self.set.is_empty() && self.add.is_empty() && self.remove.is_empty() {
            return Err(
                Failure::new("nothing says what to change").hint("give --set, --add or --remove")
            );
        }
        // A name that is none is told before anything is fetched.
        let is_name = |name: &String| select::parse(name).map(drop);
        self.ids.iter().try_for_each(is_name)?;
        let session = Session::open(global, ui, Locking::Exclusive)?;
        let snapshots = session.snapshots_and_damage(ui)?;
        // One that can't be read might have been meant; one that was named was found.
        let unread = match self.ids.as_slice() {
            [] => snapshots.damaged.len() as u64,
            _ => 0,
        };
        let all = snapshots.all;
        let mut changed = 0;
        let lock = session.lock.as_ref();
        for (id, mut snapshot) in select::among(&all, ui, &self.ids, &self.filter.filter())? {
            session.cancel.check()?;
            let before = snapshot.tags.clone();
            self.apply(&mut snapshot.tags);
            if snapshot.tags == before {
                continue;
            }
            // The first snapshot of such a chain is what others may know it by.
            snapshot.original.get_or_insert(id);
            // A run that was interrupted, or not allowed to remove, has stored it already.
            let earlier = all.iter().find(|(_, known)| *known == snapshot);
            let new = match earlier {
                Some((earlier, _)) => *earlier,
                None => session.repository.save_snapshot_under(lock, &snapshot)?,
            };
            session.ensure()?;
            session.repository.remove_replaced(id, new)?;
            changed += 1;
            if ui.json {
                ui.object(&json!({"message_type": "changed", "old_snapshot_id": id.to_string(), "new_snapshot_id": new.to_string()}));
            } else if ui.verbose > 0 {
                ui.say(format_args!(
                    "snapshot {} is now {}",
                    id.short(),
                    new.short()
                ));
            }
        }
        if ui.json {
            ui.object(&json!({"message_type": "summary", "changed_snapshots": changed}));
        }
        ui.say(format_args!(
            "changed the tags of {}",
            format::count(changed, "snapshot")
        ));
        if unread > 0 {
            let unread = format::count(unread, "snapshot");
            return Err(Failure::new(format!(
                "{unread} could not be read, so not all tags are changed"
            ))
            .hint("`lifeboat repo check` names what is damaged and says what repairs it"));
        }
        Ok(Exit::Done)
    }

    fn apply(&self, tags: &mut Vec<String>) {
        let names = |lists: &[String]| -> Vec<String> {
            let lists: Vec<TagList> = lists
                .iter()
                .map(|list| list.parse().unwrap_or_default())
                .collect();
            TagList::flatten(&lists)
        };
        if !self.set.is_empty() {
            tags.clear();
        }
        for name in names(&self.set).into_iter().chain(names(&self.add)) {
            if !tags.contains(&name) {
                tags.push(name);
            }
        }
        let gone = names(&self.remove);
        tags.retain(|tag| !gone.contains(tag));
    }
}
