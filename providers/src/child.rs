//! Programs of others: an argument vector, never a shell.
//!
//! A program gets nothing of our environment but `PATH`, `HOME` and `LANG`, and what it is given. It has a process group
//! of its own, which is killed when its time is over or nobody waits any more; what it writes is read to the end and
//! mostly thrown away.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::words::printable;

/// What is kept of its error output: the end, where the reason is.
pub const KEPT_OUTPUT: usize = 2048;
/// Somebody whom the program left running in the background may hold its output open; that long it is read on.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a program is given.
#[derive(Default)]
pub struct Given<'a> {
    /// Variables of its environment.
    pub environment: &'a [(&'a str, String)],
    /// What it can read on its standard input.
    pub input: &'a [u8],
}

/// A program that came to its end.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// The beginning of its output.
    pub stdout: Zeroizing<Vec<u8>>,
    /// Whether there was more of it.
    pub is_cut: bool,
    /// The end of its error output, made harmless.
    pub stderr: String,
}

/// A program that did not.
#[derive(Debug)]
pub enum Unfinished {
    /// It could not be started.
    NotStarted(io::Error),
    /// Its time was over, and it was killed; the end of its error output, made harmless.
    TooSlow(String),
}

/// Runs `argv` and waits for its end, at most until `deadline` is over; keeps so many octets of its output.
pub async fn run(
    argv: &[String],
    given: &Given<'_>,
    keep: usize,
    clock: &Clock,
    deadline: Duration,
) -> Result<Finished, Unfinished> {
    let mut command = command(argv).map_err(Unfinished::NotStarted)?;
    command
        .envs(given.environment.iter().map(|(name, value)| (name, value)))
        .stdin(match given.input {
            [] => Stdio::null(),
            _ => Stdio::piped(),
        });
    let mut group = Group::start(command).map_err(Unfinished::NotStarted)?;
    let mut head = Head::new(keep);
    let mut tail = Tail::default();
    let ended = clock
        .timeout(
            deadline,
            group.finish(given.input, &mut head, &mut tail, clock),
        )
        .await;
    tracing::trace!(program = argv.first(), ?ended, "command");
    let stderr = tail.harmless();
    match ended {
        Some(Ok(status)) => Ok(Finished {
            status,
            stdout: head.kept,
            is_cut: head.is_cut,
            stderr,
        }),
        Some(Err(error)) => Err(Unfinished::NotStarted(error)),
        None => {
            group.kill().await;
            Err(Unfinished::TooSlow(stderr))
        }
    }
}

/// `argv` as it will be started: without our environment and as a group of its own; its output comes to us.
#[allow(
    clippy::disallowed_methods,
    reason = "these three are handed on to the program, and read for nothing else"
)]
pub fn command(argv: &[String]) -> io::Result<Command> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let handed_on = ["PATH", "HOME", "LANG"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(handed_on)
        .current_dir("/")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    Ok(command)
}

/// A program with all that it started; killed when dropped before its end.
#[derive(Debug)]
pub struct Group {
    child: Child,
}

impl Group {
    /// Starts a [`command`].
    pub fn start(mut command: Command) -> io::Result<Self> {
        command.spawn().map(Self::of)
    }

    /// One that was started from a [`command`].
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    /// Its standard input, output and error output, as far as they are ours and not taken yet.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let child = &mut self.child;
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    }

    /// Waits for its end, says `input` to it and reads what it says until then.
    async fn finish(
        &mut self,
        input: &[u8],
        head: &mut Head,
        tail: &mut Tail,
        clock: &Clock,
    ) -> io::Result<ExitStatus> {
        let (stdin, stdout, stderr) = self.pipes();
        let reading = async {
            tokio::join!(say(stdin, input), drain(stdout, head), drain(stderr, tail));
        };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = &mut reading => return self.child.wait().await,
        };
        clock.timeout(LAST_WORDS, reading).await;
        status
    }

    /// Waits until the program has ended, and leaves its number reserved for it, so that what it started can still be
    /// killed.
    #[allow(
        deprecated,
        reason = "what would come instead is unsafe, and a descriptor of our own stays what it is"
    )]
    pub async fn ended(&self) {
        let watch = || {
            let id = self.id().ok_or(io::ErrorKind::NotFound)?;
            let descriptor = pidfd_open(id, PidfdFlags::NONBLOCK)?;
            AsyncFd::with_interest(descriptor, Interest::READABLE)
        };
        match watch() {
            Ok(watched) => drop(watched.readable().await),
            // Whoever closes its output is noticed all the same.
            Err(error) => {
                tracing::debug!(%error, "the end of a program cannot be watched");
                std::future::pending().await
            }
        }
    }

    /// Kills whatever is left of it; how the program ended, maybe long before.
    pub async fn kill(&mut self) -> Option<ExitStatus> {
        self.signal();
        // The program itself cannot withstand it, so this ends.
        self.child.wait().await.ok()
    }

    /// Kills the whole group, unless the program was waited for: then its number may be somebody else's.
    fn signal(&self) {
        if let Some(group) = self.id() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn id(&self) -> Option<Pid> {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok());
        number.and_then(Pid::from_raw)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal();
    }
}

/// It need not read it.
async fn say(to: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut to) = to {
        let _ = to.write_all(input).await;
    }
}

/// What keeps a part of what a program writes.
trait Keep {
    fn push(&mut self, bytes: &[u8]);
}

async fn drain(from: Option<impl AsyncRead + Unpin>, keep: &mut impl Keep) {
    let Some(mut from) = from else {
        return;
    };
    let mut buffer = Zeroizing::new(vec![0; 4096]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        keep.push(&buffer[..read]);
    }
}

/// The first bytes of an output.
struct Head {
    kept: Zeroizing<Vec<u8>>,
    most: usize,
    is_cut: bool,
}

impl Head {
    fn new(most: usize) -> Self {
        Self {
            kept: Zeroizing::default(),
            most,
            is_cut: false,
        }
    }
}

impl Keep for Head {
    fn push(&mut self, bytes: &[u8]) {
        let room = self.most - self.kept.len();
        self.is_cut |= bytes.len() > room;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// The last bytes of an output.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Keep for Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(KEPT_OUTPUT);
        self.0.drain(..excess);
    }
}

impl Tail {
    /// As one line that cannot steer a terminal or a log.
    fn harmless(mut self) -> String {
        printable(
            &String::from_utf8_lossy(self.0.make_contiguous()),
            KEPT_OUTPUT,
        )
    }
}

/// `exit status 3` for the standard library's `exit status: 3`.
pub fn ending(status: ExitStatus) -> String {
    status.to_string().replacen(": ", " ", 1)
}

/// Whether the process ends soon; one that is dead but not yet reaped counts as gone.
#[cfg(any(test, feature = "testing"))]
pub async fn is_gone(pid: &str) -> bool {
    let clock = Clock::system();
    let gone = async {
        loop {
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => {
                    clock.sleep(Duration::from_millis(5)).await;
                }
                _ => return,
            }
        }
    };
    clock.timeout(Duration::from_secs(10), gone).await.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_nobody_waits_for_is_killed() {
        let argv = ["sleep", "600"].map(str::to_owned);
        let mut group = Group::start(command(&argv).unwrap()).unwrap();
        let pid = group.id().unwrap().as_raw_nonzero().to_string();
        assert!(group.child.try_wait().unwrap().is_none());
        drop(group);
        assert!(is_gone(&pid).await);
    }

    #[tokio::test]
    async fn what_it_started_is_killed_after_its_end() {
        let argv = ["sh", "-c", "sleep 600 & echo $!"].map(str::to_owned);
        let mut group = Group::start(command(&argv).unwrap()).unwrap();
        let (_, stdout, _) = group.pipes();
        let mut left = [0; 16];
        let read = stdout.unwrap().read(&mut left).await.unwrap();
        group.ended().await;
        assert!(group.kill().await.unwrap().success());
        let pid = String::from_utf8_lossy(&left[..read]);
        assert!(is_gone(pid.trim()).await);
    }

    #[tokio::test]
    async fn the_beginning_of_its_output_is_kept() {
        let argv = ["sh", "-c", "head -c 100000 /dev/zero"].map(str::to_owned);
        let clock = Clock::system();
        for (keep, is_cut) in [(10, true), (100_000, false)] {
            let given = Given::default();
            let finished = run(&argv, &given, keep, &clock, Duration::from_secs(60)).await;
            let finished = finished.ok().unwrap();
            assert_eq!((finished.stdout.len(), finished.is_cut), (keep, is_cut));
        }
    }
}
