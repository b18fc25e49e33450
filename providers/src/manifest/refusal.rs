//! What a reply means: good, nothing to do, or an error of the closed set with its sentence.

use std::time::Duration;

use serde_json::Value;

use crate::http::{Reply, said};
use crate::secret::{Secret, hide};
use crate::{ErrorKind, ProviderError};

use super::form::Kind;
use super::pointer::Pointer;
use super::session::{Answer, Doing, Session};

/// A shorter secret is not looked for in what a host says: it would be found in every word.
const SHORTEST_SECRET: usize = 4;

impl Session<'_> {
    /// What a reply means.
    pub(super) fn judge(&self, reply: &Reply, doing: Doing<'_>) -> Result<Answer, ProviderError> {
        let json = match reply.body.iter().all(u8::is_ascii_whitespace) {
            true => Ok(Value::Null),
            false => reply.json::<Value>(&self.http.host(), self.hidden()),
        };
        let has = |(way, wanted): &(Pointer, Value), json: &Value| way.one(json) == Some(wanted);
        let success = &self.manifest().success;
        match json {
            Ok(json) if !reply.status.is_success() => self.refused(reply, &json, doing),
            Ok(json) if success.iter().all(|it| has(it, &json)) => Ok(Answer::Good(json)),
            Ok(json) => self.refused(reply, &json, doing),
            Err(_) if !reply.status.is_success() => self.refused(reply, &Value::Null, doing),
            Err(error) => Err(error),
        }
    }

    fn refused(
        &self,
        reply: &Reply,
        json: &Value,
        doing: Doing<'_>,
    ) -> Result<Answer, ProviderError> {
        let errors = &self.manifest().errors;
        let (code, words) = self.said(json);
        let status = reply.status.as_u16();
        let meaning = errors.map.iter().find(|it| {
            it.status.is_none_or(|it| it == status)
                && it.code.as_ref().is_none_or(|it| Some(it) == code.as_ref())
                && it
                    .says
                    .as_ref()
                    .is_none_or(|it| words.as_ref().is_some_and(|words| words.contains(it)))
        });
        let after = reply.retry_after(&self.context.clock);
        let kind = match meaning.map(|it| it.kind) {
            Some(Kind::Done) => return Ok(Answer::Nothing),
            Some(kind) => kind_of(kind, after),
            None if reply.status.is_success() => ErrorKind::Fatal,
            None => reply.kind(&self.context.clock),
        };
        let mut message = format!("{} answers {status}", self.http.host());
        if let Some(code) = &code {
            message.push_str(&format!(" ({code})"));
        }
        message.push_str(&format!(" when {doing}"));
        if reply.status.is_redirection() {
            message.push_str(": it sends elsewhere, and is not followed");
        } else if let Some(words) = words {
            message.push_str(&format!(": {words}"));
        }
        let hint = meaning.and_then(|it| it.hint.clone());
        Err(ProviderError {
            code,
            hint: hint.or_else(|| self.hint(kind)),
            ..ProviderError::new(kind, message)
        })
    }

    /// An accepted change that came to nothing.
    pub(super) fn failed(&self, receipt: &str, reply: &Value) -> ProviderError {
        let (code, words) = self.said(reply);
        let words = words.map_or_else(String::new, |it| format!(": {it}"));
        let host = self.http.host();
        let message = format!("{host} says that the change {receipt} failed{words}");
        ProviderError {
            code,
            ..ProviderError::new(ErrorKind::Transient, message)
        }
    }

    /// The reply is not what the manifest says.
    pub(super) fn odd(&self, what: &str) -> ProviderError {
        let host = self.http.host();
        let message =
            format!("{host} answered with something other than its manifest says: {what}");
        ProviderError::new(ErrorKind::Fatal, message)
    }

    /// The host's code and words, for the end of a sentence.
    fn said(&self, json: &Value) -> (Option<String>, Option<String>) {
        let errors = &self.manifest().errors;
        let first = |ways: &[Pointer]| ways.iter().find_map(|way| way.text_of(json));
        let clean = |words: String| {
            let words = hide(&words, self.hidden());
            said(words.trim_end_matches(|c: char| c == '.' || c.is_whitespace()))
        };
        (
            first(&errors.code).map(clean),
            first(&errors.message).map(clean),
        )
    }

    /// A host may repeat in its refusal what it was sent.
    fn hidden(&self) -> impl Iterator<Item = &Secret> {
        let secrets = self.secrets.values().map(|(secret, _)| secret);
        secrets.filter(|secret| secret.expose().len() >= SHORTEST_SECRET)
    }

    /// What a person can do where the manifest says nothing else.
    fn hint(&self, kind: ErrorKind) -> Option<String> {
        let manifest = self.manifest();
        let secrets = manifest.secrets.iter();
        let secrets: Vec<String> = secrets
            .map(|(name, about)| format!("`{name}` is to be {about}"))
            .collect();
        let secrets = secrets.join(", ");
        match kind {
            ErrorKind::Auth => Some(format!("{secrets}; look whether it is still good there")),
            ErrorKind::Permission => Some(secrets),
            ErrorKind::ZoneMissing => Some(format!(
                "is the zone at {}, in the account of this credential?",
                manifest.name
            )),
            _ => None,
        }
    }
}

fn kind_of(kind: Kind, after: Option<Duration>) -> ErrorKind {
    match kind {
        Kind::Auth => ErrorKind::Auth,
        Kind::Permission => ErrorKind::Permission,
        Kind::ZoneMissing => ErrorKind::ZoneMissing,
        Kind::Conflict => ErrorKind::Conflict,
        Kind::RateLimited => ErrorKind::RateLimited { after },
        Kind::Quota => ErrorKind::Quota,
        Kind::Invalid => ErrorKind::Invalid,
        Kind::Transient => ErrorKind::Transient,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Fatal | Kind::Done => ErrorKind::Fatal,
    }
}
