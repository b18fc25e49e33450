//! What tests of the store and of its users need: opening one, and a part of a test in a process of its own, which may
//! be killed or given a small disk.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};

use crate::clock::Clock;

use super::{MemoryStore, RedbStore, Sealer, Session, Store, StoreError, open_state};

/// The state in `directory`, with a key file beside the store.
pub(crate) async fn open(directory: &Path) -> Result<(RedbStore, Sealer), StoreError> {
    open_state(directory, None, &Clock::system()).await
}

/// A hold on a store in memory.
pub(crate) async fn session() -> Session {
    let store = MemoryStore::new("test");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let lease = store.lease("worker", "test", now, std::time::Duration::ZERO);
    let fence = lease.await.unwrap();
    Session::new(Arc::new(store), fence)
}

/// Tells a test that it is to do its child's part, and where.
const PART: &str = "COUNTERSIGN_TEST_PART";
/// What the child has to say begins with this; the rest of its output is the test harness's.
const WORD: &str = "word: ";

/// The directory given to this process, if it was started as the child of a test.
#[allow(
    clippy::disallowed_methods,
    reason = "the child of a test is told so by its environment"
)]
pub(crate) fn part() -> Option<String> {
    std::env::var(PART).ok()
}

/// Says something to the parent.
pub(crate) fn say(word: &str) {
    println!("{WORD}{word}");
}

/// A test of this binary that runs in a process of its own; killed when dropped.
pub(crate) struct Part {
    child: Child,
    /// What the child says; ends with it.
    pub(crate) words: mpsc::Receiver<String>,
}

impl Part {
    /// Starts `test` (its full path) with `directory` as its part.
    pub(crate) fn start(test: &str, directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments(test)).env(PART, directory);
        Self::spawn(command)
    }

    /// Starts `test` where `directory` is a file system of `size` that nobody else sees and that goes with it.
    pub(crate) fn start_on_a_disk_of(size: &str, test: &str, directory: &Path) -> Self {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("-r");
        }
        command
            .args(["-m", "sh", "-c"])
            .arg(r#"mount -t tmpfs -o "size=$0" none "$COUNTERSIGN_TEST_PART" && exec "$@""#)
            .arg(size)
            .arg(std::env::current_exe().unwrap())
            .args(arguments(test))
            .env(PART, directory);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, words) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The harness writes the name of a test without a line end.
                if let Some(at) = line.find(WORD) {
                    let _ = sender.send(line[at + WORD.len()..].to_owned());
                }
            }
        });
        Self { child, words }
    }

    /// Kills it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.child.wait();
    }

    /// Waits for its end, and fails unless it did well.
    pub(crate) fn finish(mut self) {
        let status = self.child.wait().unwrap();
        let words: Vec<_> = self.words.iter().collect();
        assert!(status.success(), "the child ended with {status}: {words:?}");
        assert_eq!(words.last().map(String::as_str), Some("done"));
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

fn arguments(test: &str) -> [&str; 4] {
    [test, "--exact", "--nocapture", "--test-threads=1"]
}

/// Fills the file system of `directory` to the last byte; dropping the file gives it back.
pub(crate) fn fill(directory: &Path) -> tempfile::NamedTempFile {
    use std::io::Write;
    let mut file = tempfile::NamedTempFile::new_in(directory).unwrap();
    for size in [65536, 4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    file
}
