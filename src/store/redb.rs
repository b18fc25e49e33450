//! The embedded store: one redb file in the state directory.
//!
//! Reads take a snapshot and never wait for a writer. All changes go to one writer thread ([`super::writer`]), which
//! makes those that wait at the same time durable together. After an I/O error redb refuses everything; then the file
//! is opened anew here, which brings the last durable state back.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::backend::{Backend, Line, is_full};
use super::directory::StateDirectory;
use super::writer::{self, Change, Request};
use super::{Fence, Key, Record, Store, StoreError, Version, Write};

/// The format that this version writes.
pub(super) const FORMAT: u32 = 1;

pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const RECORDS: TableDefinition<'static, &str, (u64, &[u8])> =
    TableDefinition::new("records");
pub(super) const LEASES: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("leases");

/// Keys of [`META`].
pub(super) const COMMITS: &str = "commits";
const FORMAT_KEY: &str = "format";
const ID: &str = "store-id";
const SEAL_KEY_ID: &str = "seal-key-id";

/// redb would take up to 1 GiB; the whole store of thousands of certificates fits into this.
const CACHE: usize = 32 * 1024 * 1024;
/// Changes that may wait for the writer before those who bring more are made to wait.
const QUEUE: usize = 1024;
/// How much of the file is copied at once.
const CHUNK: usize = 1024 * 1024;
/// How often a look finds the store closed by the failure of another before it gives up.
const READ_TRIES: u32 = 10;

/// The store in a state directory.
pub struct RedbStore {
    vault: Arc<Vault>,
    changes: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl RedbStore {
    /// Opens the store in `directory`, which must hold one.
    pub(super) fn open(directory: StateDirectory) -> Result<Self, StoreError> {
        let vault = Arc::new(Vault::open(directory)?);
        let (changes, waiting) = mpsc::channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn({
                let vault = Arc::clone(&vault);
                move || writer::run(&vault, waiting)
            })
            .map_err(|error| {
                StoreError::Io(format!("the store's writer did not start: {error}"))
            })?;
        Ok(Self {
            vault,
            changes: Some(changes),
            writer: Some(writer),
        })
    }

    /// The id of the key that seals its private material.
    pub(super) fn seal_key_id(&self) -> &str {
        &self.vault.header.seal_key_id
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> Arc<super::backend::Faults> {
        let open = self
            .vault
            .open
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&open.line.faults)
    }

    /// Runs `look` on a snapshot, where it may block.
    async fn look<T: Send + 'static>(
        &self,
        look: impl Fn(&ReadTransaction) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let vault = Arc::clone(&self.vault);
        tokio::task::spawn_blocking(move || vault.look(look))
            .await
            .map_err(|error| StoreError::Io(format!("reading the store was cut short: {error}")))?
    }

    async fn change<T>(
        &self,
        change: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Change,
    ) -> Result<T, StoreError> {
        let gone = || {
            StoreError::Io(
                "the store's writer did not end well; restart Countersign if it goes on".into(),
            )
        };
        let (reply, answer) = oneshot::channel();
        let changes = self.changes.as_ref().ok_or_else(gone)?;
        let request = Request::new(change(reply));
        changes.send(request).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for RedbStore {
    /// Waits until the writer is done, so that the directory is free afterwards.
    fn drop(&mut self) {
        drop(self.changes.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    fn id(&self) -> &str {
        &self.vault.header.id
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.look(move |snapshot| {
            let records = snapshot.open_table(RECORDS)?;
            Ok(records
                .get(key.as_str())?
                .map(|found| record(found.value())))
        })
        .await
    }

    async fn scan(&self, prefix: &str) -> Result<Vec<(Key, Record)>, StoreError> {
        let prefix = prefix.to_owned();
        self.look(move |snapshot| {
            let records = snapshot.open_table(RECORDS)?;
            let mut found = Vec::new();
            for entry in records.range(prefix.as_str()..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(&prefix) {
                    break;
                }
                found.push((
                    Key::from_stored(key.value().to_owned()),
                    record(value.value()),
                ));
            }
            Ok(found)
        })
        .await
    }

    async fn commit(
        &self,
        fence: &Fence,
        expect: &[(Key, Version)],
        writes: &[Write],
    ) -> Result<Version, StoreError> {
        let (fence, expect, writes) = (fence.clone(), expect.to_vec(), writes.to_vec());
        self.change(|reply| Change::Commit {
            fence,
            expect,
            writes,
            reply,
        })
        .await
    }

    async fn lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Fence, StoreError> {
        let (name, holder) = (name.to_owned(), holder.to_owned());
        self.change(|reply| Change::Lease {
            name,
            holder,
            now,
            ttl,
            reply,
        })
        .await
    }

    async fn release(&self, fence: &Fence) -> Result<(), StoreError> {
        let fence = fence.clone();
        self.change(|reply| Change::Release { fence, reply }).await
    }
}

fn record((version, value): (u64, &[u8])) -> Record {
    Record {
        version: Version(version),
        value: value.to_vec(),
    }
}

/// What went wrong inside a transaction.
#[derive(Debug)]
pub(super) enum Failure {
    /// The database itself.
    Database(Box<redb::Error>),
    /// What is in it.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}
failure_from!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError
);

/// The open database; and how to open it again when it failed.
pub(super) struct Vault {
    header: Header,
    open: RwLock<Open>,
    /// Last, so that the lock outlives the database.
    directory: StateDirectory,
}

/// What identifies a store.
pub(super) struct Header {
    pub(super) id: String,
    pub(super) seal_key_id: String,
}

struct Open {
    database: Option<Arc<Database>>,
    line: Arc<Line>,
    /// Counts how often the file was opened.
    life: u64,
}

/// A database, and which life of it this is.
pub(super) struct Living {
    pub(super) database: Arc<Database>,
    pub(super) life: u64,
}

impl Vault {
    fn open(directory: StateDirectory) -> Result<Self, StoreError> {
        let line = Arc::new(Line::default());
        let database = open_database(&directory, &line)?;
        let header = database
            .begin_read()
            .map_err(Failure::from)
            .and_then(|snapshot| read_header(&snapshot, &directory))
            .map_err(|failure| explain(failure, &directory, &line))?;
        Ok(Self {
            header,
            open: RwLock::new(Open {
                database: Some(Arc::new(database)),
                line,
                life: 0,
            }),
            directory,
        })
    }

    fn look<T>(
        &self,
        look: impl Fn(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let living = self.living()?;
            let seen = living
                .database
                .begin_read()
                .map_err(Failure::from)
                .and_then(|snapshot| look(&snapshot));
            tries += 1;
            match seen {
                // A commit that failed has closed it, perhaps one after the other while the disk is full.
                Err(failure) if is_dead(&failure) && tries < READ_TRIES => {
                    drop(living.database);
                    self.revive(living.life)?;
                }
                seen => return seen.map_err(|failure| self.explain(failure)),
            }
        }
    }

    /// The database as it is open now.
    pub(super) fn living(&self) -> Result<Living, StoreError> {
        let life = {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &open.database {
                return Ok(Living {
                    database: Arc::clone(database),
                    life: open.life,
                });
            }
            open.life
        };
        self.revive(life)?;
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let database = open.database.as_ref().ok_or_else(|| {
            StoreError::Io(
                "the store failed again as soon as it was opened; look at the disk".into(),
            )
        })?;
        Ok(Living {
            database: Arc::clone(database),
            life: open.life,
        })
    }

    /// Opens the file anew, unless that was done since `life`.
    pub(super) fn revive(&self, life: u64) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.life != life {
            return Ok(());
        }
        open.line.cut();
        open.database = None;
        open.life += 1;
        open.line = Arc::new(open.line.next());
        let database = open_database(&self.directory, &open.line)?;
        open.database = Some(Arc::new(database));
        tracing::debug!(life = open.life, "opened the store anew after a failure");
        Ok(())
    }

    /// Makes what the file holds durable after a sync that failed. The system forgets which pages it could not write,
    /// so that another sync alone would prove nothing: everything is written once more.
    pub(super) fn write_again(&self) -> Result<(), StoreError> {
        let write = || -> io::Result<()> {
            let file = self.directory.open_store()?;
            let mut buffer = vec![0; CHUNK];
            let mut at = 0;
            loop {
                match file.read_at(&mut buffer, at)? {
                    0 => return file.sync_data(),
                    read => {
                        file.write_all_at(&buffer[..read], at)?;
                        at += read as u64;
                    }
                }
            }
        };
        write().map_err(|error| {
            self.directory
                .failed("the store could not be synced", &error)
        })
    }

    /// `failure` as callers see it.
    pub(super) fn explain(&self, failure: Failure) -> StoreError {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        explain(failure, &self.directory, &open.line)
    }
}

/// Whether the database refuses everything from now on, and has to be opened anew.
pub(super) fn is_dead(failure: &Failure) -> bool {
    match failure {
        Failure::Store(_) => false,
        Failure::Database(error) => matches!(
            **error,
            redb::Error::Io(_)
                | redb::Error::PreviousIo
                | redb::Error::DatabaseClosed
                | redb::Error::LockPoisoned(_)
                | redb::Error::TransactionPoisoned
        ),
    }
}

fn explain(failure: Failure, directory: &StateDirectory, line: &Line) -> StoreError {
    let error = match failure {
        Failure::Store(error) => return error,
        Failure::Database(error) => *error,
    };
    match error {
        redb::Error::Io(error) if is_full(&error) => StoreError::Full(directory.shown()),
        redb::Error::Io(_) | redb::Error::PreviousIo if line.was_full() => {
            StoreError::Full(directory.shown())
        }
        redb::Error::Corrupted(what) => StoreError::Damaged(format!(
            "the store in {} is damaged: {what}; restore it from a backup",
            directory.shown()
        )),
        error => StoreError::Io(format!("the store in {}: {error}", directory.shown())),
    }
}

fn open_database(directory: &StateDirectory, line: &Arc<Line>) -> Result<Database, StoreError> {
    let file = directory
        .open_store()
        .map_err(|error| directory.failed("the store could not be opened", &error))?;
    if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
        return Err(StoreError::Damaged(format!(
            "the store in {} is empty; restore it from a backup",
            directory.shown()
        )));
    }
    database(file, line).map_err(|failure| explain(failure, directory, line))
}

fn database(file: File, line: &Arc<Line>) -> Result<Database, Failure> {
    let backend = Backend::new(file, Arc::clone(line));
    Ok(Database::builder()
        .set_cache_size(CACHE)
        .create_with_backend(backend)?)
}

/// Makes an empty store in `file`.
pub(super) fn create(
    file: File,
    header: &Header,
    directory: &StateDirectory,
) -> Result<(), StoreError> {
    let line = Arc::new(Line::default());
    write_header(file, header, &line).map_err(|failure| explain(failure, directory, &line))
}

fn write_header(file: File, header: &Header, line: &Arc<Line>) -> Result<(), Failure> {
    let database = database(file, line)?;
    let change = database.begin_write()?;
    {
        change.open_table(RECORDS)?;
        change.open_table(LEASES)?;
        let mut meta = change.open_table(META)?;
        meta.insert(FORMAT_KEY, FORMAT.to_be_bytes().as_slice())?;
        meta.insert(ID, header.id.as_bytes())?;
        meta.insert(SEAL_KEY_ID, header.seal_key_id.as_bytes())?;
        meta.insert(COMMITS, 0_u64.to_be_bytes().as_slice())?;
    }
    change.commit()?;
    Ok(())
}

fn read_header(snapshot: &ReadTransaction, directory: &StateDirectory) -> Result<Header, Failure> {
    let meta = snapshot.open_table(META)?;
    let damaged = |what: &str| {
        StoreError::Damaged(format!(
            "the store in {} has no usable {what}; restore it from a backup",
            directory.shown()
        ))
    };
    let format = meta
        .get(FORMAT_KEY)?
        .and_then(|found| found.value().try_into().ok().map(u32::from_be_bytes))
        .ok_or_else(|| damaged("format number"))?;
    if format > FORMAT {
        return Err(Failure::Store(StoreError::Newer {
            path: directory.shown(),
            found: format,
            known: FORMAT,
        }));
    }
    // There has been no older format: the first change of it brings its migration, and the backup before that.
    if format < FORMAT {
        return Err(damaged("format number").into());
    }
    let text = |key: &str| -> Result<String, Failure> {
        let found = meta.get(key)?.map(|found| found.value().to_vec());
        Ok(found
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| damaged(key))?)
    };
    Ok(Header {
        id: text(ID)?,
        seal_key_id: text(SEAL_KEY_ID)?,
    })
}

/// The number of the last commit that `meta` knows of.
pub(super) fn commits(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<u64, Failure> {
    meta.get(COMMITS)?
        .and_then(|found| found.value().try_into().ok().map(u64::from_be_bytes))
        .ok_or_else(|| {
            StoreError::Damaged("the store has lost count of its commits; restore a backup".into())
                .into()
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::STORE;
    use crate::store::testing;

    #[tokio::test]
    async fn refuses_a_newer_format() {
        let directory = tempfile::tempdir().unwrap();
        drop(testing::open(directory.path()).await.unwrap());
        let database = Database::open(directory.path().join(STORE)).unwrap();
        let change = database.begin_write().unwrap();
        change
            .open_table(META)
            .unwrap()
            .insert(FORMAT_KEY, 2_u32.to_be_bytes().as_slice())
            .unwrap();
        change.commit().unwrap();
        drop(database);
        let error = testing::open(directory.path()).await.err().unwrap();
        assert!(matches!(
            error,
            StoreError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ));
    }
}
