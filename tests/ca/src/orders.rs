//! Orders, authorizations, challenges and certificates, RFC 8555 sections 7.4, 7.5 and 7.6.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::{later, whole_second};
use crate::issue::{Issued, Request, hex};
use crate::jws::{Material, decode, sha256_text};
use crate::post::{Post, payload};
use crate::problem::{Kind, Problem};
use crate::reply::Reply;
use crate::state::{Authorization, Certificate, Order, State, Status, expiry};
use crate::{Shared, names, validate};

/// A name that nobody orders.
const WRONG_NAME: &str = "wrong.invalid";

#[derive(Deserialize)]
struct Finalize {
    csr: String,
}

#[derive(Deserialize)]
struct Revoke {
    certificate: String,
    reason: Option<u8>,
}

/// `newOrder`.
pub(crate) fn new_order(shared: &Shared, post: &Post) -> Result<Reply, Problem> {
    let account = post.account()?;
    let asked: Value = payload(&post.payload)?;
    if asked.get("notBefore").is_some() || asked.get("notAfter").is_some() {
        return Err(Problem::malformed(
            "notBefore and notAfter are not supported",
        ));
    }
    let profile = profile(shared, &asked)?;
    let now = shared.now();
    let mut state = shared.state();
    let names = names::identifiers(&asked, &state.faults.forbidden)?;
    if let Some(problem) = state.faults.take_refused_order() {
        return Err(problem);
    }
    let order = Order::new(
        account,
        names,
        profile,
        expiry(now, shared.settings.order_lifetime),
    )?;
    let id = state.add_order(order);
    let (document, url) = order_document(shared, &mut state, id).ok_or_else(no_order)?;
    Ok(Reply::json(201, &document).with("location", url))
}

/// The order itself; every look brings a processing one nearer to its end.
pub(crate) fn order(shared: &Shared, id: u64, post: &Post) -> Result<Reply, Problem> {
    post.must_be_get()?;
    let mut state = shared.state();
    let order = own_order(shared, &mut state, id, post)?;
    if order.status == Status::Processing {
        order.looks_left = order.looks_left.saturating_sub(1);
        if order.looks_left == 0 {
            order.status = Status::Valid;
        }
    }
    order_reply(shared, &mut state, id)
}

/// An authorization: shown or deactivated.
pub(crate) fn authorization(
    shared: &Shared,
    id: u64,
    index: usize,
    post: &Post,
) -> Result<Reply, Problem> {
    let mut state = shared.state();
    let order = own_order(shared, &mut state, id, post)?;
    if !post.payload.is_empty() {
        let asked: Value = payload(&post.payload)?;
        if asked.get("status") != Some(&json!("deactivated")) {
            return Err(Problem::malformed(
                "an authorization can only be deactivated",
            ));
        }
        let authorization = order.authorizations.get_mut(index).ok_or_else(no_order)?;
        if !matches!(authorization.status, Status::Pending | Status::Valid) {
            return Err(Problem::malformed("the authorization is final already"));
        }
        authorization.status = Status::Deactivated;
        order.fail(Problem::unauthorized(
            "an authorization of the order was deactivated",
        ));
    }
    authorization_reply(shared, &mut state, id, index)
}

/// A challenge: shown, or answered, which starts the validation.
pub(crate) fn challenge(
    shared: &Arc<Shared>,
    id: u64,
    index: usize,
    post: &Post,
) -> Result<Reply, Problem> {
    let mut state = shared.state();
    let order = own_order(shared, &mut state, id, post)?;
    let authorization = order.authorizations.get_mut(index).ok_or_else(no_order)?;
    if !post.payload.is_empty() {
        let asked: Value = payload(&post.payload)?;
        if asked != json!({}) {
            return Err(Problem::malformed(
                "the answer to a dns-01 challenge is exactly {}",
            ));
        }
        match (authorization.status, authorization.challenge) {
            (Status::Pending, Status::Pending) => {
                authorization.challenge = Status::Processing;
                let key_authorization =
                    format!("{}.{}", authorization.token, post.signing_key().thumbprint);
                let name = authorization.name.clone();
                start_validation(shared, id, index, name, key_authorization);
            }
            (Status::Pending, Status::Processing) | (Status::Valid, _) => {}
            (status, _) => {
                let detail = format!("the authorization is {}, not pending", status.name());
                return Err(Problem::malformed(detail));
            }
        }
    }
    let authorization = order.authorizations.get(index).ok_or_else(no_order)?;
    let up = shared.url(&format!("/authorization/{id}/{index}"));
    let wait = retry_while(shared, authorization.challenge == Status::Processing);
    Ok(
        Reply::json(200, &challenge_document(shared, id, index, authorization))
            .with("link", format!("<{up}>;rel=\"up\""))
            .retry_after(wait),
    )
}

/// `finalize`: CSR in, certificate made, handed out when the configured looks have passed.
pub(crate) fn finalize(shared: &Shared, id: u64, post: &Post) -> Result<Reply, Problem> {
    let names = {
        let mut state = shared.state();
        let order = own_order(shared, &mut state, id, post)?;
        must_be_ready(order)?;
        order.names.clone()
    };
    let asked: Finalize = payload(&post.payload)?;
    let csr = Request::parse(&decode("csr", &asked.csr)?, &names)?;
    if csr.material == post.signing_key().material {
        return Err(Problem::new(
            Kind::BadCsr,
            "the CSR's key is the account's key",
        ));
    }
    let issued = issue(shared, &csr, names)?;

    let mut state = shared.state();
    let order = own_order(shared, &mut state, id, post)?;
    // Another finalize may have won while the certificate was made without the lock.
    must_be_ready(order)?;
    order.looks_left = shared.settings.processing_looks;
    order.status = if order.looks_left > 0 {
        Status::Processing
    } else {
        Status::Valid
    };
    order.certificate = Some(issued.serial.clone());
    let certificate = Certificate {
        account: order.account,
        der: issued.der,
        chain_pem: issued.chain_pem.into(),
        revoked: false,
    };
    state.add_certificate(issued.serial, certificate);
    order_reply(shared, &mut state, id)
}

/// The certificate chain.
pub(crate) fn certificate(shared: &Shared, serial: &str, post: &Post) -> Result<Reply, Problem> {
    post.must_be_get()?;
    let account = post.account()?;
    let mut state = shared.state();
    let certificate = state.certificate(serial).ok_or_else(no_certificate)?;
    if certificate.account != account {
        return Err(Problem::unauthorized(
            "the certificate belongs to another account",
        ));
    }
    let chain = certificate.chain_pem.as_bytes().to_vec();
    Ok(Reply::text(200, "application/pem-certificate-chain", chain))
}

/// `revokeCert`, by the account that ordered or by the certificate's own key.
pub(crate) fn revoke(shared: &Shared, post: &Post) -> Result<Reply, Problem> {
    let asked: Revoke = payload(&post.payload)?;
    let der = decode("certificate", &asked.certificate)?;
    // RFC 5280 section 5.3.1, less the reasons that only an authority can give.
    if let Some(reason) = asked.reason
        && !matches!(reason, 0 | 1 | 3 | 4 | 5 | 9)
    {
        let detail = format!("a subscriber cannot revoke for reason {reason}");
        return Err(Problem::new(Kind::BadRevocationReason, detail));
    }
    let (_, parsed) = X509Certificate::from_der(&der)
        .map_err(|e| Problem::malformed(format!("the certificate is unreadable: {e}")))?;
    let mut state = shared.state();
    let certificate = state
        .certificate(&hex(parsed.raw_serial()))
        .filter(|certificate| *certificate.der == *der)
        .ok_or_else(no_certificate)?;
    let allowed = match post.account() {
        Ok(account) => account == certificate.account,
        Err(_) => Material::of(parsed.public_key()).as_ref() == Some(&post.signing_key().material),
    };
    if !allowed {
        return Err(Problem::unauthorized(
            "neither the account nor the key of the certificate",
        ));
    }
    if certificate.revoked {
        return Err(Problem::new(
            Kind::AlreadyRevoked,
            "the certificate is revoked already",
        ));
    }
    certificate.revoked = true;
    Ok(Reply::empty(200))
}

fn profile(shared: &Shared, asked: &Value) -> Result<Option<String>, Problem> {
    match asked.get("profile") {
        None => Ok(None),
        Some(Value::String(name)) if shared.settings.profiles.contains_key(name) => {
            Ok(Some(name.clone()))
        }
        Some(other) => {
            let detail = format!("the profile {other} is not in the directory");
            Err(Problem::new(Kind::InvalidProfile, detail))
        }
    }
}

fn start_validation(
    shared: &Arc<Shared>,
    id: u64,
    index: usize,
    name: String,
    key_authorization: String,
) {
    let validator = Arc::clone(shared);
    shared.spawn(async move {
        let wanted = sha256_text(key_authorization.as_bytes());
        let result = validate::dns01(validator.settings.nameserver, &name, &wanted).await;
        tracing::trace!(%name, ok = result.is_ok(), "validated dns-01");
        let now = validator.now();
        if let Some(order) = validator.state().order(id, now) {
            order.validated(index, result, now);
        }
    });
}

fn issue(shared: &Shared, csr: &Request, names: Vec<String>) -> Result<Issued, Problem> {
    let (wrong_key, wrong_names) = {
        let faults = &mut shared.state().faults;
        (faults.take_wrong_key(), faults.take_wrong_names())
    };
    let names = if wrong_names {
        vec![WRONG_NAME.to_owned()]
    } else {
        names
    };
    let not_before = shared.earlier(shared.settings.backdate);
    let not_after = later(not_before, shared.settings.lifetime);
    let issued = if wrong_key {
        shared
            .issuing
            .issue_for_a_foreign_key(&names, not_before, not_after)
    } else {
        shared
            .issuing
            .issue(&names, csr.key(), not_before, not_after)
    };
    issued.map_err(|e| Problem::new(Kind::ServerInternal, format!("cannot sign: {e}")))
}

fn must_be_ready(order: &Order) -> Result<(), Problem> {
    if order.status == Status::Ready {
        return Ok(());
    }
    let detail = format!("the order is {}, not ready", order.status.name());
    Err(Problem::new(Kind::OrderNotReady, detail))
}

fn own_order<'a>(
    shared: &Shared,
    state: &'a mut State,
    id: u64,
    post: &Post,
) -> Result<&'a mut Order, Problem> {
    let account = post.account()?;
    let order = state.order(id, shared.now()).ok_or_else(no_order)?;
    if order.account != account {
        return Err(Problem::unauthorized(
            "the order belongs to another account",
        ));
    }
    Ok(order)
}

fn order_reply(shared: &Shared, state: &mut State, id: u64) -> Result<Reply, Problem> {
    let processing = state
        .order(id, shared.now())
        .is_some_and(|order| matches!(order.status, Status::Processing | Status::Pending));
    let (document, url) = order_document(shared, state, id).ok_or_else(no_order)?;
    Ok(Reply::json(200, &document)
        .with("location", url)
        .retry_after(retry_while(shared, processing)))
}

fn order_document(shared: &Shared, state: &mut State, id: u64) -> Option<(Value, String)> {
    let unknown = state.faults.take_unknown_status();
    let order = state.order(id, shared.now())?;
    let url = shared.url(&format!("/order/{id}"));
    let identifiers: Vec<_> = order
        .names
        .iter()
        .map(|name| json!({"type": "dns", "value": name}))
        .collect();
    let authorizations: Vec<_> = (0..order.authorizations.len())
        .map(|index| shared.url(&format!("/authorization/{id}/{index}")))
        .collect();
    let mut document = json!({
        "status": if unknown { UNKNOWN_STATUS } else { order.status.name() },
        "expires": order.expires.to_string(),
        "identifiers": identifiers,
        "authorizations": authorizations,
        "finalize": format!("{url}/finalize"),
    });
    if let Some(profile) = &order.profile {
        document["profile"] = json!(profile);
    }
    if let Some(error) = &order.error {
        document["error"] = error.document();
    }
    if let (Status::Valid, Some(serial)) = (order.status, &order.certificate) {
        document["certificate"] = json!(shared.url(&format!("/certificate/{serial}")));
    }
    Some((document, url))
}

/// What the fault of the same name shows.
const UNKNOWN_STATUS: &str = "pondering";

fn authorization_reply(
    shared: &Shared,
    state: &mut State,
    id: u64,
    index: usize,
) -> Result<Reply, Problem> {
    let unknown = state.faults.take_unknown_status();
    let order = state.order(id, shared.now()).ok_or_else(no_order)?;
    let expires = order.expires;
    let authorization = order.authorizations.get(index).ok_or_else(no_order)?;
    let mut document = json!({
        "identifier": {"type": "dns", "value": authorization.name},
        "status": if unknown { UNKNOWN_STATUS } else { authorization.status.name() },
        "expires": expires.to_string(),
        "challenges": [challenge_document(shared, id, index, authorization)],
    });
    if authorization.wildcard {
        document["wildcard"] = json!(true);
    }
    let wait = retry_while(shared, authorization.status == Status::Pending);
    Ok(Reply::json(200, &document).retry_after(wait))
}

fn challenge_document(
    shared: &Shared,
    id: u64,
    index: usize,
    authorization: &Authorization,
) -> Value {
    let mut document = json!({
        "type": "dns-01",
        "url": shared.url(&format!("/challenge/{id}/{index}")),
        "token": authorization.token,
        "status": authorization.challenge.name(),
    });
    if let Some(validated) = authorization.validated {
        document["validated"] = json!(whole_second(validated).to_string());
    }
    if let Some(error) = &authorization.error {
        document["error"] = error.document();
    }
    document
}

fn retry_while(shared: &Shared, unfinished: bool) -> Option<std::time::Duration> {
    shared.settings.retry_after.filter(|_| unfinished)
}

fn no_order() -> Problem {
    Problem::malformed("no such order or authorization").status(404)
}

fn no_certificate() -> Problem {
    Problem::malformed("no such certificate").status(404)
}
