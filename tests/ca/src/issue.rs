//! The keys and certificates of the authority: a root and an intermediate that issue, and apart
//! from them a root that vouches for the authority's own HTTPS. RFC 5280.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey as ParsedKey;
use x509_parser::x509::SubjectPublicKeyInfo as ParsedSpki;

use crate::clock::later;
use crate::jws::Material;
use crate::problem::{Kind, Problem};

const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// How far the roots reach back, so that virtual clocks may start before they were made.
const ROOT_BACKDATE: Duration = Duration::from_secs(30 * 365 * 86_400);

/// The issuing side.
pub(crate) struct Issuing {
    intermediate: CertifiedIssuer<'static, KeyPair>,
    intermediate_pem: String,
    pub(crate) root_pem: String,
}

/// A certificate as issued.
pub(crate) struct Issued {
    /// Lower-case hexadecimal.
    pub(crate) serial: String,
    pub(crate) der: CertificateDer<'static>,
    /// The leaf, then the intermediate.
    pub(crate) chain_pem: String,
}

/// A certificate signing request that was parsed and whose own signature verified.
pub(crate) struct Request {
    pub(crate) material: Material,
    spki: SubjectPublicKeyInfo,
}

/// The certificate that the HTTPS side shows, and the root to trust for it.
pub(crate) struct HttpsIdentity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) root_pem: String,
}

impl Issuing {
    /// Makes a root and an intermediate that are valid around `now`.
    pub(crate) fn generate(now: Timestamp) -> Result<Issuing, rcgen::Error> {
        let root = root("Countersign Test Root", now)?;
        let mut params = authority_params("Countersign Test Intermediate", 0, now)?;
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let intermediate = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &root)?;
        Ok(Issuing {
            intermediate_pem: intermediate.pem(),
            intermediate,
            root_pem: root.pem(),
        })
    }

    /// A leaf for exactly `names` and the requested key, without a common name.
    pub(crate) fn issue(
        &self,
        names: &[String],
        key: &impl PublicKeyData,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Issued, rcgen::Error> {
        let serial = random_serial()?;
        let mut params = leaf_params(names, not_before, not_after)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let leaf = params.signed_by(key, &self.intermediate)?;
        Ok(Issued {
            serial: hex(&serial),
            chain_pem: leaf.pem() + &self.intermediate_pem,
            der: leaf.into(),
        })
    }

    /// The same for a key that the subscriber does not have.
    pub(crate) fn issue_for_a_foreign_key(
        &self,
        names: &[String],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Issued, rcgen::Error> {
        self.issue(names, &KeyPair::generate()?, not_before, not_after)
    }
}

impl Request {
    /// Reads a CSR and compares its names with those of the order.
    pub(crate) fn parse(der: &[u8], names: &[String]) -> Result<Request, Problem> {
        let (rest, csr) = X509CertificationRequest::from_der(der)
            .map_err(|e| bad(format!("the CSR is unreadable: {e}")))?;
        if !rest.is_empty() {
            return Err(bad("the CSR has trailing bytes"));
        }
        csr.verify_signature()
            .map_err(|_| bad("the CSR's own signature does not verify"))?;
        let info = &csr.certification_request_info;
        let material = Material::of(&info.subject_pki)
            .ok_or_else(|| bad("the CSR's key is not RSA 2048..4096, P-256 or P-384"))?;
        let asked = requested_names(&csr)?;
        if asked != names {
            return Err(bad(format!(
                "the CSR asks for {asked:?}, the order is for {names:?}"
            )));
        }
        for name in info.subject.iter_common_name() {
            let name = name.as_str().unwrap_or_default().to_ascii_lowercase();
            if !names.contains(&name) {
                return Err(bad(format!(
                    "the CSR's common name {name:?} is not in the order"
                )));
            }
        }
        let spki = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|e| bad(format!("the CSR's key is not usable: {e}")))?;
        Ok(Request { material, spki })
    }

    pub(crate) fn key(&self) -> &impl PublicKeyData {
        &self.spki
    }
}

impl Material {
    /// The key of a certificate or CSR, if it is of a kind and size that the authority takes.
    pub(crate) fn of(spki: &ParsedSpki<'_>) -> Option<Material> {
        match spki.parsed().ok()? {
            ParsedKey::EC(point) => match (point.data().len(), point.data().first()) {
                (65, Some(4)) => Some(Material::P256(point.data().to_vec())),
                (97, Some(4)) => Some(Material::P384(point.data().to_vec())),
                _ => None,
            },
            ParsedKey::RSA(rsa) => {
                let n = without_zeros(rsa.modulus);
                (256..=512).contains(&n.len()).then(|| Material::Rsa {
                    n,
                    e: without_zeros(rsa.exponent),
                })
            }
            _ => None,
        }
    }
}

impl HttpsIdentity {
    /// A root and a leaf for `address`, both loopback addresses and `localhost`.
    pub(crate) fn generate(address: IpAddr, now: Timestamp) -> Result<HttpsIdentity, rcgen::Error> {
        let root = root("Countersign Test HTTPS Root", now)?;
        let mut addresses = vec![address, IpAddr::from([127, 0, 0, 1])];
        addresses.push(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST));
        addresses.dedup();
        let mut params = leaf_params(&["localhost".to_owned()], back(now, DAY), later(now, YEAR))?;
        params
            .subject_alt_names
            .extend(addresses.into_iter().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &root)?;
        Ok(HttpsIdentity {
            chain: vec![leaf.into()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            root_pem: root.pem(),
        })
    }
}

fn root(name: &str, now: Timestamp) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    CertifiedIssuer::self_signed(authority_params(name, 1, now)?, KeyPair::generate()?)
}

fn authority_params(
    name: &str,
    below: u8,
    now: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, back(now, ROOT_BACKDATE), later(now, 10 * YEAR));
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Countersign (tests only)");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&random_serial()?));
    Ok(params)
}

fn leaf_params(
    names: &[String],
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    set_validity(&mut params, not_before, not_after);
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// The DNS names that a CSR asks for, lower-case, sorted, each once.
fn requested_names(csr: &X509CertificationRequest<'_>) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(san) = extension else {
            continue;
        };
        for name in &san.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                other => return Err(bad(format!("the CSR asks for {other}, not a DNS name"))),
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadCsr, detail)
}

fn without_zeros(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|b| **b == 0).count();
    number.get(zeros..).unwrap_or_default().to_vec()
}

/// Whole seconds since 1970, added to rcgen's own type, whose crate nothing else here needs.
fn set_validity(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let since_1970 =
        |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(not_after);
}

fn back(at: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or_default();
    at.checked_sub(by).unwrap_or(at)
}

fn random_serial() -> Result<[u8; 16], rcgen::Error> {
    let mut serial = [0; 16];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive and of full length: the top bit clear, the next one set.
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
