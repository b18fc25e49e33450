//! Account keys: ES256 (RFC 7518 section 3.4), their JWK and thumbprint (RFC 7638); and the MAC key that binds a new
//! account to an external one (RFC 8555 section 7.3.4). None of these types can be printed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// The length of a coordinate on P-256.
const COORDINATE: usize = 32;

/// The key of an account.
pub struct AccountKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl AccountKey {
    /// A new key as PKCS#8, to be stored before it is used.
    pub fn generate() -> Result<Secret, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| KeyError::Random)?;
        Ok(Secret::new(document.as_ref().to_vec()))
    }

    /// The key in `pkcs8`, as [`AccountKey::generate`] made it.
    pub fn load(pkcs8: &Secret) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose(), &random)
                .map_err(|_| KeyError::NotAKey)?;
        Ok(Self { pair, random })
    }

    /// The thumbprint of the public key (RFC 7638), in base64url: the second half of a key authorization.
    pub fn thumbprint(&self) -> String {
        thumbprint_of(&self.jwk().canonical())
    }

    /// The public key as a JWK.
    pub(super) fn jwk(&self) -> Jwk {
        // ring gives the uncompressed point: 0x04, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(COORDINATE);
        Jwk {
            crv: "P-256",
            kty: "EC",
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        }
    }

    /// The ES256 signature of `message`: r and s, 32 octets each.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self
            .pair
            .sign(&self.random, message)
            .map_err(|_| KeyError::Random)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A public key as a JWK. The members are in the order that RFC 7638 section 3.3 hashes them in.
#[derive(Serialize)]
pub(super) struct Jwk {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

impl Jwk {
    /// The JSON of RFC 7638 section 3: required members only, sorted, no white space.
    pub(super) fn canonical(&self) -> String {
        // The values are base64url: nothing needs escaping.
        format!(
            r#"{{"crv":"{}","kty":"{}","x":"{}","y":"{}"}}"#,
            self.crv, self.kty, self.x, self.y
        )
    }
}

/// An account elsewhere that a new ACME account is bound to.
pub struct ExternalAccount {
    /// The key identifier that the authority gave.
    pub key_id: String,
    mac_key: Zeroizing<Vec<u8>>,
}

impl ExternalAccount {
    /// `mac_key` as people paste it: base64url or standard base64, padded or not.
    pub fn new(key_id: &str, mac_key: &Secret) -> Result<Self, KeyError> {
        let text: Zeroizing<Vec<u8>> = Zeroizing::new(
            mac_key
                .expose()
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace() && **byte != b'=')
                .map(|byte| match byte {
                    b'+' => b'-',
                    b'/' => b'_',
                    other => *other,
                })
                .collect(),
        );
        let bytes = URL_SAFE_NO_PAD
            .decode(text.as_slice())
            .map_err(|_| KeyError::MacKey)?;
        let mac_key = Zeroizing::new(bytes);
        if mac_key.is_empty() {
            return Err(KeyError::MacKey);
        }
        Ok(Self {
            key_id: key_id.to_owned(),
            mac_key,
        })
    }

    /// The HS256 tag of `message`.
    pub(super) fn tag(&self, message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.mac_key);
        hmac::sign(&key, message).as_ref().to_vec()
    }
}

/// Why a key cannot be used. Never holds any part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No randomness.
    #[error("the system's random generator failed")]
    Random,
    /// Other bytes than a key's.
    #[error("the stored account key is not an ECDSA P-256 key in PKCS#8")]
    NotAKey,
    /// The MAC key cannot be decoded.
    #[error(
        "the MAC key of the external account is neither base64url nor base64; copy it again from the authority"
    )]
    MacKey,
}

fn thumbprint_of(canonical: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

#[cfg(test)]
pub(super) mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// The key of RFC 7515 appendix A.3.
    pub(in crate::acme) fn example_key() -> AccountKey {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let d = decode("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI");
        let mut point = vec![4];
        point.extend(decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"));
        point.extend(decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"));
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &d,
            &point,
            &random,
        )
        .unwrap();
        AccountKey { pair, random }
    }

    /// RFC 7638 section 3.1. Its key is RSA, so the hash alone is compared.
    #[test]
    fn hashes_the_example_of_the_rfc() {
        let canonical = concat!(
            r#"{"e":"AQAB","kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAt"#,
            "VT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h",
            "4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFT",
            r#"WhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}"#
        );
        assert_eq!(
            thumbprint_of(canonical),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    /// The value was computed with Python's hashlib from the JWK of RFC 7515 appendix A.3.
    #[test]
    fn the_thumbprint_of_a_p256_key() {
        assert_eq!(
            example_key().thumbprint(),
            "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"
        );
    }

    #[test]
    fn a_key_survives_storage() {
        let stored = AccountKey::generate().ok().unwrap();
        let (one, two) = (
            AccountKey::load(&stored).ok().unwrap(),
            AccountKey::load(&stored).ok().unwrap(),
        );
        assert_eq!(one.thumbprint(), two.thumbprint());
        let signature = one.sign(b"hello").unwrap();
        assert_eq!(signature.len(), 64);
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, two.pair.public_key().as_ref())
            .verify(b"hello", &signature)
            .unwrap();
        assert_eq!(
            AccountKey::load(&Secret::new(b"nonsense".to_vec())).err(),
            Some(KeyError::NotAKey)
        );
    }

    #[test]
    fn a_mac_key_may_be_pasted_in_any_base64() {
        let tag = |text: &str| {
            ExternalAccount::new("kid", &Secret::new(text.as_bytes().to_vec()))
                .map(|account| account.tag(b"x"))
        };
        // The octets fb ff fe in each of the four spellings, and with a line end.
        let expected = tag("-__-").unwrap();
        for spelling in ["+//+", "-__-\n"] {
            assert_eq!(tag(spelling).unwrap(), expected, "{spelling:?}");
        }
        assert_eq!(tag("-_8").unwrap(), tag("+/8=").unwrap());
        for bad in ["", "=", "a", "secret!"] {
            assert_eq!(tag(bad).err(), Some(KeyError::MacKey), "{bad:?}");
        }
    }
}
