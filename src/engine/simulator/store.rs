//! The virtual store: a map with atomic commits over many keys, which can be full or fail after writing.

use std::collections::BTreeMap;

/// Records under keys; what is in here survives a crash.
#[derive(Default)]
pub(super) struct Store {
    records: BTreeMap<String, Vec<u8>>,
}

/// One change of a commit.
pub(super) enum Write {
    Put(String, Vec<u8>),
    Delete(String),
}

/// How a commit can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The disk is full: nothing was changed.
    Full,
    /// The disk failed while syncing: everything was written, and the worker does not know it.
    Io,
}

impl Store {
    /// Makes all of `writes` durable, or none.
    pub(super) fn commit(&mut self, fault: Option<Fault>, writes: &[Write]) -> Result<(), Fault> {
        if fault != Some(Fault::Full) {
            for write in writes {
                match write {
                    Write::Put(key, value) => {
                        self.records.insert(key.clone(), value.clone());
                    }
                    Write::Delete(key) => {
                        self.records.remove(key);
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    pub(super) fn read(&self, key: &str) -> Option<&[u8]> {
        self.records.get(key).map(Vec::as_slice)
    }

    /// Every record whose key begins with `prefix`.
    pub(super) fn scan(&self, prefix: &str) -> impl Iterator<Item = &[u8]> {
        self.records
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, value)| value.as_slice())
    }
}
