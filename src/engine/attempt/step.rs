//! Where an attempt stands, for people.

use serde::{Deserialize, Serialize};

use super::{Attempt, AuthorizationKnown};
use crate::engine::order::AuthorizationStatus;

/// Where an attempt stands, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Asks for an order.
    Ordering,
    /// Looks at an order from before.
    LookingAtOrder,
    /// Looks at authorizations.
    LookingAtAuthorizations,
    /// Finds where challenge names lead.
    Locating,
    /// Waits for the DNS host.
    Presenting,
    /// Waits for every authoritative server.
    Proving,
    /// Tells the authority.
    Responding,
    /// Waits for the authority's look.
    AwaitingValidation,
    /// Sends the CSR.
    Finalizing,
    /// Waits for the certificate.
    AwaitingCertificate,
    /// Fetches and checks the certificate.
    Downloading,
    /// Releases its records.
    Closing,
}

impl Step {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::Ordering,
        Self::LookingAtOrder,
        Self::LookingAtAuthorizations,
        Self::Locating,
        Self::Presenting,
        Self::Proving,
        Self::Responding,
        Self::AwaitingValidation,
        Self::Finalizing,
        Self::AwaitingCertificate,
        Self::Downloading,
        Self::Closing,
    ];

    /// In one word, for metrics.
    pub fn as_word(self) -> &'static str {
        match self {
            Self::Ordering => "ordering",
            Self::LookingAtOrder => "looking-at-order",
            Self::LookingAtAuthorizations => "looking-at-authorizations",
            Self::Locating => "locating",
            Self::Presenting => "presenting",
            Self::Proving => "proving",
            Self::Responding => "responding",
            Self::AwaitingValidation => "awaiting-validation",
            Self::Finalizing => "finalizing",
            Self::AwaitingCertificate => "awaiting-certificate",
            Self::Downloading => "downloading",
            Self::Closing => "closing",
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordering => "asking for an order",
            Self::LookingAtOrder => "looking at its order",
            Self::LookingAtAuthorizations => "looking at the challenges",
            Self::Locating => "finding the DNS servers",
            Self::Presenting => "adding the TXT records",
            Self::Proving => "waiting for every nameserver",
            Self::Responding => "calling the authority to look",
            Self::AwaitingValidation => "waiting for validation",
            Self::Finalizing => "sending the CSR",
            Self::AwaitingCertificate => "waiting for the certificate",
            Self::Downloading => "fetching the certificate",
            Self::Closing => "cleaning up",
        }
    }
}

impl Attempt {
    /// The step of the authorization that is furthest behind.
    pub(super) fn slowest(&self) -> Step {
        let step = |known: &AuthorizationKnown| match &known.seen {
            None => Step::LookingAtAuthorizations,
            Some(seen) if seen.status == AuthorizationStatus::Valid => Step::Finalizing,
            Some(_) if known.responded => Step::AwaitingValidation,
            Some(_) if known.proven && !known.spreading => Step::Responding,
            Some(_) if known.present => Step::Proving,
            Some(_) if known.watch.is_some() => Step::Presenting,
            Some(_) => Step::Locating,
        };
        self.known
            .authorizations
            .iter()
            .map(step)
            .min()
            .unwrap_or(Step::LookingAtAuthorizations)
    }
}
