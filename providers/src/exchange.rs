//! What every HTTP exchange has in common: why there was no reply, and when the host wants to be asked again.

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::clock::between;
use crate::words::{chain, find, innermost};

/// `EMFILE` and `ENFILE`: no file descriptor is left, to the process or to the system.
const NO_DESCRIPTOR: [i32; 2] = [24, 23];

/// Why there was no reply.
#[derive(Debug)]
pub enum Unreached {
    /// The handshake failed.
    Tls(rustls::Error),
    /// No connection was accepted in time.
    TooSlow,
    /// The system's resolver did not find the host; its words.
    Unresolved(String),
    /// No file descriptor is left.
    NoDescriptor,
    /// Nothing listens there.
    Refused,
    /// There was no connection; why.
    NoConnection(String),
    /// The connection broke off before the whole reply had come; why.
    BrokenOff(String),
}

impl Unreached {
    /// What `error` comes down to.
    pub fn of(error: &reqwest::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls(tls.clone());
        }
        if error.is_timeout() && error.is_connect() {
            return Self::TooSlow;
        }
        if chain(error).contains("dns error") {
            return Self::Unresolved(innermost(error));
        }
        let io = find::<io::Error>(error);
        let code = io.and_then(io::Error::raw_os_error);
        if code.is_some_and(|code| NO_DESCRIPTOR.contains(&code)) {
            return Self::NoDescriptor;
        }
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => Self::Refused,
            _ if error.is_connect() => Self::NoConnection(innermost(error)),
            _ => Self::BrokenOff(innermost(error)),
        }
    }
}

/// A `Retry-After` beyond this is taken as this: nothing may be put off for ever by one header.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(366 * 86_400);
/// HTTP dates are RFC 2822 dates in GMT (RFC 9110 section 5.6.7); a wrong day of the week does no harm.
pub const HTTP_DATE: DateTimeParser = DateTimeParser::new().relaxed_weekday(true);

/// `Retry-After`: whole seconds, or an HTTP date, which counts from `now` (RFC 9110 section 10.2.3).
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number is still "very long".
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        between(now, HTTP_DATE.parse_timestamp(value).ok()?)
    };
    Some(delay.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_garbage_is_ignored() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        let seen = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(seen("3"), Some(Duration::from_secs(3)));
        let day = "06 Nov 1994 08:49:37 GMT";
        let soon = Some(Duration::from_secs(37));
        assert_eq!(seen(&format!("Sun, {day}")), soon);
        assert_eq!(seen(&format!("Mon, {day}")), soon);
        assert_eq!(seen("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(
            seen("99999999999999999999999999"),
            Some(LONGEST_RETRY_AFTER),
            "very long is cut, not ignored"
        );
        for garbage in ["", "-5", "soon", "1.5", "Sun, 06 Nov", "3 s"] {
            assert_eq!(seen(garbage), None, "{garbage:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
