//! The real program as a child: started, told, and looked at through `/proc`.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::stage::Stage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
/// It is said to rest when it used no more than this in a second.
const REST: Duration = Duration::from_millis(10);
/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// The daemon, ready; killed when dropped.
pub(crate) struct Child {
    child: std::process::Child,
}

impl Child {
    /// Starts `run`, and waits until it says that it is ready.
    pub(crate) fn run(stage: &Stage) -> Self {
        let path = stage.home.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = command(stage, "run");
        let child = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
        let child = Self { child };
        let mut buffer = [0; 4_096];
        loop {
            let read = socket.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..read]).contains("READY=1") {
                return child;
            }
        }
    }

    /// Runs `renew` to its end: the processor time that it used, and the most memory.
    pub(crate) fn renew(stage: &Stage) -> (Duration, u64) {
        let mut child = command(stage, "renew")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (mut cpu, mut resident) = (Duration::ZERO, 0);
        loop {
            let ended = child.try_wait().unwrap();
            if let Some(status) = ended {
                assert!(status.success(), "{status}");
                return (cpu, resident);
            }
            cpu = cpu.max(used(child.id()).unwrap_or_default());
            resident = resident.max(status(child.id(), "VmHWM:").unwrap_or_default());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Waits until it has nothing to do.
    pub(crate) fn settle(&self) {
        let begun = Instant::now();
        let mut before = self.cpu();
        while begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.cpu();
            if now - before <= REST {
                return;
            }
            before = now;
        }
        panic!("it does not come to rest");
    }

    /// The processor time that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        used(self.child.id()).unwrap()
    }

    /// Its memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        status(self.child.id(), "VmRSS:").unwrap()
    }

    /// Ends it as systemd does.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(stage: &Stage, name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .arg("--config")
        .arg(&stage.file)
        .args(["--log", "error", name])
        .stdin(Stdio::null());
    command
}

/// User and system time, also of threads that ended: fields 14 and 15 of proc_pid_stat(5).
fn used(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields = after_name.split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// A size in proc_pid_status(5), in bytes.
fn status(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1_024)
}
