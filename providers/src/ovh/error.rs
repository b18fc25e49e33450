//! What a refusal of OVHcloud means, whose move it is, and the sentence a person reads.
//!
//! Refusals of the gate have a code of their own, those of the services behind it a class; what neither tells, the words do.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Clock;
use crate::http::{Reply, said};
use crate::record::{DnsName, Zone};
use crate::secret::{Secret, hide};
use crate::words::without_names;
use crate::{ErrorKind, ProviderError};

use super::api::relative;

/// Asked too often, and the reply does not say how long to wait.
const BREATH: Duration = Duration::from_secs(30);
/// Where keys are made.
const NEW_KEYS: &str = "make new keys at https://www.ovh.com/auth/api/createToken (each region has its own), and write them to \
                        `application-key`, `application-secret` and `consumer-key`";

/// What was asked for, for the sentence about its refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    /// What time it is there.
    Time,
    /// The zones of the account, to find this name's.
    Lookup(&'a DnsName),
    /// What is there at this name.
    Look(&'a Zone, &'a DnsName),
    /// A change of this name.
    Change(&'a Zone, &'a DnsName),
    /// The publication of what was changed.
    Refresh(&'a Zone),
}

/// A call that came to nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ProviderError,
    /// Whether it is about a record that is not there.
    pub(super) is_gone: bool,
}

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        let is_gone = false;
        Self { error, is_gone }
    }
}

impl From<Refusal> for ProviderError {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stated {
    error_code: String,
    class: String,
    message: String,
}

/// A kind, what is the matter, and what can be done.
type Verdict = (ErrorKind, &'static str, &'static str);

impl About<'_> {
    /// What a reply without success means.
    pub(super) fn refusal(
        &self,
        host: &str,
        reply: &Reply,
        secrets: &[&Secret],
        clock: &Clock,
    ) -> Refusal {
        let stated: Stated = serde_json::from_slice(&reply.body).unwrap_or_default();
        let code = match stated.error_code.is_empty() {
            true => stated.class,
            false => stated.error_code,
        };
        let words = stated.message;
        let status = reply.status.as_u16();
        let by_status = match reply.kind(clock) {
            ErrorKind::RateLimited { after: None } => ErrorKind::RateLimited {
                after: Some(BREATH),
            },
            kind => kind,
        };
        let is_plain = matches!(
            by_status,
            ErrorKind::Transient | ErrorKind::RateLimited { .. }
        );
        let plain = without_names(&words, &self.names());
        let (kind, what, hint) = match self.verdict(&code, &plain, status) {
            Some((_, what, hint)) if is_plain => (by_status, what, hint),
            Some(verdict) => verdict,
            None if code.is_empty() && words.is_empty() => (
                by_status,
                "it gives no reason",
                "look whether `endpoint` is OVHcloud's API, and whether something on the way rewrites HTTP",
            ),
            None => (by_status, "it gives a reason that is not known here", ""),
        };
        // That a zone is missing has other words.
        let is_of_record = matches!(self, Self::Look(..) | Self::Change(..));
        let is_gone = is_of_record && status == 404 && !plain.contains("service");
        let words = match words.is_empty() {
            true => String::new(),
            false => format!(" ({})", said(&hide(&words, secrets.iter().copied()))),
        };
        let message = format!("{host} answers {status} to {self}: {what}{words}");
        let error = ProviderError::new(kind, message);
        let error = match code.is_empty() {
            true => error,
            false => error.code(said(&hide(&code, secrets.iter().copied()))),
        };
        let error = match hint {
            "" => error,
            hint => error.hint(hint),
        };
        Refusal { error, is_gone }
    }

    fn verdict(&self, code: &str, words: &str, status: u16) -> Option<Verdict> {
        let has = |part: &str| words.contains(part);
        let verdict = match code {
            "INVALID_KEY" => (
                ErrorKind::Auth,
                "the application key is not known there",
                NEW_KEYS,
            ),
            "INVALID_SIGNATURE" => (
                ErrorKind::Auth,
                "the application secret or the consumer key is not the one of that application",
                NEW_KEYS,
            ),
            "INVALID_CREDENTIAL" | "CREDENTIAL_EXPIRED" => (
                ErrorKind::Auth,
                "the consumer key is unknown, expired, or was never confirmed",
                "open the address that came with the consumer key and confirm it, or make a new one",
            ),
            "NOT_CREDENTIAL" => (
                ErrorKind::Auth,
                "no credential reached it",
                "look for something between here and there that takes the headers X-Ovh-… away",
            ),
            "QUERY_TIME_OUT" => (
                ErrorKind::Transient,
                "the request was too long on its way for its date",
                "look at the clock and the connection of this machine if it goes on",
            ),
            "NOT_GRANTED_CALL" => (
                ErrorKind::Permission,
                "the consumer key may not make this call",
                self.right(),
            ),
            "FORBIDDEN" | "Client::Forbidden" if has(" ip ") || has("ip address") => (
                ErrorKind::Permission,
                "the keys may not be used from this machine's address",
                "allow the address for the consumer key",
            ),
            "FORBIDDEN" | "Client::Forbidden" => (
                ErrorKind::Permission,
                "the account may not do this",
                "see that the account still has the zone and may manage its DNS",
            ),
            "TOO_MANY_REQUESTS" | "Client::TooManyRequests" => (
                ErrorKind::RateLimited {
                    after: Some(BREATH),
                },
                "it is asked too often with these keys",
                "other programs with the keys count too; it goes on by itself",
            ),
            "Client::ServiceExpired" | "SERVICE_EXPIRED" => (
                ErrorKind::Permission,
                "the zone's service has expired",
                "renew it in the control panel",
            ),
            _ if status == 460 || has("expired") => (
                ErrorKind::Permission,
                "the zone's service has expired",
                "renew it in the control panel",
            ),
            _ if has("quota") || has("maximum number") => (
                ErrorKind::Quota,
                "the zone has as many records as it may",
                "remove records that nobody needs",
            ),
            _ if status == 404 && has("service") => (
                ErrorKind::ZoneMissing,
                "the account has no such zone",
                "compare the zone with those in the control panel; `region` tells the account's part of OVHcloud",
            ),
            _ if has("cname") => (
                ErrorKind::Invalid,
                "there is a CNAME at the name, and nothing may stand beside one",
                "remove the CNAME, or let it point to a name that may be written",
            ),
            "Client::Conflict" | "CONFLICT" => (
                ErrorKind::Conflict,
                "another change of the zone is being made",
                "",
            ),
            "Client::BadRequest" | "INVALID_ARGUMENT" | "Client::ValidationError" => (
                ErrorKind::Invalid,
                "it does not take the record",
                "look whether the name may have a TXT record in this zone",
            ),
            "INVALID_URL" | "Client::MethodNotAllowed" => (
                ErrorKind::Unsupported,
                "it does not know this call",
                "look whether `endpoint` is OVHcloud's API",
            ),
            "INTERNAL_SERVER_ERROR" | "Server::InternalServerError" => (
                ErrorKind::Transient,
                "it has a fault of its own",
                "look at OVHcloud's status page if it goes on",
            ),
            "SERVICE_UNAVAILABLE" | "Server::ServiceUnavailable" => (
                ErrorKind::Transient,
                "it is not available at the moment",
                "look at OVHcloud's status page if it goes on",
            ),
            _ => return None,
        };
        Some(verdict)
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Time => Vec::new(),
            Self::Lookup(name) => vec![name.as_str()],
            Self::Look(zone, name) | Self::Change(zone, name) => {
                vec![name.as_str(), relative(name, zone), zone.name.as_str()]
            }
            Self::Refresh(zone) => vec![zone.name.as_str()],
        }
    }

    fn right(&self) -> &'static str {
        match self {
            Self::Time => "",
            Self::Lookup(_) => {
                "make a consumer key with GET /domain/zone, or write the zone into `zones`: then it is not needed"
            }
            Self::Look(..) => "make a consumer key with GET /domain/zone/ZONE/*",
            Self::Change(..) => "make a consumer key with GET, POST and DELETE /domain/zone/ZONE/*",
            Self::Refresh(_) => "make a consumer key with POST /domain/zone/ZONE/refresh",
        }
    }
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => write!(f, "the question for the time"),
            Self::Lookup(name) => write!(f, "the search for the zone of {name}"),
            Self::Look(zone, name) => write!(f, "a look at {name} in the zone {}", zone.name),
            Self::Change(zone, name) => write!(f, "a change of {name} in the zone {}", zone.name),
            Self::Refresh(zone) => write!(f, "the publication of the zone {}", zone.name),
        }
    }
}
