//! What an authority says of orders, authorizations and challenges (RFC 8555 section 7.1), parsed and closed; and how
//! a request to it can fail. Data only: `acme` makes these, the attempt acts on them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use countersign_providers::record::DnsName;

use super::reaction::{Failure, Whose};

/// An order object (section 7.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSeen {
    /// Its URL, byte for byte as the authority gave it.
    pub url: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// The URLs of its authorizations.
    pub authorizations: Vec<String>,
    /// Where the CSR goes.
    pub finalize: String,
    /// Where the certificate is, once valid.
    pub certificate: Option<String>,
    /// Why it is invalid.
    pub error: Option<Problem>,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When the authority asks to be polled again, from the reply.
    pub retry_after: Option<Duration>,
}

impl OrderSeen {
    /// An order of which only the URL is known.
    pub fn unread(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            status: OrderStatus::Unknown,
            authorizations: Vec::new(),
            finalize: String::new(),
            certificate: None,
            error: None,
            expires: None,
            retry_after: None,
        }
    }
}

/// The states of an order (section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderStatus {
    /// Authorizations are missing.
    Pending,
    /// It may be finalized.
    Ready,
    /// The certificate is being made.
    Processing,
    /// The certificate is there.
    Valid,
    /// It failed.
    Invalid,
    /// A word that the RFC does not know: look again.
    Unknown,
}

/// An authorization object (section 7.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationSeen {
    /// Its URL.
    pub url: String,
    /// Where it stands.
    pub status: AuthorizationStatus,
    /// The name, never with `*.`.
    pub identifier: DnsName,
    /// Whether it is for `*.identifier`.
    pub wildcard: bool,
    /// Its `dns-01` challenge, if it offers one.
    pub challenge: Option<ChallengeSeen>,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// When the authority asks to be polled again, from the reply.
    pub retry_after: Option<Duration>,
}

/// The states of an authorization (section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorizationStatus {
    /// Not proven yet.
    Pending,
    /// Proven.
    Valid,
    /// Failed.
    Invalid,
    /// Deactivated by its account.
    Deactivated,
    /// Over.
    Expired,
    /// Taken back by the authority.
    Revoked,
    /// A word that the RFC does not know: look again.
    Unknown,
}

/// A `dns-01` challenge (section 8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeSeen {
    /// Where the response goes.
    pub url: String,
    /// The random part of the key authorization.
    pub token: String,
    /// Whether it still waits for a response, is being looked at, or is decided.
    pub status: ChallengeStatus,
    /// Why the last validation failed; while `processing` not final (erratum 5732).
    pub error: Option<Problem>,
}

/// The states of a challenge (section 7.1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeStatus {
    /// Waits for the response.
    Pending,
    /// Being validated.
    Processing,
    /// Passed.
    Valid,
    /// Failed.
    Invalid,
    /// A word that the RFC does not know: look again.
    Unknown,
}

/// A problem document (RFC 7807, RFC 8555 section 6.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The type without `urn:ietf:params:acme:error:`, e.g. `rateLimited`; another URI as it is.
    pub kind: String,
    /// The authority's own words, cut to a printable length.
    pub detail: String,
    /// The HTTP status, where the problem came as a reply of its own.
    pub status: Option<u16>,
    /// Problems of single identifiers.
    #[serde(default)]
    pub subproblems: Vec<Subproblem>,
    /// A page for a person, e.g. new terms of service.
    pub instance: Option<String>,
}

/// A part of a [`Problem`] that concerns one identifier (section 6.7.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subproblem {
    /// The type, as in [`Problem::kind`].
    pub kind: String,
    /// The authority's words.
    pub detail: String,
    /// The name it is about.
    pub identifier: Option<String>,
}

/// How a request to an authority failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CaFault {
    /// It answered with a problem document, or with an error status and something else.
    #[error("{}", problem_text(.problem))]
    Refused {
        /// The document; for another body `kind` is empty and `detail` says what came.
        problem: Problem,
        /// Not before this has passed.
        retry_after: Option<Duration>,
    },
    /// No answer: name not found, connection refused, timeout, cut off. The request may have arrived.
    #[error("{0}")]
    Unreachable(String),
    /// Its name has no address here.
    #[error("{0}")]
    Unresolved(String),
    /// Its certificate is not trusted.
    #[error("{0}")]
    Untrusted(String),
    /// It answered with success and something that is not what the RFC says.
    #[error("{0}")]
    Malformed(String),
}

impl CaFault {
    /// Whose move it is when this goes on.
    pub fn whose(&self) -> Whose {
        match self {
            Self::Unresolved(_) | Self::Untrusted(_) => Whose::You,
            Self::Refused { .. } | Self::Unreachable(_) | Self::Malformed(_) => Whose::Authority,
        }
    }

    /// The failure that it is when it goes on.
    pub fn failure(&self) -> Failure {
        Failure {
            outage: self.is_outage(),
            ..Failure::new(self.whose(), self.to_string())
        }
    }

    /// Whether the authority as a whole cannot be used, whatever it is asked for.
    fn is_outage(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unresolved(_) | Self::Untrusted(_) => true,
            Self::Refused { problem, .. } => matches!(problem.status, Some(500..=599)),
            Self::Malformed(_) => false,
        }
    }

    /// Whether the authority does not know the account any more (section 6.7).
    pub fn is_about_lost_account(&self) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.kind == "accountDoesNotExist")
    }
}

fn problem_text(problem: &Problem) -> String {
    match (problem.kind.as_str(), problem.status) {
        ("", Some(status)) => format!("HTTP {status}: {}", problem.detail),
        (kind, _) => format!("{kind}: {}", problem.detail),
    }
}
