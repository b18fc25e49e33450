//! What a refusal of Azure Resource Manager or of Azure DNS means, whose move it is, and the sentence a person reads.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Clock;
use crate::http::{Reply, said};
use crate::record::{DnsName, Zone};
use crate::secret::{Secret, hide};
use crate::words::without_names;
use crate::{ErrorKind, ProviderError};

use super::ids::relative;

/// Asked too often, and the reply does not say how long to wait: the count is by the minute.
const BREATH: Duration = Duration::from_secs(10);

/// What was asked for, for the sentence about its refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    /// The zone of this name, in this subscription.
    Lookup(&'a DnsName, &'a str),
    /// What is there at this name.
    Look(&'a Zone, &'a DnsName),
    /// A change of this name.
    Change(&'a Zone, &'a DnsName),
}

/// A call that came to nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ProviderError,
    /// Whether the record set is not there.
    pub(super) is_gone: bool,
    /// Whether the record set is not what it was taken for.
    pub(super) is_overtaken: bool,
}

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        Self {
            error,
            is_gone: false,
            is_overtaken: false,
        }
    }
}

/// Resource Manager wraps what Azure DNS says as it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Stated,
    code: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stated {
    code: String,
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
        let body: Body = serde_json::from_slice(&reply.body).unwrap_or_default();
        let (code, words) = match body.error.code.is_empty() {
            true => (body.code, body.message),
            false => (body.error.code, body.error.message),
        };
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
        let (kind, what, hint) = match self.verdict(&code, &words) {
            Some((_, what, hint)) if is_plain => (by_status, what, hint),
            Some(verdict) => verdict,
            None if code.is_empty() => (
                by_status,
                "it gives no reason",
                "look whether `endpoint` is Azure Resource Manager, and whether something on the way rewrites HTTP",
            ),
            None => (by_status, "it gives a reason that is not known here", ""),
        };
        let said_of_it = match words.is_empty() {
            true => String::new(),
            false => format!(" ({})", said(&hide(&words, secrets.iter().copied()))),
        };
        let message = format!("{host} answers {status} to {self}: {what}{said_of_it}");
        let error = ProviderError::new(kind, message);
        let error = match code.is_empty() {
            true => error,
            false => error.code(said(&hide(&code, secrets.iter().copied()))),
        };
        let error = match hint {
            "" => error,
            hint => error.hint(hint),
        };
        Refusal {
            error,
            // A zone, group or subscription that is missing has codes of its own.
            is_gone: matches!(self, Self::Look(..)) && status == 404 && code == "NotFound",
            is_overtaken: matches!(self, Self::Change(..)) && status == 412,
        }
    }

    fn verdict(&self, code: &str, words: &str) -> Option<Verdict> {
        let small = without_names(words, &self.names());
        let verdict = match code {
            "InvalidAuthenticationTokenTenant" => (
                ErrorKind::Auth,
                "the subscription belongs to another tenant",
                "compare `tenant` with the tenant of the subscription",
            ),
            "ExpiredAuthenticationToken"
            | "InvalidAuthenticationToken"
            | "InvalidAuthenticationTokenAudience"
            | "AuthenticationFailed" => (
                ErrorKind::Auth,
                "the access token is not good any more, or is for another part of Azure",
                "see that the application or the identity is still there, and that `cloud` is right",
            ),
            "AuthorizationFailed" | "LinkedAuthorizationFailed" => (
                ErrorKind::Permission,
                "the identity is known, but no role allows it this",
                self.role(),
            ),
            "RequestDisallowedByPolicy" => (
                ErrorKind::Permission,
                "a policy of the subscription forbids it",
                "ask whoever manages the subscription",
            ),
            "ScopeLocked" => (
                ErrorKind::Permission,
                "there is a lock on the zone, its group or its subscription",
                "take the lock away: one against removal keeps records from being removed too",
            ),
            "ReadOnlyDisabledSubscription" | "DisabledSubscription" => (
                ErrorKind::Permission,
                "the subscription is switched off",
                "look at the subscription's billing",
            ),
            "MissingSubscriptionRegistration" => (
                ErrorKind::Permission,
                "the subscription is not registered for Azure DNS",
                "register it with `az provider register --namespace Microsoft.Network`",
            ),
            "SubscriptionNotFound" | "InvalidSubscriptionId" => (
                ErrorKind::ZoneMissing,
                "there is no such subscription for this identity",
                "compare `subscription` with the subscription's id",
            ),
            "ResourceGroupNotFound" => (
                ErrorKind::ZoneMissing,
                "there is no such resource group in the subscription",
                "compare `resource-group`, or the id in `zones`",
            ),
            "ResourceNotFound" | "ParentResourceNotFound" | "NotFound" => (
                ErrorKind::ZoneMissing,
                "there is no such zone in the resource group",
                "compare the id in `zones` with the zone's properties page",
            ),
            "PreconditionFailed" => (ErrorKind::Conflict, "another writer was faster, twice", ""),
            "CannotCreateRecordDueToCNameNamingRestriction" => CNAME,
            "Conflict" | "BadRequest" if small.contains("cname") => CNAME,
            "Conflict" | "AnotherOperationInProgress" => (
                ErrorKind::Conflict,
                "another change of the record set is being made",
                "",
            ),
            "TooManyRequests" | "SubscriptionRequestsThrottled" | "OperationNotAllowed"
                if !small.contains("quota") =>
            {
                (
                    ErrorKind::RateLimited {
                        after: Some(BREATH),
                    },
                    "the subscription asks more often than it may",
                    "other programs of the subscription count too; it goes on by itself",
                )
            }
            "QuotaExceeded" | "OperationNotAllowed" => QUOTA,
            "BadRequest" if small.contains("maximum") || small.contains("limit") => QUOTA,
            "BadRequest" | "InvalidParameter" | "InvalidResourceName" | "InvalidRequestFormat" => (
                ErrorKind::Invalid,
                "it does not take the record set",
                "look at the values that others have at the name, and whether it may have TXT records",
            ),
            "InvalidRequestContent" => (
                ErrorKind::Fatal,
                "it cannot read the request",
                "this is a fault of Countersign's, or of something on the way that rewrites HTTP",
            ),
            "InvalidApiVersionParameter" | "NoRegisteredProviderFound" | "InvalidResourceType" => (
                ErrorKind::Unsupported,
                "it does not know this call",
                "look whether `endpoint` is Azure Resource Manager, and whether `cloud` has Azure DNS",
            ),
            "InternalServerError" | "ServerTimeout" | "GatewayTimeout" | "ServiceUnavailable" => (
                ErrorKind::Transient,
                "it has a fault of its own",
                "look at Azure's status page if it goes on",
            ),
            _ => return None,
        };
        Some(verdict)
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Lookup(name, _) => vec![name.as_str()],
            Self::Look(zone, name) | Self::Change(zone, name) => {
                vec![name.as_str(), relative(name, zone), zone.name.as_str()]
            }
        }
    }

    fn role(&self) -> &'static str {
        match self {
            Self::Lookup(..) => {
                "grant Microsoft.Network/dnsZones/read on the resource group and set `resource-group`, or write the zone's id \
                 into `zones`: then it is not needed"
            }
            Self::Look(..) => {
                "grant the role DNS Zone Contributor on the zone, or Microsoft.Network/dnsZones/TXT/read"
            }
            Self::Change(..) => {
                "grant the role DNS Zone Contributor on the zone, or Microsoft.Network/dnsZones/TXT/write and …/delete"
            }
        }
    }
}

const CNAME: Verdict = (
    ErrorKind::Invalid,
    "there is a CNAME at the name, and nothing may stand beside one",
    "remove the CNAME, or let it point to a name that may be written",
);
const QUOTA: Verdict = (
    ErrorKind::Quota,
    "the zone or the record set has as many records as it may",
    "remove records that nobody needs, or ask Azure for a higher limit",
);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(name, subscription) => write!(
                f,
                "the search for the zone of {name} in the subscription {subscription}"
            ),
            Self::Look(zone, name) => write!(f, "a look at {name} in the zone {}", zone.name),
            Self::Change(zone, name) => write!(f, "a change of {name} in the zone {}", zone.name),
        }
    }
}
