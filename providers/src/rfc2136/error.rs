//! What a server's refusal means, whose move it is, and the sentence a person reads.
//!
//! A question and an update that are refused with the same code need not mean the same: BIND, Knot and PowerDNS differ,
//! and the reply does not say which of them sent it. Each sentence here is true on all of them.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::message::Reply;
use super::tsig::{FUDGE, Key, KeyError, Signature};
use crate::record::DnsName;
use crate::words::listed;
use crate::{ErrorKind, ProviderError};

/// What PowerDNS leaves us to say: it does not sign a refusal that has to do with the key.
const NOT_SAID_WHICH: &str = "key, secret, clock or address refused; the server does not say which";
/// Knot says BADKEY for both.
const UNKNOWN_OR_NOT_ALLOWED: &str = "key unknown, or not allowed to change this name";

/// What a reply is about, for the sentence about it.
pub(super) struct Blame<'a> {
    server: &'a str,
    key: Option<&'a Key>,
    about: About<'a>,
}

enum About<'a> {
    Question(&'a DnsName),
    Update {
        zone: &'a DnsName,
        names: &'a [DnsName],
    },
}

impl<'a> Blame<'a> {
    /// The question about `name`.
    pub(super) fn of_question(server: &'a str, key: Option<&'a Key>, name: &'a DnsName) -> Self {
        let about = About::Question(name);
        Self { server, key, about }
    }

    /// The update of `names` in `zone`, after questions with the same key were answered.
    pub(super) fn of_update(
        server: &'a str,
        key: Option<&'a Key>,
        zone: &'a DnsName,
        names: &'a [DnsName],
    ) -> Self {
        let about = About::Update { zone, names };
        Self { server, key, about }
    }

    /// Fails unless `reply` answers a question, with or without records.
    pub(super) fn unless_answer(&self, reply: &Reply) -> Result<(), ProviderError> {
        match (reply.signature, reply.code()) {
            (Signature::Fault { error, server_time }, _) => {
                Err(self.key_fault(error, server_time, reply.asked_at))
            }
            (_, ResponseCode::NoError | ResponseCode::NXDomain) => Ok(()),
            (signature, code) => Err(self.question_refused(code, signature)),
        }
    }

    /// Fails unless `reply` says that the update was made.
    pub(super) fn unless_done(&self, reply: &Reply) -> Result<(), ProviderError> {
        match (reply.signature, reply.code()) {
            (Signature::Fault { error, server_time }, _) => {
                Err(self.key_fault(error, server_time, reply.asked_at))
            }
            (_, ResponseCode::NoError) => self.unless_trusted(reply),
            (signature, code) => Err(self.update_refused(code, signature)),
        }
    }

    /// Fails when `reply` should be signed and is not, or not well.
    pub(super) fn unless_trusted(&self, reply: &Reply) -> Result<(), ProviderError> {
        let what = match reply.trusted() {
            true => return Ok(()),
            false if reply.signature == Signature::Absent => "without a signature",
            false => "with a signature that does not fit",
        };
        let (server, key) = (self.server, self.key_name());
        Err(ProviderError {
            // The change may have been made: only its confirmation is missing.
            kind: ErrorKind::Transient,
            code: None,
            partly: false,
            theirs: false,
            message: format!("{server} answers {what}, though asked with {key}"),
            hint: Some("look for something between here and the server that rewrites DNS".into()),
        })
    }

    fn key_fault(&self, error: TsigError, server_time: Option<u64>, now: u64) -> ProviderError {
        let (server, key) = (self.server, self.key_name());
        let (kind, code, what, hint) = match error {
            TsigError::BadKey => {
                let (kind, hint) = self.bad_key();
                (
                    kind,
                    "BADKEY".into(),
                    UNKNOWN_OR_NOT_ALLOWED.to_owned(),
                    hint,
                )
            }
            TsigError::BadSig => (
                ErrorKind::Auth,
                "BADSIG".into(),
                "the secret here is not the one that the server has".to_owned(),
                "copy the key's secret from the server again".to_owned(),
            ),
            TsigError::BadTime => (
                ErrorKind::Auth,
                "BADTIME".into(),
                skew(server_time, now),
                "set the clock that is wrong, best by NTP".to_owned(),
            ),
            other => (
                ErrorKind::Auth,
                format!("TSIG error {}", u16::from(other)),
                "it does not accept the signature".to_owned(),
                "compare the key's algorithm with the server's".to_owned(),
            ),
        };
        ProviderError {
            partly: false,
            theirs: false,
            kind,
            message: format!("{server} answers {code} to {key}: {what}"),
            code: Some(code),
            hint: Some(hint),
        }
    }

    fn bad_key(&self) -> (ErrorKind, String) {
        match self.about {
            About::Question(_) => (
                ErrorKind::Auth,
                "compare the key's name and algorithm with the server's".to_owned(),
            ),
            About::Update { .. } => (
                ErrorKind::Permission,
                format!(
                    "the server knows the key, for it answered questions with it; allow it to change TXT at {}",
                    self.subject()
                ),
            ),
        }
    }

    fn question_refused(&self, code: ResponseCode, signature: Signature) -> ProviderError {
        let (server, name) = (self.server, self.subject());
        let (kind, message, hint) = match (code, signature) {
            (ResponseCode::NotAuth, Signature::Absent) => (
                ErrorKind::Auth,
                format!(
                    "{server} does not accept {}: {NOT_SAID_WHICH}",
                    self.key_name()
                ),
                "compare key name, algorithm and secret with the server's, then the clocks; the server's own log says more",
            ),
            (ResponseCode::Refused, _) => (
                ErrorKind::Permission,
                format!("{server} refuses to answer for {name}"),
                "it does not hold the zone, or does not answer this address (BIND: `allow-query`)",
            ),
            (ResponseCode::ServFail, _) => (
                ErrorKind::Transient,
                format!("{server} answers SERVFAIL for {name}"),
                "the zone may have expired or failed to load there",
            ),
            (code, _) => (
                ErrorKind::Unsupported,
                format!("{server} answers {} for {name}", mnemonic(code)),
                "check that this is the zone's primary server",
            ),
        };
        failure(kind, code, message, hint)
    }

    fn update_refused(&self, code: ResponseCode, signature: Signature) -> ProviderError {
        let About::Update { zone, .. } = self.about else {
            return self.question_refused(code, signature);
        };
        let (server, names) = (self.server, self.subject());
        match (code, signature) {
            (ResponseCode::Refused, Signature::Absent | Signature::Wrong) => failure(
                ErrorKind::Permission,
                code,
                format!("{server} refuses to change {zone}: {NOT_SAID_WHICH}"),
                "the server answered questions with this key, so look first at who may update the zone (PowerDNS: \
                 `TSIG-ALLOW-DNSUPDATE` and `allow-dnsupdate-from`)",
            ),
            (ResponseCode::Refused, Signature::NotWanted) => failure(
                ErrorKind::Auth,
                code,
                format!("{server} refuses to change {zone} for a request without a key"),
                "set `tsig`, or let the server take updates from this address",
            ),
            (ResponseCode::Refused, _) => failure(
                ErrorKind::Permission,
                code,
                format!(
                    "{server} refuses to change TXT at {names}: {} is good but may not",
                    self.key_name()
                ),
                "allow it there, with BIND by `update-policy { grant KEY name NAME TXT; };`",
            ),
            (ResponseCode::NotAuth, Signature::NotWanted) => failure(
                ErrorKind::Auth,
                code,
                format!(
                    "{server} answers NOTAUTH: it does not hold the zone {zone}, or takes no updates without a key"
                ),
                "set `tsig`, and check that this is the zone's primary server",
            ),
            (ResponseCode::NotAuth, _) => failure(
                ErrorKind::ZoneMissing,
                code,
                format!("{server} answers NOTAUTH: it does not hold the zone {zone}"),
                "name the zone's primary server, or correct `zone`",
            ),
            (ResponseCode::NotZone, _) => failure(
                ErrorKind::Invalid,
                code,
                format!("{server} answers NOTZONE: {names} is not in the zone {zone}"),
                "leave `zone` out, so that the server is asked for it",
            ),
            (ResponseCode::NotImp, _) => failure(
                ErrorKind::Unsupported,
                code,
                format!("{server} answers NOTIMP: it takes no updates of the zone {zone}"),
                "name the zone's primary server; a secondary must be set to pass updates on",
            ),
            (ResponseCode::ServFail, _) => failure(
                ErrorKind::Transient,
                code,
                format!("{server} answers SERVFAIL to a change of {zone}"),
                "the server's own log says why; often it cannot write its journal",
            ),
            (code, _) => failure(
                ErrorKind::Invalid,
                code,
                format!("{server} answers {} to a change of {names}", mnemonic(code)),
                "the server's own log says why",
            ),
        }
    }

    /// The server passed the question on, or answered from a zone above.
    pub(super) fn not_authoritative(&self, zone: &DnsName) -> ProviderError {
        let (server, name) = (self.server, self.subject());
        ProviderError {
            partly: false,
            theirs: false,
            kind: ErrorKind::Invalid,
            code: None,
            message: format!(
                "{server} is not authoritative for {name}, though it was found to hold the zone {zone}"
            ),
            hint: Some(format!(
                "{name} is delegated away: change it where it is delegated to"
            )),
        }
    }

    /// A CNAME is where the value should be.
    pub(super) fn shadowed(&self, target: &str) -> ProviderError {
        let (server, name) = (self.server, self.subject());
        let target = target.strip_suffix('.').unwrap_or(target);
        ProviderError {
            partly: false,
            theirs: false,
            kind: ErrorKind::Invalid,
            code: Some("CNAME".into()),
            message: format!("{server} cannot hold a TXT at {name}: there is a CNAME to {target}"),
            hint: Some(format!("remove the CNAME, or put the value at {target}")),
        }
    }

    /// NOERROR, but the value is not there.
    pub(super) fn missing_after(&self, value: &str) -> ProviderError {
        let (server, name) = (self.server, self.subject());
        ProviderError {
            partly: false,
            theirs: false,
            kind: ErrorKind::Transient,
            code: None,
            message: format!(
                "{server} says that it added the TXT {value} at {name}, but does not show it"
            ),
            hint: Some("a secondary that passes updates on lags behind: name the primary".into()),
        }
    }

    /// NOERROR, but the value is still there.
    pub(super) fn left_after(&self, value: &str) -> ProviderError {
        let (server, name) = (self.server, self.subject());
        ProviderError {
            partly: false,
            theirs: false,
            kind: ErrorKind::Transient,
            code: None,
            message: format!(
                "{server} says that it removed the TXT {value} at {name}, but still shows it"
            ),
            hint: Some("a secondary that passes updates on lags behind: name the primary".into()),
        }
    }

    /// The prerequisites failed twice.
    pub(super) fn overtaken(&self) -> ProviderError {
        let (server, names) = (self.server, self.subject());
        ProviderError {
            partly: false,
            theirs: false,
            kind: ErrorKind::Conflict,
            code: None,
            message: format!(
                "somebody else changed the TXT at {names} on {server} twice between reading and writing"
            ),
            hint: None,
        }
    }

    fn subject(&self) -> String {
        match self.about {
            About::Question(name) => name.to_string(),
            About::Update { zone, names: [] } => zone.to_string(),
            About::Update { names, .. } => listed(names),
        }
    }

    fn key_name(&self) -> String {
        match self.key {
            None => "no key".to_owned(),
            Some(key) => format!("the key {} ({})", key.name, key.algorithm.as_str()),
        }
    }
}

/// Whether a prerequisite did not hold (RFC 2136 section 3.2).
pub(super) fn is_unmet_prerequisite(reply: &Reply) -> bool {
    matches!(
        reply.code(),
        ResponseCode::YXRRSet
            | ResponseCode::NXRRSet
            | ResponseCode::YXDomain
            | ResponseCode::NXDomain
    )
}

/// Part of the changes was made before `fault`, so that it no longer says that nothing was.
pub(super) fn partly_done(fault: ProviderError) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Transient,
        message: format!("part of the changes was made, then: {}", fault.message),
        ..fault
    }
}

/// There is no key.
pub(super) fn unreadable_key(fault: &KeyError) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Auth,
        code: None,
        message: format!("the TSIG key cannot be used: {fault}"),
        hint: Some("correct `tsig` in the configuration, or what it names".to_owned()),
    }
}

/// The server's name in the settings is none.
pub(super) fn bad_server(why: &str) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Invalid,
        code: None,
        message: why.to_owned(),
        hint: None,
    }
}

/// The server's name has no address.
pub(super) fn no_address(server: &str, why: &str) -> ProviderError {
    transient(server, "has no address", why)
}

/// Nothing came in time.
pub(super) fn timeout(server: &str, time: Duration) -> ProviderError {
    let time = format!("no answer within {:.1} s", time.as_secs_f32());
    transient(server, "cannot be asked", &time)
}

/// The connection failed.
pub(super) fn transport(server: &str, why: &str) -> ProviderError {
    let mut error = transient(server, "cannot be asked", why);
    error.hint = Some("see that the server runs, and that `server` names it".to_owned());
    error
}

/// The verb's time was over before it began.
pub(super) fn past_deadline(server: &str) -> ProviderError {
    transient(server, "was not asked", "the time for it is over")
}

/// No message can be made of it.
pub(super) fn unsendable(server: &str, why: &str) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Invalid,
        code: None,
        message: format!("no message for {server} can be made: {why}"),
        hint: None,
    }
}

/// The name does not fit into a message.
pub(super) fn name_too_long(name: &DnsName) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Invalid,
        code: None,
        message: format!("{name} is too long for a DNS name"),
        hint: None,
    }
}

fn transient(server: &str, what: &str, why: &str) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind: ErrorKind::Transient,
        code: None,
        message: format!("{server} {what}: {why}"),
        hint: None,
    }
}

fn failure(kind: ErrorKind, code: ResponseCode, message: String, hint: &str) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind,
        code: Some(mnemonic(code)),
        message,
        hint: Some(hint.to_owned()),
    }
}

/// How the clocks differ, by a reply that the server signed.
fn skew(server_time: Option<u64>, now: u64) -> String {
    let Some(theirs) = server_time else {
        return format!(
            "the clocks differ by more than {FUDGE} s; the reply does not prove by how much"
        );
    };
    let way = match theirs > now {
        true => "behind",
        false => "ahead of",
    };
    format!(
        "the clock here is {} s {way} the server's, allowed are {FUDGE} s",
        theirs.abs_diff(now)
    )
}

/// The code as the registry spells it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::YXDomain => "YXDOMAIN".into(),
        ResponseCode::YXRRSet => "YXRRSET".into(),
        ResponseCode::NXRRSet => "NXRRSET".into(),
        ResponseCode::NotAuth => "NOTAUTH".into(),
        ResponseCode::NotZone => "NOTZONE".into(),
        other => format!("RCODE {}", u16::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_clock_is_behind() {
        let allowed = "the server's, allowed are 300 s";
        assert_eq!(
            skew(Some(5000), 1000),
            format!("the clock here is 4000 s behind {allowed}")
        );
        assert_eq!(
            skew(Some(1000), 5000),
            format!("the clock here is 4000 s ahead of {allowed}")
        );
    }
}
