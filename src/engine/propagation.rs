//! Observations of authoritative servers → a verdict with reasons.
//!
//! Pure, and almost without state: what was seen since the values were written is enough, and a restart may begin
//! with nothing. A stale server blocks for as long as it is stale; one that gives no usable answer blocks only for a
//! while, since it may be out of reach from here alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How long an address without a usable answer blocks, counted from its first such answer in a row.
pub const GRACE: Duration = Duration::from_secs(10);
/// The pauses between one look at an address and the next, in milliseconds; the last one repeats. Most hosts are
/// done within a second, so the first looks are close together.
const PAUSES: [u64; 8] = [50, 100, 200, 500, 1000, 2000, 3000, 5000];
/// How much of what a stranger's server said is shown: values, and characters of each.
const SHOWN_VALUES: usize = 3;
const SHOWN_CHARACTERS: usize = 60;
/// How many addresses a reason names.
const SHOWN_ADDRESSES: usize = 3;

/// What one authoritative address said when asked for the TXT RRset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The name of the server, from the NS RRset.
    pub host: String,
    /// The address asked.
    pub address: IpAddr,
    /// What came.
    pub outcome: Outcome,
    /// The zone's serial there, where it was learnt.
    pub serial: Option<u32>,
    /// Whether a resolver said so, from its cache perhaps, and not an authoritative server.
    #[serde(default)]
    pub by_resolver: bool,
}

/// What came of one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// An authoritative answer with these TXT values; empty for NODATA and NXDOMAIN.
    Values(Vec<String>),
    /// An answer that is not authoritative, or an error code; in words, e.g. `REFUSED`.
    Lame(String),
    /// No answer; in words, e.g. `no answer within 3 s`.
    Unreachable(String),
    /// This machine has no route there, as for IPv6 on a host without; in words. Says nothing of the server.
    NoRoute(String),
}

/// What is known of one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What it said last.
    pub observation: Observation,
    /// When it said so.
    pub at: Timestamp,
    /// How often it was asked.
    pub asked: u32,
    /// Since when it has given no usable answer; `None` while it gives one.
    pub unusable_since: Option<Timestamp>,
}

/// The latest word of every address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// By address.
    pub latest: BTreeMap<IpAddr, Seen>,
}

impl History {
    /// Takes in a round of observations made until `now`.
    pub fn record(&mut self, now: Timestamp, observations: Vec<Observation>) {
        for observation in observations {
            let before = self.latest.get(&observation.address);
            let usable = matches!(observation.outcome, Outcome::Values(_));
            let seen = Seen {
                at: now,
                asked: before.map_or(0, |seen| seen.asked).saturating_add(1),
                unusable_since: (!usable)
                    .then(|| before.and_then(|seen| seen.unusable_since).unwrap_or(now)),
                observation,
            };
            self.latest.insert(seen.observation.address, seen);
        }
    }

    /// What this says of `wanted`.
    pub fn verdict(&self, wanted: &[String], now: Timestamp) -> Verdict {
        verdict(wanted, &self.latest, now)
    }
}

/// Whether the authority may be told to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every usable address has every value.
    Ready,
    /// As good as it gets from here; the reason says what could not be seen.
    Likely {
        /// A sentence without a full stop.
        reason: String,
    },
    /// Not yet.
    Waiting {
        /// A sentence without a full stop: which server, at which address, says what.
        reason: String,
        /// The addresses to ask next; those with every value are left alone.
        ask_again: Vec<IpAddr>,
        /// When to ask them.
        next: Timestamp,
    },
}

/// Judges the latest word of every address. Without any it waits.
pub fn verdict(wanted: &[String], latest: &BTreeMap<IpAddr, Seen>, now: Timestamp) -> Verdict {
    let judged: Vec<(&Seen, State)> = latest
        .values()
        .map(|seen| (seen, state(seen, wanted, now)))
        .collect();
    let of = |wanted: State| -> Vec<&Seen> {
        let matching = judged.iter().filter(|(_, state)| *state == wanted);
        matching.map(|(seen, _)| *seen).collect()
    };
    let has = of(State::Has);
    // An address of the wrong family is no gap while its server answers at another.
    let answers_elsewhere = |seen: &Seen| {
        is_no_route(seen)
            && has
                .iter()
                .any(|other| other.observation.host == seen.observation.host)
    };
    let stale = of(State::Stale);
    let mut silent = of(State::Silent);
    silent.retain(|seen| !answers_elsewhere(seen));
    let mut given_up = of(State::GivenUp);
    given_up.retain(|seen| !answers_elsewhere(seen));

    if !stale.is_empty() {
        return waiting(
            sentences(&stale, |seen| stale_text(seen, wanted)),
            latest,
            wanted,
            now,
        );
    }
    if !silent.is_empty() || has.is_empty() {
        let blockers = if silent.is_empty() {
            &given_up
        } else {
            &silent
        };
        return waiting(sentences(blockers, silent_text), latest, wanted, now);
    }
    if !given_up.is_empty() {
        let reason = format!(
            "{}; every other server has the value",
            sentences(&given_up, silent_text)
        );
        return Verdict::Likely { reason };
    }
    let resolvers: Vec<&Seen> = has
        .into_iter()
        .filter(|seen| seen.observation.by_resolver)
        .collect();
    if !resolvers.is_empty() {
        let reason = format!(
            "only resolvers were asked, not the authoritative servers: {}",
            sentences(&resolvers, |seen| format!("{} has the value", server(seen)))
        );
        return Verdict::Likely { reason };
    }
    Verdict::Ready
}

/// When an address that was asked `asked` times, last at `at`, is asked again.
pub fn next_look(asked: u32, at: Timestamp) -> Timestamp {
    let Some(before) = asked.checked_sub(1) else {
        return at;
    };
    let index = usize::try_from(before)
        .unwrap_or(usize::MAX)
        .min(PAUSES.len() - 1);
    later(at, Duration::from_millis(PAUSES[index]))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Has every value.
    Has,
    /// Answers without one.
    Stale,
    /// Gives no usable answer and still blocks.
    Silent,
    /// Has given none for so long that it blocks no more.
    GivenUp,
}

fn state(seen: &Seen, wanted: &[String], now: Timestamp) -> State {
    match (&seen.observation.outcome, seen.unusable_since) {
        (Outcome::Values(values), _) if wanted.iter().all(|value| values.contains(value)) => {
            State::Has
        }
        (Outcome::Values(_), _) => State::Stale,
        (_, Some(since)) if now >= later(since, GRACE) => State::GivenUp,
        (_, _) => State::Silent,
    }
}

fn is_no_route(seen: &Seen) -> bool {
    matches!(seen.observation.outcome, Outcome::NoRoute(_))
}

fn waiting(
    reason: String,
    latest: &BTreeMap<IpAddr, Seen>,
    wanted: &[String],
    now: Timestamp,
) -> Verdict {
    let of = |states: &[State]| -> Vec<&Seen> {
        let matching = latest.values();
        matching
            .filter(|seen| states.contains(&state(seen, wanted, now)))
            .collect()
    };
    // One that was given up would hold up each look at the others.
    let mut lacking = of(&[State::Stale, State::Silent]);
    if lacking.is_empty() {
        lacking = of(&[State::GivenUp]);
    }
    let due = |seen: &&Seen| {
        let look = next_look(seen.asked, seen.at);
        // The end of the grace changes the verdict, so it is a time to look as well.
        match seen.unusable_since.map(|since| later(since, GRACE)) {
            Some(end) if end > now => look.min(end),
            _ => look,
        }
    };
    let next = lacking.iter().map(due).min().unwrap_or(now).max(now);
    let ask_again = lacking
        .iter()
        .filter(|seen| due(seen) <= next)
        .map(|seen| seen.observation.address)
        .collect();
    Verdict::Waiting {
        reason,
        ask_again,
        next,
    }
}

fn sentences(seen: &[&Seen], one: impl Fn(&Seen) -> String) -> String {
    if seen.is_empty() {
        return "no authoritative server was asked yet".to_owned();
    }
    let shown = seen.iter().take(SHOWN_ADDRESSES).map(|seen| one(seen));
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if seen.len() > SHOWN_ADDRESSES {
        let _ = write!(text, "; and {} more", seen.len() - SHOWN_ADDRESSES);
    }
    text
}

fn stale_text(seen: &Seen, wanted: &[String]) -> String {
    let Outcome::Values(values) = &seen.observation.outcome else {
        return silent_text(seen);
    };
    let ours = if wanted.iter().any(|value| values.contains(value)) {
        "with only some of our values"
    } else {
        "without our value"
    };
    let says = if values.is_empty() {
        "it has no TXT record".to_owned()
    } else {
        format!("it says {}", quoted(values))
    };
    match seen.observation.serial {
        Some(serial) => format!(
            "{} still serves serial {serial} {ours}; {says}",
            server(seen)
        ),
        None => format!("{} still answers {ours}; {says}", server(seen)),
    }
}

fn silent_text(seen: &Seen) -> String {
    let server = server(seen);
    match &seen.observation.outcome {
        Outcome::Values(_) => format!("{server} answers"),
        Outcome::Lame(what) => {
            format!(
                "{server} is not authoritative for the zone: {}",
                plain(what)
            )
        }
        Outcome::Unreachable(what) => format!("{server} cannot be reached: {}", plain(what)),
        Outcome::NoRoute(what) => format!("{server} cannot be reached from here: {}", plain(what)),
    }
}

fn server(seen: &Seen) -> String {
    let Observation { host, address, .. } = &seen.observation;
    format!("{} ({address})", plain(host))
}

/// What a server said, safe for a terminal and no longer than a line.
fn quoted(values: &[String]) -> String {
    let shown = values.iter().take(SHOWN_VALUES);
    let mut text = shown
        .map(|value| format!("\"{}\"", plain(value)))
        .collect::<Vec<_>>()
        .join(", ");
    if values.len() > SHOWN_VALUES {
        let _ = write!(text, " and {} more", values.len() - SHOWN_VALUES);
    }
    text
}

fn plain(text: &str) -> String {
    let escaped = text.escape_default().to_string();
    match escaped.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;

    fn at(seconds: u64) -> Timestamp {
        later(START, Duration::from_secs(seconds))
    }

    fn observation(host: &str, address: &str, outcome: Outcome) -> Observation {
        Observation {
            host: host.to_owned(),
            address: address.parse().unwrap(),
            outcome,
            serial: None,
            by_resolver: false,
        }
    }

    fn values(values: &[&str]) -> Outcome {
        Outcome::Values(values.iter().map(|&value| value.to_owned()).collect())
    }

    fn dead() -> Outcome {
        Outcome::Unreachable("no answer within 3 s".to_owned())
    }

    fn wanted() -> Vec<String> {
        vec!["new".to_owned()]
    }

    fn judge(observations: Vec<Observation>, now: Timestamp) -> Verdict {
        let mut history = History::default();
        history.record(START, observations);
        history.verdict(&wanted(), now)
    }

    fn reason(verdict: Verdict) -> String {
        match verdict {
            Verdict::Waiting { reason, .. } | Verdict::Likely { reason } => reason,
            Verdict::Ready => panic!("ready"),
        }
    }

    #[test]
    fn ready_when_every_address_has_every_value() {
        let all = vec![
            observation("ns1", "192.0.2.1", values(&["other", "new"])),
            observation("ns2", "192.0.2.2", values(&["new"])),
        ];
        assert_eq!(judge(all, START), Verdict::Ready);
    }

    #[test]
    fn a_stale_address_blocks_for_ever_and_is_named_with_what_it_says() {
        let mut stale = observation("ns2.example.net", "192.0.2.2", values(&["old"]));
        stale.serial = Some(2_026_112_103);
        let good = observation("ns1.example.net", "192.0.2.1", values(&["new"]));
        let verdict = judge(vec![good, stale], at(86_400));
        let Verdict::Waiting { ask_again, .. } = &verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(*ask_again, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            reason(verdict),
            "ns2.example.net (192.0.2.2) still serves serial 2026112103 without our value; it says \"old\""
        );
    }

    #[test]
    fn one_value_of_two_is_not_enough() {
        let mut history = History::default();
        history.record(
            START,
            vec![observation("ns1", "192.0.2.1", values(&["new"]))],
        );
        let both = ["new".to_owned(), "second".to_owned()];
        assert_eq!(
            reason(history.verdict(&both, START)),
            "ns1 (192.0.2.1) still answers with only some of our values; it says \"new\""
        );
    }

    #[test]
    fn a_dead_address_blocks_for_ten_seconds_and_then_the_verdict_is_likely() {
        let seen = || {
            vec![
                observation("ns1", "192.0.2.1", values(&["new"])),
                observation("ns2", "192.0.2.2", dead()),
            ]
        };
        assert!(matches!(judge(seen(), at(9)), Verdict::Waiting { .. }));
        assert_eq!(
            reason(judge(seen(), at(10))),
            "ns2 (192.0.2.2) cannot be reached: no answer within 3 s; every other server has the value"
        );
        assert!(matches!(judge(seen(), at(10)), Verdict::Likely { .. }));
    }

    #[test]
    fn a_lame_address_blocks_like_a_dead_one() {
        let seen = || {
            vec![
                observation("ns1", "192.0.2.1", values(&["new"])),
                observation("ns2", "192.0.2.2", Outcome::Lame("REFUSED".to_owned())),
            ]
        };
        assert!(matches!(judge(seen(), at(9)), Verdict::Waiting { .. }));
        assert_eq!(
            reason(judge(seen(), at(10))),
            "ns2 (192.0.2.2) is not authoritative for the zone: REFUSED; every other server has the value"
        );
    }

    #[test]
    fn nothing_is_likely_when_nobody_answers_or_one_is_stale() {
        let dead_only = vec![observation("ns1", "192.0.2.1", dead())];
        assert!(matches!(judge(dead_only, at(60)), Verdict::Waiting { .. }));
        let with_stale = vec![
            observation("ns1", "192.0.2.1", dead()),
            observation("ns2", "192.0.2.2", values(&[])),
            observation("ns3", "192.0.2.3", values(&["new"])),
        ];
        assert_eq!(
            reason(judge(with_stale, at(60))),
            "ns2 (192.0.2.2) still answers without our value; it has no TXT record"
        );
        assert!(matches!(judge(vec![], at(60)), Verdict::Waiting { .. }));
    }

    #[test]
    fn an_address_that_came_back_gets_its_grace_anew() {
        let mut history = History::default();
        let good = observation("ns1", "192.0.2.1", values(&["new"]));
        let gone = || observation("ns2", "192.0.2.2", dead());
        history.record(START, vec![good, gone()]);
        history.record(
            at(9),
            vec![observation("ns2", "192.0.2.2", values(&["old"]))],
        );
        history.record(at(12), vec![gone()]);
        assert!(matches!(
            history.verdict(&wanted(), at(13)),
            Verdict::Waiting { .. }
        ));
        assert!(matches!(
            history.verdict(&wanted(), at(22)),
            Verdict::Likely { .. }
        ));
    }

    #[test]
    fn an_address_without_a_route_is_no_gap_while_its_server_answers_at_another() {
        let no_route = || Outcome::NoRoute("no IPv6 here".to_owned());
        let both = vec![
            observation("ns1", "192.0.2.1", values(&["new"])),
            observation("ns1", "2001:db8::1", no_route()),
        ];
        assert_eq!(judge(both, START), Verdict::Ready);
        let only = vec![
            observation("ns1", "192.0.2.1", values(&["new"])),
            observation("ns2", "2001:db8::2", no_route()),
        ];
        assert!(matches!(
            judge(only.clone(), at(9)),
            Verdict::Waiting { .. }
        ));
        assert!(matches!(judge(only, at(10)), Verdict::Likely { .. }));
    }

    #[test]
    fn a_dead_address_does_not_hold_up_the_looks_at_a_stale_one() {
        let seen = vec![
            observation("ns1", "192.0.2.1", dead()),
            observation("ns2", "192.0.2.2", values(&[])),
        ];
        let Verdict::Waiting { ask_again, .. } = judge(seen, at(60)) else {
            panic!("not waiting");
        };
        assert_eq!(ask_again, ["192.0.2.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn resolvers_alone_make_it_likely() {
        let mut resolver = observation("resolver", "192.0.2.53", values(&["new"]));
        resolver.by_resolver = true;
        assert_eq!(
            reason(judge(vec![resolver], START)),
            "only resolvers were asked, not the authoritative servers: resolver (192.0.2.53) has the value"
        );
    }

    #[test]
    fn looks_come_close_together_first_and_then_every_five_seconds() {
        let mut history = History::default();
        let mut now = START;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            history.record(now, vec![observation("ns1", "192.0.2.1", values(&[]))]);
            let Verdict::Waiting { next, .. } = history.verdict(&wanted(), now) else {
                panic!("not waiting");
            };
            pauses.push(next.duration_since(now).as_millis());
            now = next;
        }
        assert_eq!(
            pauses,
            [50, 100, 200, 500, 1000, 2000, 3000, 5000, 5000, 5000]
        );
    }

    #[test]
    fn the_end_of_the_grace_is_a_time_to_look() {
        let mut history = History::default();
        let good = observation("ns1", "192.0.2.1", values(&["new"]));
        history.record(START, vec![good]);
        for second in [0, 1, 2, 3, 4, 5, 6, 8] {
            history.record(at(second), vec![observation("ns2", "192.0.2.2", dead())]);
        }
        let Verdict::Waiting { next, .. } = history.verdict(&wanted(), at(8)) else {
            panic!("not waiting");
        };
        assert_eq!(next, at(10));
    }

    #[test]
    fn what_a_stranger_says_is_escaped_and_cut() {
        let nasty = format!("\u{1b}[31m{}", "x".repeat(500));
        let text = reason(judge(
            vec![observation(
                "ns1",
                "192.0.2.1",
                values(&[&nasty, "b", "c", "d"]),
            )],
            START,
        ));
        assert!(text.contains("\\u{1b}[31m") && !text.contains('\u{1b}'));
        assert!(text.ends_with("…\", \"b\", \"c\" and 1 more"));
        assert!(text.len() < 250);
    }
}
