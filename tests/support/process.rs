//! A server as a child process: started, awaited by evidence, and ended with the test, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A server that is not ready by then never will be; two cores may be shared by many.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a server may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` (see [`server`]) with its output in `directory`, one file a start.
    pub fn start(name: &str, mut command: Command, directory: &Path) -> Self {
        let log = (0..)
            .map(|n| directory.join(format!("{name}.{n}.log")))
            .find(|path| !path.exists())
            .expect("numbers do not end");
        let output = File::create(&log).expect("a log file for the server");
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output);
        let child = spawn(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log,
        }
    }

    /// Polls until `ready`. Panics with the log's end when the process ends or time is up.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        let done = eventually(READY_WITHIN, || self.has_ended().is_some() || ready());
        if let Some(status) = self.has_ended() {
            panic!(
                "{} ended with {status} before {what}:\n{}",
                self.name,
                self.log_end()
            );
        }
        assert!(
            done,
            "{} does not reach {what}:\n{}",
            self.name,
            self.log_end()
        );
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the server wrote.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Stops it from answering without ending it: connections are taken by the kernel, then nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks for a reload, as most servers do on this signal.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Ends it: politely, then not.
    pub fn stop(&mut self) {
        if self.has_ended().is_some() {
            return;
        }
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if !eventually(END_WITHIN, || self.has_ended().is_some()) {
            self.kill();
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // An error says that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of an own child")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has an id above 0");
        // Not yet waited for, so the id is still its own.
        let _ = kill_process(pid, signal);
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command for a program that `tests/get-servers` got.
pub fn server(program: &str) -> Command {
    guarded(&servers_directory().join("bin").join(program))
}

/// Where `tests/get-servers` put everything.
pub fn servers_directory() -> PathBuf {
    #[allow(
        clippy::disallowed_methods,
        reason = "how tests/run says where the servers are"
    )]
    let named = std::env::var_os("COUNTERSIGN_SERVERS").map(PathBuf::from);
    let near = || {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        package
            .ancestors()
            .map(|dir| dir.join("target/servers"))
            .find(|dir| dir.is_dir())
    };
    named
        .or_else(near)
        .expect("the real servers are missing: run tests/get-servers")
}

/// A command whose process the kernel ends when this one dies, whatever way.
pub fn guarded(program: &Path) -> Command {
    assert!(
        program.exists(),
        "{} is missing: run tests/get-servers",
        program.display()
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts a child from a thread that lives as long as this process: the kernel counts the end of the *thread* that
/// started a guarded child as its parent's death, and test threads come and go.
pub fn spawn(command: Command) -> std::io::Result<Child> {
    type Request = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, reply) in requests {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, result) = channel();
    spawner
        .lock()
        .expect("nothing panics while it holds this lock")
        .send((command, reply))
        .expect("the spawner lives as long as the process");
    result.recv().expect("the spawner answers each request")
}

/// Polls `check` until it is true; false when `limit` passes first. The one place where tests wait by time.
#[allow(clippy::disallowed_methods, reason = "real servers live in real time")]
pub fn eventually(limit: Duration, mut check: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if check() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}
