//! The history of one certificate: every step, with its time and evidence, kept in the store.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::records;
use crate::engine::names::CertificateName;
use crate::store::{Key, Session, StoreError, Write};

/// So many lines are kept for one certificate; the oldest go first.
const KEPT: usize = 500;

/// One line of history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Which attempt; 0 outside one.
    pub epoch: u64,
    /// What happened.
    pub what: String,
}

/// Tells lines of the same microsecond apart.
static NTH: AtomicU32 = AtomicU32::new(0);

/// Gathers lines until something is saved: they go along in the same transaction.
pub struct Journal {
    name: CertificateName,
    epoch: u64,
    waiting: Vec<Write>,
}

impl Journal {
    /// A journal of one attempt.
    pub fn new(name: CertificateName, epoch: u64) -> Self {
        Self {
            name,
            epoch,
            waiting: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn note(&mut self, at: Timestamp, what: impl Into<String>) {
        let line = Line {
            at,
            epoch: self.epoch,
            what: what.into(),
        };
        tracing::debug!(certificate = %self.name, "{}", line.what);
        let bytes = serde_json::to_vec(&line).expect("a line is plain text and numbers");
        self.waiting.push(Write::Put(
            records::history(
                &self.name,
                at.as_microsecond(),
                NTH.fetch_add(1, Ordering::Relaxed),
            ),
            bytes,
        ));
    }

    /// The lines that are not saved yet.
    pub fn take(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.waiting)
    }

    /// Removes the oldest lines beyond what is kept.
    pub async fn prune(&mut self, session: &Session) -> Result<(), StoreError> {
        let lines = session
            .store()
            .scan(&records::history_of(&self.name))
            .await?;
        let old = lines.len().saturating_sub(KEPT);
        self.waiting.extend(
            lines
                .into_iter()
                .take(old)
                .map(|(key, _): (Key, _)| Write::Delete(key)),
        );
        Ok(())
    }
}

/// Every line that is kept of one certificate, oldest first.
pub async fn history(session: &Session, name: &CertificateName) -> Result<Vec<Line>, StoreError> {
    let lines = session.load_all::<Line>(&records::history_of(name)).await?;
    Ok(lines.into_iter().map(|saved| saved.value).collect())
}
