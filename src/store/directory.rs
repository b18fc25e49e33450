//! The state directory: who may look into it, who has it, and opening what is in it in the right order.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::secret::SecretSource;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::StoreError;
use super::backend::is_full;
use super::redb::{self, Header, RedbStore};
use super::seal::{SealKey, Sealer, hex};

/// The database.
pub(super) const STORE: &str = "store.redb";
/// The database while it is being made.
const UNFINISHED_STORE: &str = "store.redb.new";
/// Held by whoever has the store open; holds its process number.
const LOCK: &str = "lock";
/// The key that seals private material, unless the configuration has it elsewhere.
pub(super) const SEAL_KEY: &str = "seal.key";
/// The key while it is being made.
const UNFINISHED_SEAL_KEY: &str = "seal.key.new";

/// Opens the store in the state directory and what unseals it, and makes both if there is no store yet.
///
/// The key is durable before the store exists, so that nothing can ever be sealed with a key that is lost. For a store
/// that exists, a missing or different key is refused, never replaced.
pub async fn open_state(
    directory: &Path,
    seal_key: Option<&SecretSource>,
    clock: &Clock,
) -> Result<(RedbStore, Sealer), StoreError> {
    let path = directory.to_owned();
    let state = blocking(move || StateDirectory::take(&path)).await?;
    let given = match seal_key {
        Some(source) => Some(SealKey::read(source, clock).await?),
        None => None,
    };
    blocking(move || state.open(given)).await
}

/// Whether there is a store in the state directory; looking makes none.
pub fn exists(directory: &Path) -> bool {
    directory.join(STORE).exists()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Io(format!("opening the store was cut short: {error}")))?
}

/// The state directory, locked for us as long as this lives.
pub(super) struct StateDirectory {
    path: PathBuf,
    directory: File,
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory if it is missing, and locks it.
    fn take(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: &io::Error| failed(path, "the state directory cannot be used", error);
        make_directory(path).map_err(|error| failed(&error))?;
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::DIRECTORY.bits() as i32)
            .open(path)
            .map_err(|error| failed(&error))?;
        let lock = lock(&directory, path)?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            _lock: lock,
        })
    }

    /// Its path, for messages.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// `error` of a file in it, in words.
    pub(super) fn failed(&self, what: &str, error: &io::Error) -> StoreError {
        failed(&self.path, what, error)
    }

    /// The file of the database.
    pub(super) fn open_store(&self) -> io::Result<File> {
        open_at(&self.directory, STORE, OFlags::RDWR)
    }

    fn open(self, given: Option<SealKey>) -> Result<(RedbStore, Sealer), StoreError> {
        let exists = self
            .exists(STORE)
            .map_err(|error| self.failed("the store cannot be looked at", &error))?;
        let key = match (given, exists) {
            (Some(key), _) => key,
            (None, true) => self.read_seal_key()?.ok_or_else(|| {
                StoreError::Damaged(format!(
                    "{} is missing, and without it the private material in the store cannot be read; put it back from a backup, or name the key with `seal-key`",
                    self.path.join(SEAL_KEY).display()
                ))
            })?,
            (None, false) => match self.read_seal_key()? {
                Some(key) => key,
                None => self.make_seal_key()?,
            },
        };
        if !exists {
            self.make_store(&key)?;
        }
        let shown = self.shown();
        tracing::trace!(directory = shown, "store: opening it");
        let store = RedbStore::open(self)?;
        if store.seal_key_id() != key.id() {
            return Err(StoreError::Damaged(format!(
                "the store in {shown} is sealed with the key {}, but the key given is {}; give the key that the store was made with",
                store.seal_key_id(),
                key.id()
            )));
        }
        let sealer = Sealer::new(&store, &key)?;
        Ok((store, sealer))
    }

    fn read_seal_key(&self) -> Result<Option<SealKey>, StoreError> {
        let failed = |error: &io::Error| self.failed("the seal key cannot be read", error);
        let file = match open_at(&self.directory, SEAL_KEY, OFlags::RDONLY) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(256));
        file.take(256)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&error))?;
        let source = self.path.join(SEAL_KEY).display().to_string();
        SealKey::parse(bytes.trim_ascii_end(), &source).map(Some)
    }

    /// Draws a key; it is complete and durable before it has its name.
    fn make_seal_key(&self) -> Result<SealKey, StoreError> {
        let (key, text) = SealKey::draw()?;
        tracing::trace!(directory = self.shown(), "store: making the seal key");
        let make = || -> io::Result<()> {
            self.remove(UNFINISHED_SEAL_KEY)?;
            let file = self.create(UNFINISHED_SEAL_KEY)?;
            file.write_all_at(text.as_bytes(), 0)?;
            file.sync_all()?;
            // A hard link is refused where there is a file already: a key is never replaced.
            rustix::fs::linkat(
                &self.directory,
                UNFINISHED_SEAL_KEY,
                &self.directory,
                SEAL_KEY,
                rustix::fs::AtFlags::empty(),
            )?;
            self.remove(UNFINISHED_SEAL_KEY)?;
            self.directory.sync_all()
        };
        make().map_err(|error| self.failed("the seal key could not be made", &error))?;
        Ok(key)
    }

    /// Makes the store under another name and renames it, so that one that exists is complete.
    fn make_store(&self, key: &SealKey) -> Result<(), StoreError> {
        let failed = |error: &io::Error| self.failed("the store could not be made", error);
        tracing::trace!(directory = self.shown(), "store: making it");
        let header = Header {
            id: draw_id()?,
            seal_key_id: key.id().to_owned(),
        };
        let start = || {
            self.remove(UNFINISHED_STORE)?;
            self.create(UNFINISHED_STORE)
        };
        let file = start().map_err(|error| failed(&error))?;
        let durable = file.try_clone().map_err(|error| failed(&error))?;
        redb::create(file, &header, self)?;
        let finish = || -> io::Result<()> {
            durable.sync_all()?;
            rustix::fs::renameat(&self.directory, UNFINISHED_STORE, &self.directory, STORE)?;
            self.directory.sync_all()
        };
        finish().map_err(|error| failed(&error))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        open_at(
            &self.directory,
            name,
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        )
    }

    fn exists(&self, name: &str) -> io::Result<bool> {
        use rustix::fs::{AtFlags, statat};
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.directory, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Opens `name`, never through a symbolic link; what is made is for the owner alone.
fn open_at(directory: &File, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

/// Makes `path` for the owner, with a way through for the group (which reaches `control.sock`), and nobody else.
fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Whatever the umask was.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o710))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Takes the lock and notes our process number in it.
fn lock(directory: &File, path: &Path) -> Result<File, StoreError> {
    let failed = |error: &io::Error| failed(path, "the lock cannot be taken", error);
    let file =
        open_at(directory, LOCK, OFlags::RDWR | OFlags::CREATE).map_err(|error| failed(&error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(StoreError::InUse {
                path: path.display().to_string(),
                pid: noted_pid(&file),
            });
        }
        Err(error) => return Err(failed(&error.into())),
    }
    // Written in place and always of one length: needs no new room on a full disk.
    let note = format!("{:<10}\n", std::process::id());
    file.write_all_at(note.as_bytes(), 0)
        .map_err(|error| failed(&error))?;
    Ok(file)
}

fn noted_pid(lock: &File) -> u32 {
    let mut note = [0; 11];
    let read = lock.read_at(&mut note, 0).unwrap_or(0);
    std::str::from_utf8(&note[..read])
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn failed(path: &Path, what: &str, error: &io::Error) -> StoreError {
    if is_full(error) {
        return StoreError::Full(path.display().to_string());
    }
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as the user that owns it",
        _ => "",
    };
    StoreError::Io(format!("{}: {what}: {error}{hint}", path.display()))
}

fn draw_id() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| StoreError::Io("the system gives no random bytes".into()))?;
    Ok(hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, testing};

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[tokio::test]
    async fn nothing_in_it_is_for_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let _open = testing::open(&path).await.unwrap();
        assert_eq!(mode(&path), 0o710);
        let files: Vec<_> = path.read_dir().unwrap().map(|file| file.unwrap()).collect();
        assert_eq!(files.len(), 3);
        for file in files {
            assert_eq!(mode(&file.path()), 0o600, "{:?}", file.file_name());
        }
    }

    #[tokio::test]
    async fn a_second_opening_names_the_process_that_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let open = testing::open(directory.path()).await.unwrap();
        match testing::open(directory.path()).await {
            Err(StoreError::InUse { pid, .. }) => assert_eq!(pid, std::process::id()),
            other => panic!("{:?}", other.err()),
        }
        drop(open);
        testing::open(directory.path()).await.unwrap();
    }

    #[tokio::test]
    async fn the_identity_stays_and_is_drawn() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = testing::open(one.path()).await.unwrap().0.id().to_owned();
        assert_eq!(testing::open(one.path()).await.unwrap().0.id(), id);
        assert_ne!(testing::open(two.path()).await.unwrap().0.id(), id);
        assert_eq!(id.len(), 32);
    }

    #[tokio::test]
    async fn what_a_crash_left_unfinished_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        for name in [UNFINISHED_SEAL_KEY, UNFINISHED_STORE] {
            std::fs::write(directory.path().join(name), b"half").unwrap();
        }
        testing::open(directory.path()).await.unwrap();
        assert!(!directory.path().join(UNFINISHED_STORE).exists());
    }

    #[tokio::test]
    async fn a_key_without_a_store_is_used() {
        let directory = tempfile::tempdir().unwrap();
        drop(testing::open(directory.path()).await.unwrap());
        let key = std::fs::read(directory.path().join(SEAL_KEY)).unwrap();
        std::fs::remove_file(directory.path().join(STORE)).unwrap();
        drop(testing::open(directory.path()).await.unwrap());
        assert_eq!(std::fs::read(directory.path().join(SEAL_KEY)).unwrap(), key);
    }

    #[tokio::test]
    async fn a_missing_key_is_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        drop(testing::open(directory.path()).await.unwrap());
        std::fs::remove_file(directory.path().join(SEAL_KEY)).unwrap();
        let error = testing::open(directory.path()).await.err().unwrap();
        assert!(error.to_string().contains("seal.key is missing"), "{error}");
        assert!(!directory.path().join(SEAL_KEY).exists());
    }

    #[tokio::test]
    async fn a_different_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        drop(testing::open(directory.path()).await.unwrap());
        let given = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(given.path(), [7; 32]).unwrap();
        let source = SecretSource::File(given.path().to_owned());
        let error = open_state(directory.path(), Some(&source), &Clock::system())
            .await
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("but the key given is"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_given_key_leaves_no_key_file() {
        let directory = tempfile::tempdir().unwrap();
        let given = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(given.path(), [7; 32]).unwrap();
        let source = SecretSource::File(given.path().to_owned());
        for _ in 0..2 {
            open_state(directory.path(), Some(&source), &Clock::system())
                .await
                .ok()
                .unwrap();
        }
        assert!(!directory.path().join(SEAL_KEY).exists());
    }
}
