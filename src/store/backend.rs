//! The file under the database, as redb sees it.
//!
//! Two things are done here that redb's own file does not do. Space is allocated when the file grows, so that a full
//! disk shows before anything is written into it and not in the middle of a commit. And the file can be cut off, so
//! that a database that failed can never write again once another has been opened over the same file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::StorageBackend;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// The file of a database.
#[derive(Debug)]
pub(super) struct Backend {
    file: File,
    line: Arc<Line>,
}

/// What connects a database with its file: it can be cut, and it tells what went wrong.
#[derive(Debug, Default)]
pub(super) struct Line {
    cut: RwLock<bool>,
    full: AtomicBool,
    #[cfg(test)]
    pub(super) faults: Arc<Faults>,
}

impl Line {
    /// The line to the same file after this one.
    pub(super) fn next(&self) -> Self {
        Self {
            #[cfg(test)]
            faults: Arc::clone(&self.faults),
            ..Self::default()
        }
    }

    /// Nothing goes through any more, and what was on its way is done when this returns.
    pub(super) fn cut(&self) {
        *self.cut.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether some call failed for want of space.
    pub(super) fn was_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    fn through<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let cut = self.cut.read().unwrap_or_else(PoisonError::into_inner);
        if *cut {
            return Err(io::Error::other("the store was opened anew"));
        }
        call().inspect_err(|error| {
            if is_full(error) {
                self.full.store(true, Ordering::SeqCst);
            }
        })
    }
}

impl Backend {
    pub(super) fn new(file: File, line: Arc<Line>) -> Self {
        Self { file, line }
    }
}

/// Whether `error` says that there is no room: no space, no quota, or the largest size that a file may have.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.line.through(|| Ok(self.file.metadata()?.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.line.through(|| self.file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.line.through(|| {
            let now = self.file.metadata()?.len();
            if len > now {
                allocate(&self.file, now, len - now)?;
            }
            self.file.set_len(len)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.line.through(|| {
            #[cfg(test)]
            self.line.faults.on_sync()?;
            self.file.sync_data()
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.line.through(|| {
            #[cfg(test)]
            self.line.faults.on_write()?;
            self.file.write_all_at(data, offset)
        })
    }
}

/// Makes room for `len` bytes from `offset`, where the file system can promise room.
fn allocate(file: &File, offset: u64, len: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), offset, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Faults that tests switch on, and what they count. They outlive the database that they are in.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// How often data was made durable.
    pub(super) syncs: std::sync::atomic::AtomicU64,
    /// The write that has this number from now on finds the disk full; zero is off.
    pub(super) full_at_write: std::sync::atomic::AtomicU64,
    /// The sync that has this number from now on finds the disk full, although all was written; zero is off.
    pub(super) full_at_sync: std::sync::atomic::AtomicU64,
}

#[cfg(test)]
impl Faults {
    fn on_write(&self) -> io::Result<()> {
        if counts_down_to_zero(&self.full_at_write) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn on_sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        if counts_down_to_zero(&self.full_at_sync) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

#[cfg(test)]
fn counts_down_to_zero(counter: &std::sync::atomic::AtomicU64) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok_and(|before| before == 1)
}
