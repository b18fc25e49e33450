//! A program that stands still while a test looks at what it just logged.
//!
//! Its standard error is a pipe with room for a single line, and a line is taken out of it only after the test has
//! seen it. So whoever logs next waits: a `kill -9` from inside the look hits the program between that line and the
//! next one, however slowly the test runs.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, tee};
use rustix::process::{Pid, Signal, kill_process};

use super::process::spawn;

/// A program that logs nothing for so long hangs.
const SILENCE: Timespec = Timespec {
    tv_sec: 120,
    tv_nsec: 0,
};
/// One page, one packet: the smallest pipe there is.
const ROOM: usize = 4096;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Stepwise {
    child: Child,
    log: OwnedFd,
    /// Into which a line is copied to be looked at, and from where it is read.
    copy: (OwnedFd, OwnedFd),
}

impl Stepwise {
    /// Starts `command`; what it writes to standard output is dropped.
    pub fn start(mut command: Command) -> Self {
        // In packet mode one write takes a whole page, so that there is room for one.
        let (log, end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).expect("a pipe");
        fcntl_setpipe_size(&end, ROOM).expect("a small pipe");
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(end));
        Self {
            child: spawn(command).expect("the program can be started"),
            log,
            copy: (to, from),
        }
    }

    /// The process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Shows each line to `see` before the program may log another one, until it ends.
    pub fn run(mut self, mut see: impl FnMut(&str)) -> Ended {
        let mut line = Vec::new();
        while let Some(piece) = self.look() {
            line.extend_from_slice(&piece);
            while let Some(end) = line.iter().position(|&byte| byte == b'\n') {
                let rest = line.split_off(end + 1);
                see(String::from_utf8_lossy(&line).trim_end());
                line = rest;
            }
            let mut taken = vec![0; piece.len()];
            retry_on_intr(|| read(&self.log, &mut taken)).expect("it was seen to be there");
        }
        let status = self.child.wait().expect("the end of an own child");
        Ended(status)
    }

    /// What is in the pipe, which stays there. `None` when nobody can write any more.
    fn look(&self) -> Option<Vec<u8>> {
        let mut fds = [PollFd::new(&self.log, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut fds, Some(&SILENCE))).expect("an own pipe");
        assert!(ready > 0, "nothing was logged for {} s", SILENCE.tv_sec);
        let (to, from) = &self.copy;
        let copied = match retry_on_intr(|| tee(&self.log, to, ROOM, SpliceFlags::empty())) {
            Ok(copied) => copied,
            Err(Errno::AGAIN) => 0,
            Err(error) => panic!("a line cannot be copied: {error}"),
        };
        if copied == 0 {
            return None;
        }
        let mut piece = vec![0; copied];
        let length = retry_on_intr(|| read(from, &mut piece)).expect("copied above");
        assert_eq!(length, copied, "a copy is read as one");
        Some(piece)
    }
}

impl Drop for Stepwise {
    fn drop(&mut self) {
        // Errors say that it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(ExitStatus);

impl Ended {
    /// The exit code; `None` when a signal ended it.
    pub fn code(self) -> Option<i32> {
        self.0.code()
    }

    /// Whether it was `kill -9`.
    pub fn was_killed(self) -> bool {
        self.0.signal() == Some(Signal::KILL.as_raw())
    }
}

/// SIGTERM.
pub fn terminate(pid: Pid) {
    // An error says that it ended already.
    let _ = kill_process(pid, Signal::TERM);
}

/// `kill -9`.
pub fn kill(pid: Pid) {
    // An error says that it ended already.
    let _ = kill_process(pid, Signal::KILL);
}
