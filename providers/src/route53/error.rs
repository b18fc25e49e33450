//! What a refusal of Route 53 or of the Security Token Service means, whose move it is, and the sentence a person reads.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::http::{Reply, said};
use crate::{ErrorKind, ProviderError};

use super::sets::plain_name;
use super::xml::{self, Refusal};

/// Asked too often, or too early: neither reply says how long to wait.
const BREATH: Duration = Duration::from_secs(2);
/// The codes by which Amazon's services say that they are asked too often.
const THROTTLING: [&str; 4] = [
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
];

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    ListZones,
    GetZone,
    ListSets,
    Change,
    GetChange,
    AssumeRole,
}

impl Call {
    /// As a policy names it.
    fn action(self) -> &'static str {
        match self {
            Self::ListZones => "route53:ListHostedZonesByName",
            Self::GetZone => "route53:GetHostedZone",
            Self::ListSets => "route53:ListResourceRecordSets",
            Self::Change => "route53:ChangeResourceRecordSets",
            Self::GetChange => "route53:GetChange",
            Self::AssumeRole => "sts:AssumeRole",
        }
    }
}

/// What a reply is about, for the sentence about it.
pub(super) struct Blame {
    pub(super) host: String,
    pub(super) call: Call,
    /// `zone example.com (Z1)`
    pub(super) what: String,
}

/// A kind, what is the matter, and what can be done.
type Verdict = (ErrorKind, &'static str, &'static str);

impl Blame {
    /// The body as the document it should be.
    pub(super) fn read<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, ProviderError> {
        xml::read(&reply.body).map_err(|why| self.unreadable(reply, &why))
    }

    /// A list that does not end.
    pub(super) fn endless(&self) -> ProviderError {
        let Self { host, what, .. } = self;
        let message = format!("{host} lists page after page for {what} without an end");
        ProviderError::new(ErrorKind::Fatal, message).hint("look whether `endpoint` is Route 53")
    }

    /// A reply that cannot be used, and why, where that may be shown.
    pub(super) fn unreadable(&self, reply: &Reply, why: &str) -> ProviderError {
        let Self { host, what, .. } = self;
        let status = reply.status.as_u16();
        let mut message =
            format!("{host} answered {status} for {what} with something other than it documents");
        if !why.is_empty() {
            message = format!("{message}: {why}");
        }
        ProviderError::new(ErrorKind::Fatal, message).hint(
            "look whether `endpoint` is Route 53, and whether something on the way rewrites HTTP",
        )
    }

    /// What a reply without success means.
    pub(super) fn refused(&self, reply: &Reply, clock: &Clock) -> ProviderError {
        let Refusal { code, messages } = xml::refusal(&reply.body);
        let words = said(&messages.join("; "));
        let Self { host, what, .. } = self;
        if code.is_empty() {
            let status = reply.status.as_u16();
            let message = format!("{host} answered {status} for {what} without saying why");
            return ProviderError::new(reply.kind(clock), message)
                .hint("look whether `endpoint` is Route 53, and whether something on the way rewrites HTTP");
        }
        let (kind, verdict, hint) = self.verdict(&code, &words).unwrap_or((
            reply.kind(clock),
            "it gives a reason that is not known here",
            "look the code up in the API reference of Route 53",
        ));
        let message = match words.is_empty() {
            true => format!(
                "{host} refuses {} for {what}: {verdict}",
                self.call.action()
            ),
            false => format!(
                "{host} refuses {} for {what}: {verdict} ({words})",
                self.call.action()
            ),
        };
        let error = ProviderError::new(kind, message).code(said(&code));
        match hint {
            "" => error,
            hint => error.hint(hint),
        }
    }

    fn verdict(&self, code: &str, words: &str) -> Option<Verdict> {
        let of_role = self.call == Call::AssumeRole;
        let verdict = match code {
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" if of_role => (
                ErrorKind::Permission,
                "this credential may not take that role",
                "the role's trust policy must name this credential's user or role (and `external-id`, if it asks for one), \
                 and an IAM policy of that user or role must allow sts:AssumeRole",
            ),
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => (
                ErrorKind::Permission,
                "the credential is good, but no policy allows it this",
                self.permission(),
            ),
            "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidAccessKeyId"
            | "AuthFailure" => (
                ErrorKind::Auth,
                "the access key is not known there",
                "it was deleted or switched off, lacks its session token, or belongs to another partition (`region`)",
            ),
            "SignatureDoesNotMatch"
            | "InvalidSignatureException"
            | "RequestExpired"
            | "RequestTimeTooSkewed"
                if is_about_time(code, words) =>
            {
                (
                    ErrorKind::Auth,
                    "the clock here and the one there differ by too much",
                    "set this machine's clock, best by NTP; five minutes are allowed",
                )
            }
            "SignatureDoesNotMatch" | "InvalidSignatureException" => (
                ErrorKind::Auth,
                "the secret access key is not the one of that access key",
                "copy the secret again; make a new access key if it is lost",
            ),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => (
                ErrorKind::Auth,
                "the session that the credential belongs to is over",
                "a session in the environment or in a profile is not renewed by itself; use a role, an instance profile or \
                 an access key instead",
            ),
            "IncompleteSignature" | "MissingAuthenticationToken" | "InvalidToken" => (
                ErrorKind::Auth,
                "the credential is not complete",
                "an access key that begins with ASIA needs its session token beside the secret",
            ),
            "OptInRequired" | "SubscriptionRequiredException" | "PendingVerification" => (
                ErrorKind::Permission,
                "the account has not been made ready for Route 53",
                "finish the account's registration in the console",
            ),
            "NotAuthorizedException" | "AccountProblem" | "Blocked" => (
                ErrorKind::Permission,
                "the account is blocked",
                "ask AWS support",
            ),
            "RegionDisabledException" => (
                ErrorKind::Permission,
                "the Security Token Service is switched off in that region for this account",
                "switch it on in the console, or set another `region`",
            ),
            "NoSuchHostedZone" | "HostedZoneNotFound" => (
                ErrorKind::ZoneMissing,
                "there is no such zone in the account that this credential belongs to",
                "compare the id in `zones`; a zone of another account needs `assume-role`",
            ),
            "NoSuchChange" => (ErrorKind::Invalid, "it is not known there any more", ""),
            "InvalidDomainName" => (ErrorKind::Invalid, "it takes no such name", ""),
            "InvalidInput" | "ValidationError" if of_role => (
                ErrorKind::Invalid,
                "the role, the external id or the session name cannot be one",
                "compare `assume-role` with the role's ARN",
            ),
            "InvalidInput" | "ValidationError" => (
                ErrorKind::Invalid,
                "it does not take the request",
                "compare the id in `zones`, if there is one",
            ),
            "LimitsExceeded" | "TooManyHostedZones" => (
                ErrorKind::Quota,
                "a limit of the account is reached",
                "ask AWS for a higher limit",
            ),
            "PriorRequestNotComplete" => (
                ErrorKind::RateLimited {
                    after: Some(BREATH),
                },
                "an earlier change of this zone is still being made",
                "another program changes the zone too; it goes on by itself",
            ),
            code if THROTTLING.contains(&code) => (
                ErrorKind::RateLimited {
                    after: Some(BREATH),
                },
                "the account asks more often than it may",
                "other programs of the account count too; it goes on by itself",
            ),
            "InternalFailure" | "InternalError" | "InternalServerError" => (
                ErrorKind::Transient,
                "it has a fault of its own",
                "look at the AWS Health Dashboard if it goes on",
            ),
            "ServiceUnavailable" | "ServiceUnavailableException" | "RequestTimeout" => (
                ErrorKind::Transient,
                "it is not available at the moment",
                "look at the AWS Health Dashboard if it goes on",
            ),
            "UnknownOperationException" | "InvalidAction" | "NotImplemented" => (
                ErrorKind::Unsupported,
                "it does not know this call",
                "look whether `endpoint` is Route 53",
            ),
            "MalformedInput" | "MalformedXML" | "InvalidXML" | "InvalidArgument" => (
                ErrorKind::Fatal,
                "it cannot read the request",
                "this is a fault of Countersign's, or of something on the way that rewrites HTTP",
            ),
            _ => return None,
        };
        Some(verdict)
    }

    fn permission(&self) -> &'static str {
        match self.call {
            Call::ListZones => {
                "allow route53:ListHostedZonesByName on `*`, or write the id into `zones`: then it is not needed"
            }
            Call::GetZone => {
                "allow route53:GetHostedZone on the zone, or write the id into `zones`: then it is not needed"
            }
            Call::ListSets => "allow route53:ListResourceRecordSets on the zone",
            Call::Change => {
                "allow route53:ChangeResourceRecordSets on the zone for CREATE and DELETE of TXT at this name"
            }
            Call::GetChange => "allow route53:GetChange on arn:aws:route53:::change/*",
            Call::AssumeRole => "allow sts:AssumeRole on the role",
        }
    }

    /// What a refused batch means that was not overtaken by somebody else's change.
    pub(super) fn bad_batch(&self, refusal: &Refusal) -> ProviderError {
        let words = refusal.messages.join("; ");
        let (kind, verdict, hint) = bad_batch(&words).unwrap_or((
            ErrorKind::Invalid,
            "it does not take one of the changes",
            "look whether the name may have a TXT record in this zone",
        ));
        let Self { host, what, .. } = self;
        let message = format!(
            "{host} refuses to change {what}: {verdict} ({})",
            said(&words)
        );
        let error = ProviderError::new(kind, message).code(refusal.code.clone());
        error.hint(hint)
    }

    /// Somebody else changed the set again between reading it and replacing it.
    pub(super) fn overtaken(&self, refusal: &Refusal) -> ProviderError {
        let words = said(&refusal.messages.join("; "));
        let Self { host, what, .. } = self;
        let message =
            format!("{host} refuses to change {what}: another writer was faster, twice ({words})");
        ProviderError::new(ErrorKind::Conflict, message).code(refusal.code.clone())
    }
}

/// Whether the account as a whole asked too often.
pub(super) fn is_throttling(error: &ProviderError) -> bool {
    (error.code.as_deref()).is_some_and(|code| THROTTLING.contains(&code))
}

/// The reasons that no second look can remove.
fn bad_batch(words: &str) -> Option<Verdict> {
    let has = |part: &str| words.contains(part);
    if has("conflicting RRSet of type CNAME") {
        return Some((
            ErrorKind::Invalid,
            "there is a CNAME at the name, and nothing may stand beside one",
            "remove the CNAME, or let it point to a name that may be written",
        ));
    }
    if has("SetIdentifier") || has("multivalue") || has("weighted") {
        return Some((
            ErrorKind::Invalid,
            "the record set at the name has a routing policy, which is left alone",
            "replace it by one simple record set, or delegate the name elsewhere by a CNAME",
        ));
    }
    if has("is not permitted in zone") {
        return Some((
            ErrorKind::Invalid,
            "the name is not in the zone",
            "compare the id in `zones` with the zone's name",
        ));
    }
    if has("limit of") && has("exceeded") {
        return Some((
            ErrorKind::Quota,
            "the zone or the set has as many records as it may",
            "remove records that nobody needs, or ask AWS for a higher limit",
        ));
    }
    if has("Invalid Resource Record")
        || has("Duplicate Resource Record")
        || has("InvalidCharacterString")
    {
        return Some((
            ErrorKind::Invalid,
            "it does not take one of the values",
            "look at the values that others have at the name",
        ));
    }
    None
}

/// The names of sets that are not what they were taken for; `None` when a batch was refused for another reason too.
/// Where the host does not say which, all may be.
pub(super) fn overtaken(refusal: &Refusal) -> Option<Vec<String>> {
    let words = refusal.messages.join("; ");
    let is_overtaken = [
        "already exists",
        "was not found",
        "do not match the current values",
    ]
    .iter()
    .any(|part| words.contains(part));
    if !is_overtaken || bad_batch(&words).is_some() {
        return None;
    }
    let names = words
        .split("name='")
        .skip(1)
        .filter_map(|rest| rest.split_once('\''));
    Some(names.map(|(name, _)| plain_name(name)).collect())
}

fn is_about_time(code: &str, words: &str) -> bool {
    ["RequestExpired", "RequestTimeTooSkewed"].contains(&code)
        || [
            "Signature expired",
            "Signature not yet current",
            "Request is expired",
        ]
        .iter()
        .any(|part| words.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(messages: &[&str]) -> Refusal {
        Refusal {
            code: "InvalidChangeBatch".to_owned(),
            messages: messages.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn the_names_of_overtaken_sets_are_read_from_both_forms_of_the_refusal() {
        let exists = "Tried to create resource record set [name='a.test.', type='TXT'] but it already exists";
        let differs = "Tried to delete resource record set [name='\\052.test.', type='TXT'] but the values provided do not match the current values";
        let gone =
            "Tried to delete resource record set [name='C.test.', type='TXT'] but it was not found";
        let wanted = ["a.test", "*.test", "c.test"].map(str::to_owned).to_vec();
        assert_eq!(
            overtaken(&batch(&[exists, differs, gone])),
            Some(wanted.clone())
        );
        let one = format!("[{exists}, {differs}, {gone}]");
        assert_eq!(overtaken(&batch(&[&one])), Some(wanted));
        assert_eq!(overtaken(&batch(&["The set already exists"])), Some(vec![]));
    }

    #[test]
    fn what_no_second_look_removes_is_not_taken_for_overtaken() {
        let cname = "RRSet of type TXT with DNS name a.test. is not permitted because a conflicting RRSet of type \
                     CNAME with the same DNS name already exists in zone test.";
        assert_eq!(overtaken(&batch(&[cname])), None);
        assert_eq!(overtaken(&batch(&[])), None);
        let exists = "Tried to create resource record set [name='a.test.', type='TXT'] but it already exists";
        assert_eq!(overtaken(&batch(&[exists, cname])), None);
    }
}
