//! The side of the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::protocol::{Ask, LONGEST_REPLY, Reply, Request, VERSION};
use super::socket;

/// How long the first line of an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the process that holds the store.
pub struct Client {
    path: PathBuf,
    reader: BufReader<tokio::io::Take<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    clock: Clock,
}

/// Why it is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file is there, and we may not.
    #[error("{}: you may not use it; run this as root, or as a member of the group that it belongs to", .0.display())]
    Forbidden(PathBuf),
    /// It does not answer, or not so that it can be read.
    #[error("the process behind {} cannot be asked: {reason}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It refused.
    #[error("the process that holds the store: {0}")]
    Refused(String),
}

impl Client {
    /// Whoever holds the store of `state`; `None` when nobody listens there.
    pub async fn connect(state: &Path, clock: &Clock) -> Result<Option<Self>, ClientError> {
        let path = socket(state);
        match UnixStream::connect(&path).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                Ok(Some(Self {
                    path,
                    reader: BufReader::new(reader.take(LONGEST_REPLY)),
                    writer,
                    clock: clock.clone(),
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Forbidden(path))
            }
            // Nobody, or the rest of a process that was killed: the store itself knows better.
            Err(_) => Ok(None),
        }
    }

    /// Asks, and waits for the first answer; a refusal is an error.
    pub async fn ask(&mut self, ask: Ask) -> Result<Reply, ClientError> {
        let request = Request {
            version: VERSION,
            ask,
        };
        let mut line = serde_json::to_vec(&request).map_err(|error| self.broken(error))?;
        line.push(b'\n');
        let clock = self.clock.clone();
        let answer = async {
            // A refusal may come before everything is read.
            let _ = self.writer.write_all(&line).await;
            self.next().await
        };
        match clock.timeout(PATIENCE, answer).await {
            Some(answer) => answer?.ok_or_else(|| self.broken("it hung up")),
            None => Err(self.broken("it does not answer")),
        }
    }

    /// The next answer; `None` when there is no more.
    pub async fn next(&mut self) -> Result<Option<Reply>, ClientError> {
        let mut line = Vec::new();
        self.reader.get_mut().set_limit(LONGEST_REPLY);
        let read = self.reader.read_until(b'\n', &mut line).await;
        match read.map_err(|error| self.broken(error))? {
            0 => Ok(None),
            _ => match serde_json::from_slice(&line) {
                Ok(Reply::Refused(sentence)) => Err(ClientError::Refused(sentence)),
                Ok(reply) => Ok(Some(reply)),
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    /// An answer that was not asked for.
    pub fn odd(&self) -> ClientError {
        self.broken("it answers something else")
    }

    fn broken(&self, reason: impl ToString) -> ClientError {
        ClientError::Broken {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}
