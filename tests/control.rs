//! The control socket under fire: whatever is sent, the daemon lives, stays small and answers the next one.
//!
//! The real daemon is a child of its own, so that its memory can be read and no other test disturbs the figure.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::command::{Countersign, Running};
use crate::support::ports::{self, Port};
use crate::support::process::eventually;
use crate::wrong_input::is_full_run;

/// Messages in a sample, and in the long campaign.
const SAMPLE: usize = 20_000;
const CAMPAIGN: usize = 1_000_000;
/// Who send at once.
const SENDERS: usize = 6;
/// More memory than this is no use of 32 connections with 1 MiB each.
const MEMORY_KIB: usize = 256 * 1024;
const WITHIN: Duration = Duration::from_secs(20);

/// A daemon that can do nothing: what it is configured to ask is not there. `before` starts it, if that is not empty.
fn daemon(before: &[&str]) -> (Countersign, Running, Port) {
    let port = ports::free();
    let program = Countersign::new(
        "state: '{dir}/state'
log: {level: warn}
authorities: {nobody: {directory: 'https://127.0.0.1:1/', agree-to-terms: true}}
nameserver: {zone: acme.test, listen: ['127.0.0.1:53'], hosts: {ns1.acme.test: [127.0.0.1]}}
certificates: {example: {names: [example.acme.test]}, other: {names: [other.acme.test]}}
"
        .replace("127.0.0.1:53", &format!("127.0.0.1:{}", port.number()))
        .as_str(),
    );
    let program = program.started_by(before);
    let daemon = program.start(&["run"]);
    let program = program.started_by(&[]);
    assert!(eventually(WITHIN, || UnixStream::connect(socket(&program)).is_ok()));
    (program, daemon, port)
}

fn socket(program: &Countersign) -> PathBuf {
    program.path("state/control.sock")
}

/// What the daemon holds in memory now, or at most, KiB: `VmRSS` or `VmHWM`.
fn memory(daemon: &Running, what: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// Random numbers that can be had again (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() >> 33) as usize % limit
    }

    fn octets(&mut self, longest: usize) -> Vec<u8> {
        (0..self.below(longest))
            .map(|_| self.roll().to_be_bytes()[0])
            .collect()
    }
}

const VALID: [&str; 9] = [
    r#"{"version":1,"ask":"status"}"#,
    r#"{"version":1,"ask":{"history":"example"}}"#,
    r#"{"version":1,"ask":{"history":"nobody-knows-it"}}"#,
    r#"{"version":1,"ask":{"renew":{"names":["example"],"force":false}}}"#,
    r#"{"version":1,"ask":{"renew":{"names":[],"force":true}}}"#,
    r#"{"version":1,"ask":"accounts"}"#,
    r#"{"version":1,"ask":{"clean":{"names":["nobody-knows-it"],"foreign":[]}}}"#,
    r#"{"version":2,"ask":"status"}"#,
    r#"{"version":1,"ask":"status","also":null}"#,
];

/// One message, mostly with its line end.
fn message(dice: &mut Dice) -> Vec<u8> {
    let mut line = match dice.below(16) {
        0..3 => dice.octets(200),
        3..5 => {
            let depth = 1 + dice.below(2_000);
            let opening = [
                &b"["[..],
                b"{\"a\":",
                b"{\"version\":1,\"ask\":{\"renew\":{\"names\":[",
            ];
            opening[dice.below(opening.len())].repeat(depth)
        }
        5 => format!("{{\"version\":{},\"ask\":\"status\"}}", dice.roll()).into_bytes(),
        6 => format!(
            "{{\"version\":-{}e{},\"ask\":[]}}",
            dice.roll(),
            dice.roll()
        )
        .into_bytes(),
        // Names of every length and shape.
        7 => {
            let name = "a-".repeat(dice.below(300));
            format!("{{\"version\":1,\"ask\":{{\"history\":\"{name}\"}}}}").into_bytes()
        }
        8 if dice.below(200) == 0 => vec![b' '; (1 << 20) + dice.below(1 << 19)],
        _ => mutated(dice),
    };
    if dice.below(20) > 0 {
        line.push(b'\n');
    }
    line
}

/// A valid request, as it is or damaged in a few places.
fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut line = VALID[dice.below(VALID.len())].as_bytes().to_vec();
    for _ in 0..dice.below(4) {
        let at = dice.below(line.len());
        match dice.below(5) {
            0 => line[at] = dice.roll().to_be_bytes()[0],
            1 => line[at] ^= 1 << dice.below(8),
            2 => drop(line.remove(at)),
            3 => line.insert(at, b"{}[]\",:\\0e-\n"[dice.below(12)]),
            _ => line.truncate(at.max(1)),
        }
        if line.is_empty() {
            line.push(b'{');
        }
    }
    line
}

/// Sends messages until all have sent `wanted`; some over one connection, some read and some not.
fn send(socket: &Path, seed: u64, sent: &AtomicUsize, wanted: usize) {
    let mut dice = Dice(seed | 1);
    // These are left open and unread, and are closed for us when somebody needs their seats.
    let mut idle: Vec<UnixStream> = Vec::new();
    while sent.load(Ordering::Relaxed) < wanted {
        // The listener's queue may be full for an instant.
        let Ok(mut stream) = UnixStream::connect(socket) else {
            continue;
        };
        let patience = Some(Duration::from_secs(5));
        stream.set_write_timeout(patience).unwrap();
        stream.set_read_timeout(patience).unwrap();
        let many = if dice.below(4) == 0 { 30 } else { 1 };
        for _ in 0..=dice.below(many) {
            // It hangs up on whoever talks nonsense.
            if stream.write_all(&message(&mut dice)).is_err() {
                break;
            }
        }
        let mut answers = Vec::new();
        match dice.below(8) {
            0 => idle.push(stream),
            1 => drop(stream),
            _ => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.take(1 << 20).read_to_end(&mut answers);
                assert!(answers.is_empty() || answers.starts_with(b"{\""));
            }
        }
        // What comes after nonsense is not read, and does not count.
        let answered = answers.iter().filter(|octet| **octet == b'\n').count();
        sent.fetch_add(answered.max(1), Ordering::Relaxed);
        if idle.len() > 20 {
            idle.clear();
        }
    }
}

fn fire(program: &Countersign, messages: usize, seed: u64) {
    let socket = socket(program);
    let sent = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for sender in 0..SENDERS as u64 {
            let (socket, sent) = (&socket, &sent);
            scope.spawn(move || send(socket, seed.wrapping_mul(31) + sender, sent, messages));
        }
    });
}

#[test]
fn whatever_is_sent_the_daemon_lives_stays_small_and_answers() {
    let (program, daemon, _port) = daemon(&[]);
    let messages = if is_full_run() { CAMPAIGN } else { SAMPLE };
    let seed = 0x00C0_FFEE;
    println!("seed {seed}");
    fire(&program, messages / 5, seed);
    let early = memory(&daemon, "VmRSS");
    fire(&program, messages - messages / 5, seed + 1);
    let (late, most) = (memory(&daemon, "VmRSS"), memory(&daemon, "VmHWM"));
    println!("{messages} messages; memory {early} KiB, then {late} KiB, at most {most} KiB");
    assert!(most < MEMORY_KIB, "{most} KiB");
    assert!(
        late < early * 3 / 2 + 16 * 1024,
        "{early} KiB, then {late} KiB"
    );
    program.run(&["status"]).expect_code(0);
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// Asks for `status` and gives the first bytes of the answer.
fn status(socket: &Path) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    stream
        .write_all(b"{\"version\":1,\"ask\":\"status\"}\n")
        .ok()?;
    let mut line = Vec::new();
    BufReader::new(stream).read_until(b'\n', &mut line).ok()?;
    line.starts_with(b"{\"overview\"").then_some(line)
}

#[test]
fn those_who_say_nothing_or_read_nothing_keep_nobody_out() {
    let (program, daemon, _port) = daemon(&[]);
    let socket = socket(&program);
    let mut silent = Vec::new();
    for n in 0..200 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        match n % 3 {
            0 => {}
            1 => stream.write_all(b"{\"version\":1,").unwrap(),
            _ => {
                stream.set_nonblocking(true).unwrap();
                // Many answers that nobody reads.
                let _ = stream.write_all(&b"{\"version\":1,\"ask\":\"status\"}\n".repeat(2_000));
            }
        }
        silent.push(stream);
    }
    for _ in 0..20 {
        assert!(status(&socket).is_some(), "nobody is let in");
    }
    drop(silent);
    daemon.terminate();
    daemon.finish().expect_code(0);
}

/// How many descriptors a daemon has open that nobody talks to.
fn open_files(daemon: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .count()
}

#[test]
fn without_descriptors_it_says_so_and_goes_on_when_there_are_some() {
    let few = {
        let (_program, daemon, _port) = daemon(&[]);
        open_files(&daemon) + 5
    };
    let limited = format!("ulimit -n {few} && exec \"$@\"");
    let (program, daemon, _port) = daemon(&["/bin/sh", "-c", &limited, "sh"]);
    let socket = socket(&program);
    let guests: Vec<UnixStream> = (0..60)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    daemon.wait_for("file descriptors were used up").unwrap();
    let told = program.run(&["status"]).expect_code(0);
    assert!(
        told.stdout.contains("file descriptors were used up at"),
        "{told:?}"
    );
    assert!(
        told.stdout.contains(&format!("the limit is {few}")),
        "{told:?}"
    );
    drop(guests);
    // It can open files again, such as its configuration.
    assert!(eventually(WITHIN, || open_files(&daemon) < few - 1));
    program.configure("certificates: [");
    daemon.hang_up();
    let refused = daemon.wait_for("was not reloaded").unwrap();
    assert!(
        !refused.contains("descriptor") && !refused.contains("open files"),
        "{refused}"
    );
    for _ in 0..50 {
        assert!(status(&socket).is_some());
    }
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
