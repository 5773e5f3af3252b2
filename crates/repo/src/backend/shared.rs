//! A backend behind an `Arc` is a backend, so that one can be shared and still be decorated.
//! It must never do anything but pass on.

use std::sync::{Arc, Weak};
use std::time::Duration;

use lifeboat_format::Id;

use super::{
    Backend, BackendError, Creation, Destroyed, Fence, FileKind, FileName, ListingDelay, LogName,
};

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn location(&self) -> String {
        (**self).location()
    }

    fn listing_delay(&self) -> ListingDelay {
        (**self).listing_delay()
    }

    fn fence(&self, fence: Option<Weak<dyn Fence>>) {
        (**self).fence(fence);
    }

    fn connections(&self) -> usize {
        (**self).connections()
    }

    fn create(&self) -> Result<(), BackendError> {
        (**self).create()
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(Id, u64)) -> Result<(), BackendError> {
        (**self).list(kind, each)
    }

    fn size(&self, name: FileName) -> Result<u64, BackendError> {
        (**self).size(name)
    }

    fn load(&self, name: FileName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        (**self).load(name, limit_bytes)
    }

    fn load_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        (**self).load_at(name, offset_bytes, buf)
    }

    fn save(&self, name: FileName, data: &[&[u8]]) -> Result<(), BackendError> {
        (**self).save(name, data)
    }

    fn remove(&self, name: FileName) -> Result<(), BackendError> {
        (**self).remove(name)
    }

    fn log_create(&self, name: &LogName, data: &[&[u8]]) -> Result<Creation, BackendError> {
        (**self).log_create(name, data)
    }

    fn log_load(&self, name: &LogName, limit_bytes: u64) -> Result<Vec<u8>, BackendError> {
        (**self).log_load(name, limit_bytes)
    }

    fn log_list(
        &self,
        below: Option<&LogName>,
        each: &mut dyn FnMut(LogName, u64),
    ) -> Result<(), BackendError> {
        (**self).log_list(below, each)
    }

    fn log_remove(&self, name: &LogName) -> Result<(), BackendError> {
        (**self).log_remove(name)
    }

    fn load_tree_at(
        &self,
        name: FileName,
        offset_bytes: u64,
        buf: &mut [u8],
    ) -> Result<(), BackendError> {
        (**self).load_tree_at(name, offset_bytes, buf)
    }

    fn remove_unfinished(&self, older_than: Duration) -> Result<u64, BackendError> {
        (**self).remove_unfinished(older_than)
    }

    fn destroy(&self, name: FileName) -> Result<Destroyed, BackendError> {
        (**self).destroy(name)
    }
}
