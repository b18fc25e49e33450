//! Programs of others that may not outlive this process, also when it is killed.
//!
//! Linux kills a process at the end of its parent if that process asked for it, and to ask between fork and exec takes
//! unsafe code. So our own program is started in the place of the other one: it asks, and becomes the other one, with its
//! number, pipes, environment and group. Only a program whose `main` begins with [`begin`] can do that; without it, as in
//! tests, others are started as any program is.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, id};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Access, access};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::child::{Group, command};

/// Our program, also after its file was replaced.
const OURSELVES: &str = "/proc/self/exe";
/// The first argument of our program in the place of another one. Our number and the other's command come after it.
const IN_PLACE: &str = "--in-place-of";

/// What our program ends with when it could not become the other one; shells and `env` have it for that, too.
pub(crate) const NOT_STARTED: u8 = 126;

/// Whether our program begins with [`begin`].
static BEGAN: AtomicBool = AtomicBool::new(false);

/// Why our program did not become the other one.
pub struct Stayed(io::Error);

/// What `main` does first. Started in the place of another program, it becomes that one.
pub fn begin() -> Result<(), Stayed> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() == Some(OsStr::new(IN_PLACE)) {
        return Err(Stayed(become_other(arguments)));
    }
    // Without /proc nothing can be started in its place.
    let can = access(OURSELVES, Access::EXEC_OK).is_ok();
    BEGAN.store(can, Ordering::Relaxed);
    Ok(())
}

impl Stayed {
    /// What `main` ends with.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(NOT_STARTED)
    }
}

impl std::fmt::Display for Stayed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it could not be started: {}", self.0)
    }
}

/// Starts `argv`, after `with` had a say, so that it ends with this process as far as that is possible. What it starts
/// itself has to see to its own end.
pub(crate) fn start(argv: &[String], with: impl FnOnce(&mut Command)) -> io::Result<Group> {
    if !BEGAN.load(Ordering::Relaxed) {
        let mut command = command(argv)?;
        with(&mut command);
        return Group::start(command);
    }
    if let Some(program) = argv.first().filter(|it| it.contains('/')) {
        // What is wrong with it is known here, before somebody else tries.
        access(program.as_str(), Access::EXEC_OK)?;
    }
    let before = [OURSELVES.to_owned(), IN_PLACE.to_owned(), id().to_string()];
    let mut command = command(&[&before, argv].concat())?;
    with(&mut command);
    spawn(command).map(Group::of)
}

/// What is wrong when this comes back at all.
fn become_other(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let (Some(owner), Some(program)) = (arguments.next(), arguments.next()) else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program is named");
    };
    // Where that is forbidden the other one ends as it would without us.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Our owner may have ended before that.
    let parent = getppid().map(|it| it.as_raw_nonzero().to_string());
    if parent.as_deref().map(OsStr::new) != Some(&owner) {
        return io::Error::other("whoever wanted it has ended");
    }
    std::process::Command::new(program).args(arguments).exec()
}

/// Starts `command` from a thread that lives as long as this process: for the kernel, the parent is the thread.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, Handle, Sender<io::Result<Child>>);
    static STARTER: Mutex<Option<Sender<Order>>> = Mutex::new(None);
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let starter = match &mut *starter {
        Some(starter) => starter,
        none => {
            let (sender, orders) = channel::<Order>();
            let thread = std::thread::Builder::new().name("starts programs".to_owned());
            thread.spawn(move || {
                for (mut command, runtime, reply) in orders {
                    let _inside = runtime.enter();
                    // Nobody waits any more only when everything ends.
                    let _ = reply.send(command.spawn());
                }
            })?;
            none.insert(sender)
        }
    };
    let (reply, child) = channel();
    let gone = || io::Error::other("the thread that starts programs has ended");
    (starter.send((command, runtime, reply))).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
