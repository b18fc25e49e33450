//! Problem documents, RFC 8555 section 6.7 and RFC 7807: what the authority says when it refuses.

use std::time::Duration;

use serde_json::{Value, json};

/// The registered error types of RFC 8555 section 6.7 (and RFC 9773, the profiles draft) in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named as the standard names it")]
pub enum Kind {
    AccountDoesNotExist,
    AlreadyRevoked,
    BadCsr,
    BadNonce,
    BadPublicKey,
    BadRevocationReason,
    BadSignatureAlgorithm,
    Dns,
    InvalidContact,
    InvalidProfile,
    Malformed,
    OrderNotReady,
    RateLimited,
    RejectedIdentifier,
    ServerInternal,
    Unauthorized,
    UnsupportedContact,
    UnsupportedIdentifier,
    UserActionRequired,
}

impl Kind {
    /// The last part of the URN.
    pub fn name(self) -> &'static str {
        match self {
            Kind::AccountDoesNotExist => "accountDoesNotExist",
            Kind::AlreadyRevoked => "alreadyRevoked",
            Kind::BadCsr => "badCSR",
            Kind::BadNonce => "badNonce",
            Kind::BadPublicKey => "badPublicKey",
            Kind::BadRevocationReason => "badRevocationReason",
            Kind::BadSignatureAlgorithm => "badSignatureAlgorithm",
            Kind::Dns => "dns",
            Kind::InvalidContact => "invalidContact",
            Kind::InvalidProfile => "invalidProfile",
            Kind::Malformed => "malformed",
            Kind::OrderNotReady => "orderNotReady",
            Kind::RateLimited => "rateLimited",
            Kind::RejectedIdentifier => "rejectedIdentifier",
            Kind::ServerInternal => "serverInternal",
            Kind::Unauthorized => "unauthorized",
            Kind::UnsupportedContact => "unsupportedContact",
            Kind::UnsupportedIdentifier => "unsupportedIdentifier",
            Kind::UserActionRequired => "userActionRequired",
        }
    }

    /// The HTTP status that goes with it unless the situation asks for another.
    fn status(self) -> u16 {
        match self {
            Kind::OrderNotReady | Kind::Unauthorized | Kind::UserActionRequired => 403,
            Kind::RateLimited => 429,
            Kind::ServerInternal => 500,
            _ => 400,
        }
    }
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct Problem {
    pub(crate) kind: Kind,
    pub(crate) status: u16,
    pub(crate) detail: String,
    pub(crate) retry_after: Option<Duration>,
    /// Apart, since few refusals have any of it and every function returns a `Problem`.
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default)]
struct More {
    parts: Vec<Part>,
    /// A header that the kind of refusal calls for, such as `Link` or `Location`.
    header: Option<(&'static str, String)>,
    instance: Option<String>,
}

/// A subproblem: the name that it is about, and the refusal.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    pub(crate) name: String,
}

impl Problem {
    /// A refusal with the usual HTTP status of its kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem {
            kind,
            status: kind.status(),
            detail: detail.into(),
            retry_after: None,
            more: None,
        }
    }

    /// The same with another HTTP status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Problem {
        self.status = status;
        self
    }

    /// The same with a `Retry-After` header.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Problem {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::Malformed, detail)
    }

    pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(Kind::Unauthorized, detail)
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Problem {
        self.more().header = Some((name, value));
        self
    }

    pub(crate) fn take_header(&mut self) -> Option<(&'static str, String)> {
        self.more.as_mut()?.header.take()
    }

    pub(crate) fn instance(mut self, url: String) -> Problem {
        self.more().instance = Some(url);
        self
    }

    pub(crate) fn parts(mut self, parts: Vec<Part>) -> Problem {
        self.more().parts = parts;
        self
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The document.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({
            "type": urn(self.kind),
            "detail": self.detail,
            "status": self.status,
        });
        if let Some(more) = &self.more {
            if !more.parts.is_empty() {
                document["subproblems"] = more.parts.iter().map(part_document).collect();
            }
            if let Some(instance) = &more.instance {
                document["instance"] = json!(instance);
            }
        }
        if self.kind == Kind::BadSignatureAlgorithm {
            document["algorithms"] = json!(["ES256", "ES384", "RS256"]);
        }
        document
    }
}

fn urn(kind: Kind) -> String {
    format!("urn:ietf:params:acme:error:{}", kind.name())
}

fn part_document(part: &Part) -> Value {
    json!({
        "type": urn(part.kind),
        "detail": part.detail,
        "identifier": {"type": "dns", "value": part.name},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subproblems_name_their_identifier() {
        let problem = Problem::new(Kind::RejectedIdentifier, "no").parts(vec![Part {
            kind: Kind::RejectedIdentifier,
            detail: "forbidden".into(),
            name: "a.test".into(),
        }]);
        let document = problem.document();
        assert_eq!(
            document["type"],
            "urn:ietf:params:acme:error:rejectedIdentifier"
        );
        assert_eq!(document["subproblems"][0]["identifier"]["value"], "a.test");
    }
}
