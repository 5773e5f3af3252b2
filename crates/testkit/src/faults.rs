//! A backend that fails where a plan says so, and writes down every operation.
//! It must never fail in a way that no real backend could: a file is saved whole or not at all.

use std::fmt;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifeboat_format::Id;
use lifeboat_repo::backend::{
    Backend, BackendError, Creation, FileKind, FileName, LogName, Trouble,
};

use crate::random::Random;

/// What is asked of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// [`Backend::create`].
    Create,
    /// [`Backend::list`].
    List,
    /// [`Backend::size`].
    Size,
    /// [`Backend::load`].
    Load,
    /// [`Backend::load_at`].
    LoadAt,
    /// [`Backend::save`].
    Save,
    /// [`Backend::remove`].
    Remove,
    /// [`Backend::log_create`].
    LogCreate,
    /// [`Backend::log_load`].
    LogLoad,
    /// [`Backend::log_list`].
    LogList,
    /// [`Backend::log_remove`].
    LogRemove,
}

impl Verb {
    /// Whether it changes the repository.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Save | Self::Remove | Self::LogCreate | Self::LogRemove
        )
    }
}

/// One operation, in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number, from 0.
    pub number: u64,
    /// What was asked.
    pub verb: Verb,
    /// Of which kind of file; `None` for [`Verb::Create`] and all of the log.
    pub kind: Option<FileKind>,
    /// Of which file; `None` for [`Verb::Create`], [`Verb::List`] and all of the log.
    pub name: Option<FileName>,
    /// Bytes that were saved, or that a [`Verb::LoadAt`] asked for; for a [`Verb::Load`] or [`Verb::LogLoad`] its limit.
    pub bytes: u64,
}

/// How long a busy server wishes to be left alone.
const BUSY_FOR: Duration = Duration::from_millis(1);

/// A size of which four have no sum in 64 bits.
const HUGE_BYTES: u64 = 1 << 62;

/// How an operation goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// It fails and does nothing. This and the next fail as what may pass: another try is not in vain.
    FailBefore,
    /// It does its work and fails nevertheless, as when an answer is lost.
    FailAfter,
    /// The process dies: it does nothing, and nothing works any more.
    CrashBefore,
    /// The process dies when the work is done: nothing works any more.
    CrashAfter,
    /// A read gives less than there is: `load` half of the file, `load_at` [`BackendError::Short`]. Others go well.
    Truncate,
    /// One bit of what a read gives is another. Others go well.
    FlipBit,
    /// A listing lacks the files that were saved last, so many of them. Others go well.
    HideNewest(usize),
    /// A listing is that of the moment when this backend was made: without what was saved since, with what was removed.
    /// Others go well.
    StaleListing,
    /// A listing names every file twice, as Google Drive does, R2 between two pages, or NFS while a folder changes.
    /// Others go well.
    ListTwice,
    /// A listing says of every file that it is larger than anything can be.
    ListHuge,
    /// What is there, and listed, is said to be missing, as by an object store that lost a part of it.
    Missing,
    /// The server is busy, says for how long, and does nothing.
    Busy,
    /// Nobody can be reached, and nothing is done.
    Unreachable,
    /// No answer comes, and nothing was done.
    TimeoutBefore,
    /// No answer comes, but the work was done.
    TimeoutAfter,
    /// The work is done twice, as when a network below tries again.
    Duplicate,
    /// What a read gives, or the size that is told, is one byte longer or shorter than the file. Others go well.
    WrongLength,
    /// It is not allowed, and will not be.
    Denied,
    /// The server finds that the clocks differ too much.
    Clock,
}

impl Fault {
    /// Whether another try of the same operation goes well, or none is needed.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::FailBefore
                | Self::FailAfter
                | Self::Busy
                | Self::Unreachable
                | Self::TimeoutBefore
                | Self::TimeoutAfter
                | Self::Duplicate
                | Self::ListTwice
        )
    }

    /// Whether it makes any difference to an operation of this sort.
    #[must_use]
    pub fn fits(self, verb: Verb) -> bool {
        match self {
            Self::Truncate | Self::FlipBit => {
                matches!(verb, Verb::Load | Verb::LoadAt | Verb::LogLoad)
            }
            Self::HideNewest(_) | Self::StaleListing | Self::ListHuge => verb == Verb::List,
            Self::ListTwice => matches!(verb, Verb::List | Verb::LogList),
            Self::WrongLength => matches!(verb, Verb::Load | Verb::Size | Verb::LogLoad),
            Self::Missing => matches!(verb, Verb::Load | Verb::LoadAt | Verb::Size),
            _ => true,
        }
    }

    /// What is told instead of a result, if anything is.
    fn trouble(self) -> Option<(Trouble, Option<Duration>)> {
        match self {
            Self::Busy => Some((Trouble::Transient, Some(BUSY_FOR))),
            Self::TimeoutBefore | Self::TimeoutAfter => Some((Trouble::Transient, None)),
            Self::Unreachable => Some((Trouble::Unreachable, None)),
            Self::Denied => Some((Trouble::Denied, None)),
            Self::Clock => Some((Trouble::Clock, None)),
            _ => None,
        }
    }
}

type Rule = dyn Fn(&Operation) -> Option<Fault> + Send + Sync;

/// Which operations go wrong, and how: a function, so that it can be anything.
#[derive(Clone)]
pub struct FaultPlan(Arc<Rule>);

impl FaultPlan {
    /// A rule of one's own.
    pub fn new(rule: impl Fn(&Operation) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }

    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self::new(|_| None)
    }

    /// One operation goes wrong.
    #[must_use]
    pub fn at(number: u64, fault: Fault) -> Self {
        Self::new(move |operation| (operation.number == number).then_some(fault))
    }

    /// All operations go wrong from this one on.
    #[must_use]
    pub fn from(number: u64, fault: Fault) -> Self {
        Self::new(move |operation| (operation.number >= number).then_some(fault))
    }

    /// So many operations in a hundred go wrong, in one of these ways, chosen by a seed and the operation's number.
    #[must_use]
    pub fn random(seed: u64, percent: u64, faults: &[Fault]) -> Self {
        let faults = faults.to_vec();
        Self::new(move |operation| {
            let mut random = Random::new(seed ^ operation.number.wrapping_mul(0x9e37_79b9));
            random.chance(percent).then(|| *random.pick(&faults))
        })
    }

    /// This plan for the operations that fulfil a condition, and no faults for others.
    #[must_use]
    pub fn only(self, when: impl Fn(&Operation) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |operation| {
            if when(operation) {
                (self.0)(operation)
            } else {
                None
            }
        })
    }
}

impl fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultPlan")
    }
}

/// A backend that fails by plan. Clones share the plan, the log and the death.
#[derive(Clone, Debug)]
pub struct FaultyBackend<B> {
    inner: B,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Mutex<FaultPlan>,
    log: Mutex<Vec<Operation>>,
    saved: Mutex<Vec<FileName>>,
    remembered: Mutex<Vec<FileName>>,
    removed: Mutex<Vec<(FileName, u64)>>,
    is_dead: AtomicBool,
    faults: AtomicU64,
}

impl<B: Backend> FaultyBackend<B> {
    /// A backend that fails by plan.
    pub fn new(inner: B, plan: FaultPlan) -> Self {
        let shared = Shared {
            plan: Mutex::new(plan),
            log: Mutex::default(),
            saved: Mutex::default(),
            remembered: Mutex::default(),
            removed: Mutex::default(),
            is_dead: AtomicBool::new(false),
            faults: AtomicU64::new(0),
        };
        Self {
            inner,
            shared: Arc::new(shared),
        }
    }

    /// A backend that only writes down what it is asked.
    pub fn recording(inner: B) -> Self {
        Self::new(inner, FaultPlan::none())
    }

    /// What is below, which has no faults.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// Goes on by another plan; numbers go on too.
    pub fn follow(&self, plan: FaultPlan) {
        *lock(&self.shared.plan) = plan;
    }

    /// Takes these for what was saved last, oldest first, though another backend saved them: what a listing may hide.
    pub fn remember(&self, saved: &[FileName]) {
        lock(&self.shared.remembered).extend_from_slice(saved);
    }

    /// All operations until now.
    #[must_use]
    pub fn log(&self) -> Vec<Operation> {
        lock(&self.shared.log).clone()
    }

    /// How many operations of a sort there were; `None` counts all kinds of file.
    #[must_use]
    pub fn count(&self, verb: Verb, kind: Option<FileKind>) -> usize {
        let matches = |operation: &&Operation| {
            operation.verb == verb && (kind.is_none() || operation.kind == kind)
        };
        lock(&self.shared.log).iter().filter(matches).count()
    }

    /// Whether the process is dead by plan.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.shared.is_dead.load(Ordering::SeqCst)
    }

    /// How many operations went wrong by plan; a fault that makes no difference to its operation does not count.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.shared.faults.load(Ordering::SeqCst)
    }

    fn run<T>(
        &self,
        asked: Asked,
        mut work: impl FnMut() -> Result<T, BackendError>,
    ) -> Outcome<T> {
        let Asked {
            verb,
            kind,
            name,
            bytes,
        } = asked;
        let operation = {
            let mut log = lock(&self.shared.log);
            let number = log.len() as u64;
            let operation = Operation {
                number,
                verb,
                kind,
                name,
                bytes,
            };
            log.push(operation);
            operation
        };
        let what = || name.map_or_else(|| format!("{verb:?}"), |name| name.to_string());
        let injected = |kind: ErrorKind, cause: &'static str| BackendError::Io {
            doing: "use",
            what: what(),
            location: self.location(),
            cause: std::io::Error::new(kind, cause),
        };
        if self.is_dead() {
            return Err(injected(ErrorKind::Other, "the process is dead by plan"));
        }
        let plan = lock(&self.shared.plan).clone();
        let fault = (plan.0)(&operation).filter(|fault| fault.fits(verb));
        if fault.is_some() {
            self.shared.faults.fetch_add(1, Ordering::SeqCst);
        }
        let number = operation.number;
        if let Some((trouble, retry_after)) = fault.and_then(Fault::trouble) {
            if fault == Some(Fault::TimeoutAfter) {
                work()?;
            }
            return Err(BackendError::Remote {
                doing: "use",
                what: what(),
                location: self.location(),
                trouble,
                why: format!("{fault:?} by plan"),
                retry_after,
            });
        }
        if let (Some(Fault::Missing), Some(name)) = (fault, name) {
            return Err(BackendError::Missing {
                name,
                location: self.location(),
            });
        }
        match fault {
            Some(Fault::Duplicate) => {
                work()?;
                work().map(|done| (done, fault, number))
            }
            Some(Fault::FailBefore) => Err(injected(ErrorKind::TimedOut, "failed by plan, before")),
            Some(Fault::FailAfter) => {
                work()?;
                Err(injected(ErrorKind::TimedOut, "failed by plan, after"))
            }
            Some(Fault::CrashBefore) => {
                self.shared.is_dead.store(true, Ordering::SeqCst);
                Err(injected(ErrorKind::Other, "died by plan, before"))
            }
            Some(Fault::CrashAfter) => {
                // What others do meanwhile happens before the death, as it may.
                let done = work();
                self.shared.is_dead.store(true, Ordering::SeqCst);
                done?;
                Err(injected(ErrorKind::Other, "died by plan, after"))
            }
            fault => work().map(|done| (done, fault, number)),
        }
    }
}

/// Bends what a read gives, by a fault of that sort.
fn bend(content: &mut Vec<u8>, fault: Option<Fault>, number: u64) {
    match fault {
        Some(Fault::Truncate) => content.truncate(content.len() / 2),
        Some(Fault::FlipBit) => flip(content, number),
        Some(Fault::WrongLength) if number.is_multiple_of(2) => drop(content.pop()),
        Some(Fault::WrongLength) => content.push(0),
        _ => {}
    }
}

type Outcome<T> = Result<(T, Option<Fault>, u64), BackendError>;

struct Asked {
    verb: Verb,
    kind: Option<FileKind>,
    name: Option<FileName>,
    bytes: u64,
}

impl Asked {
    fn of(verb: Verb, name: FileName, bytes: u64) -> Self {
        Self {
            verb,
            kind: Some(name.kind),
            name: Some(name),
            bytes,
        }
    }

    fn of_log(verb: Verb, bytes: u64) -> Self {
        Self {
            verb,
            kind: None,
            name: None,
            bytes,
        }
    }
}

impl<B: Backend> Backend for FaultyBackend<B> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), BackendError> {
        let asked = Asked {
            verb: Verb::Create,
            kind: None,
            name: None,
            bytes: 0,
        };
        self.run(asked, || self.inner.create()).map(|_| ())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        let asked = Asked {
            verb: Verb::List,
            kind: Some(kind),
            name: None,
            bytes: 0,
        };
        let (found, fault, _) = self.run(asked, || {
            let mut found = Vec::new();
            self.inner
                .list(kind, &mut |id, size_bytes| found.push((id, size_bytes)))?;
            Ok(found)
        })?;
        let of_kind = |name: &FileName| name.kind == kind;
        let hidden: Vec<Id> = match fault {
            Some(Fault::HideNewest(count)) => {
                let saved = lock(&self.shared.saved);
                let remembered = lock(&self.shared.remembered);
                let newest = saved.iter().rev().chain(remembered.iter().rev());
                let newest = newest.filter(|name| of_kind(name));
                newest.take(count).map(|name| name.id).collect()
            }
            Some(Fault::StaleListing) => {
                let removed = lock(&self.shared.removed).clone();
                for (name, size_bytes) in removed.into_iter().filter(|(name, _)| of_kind(name)) {
                    each(name.id, size_bytes);
                }
                let saved = lock(&self.shared.saved);
                let since = saved.iter().filter(|name| of_kind(name));
                since.map(|name| name.id).collect()
            }
            _ => Vec::new(),
        };
        let times = 1 + usize::from(fault == Some(Fault::ListTwice));
        for _ in 0..times {
            for (id, size_bytes) in &found {
                if !hidden.contains(id) {
                    let size_bytes = match fault {
                        Some(Fault::ListHuge) => HUGE_BYTES,
                        _ => *size_bytes,
                    };
                    each(*id, size_bytes);
                }
            }
        }
        Ok(())
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        let (size_bytes, fault, number) =
            self.run(Asked::of(Verb::Size, name, 0), || self.inner.size(name))?;
        Ok(match fault {
            Some(Fault::WrongLength) if number.is_multiple_of(2) => size_bytes.saturating_sub(1),
            Some(Fault::WrongLength) => size_bytes + 1,
            _ => size_bytes,
        })
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let asked = Asked::of(Verb::Load, name, limit_bytes);
        let (mut content, fault, number) =
            self.run(asked, || self.inner.load(name, limit_bytes))?;
        bend(&mut content, fault, number);
        Ok(content)
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let wanted_bytes = offset_bytes.saturating_add(buf.len() as u64);
        let asked = Asked::of(Verb::LoadAt, name, buf.len() as u64);
        let ((), fault, number) =
            self.run(asked, || self.inner.load_at(name, offset_bytes, buf))?;
        match fault {
            Some(Fault::Truncate) => {
                buf.fill(0);
                return Err(BackendError::Short {
                    name,
                    location: self.location(),
                    size_bytes: offset_bytes,
                    wanted_bytes,
                });
            }
            Some(Fault::FlipBit) => flip(buf, number),
            _ => {}
        }
        Ok(())
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let bytes = data.iter().map(|piece| piece.len() as u64).sum();
        self.run(Asked::of(Verb::Save, name, bytes), || {
            self.inner.save(name, data)?;
            lock(&self.shared.saved).push(name);
            Ok(())
        })
        .map(|_| ())
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.run(Asked::of(Verb::Remove, name, 0), || {
            let size_bytes = self.inner.size(name);
            self.inner.remove(name)?;
            if let Ok(size_bytes) = size_bytes {
                lock(&self.shared.removed).push((name, size_bytes));
            }
            Ok(())
        })
        .map(|_| ())
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        let bytes = data.iter().map(|piece| piece.len() as u64).sum();
        let asked = Asked::of_log(Verb::LogCreate, bytes);
        self.run(asked, || self.inner.log_create(name, data))
            .map(|(done, ..)| done)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let asked = Asked::of_log(Verb::LogLoad, limit_bytes);
        let (mut content, fault, number) =
            self.run(asked, || self.inner.log_load(name, limit_bytes))?;
        bend(&mut content, fault, number);
        Ok(content)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        let (found, fault, _) = self.run(Asked::of_log(Verb::LogList, 0), || {
            let mut found = Vec::new();
            self.inner.log_list(below, &mut |name, size_bytes| {
                found.push((name, size_bytes))
            })?;
            Ok(found)
        })?;
        for _ in 0..1 + usize::from(fault == Some(Fault::ListTwice)) {
            for (name, size_bytes) in &found {
                each(name.clone(), *size_bytes);
            }
        }
        Ok(())
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.run(Asked::of_log(Verb::LogRemove, 0), || {
            self.inner.log_remove(name)
        })
        .map(|_| ())
    }
}

fn flip(bytes: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    let at = random.index(bytes.len());
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use lifeboat_repo::backend::MemoryBackend;

    use super::*;

    const NAME: FileName = FileName {
        kind: FileKind::Pack,
        id: Id([1; 32]),
    };

    /// A repository with one file, whose operations are counted from here.
    fn faulty(fault: Fault) -> FaultyBackend<MemoryBackend> {
        let memory = MemoryBackend::new();
        memory.create().unwrap();
        memory.save(NAME, &[b"content"]).unwrap();
        FaultyBackend::new(memory, FaultPlan::at(0, fault))
    }

    #[test]
    fn a_failure_comes_before_or_after_the_work() {
        let backend = faulty(Fault::FailBefore);
        assert!(backend.remove(NAME).is_err() && backend.inner().size(NAME).is_ok());
        let backend = faulty(Fault::FailAfter);
        assert!(backend.remove(NAME).is_err() && backend.inner().size(NAME).is_err());
        assert!(backend.save(NAME, &[b"again"]).is_ok());
        assert_eq!((backend.faults(), backend.count(Verb::Save, None)), (1, 1));
    }

    #[test]
    fn the_dead_do_nothing() {
        for (fault, is_there) in [(Fault::CrashBefore, true), (Fault::CrashAfter, false)] {
            let backend = faulty(fault);
            assert!(backend.remove(NAME).is_err() && backend.is_dead());
            assert_eq!(backend.inner().size(NAME).is_ok(), is_there);
            assert!(backend.size(NAME).is_err_and(|error| !error.is_missing()));
        }
    }

    #[test]
    fn reads_are_cut_and_bent() {
        assert_eq!(faulty(Fault::Truncate).load(NAME, 100).unwrap(), b"con");
        assert!(matches!(
            faulty(Fault::Truncate).load_at(NAME, 2, &mut [0; 2]),
            Err(BackendError::Short { .. })
        ));
        let bent = faulty(Fault::FlipBit).load(NAME, 100).unwrap();
        let bits = bent
            .iter()
            .zip(b"content")
            .map(|(a, b)| (a ^ b).count_ones());
        assert_eq!(bits.sum::<u32>(), 1);
    }

    #[test]
    fn the_newest_files_are_hidden() {
        let backend = faulty(Fault::FailBefore);
        backend.follow(
            FaultPlan::new(|_| Some(Fault::HideNewest(1)))
                .only(|operation| operation.verb == Verb::List),
        );
        backend
            .save(FileName::new(FileKind::Pack, Id([2; 32])), &[b"x"])
            .unwrap();
        let mut found = Vec::new();
        backend
            .list(FileKind::Pack, &mut |id, _| found.push(id))
            .unwrap();
        assert_eq!(found, [NAME.id]);
    }

    #[test]
    fn a_stale_listing_is_that_of_the_beginning() {
        let backend = faulty(Fault::FailBefore);
        backend.follow(FaultPlan::new(|_| Some(Fault::StaleListing)));
        let new = FileName::new(FileKind::Pack, Id([2; 32]));
        backend.save(new, &[b"x"]).unwrap();
        backend.remove(NAME).unwrap();
        let mut found = Vec::new();
        backend
            .list(FileKind::Pack, &mut |id, size| found.push((id, size)))
            .unwrap();
        assert_eq!(found, [(NAME.id, 7)]);
        assert_eq!(backend.faults(), 1);
    }

    #[test]
    fn a_listing_names_a_file_twice() {
        let backend = faulty(Fault::ListTwice);
        let mut found = Vec::new();
        backend
            .list(FileKind::Pack, &mut |id, size| found.push((id, size)))
            .unwrap();
        assert_eq!(found, [(NAME.id, 7), (NAME.id, 7)]);
    }

    #[test]
    fn a_way_that_fails_says_what_kind_of_trouble_it_is() {
        for (fault, is_done, is_transient) in [
            (Fault::Busy, false, true),
            (Fault::Unreachable, false, true),
            (Fault::TimeoutBefore, false, true),
            (Fault::TimeoutAfter, true, true),
            (Fault::Denied, false, false),
            (Fault::Clock, false, false),
        ] {
            let backend = faulty(fault);
            let error = backend.remove(NAME).unwrap_err();
            assert_eq!(error.is_transient(), is_transient, "{fault:?}");
            assert_eq!(error.retry_after().is_some(), fault == Fault::Busy);
            assert_eq!(backend.inner().size(NAME).is_err(), is_done, "{fault:?}");
        }
        assert!(faulty(Fault::Duplicate).remove(NAME).is_ok());
        assert_eq!(faulty(Fault::WrongLength).size(NAME).unwrap(), 6);
        assert_eq!(faulty(Fault::WrongLength).load(NAME, 9).unwrap(), b"conten");
    }

    #[test]
    fn a_seed_repeats_its_faults() {
        let run = |seed| {
            let plan = FaultPlan::random(seed, 30, &[Fault::FailBefore]);
            let backend = FaultyBackend::new(faulty(Fault::FailAfter), plan);
            (0..100)
                .map(|_| backend.size(NAME).is_ok())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
    }
}
