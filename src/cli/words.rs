//! Times, names and failures in the words that people see.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_providers::clock::between;
use jiff::Timestamp;

use crate::config::Config;
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::run::BUILT_IN;

/// A name is what was meant if one letter in so many is wrong, and always if one is.
const LETTERS_A_SLIP: usize = 3;
/// From here on nobody asks for the time of day.
const FAR: Duration = Duration::from_secs(3 * 86_400);
/// Until then nobody asks for the day.
pub(super) const NEAR: Duration = Duration::from_secs(86_400);
/// So many names are listed.
const LISTED: usize = 10;

/// How long, in one unit that leaves no doubt.
pub(super) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// How long something took.
pub(super) fn took(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// When.
pub(super) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// On which day.
pub(super) fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// For programs: RFC 3339 in UTC, to the second.
pub(super) fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// When something ends: the day is enough where it is far.
pub(super) fn until(now: Timestamp, end: Timestamp) -> String {
    match between(now, end) >= FAR {
        true => day(end),
        false => instant(end),
    }
}

/// When, and how far that is.
pub(super) fn ahead(now: Timestamp, at: Timestamp) -> String {
    format!("{} (in {})", instant(at), span(between(now, at)))
}

/// How far that is, and when in short: the time of a day that is near, the day of a time that is far.
pub(super) fn soon(now: Timestamp, at: Timestamp) -> String {
    let far = between(now, at);
    let when = match far {
        _ if far >= FAR => "%Y-%m-%d",
        _ if far >= NEAR => "%Y-%m-%d %H:%M UTC",
        _ => "%H:%M UTC",
    };
    format!("in {} ({})", span(far), at.strftime(when))
}

/// Whose move it is.
pub(super) fn whose(whose: Whose) -> &'static str {
    match whose {
        Whose::You => "your move",
        Whose::DnsHost => "the DNS host's move",
        Whose::Authority => "the authority's move",
        Whose::Target => "the target's move",
        Whose::Countersign => "a fault of Countersign's, please report it",
    }
}

/// A failure in one sentence: what, whose move, when again; `by_itself` where a daemon is at work.
pub(super) fn failure(
    failure: &Failure,
    now: Timestamp,
    again: Option<Timestamp>,
    by_itself: bool,
) -> String {
    let again = match again {
        // The other side said when: nobody asks sooner.
        Some(at) if at > now && failure.not_before.is_some() => {
            format!("tried again from {} on, and not sooner", instant(at))
        }
        Some(at) if at > now => format!("tried again from {} on, or by `renew`", instant(at)),
        _ if by_itself => "tried again at once".to_owned(),
        _ => "tried again by the next `renew`".to_owned(),
    };
    format!(
        "{} [{}]; {again}",
        clean(&failure.sentence),
        whose(failure.whose)
    )
}

/// A number of things: `1 certificate`, `2 certificates`, `2 authorities`.
pub(super) fn count(number: usize, one: &str) -> String {
    let many = self::number(number);
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) => format!("{many} {stem}ies"),
        (_, None) => format!("{many} {one}s"),
    }
}

/// A number with commas: `10,000`.
pub(super) fn number(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b',')).into_owned()
}

/// Text of others without what would steer a terminal, and with people's word for the built-in nameserver.
pub(super) fn clean(text: &str) -> String {
    let safe = |c: char| match c {
        '\n' | '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let text = without_numbers(&text.chars().map(safe).collect::<String>());
    text.replace(&format!("provider {BUILT_IN}"), "the built-in nameserver")
}

/// Leaves the system's numbers out: `No such file or directory (os error 2)` says it in words before.
pub(super) fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        said + rest.strip_prefix(')').unwrap_or(rest)
    })
}

/// The certificates that were named, or what is wrong with a name.
pub(super) fn select(
    config: &Config,
    names: &[String],
) -> Result<BTreeSet<CertificateName>, String> {
    names.iter().map(|name| known(config, name)).collect()
}

/// The certificate of that name.
pub(super) fn known(config: &Config, name: &str) -> Result<CertificateName, String> {
    if let Some(known) = CertificateName::parse(name)
        && config.certificates.contains_key(&known)
    {
        return Ok(known);
    }
    let near = nearest(
        name,
        config.certificates.keys().map(CertificateName::as_str),
    );
    let by_dns_name = config.certificates.iter().find(|(_, certificate)| {
        certificate
            .names
            .iter()
            .any(|known| known.to_string() == name)
    });
    let hint = match (by_dns_name, near) {
        (Some((known, _)), _) => format!("it is a name on the certificate `{known}`"),
        (None, Some(known)) => format!("did you mean `{known}`?"),
        (None, None) => listed(config),
    };
    Err(format!(
        "the configuration has no certificate `{}`; {hint}",
        clean(name)
    ))
}

/// What was meant by `name`, of those that are known.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let slips = |known: &&str| strsim::osa_distance(name, known);
    let near = known.min_by_key(slips)?;
    (slips(&near) <= (near.len() / LETTERS_A_SLIP).max(1)).then_some(near)
}

/// The certificates of the configuration, for whoever named none of them.
pub(super) fn listed(config: &Config) -> String {
    let names: Vec<&str> = config
        .certificates
        .keys()
        .take(LISTED)
        .map(CertificateName::as_str)
        .collect();
    let more = match config.certificates.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("it has {}{more}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let said: Vec<String> = [0, 119, 120, 7_199, 7_200, 172_800]
            .map(|seconds| span(Duration::from_secs(seconds)))
            .into();
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }

    #[test]
    fn what_would_steer_a_terminal_is_replaced() {
        assert_eq!(clean("a\u{1b}[31m\nb"), "a\u{fffd}[31m b");
    }

    #[test]
    fn the_systems_numbers_are_left_out() {
        let said = "/x: No such file or directory (os error 2); create it";
        assert_eq!(clean(said), "/x: No such file or directory; create it");
    }

    #[test]
    fn long_numbers_have_commas() {
        let said = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(said, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!(count(1, "authority"), "1 authority");
        assert_eq!(count(2, "authority"), "2 authorities");
        assert_eq!(count(0, "name"), "0 names");
        assert_eq!(count(10_000, "name"), "10,000 names");
    }
}
