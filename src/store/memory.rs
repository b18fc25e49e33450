//! A store that is gone with the process: for tests, simulations and rehearsals.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::lease::Lease;
use super::{Fence, Key, Record, Store, StoreError, Version, Write};

/// Records in memory.
pub struct MemoryStore {
    id: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Record>,
    leases: HashMap<String, Lease>,
    commits: u64,
}

impl MemoryStore {
    /// An empty store with the identity `id`.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn id(&self) -> &str {
        &self.id
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.state().records.get(key).cloned())
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Record)>, StoreError> {
        Ok(self
            .state()
            .records
            .range(Key::from_stored(prefix.to_owned())..)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect())
    }

    async fn commit(
        &self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Version, StoreError> {
        let mut state = self.state();
        Lease::check(state.leases.get(&fence.lease), fence)?;
        for (key, version) in expect {
            let found = state
                .records
                .get(key)
                .map_or(Version::ABSENT, |record| record.version);
            if found != *version {
                return Err(StoreError::Conflict(key.clone()));
            }
        }
        state.commits += 1;
        let version = Version(state.commits);
        for write in writes {
            match write {
                Write::Put(key, value) => {
                    let value = value.clone();
                    state.records.insert(key.clone(), Record { version, value });
                }
                Write::Delete(key) => {
                    state.records.remove(key);
                }
            }
        }
        Ok(version)
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        let mut state = self.state();
        let lease = Lease::take(state.leases.get(name).cloned(), name, holder, now, ttl)?;
        let fence = lease.fence(name);
        state.leases.insert(name.to_owned(), lease);
        Ok(fence)
    }

    async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let mut state = self.state();
        let found = state.leases.get(&fence.lease).cloned();
        if let Some(lease) = Lease::release(found, fence) {
            state.leases.insert(fence.lease.clone(), lease);
        }
        Ok(())
    }
}
