//! Runs a command, such as the one that makes a server take new files up: an argument vector, never a shell.
//!
//! The command gets nothing of our environment but `PATH`, `HOME` and `LANG`, and what it is given. It has a process group of its own, which is killed
//! when its time is over or nobody waits any more; what it writes is read to the end and mostly thrown away.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::clock::Clock;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

/// How long a reload may take.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// What is kept of its error output: the end, where the reason is.
const KEPT_OUTPUT: usize = 2048;
/// Somebody whom the command left running in the background may hold its output open; that long it is read on.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a command did not do what it should. The program is named, its arguments are not.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error(
        "the command {program} could not be started: {error}; check its path and who may run it"
    )]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It ended badly.
    #[error("the command {program} ended with {}{}", ending(.status), said(.output))]
    Failed {
        /// The program.
        program: String,
        /// How.
        status: ExitStatus,
        /// The end of its error output, made harmless.
        output: String,
    },
    /// It did not end.
    #[error("the command {program} had not ended after {} s and was killed{}", .deadline.as_secs(), said(.output))]
    TooSlow {
        /// The program.
        program: String,
        /// How long it had.
        deadline: Duration,
        /// The end of its error output, made harmless.
        output: String,
    },
}

/// What a command is given.
#[derive(Default)]
pub struct Given<'a> {
    /// Variables of its environment.
    pub environment: &'a [(&'static str, String)],
    /// What it can read on its standard input.
    pub input: &'a [u8],
}

/// Runs `argv` and waits for its end, at most until `deadline` is over.
pub async fn run(argv: &[String], clock: &Clock, deadline: Duration) -> Result<(), CommandError> {
    run_with(argv, &Given::default(), clock, deadline).await
}

/// The same with something given to it.
pub async fn run_with(
    argv: &[String],
    given: &Given<'_>,
    clock: &Clock,
    deadline: Duration,
) -> Result<(), CommandError> {
    let program = argv.first().cloned().unwrap_or_default();
    let mut group = start(argv, given).map_err(|error| CommandError::NotStarted {
        program: program.clone(),
        error,
    })?;
    let mut output = Tail::default();
    let ended = clock
        .timeout(deadline, group.finish(given.input, &mut output, clock))
        .await;
    tracing::trace!(program, ?ended, "command");
    let output = output.harmless();
    match ended {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(CommandError::Failed {
            program,
            status,
            output,
        }),
        Some(Err(error)) => Err(CommandError::NotStarted { program, error }),
        None => {
            group.kill().await;
            Err(CommandError::TooSlow {
                program,
                deadline,
                output,
            })
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "these three are handed on to the command, and read for nothing else"
)]
fn start(argv: &[String], given: &Given<'_>) -> io::Result<Group> {
    let (program, arguments) = argv
        .split_first()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let handed_on = ["PATH", "HOME", "LANG"];
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(
            handed_on
                .iter()
                .filter_map(|name| Some((name, std::env::var_os(name)?))),
        )
        .envs(given.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(match given.input {
            [] => Stdio::null(),
            _ => Stdio::piped(),
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    Ok(Group { child })
}

/// A command with all that it started; killed when dropped before its end.
struct Group {
    child: Child,
}

impl Group {
    /// Waits for its end, says `input` to it and reads what it says until then.
    async fn finish(
        &mut self,
        input: &[u8],
        output: &mut Tail,
        clock: &Clock,
    ) -> io::Result<ExitStatus> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let stdin = self.child.stdin.take();
        let reading = async {
            tokio::join!(
                say(stdin, input),
                drain(stdout, None),
                drain(stderr, Some(output))
            );
        };
        tokio::pin!(reading);
        let status = tokio::select! {
            status = self.child.wait() => status,
            () = &mut reading => return self.child.wait().await,
        };
        clock.timeout(LAST_WORDS, reading).await;
        status
    }

    async fn kill(&mut self) {
        self.signal();
        // The child itself cannot withstand it, so this ends.
        let _ = self.child.wait().await;
    }

    /// Kills the whole group, unless the child was waited for: then its number may be somebody else's.
    fn signal(&self) {
        let number = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = number.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
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

async fn drain(from: Option<impl AsyncRead + Unpin>, mut tail: Option<&mut Tail>) {
    let Some(mut from) = from else {
        return;
    };
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(tail) = &mut tail {
            tail.push(&buffer[..read]);
        }
    }
}

/// The last bytes of an output.
#[derive(Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let excess = self.0.len().saturating_sub(KEPT_OUTPUT);
        self.0.drain(..excess);
    }

    /// As one line that cannot steer a terminal or a log.
    fn harmless(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        let text: String = String::from_utf8_lossy(&bytes)
            .chars()
            .map(|c| {
                if c.is_control() || steers_text(c) {
                    ' '
                } else {
                    c
                }
            })
            .collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Line separators, and characters that change the direction of what follows.
fn steers_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `exit status 3` for the standard library's `exit status: 3`.
fn ending(status: &ExitStatus) -> String {
    status.to_string().replacen(": ", " ", 1)
}

fn said(output: &str) -> String {
    if output.is_empty() {
        String::new()
    } else {
        format!(": {output}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<(), CommandError> {
        run(&argv(&["sh", "-c", script]), &Clock::system(), DEADLINE).await
    }

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[tokio::test]
    async fn says_how_it_ended_and_what_it_said_last() {
        sh("true").await.unwrap();
        let error = sh(r"printf 'no\nsuch \033[31munit\342\200\256' >&2; exit 3").await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "the command sh ended with exit status 3: no such [31munit"
        );
    }

    #[tokio::test]
    async fn arguments_are_not_interpreted() {
        let argv = argv(&["test", "$(id);`id` *", "=", "$(id);`id` *"]);
        run(&argv, &Clock::system(), DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn gets_nothing_of_our_environment_but_three() {
        // Cargo sets many for its tests; a shell adds PWD, OLDPWD, SHLVL and _ of its own.
        sh("! env | grep -Ev '^(PATH|HOME|LANG|PWD|OLDPWD|SHLVL|_)=' >&2")
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn gets_what_it_is_given_and_need_not_read_it() {
        let environment = [("COUNTERSIGN_EVENT", "$(id)".to_owned())];
        let input = vec![b'x'; 1 << 20];
        let given = Given {
            environment: &environment,
            input: &input,
        };
        let reads = r#"test "$COUNTERSIGN_EVENT" = '$(id)' && test "$(wc -c)" -eq 1048576"#;
        for script in [reads, "true"] {
            let argv = argv(&["sh", "-c", script]);
            let clock = Clock::system();
            run_with(&argv, &given, &clock, DEADLINE).await.unwrap();
        }
    }

    #[tokio::test]
    async fn much_output_neither_blocks_nor_fills_memory() {
        let error = sh("head -c 3000000 /dev/zero | tr '\\0' x | tee /dev/stderr; exit 1").await;
        let Err(CommandError::Failed { output, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(output.len(), KEPT_OUTPUT);
    }

    #[tokio::test]
    async fn an_absent_or_empty_command_is_named() {
        let error = run(&argv(&["/no/such"]), &Clock::system(), DEADLINE).await;
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/no/such could not be started")
        );
        assert!(run(&[], &Clock::system(), DEADLINE).await.is_err());
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("sleep 600 & echo $! $$ > {}; wait", pids.display());
        let error = run(
            &argv(&["sh", "-c", &script]),
            &Clock::system(),
            Duration::from_millis(500),
        )
        .await;
        assert!(matches!(error, Err(CommandError::TooSlow { .. })));
        for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
            assert!(is_gone(pid).await, "{pid} lives");
        }
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_is_killed() {
        let mut group = start(&argv(&["sleep", "600"]), &Given::default()).unwrap();
        let pid = group.child.id().unwrap().to_string();
        assert!(group.child.try_wait().unwrap().is_none());
        drop(group);
        assert!(is_gone(&pid).await);
    }

    #[tokio::test]
    async fn what_it_leaves_in_the_background_does_not_hold_us_up() {
        let clock = Clock::system();
        sh("sleep 20 &").await.unwrap();
        assert!(clock.elapsed() < Duration::from_secs(10));
    }

    /// Whether the process ends soon; one that is dead but not yet reaped counts as gone.
    async fn is_gone(pid: &str) -> bool {
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
}
