//! The header fields that ACME replies use. Parsing only; what cannot be read is as good as absent.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{AGE, CONTENT_TYPE, DATE, HeaderMap, LINK, LOCATION, RETRY_AFTER};

use crate::clock::between;

/// A `Retry-After` beyond this is taken as this: nothing may be put off for ever by one header.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The longest nonce that is kept; those of known authorities have at most 64 characters.
const MAX_NONCE: usize = 512;
/// HTTP dates are RFC 2822 dates in GMT (RFC 9110 section 5.6.7); a wrong day of the week does no harm.
const HTTP_DATE: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// The media type in lower case, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    Some(essence.to_ascii_lowercase())
}

/// `Retry-After`: whole seconds, or an HTTP date, which counts from `now` (RFC 9110 section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number is still "very long".
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        between(now, HTTP_DATE.parse_timestamp(value).ok()?)
    };
    Some(delay.min(MAX_RETRY_AFTER))
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
    fn retry_after_is_seconds_or_a_date_and_garbage_is_ignored() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let seen = |value: &str| retry_after(&headers(&[("retry-after", value)]), now);
        assert_eq!(seen("3"), Some(Duration::from_secs(3)));
        assert_eq!(
            seen("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(37))
        );
        assert_eq!(
            seen("Mon, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(37))
        );
        assert_eq!(seen("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(
            seen("99999999999999999999999999"),
            Some(MAX_RETRY_AFTER),
            "very long is cut, not ignored"
        );
        for garbage in ["", "-5", "soon", "1.5", "Sun, 06 Nov", "3 s"] {
            assert_eq!(seen(garbage), None, "{garbage:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
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
