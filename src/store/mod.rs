//! The store: records under keys, changed by one atomic transaction over many of them.
//!
//! [`Store`] is the contract, `memory` and `redb` keep it, `contract` (tests) is the battery both must pass. Private
//! material is sealed by `seal` before it comes here. This module knows nothing of what the records mean.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
    /// On success every written key's version is one more than it was. Commits that wait at the same time share
    /// one `fsync`.
    async fn commit(
        &self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<(), StoreError>;

    /// Takes or renews the lease `name` for `holder` until `now + ttl`. Taking it anew, also after it ran out,
    /// gives a token higher than every one before; renewing keeps the token.
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

/// How often a record was written; [`Version::ABSENT`] where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u64);

impl Version {
    /// The version of a key without a record. A key that was deleted and is written again starts at 1.
    pub const ABSENT: Self = Self(0);
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// How often it was written.
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
    #[error("the lease {0} was taken over by another process")]
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
    #[error("no space left for the store in {0}; nothing was changed")]
    Full(String),
    /// Another process has the store open.
    #[error("the store in {path} is in use by process {pid}")]
    InUse {
        /// The state directory.
        path: String,
        /// The process, as it noted itself.
        pid: u32,
    },
    /// Made by a newer Countersign.
    #[error("the store in {path} has format {found}; this version knows up to {known}")]
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
