//! Keys of certificates, and the requests for them (RFC 2986; RFC 8555 section 7.4): the names go into the subject
//! alternative name and nowhere else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use crate::engine::key::KeyType;
use crate::engine::names::Identifier;
use crate::secret::Secret;

/// Characters a line of PEM (RFC 7468 section 2).
const PEM_LINE: usize = 64;

/// A new key as PKCS#8, to be stored before a request is made with it.
pub fn generate_key(kind: KeyType) -> Result<Secret, CsrError> {
    let algorithm = match kind {
        KeyType::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
        KeyType::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
    };
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())
        .map_err(|_| CsrError::Random)?;
    Ok(Secret::new(document.as_ref().to_vec()))
}

/// The request for `names` with `key`, in DER.
pub fn csr(key: &Secret, names: &[Identifier]) -> Result<Vec<u8>, CsrError> {
    let key = load(key)?;
    let mut params = CertificateParams::default();
    // No common name: authorities either ignore it or want it to repeat one of the names.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names
        .iter()
        .map(|name| {
            let text = name.to_string();
            text.as_str()
                .try_into()
                .map(SanType::DnsName)
                .map_err(|_| CsrError::Name(text))
        })
        .collect::<Result<_, _>>()?;
    let request = params
        .serialize_request(&*key)
        .map_err(|error| CsrError::Encoding(error.to_string()))?;
    Ok(request.der().to_vec())
}

/// The key in PEM, as servers read it.
pub fn key_pem(key: &Secret) -> Secret {
    let base64 = Zeroizing::new(STANDARD.encode(key.expose()));
    // Room for all of it at once: a growing vector would leave copies behind.
    let mut pem = Vec::with_capacity(base64.len() + base64.len() / PEM_LINE + 80);
    pem.extend_from_slice(b"-----BEGIN PRIVATE KEY-----\n");
    for line in base64.as_bytes().chunks(PEM_LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END PRIVATE KEY-----\n");
    Secret::new(pem)
}

/// The public half of `key` as a SubjectPublicKeyInfo in DER.
pub(super) fn public_key(key: &Secret) -> Result<Vec<u8>, CsrError> {
    Ok(load(key)?.subject_public_key_info())
}

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// No randomness.
    #[error("the system's random generator failed")]
    Random,
    /// Other bytes than a key's.
    #[error("the stored certificate key is not a private key in PKCS#8")]
    NotAKey,
    /// Cannot stand in a certificate.
    #[error("the name `{0}` cannot stand in a certificate request")]
    Name(String),
    /// Cannot be encoded.
    #[error("the certificate request cannot be made: {0}")]
    Encoding(String),
}

fn load(key: &Secret) -> Result<Zeroizing<KeyPair>, CsrError> {
    KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.expose()))
        .map(Zeroizing::new)
        .map_err(|_| CsrError::NotAKey)
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    fn names(texts: &[&str]) -> Vec<Identifier> {
        texts
            .iter()
            .map(|text| Identifier::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn a_request_holds_exactly_the_names_and_is_signed() {
        for kind in [KeyType::P256, KeyType::P384] {
            let key = generate_key(kind).ok().unwrap();
            let der = csr(&key, &names(&["example.com", "*.example.com"])).unwrap();
            let (rest, request) = X509CertificationRequest::from_der(&der).unwrap();
            assert!(rest.is_empty());
            request.verify_signature().unwrap();
            let info = &request.certification_request_info;
            assert_eq!(info.subject.iter().count(), 0);
            assert_eq!(info.subject_pki.raw, public_key(&key).unwrap());
            let extensions: Vec<_> = request.requested_extensions().unwrap().collect();
            let [ParsedExtension::SubjectAlternativeName(san)] = extensions.as_slice() else {
                panic!("other extensions: {extensions:?}")
            };
            assert_eq!(
                san.general_names,
                [
                    GeneralName::DNSName("example.com"),
                    GeneralName::DNSName("*.example.com")
                ]
            );
        }
    }

    #[test]
    fn the_pem_of_a_key_is_the_key() {
        let key = generate_key(KeyType::P384).ok().unwrap();
        let pem = key_pem(&key);
        let text = pem.expose_text().ok().unwrap();
        assert!(text.lines().all(|line| line.len() <= PEM_LINE));
        let again = KeyPair::from_pem(text).unwrap();
        assert_eq!(again.serialize_der(), key.expose());
    }

    #[test]
    fn other_bytes_are_no_key() {
        let nonsense = Secret::new(b"nonsense".to_vec());
        assert_eq!(
            csr(&nonsense, &names(&["example.com"])),
            Err(CsrError::NotAKey)
        );
    }
}
