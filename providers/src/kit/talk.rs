//! A conversation with a program, line by line, as nobody else holds it: also what Countersign never says.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};

use crate::child::Group;
use crate::clock::Clock;
use crate::leash;
use crate::process::{Lines, MAX_LINE, Next};
use crate::secret::{Secret, hide};
use crate::words::printable;

use super::bench::{Stop, failed};
use super::program::Program;

/// What has not come after this never will.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much is shown of a line.
const SHOWN: usize = 100;
/// Milliseconds that requests leave.
const DEADLINE: u64 = 15_000;

/// A program that was started for one conversation; killed when this is dropped.
pub(super) struct Talk {
    group: Group,
    stdin: Option<ChildStdin>,
    lines: Lines<ChildStdout>,
    clock: Clock,
    /// The number of the last request.
    last: u64,
    /// What it was told and may not be seen to say.
    secrets: Vec<Secret>,
}

impl Talk {
    pub(super) fn start(program: &Program) -> Result<Self, Stop> {
        let started = leash::start(&program.settings().command, |command| {
            command.stdin(Stdio::piped()).stderr(Stdio::null());
        });
        let could_not = |why: &dyn std::fmt::Display| {
            Stop::Failed(format!("the program could not be started: {why}"))
        };
        let mut group = started.map_err(|error| could_not(&error))?;
        let (stdin, stdout, _) = group.pipes();
        let stdout = stdout.ok_or_else(|| could_not(&"it has no output"))?;
        Ok(Self {
            group,
            stdin,
            lines: Lines::new(stdout, MAX_LINE),
            clock: program.clock().clone(),
            last: 0,
            secrets: Vec::new(),
        })
    }

    /// Started, and `initialize` was answered.
    pub(super) async fn begin(program: &Program) -> Result<Self, Stop> {
        let mut talk = Self::start(program)?;
        let answer = talk.initialize(program, 1, 1).await?;
        match answer.get("result") {
            Some(_) => Ok(talk),
            None => failed(format!(
                "`initialize` is answered with {}",
                talk.shown(&answer)
            )),
        }
    }

    /// The answer to `initialize` for versions from `min` to `max`.
    pub(super) async fn initialize(
        &mut self,
        program: &Program,
        min: u64,
        max: u64,
    ) -> Result<Value, Stop> {
        let settings = program.settings();
        let mut secrets = serde_json::Map::new();
        for (name, source) in &settings.secrets {
            let unreadable =
                |error| Stop::Failed(format!("the secret {name} cannot be had: {error}"));
            let secret = source.read(program.clock()).await.map_err(unreadable)?;
            let text = secret.expose_text().map_err(unreadable)?;
            secrets.insert(name.clone(), json!(text));
            program.tells(&secret);
            self.secrets.push(secret);
        }
        let params = json!({
            "protocol": {"min": min, "max": max},
            "host": {"name": "countersign", "version": env!("CARGO_PKG_VERSION")},
            "config": settings.config,
            "secrets": secrets,
        });
        self.ask("initialize", params).await
    }

    /// The answer to a request.
    pub(super) async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Stop> {
        let id = self.request(method, params).await?;
        let answer = self.next().await?;
        let answer = answer
            .ok_or_else(|| Stop::Failed(format!("it ended instead of answering `{method}`")))?;
        match answer.get("id") == Some(&json!(id)) {
            true => Ok(answer),
            false => failed(format!(
                "request {id}, `{method}`, is answered with {}",
                self.shown(&answer)
            )),
        }
    }

    /// Sends a request; its number.
    pub(super) async fn request(&mut self, method: &str, params: Value) -> Result<u64, Stop> {
        let id = self.last + 1;
        self.request_as(id, method, params).await?;
        Ok(id)
    }

    pub(super) async fn request_as(
        &mut self,
        id: u64,
        method: &str,
        mut params: Value,
    ) -> Result<(), Stop> {
        self.last = id;
        if let Value::Object(params) = &mut params {
            params.insert("deadline_ms".to_owned(), json!(DEADLINE));
        }
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.line(&request.to_string()).await
    }

    pub(super) async fn notify(&mut self, method: &str, params: Value) -> Result<(), Stop> {
        let notification = json!({"jsonrpc": "2.0", "method": method, "params": params});
        self.line(&notification.to_string()).await
    }

    pub(super) async fn line(&mut self, line: &str) -> Result<(), Stop> {
        self.write(&format!("{line}\n")).await
    }

    /// Half a line, and then no more.
    pub(super) async fn cut(&mut self, half: &str) -> Result<(), Stop> {
        self.write(half).await?;
        self.close();
        Ok(())
    }

    async fn write(&mut self, text: &str) -> Result<(), Stop> {
        let Some(stdin) = &mut self.stdin else {
            return failed("its standard input is closed");
        };
        let written = async {
            stdin.write_all(text.as_bytes()).await?;
            stdin.flush().await
        };
        match self.clock.timeout(PATIENCE, written).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => failed(format!("it does not read: {error}")),
            None => failed("it does not read what it is sent"),
        }
    }

    /// The next message; nothing after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, Stop> {
        let line = match self.clock.timeout(PATIENCE, self.lines.next()).await {
            None => return failed(format!("it says nothing within {} s", PATIENCE.as_secs())),
            Some(Err(error)) => return failed(format!("its output cannot be read: {error}")),
            Some(Ok(Next::Over(rest))) if rest.is_empty() => return Ok(None),
            Some(Ok(Next::Over(rest))) => {
                return failed(format!(
                    "it ends in the middle of a line: {}",
                    self.words(&rest)
                ));
            }
            Some(Ok(Next::Cut(line))) => {
                return failed(format!(
                    "it writes a line that is too long: {}",
                    self.words(&line)
                ));
            }
            Some(Ok(Next::Line(line))) => line,
        };
        let message: Option<Value> = serde_json::from_slice(&line).ok();
        let message =
            message.filter(|it| it.is_object() && it.get("jsonrpc") == Some(&json!("2.0")));
        match message {
            Some(message) => Ok(Some(message)),
            None => failed(format!(
                "it writes a line that is no message: {}",
                self.words(&line)
            )),
        }
    }

    /// The next message, where one must come.
    pub(super) async fn answer(&mut self) -> Result<Value, Stop> {
        let answer = self.next().await?;
        answer.ok_or_else(|| Stop::Failed("it ended with a request unanswered".to_owned()))
    }

    /// No more is sent.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }

    /// Whether it ends by itself within `patience`; whatever it still says must be messages.
    pub(super) async fn ends(&mut self, patience: Duration) -> Result<bool, Stop> {
        let clock = self.clock.clone();
        let over = async {
            while self.next().await?.is_some() {}
            self.group.ended().await;
            Ok(())
        };
        match clock.timeout(patience, over).await {
            Some(over) => over.map(|()| true),
            None => Ok(false),
        }
    }

    /// A message in short, without the secrets.
    pub(super) fn shown(&self, message: &Value) -> String {
        self.hidden(&message.to_string())
    }

    /// Words in short, without the secrets.
    pub(super) fn hidden(&self, words: &str) -> String {
        printable(&hide(words, &self.secrets), SHOWN)
    }

    fn words(&self, line: &[u8]) -> String {
        let line = hide(&String::from_utf8_lossy(line), &self.secrets);
        format!("`{}`", printable(&line, SHOWN))
    }
}
