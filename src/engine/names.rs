//! Host names, wildcards, challenge names and values.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_providers::record::{DnsName, NameError};
use serde::{Deserialize, Serialize};

/// The label that a challenge's TXT record stands at (RFC 8555 section 8.4).
const CHALLENGE_LABEL: &str = "_acme-challenge";
/// The longest name of a certificate in the configuration.
const MAX_CERTIFICATE_NAME: usize = 63;

/// The key of a certificate under `certificates`: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CertificateName(String);

impl CertificateName {
    /// Parses a name; `None` when it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let good = !text.is_empty()
            && text.len() <= MAX_CERTIFICATE_NAME
            && !text.starts_with('-')
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        good.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CertificateName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not the name of a certificate"))
    }
}

impl From<CertificateName> for String {
    fn from(name: CertificateName) -> Self {
        name.0
    }
}

/// A name on a certificate: a host name, or a wildcard over one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identifier {
    /// The name without `*.`.
    pub base: DnsName,
    /// Whether it is `*.base`.
    pub wildcard: bool,
}

impl Identifier {
    /// Parses `example.com` or `*.example.com`, already in A-labels.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(rest) => Ok(Self {
                base: DnsName::parse(rest)?,
                wildcard: true,
            }),
            None => Ok(Self {
                base: DnsName::parse(text)?,
                wildcard: false,
            }),
        }
    }

    /// Whether a certificate for `self` also serves `other` (RFC 6125 section 6.4.3: one label).
    pub fn covers(&self, other: &Self) -> bool {
        self == other
            || (self.wildcard
                && !other.wildcard
                && other.base.parent().as_ref() == Some(&self.base))
    }

    /// Where the challenge's TXT record stands before any CNAME is followed.
    pub fn challenge_name(&self) -> Result<DnsName, NameError> {
        self.base.prepend(CHALLENGE_LABEL)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        self.base.fmt(f)
    }
}

impl TryFrom<String> for Identifier {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Identifier> for String {
    fn from(identifier: Identifier) -> Self {
        identifier.to_string()
    }
}

/// The TXT value that answers a `dns-01` challenge: base64url of the SHA-256 of `token.thumbprint` (RFC 8555
/// sections 8.1 and 8.4; the thumbprint is that of RFC 7638, already base64url).
pub fn challenge_value(token: &str, thumbprint: &str) -> String {
    let authorization = format!("{token}.{thumbprint}");
    let digest = ring::digest::digest(&ring::digest::SHA256, authorization.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identifier(text: &str) -> Identifier {
        Identifier::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let wildcard = identifier("*.example.com");
        assert!(wildcard.covers(&identifier("www.example.com")));
        assert!(!wildcard.covers(&identifier("example.com")));
        assert!(!wildcard.covers(&identifier("a.b.example.com")));
        assert!(!wildcard.covers(&identifier("*.b.example.com")));
    }

    #[test]
    fn apex_and_wildcard_share_one_challenge_name() {
        assert_eq!(
            identifier("*.example.com").challenge_name(),
            identifier("example.com").challenge_name()
        );
    }

    #[test]
    fn certificate_names_are_narrow() {
        assert!(CertificateName::parse("web-1").is_some());
        for bad in ["", "-a", "A", "a.b", "../x", &"a".repeat(64)] {
            assert!(CertificateName::parse(bad).is_none(), "{bad}");
        }
    }
}
