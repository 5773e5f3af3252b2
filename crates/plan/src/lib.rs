//! Every decision as a pure function: what to back up, keep, restore and in which order.
//! It must never look at the outside: facts and `now` come in, plans and reasons go out, and the same facts give
//! the same plan on every machine.
//!
//! Where restic decides the same question, its answer is the law, because both programs work on one repository.

mod calendar_span;
mod civil;
mod clean;
mod diffing;
mod due;
mod facts;
mod files_record;
mod fleet_plan;
mod glob;
mod go_duration;
mod group;
mod guard;
mod keep_reason;
mod log_expiry;
mod log_fold;
mod node_name;
mod parent;
mod pattern;
mod pattern_error;
mod pattern_file;
mod pattern_set;
mod policy;
mod recovery_point;
mod recovery_window;
mod retention;
mod select;
mod size;
mod snapshot_dirs;
mod snapshot_name;
mod subset;
mod tags;
mod time_text;
mod window;

pub use calendar_span::{CalendarSpan, CalendarSpanError};
pub use clean::clean_path;
pub use diffing::{Merge, Pair, merge};
pub use due::{Due, DueReason, Freshness, Turns};
pub use facts::SnapshotFacts;
pub use files_record::{
    FILES_FAULTS_KEPT_MAX, FILES_VERSION, FilesEngine, FilesKind, FilesRecord, FilesRecordError,
};
pub use fleet_plan::{
    AppPlan, CopyFacts, CopyName, CopyPlan, FleetPlan, FleetRequest, MemberPlan, kind_of,
    plan_fleet,
};
pub use glob::Glob;
pub use go_duration::{GoDurationError, parse_go_duration};
pub use group::{Group, GroupBy, GroupByError, GroupKey, group};
pub use guard::{Extent, Flag, SHRUNK_BELOW_PERCENT, SHRUNK_BYTES_MIN, SHRUNK_FILES_MIN, guard};
pub use keep_reason::{KeepReason, Period};
pub use log_expiry::LogBound;
pub use log_fold::{FoldFacts, FoldPlan, fold, is_history};
pub use node_name::{NodeNameError, check_node_name, repeated_names};
pub use parent::{ParentQuery, find_parent};
pub use pattern::{Case, Pattern};
pub use pattern_error::{PatternError, PatternFault, PatternOrigin};
pub use pattern_file::{Variables, parse_pattern_lines};
pub use pattern_set::{Match, PatternSet};
pub use policy::{KeepCount, KeepCountError, PolicyError, RetentionPolicy};
pub use recovery_point::{
    Consistency, MemberState, POINT_FILE, POINT_MAX_BYTES, POINT_VERSION, PointError, PointMember,
    RecoveryPoint,
};
pub use recovery_window::{
    ClusterCapture, Fork, LogPlan, NamingPoint, Reach, StayReason, WindowFacts, WindowPlan,
    WindowStep, interleaved, keep_window,
};
pub use retention::{Counters, Kept, Retention, retain};
pub use select::{SelectError, Selection, SnapshotFilter, select, select_one};
pub use size::{SizeError, parse_size};
pub use snapshot_dirs::{
    NamedSnapshot, PATH_TEMPLATES, SnapshotDir, SnapshotDirs, TIME_TEMPLATE, TemplateError,
};
pub use snapshot_name::{
    Resolution, SnapshotName, SnapshotNameError, SnapshotPath, resolve_prefix,
};
pub use subset::{PackSubset, PackSubsetError};
pub use tags::TagList;
pub use time_text::{TimeTextError, parse_time};
pub use window::{Window, WindowError};
