//! The header fields that ACME replies use. Parsing only; what cannot be read is as good as absent.

use countersign_providers::exchange::HTTP_DATE;
use jiff::Timestamp;
use reqwest::header::{AGE, CONTENT_TYPE, DATE, HeaderMap, LINK, LOCATION};

/// The longest nonce that is kept; those of known authorities have at most 64 characters.
const MAX_NONCE: usize = 512;

/// The media type in lower case, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}

/// `Date`, where the reply comes from the authority itself: a cache that held it says so by `Age` (RFC 9111 section 5.1).
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let value = headers.get(DATE).filter(|_| !headers.contains_key(AGE))?;
    HTTP_DATE.parse_timestamp(value.to_str().ok()?.trim()).ok()
}

/// `Replay-Nonce`, if it is base64url (RFC 8555 section 6.5.1).
pub(super) fn replay_nonce(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("replay-nonce")?.to_str().ok()?;
    (value.len() <= MAX_NONCE && is_base64url(value)).then(|| value.to_owned())
}

/// `Location`, as it stands.
pub(super) fn location(headers: &HeaderMap) -> Option<&str> {
    headers.get(LOCATION)?.to_str().ok()
}

/// The targets of every `Link` with this relation (RFC 8288 section 3), as they stand.
pub(super) fn links<'h>(headers: &'h HeaderMap, relation: &str) -> Vec<&'h str> {
    headers
        .get_all(LINK)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // One field may hold several links, separated by commas; `<` begins each and cannot stand in a URL.
        .flat_map(|value| value.split('<').skip(1))
        .filter_map(|link| link.split_once('>'))
        .filter(|(_, parameters)| has_relation(parameters, relation))
        .map(|(target, _)| target.trim())
        .collect()
}

/// Whether `text` is base64url without padding, and not empty.
pub(super) fn is_base64url(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn has_relation(parameters: &str, relation: &str) -> bool {
    parameters
        .split([';', ','])
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"))
        .flat_map(|(_, value)| value.trim().trim_matches('"').split_ascii_whitespace())
        .any(|word| word.eq_ignore_ascii_case(relation))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_media_type_is_compared_without_parameters() {
        let map = headers(&[(
            "content-type",
            "Application/PEM-certificate-chain; charset=utf-8",
        )]);
        assert_eq!(
            media_type(&map).as_deref(),
            Some("application/pem-certificate-chain")
        );
    }

    #[test]
    fn a_nonce_that_is_not_base64url_is_ignored() {
        let seen = |value: &str| replay_nonce(&headers(&[("replay-nonce", value)]));
        assert_eq!(
            seen("oFvnlFP1wIhRlYS2jTaXbA").as_deref(),
            Some("oFvnlFP1wIhRlYS2jTaXbA")
        );
        for bad in ["", "a b", "a=", "a+b", "\"x\"", &"a".repeat(MAX_NONCE + 1)] {
            assert_eq!(seen(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn links_are_found_in_one_field_or_in_several() {
        let map = headers(&[
            (
                "link",
                "<https://ca/dir>;rel=\"index\", <https://ca/1>; rel=\"alternate\"",
            ),
            ("link", "<https://ca/2>;title=\"x\";REL=alternate"),
            ("link", "<https://ca/3>;rel=\"up alternate\""),
            ("link", "<broken"),
        ]);
        assert_eq!(
            links(&map, "alternate"),
            ["https://ca/1", "https://ca/2", "https://ca/3"]
        );
        assert_eq!(links(&map, "index"), ["https://ca/dir"]);
    }
}
