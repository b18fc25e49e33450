//! What an authority issued is checked before it is kept: strict PEM (RFC 8555 section 9.1), our key, exactly our names,
//! valid now, each certificate signed by the next. Whether a client trusts the top is not asked: a private
//! authority's root need not be known here.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_providers::clock::later;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;
use x509_parser::prelude::*;

use super::csr::{self, CsrError};
use super::problem::printable;
use crate::engine::names::Identifier;
use crate::secret::Secret;

/// More certificates than any real chain has.
const MAX_CERTIFICATES: usize = 10;
/// Larger than any real chain in PEM.
const MAX_PEM: usize = 256 * 1024;
/// How far this machine's clock may be behind the authority's.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The longest text of a certificate that is kept or shown.
const SHOWN: usize = 200;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What there is to know of a leaf certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// The serial number in lower-case hex, as encoded.
    pub serial: String,
    /// The SHA-256 of the DER in lower-case hex.
    pub sha256: String,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Its names, sorted.
    pub names: Vec<Identifier>,
    /// The distinguished name of its issuer.
    pub issuer: String,
}

/// Why a chain is not kept. It is never installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not PEM, or something beside certificates in it.
    #[error("the chain that the authority sent is not a sequence of certificates in PEM: {0}")]
    NotPem(String),
    /// More than any chain.
    #[error(
        "the chain that the authority sent has {0}; a chain has at most {MAX_CERTIFICATES} certificates and {MAX_PEM} bytes"
    )]
    TooLarge(String),
    /// Not a certificate.
    #[error("certificate {position} of the chain that the authority sent cannot be read: {why}")]
    NotACertificate {
        /// Counted from 1, the leaf.
        position: usize,
        /// What is wrong.
        why: String,
    },
    /// For another key.
    #[error("the certificate {serial} that the authority sent is not for the key of this order")]
    WrongKey {
        /// Its serial number.
        serial: String,
    },
    /// For other names.
    #[error(
        "the certificate {serial} that the authority sent is for {seen}; ordered were {wanted}"
    )]
    WrongNames {
        /// Its serial number.
        serial: String,
        /// The names in it.
        seen: String,
        /// The names of the order.
        wanted: String,
    },
    /// Not valid at this time.
    #[error(
        "the certificate {serial} that the authority sent is valid from {not_before} to {not_after}, and it is {now}; check this machine's clock"
    )]
    NotValidNow {
        /// Its serial number.
        serial: String,
        /// From.
        not_before: Timestamp,
        /// To.
        not_after: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Not signed by the next one.
    #[error(
        "certificate {position} of the chain that the authority sent, issued by `{issuer}`, is not signed by the next one, `{next}`"
    )]
    Broken {
        /// Counted from 1, the leaf.
        position: usize,
        /// Who issued it.
        issuer: String,
        /// Who comes next.
        next: String,
    },
    /// Our own key cannot be read.
    #[error(transparent)]
    Key(#[from] CsrError),
}

/// Checks `chain_pem` as the answer to an order for `names` with `key`.
pub fn check(
    chain_pem: &str,
    key: &Secret,
    names: &[Identifier],
    now: Timestamp,
) -> Result<Leaf, ChainError> {
    let ders = certificates(chain_pem)?;
    let chain = parse(&ders)?;
    let leaf = leaf_of(&ders[0], &chain[0])?;
    if chain[0].tbs_certificate.subject_pki.raw != csr::public_key(key)? {
        return Err(ChainError::WrongKey {
            serial: leaf.serial,
        });
    }
    check_names(&leaf, names)?;
    if leaf.not_before > later(now, CLOCK_TOLERANCE) || leaf.not_after <= now {
        return Err(ChainError::NotValidNow {
            serial: leaf.serial,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            now,
        });
    }
    check_signatures(&chain)?;
    Ok(leaf)
}

/// Whether an issuer of a certificate in `chain_pem` has the common name `wanted`. A chain that cannot be read has none.
pub(super) fn is_issued_by(chain_pem: &str, wanted: &str) -> bool {
    let Ok(ders) = certificates(chain_pem) else {
        return false;
    };
    parse(&ders).is_ok_and(|chain| {
        chain
            .iter()
            .flat_map(|certificate| certificate.issuer().iter_common_name())
            .any(|name| name.as_str() == Ok(wanted))
    })
}

/// The DER of each certificate. Nothing but certificates may stand in the text: a key in it would be the authority's
/// mistake or an attack (RFC 8555 section 11.4).
fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, ChainError> {
    if pem.len() > MAX_PEM {
        return Err(ChainError::TooLarge(format!("{} bytes", pem.len())));
    }
    let mut ders = Vec::new();
    let mut lines = pem.lines().map(str::trim_end);
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        if line != BEGIN {
            return Err(not_pem(format!(
                "`{}` stands where a certificate begins",
                printable(line, 40)
            )));
        }
        let mut base64 = String::new();
        loop {
            match lines.next() {
                Some(END) => break,
                Some(line) => base64.push_str(line),
                None => return Err(not_pem("a certificate has no end".to_owned())),
            }
        }
        if ders.len() == MAX_CERTIFICATES {
            return Err(ChainError::TooLarge("more certificates".to_owned()));
        }
        let der = STANDARD
            .decode(&base64)
            .map_err(|_| not_pem(format!("certificate {} is not base64", ders.len() + 1)))?;
        ders.push(der);
    }
    if ders.is_empty() {
        return Err(not_pem("it holds no certificate".to_owned()));
    }
    Ok(ders)
}

fn parse(ders: &[Vec<u8>]) -> Result<Vec<X509Certificate<'_>>, ChainError> {
    ders.iter()
        .zip(1..)
        .map(|(der, position)| match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(certificate),
            Ok(_) => Err(unreadable(position, "bytes follow it")),
            Err(error) => Err(unreadable(position, &error.to_string())),
        })
        .collect()
}

fn leaf_of(der: &[u8], certificate: &X509Certificate<'_>) -> Result<Leaf, ChainError> {
    let instant = |time: ASN1Time| {
        Timestamp::from_second(time.timestamp())
            .map_err(|_| unreadable(1, "its validity is no time"))
    };
    Ok(Leaf {
        serial: hex(certificate.raw_serial()),
        sha256: hex(digest(&SHA256, der).as_ref()),
        not_before: instant(certificate.validity().not_before)?,
        not_after: instant(certificate.validity().not_after)?,
        names: names_of(certificate)?,
        issuer: printable(&certificate.issuer().to_string(), SHOWN),
    })
}

fn names_of(certificate: &X509Certificate<'_>) -> Result<Vec<Identifier>, ChainError> {
    let extension = certificate
        .subject_alternative_name()
        .map_err(|error| unreadable(1, &error.to_string()))?
        .ok_or_else(|| unreadable(1, "it has no subject alternative name"))?;
    let mut names = BTreeSet::new();
    for name in &extension.value.general_names {
        let GeneralName::DNSName(text) = name else {
            return Err(unreadable(
                1,
                &format!("it is for {name}, which is no DNS name"),
            ));
        };
        let name = Identifier::parse(text)
            .map_err(|error| unreadable(1, &format!("it is for `{text}`: {error}")))?;
        names.insert(name);
    }
    Ok(names.into_iter().collect())
}

fn check_names(leaf: &Leaf, wanted: &[Identifier]) -> Result<(), ChainError> {
    let wanted: BTreeSet<_> = wanted.iter().collect();
    if leaf.names.iter().collect::<BTreeSet<_>>() == wanted {
        return Ok(());
    }
    Err(ChainError::WrongNames {
        serial: leaf.serial.clone(),
        seen: list(leaf.names.iter()),
        wanted: list(wanted.into_iter()),
    })
}

fn check_signatures(chain: &[X509Certificate<'_>]) -> Result<(), ChainError> {
    for (position, pair) in (1..).zip(chain.windows(2)) {
        let [certificate, next] = pair else { continue };
        let named = certificate.issuer().as_raw() == next.subject().as_raw();
        if !named
            || certificate
                .verify_signature(Some(next.public_key()))
                .is_err()
        {
            return Err(ChainError::Broken {
                position,
                issuer: printable(&certificate.issuer().to_string(), SHOWN),
                next: printable(&next.subject().to_string(), SHOWN),
            });
        }
    }
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a Identifier>) -> String {
    let names: Vec<_> = names.map(ToString::to_string).collect();
    printable(&names.join(", "), 1_000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn not_pem(why: String) -> ChainError {
    ChainError::NotPem(why)
}

fn unreadable(position: usize, why: &str) -> ChainError {
    ChainError::NotACertificate {
        position,
        why: printable(why, SHOWN),
    }
}
