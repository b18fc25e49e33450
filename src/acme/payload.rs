//! What we send: the payloads of RFC 8555 section 7, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::jws::Jws;
use crate::engine::names::Identifier;

/// The response to a challenge (section 7.5.1).
pub(super) const RESPONSE: &str = "{}";

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    #[serde(skip_serializing_if = "Option::is_none")]
    terms_of_service_agreed: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_return_existing: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<Jws>,
}

#[derive(Serialize)]
struct Order<'a> {
    identifiers: Vec<OrderIdentifier>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'a str>,
}

#[derive(Serialize)]
struct OrderIdentifier {
    r#type: &'static str,
    value: String,
}

#[derive(Serialize)]
struct Finalize {
    csr: String,
}

/// A new account (section 7.3).
pub(super) fn new_account(
    contact: &[String],
    agree_to_terms: bool,
    binding: Option<Jws>,
) -> String {
    json(&Account {
        terms_of_service_agreed: agree_to_terms.then_some(true),
        contact: contact.iter().map(|contact| contact_url(contact)).collect(),
        external_account_binding: binding,
        ..Account::default()
    })
}

/// An account that is there already (section 7.3.1).
pub(super) fn find_account() -> String {
    json(&Account {
        only_return_existing: Some(true),
        ..Account::default()
    })
}

/// An order (section 7.4).
pub(super) fn new_order(names: &[Identifier], profile: Option<&str>) -> String {
    let identifiers = names
        .iter()
        .map(|name| OrderIdentifier {
            r#type: "dns",
            value: name.to_string(),
        })
        .collect();
    json(&Order {
        identifiers,
        profile,
    })
}

/// A CSR in DER (section 7.4).
pub(super) fn finalize(csr: &[u8]) -> String {
    json(&Finalize {
        csr: URL_SAFE_NO_PAD.encode(csr),
    })
}

/// `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings are JSON")
}

/// A contact is a URL (section 7.1.2); people write mail addresses.
fn contact_url(contact: &str) -> String {
    if contact.contains(':') {
        contact.to_owned()
    } else {
        format!("mailto:{contact}")
    }
}
