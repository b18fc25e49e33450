//! One generation into one directory, step by step, so that a crash between any two steps leaves the old generation or
//! the new one, whole.
//!
//! Everything is done relative to the opened directory and never through a symbolic link that is not ours; no name
//! comes from outside the configuration.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fchown, fstat, fsync, mkdirat,
    openat, readlinkat, renameat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::access::Access;
use super::files::{FileKind, Settings};
use super::pem::{Contents, ending_in_newline, sha256};
use super::{DeliverError, Generation, Shown};

const CURRENT: &str = "current";
const NEW_LINK: &str = ".link.new";
const GENERATION: &str = ".gen-";
const NEW: &str = ".new";
/// Of a file that is read back; no certificate chain comes near.
const MAX_FILE: u64 = 1024 * 1024;
/// Directories that we make, and those of the generations: the private key has its own mode.
const DIRECTORY_MODE: u32 = 0o755;

/// A directory that is delivered to.
pub(super) struct Place<'a> {
    settings: &'a Settings,
    access: Access,
    directory: OwnedFd,
    /// Told before each step; an error from it is a crash.
    #[cfg(test)]
    pub(super) before: Option<&'a dyn Fn() -> Result<(), DeliverError>>,
}

/// What stands where one of our links should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Ours,
    Foreign,
}

struct Survey {
    /// The generation in place.
    number: Option<u64>,
    current: Found,
    links: Vec<(FileKind, Found)>,
}

/// A file as it is.
struct ReadBack {
    stat: Stat,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'a> Place<'a> {
    /// The directory of `settings`, made if it is missing.
    pub(super) fn make(settings: &'a Settings) -> Result<Self, DeliverError> {
        make_directory(&settings.directory)
            .map_err(|error| failed(&settings.directory, "making the directory", error))?;
        Self::open(settings)?.ok_or_else(|| {
            failed(
                &settings.directory,
                "opening the directory",
                io::ErrorKind::NotFound.into(),
            )
        })
    }

    /// The directory of `settings`, if it exists.
    pub(super) fn open(settings: &'a Settings) -> Result<Option<Self>, DeliverError> {
        settings.check_names().map_err(DeliverError::Malformed)?;
        let access = Access::resolve(settings)?;
        let path = &settings.directory;
        let directory = match rustix::fs::open(path, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(DeliverError::InTheWay {
                    path: path.display().to_string(),
                    found: "a file or a symbolic link",
                    wanted: "real directory",
                });
            }
            Err(error) => return Err(failed(path, "opening the directory", error.into())),
        };
        Ok(Some(Self {
            settings,
            access,
            directory,
            #[cfg(test)]
            before: None,
        }))
    }

    /// Puts `generation` in place.
    pub(super) fn install(&self, generation: &Generation) -> Result<(), DeliverError> {
        let outcome = self.install_steps(generation);
        if outcome.is_err() {
            // A full disk gets its room back; the next attempt would remove it as well.
            let _ = self.remove(&unfinished(generation.number));
        }
        outcome
    }

    /// The same without tidying up: what a crash at any point leaves.
    pub(super) fn install_steps(&self, generation: &Generation) -> Result<(), DeliverError> {
        let contents = Contents::of(generation)?;
        let survey = self.survey()?;
        if let Some(found) = survey.number.filter(|&found| found > generation.number) {
            return Err(DeliverError::Older {
                path: self.shown(CURRENT),
                found,
                wanted: generation.number,
            });
        }
        let name = finished(generation.number);
        if self.differs(&name, &contents)?.is_some() {
            self.build(generation.number, &contents)?;
        }
        if survey.number != Some(generation.number) {
            self.point(CURRENT, &name, survey.current)?;
        }
        for (kind, found) in survey.links {
            if found != Found::Ours {
                self.point(self.settings.name(kind), &link_target(kind), found)?;
            }
        }
        self.sync(".", &self.directory)
    }

    /// What is in place.
    pub(super) fn inspect(&self) -> Result<Shown, DeliverError> {
        let survey = self.survey()?;
        let Some(number) = survey.number else {
            return Ok(Shown::Nothing);
        };
        let name = finished(number);
        let mut fault = survey
            .links
            .iter()
            .find(|(_, found)| *found != Found::Ours)
            .map(|(kind, _)| format!("the link {} is missing", self.settings.name(*kind)));
        let mut fullchain_sha256 = String::new();
        match self.read_generation(number, &name)? {
            Ok(contents) => {
                fullchain_sha256 = sha256(contents.file(FileKind::Fullchain));
                fault = fault.or(self.differs(&name, &contents)?);
            }
            Err(missing) => fault = Some(missing),
        }
        Ok(Shown::Generation {
            number,
            fullchain_sha256,
            fault,
        })
    }

    /// Removes generations older than `number`, as far as none of them is in place, and what crashes left.
    pub(super) fn settle(&self, number: u64) -> Result<(), DeliverError> {
        let oldest_kept = number.min(self.survey()?.number.unwrap_or(0));
        for name in self.names()? {
            let left_over =
                name == NEW_LINK || name.strip_suffix(NEW).and_then(generation_number).is_some();
            if left_over || generation_number(&name).is_some_and(|old| old < oldest_kept) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Looks at every link. Anything that is not ours is refused before anything is changed, unless it may be taken
    /// over.
    fn survey(&self) -> Result<Survey, DeliverError> {
        let target = self.link(CURRENT)?;
        let number = target
            .as_ref()
            .and_then(|target| generation_number(target.as_deref()?));
        let current = self.found(CURRENT, target.is_some(), number.is_some())?;
        let mut links = Vec::new();
        for kind in FileKind::ALL {
            let name = self.settings.name(kind);
            let target = self.link(name)?;
            let ours = target == Some(Some(link_target(kind)));
            links.push((kind, self.found(name, target.is_some(), ours)?));
        }
        Ok(Survey {
            number,
            current,
            links,
        })
    }

    fn found(&self, name: &str, exists: bool, ours: bool) -> Result<Found, DeliverError> {
        match (exists, ours) {
            (false, _) => Ok(Found::Nothing),
            (true, true) => Ok(Found::Ours),
            (true, false) => self.refuse_foreign(name).map(|()| Found::Foreign),
        }
    }

    /// Where the symbolic link `name` points: `None` if nothing is there, `Some(None)` if something else is.
    fn link(&self, name: &str) -> Result<Option<Option<String>>, DeliverError> {
        match readlinkat(&self.directory, name, Vec::new()) {
            Ok(target) => Ok(Some(target.into_string().ok())),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::INVAL) => Ok(Some(None)),
            Err(error) => Err(self.failed(name, "looking at it", error)),
        }
    }

    fn refuse_foreign(&self, name: &str) -> Result<(), DeliverError> {
        let stat = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed(name, "looking at it", error))?;
        let path = self.shown(name);
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err(DeliverError::InTheWay {
                path,
                found: "a directory",
                wanted: "symbolic link of ours",
            });
        }
        if self.settings.take_over {
            Ok(())
        } else {
            Err(DeliverError::Foreign { path })
        }
    }

    /// Makes the directory of a generation under another name, whole and durable, and then gives it its name.
    fn build(&self, number: u64, contents: &Contents) -> Result<(), DeliverError> {
        let (new, name) = (unfinished(number), finished(number));
        self.remove(&new)?;
        self.step()?;
        mkdirat(&self.directory, &new, Mode::RWXU)
            .map_err(|error| self.failed(&new, "making the directory", error))?;
        self.step()?;
        let inside = openat(&self.directory, &new, DIRECTORY, Mode::empty())
            .map_err(|error| self.failed(&new, "opening the directory", error))?;
        self.refuse_other_owner(&new, &inside)?;
        let mut files = Vec::new();
        for kind in FileKind::ALL {
            files.push((kind, self.write(&inside, kind, contents.file(kind))?));
        }
        self.step()?;
        fchmod(&inside, Mode::from_raw_mode(DIRECTORY_MODE))
            .map_err(|error| self.failed(&new, "setting its mode", error))?;
        self.step()?;
        self.sync_all(&new, &inside, &files)?;
        self.step()?;
        self.publish(&new, &name)?;
        self.sync(".", &self.directory)
    }

    /// Somebody who may write here could have put a directory of theirs in the place of ours.
    fn refuse_other_owner(&self, name: &str, directory: &OwnedFd) -> Result<(), DeliverError> {
        let stat = fstat(directory).map_err(|error| self.failed(name, "looking at it", error))?;
        if stat.st_uid == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        Err(DeliverError::InTheWay {
            path: self.shown(name),
            found: "somebody else's directory",
            wanted: "directory of ours",
        })
    }

    /// A file is for us alone until it is whole. It is not on the disk yet.
    fn write(&self, inside: &OwnedFd, kind: FileKind, bytes: &[u8]) -> Result<File, DeliverError> {
        let name = kind.default_name();
        let failed = |what, error: io::Error| failed(&self.path(name), what, error);
        tracing::trace!(directory = %self.settings.directory.display(), name, "files: writing");
        self.step()?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(inside, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed("making it", error.into()))?;
        let mut file = File::from(file);
        self.step()?;
        file.write_all(bytes)
            .map_err(|error| failed("writing it", error))?;
        self.step()?;
        // The owner last: afterwards it may not be ours to change.
        let give = |owner, group| {
            fchown(&file, owner, group).map_err(|error| match error {
                Errno::PERM => DeliverError::Denied {
                    path: self.shown(name),
                    what: "giving it its owner and group",
                    hint: "make that user a member of the group, or leave `owner` out",
                },
                error => failed("giving it its owner and group", error.into()),
            })
        };
        if self.access.group.is_some() {
            give(None, self.access.group)?;
        }
        self.step()?;
        fchmod(&file, self.access.mode(kind))
            .map_err(|error| failed("setting its mode", error.into()))?;
        self.step()?;
        if self.access.owner.is_some() {
            give(self.access.owner, None)?;
        }
        Ok(file)
    }

    /// The files and their directory, all at once: a file system makes those durable together that wait together.
    fn sync_all(
        &self,
        new: &str,
        inside: &OwnedFd,
        files: &[(FileKind, File)],
    ) -> Result<(), DeliverError> {
        let outcomes = std::thread::scope(|threads| {
            let syncs = files.iter().map(|(kind, file)| {
                let sync = threads.spawn(|| file.sync_all());
                (self.path(kind.default_name()), sync)
            });
            let syncs: Vec<_> = syncs.collect();
            let of_directory = fsync(inside);
            let mut outcomes: Vec<_> = syncs
                .into_iter()
                .map(|(path, sync)| (path, sync.join().unwrap_or_else(|_| Err(thread_ended()))))
                .collect();
            outcomes.push((self.path(new), of_directory.map_err(io::Error::from)));
            outcomes
        });
        outcomes.into_iter().try_for_each(|(path, outcome)| {
            outcome.map_err(|error| failed(&path, "syncing it", error))
        })
    }

    /// Gives the finished directory `new` its `name`; one that has the name already, and is damaged, gives way at the
    /// same instant.
    fn publish(&self, new: &str, name: &str) -> Result<(), DeliverError> {
        let failed = |error| self.failed(name, "renaming the generation", error);
        let rename = |flags| renameat_with(&self.directory, new, &self.directory, name, flags);
        match rename(RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                rename(RenameFlags::EXCHANGE).map_err(failed)?;
                self.step()?;
                self.remove(new)
            }
            // File systems without such renames, e.g. over a network: there a damaged one is gone for an instant.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.remove(name)?;
                renameat(&self.directory, new, &self.directory, name).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Makes the symbolic link `name` point to `target`, in one instant.
    fn point(&self, name: &str, target: &str, found: Found) -> Result<(), DeliverError> {
        tracing::trace!(directory = %self.settings.directory.display(), name, target, "files: linking");
        let failed = |error| self.failed(name, "making the link", error);
        self.step()?;
        if found == Found::Nothing {
            // Refused by the system if something has come there since.
            return symlinkat(target, &self.directory, name).map_err(failed);
        }
        self.remove(NEW_LINK)?;
        self.step()?;
        symlinkat(target, &self.directory, NEW_LINK).map_err(failed)?;
        self.step()?;
        renameat(&self.directory, NEW_LINK, &self.directory, name).map_err(failed)?;
        self.sync(".", &self.directory)
    }

    /// What is wrong with the files in the directory `name`; nothing if they are `contents`, with the right access.
    fn differs(&self, name: &str, contents: &Contents) -> Result<Option<String>, DeliverError> {
        let Some(inside) = self.generation(name)? else {
            return Ok(Some(format!("{name} is missing")));
        };
        for kind in FileKind::ALL {
            let file = kind.default_name();
            let Some(ReadBack { stat, bytes }) = self.read(&inside, kind)? else {
                return Ok(Some(format!("{name}/{file} is missing or cannot be read")));
            };
            if bytes.as_slice() != contents.file(kind) {
                return Ok(Some(format!("{name}/{file} was changed")));
            }
            if !self.access.fits(kind, &stat) {
                return Ok(Some(format!(
                    "{name}/{file} has another owner, group or mode than configured"
                )));
            }
        }
        Ok(None)
    }

    /// The contents that the chain and key in the directory `name` make, or what is missing.
    fn read_generation(
        &self,
        number: u64,
        name: &str,
    ) -> Result<Result<Contents, String>, DeliverError> {
        let Some(inside) = self.generation(name)? else {
            return Ok(Err(format!("{name} is missing")));
        };
        let text = |kind: FileKind| -> Result<Result<Zeroizing<Vec<u8>>, String>, DeliverError> {
            Ok(self
                .read(&inside, kind)?
                .map(|read| read.bytes)
                .ok_or_else(|| {
                    format!(
                        "{name}/{} is missing or cannot be read",
                        kind.default_name()
                    )
                }))
        };
        let (fullchain, key) = match (text(FileKind::Fullchain)?, text(FileKind::Privkey)?) {
            (Ok(fullchain), Ok(key)) => (fullchain, key),
            (Err(missing), _) | (_, Err(missing)) => return Ok(Err(missing)),
        };
        let generation = Generation {
            number,
            fullchain_pem: String::from_utf8_lossy(&fullchain).into_owned(),
            key_pem: Secret::new(ending_in_newline(&key)),
        };
        Ok(Contents::of(&generation).map_err(|error| error.to_string()))
    }

    /// The directory `name`, if there is one.
    fn generation(&self, name: &str) -> Result<Option<OwnedFd>, DeliverError> {
        match openat(&self.directory, name, DIRECTORY, Mode::empty()) {
            Ok(inside) => Ok(Some(inside)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(self.failed(name, "opening the directory", error)),
        }
    }

    /// A plain file, if there is one.
    fn read(&self, inside: &OwnedFd, kind: FileKind) -> Result<Option<ReadBack>, DeliverError> {
        let name = kind.default_name();
        let failed = |error: io::Error| failed(&self.path(name), "reading it", error);
        // Without waiting, should it be a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match openat(inside, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ACCESS) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let stat = fstat(&file).map_err(|error| failed(error.into()))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(MAX_FILE);
        let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
        File::from(file)
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Ok(Some(ReadBack { stat, bytes }))
    }

    /// Removes the file, link or flat directory `name`, if there is one.
    fn remove(&self, name: &str) -> Result<(), DeliverError> {
        let failed = |error| self.failed(name, "removing it", error);
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(failed(error)),
        }
        let inside = openat(&self.directory, name, DIRECTORY, Mode::empty()).map_err(failed)?;
        for entry in Dir::read_from(&inside).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                self.step()?;
                unlinkat(&inside, entry.file_name(), AtFlags::empty()).map_err(failed)?;
            }
        }
        self.step()?;
        unlinkat(&self.directory, name, AtFlags::REMOVEDIR).map_err(failed)
    }

    fn names(&self) -> Result<Vec<String>, DeliverError> {
        let failed = |error| self.failed(".", "listing it", error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn sync(&self, name: &str, directory: &OwnedFd) -> Result<(), DeliverError> {
        self.step()?;
        fsync(directory).map_err(|error| self.failed(name, "syncing the directory", error))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.settings.directory.join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn failed(&self, name: &str, what: &'static str, error: Errno) -> DeliverError {
        failed(&self.path(name), what, error.into())
    }

    #[cfg(test)]
    fn step(&self) -> Result<(), DeliverError> {
        self.before.map_or(Ok(()), |before| before())
    }

    #[cfg(not(test))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "tests crash here"
    )]
    fn step(&self) -> Result<(), DeliverError> {
        Ok(())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn finished(number: u64) -> String {
    format!("{GENERATION}{number}")
}

fn unfinished(number: u64) -> String {
    format!("{GENERATION}{number}{NEW}")
}

/// The number of the generation whose directory has `name`; only if we would write it so.
fn generation_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(GENERATION)?.parse().ok()?;
    (finished(number) == name).then_some(number)
}

fn link_target(kind: FileKind) -> String {
    format!("{CURRENT}/{}", kind.default_name())
}

/// Makes `path` and its parents where they are missing, readable for all whatever the umask is.
fn make_directory(path: &Path) -> io::Result<()> {
    let mut missing: Vec<_> = path
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err())
        .collect();
    while let Some(path) = missing.pop() {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(DIRECTORY_MODE))?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn failed(path: &Path, what: &'static str, error: io::Error) -> DeliverError {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DeliverError::Full { path }
        }
        io::ErrorKind::PermissionDenied => DeliverError::Denied {
            path,
            what,
            hint: "let it write there",
        },
        _ => DeliverError::Io { path, what, error },
    }
}

fn thread_ended() -> io::Error {
    io::Error::other("the thread that waited for it ended")
}
