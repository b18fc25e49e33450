//! The `countersign` program as its users run it: a configuration, a command line, what it prints, how it ends.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{eventually, guarded, spawn};

/// A command that takes longer hangs.
const END_WITHIN: Duration = Duration::from_secs(180);

/// A directory with a configuration in which `countersign` is run, several times if need be.
#[derive(Debug)]
pub struct Countersign {
    directory: TempDir,
    environment: Vec<(String, String)>,
    before: Vec<String>,
}

impl Countersign {
    /// With this configuration; `{dir}` in it stands for the directory.
    pub fn new(configuration: &str) -> Self {
        let directory = TempDir::with_prefix("countersign-test-").expect("a temporary directory");
        let program = Self {
            directory,
            environment: vec![],
            before: vec![],
        };
        program.configure(configuration);
        program
    }

    /// Replaces the configuration.
    pub fn configure(&self, configuration: &str) {
        let text = configuration.replace("{dir}", &self.directory().to_string_lossy());
        std::fs::write(self.config(), text).expect("a file can be written");
    }

    /// Sets a variable; nothing but PATH is inherited.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has another program start it: that program's path and arguments, after which the command line comes.
    pub fn started_by(mut self, command: &[&str]) -> Self {
        self.before = command.iter().map(ToString::to_string).collect();
        self
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("countersign.yaml")
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// Starts a command.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = spawn(command).expect("the program can be started");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Running {
            stdout: Reader::start(stdout.expect("piped")),
            stderr: Reader::start(stderr.expect("piped")),
            child,
        }
    }

    /// A command, to be started in another way.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_countersign");
        let before = self.before.iter().map(String::as_str);
        let line: Vec<&str> = before.chain([program]).collect();
        let mut command = guarded(Path::new(line[0]));
        command
            .args(&line[1..])
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory());
        command
    }
}

/// What a command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Finished {
    /// Panics with everything it said unless it ended with `code`.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A command that runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Reader,
    stderr: Reader,
}

impl Running {
    /// Waits for a line on stderr that contains `text`. `None` when the command ended without it.
    pub fn wait_for(&self, text: &str) -> Option<String> {
        self.wait_for_nth(text, 1)
    }

    /// Waits for the `n`-th such line from here on (the first is 1).
    pub fn wait_for_nth(&self, text: &str, n: usize) -> Option<String> {
        let mut seen = 0;
        loop {
            let line = self.stderr.next_line()?;
            seen += usize::from(line.contains(text));
            if seen == n {
                return Some(line);
            }
        }
    }

    /// The next line on stderr. `None` when the command ended.
    pub fn next_line(&self) -> Option<String> {
        self.stderr.next_line()
    }

    /// The next line on stdout. `None` when the command ended.
    pub fn next_output_line(&self) -> Option<String> {
        self.stdout.next_line()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).expect("above 0");
        // An error says that it ended already.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// `kill -9`, and what it left.
    pub fn kill(mut self) -> Finished {
        // An error says that it ended already.
        let _ = self.child.kill();
        self.collect()
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Finished {
        let ended = eventually(END_WITHIN, || self.has_ended());
        if !ended {
            let _ = self.child.kill();
        }
        let finished = self.collect();
        assert!(ended, "still running after {END_WITHIN:?}: {finished:#?}");
        finished
    }

    /// Whether it ended.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("the state of an own child")
            .is_some()
    }

    fn collect(&mut self) -> Finished {
        let status: ExitStatus = self.child.wait().expect("the end of an own child");
        Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors say that it ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one stream to its end, so that the program never waits for its reader.
#[derive(Debug)]
struct Reader {
    lines: Receiver<String>,
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        let text = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream
                .read_until(b'\n', &mut line)
                .is_ok_and(|length| length > 0)
            {
                let read = String::from_utf8_lossy(&line).into_owned();
                all.lock()
                    .expect("nothing panics with this lock")
                    .push_str(&read);
                // Nobody may be left to listen.
                let _ = sender.send(read.trim_end().to_owned());
                line.clear();
            }
        });
        Self {
            lines,
            text,
            thread: Some(thread),
        }
    }

    fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(END_WITHIN) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line within {END_WITHIN:?} after:\n{}", self.text())
            }
        }
    }

    fn finish(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader does not panic");
        }
        self.text()
    }

    fn text(&self) -> String {
        self.text
            .lock()
            .expect("nothing panics with this lock")
            .clone()
    }
}
