//! The objects of RFC 8555 section 7.1, from their JSON to the engine's closed types. Strict where something would be
//! acted on (URLs, tokens, names), tolerant where it is only shown; a status that the RFC does not know is `Unknown`.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_providers::record::DnsName;
use countersign_providers::words::printable;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::header::is_base64url;
use super::origin::Origins;
use super::problem;
use crate::engine::names::Identifier;
use crate::engine::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeSeen, ChallengeStatus, OrderSeen,
    OrderStatus,
};

/// More authorizations than the largest orders of known authorities have names.
const MAX_AUTHORIZATIONS: usize = 1_000;
/// The longest token that is accepted; 128 bits, the least, are 22 characters.
const MAX_TOKEN: usize = 512;
/// How much of a text of the authority stands in a message.
const SHOWN: usize = 80;

/// The directory (section 7.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where nonces come from.
    pub new_nonce: String,
    /// Where accounts are made.
    pub new_account: String,
    /// Where orders are made.
    pub new_order: String,
    /// Where certificates are revoked.
    pub revoke_cert: Option<String>,
    /// Where an account's key is changed.
    pub key_change: Option<String>,
    /// Where renewal information is (RFC 9773).
    pub renewal_info: Option<String>,
    /// The terms of service, for a person to read.
    pub terms_of_service: Option<String>,
    /// The names that the authority looks for in CAA records.
    pub caa_identities: Vec<String>,
    /// Whether a new account must be bound to an external one.
    pub external_account_required: bool,
    /// The profiles offered and what they are.
    pub profiles: BTreeMap<String, String>,
}

/// The states of an account (section 7.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// In use.
    Valid,
    /// Given up by its owner.
    Deactivated,
    /// Taken away by the authority.
    Revoked,
    /// A word that the RFC does not know.
    Unknown,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DirectoryWire {
    new_nonce: String,
    new_account: String,
    new_order: String,
    revoke_cert: Option<String>,
    key_change: Option<String>,
    renewal_info: Option<String>,
    meta: Option<Value>,
}

#[derive(Deserialize)]
struct OrderWire {
    status: String,
    authorizations: Vec<String>,
    finalize: String,
    certificate: Option<String>,
    error: Option<Value>,
    expires: Option<String>,
}

#[derive(Deserialize)]
struct AuthorizationWire {
    status: String,
    identifier: IdentifierWire,
    wildcard: Option<bool>,
    challenges: Option<Vec<Value>>,
    expires: Option<String>,
}

#[derive(Deserialize)]
struct IdentifierWire {
    r#type: String,
    value: String,
}

#[derive(Deserialize)]
struct ChallengeWire {
    url: String,
    status: String,
    token: Option<String>,
    error: Option<Value>,
}

/// Reads a directory.
pub(super) fn directory(body: &[u8], origins: &Origins) -> Result<Directory, CaFault> {
    let wire: DirectoryWire = json("directory", body)?;
    let checked = |what: &str, url: String| origins.check(what, &url).map(|_| url);
    let optional = |what: &str, url: Option<String>| url.map(|url| checked(what, url)).transpose();
    let meta = wire.meta.unwrap_or(Value::Null);
    Ok(Directory {
        new_nonce: checked("newNonce URL", wire.new_nonce)?,
        new_account: checked("newAccount URL", wire.new_account)?,
        new_order: checked("newOrder URL", wire.new_order)?,
        revoke_cert: optional("revokeCert URL", wire.revoke_cert)?,
        key_change: optional("keyChange URL", wire.key_change)?,
        renewal_info: optional("renewalInfo URL", wire.renewal_info)?,
        terms_of_service: meta["termsOfService"]
            .as_str()
            .map(|url| printable(url, 300)),
        caa_identities: texts(meta["caaIdentities"].as_array()),
        external_account_required: meta["externalAccountRequired"].as_bool().unwrap_or(false),
        profiles: profiles(&meta["profiles"]),
    })
}

/// Reads an order that stands at `url`.
pub(super) fn order(
    body: &[u8],
    url: &str,
    retry_after: Option<Duration>,
    origins: &Origins,
) -> Result<OrderSeen, CaFault> {
    let wire: OrderWire = json("order", body)?;
    if wire.authorizations.len() > MAX_AUTHORIZATIONS {
        return Err(malformed(
            "order",
            &format!(
                "has {} authorizations, more than {MAX_AUTHORIZATIONS}",
                wire.authorizations.len()
            ),
        ));
    }
    for authorization in &wire.authorizations {
        origins.check("authorization URL", authorization)?;
    }
    origins.check("finalize URL", &wire.finalize)?;
    if let Some(certificate) = &wire.certificate {
        origins.check("certificate URL", certificate)?;
    }
    Ok(OrderSeen {
        url: url.to_owned(),
        status: order_status(&wire.status),
        authorizations: wire.authorizations,
        finalize: wire.finalize,
        certificate: wire.certificate,
        error: wire.error.as_ref().and_then(embedded_problem),
        expires: instant(wire.expires.as_deref()),
        retry_after,
    })
}

/// Reads an authorization that stands at `url`.
pub(super) fn authorization(
    body: &[u8],
    url: &str,
    retry_after: Option<Duration>,
    origins: &Origins,
) -> Result<AuthorizationSeen, CaFault> {
    let wire: AuthorizationWire = json("authorization", body)?;
    let identifier = name(&wire.identifier)?;
    let challenge = wire
        .challenges
        .iter()
        .flatten()
        .find(|challenge| challenge["type"] == "dns-01")
        .map(|challenge| challenge_of(challenge.clone(), origins))
        .transpose()?;
    Ok(AuthorizationSeen {
        url: url.to_owned(),
        status: authorization_status(&wire.status),
        identifier: identifier.base,
        wildcard: wire.wildcard.unwrap_or(false) || identifier.wildcard,
        challenge,
        expires: instant(wire.expires.as_deref()),
        retry_after,
    })
}

/// Reads a `dns-01` challenge.
pub(super) fn challenge(body: &[u8], origins: &Origins) -> Result<ChallengeSeen, CaFault> {
    let value: Value = json("challenge", body)?;
    if value["type"] != "dns-01" {
        let seen = printable(&value["type"].to_string(), SHOWN);
        return Err(malformed(
            "challenge",
            &format!("has the type {seen} instead of `dns-01`"),
        ));
    }
    challenge_of(value, origins)
}

/// Reads an account's status. The object may be empty or missing: that it was answered for says enough.
pub(super) fn account_status(body: &[u8]) -> AccountStatus {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    match value["status"].as_str() {
        None | Some("valid") => AccountStatus::Valid,
        Some("deactivated") => AccountStatus::Deactivated,
        Some("revoked") => AccountStatus::Revoked,
        Some(_) => AccountStatus::Unknown,
    }
}

fn challenge_of(value: Value, origins: &Origins) -> Result<ChallengeSeen, CaFault> {
    let wire: ChallengeWire = serde_json::from_value(value)
        .map_err(|error| malformed("challenge", &printable(&error.to_string(), SHOWN)))?;
    origins.check("challenge URL", &wire.url)?;
    let status = challenge_status(&wire.status);
    Ok(ChallengeSeen {
        token: token(wire.token, status)?,
        url: wire.url,
        status,
        error: wire.error.as_ref().and_then(embedded_problem),
    })
}

/// A token must be base64url (section 8.3): it goes into what we sign off. It may be left out once decided.
fn token(token: Option<String>, status: ChallengeStatus) -> Result<String, CaFault> {
    match token {
        Some(token) if token.len() <= MAX_TOKEN && is_base64url(&token) => Ok(token),
        None if matches!(status, ChallengeStatus::Valid | ChallengeStatus::Invalid) => {
            Ok(String::new())
        }
        // What came is not repeated: tokens do not go into messages.
        Some(_) => Err(malformed("challenge", "has a token that is not base64url")),
        None => Err(malformed("challenge", "has no token")),
    }
}

fn name(wire: &IdentifierWire) -> Result<Identifier, CaFault> {
    if wire.r#type != "dns" {
        return Err(malformed(
            "authorization",
            &format!(
                "is for an identifier of type `{}` instead of `dns`",
                printable(&wire.r#type, SHOWN)
            ),
        ));
    }
    // Section 7.1.4 forbids `*.` here; where it comes nevertheless, it says what it says.
    Identifier::parse(&wire.value).map_err(|error| {
        malformed(
            "authorization",
            &format!(
                "is for the name `{}`: {error}",
                printable(&wire.value, SHOWN)
            ),
        )
    })
}

fn order_status(word: &str) -> OrderStatus {
    match word {
        "pending" => OrderStatus::Pending,
        "ready" => OrderStatus::Ready,
        "processing" => OrderStatus::Processing,
        "valid" => OrderStatus::Valid,
        "invalid" => OrderStatus::Invalid,
        _ => OrderStatus::Unknown,
    }
}

fn authorization_status(word: &str) -> AuthorizationStatus {
    match word {
        "pending" => AuthorizationStatus::Pending,
        "valid" => AuthorizationStatus::Valid,
        "invalid" => AuthorizationStatus::Invalid,
        "deactivated" => AuthorizationStatus::Deactivated,
        "expired" => AuthorizationStatus::Expired,
        "revoked" => AuthorizationStatus::Revoked,
        _ => AuthorizationStatus::Unknown,
    }
}

fn challenge_status(word: &str) -> ChallengeStatus {
    match word {
        "pending" => ChallengeStatus::Pending,
        "processing" => ChallengeStatus::Processing,
        "valid" => ChallengeStatus::Valid,
        "invalid" => ChallengeStatus::Invalid,
        _ => ChallengeStatus::Unknown,
    }
}

/// An `error` member; some authorities send an empty object where there is none.
fn embedded_problem(value: &Value) -> Option<crate::engine::order::Problem> {
    let members = value.as_object()?;
    (!members.is_empty()).then(|| problem::of_value(value))
}

/// `expires` only bounds waiting, so one that cannot be read is as good as none.
fn instant(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn texts(values: Option<&Vec<Value>>) -> Vec<String> {
    values
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|text| DnsName::parse(text).is_ok())
        .take(20)
        .map(str::to_owned)
        .collect()
}

fn profiles(value: &Value) -> BTreeMap<String, String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .take(50)
        .map(|(name, what)| {
            let what = what.as_str().unwrap_or_default();
            (printable(name, SHOWN), printable(what, 300))
        })
        .collect()
}

fn json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, CaFault> {
    serde_json::from_slice(body)
        // The message of serde names the field, and repeats at most one scalar of the body.
        .map_err(|error| malformed(what, &printable(&error.to_string(), SHOWN)))
}

fn malformed(what: &str, why: &str) -> CaFault {
    CaFault::Malformed(format!("the authority's {what} cannot be used: {why}"))
}
