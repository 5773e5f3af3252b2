//! A backend that keeps to a rate: what a transfer took too little time for, its thread waits out.
//! It must never make a lock wait: its refresh may not queue behind packs.
//!
//! Files are sent and read whole, so each transfer runs as fast as the line and is followed by its share of silence; no
//! server is kept waiting in the middle of a request. All threads share one account per direction: a transfer begins
//! when those before it are paid for, and ends when its own time is over. The average is the rate, a burst is one file.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use lifeboat_flow::Cancel;
use lifeboat_format::Id;

use super::{
    Backend, BackendError, Creation, Destroyed, Fence, FileKind, FileName, ListingDelay, LogName,
};

/// Bytes a second at most, in each direction; nothing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// To the backend.
    pub upload_bytes_per_second: Option<u64>,
    /// From the backend.
    pub download_bytes_per_second: Option<u64>,
}

/// The account of one direction.
struct Account {
    bytes_per_second: u64,
    /// When all that was booked is paid for.
    paid_at: Mutex<Instant>,
}

impl Account {
    fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            paid_at: Mutex::new(Instant::now()),
        }
    }

    /// Books a transfer: when it may begin, and when it is paid for.
    fn book(&self, now: Instant, bytes: u64) -> (Instant, Instant) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.max(*paid_at);
        *paid_at = begin + cost;
        (begin, *paid_at)
    }
}

/// A backend that keeps to a rate.
pub struct LimitedBackend {
    inner: Arc<dyn Backend>,
    upload: Option<Account>,
    download: Option<Account>,
    cancel: Cancel,
}

impl LimitedBackend {
    /// Keeps `inner` to a rate. It belongs around what retries: a wait for the rate must not use up the time in which a
    /// request may be tried again. So what is sent a second time is not counted.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, limits: RateLimits, cancel: Cancel) -> Self {
        Self {
            inner,
            upload: limits.upload_bytes_per_second.map(Account::new),
            download: limits.download_bytes_per_second.map(Account::new),
            cancel,
        }
    }

    /// Runs a transfer in its time. Files that open or lock a repository are small, and only counted.
    fn paced<T>(
        &self,
        account: Option<&Account>,
        kind: FileKind,
        bytes: u64,
        work: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let Some(account) = account else {
            return work();
        };
        let (begin, end) = account.book(Instant::now(), bytes);
        if !matches!(kind, FileKind::Pack | FileKind::Index | FileKind::Snapshot) {
            return work();
        }
        self.cancel.sleep(until(begin))?;
        let done = work()?;
        // What is done is done: a wish to stop only ends the wait.
        let _ = self.cancel.sleep(until(end));
        Ok(done)
    }
}

fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}

impl Backend for LimitedBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn listing_delay(&self) -> ListingDelay {
        self.inner.listing_delay()
    }

    fn fence(&self, fence: Option<Weak<dyn Fence>>) {
        self.inner.fence(fence);
    }

    fn connections(&self) -> usize {
        self.inner.connections()
    }

    fn create(&self) -> Result<(), BackendError> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        self.inner.list(kind, each)
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        self.inner.size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let account = self.download.as_ref();
        // How long it is, is only known afterwards; then its time is waited out.
        let content = self.paced(account, name.kind, 0, || self.inner.load(name, limit_bytes))?;
        let bytes = content.len() as u64;
        self.paced(account, name.kind, bytes, || Ok(content))
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let bytes = buf.len() as u64;
        self.paced(self.download.as_ref(), name.kind, bytes, || {
            self.inner.load_at(name, offset_bytes, buf)
        })
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        let bytes = data.iter().map(|piece| piece.len() as u64).sum();
        self.paced(self.upload.as_ref(), name.kind, bytes, || {
            self.inner.save(name, data)
        })
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        self.inner.remove(name)
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        let bytes = data.iter().map(|piece| piece.len() as u64).sum();
        self.paced(self.upload.as_ref(), FileKind::Pack, bytes, || {
            self.inner.log_create(name, data)
        })
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        let account = self.download.as_ref();
        let content = self.paced(account, FileKind::Pack, 0, || {
            self.inner.log_load(name, limit_bytes)
        })?;
        let bytes = content.len() as u64;
        self.paced(account, FileKind::Pack, bytes, || Ok(content))
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        self.inner.log_list(below, each)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        self.inner.log_remove(name)
    }

    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        let bytes = buf.len() as u64;
        self.paced(self.download.as_ref(), name.kind, bytes, || {
            self.inner.load_tree_at(name, offset_bytes, buf)
        })
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        self.inner.remove_unfinished(older_than)
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        self.inner.destroy(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_booked_one_behind_the_other() {
        let account = Account::new(1000);
        let now = *account.paid_at.lock().unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(account.book(now, 2000), (now, now + 2 * second));
        assert_eq!(
            account.book(now + second, 500),
            (now + 2 * second, now + second * 5 / 2)
        );
        // Silence is not saved up for later.
        let later = now + 100 * second;
        assert_eq!(account.book(later, 1000), (later, later + second));
    }
}
