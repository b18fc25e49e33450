//! Names: of hosts and certificates as people type them, normalised (IDNA, case, trailing dot); and of what the
//! configuration defines.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;

use countersign_providers::record::DnsName;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use crate::engine::names::Identifier;

/// The longest name of an authority or a provider.
const MAX_LABEL: usize = 63;

macro_rules! defined_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Takes 1 to 63 printable characters that are not white space.
            pub(super) fn parse(text: &str) -> Option<Self> {
                let good = !text.is_empty()
                    && text.chars().count() <= MAX_LABEL
                    && !text.chars().any(|c| c.is_control() || c.is_whitespace());
                good.then(|| Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

defined_name! {
    /// The key of an authority under `authorities`.
    AuthorityName
}
defined_name! {
    /// The key of a provider under `providers`.
    ProviderName
}

/// Why a text cannot be a name on a certificate, or a host name: what is wrong, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadName {
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// A name on a certificate.
pub(super) fn identifier(text: &str) -> Result<Identifier, BadName> {
    if let Some(address) = ip_address(text) {
        return Err(BadName {
            message: format!(
                "{address} is an IP address; DNS-01 proves host names only, an address needs http-01 or tls-alpn-01"
            ),
            hint: "write a host name that points to it",
        });
    }
    let (wildcard, rest) = match text.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.contains('*') {
        return Err(BadName {
            message: format!(
                "`*` stands for one whole label at the very left, and not as in `{text}`"
            ),
            hint: "write `*.` and the name below which it counts, e.g. \"*.example.com\"",
        });
    }
    let base = host(rest)?;
    Ok(Identifier { base, wildcard })
}

/// A host name, in A-labels.
pub(super) fn host(text: &str) -> Result<DnsName, BadName> {
    if text.is_empty() || text == "." {
        return Err(BadName {
            message: "a name is wanted here, and this is empty".to_owned(),
            hint: "write a host name such as www.example.com",
        });
    }
    let refused = |why: &str| BadName {
        message: format!("`{text}` is not a host name: {why}"),
        hint: "a host name has labels of letters, digits and hyphens with dots between, e.g. www.example.com",
    };
    // ASCII is judged first by the stricter rules, since they say what is wrong; where it has no A-labels, nothing is
    // left to be mapped.
    let plain = match text.is_ascii() {
        true => Some(DnsName::parse(text).map_err(|error| refused(&error.to_string()))?),
        false => None,
    };
    let name = match plain.filter(|name| name.as_str().split('.').all(is_plain)) {
        Some(name) => name,
        None => {
            let ascii = Uts46::new()
                .to_ascii(
                    text.as_bytes(),
                    AsciiDenyList::URL,
                    Hyphens::CheckFirstLast,
                    DnsLength::VerifyAllowRootDot,
                )
                .map_err(|_| {
                    refused("a label is empty, too long, begins or ends with a hyphen, or has characters that no name may have")
                })?;
            DnsName::parse(&ascii).map_err(|error| refused(&error.to_string()))?
        }
    };
    let last = name.as_str().rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refused("its last label is a number"));
    }
    Ok(name)
}

/// Whether a label of ASCII letters, digits, hyphens and underscores stands for itself.
fn is_plain(label: &str) -> bool {
    !(label.starts_with("xn--") || label.starts_with('-') || label.ends_with('-'))
}

fn ip_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|it| it.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_idna_case_and_trailing_dot() {
        for (typed, normal) in [
            ("Example.COM.", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("*.BÜCHER.example.", "*.xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a。example", "a.example"),
            ("_x.example", "_x.example"),
        ] {
            assert_eq!(identifier(typed).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn refuses_what_is_no_host_name() {
        for bad in [
            "",
            ".",
            "*",
            "*.",
            "*.*.example",
            "a.*.example",
            "f*.example",
            "a..b",
            "-a.example",
            "a-.example",
            "a b.example",
            "exa/mple",
            "https://example.com",
            "a@b.example",
            "1.2.3",
            "xn--a.example",
            &format!("{}.example", "a".repeat(64)),
            &"abc.".repeat(70),
        ] {
            assert!(identifier(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_told_what_they_need() {
        for address in ["192.0.2.1", "2001:db8::1", "[2001:db8::1]"] {
            let message = identifier(address).unwrap_err().message;
            assert!(
                message.contains("needs http-01 or tls-alpn-01"),
                "{message}"
            );
        }
    }
}
