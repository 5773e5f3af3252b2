//! `lifeboat repo find`: in which snapshots are entries of a name, and who uses a blob, tree or pack.
//! It must never say that something is nowhere when it could not look everywhere.

use clap::Args;
use jiff::tz::TimeZone;
use lifeboat_format::{Id, Node, Snapshot, Timestamp};
use lifeboat_plan::{Case, PatternSet, parse_time};
use lifeboat_repo::{BlobReader, Index, PackListing};

use super::find_objects::{ObjectKind, Objects};
use super::node_view::{self, LongForm, local_time};
use super::out::Out;
use super::select::{self, FilterArgs};
use super::session::{Locking, Session};
use super::tree_walk::{TreeWalk, Unread};
use crate::args::Global;
use crate::failure::{Failure, Outcome};
use crate::format;
use crate::ui::Ui;

/// Find entries by name, or what uses a blob, tree or pack
///
/// Examples:
///   lifeboat repo find 'db.sqlite3*'
///   lifeboat repo find --long --oldest 2024-06-01 --host web '/etc/**/*.conf'
///   lifeboat repo find --blob 420f620f
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Find {
    /// A name, a path, or a pattern of either as for --exclude; with --blob, --tree or --pack an ID or its first digits
    #[arg(value_name = "PATTERN", required = true)]
    patterns: Vec<String>,
    /// Only entries whose content changed at this time or later
    #[arg(short = 'O', long, value_name = "TIME")]
    oldest: Option<String>,
    /// Only entries whose content changed at this time or earlier
    #[arg(short = 'N', long, value_name = "TIME")]
    newest: Option<String>,
    /// Upper and lower case alike
    #[arg(short, long)]
    ignore_case: bool,
    /// Look in this snapshot; several by repeating it
    #[arg(short, long, value_name = "ID")]
    snapshot: Vec<String>,
    /// Show permissions, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// Show sizes with units
    #[arg(long)]
    human_readable: bool,
    /// From the oldest snapshot to the newest
    #[arg(short = 'R', long)]
    reverse: bool,
    /// Find the files that have these blobs
    #[arg(long, group = "object")]
    blob: bool,
    /// Find the directories that are these trees
    #[arg(long, group = "object")]
    tree: bool,
    /// Find what lies in these packs
    #[arg(long, group = "object")]
    pack: bool,
    /// Show the packs that hold the blobs or trees
    #[arg(long, requires = "object")]
    show_pack_id: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

impl Find {
    pub fn run(&self, global: &Global, ui: &Ui) -> Outcome {
        let mut out = Out::stdout(ui);
        let outcome = self.find(global, ui, &mut out);
        out.end(outcome)
    }

    fn find(&self, global: &Global, ui: &Ui, out: &mut Out<'_>) -> Outcome {
        let kind = match (self.blob, self.tree, self.pack) {
            (true, ..) => Some(ObjectKind::Blob),
            (_, true, _) => Some(ObjectKind::Tree),
            (.., true) => Some(ObjectKind::Pack),
            _ => None,
        };
        let wanted = self.wanted()?;
        let session = Session::open(global, ui, Locking::Read)?;
        let mut snapshots = select::many(&session, ui, &self.snapshot, &self.filter.filter())?;
        snapshots.sort_by_key(|(_, snapshot)| std::cmp::Reverse(snapshot.time));
        if self.reverse {
            snapshots.reverse();
        }
        let (index, _) = session.index(ui, PackListing::Skip)?;
        match kind {
            None => self.find_entries(&session, &index, ui, out, &wanted, &snapshots),
            Some(kind) => {
                let mut objects = Objects::new(&session, &index, ui, kind, &self.patterns)?;
                let outcome = objects.find(out, &snapshots)?;
                if self.show_pack_id {
                    objects.show_packs(out)?;
                }
                Ok(outcome)
            }
        }
    }

    fn wanted(&self) -> Result<Wanted, Failure> {
        if self.patterns.iter().any(String::is_empty) {
            return Err(Failure::new("an empty pattern is no name of anything")
                .hint("`*` stands for all names"));
        }
        let case = if self.ignore_case {
            Case::Insensitive
        } else {
            Case::Sensitive
        };
        let is_object = self.blob || self.tree || self.pack;
        let patterns = if is_object {
            Ok(PatternSet::default())
        } else {
            PatternSet::parse(&self.patterns, case)
        };
        let patterns = patterns.map_err(|error| Failure::from_error(&error))?;
        let zone = TimeZone::system();
        let time = |text: &Option<String>, option: &str| {
            let parsed = text
                .as_deref()
                .map(|text| parse_time(text, lifeboat_repo::now(), &zone))
                .transpose();
            parsed.map_err(|error| Failure::from_error(&error).while_doing(option))
        };
        let (oldest, newest) = (
            time(&self.oldest, "--oldest")?,
            time(&self.newest, "--newest")?,
        );
        if let (Some(oldest), Some(newest)) = (oldest, newest)
            && oldest > newest
        {
            return Err(Failure::new(
                "--oldest is a later time than --newest, so that nothing can be between them",
            ));
        }
        Ok(Wanted {
            patterns,
            oldest,
            newest,
        })
    }

    fn find_entries(
        &self,
        session: &Session,
        index: &Index,
        ui: &Ui,
        out: &mut Out<'_>,
        wanted: &Wanted,
        snapshots: &[(Id, Snapshot)],
    ) -> Outcome {
        let reader = BlobReader::new(&session.repository, index);
        let mut unread = Unread::default();
        let mut report = Report {
            json: ui.json,
            long: self.long.then(|| LongForm::new(self.human_readable)),
            zone: TimeZone::system(),
            snapshots: 0,
        };
        for (id, snapshot) in snapshots {
            let mut hits = 0u64;
            let mut walk = TreeWalk::new(&reader, snapshot.tree, &session.cancel);
            loop {
                let seen = match walk.step() {
                    Ok(Some(seen)) => seen,
                    Ok(None) => break,
                    Err(failure) => {
                        unread.name(
                            ui,
                            failure.while_doing(format_args!("snapshot {}", id.short())),
                        )?;
                        continue;
                    }
                };
                let decided = wanted.patterns.decide(seen.path);
                if decided.matched && wanted.is_in_time(seen.node) {
                    report.hit(out, *id, snapshot, hits, seen.path, seen.node)?;
                    hits += 1;
                }
                if !decided.child_may_match {
                    walk.skip();
                }
            }
            report.end_snapshot(out, *id, hits)?;
            out.flush()?;
        }
        report.end(out, snapshots.len())?;
        unread.end()
    }
}

/// What is looked for.
struct Wanted {
    patterns: PatternSet,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Wanted {
    fn is_in_time(&self, node: &Node) -> bool {
        self.oldest.is_none_or(|oldest| node.modified >= oldest)
            && self.newest.is_none_or(|newest| node.modified <= newest)
    }
}

/// Shows what is found while it is found.
struct Report {
    json: bool,
    long: Option<LongForm>,
    zone: TimeZone,
    /// Snapshots that have a match.
    snapshots: u64,
}

impl Report {
    fn hit(
        &mut self,
        out: &mut Out<'_>,
        id: Id,
        snapshot: &Snapshot,
        hits: u64,
        path: &[u8],
        node: &Node,
    ) -> Result<(), Failure> {
        let is_first = hits == 0;
        let is_very_first = is_first && self.snapshots == 0;
        self.snapshots += u64::from(is_first);
        if self.json {
            out.write(match (is_very_first, is_first) {
                (true, _) => b"[{\"matches\":[",
                (_, true) => b",{\"matches\":[",
                _ => b",",
            })?;
            return out.write(node_view::find_object(path, node).to_string().as_bytes());
        }
        if is_first {
            if !is_very_first {
                out.say("")?;
            }
            out.say(format!(
                "in snapshot {} of {}:",
                id.short(),
                local_time(snapshot.time, &self.zone)
            ))?;
        }
        out.line(node_view::line(
            path,
            node,
            self.long.as_ref(),
            out.is_terminal,
        ))
    }

    fn end_snapshot(&self, out: &mut Out<'_>, id: Id, hits: u64) -> Result<(), Failure> {
        if self.json && hits > 0 {
            out.write(format!("],\"hits\":{hits},\"snapshot\":\"{id}\"}}").as_bytes())
        } else {
            Ok(())
        }
    }

    fn end(&self, out: &mut Out<'_>, looked_in: usize) -> Result<(), Failure> {
        match (self.json, self.snapshots) {
            (true, 0) => out.line("[]"),
            (true, _) => out.line("]"),
            (false, 0) => out.say(format!(
                "nothing like that is in {}",
                format::count(looked_in as u64, "snapshot")
            )),
            (false, _) => Ok(()),
        }
    }
}
