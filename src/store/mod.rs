//! The store: records under keys, changed by one atomic transaction over many of them.
//!
//! [`Store`] is the contract, [`MemoryStore`] and [`RedbStore`] keep it, `contract` (tests) is the battery both must
//! pass. Private material is sealed by a [`Sealer`] before it comes here. [`open_state`] opens a state directory with
//! both. This module knows nothing of what the records mean.

mod backend;
mod directory;
mod lease;
mod memory;
mod redb;
mod seal;
mod session;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod crash;
#[cfg(test)]
pub(crate) mod faulty;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::redb::RedbStore;
pub use directory::{exists, open_state};
pub use memory::MemoryStore;
pub use seal::{Sealed, Sealer};
pub use session::{Keep, Saved, Session};

/// Records under keys.
#[async_trait]
pub trait Store: Send + Sync {
    /// The store's own identity, drawn when it was made.
    fn id(&self) -> &str;

    /// The record at `key`.
    async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Every record whose key begins with `prefix`, in key order.
    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Record)>, StoreError>;

    /// Makes all of `writes` durable, or none. It is refused as [`StoreError::Conflict`] when a key in `expect` has
    /// another version, and as [`StoreError::Fenced`] when `fence` is not its lease's newest token.
    /// On success gives the version that every written record has now, higher than every version before it in this
    /// store. Of several writes to one key the last one counts. Commits that wait at the same time share one `fsync`.
    ///
    /// After [`StoreError::Io`] the writes were made or not, all together: read to know. After every other refusal
    /// nothing was changed.
    async fn commit(
        &self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Version, StoreError>;

    /// Takes or renews the lease `name` for `holder` until `now + ttl`. Taking it anew, also after it ran out,
    /// gives a token higher than every one before; renewing keeps the token. So a holder is one life of one process,
    /// not a machine.
    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError>;

    /// Gives the lease back, if `fence` still holds it.
    async fn release(&self, fence: &Fence) -> Result<(), StoreError>;
}

/// A key: segments joined by `/`, each non-empty and made of `a-z0-9-_.*:@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key(String);

impl Key {
    /// Joins `segments`; characters outside the set are percent-encoded, so that any text makes a key.
    pub fn of(segments: &[&str]) -> Self {
        let encode = |segment: &&str| {
            segment.bytes().fold(String::new(), |mut text, byte| {
                match byte {
                    b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b':' | b'@' => {
                        text.push(byte.into());
                    }
                    _ => text.push_str(&format!("%{byte:02x}")),
                }
                text
            })
        };
        Self(segments.iter().map(encode).collect::<Vec<_>>().join("/"))
    }

    /// A key read back from a store.
    pub(crate) fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which commit wrote a record, counted over the whole store; [`Version::ABSENT`] where there is none. Since no two
/// commits share one, a record that was deleted and written again never has a version that it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// The version of a key without a record.
    pub const ABSENT: Self = Self(0);
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The commit that wrote it.
    pub version: Version,
    /// What was written.
    pub value: Vec<u8>,
}

/// One change of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The record becomes this.
    Put(Key, Vec<u8>),
    /// The record goes.
    Delete(Key),
}

/// Proof of holding a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Which lease.
    pub lease: String,
    /// Its fencing token.
    pub token: u64,
}

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A record changed in between.
    #[error("the record {0} was changed by somebody else")]
    Conflict(Key),
    /// Another process took the lease.
    #[error("the lease {0} was given back or taken over by another process")]
    Fenced(String),
    /// Another holder has the lease until then.
    #[error("the lease {name} is held by {holder} until {until}")]
    Held {
        /// Which lease.
        name: String,
        /// By whom.
        holder: String,
        /// Until when, unless renewed.
        until: Timestamp,
    },
    /// No room; nothing was changed.
    #[error(
        "no space left for the store in {0}; what it holds is intact: free some space, and the next run goes on from there"
    )]
    Full(String),
    /// Another process has the store open.
    #[error("the store in {path} is in use by process {pid}; wait until it ends, or stop it")]
    InUse {
        /// The state directory.
        path: String,
        /// The process, as it noted itself.
        pid: u32,
    },
    /// Made by a newer Countersign.
    #[error(
        "the store in {path} has format {found}; this version of Countersign knows up to {known}, so use the newer one that wrote it"
    )]
    Newer {
        /// The state directory.
        path: String,
        /// Its format number.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// A record cannot be read back: damaged, or sealed with another key.
    #[error("{0}")]
    Damaged(String),
    /// Anything else from the system.
    #[error("{0}")]
    Io(String),
}
