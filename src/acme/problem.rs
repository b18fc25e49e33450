//! Problem documents (RFC 7807; RFC 8555 section 6.7), and replies that should have been one: read leniently, since
//! a proxy's HTML page must not hide what happened, and cut to what can be shown to a person.

use countersign_providers::words::printable;
use serde_json::Value;

use super::header::{links, media_type};
use super::transport::Reply;
use crate::engine::order::{Problem, Subproblem};

/// Where ACME's own error types stand (section 6.7).
const PREFIX: &str = "urn:ietf:params:acme:error:";
/// The same before the RFC.
const OLD_PREFIX: &str = "urn:acme:error:";
/// The longest type or name that is kept.
const MAX_WORD: usize = 200;
/// The longest sentence of an authority that is kept.
const MAX_DETAIL: usize = 600;
/// How much of a body that is no problem document is shown.
const MAX_EXCERPT: usize = 120;
/// More subproblems than names in the largest orders are not kept.
const MAX_SUBPROBLEMS: usize = 200;

/// The problem in a reply with an error status.
pub(super) fn of_reply(reply: &Reply) -> Problem {
    let mut problem = match serde_json::from_slice::<Value>(&reply.body) {
        Ok(document @ Value::Object(_)) if document_says_something(&document) => {
            of_value(&document)
        }
        _ => not_a_document(reply),
    };
    problem.status = Some(reply.status);
    if problem.kind == "userActionRequired" && problem.instance.is_none() {
        problem.instance = links(&reply.headers, "terms-of-service")
            .first()
            .map(|url| printable(url, MAX_WORD));
    }
    problem
}

/// A problem inside another object: the `error` of an order or a challenge.
pub(super) fn of_value(document: &Value) -> Problem {
    Problem {
        kind: kind(document),
        detail: text(document, "detail", MAX_DETAIL)
            .or_else(|| text(document, "title", MAX_DETAIL))
            .unwrap_or_default(),
        status: None,
        subproblems: document
            .get("subproblems")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .take(MAX_SUBPROBLEMS)
            .map(subproblem)
            .collect(),
        instance: text(document, "instance", MAX_WORD),
    }
}

/// A problem that we state ourselves, in the authority's terms, without asking it.
pub(super) fn own(kind: &str, detail: String) -> Problem {
    Problem {
        kind: kind.to_owned(),
        detail,
        status: None,
        subproblems: Vec::new(),
        instance: None,
    }
}

fn document_says_something(document: &Value) -> bool {
    document.get("type").is_some_and(Value::is_string)
        || document.get("detail").is_some_and(Value::is_string)
}

fn kind(document: &Value) -> String {
    let whole = text(document, "type", MAX_WORD).unwrap_or_default();
    let short = whole
        .strip_prefix(PREFIX)
        .or_else(|| whole.strip_prefix(OLD_PREFIX));
    short.unwrap_or(&whole).to_owned()
}

fn text(document: &Value, key: &str, max: usize) -> Option<String> {
    let text = printable(document.get(key)?.as_str()?, max);
    (!text.is_empty()).then_some(text)
}

fn subproblem(document: &Value) -> Subproblem {
    Subproblem {
        kind: kind(document),
        detail: text(document, "detail", MAX_DETAIL).unwrap_or_default(),
        identifier: document
            .get("identifier")
            .and_then(|identifier| text(identifier, "value", MAX_WORD)),
    }
}

fn not_a_document(reply: &Reply) -> Problem {
    let what = if (300..400).contains(&reply.status) {
        let target = super::header::location(&reply.headers).unwrap_or("nowhere");
        format!(
            "a redirect to `{}`, which ACME does not follow; check the `directory` URL",
            printable(target, MAX_WORD)
        )
    } else if reply.oversized {
        "a body that is too large to read, instead of a problem document".to_owned()
    } else if reply.body.is_empty() {
        "no problem document".to_owned()
    } else {
        let media = media_type(&reply.headers).unwrap_or_else(|| "a body without a type".into());
        format!(
            "{} instead of a problem document: {}",
            printable(&media, MAX_WORD),
            printable(&String::from_utf8_lossy(&reply.body), MAX_EXCERPT)
        )
    };
    own("", what)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            oversized: false,
        }
    }

    /// The example of RFC 8555 section 6.7.1.
    #[test]
    fn reads_the_example_of_the_rfc() {
        let body = json!({
            "type": "urn:ietf:params:acme:error:malformed",
            "detail": "Some of the identifiers requested were rejected",
            "subproblems": [
                { "type": "urn:ietf:params:acme:error:malformed",
                  "detail": "Invalid underscore in DNS name \"_example.org\"",
                  "identifier": { "type": "dns", "value": "_example.org" } },
                { "type": "urn:ietf:params:acme:error:rejectedIdentifier",
                  "detail": "This CA will not issue for \"example.net\"",
                  "identifier": { "type": "dns", "value": "example.net" } }
            ]
        });
        let problem = of_reply(&reply(400, &body.to_string()));
        assert_eq!(problem.kind, "malformed");
        assert_eq!(problem.status, Some(400));
        assert_eq!(
            problem.detail,
            "Some of the identifiers requested were rejected"
        );
        assert_eq!(problem.subproblems[1].kind, "rejectedIdentifier");
        assert_eq!(
            problem.subproblems[1].identifier.as_deref(),
            Some("example.net")
        );
    }

    #[test]
    fn a_foreign_type_stays_whole() {
        let problem = of_value(&json!({"type": "https://ca.example/errors/x", "title": "Odd"}));
        assert_eq!(problem.kind, "https://ca.example/errors/x");
        assert_eq!(problem.detail, "Odd");
    }

    #[test]
    fn a_page_of_a_proxy_is_shown_in_short() {
        let problem = of_reply(&reply(
            502,
            "<html>\r\n<h1>502 Bad\u{1b}[31m Gateway</h1></html>",
        ));
        assert_eq!(problem.kind, "");
        assert_eq!(problem.status, Some(502));
        assert_eq!(
            problem.detail,
            "a body without a type instead of a problem document: <html> <h1>502 Bad [31m Gateway</h1></html>"
        );
    }

    #[test]
    fn odd_shapes_do_no_harm() {
        for body in [
            "",
            "[]",
            "7",
            "{}",
            r#"{"type":3,"detail":[]}"#,
            r#"{"subproblems":{}}"#,
        ] {
            assert_eq!(of_reply(&reply(500, body)).kind, "", "{body}");
        }
        let odd = of_value(
            &json!({"type": "x", "subproblems": [1, null, {"identifier": "example.com"}]}),
        );
        assert_eq!(odd.subproblems.len(), 3);
    }

    #[test]
    fn text_is_cut_and_cleaned() {
        assert_eq!(printable("a\n\tb\u{202e}c", 10), "a b c");
        assert_eq!(printable(&"ä".repeat(20), 5), "äääää…");
    }
}
