//! A store that can be told to fail: before or after it has written.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::store::{Fence, Key, Record, Store, StoreError, Version, Write};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Fault {
    #[default]
    None,
    BeforeWriting,
    AfterWriting,
}

#[derive(Default)]
pub(super) struct FaultyStore {
    records: Mutex<BTreeMap<Key, Record>>,
    pub(super) fault: Mutex<Fault>,
}

impl FaultyStore {
    pub(super) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

pub(super) fn fence() -> Fence {
    Fence {
        lease: "test".to_owned(),
        token: 1,
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn id(&self) -> &str {
        "test"
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.records.lock().unwrap().get(key).cloned())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Record)>, StoreError> {
        let records = self.records.lock().unwrap();
        let wanted = records
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(prefix));
        Ok(wanted
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect())
    }

    async fn commit(
        &self,
        _: &Fence,
        _: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<(), StoreError> {
        let fault = *self.fault.lock().unwrap();
        if fault == Fault::BeforeWriting {
            return Err(StoreError::Full("/nowhere".to_owned()));
        }
        let mut records = self.records.lock().unwrap();
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let version = Version(records.get(key).map_or(0, |r| r.version.0) + 1);
                    let value = value.clone();
                    records.insert(key.clone(), Record { version, value });
                }
                Write::Delete(key) => {
                    records.remove(key);
                }
            }
        }
        match fault {
            Fault::AfterWriting => Err(StoreError::Io("the disk went away".to_owned())),
            _ => Ok(()),
        }
    }

    async fn lease(
        &self,
        _: &str,
        _: &str,
        _: Timestamp,
        _: Duration,
    ) -> Result<Fence, StoreError> {
        Ok(fence())
    }

    async fn release(&self, _: &Fence) -> Result<(), StoreError> {
        Ok(())
    }
}
