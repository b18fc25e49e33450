//! One running plug-in, as those see it who ask: the requests that are open, and how it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc, oneshot};

use super::attendant::Attendant;
use super::descriptor::{Descriptor, Initialize};
use super::log::Voice;
use super::wire::{self, Line, MAX_LINE, Refusal};
use crate::child::Group;
use crate::clock::Clock;
use crate::{ErrorKind, ProviderError};

/// Lines that may wait to be read by the plug-in.
const QUEUE: usize = 8;
/// Requests that may be open, those that nobody waits for any more included.
pub(super) const MOST_OPEN: usize = 256;
/// More of what it says is not shown.
pub(super) const LONGEST_WORDS: usize = 300;

/// A running plug-in. It is told to end when this is dropped.
pub(super) struct Connection {
    outgoing: mpsc::Sender<Line>,
    shared: Arc<Shared>,
    descriptor: Descriptor,
}

pub(super) struct Shared {
    pub(super) voice: Voice,
    open: Mutex<Open>,
    /// A request is waited for no more, and was not answered.
    pub(super) given_up: Notify,
    /// Nobody waits for any of the requests that are open, and there is room for no other.
    pub(super) choked: Notify,
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
            choked: Notify::new(),
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
            if open.requests.values().all(Option::is_none) {
                self.choked.notify_one();
            }
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
    pub(super) fn answered(&self, id: u64, answer: Result<Value, Refusal>) -> Result<(), String> {
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

    pub(super) fn gone(&self, what: &str) -> ProviderError {
        let message = format!("{} {what}", self.voice.program);
        ProviderError::new(ErrorKind::Transient, message).hint(
            "it is started again after a pause; what it writes to its standard error is in the log",
        )
    }

    pub(super) fn broke(&self, what: &str) -> ProviderError {
        let what = self.voice.shown(what, LONGEST_WORDS);
        let message = format!("{} {what}", self.voice.program);
        ProviderError::new(ErrorKind::Fatal, message)
            .hint("this is a fault of the plug-in; providers/PROTOCOL.md says what is wanted")
            .theirs()
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
            theirs: true,
        }
    }

    /// Everybody who waits hears that it is over.
    pub(super) fn finish(&self, error: ProviderError, clock: &Clock) {
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
