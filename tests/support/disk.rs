//! A small disk of a test's own, in a mount namespace that ends with it, so that it can be full without harm.

use std::path::{Path, PathBuf};

use super::command::Countersign;
use super::process::{Process, guarded};

/// A small disk that nobody else sees.
#[derive(Debug)]
pub struct Disk {
    process: Process,
    at: PathBuf,
    _log: tempfile::TempDir,
}

impl Disk {
    /// A disk of that `size` (as tmpfs takes it) in place of the directory `at`.
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let log = tempfile::tempdir().unwrap();
        let mut command = guarded(Path::new("/usr/bin/unshare"));
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command
            .args(["-m", "sh", "-c"])
            .arg(r#"mount -t tmpfs -o "size=$0,mode=0710" none "$1" && touch "$1/mounted" && exec sleep infinity"#)
            .arg(size)
            .arg(at);
        let process = Process::start("disk", command, log.path());
        let mut disk = Self {
            process,
            at: at.to_owned(),
            _log: log,
        };
        let mark = disk.path("mounted");
        disk.process.wait_until("the mount", || mark.exists());
        std::fs::remove_file(disk.path("mounted")).unwrap();
        disk
    }

    /// A file on it, as seen from outside.
    pub fn path(&self, name: &str) -> PathBuf {
        let inside = format!("/proc/{}/root{}", self.process.pid(), self.at.display());
        Path::new(&inside).join(name)
    }

    /// The program, run where the disk is seen.
    pub fn holds(&self, program: Countersign) -> Countersign {
        let pid = self.process.pid().to_string();
        let user = if rustix::process::geteuid().is_root() {
            "-m"
        } else {
            "-mU"
        };
        program.started_by(&["/usr/bin/nsenter", "-t", &pid, user, "--"])
    }

    /// Takes all that is left of it; gives it back when dropped.
    pub fn fill(&self) -> Filler {
        use std::io::Write as _;
        let path = self.path("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [65536, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Filler(path)
    }
}

/// What a full disk is full of.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        // The disk may be gone.
        let _ = std::fs::remove_file(&self.0);
    }
}
