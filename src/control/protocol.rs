//! What is asked and answered, version 1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::ledger::RecordId;
use crate::engine::names::CertificateName;
use crate::run::clean::Cleaned;
use crate::run::journal::Line;
use crate::run::overview::Overview;
use crate::run::progress::Progress;

/// Rises when something changes that an older program would misread.
pub(super) const VERSION: u32 = 1;
/// A request is no longer; a list of 1,000 certificates is 65 KiB.
pub(super) const LONGEST_REQUEST: u64 = 1 << 20;
/// A reply is no longer: 100,000 certificates are about 100 MiB.
pub(super) const LONGEST_REPLY: u64 = 1 << 28;

/// One line to the process that holds the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) version: u32,
    pub(super) ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Everything at one instant: [`Reply::Overview`].
    Status,
    /// [`Reply::History`] of one certificate.
    History(CertificateName),
    /// The accounts that are registered: [`Reply::Accounts`].
    Accounts,
    /// [`Reply::Begun`], then [`Reply::Progress`] of each of those named there until it is finished.
    Renew {
        /// Only these; all when empty.
        names: Vec<CertificateName>,
        /// Also what is not due.
        force: bool,
    },
    /// [`Reply::Begun`], then [`Reply::Cleaned`].
    Clean {
        /// At the names of these; everywhere when empty.
        names: Vec<CertificateName>,
        /// Values of others that are to go as well.
        foreign: Vec<RecordId>,
    },
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Everything at one instant.
    Overview(Box<Overview>),
    /// Every line that is kept, oldest first.
    History(Vec<Line>),
    /// Their URLs, by the names of their authorities.
    Accounts(BTreeMap<String, String>),
    /// Those that have something to do.
    Begun(Vec<CertificateName>),
    /// What happened to one of them.
    Progress(CertificateName, Progress),
    /// Which TXT values were found, and what came of them.
    Cleaned(Box<Cleaned>),
    /// It is not done: a sentence.
    Refused(String),
}
