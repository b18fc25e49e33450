//! Signed request bodies: flattened JSON JWS (RFC 7515 section 7.2.2) with the header of RFC 8555 section 6.2. The
//! fields stand in a fixed order, so that a body is a function of what goes in and of the signature's randomness.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::key::{AccountKey, ExternalAccount, Jwk, KeyError};

/// The payload of a POST-as-GET (section 6.3).
pub(super) const POST_AS_GET: &str = "";

/// Who signs: a key that has no account yet, or an account.
#[derive(Clone, Copy)]
pub(super) enum Identity<'a> {
    /// Shown by its public key.
    Key(&'a AccountKey),
    /// Shown by the account's URL.
    Account(&'a AccountKey, &'a str),
}

/// A flattened JWS. It is also the shape of an external account binding, inside a newAccount payload.
#[derive(Serialize)]
pub(super) struct Jws {
    protected: String,
    payload: String,
    signature: String,
}

#[derive(Serialize)]
struct Protected<'a> {
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Jwk>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    url: &'a str,
}

/// `payload` for `url`, with `nonce`.
pub(super) fn sign(
    identity: Identity<'_>,
    nonce: &str,
    url: &str,
    payload: &str,
) -> Result<Jws, KeyError> {
    let (key, jwk, kid) = match identity {
        Identity::Key(key) => (key, Some(key.jwk()), None),
        Identity::Account(key, kid) => (key, None, Some(kid)),
    };
    let protected = Protected {
        alg: "ES256",
        jwk,
        kid,
        nonce: Some(nonce),
        url,
    };
    seal(&protected, payload, |input| key.sign(input))
}

/// The proof that the owner of `external` wants `key` bound to it (section 7.3.4).
pub(super) fn bind(
    external: &ExternalAccount,
    key: &AccountKey,
    new_account: &str,
) -> Result<Jws, KeyError> {
    let protected = Protected {
        alg: "HS256",
        jwk: None,
        kid: Some(&external.key_id),
        nonce: None,
        url: new_account,
    };
    seal(&protected, &key.jwk().canonical(), |input| {
        Ok(external.tag(input))
    })
}

fn seal(
    protected: &Protected<'_>,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<Jws, KeyError> {
    let header = serde_json::to_vec(protected).expect("strings and a map of strings are JSON");
    let protected = URL_SAFE_NO_PAD.encode(header);
    let payload = URL_SAFE_NO_PAD.encode(payload);
    let signature = sign(format!("{protected}.{payload}").as_bytes())?;
    Ok(Jws {
        protected,
        payload,
        signature: URL_SAFE_NO_PAD.encode(signature),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::key::tests::example_key;
    use crate::secret::Secret;

    fn decoded(text: &str) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    }

    #[test]
    fn a_new_key_shows_its_jwk() {
        let key = example_key();
        let jws = sign(Identity::Key(&key), "n0nce", "https://ca/new", "{}").unwrap();
        assert_eq!(
            decoded(&jws.protected),
            concat!(
                r#"{"alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#,
                r#""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},"nonce":"n0nce","url":"https://ca/new"}"#
            )
        );
        assert_eq!(decoded(&jws.payload), "{}");
    }

    #[test]
    fn an_account_shows_its_url_and_post_as_get_has_no_payload() {
        let key = example_key();
        let jws = sign(
            Identity::Account(&key, "https://ca/acct/1"),
            "n",
            "https://ca/order/1",
            POST_AS_GET,
        )
        .unwrap();
        assert_eq!(
            decoded(&jws.protected),
            r#"{"alg":"ES256","kid":"https://ca/acct/1","nonce":"n","url":"https://ca/order/1"}"#
        );
        assert_eq!(jws.payload, "");
        let body = serde_json::to_string(&jws).unwrap();
        assert!(body.starts_with(r#"{"protected":""#) && body.contains(r#","payload":"","#));
    }

    /// The tag was computed with Python's hmac module.
    #[test]
    fn binds_to_an_external_account() {
        let mac = Secret::new(
            b"zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".to_vec(),
        );
        let external = ExternalAccount::new("kid-1", &mac).ok().unwrap();
        let jws = bind(&external, &example_key(), "https://ca/new-account").unwrap();
        assert_eq!(
            decoded(&jws.protected),
            r#"{"alg":"HS256","kid":"kid-1","url":"https://ca/new-account"}"#
        );
        assert_eq!(jws.signature, "0QrHtlE7tudaiR8FH88O26Do2EdrDgkgwkD6iQUCNI0");
    }
}
