//! Looks after one running plug-in: takes its lines, hands it ours, and sees to its end.

use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use super::child::{LONGEST_WORDS, MOST_OPEN, Shared};
use super::lines::{Lines, Next};
use super::wire::{self, Line, MAX_LINE, Message};
use crate::child::{Group, LAST_WORDS, ending};
use crate::clock::Clock;
use crate::{ErrorKind, ProviderError, leash};

/// Lines that nobody asked for, between two answers.
const MOST_UNASKED: usize = 1_000;
/// When a deadline has passed, and then this without a line, the plug-in hangs.
const HUNG_AFTER: Duration = Duration::from_secs(10);
/// So long it has to end by itself.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// So much is shown of a line that is wrong.
const SHOWN_OF_A_LINE: usize = 60;

/// Looks after a plug-in until its end.
pub(super) struct Attendant {
    pub(super) group: Group,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    /// Where answers to the plug-in go; it does not keep the plug-in alive.
    pub(super) answers: mpsc::WeakSender<Line>,
}

pub(super) type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

/// Why a plug-in is looked after no more.
enum Over {
    /// It did this against the protocol.
    Broke(String),
    /// A pipe was closed by it; whether in the middle of a line.
    Closed(bool),
    /// It has ended.
    Ended,
    /// It does nothing any more.
    Hung,
    /// It answers nothing, whatever else it says.
    Choked,
    /// Nobody needs it any more.
    Unneeded,
}

impl Attendant {
    pub(super) async fn attend(
        mut self,
        (stdin, stdout, stderr): Pipes,
        lines: mpsc::Receiver<Line>,
    ) {
        let shared = Arc::clone(&self.shared);
        let (clock, answers) = (self.clock.clone(), self.answers.clone());
        let mut log = pin!(async {
            if let Some(stderr) = stderr {
                shared.voice.log(stderr, &clock).await;
            }
        });
        let mut reading = pin!(read(stdout, &shared, &answers, &clock));
        let mut writing = pin!(write(stdin, lines));
        let mut is_logged = false;
        let mut over = loop {
            tokio::select! {
                () = &mut log, if !is_logged => is_logged = true,
                over = &mut reading => break over,
                over = &mut writing => break over,
                () = shared.choked.notified() => break Over::Choked,
                () = self.group.ended() => break Over::Ended,
            }
        };
        let has_ended = match over {
            Over::Ended => true,
            // Whoever ends closes its pipes a moment before.
            Over::Closed(_) => self.ends_within(LAST_WORDS).await,
            Over::Unneeded => self.ends_within(SHUTDOWN).await,
            Over::Broke(_) | Over::Hung | Over::Choked => false,
        };
        let status = self.group.kill().await.filter(|_| has_ended);
        if let Over::Ended = over {
            // Answers may still be in the pipe.
            over = (clock.timeout(LAST_WORDS, reading).await).unwrap_or(Over::Ended);
        }
        if !is_logged {
            clock.timeout(LAST_WORDS, log).await;
        }
        self.shared.finish(self.verdict(over, status), &clock);
    }

    async fn ends_within(&self, patience: Duration) -> bool {
        let ended = self.clock.timeout(patience, self.group.ended());
        ended.await.is_some()
    }

    /// What those hear who waited.
    fn verdict(&self, over: Over, status: Option<ExitStatus>) -> ProviderError {
        let shared = &self.shared;
        match (over, status) {
            (Over::Broke(what), _) => shared.broke(&what),
            (Over::Hung, _) => shared.gone(&format!(
                "said nothing for {} s after a deadline had passed, and was killed",
                HUNG_AFTER.as_secs()
            )),
            (Over::Choked, _) => shared.gone(&format!(
                "had left {MOST_OPEN} requests unanswered until nobody waited for them, and was killed"
            )),
            (Over::Unneeded, _) => shared.gone("was told to end"),
            (over, Some(status)) => {
                let how = ending(status);
                let place = match over {
                    Over::Closed(true) => " in the middle of a line",
                    _ => "",
                };
                let last = match shared.voice.last_line(LONGEST_WORDS) {
                    last if last.is_empty() => last,
                    last => format!(": {last}"),
                };
                let gone = shared.gone(&format!("ended{place} with {how}{last}"));
                if status.code() != Some(i32::from(leash::NOT_STARTED)) {
                    return gone;
                }
                let kind = ErrorKind::Fatal;
                ProviderError { kind, ..gone }
                    .hint("check its path, its first line and who may run it")
            }
            (_, None) => shared.broke("closed its standard input or output"),
        }
    }
}

impl Drop for Attendant {
    /// However it comes to that: nobody waits in vain.
    fn drop(&mut self) {
        let error = self.shared.gone("is looked after no more");
        self.shared.finish(error, &self.clock);
    }
}

/// Takes the plug-in's lines until something is wrong with them.
async fn read(
    stdout: Option<ChildStdout>,
    shared: &Shared,
    answers: &mpsc::WeakSender<Line>,
    clock: &Clock,
) -> Over {
    let Some(stdout) = stdout else {
        return Over::Closed(false);
    };
    let mut lines = Lines::new(stdout, MAX_LINE);
    let mut unasked = 0;
    loop {
        let hung = async {
            shared.given_up.notified().await;
            clock.sleep(HUNG_AFTER).await;
        };
        let next = tokio::select! {
            biased;
            next = lines.next() => next,
            () = hung => return Over::Hung,
        };
        let line = match next {
            Ok(Next::Line(line)) => line,
            Ok(Next::Cut(_)) => return Over::Broke("wrote a line of more than 1 MiB".to_owned()),
            Ok(Next::Over(rest)) => return Over::Closed(!rest.is_empty()),
            Err(_) => return Over::Closed(false),
        };
        match wire::parse(&line) {
            Ok(Message::Answer(id, answer)) => {
                unasked = 0;
                if let Err(what) = shared.answered(id, answer) {
                    return Over::Broke(what);
                }
            }
            Ok(Message::Request(id)) => {
                unasked += 1;
                let line = wire::unsupported(&id).ok();
                if let (Some(answers), Some(line)) = (answers.upgrade(), line) {
                    // Who does not read does not hear it either.
                    let _ = answers.try_send(line);
                }
            }
            Ok(Message::Notification) => unasked += 1,
            Err(what) => {
                let begins = shared
                    .voice
                    .shown(&String::from_utf8_lossy(&line), SHOWN_OF_A_LINE);
                return Over::Broke(format!("{what}: {begins}"));
            }
        }
        if unasked > MOST_UNASKED {
            let what = format!("wrote {MOST_UNASKED} lines that nobody had asked for");
            return Over::Broke(what);
        }
    }
}

/// Hands `lines` to the plug-in until it takes none, or there are no more.
async fn write(stdin: Option<ChildStdin>, mut lines: mpsc::Receiver<Line>) -> Over {
    let Some(mut stdin) = stdin else {
        return Over::Closed(false);
    };
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            return Over::Closed(false);
        }
    }
    if let Ok(line) = wire::shutdown() {
        let _ = stdin.write_all(&line).await;
    }
    Over::Unneeded
}
