//! One process's hold on the store: the store with the fencing token of its lease, and values kept as JSON.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Fence, Key, Record, Store, StoreError, Version, Write};
use crate::measure::{self, Went};

/// The store, and the proof that this process may write to it. Cheap to clone.
#[derive(Clone)]
pub struct Session {
    store: Arc<dyn Store>,
    fence: Fence,
    /// Why the last commit could not be made.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Session {
    /// Writes go under `fence`.
    pub fn new(store: Arc<dyn Store>, fence: Fence) -> Self {
        Self {
            store,
            fence,
            trouble: Arc::default(),
        }
    }

    /// Why nothing can be saved, if the last try failed.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    /// The store, for reading.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Its parts, for one that writes its own records.
    pub fn into_parts(self) -> (Arc<dyn Store>, Fence) {
        (self.store, self.fence)
    }

    /// Makes `writes` durable, if every key in `expect` still has its version.
    pub async fn commit(
        &self,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Version, StoreError> {
        tracing::trace!(keys = %Keys(writes), "commit");
        let result = self.store.commit(&self.fence, expect, writes).await;
        let trouble = match &result {
            // It was looked at, and what it holds is another thing.
            Ok(_) | Err(StoreError::Conflict(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        measure::committed(match trouble {
            None => Went::Well,
            Some(_) => Went::Wrong,
        });
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        // Many go at the same time, so the outcome says whose it is.
        tracing::trace!(keys = %Keys(writes), ok = result.is_ok(), "committed");
        result
    }

    /// The value at `key`, if there is one.
    pub async fn load<T: DeserializeOwned + Serialize>(
        &self,
        key: Key,
    ) -> Result<Option<Saved<T>>, StoreError> {
        let record = self.store.read(&key).await?;
        record.map(|record| Saved::read(key, record)).transpose()
    }

    /// Every value whose key begins with `prefix`.
    pub async fn load_all<T: DeserializeOwned + Serialize>(
        &self,
        prefix: &str,
    ) -> Result<Vec<Saved<T>>, StoreError> {
        let records = self.store.scan(prefix).await?;
        records
            .into_iter()
            .map(|(key, record)| Saved::read(key, record))
            .collect()
    }

    /// Saves every one of `values` that changed, and makes `writes`, in one transaction; none when there is nothing to do.
    pub async fn save(
        &self,
        values: &mut [&mut dyn Keep],
        mut writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        let mut expect = Vec::new();
        let mut changed = Vec::new();
        for (nth, value) in values.iter().enumerate() {
            if let Some(bytes) = value.changed() {
                let (key, version) = value.expectation();
                writes.push(Write::Put(key.clone(), bytes.clone()));
                expect.push((key, version));
                changed.push((nth, bytes));
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let version = self.commit(&expect, &writes).await?;
        for (nth, bytes) in changed {
            values[nth].committed(bytes, version);
        }
        Ok(())
    }
}

/// The keys of a transaction, for the log.
struct Keys<'a>(&'a [Write]);

impl std::fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (nth, write) in self.0.iter().enumerate() {
            let (Write::Put(key, _) | Write::Delete(key)) = write;
            let (space, minus) = (
                if nth > 0 { " " } else { "" },
                matches!(write, Write::Delete(_)),
            );
            write!(f, "{space}{}{key}", if minus { "-" } else { "" })?;
        }
        Ok(())
    }
}

/// A value with its place in the store.
#[derive(Clone)]
pub struct Saved<T> {
    /// Where it is kept.
    pub key: Key,
    /// The value, perhaps ahead of what is kept.
    pub value: T,
    bytes: Vec<u8>,
    version: Version,
}

impl<T: Serialize + DeserializeOwned> Saved<T> {
    /// A value that is not in the store yet.
    pub fn new(key: Key, value: T) -> Self {
        Self {
            key,
            value,
            bytes: Vec::new(),
            version: Version::ABSENT,
        }
    }

    /// A value as read.
    pub fn read(key: Key, record: Record) -> Result<Self, StoreError> {
        let value = serde_json::from_slice(&record.value).map_err(|error| {
            StoreError::Damaged(format!("the record {key} cannot be read: {error}"))
        })?;
        Ok(Self {
            key,
            value,
            bytes: record.value,
            version: record.version,
        })
    }
}

/// What can be saved together with others, whatever its type.
pub trait Keep: Send {
    /// The bytes to keep, if they are other than those that are kept.
    fn changed(&self) -> Option<Vec<u8>>;
    /// What a transaction must find so that nobody's change is lost.
    fn expectation(&self) -> (Key, Version);
    /// Notes that `bytes` are what is kept now.
    fn committed(&mut self, bytes: Vec<u8>, version: Version);
}

impl<T: Serialize + Send> Keep for Saved<T> {
    fn changed(&self) -> Option<Vec<u8>> {
        let bytes =
            serde_json::to_vec(&self.value).expect("our records have text keys and plain values");
        (bytes != self.bytes).then_some(bytes)
    }

    fn expectation(&self) -> (Key, Version) {
        (self.key.clone(), self.version)
    }

    fn committed(&mut self, bytes: Vec<u8>, version: Version) {
        self.bytes = bytes;
        self.version = version;
    }
}
