//! What an authority issued is checked before it is kept: strict PEM (RFC 8555 section 9.1), our key, exactly our names,
//! valid now, each certificate signed by the next. Whether a client trusts the top is not asked: a private
//! authority's root need not be known here.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_providers::words::printable;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::*;

use super::csr::{self, CsrError};
use crate::clock::later;
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

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    };
    use rustls_pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::engine::key::KeyType;

    pub(in crate::acme) struct Issued {
        pub(in crate::acme) leaf: String,
        pub(in crate::acme) intermediate: String,
        root: String,
        key: Secret,
    }

    fn issuer(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn self_signed(name: &str) -> CertifiedIssuer<'static, KeyPair> {
        CertifiedIssuer::self_signed(issuer(name), KeyPair::generate().unwrap()).unwrap()
    }

    /// A leaf for `names` from 2026-01-01 to 2026-04-01.
    pub(in crate::acme) fn issue(names: &[SanType]) -> Issued {
        let root = self_signed("Test Root");
        let intermediate = CertifiedIssuer::signed_by(
            issuer("Test Intermediate"),
            KeyPair::generate().unwrap(),
            &root,
        )
        .unwrap();
        let key = csr::generate_key(KeyType::P256).ok().unwrap();
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.expose())).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        params.serial_number = Some(vec![0, 0xAB, 1].into());
        Issued {
            leaf: params.signed_by(&pair, &intermediate).unwrap().pem(),
            intermediate: intermediate.pem(),
            root: root.pem(),
            key,
        }
    }

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn names(texts: &[&str]) -> Vec<Identifier> {
        texts
            .iter()
            .map(|text| Identifier::parse(text).unwrap())
            .collect()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_good_chain_is_described() {
        let issued = issue(&[dns("*.example.com"), dns("EXAMPLE.com")]);
        let wanted = names(&["example.com", "*.example.com"]);
        let now = at("2026-02-01T00:00:00Z");
        for chain in [
            issued.leaf.clone(),
            format!("{}{}", issued.leaf, issued.intermediate),
            format!(
                "{}\n{}\r\n{}",
                issued.leaf, issued.intermediate, issued.root
            ),
            format!("{}{}", issued.leaf, issued.intermediate).replace('\n', "\r\n"),
        ] {
            let leaf = check(&chain, &issued.key, &wanted, now).unwrap();
            assert_eq!(leaf.not_before, at("2026-01-01T00:00:00Z"));
            assert_eq!(leaf.not_after, at("2026-04-01T00:00:00Z"));
            assert_eq!(leaf.names, wanted);
            assert_eq!(leaf.issuer, "CN=Test Intermediate");
            assert!(leaf.serial.ends_with("ab01"), "{}", leaf.serial);
            assert_eq!(leaf.sha256.len(), 64);
            let stored = serde_json::to_string(&leaf).unwrap();
            assert_eq!(serde_json::from_str::<Leaf>(&stored).unwrap(), leaf);
        }
    }

    #[test]
    fn a_chain_must_be_signed_all_the_way() {
        let (one, two) = (issue(&[dns("example.com")]), issue(&[dns("example.com")]));
        let wanted = names(&["example.com"]);
        let now = at("2026-02-01T00:00:00Z");
        // The other intermediate has the same name and another key.
        for (chain, broken) in [
            (format!("{}{}", one.leaf, two.intermediate), 1),
            (format!("{}{}", one.leaf, one.root), 1),
            (format!("{}{}{}", one.leaf, one.intermediate, two.root), 2),
            (format!("{}{}{}", one.leaf, one.root, one.intermediate), 1),
        ] {
            match check(&chain, &one.key, &wanted, now) {
                Err(ChainError::Broken { position, .. }) => assert_eq!(position, broken),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn another_key_is_refused() {
        let issued = issue(&[dns("example.com")]);
        let other = csr::generate_key(KeyType::P256).ok().unwrap();
        let now = at("2026-02-01T00:00:00Z");
        assert!(matches!(
            check(&issued.leaf, &other, &names(&["example.com"]), now),
            Err(ChainError::WrongKey { .. })
        ));
    }

    #[test]
    fn the_names_must_be_exactly_those_ordered() {
        let issued = issue(&[dns("example.com"), dns("www.example.com")]);
        let now = at("2026-02-01T00:00:00Z");
        for wanted in [
            names(&["example.com"]),
            names(&["example.com", "www.example.com", "a.example.com"]),
            names(&["example.com", "*.example.com"]),
        ] {
            let outcome = check(&issued.leaf, &issued.key, &wanted, now);
            assert!(matches!(outcome, Err(ChainError::WrongNames { .. })));
        }
        let wanted = names(&["www.example.com", "example.com"]);
        assert!(check(&issued.leaf, &issued.key, &wanted, now).is_ok());
        let address = SanType::IpAddress("192.0.2.1".parse().unwrap());
        let issued = issue(&[dns("example.com"), address]);
        assert!(matches!(
            check(&issued.leaf, &issued.key, &names(&["example.com"]), now),
            Err(ChainError::NotACertificate { .. })
        ));
    }

    #[test]
    fn it_must_be_valid_now_give_or_take_a_slow_clock() {
        let issued = issue(&[dns("example.com")]);
        let wanted = names(&["example.com"]);
        for (now, good) in [
            ("2025-12-31T23:54:59Z", false),
            ("2025-12-31T23:55:00Z", true),
            ("2026-03-31T23:59:59Z", true),
            ("2026-04-01T00:00:00Z", false),
        ] {
            let outcome = check(&issued.leaf, &issued.key, &wanted, at(now));
            assert_eq!(outcome.is_ok(), good, "{now}: {outcome:?}");
        }
    }

    #[test]
    fn nothing_but_certificates_may_stand_in_the_text() {
        let issued = issue(&[dns("example.com")]);
        let key = csr::key_pem(&issued.key);
        let key = key.expose_text().ok().unwrap();
        let leaf = &issued.leaf;
        let check = |text: &str| {
            let now = at("2026-02-01T00:00:00Z");
            check(text, &issued.key, &names(&["example.com"]), now)
        };
        for bad in [
            String::new(),
            "\n\n".to_owned(),
            format!("{leaf}{key}"),
            format!("{key}{leaf}"),
            format!("subject: example.com\n{leaf}"),
            leaf.replace("-----END CERTIFICATE-----", ""),
            leaf.replacen('M', "!", 1),
            leaf.replace("CERTIFICATE", "X509 CRL"),
        ] {
            assert!(matches!(check(&bad), Err(ChainError::NotPem(_))), "{bad}");
        }
        assert!(matches!(
            check(&leaf.repeat(11)),
            Err(ChainError::TooLarge(_))
        ));
        assert!(matches!(
            check(&" ".repeat(MAX_PEM + 1)),
            Err(ChainError::TooLarge(_))
        ));
        let garbage = format!("{leaf}{BEGIN}\nAAAA\n{END}\n");
        assert!(matches!(
            check(&garbage),
            Err(ChainError::NotACertificate { position: 2, .. })
        ));
    }

    /// Bits changed one at a time: never a panic; and never accepted where the bit is signed or part of the signature.
    #[test]
    fn a_changed_bit_is_not_accepted() {
        let issued = issue(&[dns("example.com")]);
        let chain = format!("{}{}", issued.leaf, issued.intermediate);
        let der = certificates(&chain).unwrap().swap_remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let tbs = certificate.tbs_certificate.as_ref().len();
        let signature = certificate.signature_value.data.len();
        let signed = 4..4 + tbs;
        let now = at("2026-02-01T00:00:00Z");
        for (position, bit) in (0..der.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut changed = der.clone();
            changed[position] ^= 1 << bit;
            let pem = format!(
                "{BEGIN}\n{}\n{END}\n{}",
                STANDARD.encode(&changed),
                issued.intermediate
            );
            let outcome = check(&pem, &issued.key, &names(&["example.com"]), now);
            if signed.contains(&position) || position >= der.len() - signature {
                assert!(outcome.is_err(), "bit {bit} of byte {position}");
            }
        }
    }

    #[test]
    fn a_preferred_issuer_is_found_anywhere_in_the_chain() {
        let issued = issue(&[dns("example.com")]);
        let chain = format!("{}{}", issued.leaf, issued.intermediate);
        assert!(is_issued_by(&chain, "Test Root"));
        assert!(is_issued_by(&chain, "Test Intermediate"));
        assert!(!is_issued_by(&issued.leaf, "Test Root"));
        assert!(!is_issued_by("nonsense", "Test Root"));
    }
}
