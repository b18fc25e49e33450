//! A store that can be told to fail: before or after it has written.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Fence, Key, MemoryStore, Record, Store, StoreError, Version, Write};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    BeforeWriting,
    AfterWriting,
}

pub(crate) struct FaultyStore {
    inner: MemoryStore,
    fault: Mutex<Fault>,
    refused: AtomicUsize,
}

impl FaultyStore {
    pub(crate) fn new() -> Self {
        Self {
            inner: MemoryStore::new("test"),
            fault: Mutex::default(),
            refused: AtomicUsize::new(0),
        }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// How many commits there was no room for.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    pub(crate) async fn fence(&self) -> Fence {
        let (now, ttl) = (Timestamp::UNIX_EPOCH, Duration::from_secs(60));
        self.lease("test", "test", now, ttl).await.unwrap()
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn id(&self) -> &str {
        self.inner.id()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.inner.read(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Record)>, StoreError> {
        self.inner.scan(prefix).await
    }

    async fn commit(
        &self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Version, StoreError> {
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::BeforeWriting {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(StoreError::Full("/nowhere".to_owned()));
        }
        let committed = self.inner.commit(fence, expect, writes).await?;
        match fault {
            Fault::AfterWriting => Err(StoreError::Io("the disk went away".to_owned())),
            _ => Ok(committed),
        }
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        self.inner.lease(name, holder, now, ttl).await
    }

    async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        self.inner.release(fence).await
    }
}
