//! Secret values, and where they come from. A value has no `Debug`, no `Serialize`, and is zeroed when dropped.
//!
//! A source is read again at each use, so that a rotated credential is taken up without a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::child::{self, Finished, Given, Unfinished};
use crate::clock::Clock;

/// A secret larger than this is a mistake, not a secret; a file of accounts for a thousand domains is smaller.
const MAX_SECRET: usize = 512 * 1024;
/// A command that gives a secret has this long.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);

/// A secret value.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes `bytes` as they are.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text.
    pub fn expose_text(&self) -> Result<&str, SecretError> {
        std::str::from_utf8(&self.0).map_err(|_| SecretError::NotText)
    }
}

/// `words` of somebody who was told `secrets`, without these. To be used on all of the words, before any are cut off:
/// what is left of a secret is not found.
pub fn hide<'a>(words: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let texts = secrets.into_iter().filter_map(|it| it.expose_text().ok());
    let mut texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    // One may be a part of another.
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    texts.into_iter().fold(words.to_owned(), |words, text| {
        let words = words.replace(text, "(secret)");
        // As it stands in JSON, or where an error quotes it.
        let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
        words.replace(&quoted[1..quoted.len() - 1], "(secret)")
    })
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; trailing line ends are dropped.
    File(PathBuf),
    /// An environment variable of the daemon.
    Env(String),
    /// A systemd credential, i.e. a file of that name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// The standard output of a program given as an argument vector; no shell.
    Command(Vec<String>),
}

impl SecretSource {
    /// Reads the secret now.
    pub async fn read(&self, clock: &Clock) -> Result<Secret, SecretError> {
        let mut secret = match self {
            Self::File(path) => read_file(path).await?,
            Self::Env(name) => read_env(name)?,
            Self::Credential(name) => read_file(&credential_path(name)?).await?,
            Self::Command(argv) => run(argv, clock).await?,
        };
        while matches!(secret.last(), Some(b'\n' | b'\r')) {
            secret.pop();
        }
        if secret.is_empty() {
            return Err(SecretError::Empty(self.describe()));
        }
        Ok(Secret(secret))
    }

    /// The source in words, for messages: `file /etc/x`, `environment variable X`, …
    pub fn describe(&self) -> String {
        match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Env(name) => format!("environment variable {name}"),
            Self::Credential(name) => format!("systemd credential {name}"),
            Self::Command(argv) => {
                format!("command {}", argv.first().map_or("(none)", String::as_str))
            }
        }
    }

    /// The file behind the source, if it is one, for checks of its mode.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => credential_path(name).ok(),
            Self::Env(_) | Self::Command(_) => None,
        }
    }
}

/// Why a secret could not be had. Never holds any part of one.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {0} is not set")]
    Env(String),
    /// Not started by systemd with credentials.
    #[error(
        "CREDENTIALS_DIRECTORY is not set: the credential {0} is there only under a systemd unit with LoadCredential="
    )]
    NoCredentials(String),
    /// The credential's name is not a file name.
    #[error("`{0}` is not the name of a credential")]
    BadCredential(String),
    /// The program failed; its output is not repeated.
    #[error("the command {program} {what}")]
    Command {
        /// The program.
        program: String,
        /// How it failed.
        what: String,
    },
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// More than a secret can be.
    #[error("{0} holds more than {MAX_SECRET} bytes")]
    TooLarge(String),
    /// Not UTF-8 where text is wanted.
    #[error("the secret is not text")]
    NotText,
}

async fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |error| SecretError::File {
        path: path.to_owned(),
        error,
    };
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_SECRET as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(failed)?;
    if bytes.len() > MAX_SECRET {
        return Err(SecretError::TooLarge(path.display().to_string()));
    }
    Ok(bytes)
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the room that reads secrets from the environment"
)]
fn read_env(name: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let value = std::env::var_os(name).ok_or_else(|| SecretError::Env(name.to_owned()))?;
    Ok(Zeroizing::new(value.into_encoded_bytes()))
}

#[allow(
    clippy::disallowed_methods,
    reason = "systemd names the directory in the environment"
)]
fn credential_path(name: &str) -> Result<PathBuf, SecretError> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(SecretError::BadCredential(name.to_owned()));
    }
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or_else(|| SecretError::NoCredentials(name.to_owned()))?;
    Ok(Path::new(&directory).join(name))
}

async fn run(argv: &[String], clock: &Clock) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |what: String| SecretError::Command {
        program: program.clone(),
        what,
    };
    let given = Given::default();
    match child::run(argv, &given, MAX_SECRET, clock, COMMAND_DEADLINE).await {
        Err(Unfinished::NotStarted(error)) => Err(failed(format!("could not be started: {error}"))),
        Err(Unfinished::TooSlow(_)) => Err(failed(format!(
            "gave nothing within {} s",
            COMMAND_DEADLINE.as_secs()
        ))),
        Ok(finished) if finished.is_cut => {
            Err(SecretError::TooLarge(format!("the output of {program}")))
        }
        // What it said is not repeated: it deals in secrets.
        Ok(Finished { status, .. }) if !status.success() => {
            Err(failed(format!("ended with {status}")))
        }
        Ok(finished) => Ok(finished.stdout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drops_trailing_line_ends_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b" token \r\n\n").unwrap();
        let secret = SecretSource::File(file.path().to_owned())
            .read(&Clock::system())
            .await
            .ok()
            .unwrap();
        assert_eq!(secret.expose(), b" token ");
    }

    #[tokio::test]
    async fn a_failing_command_is_named_without_its_output() {
        let source =
            SecretSource::Command(vec!["sh".into(), "-c".into(), "echo hush; exit 3".into()]);
        let error = source
            .read(&Clock::system())
            .await
            .err()
            .unwrap()
            .to_string();
        assert_eq!(error, "the command sh ended with exit status: 3");
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_and_as_json_has_it_also_where_it_is_part_of_another() {
        let secrets = ["a\"b", "a\"b-longer"].map(|it| Secret::new(it.into()));
        let words = r#"is a"b, {"k":"a\"b"}, a"b-longer"#;
        let shown = hide(words, &secrets);
        assert_eq!(shown, r#"is (secret), {"k":"(secret)"}, (secret)"#);
    }

    #[tokio::test]
    async fn an_empty_secret_is_refused() {
        let source = SecretSource::Command(vec!["true".into()]);
        assert!(matches!(
            source.read(&Clock::system()).await,
            Err(SecretError::Empty(_))
        ));
    }
}
