//! Puts certificates where they are used.
//!
//! [`Target`] is the contract, [`files`] keeps it for a directory, [`command`] runs what makes a server take the new
//! files up. What is delivered when, and how often it is tried again, is decided in `engine` and `run`, not here.

mod access;
pub mod command;
pub mod files;
mod install;
mod pem;

#[cfg(test)]
mod install_tests;

use crate::secret::Secret;
use async_trait::async_trait;

/// A place where a certificate is used.
#[async_trait]
pub trait Target: Send + Sync {
    /// Puts `generation` in place: afterwards it is what readers find, before that the one that was there. It may be
    /// repeated without harm, also after a crash; a generation older than the one in place is refused.
    async fn install(&self, generation: &Generation) -> Result<(), DeliverError>;

    /// What is in place now. Changes nothing.
    async fn inspect(&self) -> Result<Shown, DeliverError>;

    /// Removes what is older than `number`, once that is in place and whoever reads it was told.
    async fn settle(&self, number: u64) -> Result<(), DeliverError>;
}

/// A certificate with its key, as it is delivered. Each delivery of something new has a higher number.
#[derive(Clone)]
pub struct Generation {
    /// max(last + 1, Unix milliseconds).
    pub number: u64,
    /// The certificate first, then its chain.
    pub fullchain_pem: String,
    /// The private key, in PEM.
    pub key_pem: Secret,
}

/// What a target shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Nothing of ours.
    Nothing,
    /// A generation of ours.
    Generation {
        /// Its number.
        number: u64,
        /// The SHA-256 of `fullchain_pem` in hexadecimal, as [`Generation::fullchain_sha256`] has it.
        fullchain_sha256: String,
        /// What is not as it should be: something is missing, was changed, or has another owner, mode or name than
        /// configured. Installing the same generation again puts it right.
        fault: Option<String>,
    },
}

impl Shown {
    /// Whether exactly `generation` is in place, and nothing is wrong with it.
    pub fn is(&self, generation: &Generation) -> bool {
        matches!(
            self,
            Self::Generation { number, fullchain_sha256, fault: None }
                if *number == generation.number
                    && *fullchain_sha256 == generation.fullchain_sha256()
        )
    }
}

impl Generation {
    /// The SHA-256 of the certificate and its chain, in hexadecimal.
    pub fn fullchain_sha256(&self) -> String {
        pem::sha256(&pem::ending_in_newline(self.fullchain_pem.as_bytes()))
    }
}

/// Why a generation could not be put in place. Nothing that was in place is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Something is in the way.
    #[error(
        "{path} is there already and not ours; move it away, or set `take-over: true` to have it replaced"
    )]
    Foreign {
        /// What.
        path: String,
    },
    /// Something is in the way that is never replaced.
    #[error("{path} is {found}, and a {wanted} is needed there; move it away")]
    InTheWay {
        /// What.
        path: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A name that the system does not know.
    #[error("there is no {what} `{name}` on this machine; create it, or correct `{what}`")]
    Unknown {
        /// `owner` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The system does not let us.
    #[error("{path}: {what}: not permitted to the user that Countersign runs as; {hint}")]
    Denied {
        /// Where.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What helps.
        hint: &'static str,
    },
    /// No room; what was in place still is.
    #[error("no space left for {path}; free some, what was delivered before is still in place")]
    Full {
        /// Where.
        path: String,
    },
    /// A newer one is in place.
    #[error(
        "{path} holds generation {found}, which is newer than {wanted}; another Countersign delivers there"
    )]
    Older {
        /// Where.
        path: String,
        /// The generation in place.
        found: u64,
        /// The one to be put there.
        wanted: u64,
    },
    /// What is to be delivered, or where, makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Anything else from the system.
    #[error("{path}: {what}: {error}")]
    Io {
        /// Where.
        path: String,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}
