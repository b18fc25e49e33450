//! Whether certificates can be put where the configuration says: by the user who will do it, before it is due.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, access};

use super::checked::Config;
use super::files::{Finding, Severity};

/// Who runs the daemon: whoever owns `state`, else the one who asks.
struct Daemon {
    uid: u32,
    /// The groups that it is in; those of this process are looked up by the system itself.
    groups: Vec<u32>,
    is_us: bool,
}

impl Config {
    /// Every target whose directory the daemon's user cannot make or write to.
    pub(super) fn check_targets(&self) -> Vec<Finding> {
        let daemon = Daemon::of(&self.state);
        let mut findings = Vec::new();
        for (name, certificate) in &self.certificates {
            for (nth, delivery) in certificate.deliver.iter().enumerate() {
                let directory = &delivery.files.directory;
                // What is missing is made, in what is there.
                let mut there = directory.as_path();
                while !there.exists()
                    && let Some(above) = there.parent()
                {
                    there = above;
                }
                if daemon.may_write(there) {
                    continue;
                }
                let user = daemon.name();
                let place = match delivery.is_in_place() {
                    true => format!("certificates.{name}.deliver[{nth}]"),
                    false => format!("targets.{}", delivery.target),
                };
                findings.push(Finding {
                    severity: Severity::Error,
                    message: format!(
                        "{place}.files.directory: {} cannot be written by the user {user}, who runs the daemon",
                        there.display()
                    ),
                    hint: format!(
                        "make {} and give it to {user}; under systemd, ReadWritePaths= must name it too",
                        directory.display()
                    ),
                });
            }
        }
        findings
    }
}

impl Daemon {
    fn of(state: &Path) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let uid = std::fs::metadata(state).map_or(own, |state| state.uid());
        let user = uzers::get_user_by_uid(uid);
        let groups = user.and_then(|user| user.groups()).unwrap_or_default();
        Self {
            uid,
            groups: groups.iter().map(uzers::Group::gid).collect(),
            is_us: uid == own,
        }
    }

    fn name(&self) -> String {
        match uzers::get_user_by_uid(self.uid) {
            Some(user) => user.name().to_string_lossy().into_owned(),
            None => self.uid.to_string(),
        }
    }

    fn may_write(&self, directory: &Path) -> bool {
        if self.is_us {
            return access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        }
        std::fs::metadata(directory).is_ok_and(|found| self.uid == 0 || self.has_right(&found))
    }

    /// By the permission bits alone; access lists are for the system to know.
    fn has_right(&self, found: &Metadata) -> bool {
        let mode = found.permissions().mode();
        let bits = if found.uid() == self.uid {
            mode >> 6
        } else if self.groups.contains(&found.gid()) {
            mode >> 3
        } else {
            mode
        };
        bits & 0o3 == 0o3
    }
}
