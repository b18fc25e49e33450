//! The virtual store: a map with atomic commits over many keys, which can be full or fail after writing.
//!
//! Records become JSON when they are read, not when they are written: a life writes a hundred times as often, and what
//! is read is the same.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Serialize;

/// Records under keys; what is in here survives a crash.
#[derive(Default)]
pub(super) struct Store {
    records: BTreeMap<String, Rc<dyn Record>>,
}

/// Something that can be stored.
pub(super) trait Record {
    fn bytes(&self) -> Vec<u8>;
}

impl<T: Serialize> Record for T {
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap()
    }
}

/// One change of a commit.
pub(super) enum Write {
    Put(String, Rc<dyn Record>),
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
                        self.records.insert(key.clone(), Rc::clone(value));
                    }
                    Write::Delete(key) => {
                        self.records.remove(key);
                    }
                }
            }
        }
        fault.map_or(Ok(()), Err)
    }

    /// Whether `writes` would change anything.
    pub(super) fn differs(&self, writes: &[Write]) -> bool {
        writes.iter().any(|write| match write {
            Write::Put(key, value) => self.read(key) != Some(value.bytes()),
            Write::Delete(key) => self.records.contains_key(key),
        })
    }

    pub(super) fn read(&self, key: &str) -> Option<Vec<u8>> {
        self.records.get(key).map(|record| record.bytes())
    }

    /// Every record whose key begins with `prefix`.
    pub(super) fn scan(&self, prefix: &str) -> impl Iterator<Item = Vec<u8>> {
        self.records
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, record)| record.bytes())
    }
}
