//! One running plug-in: the requests that are open, and how it comes to its end.

use std::collections::HashMap;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{Notify, mpsc, oneshot};

use super::descriptor::{Descriptor, Initialize};
use super::lines::{Lines, Next};
use super::log::Voice;
use super::wire::{self, Line, MAX_LINE, Message, Refusal};
use crate::child::{Group, LAST_WORDS, ending};
use crate::clock::Clock;
use crate::{ErrorKind, ProviderError};

/// Lines that may wait to be read by the plug-in.
const QUEUE: usize = 8;
/// Requests that may be open, those that nobody waits for any more included.
const MOST_OPEN: usize = 256;
/// Lines that nobody asked for, between two answers.
const MOST_UNASKED: usize = 1_000;
/// When a deadline has passed, and then this without a line, the plug-in hangs.
const HUNG_AFTER: Duration = Duration::from_secs(10);
/// So long it has to end by itself.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// More of what it says is not shown.
const LONGEST_WORDS: usize = 300;
/// So much is shown of a line that is wrong.
const SHOWN_OF_A_LINE: usize = 60;

/// A running plug-in. It is told to end when this is dropped.
pub(super) struct Connection {
    outgoing: mpsc::Sender<Line>,
    shared: Arc<Shared>,
    descriptor: Descriptor,
}

struct Shared {
    voice: Voice,
    open: Mutex<Open>,
    /// A request is waited for no more, and was not answered.
    given_up: Notify,
    began: Duration,
}

#[derive(Default)]
struct Open {
    last: u64,
    /// By their numbers; `None` is waited for by nobody any more.
    requests: HashMap<u64, Option<Waiter>>,
    end: Option<End>,
}

type Waiter = oneshot::Sender<Result<Value, Refusal>>;

/// The end of a plug-in.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// What those hear who waited.
    pub(super) error: ProviderError,
    /// When it was.
    pub(super) at: Duration,
    /// How long the plug-in was at work before.
    pub(super) lived: Duration,
}

impl Connection {
    /// Makes the acquaintance of a plug-in that was started just now, with its three pipes.
    pub(super) async fn new(
        mut group: Group,
        voice: Voice,
        config: &Map<String, Value>,
        clock: &Clock,
        patience: Duration,
    ) -> Result<Self, ProviderError> {
        let (outgoing, lines) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            voice,
            open: Mutex::default(),
            given_up: Notify::new(),
            began: clock.elapsed(),
        });
        let pipes = group.pipes();
        let attendant = Attendant {
            group,
            shared: Arc::clone(&shared),
            clock: clock.clone(),
            answers: outgoing.downgrade(),
        };
        tokio::spawn(attendant.attend(pipes, lines));
        let asker = Asker {
            outgoing: &outgoing,
            shared: &shared,
        };
        let secrets = &shared.voice.secrets;
        let params = Initialize::new(config, secrets);
        let answer = asker.call("initialize", &params, clock, patience).await?;
        let descriptor = Descriptor::read(answer).map_err(|what| shared.broke(&what))?;
        let title = shared.voice.shown(&descriptor.title, LONGEST_WORDS);
        tracing::debug!(program = shared.voice.program, title, "plug-in started");
        Ok(Self {
            outgoing,
            shared,
            descriptor,
        })
    }

    /// What the plug-in says of itself.
    pub(super) fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// How it ended, when it has.
    pub(super) fn end(&self) -> Option<End> {
        self.shared.open().end.clone()
    }

    /// The plug-in's answer to a request, if it comes before `patience` is over.
    pub(super) async fn call(
        &self,
        method: &str,
        params: &impl Serialize,
        clock: &Clock,
        patience: Duration,
    ) -> Result<Value, ProviderError> {
        let asker = Asker {
            outgoing: &self.outgoing,
            shared: &self.shared,
        };
        asker.call(method, params, clock, patience).await
    }

    /// The error of a plug-in that did `what` against the protocol.
    pub(super) fn broke(&self, what: &str) -> ProviderError {
        self.shared.broke(what)
    }
}

/// Whoever asks the plug-in something.
struct Asker<'a> {
    outgoing: &'a mpsc::Sender<Line>,
    shared: &'a Shared,
}

impl Asker<'_> {
    async fn call(
        &self,
        method: &str,
        params: &impl Serialize,
        clock: &Clock,
        patience: Duration,
    ) -> Result<Value, ProviderError> {
        let program = &self.shared.voice.program;
        let late = || {
            let message = format!("{program} did not answer {method} in time");
            ProviderError::new(ErrorKind::Transient, message)
        };
        if patience.is_zero() {
            return Err(late());
        }
        let (id, answer) = self.shared.begin()?;
        let mut request = Request {
            asker: self,
            id,
            is_sent: false,
        };
        let line = wire::request(id, method, params, patience);
        let line = line.ok().filter(|line| line.len() <= MAX_LINE + 1);
        let Some(line) = line else {
            let message = format!("{method} is more than {program} can be asked in one line");
            return Err(ProviderError::new(ErrorKind::Invalid, message));
        };
        let answered = clock.timeout(patience, async {
            request.is_sent = self.outgoing.send(line).await.is_ok();
            answer.await
        });
        match answered.await {
            Some(Ok(answer)) => answer.map_err(|refusal| self.shared.refused(&refusal)),
            Some(Err(_)) => Err(self.shared.ended()),
            None => Err(late()),
        }
    }
}

/// A request that somebody waits for.
struct Request<'a> {
    asker: &'a Asker<'a>,
    id: u64,
    is_sent: bool,
}

impl Drop for Request<'_> {
    /// Nobody waits any more. What was answered is not open any more.
    fn drop(&mut self) {
        let mut open = self.asker.shared.open();
        let Some(waiter) = open.requests.get_mut(&self.id) else {
            return;
        };
        if self.is_sent {
            *waiter = None;
        } else {
            open.requests.remove(&self.id);
        }
        drop(open);
        if let (true, Ok(line)) = (self.is_sent, wire::cancel(self.id)) {
            // Who does not read does not hear it either.
            let _ = self.asker.outgoing.try_send(line);
        }
        self.asker.shared.given_up.notify_one();
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> Result<(u64, oneshot::Receiver<Result<Value, Refusal>>), ProviderError> {
        let mut open = self.open();
        if let Some(end) = &open.end {
            return Err(end.error.clone());
        }
        if open.requests.len() >= MOST_OPEN {
            let program = &self.voice.program;
            let message = format!("{program} has {MOST_OPEN} requests that it did not answer yet");
            return Err(ProviderError::new(ErrorKind::Transient, message));
        }
        open.last += 1;
        let id = open.last;
        let (waiter, answer) = oneshot::channel();
        open.requests.insert(id, Some(waiter));
        Ok((id, answer))
    }

    /// Gives an answer to whoever waits for it; an error is what the plug-in did wrong.
    fn answered(&self, id: u64, answer: Result<Value, Refusal>) -> Result<(), String> {
        match self.open().requests.remove(&id) {
            Some(Some(waiter)) => drop(waiter.send(answer)),
            Some(None) => {}
            None => return Err(format!("answered the request {id}, which is not open")),
        }
        Ok(())
    }

    /// What those hear who wait when the plug-in ends.
    fn ended(&self) -> ProviderError {
        let end = self.open().end.clone();
        end.map_or_else(|| self.gone("has ended"), |end| end.error)
    }

    fn gone(&self, what: &str) -> ProviderError {
        let message = format!("{} {what}", self.voice.program);
        ProviderError::new(ErrorKind::Transient, message).hint(
            "it is started again after a pause; what it writes to its standard error is in the log",
        )
    }

    fn broke(&self, what: &str) -> ProviderError {
        let what = self.voice.shown(what, LONGEST_WORDS);
        let message = format!("{} {what}", self.voice.program);
        ProviderError::new(ErrorKind::Fatal, message)
            .hint("this is a fault of the plug-in; providers/PROTOCOL.md says what is wanted")
    }

    fn refused(&self, refusal: &Refusal) -> ProviderError {
        let (kind, details) = match refusal.details() {
            Ok(details) => details,
            Err(what) => return self.broke(&format!("answers with an error that is none: {what}")),
        };
        let said = |words: &str| self.voice.shown(words, LONGEST_WORDS);
        let words = said(&refusal.message);
        let message = format!(
            "{} says: {}",
            self.voice.program,
            words.trim_end_matches('.')
        );
        ProviderError {
            kind,
            code: details.code.as_deref().map(said),
            message,
            hint: details.hint.as_deref().map(said),
            partly: details.partly,
        }
    }

    /// Everybody who waits hears that it is over.
    fn finish(&self, error: ProviderError, clock: &Clock) {
        let at = clock.elapsed();
        let mut open = self.open();
        open.end.get_or_insert(End {
            error,
            at,
            lived: at.saturating_sub(self.began),
        });
        open.requests.clear();
    }
}

/// Looks after a plug-in until its end.
struct Attendant {
    group: Group,
    shared: Arc<Shared>,
    clock: Clock,
    /// Where answers to the plug-in go; it does not keep the plug-in alive.
    answers: mpsc::WeakSender<Line>,
}

type Pipes = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

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
    /// Nobody needs it any more.
    Unneeded,
}

impl Attendant {
    async fn attend(mut self, (stdin, stdout, stderr): Pipes, lines: mpsc::Receiver<Line>) {
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
                () = self.group.ended() => break Over::Ended,
            }
        };
        let has_ended = match over {
            Over::Ended => true,
            // Whoever ends closes its pipes a moment before.
            Over::Closed(_) => self.ends_within(LAST_WORDS).await,
            Over::Unneeded => self.ends_within(SHUTDOWN).await,
            Over::Broke(_) | Over::Hung => false,
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
                shared.gone(&format!("ended{place} with {how}{last}"))
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
