//! How a verb of a provider can fail: a closed set of classes. Data only.

use std::time::Duration;

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// The class, which decides what happens next.
    pub kind: ErrorKind,
    /// The vendor's own code, e.g. `BADKEY` or `81057`.
    pub code: Option<String>,
    /// What was seen, naming the server and the zone or name; a whole sentence without a full stop.
    pub message: String,
    /// What a person could do about it.
    pub hint: Option<String>,
    /// Whether some of the changes were made all the same.
    pub partly: bool,
    /// Whether it is about a program of whoever runs us, and not about a plug-in of ours.
    pub theirs: bool,
}

impl ProviderError {
    /// An error with no more than its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: message.into(),
            hint: None,
            partly: false,
            theirs: false,
        }
    }

    /// With the vendor's own code.
    pub fn code(self, code: impl Into<String>) -> Self {
        let code = Some(code.into());
        Self { code, ..self }
    }

    /// With what a person could do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    /// Of a call some of whose changes may have been made before it failed.
    pub fn partly(self) -> Self {
        let partly = true;
        Self { partly, ..self }
    }

    /// About a program of whoever runs us.
    pub fn theirs(self) -> Self {
        let theirs = true;
        Self { theirs, ..self }
    }

    /// Whether a change that failed so may nevertheless have been made, now or a little later.
    pub fn outcome_unknown(&self) -> bool {
        self.partly || matches!(self.kind, ErrorKind::Transient | ErrorKind::Fatal)
    }
}

/// The closed set of error classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The credential is unknown, wrong or expired.
    Auth,
    /// The credential is good but may not do this.
    Permission,
    /// This host does not hold the zone.
    ZoneMissing,
    /// Several zones fit and nothing tells them apart.
    ZoneAmbiguous,
    /// Somebody else changed the RRset at the same time.
    Conflict,
    /// Asked too often.
    RateLimited {
        /// Not before this much time has passed, if the host said so.
        after: Option<Duration>,
    },
    /// The host's limit on records or zones is reached.
    Quota,
    /// The host refuses the change itself (a CNAME at the name, a bad value, a name outside the zone).
    Invalid,
    /// It may work when tried again; the change may or may not have been made.
    Transient,
    /// The host cannot do this at all.
    Unsupported,
    /// The plug-in broke its contract.
    Fatal,
}

impl ErrorKind {
    /// What it is called in the protocol, in manifests and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::ZoneMissing => "zone-missing",
            Self::ZoneAmbiguous => "zone-ambiguous",
            Self::Conflict => "conflict",
            Self::RateLimited { .. } => "rate-limited",
            Self::Quota => "quota",
            Self::Invalid => "invalid",
            Self::Transient => "transient",
            Self::Unsupported => "unsupported",
            Self::Fatal => "fatal",
        }
    }

    /// Whether only a person can help (a credential, a right, a zone, a setting).
    pub fn needs_person(self) -> bool {
        match self {
            Self::Auth
            | Self::Permission
            | Self::ZoneMissing
            | Self::ZoneAmbiguous
            | Self::Quota
            | Self::Invalid
            | Self::Unsupported
            | Self::Fatal => true,
            Self::Conflict | Self::RateLimited { .. } | Self::Transient => false,
        }
    }
}
