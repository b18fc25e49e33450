//! Problem or fault → the next move, and whose move it is (RFC 8555 section 6.7).

use std::time::Duration;

use countersign_providers::error::{ErrorKind, ProviderError};
use serde::{Deserialize, Serialize};

use super::order::{CaFault, Problem};

/// Pauses between tries of a request that got no usable answer, in order; the last one repeats.
const CA_PAUSES: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Pauses between tries at a DNS host (research on RFC 2136 servers: 1, 2, 4 s).
const HOST_PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// Server errors (5xx) and cut connections in a row before an attempt without an order is given up.
pub(super) const CA_PATIENCE: u32 = 5;

/// Nor is it asked once more when it has not answered for this long: that is two connections that nobody took.
pub(super) const CA_SILENCE: Duration = Duration::from_secs(10);

/// Why something failed, for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was seen and what to do, one or two sentences.
    pub sentence: String,
    /// Whose move it is.
    pub whose: Whose,
    /// Not to be tried again before this has passed, if the other side said so.
    pub not_before: Option<Duration>,
    /// Whether the authority as a whole could not be used: once it can, everybody who waits for it goes on.
    #[serde(default)]
    pub outage: bool,
}

impl Failure {
    /// A failure without a time of its own.
    pub fn new(whose: Whose, sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            whose,
            not_before: None,
            outage: false,
        }
    }
}

/// Whose move it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The person who runs Countersign.
    You,
    /// Whoever runs the DNS servers.
    DnsHost,
    /// The certificate authority.
    Authority,
    /// The machine that uses the certificate.
    Target,
    /// Countersign itself.
    Countersign,
}

impl Whose {
    /// As written in `status --json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::DnsHost => "dns-host",
            Self::Authority => "authority",
            Self::Target => "target",
            Self::Countersign => "countersign",
        }
    }
}

/// What to do after a request to the authority failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// The same again after a pause; the authority's own wish is a floor.
    Again(Duration),
    /// Look at the order: its status decides.
    LookAtOrder,
    /// This attempt cannot succeed.
    GiveUp(Failure),
}

/// The move after `fault`, the `turn`th in a row, while doing `what` (in words, for the sentence).
pub(super) fn to_ca_fault(fault: &CaFault, turn: u32, what: &str) -> Reaction {
    match fault {
        CaFault::Refused {
            problem,
            retry_after,
        } => refused(problem, *retry_after, turn, what),
        CaFault::Unreachable(_) | CaFault::Unresolved(_) | CaFault::Malformed(_) => {
            Reaction::Again(pause(&CA_PAUSES, turn))
        }
        CaFault::Untrusted(_) => Reaction::GiveUp(fault.failure()),
    }
}

fn refused(problem: &Problem, retry_after: Option<Duration>, turn: u32, what: &str) -> Reaction {
    let floor =
        |pause: Duration| Reaction::Again(retry_after.map_or(pause, |wish| wish.max(pause)));
    match (problem.status, problem.kind.as_str()) {
        (_, "orderNotReady") => Reaction::LookAtOrder,
        // A paused name: only the page named in the detail helps (no Retry-After comes with it).
        (Some(429), _) if retry_after.is_none() && problem.detail.contains("https://") => {
            Reaction::GiveUp(refusal(problem, Whose::You, what))
        }
        (Some(429 | 503), _) | (_, "rateLimited") => floor(pause(&CA_PAUSES, turn + 2)),
        (Some(500..=599), _) | (_, "serverInternal" | "badNonce") => {
            floor(pause(&CA_PAUSES, turn + 2))
        }
        // Whatever answers there speaks no ACME.
        (Some(404 | 405), "") => Reaction::GiveUp(refusal(problem, Whose::You, what)),
        // Here it is about the account or the request, not about a proof.
        (_, "unauthorized") => Reaction::GiveUp(refusal(problem, Whose::You, what)),
        (_, kind) => Reaction::GiveUp(refusal(problem, whose(kind), what)),
    }
}

/// The failure of an order, authorization or request that the authority ended with `problem`.
pub(super) fn refusal(problem: &Problem, whose: Whose, what: &str) -> Failure {
    let kind = match (problem.kind.as_str(), problem.status) {
        ("", Some(status)) => format!("HTTP {status}"),
        (kind, _) => kind.to_owned(),
    };
    let mut sentence = format!("it refused while {what}: {} ({kind})", problem.detail);
    for part in &problem.subproblems {
        let about = part.identifier.as_deref().unwrap_or("one name");
        sentence.push_str(&format!("; {about}: {} ({})", part.detail, part.kind));
    }
    if let Some(page) = &problem.instance {
        sentence.push_str(&format!("; see {page}"));
    }
    if let Some(hint) = hint(problem) {
        sentence.push_str(&format!("; {hint}"));
    }
    Failure::new(whose, sentence)
}

/// What a person can do about a problem, where that is always the same.
fn hint(problem: &Problem) -> Option<&'static str> {
    Some(match (problem.kind.as_str(), problem.status) {
        ("", Some(404 | 405)) => "check the `directory` URL",
        ("accountDoesNotExist", _) => "the account is registered again with the next attempt",
        ("caa", _) => "allow this authority in the CAA record of the name",
        ("externalAccountRequired", _) => {
            "ask the authority for a key id and a MAC key, and set `external-account: {key-id: ID, mac-key: {file: PATH}}`"
        }
        ("invalidContact" | "unsupportedContact", _) => "correct `contact`",
        ("invalidProfile", _) => "correct `profile`",
        ("rejectedIdentifier" | "unsupportedIdentifier", _) => {
            "take the name off the certificate, or use another authority"
        }
        ("userActionRequired" | "agreementRequired", _) => {
            "read its terms of service, then set `agree-to-terms: true`"
        }
        _ => return None,
    })
}

/// Whose move a problem type is (RFC 8555 section 6.7).
pub(super) fn whose(kind: &str) -> Whose {
    match kind {
        "caa"
        | "externalAccountRequired"
        | "invalidContact"
        | "invalidProfile"
        | "rejectedIdentifier"
        | "unsupportedContact"
        | "unsupportedIdentifier"
        | "userActionRequired"
        | "agreementRequired" => Whose::You,
        "dns" | "unauthorized" | "incorrectResponse" => Whose::DnsHost,
        "badCSR" | "badSignatureAlgorithm" | "badPublicKey" | "malformed" => Whose::Countersign,
        _ => Whose::Authority,
    }
}

/// After a DNS host failed for the `turn`th time in a row: a pause, or the end.
pub(super) fn to_provider_error(
    error: &ProviderError,
    provider: &str,
    turn: u32,
) -> Result<Duration, Failure> {
    let pause = pause(&HOST_PAUSES, turn);
    match error.kind {
        ErrorKind::RateLimited { after } => Ok(after.map_or(pause, |wish| wish.max(pause))),
        kind if kind.needs_person() || turn as usize >= HOST_PAUSES.len() => {
            Err(provider_failure(error, provider))
        }
        _ => Ok(pause),
    }
}

/// The failure that a DNS host answered with.
pub(super) fn provider_failure(error: &ProviderError, provider: &str) -> Failure {
    let whose = match error.kind {
        ErrorKind::Auth
        | ErrorKind::Permission
        | ErrorKind::ZoneMissing
        | ErrorKind::ZoneAmbiguous => Whose::You,
        ErrorKind::Fatal if error.theirs => Whose::You,
        ErrorKind::Fatal => Whose::Countersign,
        _ => Whose::DnsHost,
    };
    let hint = error
        .hint
        .as_ref()
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default();
    Failure::new(
        whose,
        format!("provider {provider}: {}{hint}", error.message),
    )
}

fn pause(ladder: &[Duration], turn: u32) -> Duration {
    ladder[(turn as usize).min(ladder.len() - 1)]
}
