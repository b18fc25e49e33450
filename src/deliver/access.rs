//! Who the delivered files belong to.

use rustix::fs::{Gid, Mode, Stat, Uid};

use super::DeliverError;
use super::files::{FileKind, Settings};

/// Owner, group and modes, resolved.
pub(super) struct Access {
    pub(super) owner: Option<Uid>,
    pub(super) group: Option<Gid>,
    mode: u32,
    cert_mode: u32,
}

impl Access {
    /// Asks the system for the names in `settings`; a number is taken as it is.
    pub(super) fn resolve(settings: &Settings) -> Result<Self, DeliverError> {
        let owner = match &settings.owner {
            None => None,
            Some(name) => Some(owner(name)?),
        };
        let group = match &settings.group {
            None => None,
            Some(name) => Some(group(name)?),
        };
        Ok(Self {
            owner,
            group,
            mode: settings.mode & 0o777,
            cert_mode: settings.cert_mode & 0o777,
        })
    }

    /// The mode of the file for `kind`.
    pub(super) fn mode(&self, kind: FileKind) -> Mode {
        Mode::from_raw_mode(match kind {
            FileKind::Privkey | FileKind::Bundle => self.mode,
            FileKind::Fullchain | FileKind::Cert | FileKind::Chain => self.cert_mode,
        })
    }

    /// Whether a file with `stat` is as the file for `kind` should be.
    pub(super) fn fits(&self, kind: FileKind, stat: &Stat) -> bool {
        let owner = self.owner.is_none_or(|owner| owner.as_raw() == stat.st_uid);
        let group = self.group.is_none_or(|group| group.as_raw() == stat.st_gid);
        owner && group && Mode::from_raw_mode(stat.st_mode & 0o7777) == self.mode(kind)
    }
}

fn owner(name: &str) -> Result<Uid, DeliverError> {
    number(name)
        .or_else(|| uzers::get_user_by_name(name).map(|user| user.uid()))
        .map(Uid::from_raw)
        .ok_or_else(|| unknown("owner", name))
}

fn group(name: &str) -> Result<Gid, DeliverError> {
    number(name)
        .or_else(|| uzers::get_group_by_name(name).map(|group| group.gid()))
        .map(Gid::from_raw)
        .ok_or_else(|| unknown("group", name))
}

/// The largest number means "do not change" to the system, and so is none.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number| *number != u32::MAX)
}

fn unknown(what: &'static str, name: &str) -> DeliverError {
    DeliverError::Unknown {
        what,
        name: name.to_owned(),
    }
}
