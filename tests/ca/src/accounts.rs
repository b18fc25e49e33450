//! Accounts: newAccount, update, deactivation and key change, RFC 8555 section 7.3.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::jws::{Jws, PublicKey, Signer};
use crate::post::{Post, payload};
use crate::problem::{Kind, Problem};
use crate::reply::Reply;
use crate::state::{Account, Status};

/// More than anyone needs.
const MAX_CONTACTS: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    terms_of_service_agreed: bool,
    #[serde(default)]
    only_return_existing: bool,
}

#[derive(Deserialize)]
struct Update {
    contact: Option<Vec<String>>,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange {
    account: String,
    old_key: Value,
}

/// `newAccount`: makes one, or finds the one of the same key.
pub(crate) fn new_account(shared: &Shared, post: &Post) -> Result<Reply, Problem> {
    let asked: NewAccount = payload(&post.payload)?;
    let key = post.key()?;
    let mut state = shared.state();
    if let Some(id) = state.account_of_key(key) {
        let account = state.account(id).ok_or_else(unknown)?;
        if account.status != Status::Valid {
            return Err(deactivated());
        }
        return Ok(reply(shared, 200, id, account));
    }
    if asked.only_return_existing {
        return Err(unknown());
    }
    check_contacts(&asked.contact)?;
    if !asked.terms_of_service_agreed {
        return Err(terms_not_agreed(shared));
    }
    let key = Arc::new(key.clone());
    let id = state.add_account(Account {
        key,
        contact: asked.contact,
        status: Status::Valid,
    })?;
    let account = state.account(id).ok_or_else(unknown)?;
    Ok(reply(shared, 201, id, account))
}

/// The account itself: shown, changed or deactivated.
pub(crate) fn account(shared: &Shared, id: u64, post: &Post) -> Result<Reply, Problem> {
    if post.account()? != id {
        return Err(Problem::unauthorized("the account belongs to another key"));
    }
    let mut state = shared.state();
    let account = state.account(id).ok_or_else(unknown)?;
    if !post.payload.is_empty() {
        let update: Update = payload(&post.payload)?;
        match update.status.as_deref() {
            None | Some("valid") => {}
            Some("deactivated") => account.status = Status::Deactivated,
            Some(other) => {
                let detail = format!("an account cannot be set to {other:?} by its owner");
                return Err(Problem::malformed(detail));
            }
        }
        if let Some(contact) = update.contact {
            check_contacts(&contact)?;
            account.contact = contact;
        }
    }
    Ok(reply(shared, 200, id, account))
}

/// The list of an account's orders, RFC 8555 section 7.1.2.1, on one page.
pub(crate) fn orders(shared: &Shared, id: u64, post: &Post) -> Result<Reply, Problem> {
    if post.account()? != id {
        return Err(Problem::unauthorized("the account belongs to another key"));
    }
    let now = shared.now();
    let mut state = shared.state();
    let urls: Vec<_> = state
        .orders(now)
        .filter(|(_, order)| order.account == id && order.status != Status::Invalid)
        .map(|(order, _)| shared.url(&format!("/order/{order}")))
        .collect();
    Ok(Reply::json(200, &json!({ "orders": urls })))
}

/// `keyChange`, RFC 8555 section 7.3.5: a request signed by the new key inside one by the old.
pub(crate) fn key_change(shared: &Shared, post: &Post) -> Result<Reply, Problem> {
    let id = post.account()?;
    let inner = Jws::parse(&post.payload)?;
    let Signer::Jwk(new_key) = &inner.header.signer else {
        return Err(Problem::malformed(
            "the inner request must carry the new key as `jwk`",
        ));
    };
    inner.verify(new_key)?;
    if inner.header.url != shared.url("/key-change") {
        return Err(Problem::malformed(
            "the inner request has another `url` than the outer one",
        ));
    }
    if inner.header.nonce.is_some() {
        return Err(Problem::malformed(
            "the inner request must not have a nonce",
        ));
    }
    let asked: KeyChange = payload(&inner.payload)?;
    if asked.account != account_url(shared, id) {
        return Err(Problem::malformed(
            "the inner request is about another account",
        ));
    }
    let old_key = PublicKey::from_jwk(&asked.old_key)?;

    let mut state = shared.state();
    if let Some(other) = state.account_of_key(new_key) {
        return Err(
            Problem::malformed("the new key belongs to an account already")
                .status(409)
                .header("location", account_url(shared, other)),
        );
    }
    let account = state.account(id).ok_or_else(unknown)?;
    if account.key.thumbprint != old_key.thumbprint {
        return Err(Problem::malformed("`oldKey` is not the key of the account"));
    }
    account.key = Arc::new(new_key.clone());
    Ok(reply(shared, 200, id, account))
}

/// No account has this key or URL.
pub(crate) fn unknown() -> Problem {
    Problem::new(Kind::AccountDoesNotExist, "no account has this key or URL")
}

/// The account was given up.
pub(crate) fn deactivated() -> Problem {
    Problem::unauthorized("the account is deactivated")
}

fn reply(shared: &Shared, status: u16, id: u64, account: &Account) -> Reply {
    let url = account_url(shared, id);
    let document = json!({
        "status": account.status.name(),
        "contact": account.contact,
        "termsOfServiceAgreed": true,
        "orders": format!("{url}/orders"),
    });
    Reply::json(status, &document).with("location", url)
}

fn account_url(shared: &Shared, id: u64) -> String {
    shared.url(&format!("/account/{id}"))
}

fn check_contacts(contacts: &[String]) -> Result<(), Problem> {
    if contacts.len() > MAX_CONTACTS {
        let detail = format!("{} contacts, more than {MAX_CONTACTS}", contacts.len());
        return Err(Problem::malformed(detail));
    }
    for contact in contacts {
        let Some(address) = contact.strip_prefix("mailto:") else {
            let detail = format!("the contact {contact:?} is not a mailto: address");
            return Err(Problem::new(Kind::UnsupportedContact, detail));
        };
        let plain = address.matches('@').count() == 1 && !address.contains([',', '?', ' ']);
        if !plain || address.len() > 254 || !address.is_ascii() {
            let detail = format!("the contact {contact:?} is not one plain address");
            return Err(Problem::new(Kind::InvalidContact, detail));
        }
    }
    Ok(())
}

fn terms_not_agreed(shared: &Shared) -> Problem {
    let terms = shared.url("/terms");
    Problem::new(
        Kind::UserActionRequired,
        "the account must agree to the terms of service",
    )
    .header("link", format!("<{terms}>;rel=\"terms-of-service\""))
    .instance(terms)
}
