//! Plain DNS record types: names, TXT values, zones and changes. Data only.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name in presentation form without its trailing dot (RFC 1035 section 3.1).
const MAX_NAME: usize = 253;
/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS name in lower case, in A-labels, without a trailing dot. Labels hold `a-z0-9-_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

impl DnsName {
    /// Parses presentation form; upper case and one trailing dot are accepted, anything that needs escaping is not.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong(name.len()));
        }
        for label in name.split('.') {
            if label.is_empty() || label.len() > MAX_LABEL {
                return Err(NameError::Label(label.to_owned()));
            }
            if let Some(bad) = label
                .chars()
                .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
            {
                return Err(NameError::Character(bad));
            }
        }
        Ok(Self(name))
    }

    /// The name in presentation form, without the trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its first label; `None` for a single label.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .split_once('.')
            .map(|(_, rest)| Self(rest.to_owned()))
    }

    /// This name and every name above it, up to the top-level label.
    pub fn and_above(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }

    /// `label` in front of this name.
    pub fn prepend(&self, label: &str) -> Result<Self, NameError> {
        Self::parse(&format!("{label}.{}", self.0))
    }

    /// Whether this name is `apex` or below it.
    pub fn is_at_or_below(&self, apex: &Self) -> bool {
        self.0 == apex.0
            || self
                .0
                .strip_suffix(&apex.0)
                .is_some_and(|front| front.ends_with('.'))
    }

    /// How many labels the name has.
    pub fn labels(&self) -> usize {
        self.0.split('.').count()
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

/// Why a text is not a [`DnsName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No text at all, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// Longer than a DNS name may be.
    #[error("the name has {0} characters; a DNS name has at most {MAX_NAME}")]
    TooLong(usize),
    /// A label is empty or too long.
    #[error("the label `{0}` is empty or longer than {MAX_LABEL} characters")]
    Label(String),
    /// A character outside `a-z0-9-_.`.
    #[error("the character `{0}` cannot stand in a host name")]
    Character(char),
}

/// A zone at a DNS host: the coordinates that a change needs, kept with every record so that removing one never
/// searches again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Zone {
    /// The apex.
    pub name: DnsName,
    /// The vendor's identifier; the apex again where the vendor has none.
    pub id: String,
}

/// The TXT RRset at one name. Each value is the concatenation of its character-strings (RFC 8555 section 8.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    /// The owner name.
    pub name: DnsName,
    /// In seconds; `None` where there is no RRset.
    pub ttl: Option<u32>,
    /// The values, in no particular order.
    pub values: Vec<String>,
}

/// One TXT value to be there or to be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which of the two.
    pub verb: Verb,
    /// The owner name.
    pub name: DnsName,
    /// The value, unquoted.
    pub value: String,
    /// Seconds, for the first value at a name; one that joins an existing RRset takes that RRset's TTL.
    pub ttl: u32,
    /// What the host called this value when it was put there, where it did: a way to it that saves a look. The value may
    /// be gone by then, or known by another name.
    pub handle: Option<String>,
}

/// What a [`Change`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The value is there afterwards.
    Ensure,
    /// The value is not there afterwards; other values at the name are untouched.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_case_and_trailing_dot() {
        assert_eq!(
            DnsName::parse("Example.COM.").unwrap().as_str(),
            "example.com"
        );
    }

    #[test]
    fn refuses_what_would_need_escaping() {
        assert_eq!(DnsName::parse("a b.test"), Err(NameError::Character(' ')));
        assert_eq!(
            DnsName::parse("a..test"),
            Err(NameError::Label(String::new()))
        );
        assert_eq!(DnsName::parse("."), Err(NameError::Empty));
    }

    #[test]
    fn is_below_only_on_label_boundaries() {
        let apex = DnsName::parse("example.com").unwrap();
        assert!(
            DnsName::parse("a.example.com")
                .unwrap()
                .is_at_or_below(&apex)
        );
        assert!(
            !DnsName::parse("badexample.com")
                .unwrap()
                .is_at_or_below(&apex)
        );
    }
}
