//! What may stand in an order: DNS identifiers, RFC 8555 section 7.1.3 and 7.4, with the policy
//! of a public authority where the RFC leaves it open.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::problem::{Kind, Part, Problem};

/// As many names as public authorities take in one order.
const MAX_NAMES: usize = 100;

/// The names of a `newOrder` payload: lower-case, sorted, each once.
pub(crate) fn identifiers(
    payload: &Value,
    forbidden: &BTreeSet<String>,
) -> Result<Vec<String>, Problem> {
    let list = payload
        .get("identifiers")
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Problem::malformed("the order names no identifiers"))?;
    if list.len() > MAX_NAMES {
        return Err(Problem::malformed(format!(
            "the order has {} identifiers, more than {MAX_NAMES}",
            list.len()
        )));
    }
    let mut names = BTreeSet::new();
    let mut refused = Vec::new();
    for identifier in list {
        let name = dns_identifier(identifier)?;
        match refusal(&name, forbidden) {
            Some(part) => refused.push(part),
            None => _ = names.insert(name),
        }
    }
    if let Some(first) = refused.first() {
        let detail = format!("cannot issue for {:?}: {}", first.name, first.detail);
        return Err(Problem::new(first.kind, detail).parts(refused));
    }
    refuse_redundant(&names)?;
    Ok(names.into_iter().collect())
}

/// The name without a leading `*.`.
pub(crate) fn base(name: &str) -> &str {
    name.strip_prefix("*.").unwrap_or(name)
}

fn dns_identifier(identifier: &Value) -> Result<String, Problem> {
    let text = |key: &str| {
        identifier
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| Problem::malformed(format!("an identifier has no text {key:?}")))
    };
    match text("type")? {
        "dns" => Ok(text("value")?.to_ascii_lowercase()),
        other => Err(Problem::new(
            Kind::UnsupportedIdentifier,
            format!("the identifier type is {other:?}, not \"dns\""),
        )),
    }
}

fn refusal(name: &str, forbidden: &BTreeSet<String>) -> Option<Part> {
    let (kind, detail) = if name.parse::<IpAddr>().is_ok() {
        (Kind::Malformed, "an address, not a domain name")
    } else if !well_formed(base(name)) {
        (Kind::Malformed, "not a domain name in lower-case A-labels")
    } else if !base(name).contains('.') {
        (Kind::RejectedIdentifier, "a name needs at least two labels")
    } else if forbidden.contains(name) || forbidden.contains(base(name)) {
        (
            Kind::RejectedIdentifier,
            "the authority forbids the name by policy",
        )
    } else {
        return None;
    };
    Some(Part {
        kind,
        detail: detail.to_owned(),
        name: name.to_owned(),
    })
}

/// Letters, digits and inner hyphens, labels of 1 to 63 octets, room left for `_acme-challenge.`.
fn well_formed(name: &str) -> bool {
    name.len() <= 237
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}

/// A name that a wildcard of the same order covers is one too many, as at Let's Encrypt.
fn refuse_redundant(names: &BTreeSet<String>) -> Result<(), Problem> {
    for name in names.iter().filter(|name| !name.starts_with("*.")) {
        let Some((_, parent)) = name.split_once('.') else {
            continue;
        };
        let wildcard = format!("*.{parent}");
        if names.contains(&wildcard) {
            return Err(Problem::malformed(format!(
                "{name:?} is redundant with a wildcard, {wildcard:?}, in the same request"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(names: &[&str]) -> Result<Vec<String>, Problem> {
        let identifiers: Vec<_> = names
            .iter()
            .map(|n| json!({"type": "dns", "value": n}))
            .collect();
        self::identifiers(&json!({ "identifiers": identifiers }), &BTreeSet::new())
    }

    #[test]
    fn sorts_lowers_and_keeps_each_name_once() {
        assert_eq!(
            order(&["X.test", "*.x.test", "x.test"]).unwrap(),
            ["*.x.test", "x.test"]
        );
    }

    #[test]
    fn refuses_what_is_no_name_for_a_certificate() {
        for (name, kind) in [
            ("192.0.2.1", Kind::Malformed),
            ("2001:db8::1", Kind::Malformed),
            ("a_b.test", Kind::Malformed),
            ("a..test", Kind::Malformed),
            ("x.test.", Kind::Malformed),
            ("*.*.x.test", Kind::Malformed),
            ("www.*.test", Kind::Malformed),
            ("-a.test", Kind::Malformed),
            ("", Kind::Malformed),
            ("localhost", Kind::RejectedIdentifier),
            ("*.test", Kind::RejectedIdentifier),
        ] {
            let problem = order(&[name]).unwrap_err();
            assert_eq!(problem.kind, kind, "{name}");
            assert_eq!(
                problem.document()["subproblems"][0]["identifier"]["value"],
                name
            );
        }
    }

    #[test]
    fn refuses_a_name_under_a_wildcard_of_the_same_order() {
        let problem = order(&["*.x.test", "www.x.test"]).unwrap_err();
        assert!(
            problem.detail.contains("redundant with a wildcard"),
            "{}",
            problem.detail
        );
        assert!(order(&["*.x.test", "a.b.x.test"]).is_ok());
    }

    #[test]
    fn refuses_other_types_and_too_many() {
        let ip = json!({"identifiers": [{"type": "ip", "value": "192.0.2.1"}]});
        let problem = identifiers(&ip, &BTreeSet::new()).unwrap_err();
        assert_eq!(problem.kind, Kind::UnsupportedIdentifier);
        let many: Vec<_> = (0..101).map(|n| format!("a{n}.test")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(order(&many).is_err());
    }
}
