//! From the body of a POST to a request that is known to come from a key or account, RFC 8555
//! section 6: signature, `url`, nonce, in this order, so that only good requests spend nonces.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::Shared;
use crate::accounts;
use crate::jws::{Jws, PublicKey, Signer};
use crate::problem::{Kind, Problem};
use crate::state::Status;

/// A verified request.
pub(crate) struct Post {
    pub(crate) payload: Vec<u8>,
    from: From,
}

enum From {
    Account(u64, Arc<PublicKey>),
    Key(PublicKey),
}

/// Which kinds of signer a resource takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Account,
    Key,
    Either,
}

impl Post {
    /// Verifies a request to `path`.
    pub(crate) fn verify(
        shared: &Shared,
        path: &str,
        takes: Takes,
        body: &[u8],
    ) -> Result<Post, Problem> {
        let jws = Jws::parse(body)?;
        let (from, status) = signer(shared, &jws, takes)?;
        jws.verify(from.key())?;
        let url = &jws.header.url;
        if *url != shared.url(path) {
            let wanted = shared.url(path);
            let detail = format!("the protected `url` is {url:?}, the request went to {wanted:?}");
            return Err(Problem::unauthorized(detail));
        }
        redeem(shared, jws.header.nonce.as_deref())?;
        if status != Status::Valid {
            return Err(accounts::deactivated());
        }
        Ok(Post {
            payload: jws.payload,
            from,
        })
    }

    /// The account that signed.
    pub(crate) fn account(&self) -> Result<u64, Problem> {
        match &self.from {
            From::Account(id, _) => Ok(*id),
            From::Key(_) => Err(Problem::malformed(
                "the request must be signed by an account",
            )),
        }
    }

    /// The key that signed, of an account or not.
    pub(crate) fn signing_key(&self) -> &PublicKey {
        self.from.key()
    }

    /// The key that signed in its own name.
    pub(crate) fn key(&self) -> Result<&PublicKey, Problem> {
        match &self.from {
            From::Key(key) => Ok(key),
            From::Account(..) => Err(Problem::malformed("the request must carry its key")),
        }
    }

    /// Refuses anything but the empty payload of a POST-as-GET.
    pub(crate) fn must_be_get(&self) -> Result<(), Problem> {
        if self.payload.is_empty() {
            return Ok(());
        }
        Err(Problem::malformed("POST-as-GET needs an empty payload"))
    }
}

impl From {
    fn key(&self) -> &PublicKey {
        match self {
            From::Account(_, key) => key,
            From::Key(key) => key,
        }
    }
}

/// Reads a JSON payload.
pub(crate) fn payload<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|e| Problem::malformed(format!("the payload is not what is wanted here: {e}")))
}

fn signer(shared: &Shared, jws: &Jws, takes: Takes) -> Result<(From, Status), Problem> {
    match &jws.header.signer {
        Signer::Jwk(_) if takes == Takes::Account => Err(Problem::malformed(
            "the protected header must have `kid` here, not `jwk`",
        )),
        Signer::Kid(_) if takes == Takes::Key => Err(Problem::malformed(
            "the protected header must have `jwk` here, not `kid`",
        )),
        Signer::Jwk(key) => Ok((From::Key(key.clone()), Status::Valid)),
        Signer::Kid(kid) => {
            let id = kid
                .strip_prefix(&shared.url("/account/"))
                .and_then(|id| id.parse().ok())
                .ok_or_else(accounts::unknown)?;
            let mut state = shared.state();
            let account = state.account(id).ok_or_else(accounts::unknown)?;
            Ok((From::Account(id, Arc::clone(&account.key)), account.status))
        }
    }
}

fn redeem(shared: &Shared, nonce: Option<&str>) -> Result<(), Problem> {
    let bad = |detail: &str| Err(Problem::new(Kind::BadNonce, detail));
    let Some(nonce) = nonce else {
        return bad("the protected header has no nonce");
    };
    let now = shared.now();
    if shared.state().nonces.redeem(nonce, now) {
        return Ok(());
    }
    bad("the nonce is unknown, used or too old")
}
