//! What a refusal of Cloud DNS means, whose move it is, and the sentence a person reads.
//!
//! A refusal has one or two reasons, an old word and a new one; where one word means several things, the field that it is
//! about decides. A reason that is not known here is told by its HTTP status and in Google's own words.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Clock;
use crate::http::{Reply, said};
use crate::record::{DnsName, Zone};
use crate::secret::{Secret, hide};
use crate::words::listed;
use crate::{ErrorKind, ProviderError};

/// Asked too often: the reply does not say how long to wait, and the count is by the minute.
const BREATH: Duration = Duration::from_secs(10);
/// The day's requests are used up; nobody need ask more often than that.
const LONG_BREATH: Duration = Duration::from_secs(3_600);

/// What was asked for, for the sentence about its refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum About<'a> {
    /// The zone of this name, in this project.
    Lookup(&'a DnsName, &'a str),
    /// What is there at these names.
    Look(&'a Zone, &'a [&'a DnsName]),
    /// A change of these names.
    Change(&'a Zone, &'a [&'a DnsName]),
    /// How far a change of this zone has come.
    Settling(&'a str, &'a str),
}

/// A call that came to nothing.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: ProviderError,
    /// Of HTTP; 0 where there was no reply.
    pub(super) status: u16,
    /// Whether a set is not what it was taken for.
    pub(super) is_overtaken: bool,
}

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        Self {
            error,
            status: 0,
            is_overtaken: false,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    error: Stated,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stated {
    message: String,
    errors: Vec<Reason>,
    details: Vec<Reason>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
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
        let Stated {
            message: words,
            errors,
            details,
        } = body.error;
        let status = reply.status.as_u16();
        // The new words say more than the old ones.
        let reasons = details.iter().chain(&errors).map(|it| it.reason.as_str());
        let reasons: Vec<&str> = reasons.filter(|it| !it.is_empty()).collect();
        let by_status = reply.kind(clock);
        let is_overtaken = matches!(self, Self::Change(..)) && is_overtaken(&reasons, &words);
        let known = reasons.iter().find_map(|code| {
            let verdict = self.verdict(code, &words, is_overtaken)?;
            Some((*code, verdict))
        });
        let (code, (kind, what, hint)) = match known {
            Some((code, verdict)) => (code, verdict),
            None if reasons.is_empty() => ("", (by_status, "it gives no reason", REWRITTEN)),
            None => (
                reasons[0],
                (by_status, "it gives a reason that is not known here", ""),
            ),
        };
        // What the status says outright, no word makes something else of.
        let kind = match by_status {
            ErrorKind::Transient => by_status,
            ErrorKind::RateLimited { after: Some(_) } => by_status,
            _ => kind,
        };
        let words = match words.is_empty() {
            true => String::new(),
            false => format!(" ({})", said(&hide(&words, secrets.iter().copied()))),
        };
        let message = format!("{host} answers {status} to {self}: {what}{words}");
        let error = ProviderError::new(kind, message);
        let error = match code.is_empty() {
            true => error,
            false => error.code(said(&hide(code, secrets.iter().copied()))),
        };
        let error = match hint {
            "" => error,
            hint => error.hint(hint),
        };
        Refusal {
            error,
            status,
            is_overtaken,
        }
    }

    fn verdict(&self, code: &str, words: &str, is_overtaken: bool) -> Option<Verdict> {
        let verdict = match code {
            _ if is_overtaken => (ErrorKind::Conflict, "another writer was faster, twice", ""),
            "authError" | "required" if words.contains("credential") => UNKNOWN_TOKEN,
            "authError"
            | "ACCESS_TOKEN_EXPIRED"
            | "ACCESS_TOKEN_TYPE_UNSUPPORTED"
            | "CREDENTIALS_MISSING"
            | "ACCOUNT_STATE_INVALID" => UNKNOWN_TOKEN,
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT" | "insufficientPermissions" => (
                ErrorKind::Permission,
                "the machine's access scopes do not let it change DNS",
                "give the machine the scope cloud-platform or ndev.clouddns.readwrite, or let `credentials` point to a key",
            ),
            "accessNotConfigured" | "SERVICE_DISABLED" => (
                ErrorKind::Permission,
                "the Cloud DNS API is switched off in the project",
                "switch it on with `gcloud services enable dns.googleapis.com`",
            ),
            "inactiveBillingState" | "billingNotEnabled" | "BILLING_DISABLED" => (
                ErrorKind::Permission,
                "the project has no billing account",
                "link a billing account to the project",
            ),
            "CONSUMER_SUSPENDED" | "CONSUMER_INVALID" | "USER_PROJECT_DENIED" => (
                ErrorKind::Permission,
                "the project is suspended, deleted, or is no project",
                "compare `project` with the project's id in the console",
            ),
            "SECURITY_POLICY_VIOLATED" | "vpcServiceControls" => (
                ErrorKind::Permission,
                "a policy of the organisation forbids it from here",
                "let this machine into the service perimeter, or run where it is inside",
            ),
            "forbidden" | "IAM_PERMISSION_DENIED" => (
                ErrorKind::Permission,
                "the credential is good, but no role allows it this",
                self.permission(),
            ),
            "rateLimitExceeded" | "userRateLimitExceeded" | "RATE_LIMIT_EXCEEDED" => (
                ErrorKind::RateLimited {
                    after: Some(BREATH),
                },
                "the project asks more often than it may",
                "other programs of the project count too; it goes on by itself",
            ),
            "dailyLimitExceeded" => (
                ErrorKind::RateLimited {
                    after: Some(LONG_BREATH),
                },
                "the project has made all the requests of this day",
                "ask Google for a higher quota",
            ),
            "quotaExceeded" => (
                ErrorKind::Quota,
                "a limit of the project or of the zone is reached",
                "remove records that nobody needs, or ask Google for a higher quota",
            ),
            "notFound" if words.contains("parameters.project") => (
                ErrorKind::ZoneMissing,
                "there is no such project",
                "compare `project` with the project's id in the console",
            ),
            "notFound" => (
                ErrorKind::ZoneMissing,
                "there is no such zone in the project",
                "compare the name in `zones` with that of the managed zone, and `project` with the zone's project",
            ),
            "cnameResourceRecordSetConflict" => (
                ErrorKind::Invalid,
                "there is a CNAME at the name, and nothing may stand beside one",
                "remove the CNAME, or let it point to a name that may be written",
            ),
            "invalid" | "invalidValue" | "invalidFieldValue" | "INVALID_ARGUMENT"
                if words.contains(".name") =>
            {
                (
                    ErrorKind::Invalid,
                    "the name is not in the zone, or cannot be one",
                    "compare the name in `zones` with that of the managed zone",
                )
            }
            "invalid" | "invalidValue" | "invalidFieldValue" => (
                ErrorKind::Invalid,
                "it does not take one of the values",
                "look at the values that others have at the name",
            ),
            "managedZoneIsReadOnly" | "operationNotAllowed" | "failedPrecondition" => (
                ErrorKind::Unsupported,
                "the zone's records cannot be changed: it is a copy, or forwards elsewhere",
                "change the zone where it is kept",
            ),
            "badRequest" | "parseError" | "required" => (
                ErrorKind::Fatal,
                "it cannot read the request",
                "this is a fault of Countersign's, or of something on the way that rewrites HTTP",
            ),
            "backendError" | "internalError" => (
                ErrorKind::Transient,
                "it has a fault of its own",
                "look at the status page of Google Cloud if it goes on",
            ),
            _ => return None,
        };
        Some(verdict)
    }

    fn permission(&self) -> &'static str {
        match self {
            Self::Lookup(..) => {
                "grant dns.managedZones.list on the project, or write the zone's name into `zones`: then it is not needed"
            }
            Self::Look(..) => "grant dns.resourceRecordSets.list on the zone or the project",
            Self::Change(..) => {
                "grant the role roles/dns.admin on the zone, or dns.changes.create and dns.resourceRecordSets.create, \
                 .update and .delete"
            }
            Self::Settling(..) => "grant dns.changes.get on the zone or the project",
        }
    }
}

const UNKNOWN_TOKEN: Verdict = (
    ErrorKind::Auth,
    "the access token is not good any more",
    "see that the service account is still there and switched on",
);
const REWRITTEN: &str =
    "look whether `endpoint` is Cloud DNS, and whether something on the way rewrites HTTP";

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(name, project) => {
                write!(f, "the search for the zone {name} in the project {project}")
            }
            Self::Look(zone, names) => {
                let Zone { name, id } = zone;
                write!(f, "a look at {} in the zone {name} ({id})", listed(names))
            }
            Self::Change(zone, names) => {
                let Zone { name, id } = zone;
                write!(f, "a change of {} in the zone {name} ({id})", listed(names))
            }
            Self::Settling(zone, change) => {
                write!(f, "the question about change {change} of the zone {zone}")
            }
        }
    }
}

/// Whether the project as a whole asked too often.
pub(super) fn is_throttling(refusal: &Refusal) -> bool {
    let codes = [
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "dailyLimitExceeded",
    ];
    let code = refusal.error.code.as_deref();
    code.is_some_and(|code| codes.contains(&code) || code == "RATE_LIMIT_EXCEEDED")
}

/// A set that should go is another or is gone, or one that should come is there.
fn is_overtaken(reasons: &[&str], words: &str) -> bool {
    let is = |reason: &str| reasons.contains(&reason);
    (is("conditionNotMet") || is("preconditionFailed") || is("notFound"))
        && words.contains("entity.change.deletions")
        || is("alreadyExists") && words.contains("entity.change.additions")
}
