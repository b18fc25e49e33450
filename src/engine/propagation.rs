//! Observations of authoritative servers → a verdict with reasons.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What one authoritative address said when asked for the TXT RRset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The name of the server, from the NS RRset.
    pub host: String,
    /// The address asked.
    pub address: IpAddr,
    /// What came.
    pub outcome: Outcome,
    /// The zone's serial there, where it was learnt.
    pub serial: Option<u32>,
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// An authoritative answer with these TXT values; empty for NODATA and NXDOMAIN.
    Values(Vec<String>),
    /// An answer that is not authoritative, or an error code; in words, e.g. `REFUSED`.
    Lame(String),
    /// No answer; in words, e.g. `no answer within 3 s`.
    Unreachable(String),
}

/// stub
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch;
/// stub
pub enum Verdict {
    /// r
    Ready,
    /// l
    Likely {
        /// r
        reason: String,
    },
    /// w
    Waiting {
        /// r
        reason: String,
    },
}
#[allow(missing_docs)]
impl Watch {
    pub fn new(_: Vec<(String, IpAddr)>, _: bool) -> Self {
        Self
    }
    pub fn next(&self) -> (Vec<(String, IpAddr)>, Option<jiff::Timestamp>) {
        (vec![], None)
    }
    pub fn rounds(&self) -> u32 {
        0
    }
    pub fn record(&mut self, _: jiff::Timestamp, _: Vec<Observation>) {}
    pub fn verdict(&self, _: &str, _: jiff::Timestamp) -> Verdict {
        Verdict::Ready
    }
    pub fn should_ensure_again(&mut self, _: jiff::Timestamp, _: std::time::Duration) -> bool {
        false
    }
}
