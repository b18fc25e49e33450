//! Signed requests: flattened JWS (RFC 7515) as RFC 8555 section 6.2 narrows it, account keys as
//! JWK (RFC 7517, 7518) and their thumbprints (RFC 7638).
//!
//! Parses and verifies; knows no account and no nonce.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use crate::problem::{Kind, Problem};

/// A request as it came: three base64url texts, of which `protected` is understood.
pub(crate) struct Jws {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    signing_input: String,
    signature: Vec<u8>,
}

/// The protected header.
pub(crate) struct Header {
    algorithm: Algorithm,
    pub(crate) nonce: Option<String>,
    pub(crate) url: String,
    pub(crate) signer: Signer,
}

/// Who says that they signed: a key itself, or the URL of an account.
pub(crate) enum Signer {
    Jwk(PublicKey),
    Kid(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    Rs256,
}

/// A public key, with its thumbprint.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey {
    pub(crate) material: Material,
    pub(crate) thumbprint: String,
}

/// The numbers of a public key, in the form that certificates and JWK have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Material {
    /// A point on P-256, uncompressed with its leading 4.
    P256(Vec<u8>),
    /// A point on P-384, uncompressed with its leading 4.
    P384(Vec<u8>),
    /// Modulus and exponent without leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJws {
    protected: String,
    payload: String,
    signature: String,
}

#[derive(Deserialize)]
struct RawHeader {
    alg: String,
    nonce: Option<String>,
    url: Option<String>,
    jwk: Option<Value>,
    kid: Option<String>,
    crit: Option<Value>,
}

impl Jws {
    /// Reads a request body. An unprotected header, several signatures and `crit` are refused.
    pub(crate) fn parse(body: &[u8]) -> Result<Jws, Problem> {
        let raw: RawJws = serde_json::from_slice(body)
            .map_err(|e| Problem::malformed(format!("the body is not a flattened JWS: {e}")))?;
        let header = Header::parse(&decode("protected", &raw.protected)?)?;
        Ok(Jws {
            header,
            payload: decode("payload", &raw.payload)?,
            signature: decode("signature", &raw.signature)?,
            signing_input: format!("{}.{}", raw.protected, raw.payload),
        })
    }

    /// Whether `key` made the signature, with the algorithm that the header names.
    pub(crate) fn verify(&self, key: &PublicKey) -> Result<(), Problem> {
        let input = self.signing_input.as_bytes();
        let verified =
            match (&key.material, self.header.algorithm) {
                (Material::P256(point), Algorithm::Es256) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                        .verify(input, &self.signature)
                }
                (Material::P384(point), Algorithm::Es384) => {
                    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                        .verify(input, &self.signature)
                }
                (Material::Rsa { n, e }, Algorithm::Rs256) => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, input, &self.signature),
                (_, algorithm) => {
                    return Err(Problem::new(
                        Kind::BadSignatureAlgorithm,
                        format!("the key is not one for {algorithm:?}"),
                    ));
                }
            };
        verified.map_err(|_| Problem::malformed("the signature does not verify with the key"))
    }
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Header, Problem> {
        let raw: RawHeader = serde_json::from_slice(bytes)
            .map_err(|e| Problem::malformed(format!("the protected header is unreadable: {e}")))?;
        if raw.crit.is_some() {
            return Err(Problem::malformed(
                "the protected header has `crit`, which ACME lacks",
            ));
        }
        let algorithm = Algorithm::parse(&raw.alg)?;
        let signer = match (raw.jwk, raw.kid) {
            (Some(jwk), None) => Signer::Jwk(PublicKey::from_jwk(&jwk)?),
            (None, Some(kid)) => Signer::Kid(kid),
            _ => {
                return Err(Problem::malformed(
                    "the protected header must have exactly one of `jwk` and `kid`",
                ));
            }
        };
        let url = raw
            .url
            .ok_or_else(|| Problem::malformed("the protected header has no `url`"))?;
        Ok(Header {
            algorithm,
            nonce: raw.nonce,
            url,
            signer,
        })
    }
}

impl Algorithm {
    fn parse(name: &str) -> Result<Algorithm, Problem> {
        match name {
            "ES256" => Ok(Algorithm::Es256),
            "ES384" => Ok(Algorithm::Es384),
            "RS256" => Ok(Algorithm::Rs256),
            other => Err(Problem::new(
                Kind::BadSignatureAlgorithm,
                format!("the algorithm is {other:?}, not ES256, ES384 or RS256"),
            )),
        }
    }
}

impl PublicKey {
    /// Reads a JWK. A private key sent by mistake is refused.
    pub(crate) fn from_jwk(jwk: &Value) -> Result<PublicKey, Problem> {
        if jwk.get("d").is_some() {
            return Err(bad_key("the JWK holds a private key"));
        }
        let text = |name: &str| {
            jwk.get(name)
                .and_then(Value::as_str)
                .ok_or_else(|| bad_key(format!("the JWK has no text {name:?}")))
        };
        match text("kty")? {
            "EC" => PublicKey::elliptic(text("crv")?, text("x")?, text("y")?),
            "RSA" => PublicKey::rsa(text("n")?, text("e")?),
            other => Err(bad_key(format!("the JWK has kty {other:?}, not EC or RSA"))),
        }
    }

    fn elliptic(curve: &str, x: &str, y: &str) -> Result<PublicKey, Problem> {
        let length = match curve {
            "P-256" => 32,
            "P-384" => 48,
            other => {
                return Err(bad_key(format!(
                    "the curve is {other:?}, not P-256 or P-384"
                )));
            }
        };
        let mut point = vec![4];
        for coordinate in [x, y] {
            let bytes = key_bytes(coordinate)?;
            if bytes.len() != length {
                return Err(bad_key(format!(
                    "a coordinate has {} octets, not {length}",
                    bytes.len()
                )));
            }
            point.extend(bytes);
        }
        let canonical = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let material = if length == 32 {
            Material::P256(point)
        } else {
            Material::P384(point)
        };
        Ok(PublicKey {
            material,
            thumbprint: sha256_text(canonical.as_bytes()),
        })
    }

    fn rsa(n: &str, e: &str) -> Result<PublicKey, Problem> {
        let (modulus, exponent) = (key_bytes(n)?, key_bytes(e)?);
        if modulus.first() == Some(&0) || exponent.first() == Some(&0) {
            return Err(bad_key("an RSA number has leading zeros"));
        }
        if !(256..=512).contains(&modulus.len()) || exponent.is_empty() || exponent.len() > 4 {
            return Err(bad_key(
                "an RSA key must have 2048 to 4096 bits and a small exponent",
            ));
        }
        let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
        Ok(PublicKey {
            material: Material::Rsa {
                n: modulus,
                e: exponent,
            },
            thumbprint: sha256_text(canonical.as_bytes()),
        })
    }
}

/// base64url of the SHA-256 digest: thumbprints and the values of dns-01.
pub(crate) fn sha256_text(input: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, input))
}

/// base64url without padding, strictly; `what` names the text in the refusal.
pub(crate) fn decode(what: &str, text: &str) -> Result<Vec<u8>, Problem> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|e| Problem::malformed(format!("`{what}` is not base64url without padding: {e}")))
}

fn key_bytes(text: &str) -> Result<Vec<u8>, Problem> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|e| bad_key(format!("the JWK has bad base64url: {e}")))
}

fn bad_key(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::BadPublicKey, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 7638 section 3.1.
    #[test]
    fn thumbprint_of_the_rfc() {
        let jwk = json!({
            "kty": "RSA",
            "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L\
        6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FD\
        W2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZ\
        u0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
            "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
        });
        let key = PublicKey::from_jwk(&jwk).unwrap();
        assert_eq!(
            key.thumbprint,
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
    }

    #[test]
    fn refuses_keys_that_are_not_account_keys() {
        for jwk in [
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA"}),
            json!("text"),
        ] {
            assert_eq!(
                PublicKey::from_jwk(&jwk).unwrap_err().kind,
                Kind::BadPublicKey
            );
        }
    }

    #[test]
    fn refuses_a_body_with_more_than_the_three_members() {
        let body = br#"{"protected":"e30","payload":"","signature":"","header":{}}"#;
        assert!(Jws::parse(body).is_err_and(|p| p.kind == Kind::Malformed));
    }
}
