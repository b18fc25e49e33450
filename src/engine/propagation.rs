//! Observations of authoritative servers → a verdict with reasons.
//!
//! A name is proven when every address that can be asked has the value. One that answers without it blocks for as
//! long as it does; one that cannot be reached, or is not authoritative, blocks for [`GRACE`], and then the verdict is
//! only likely. One to which this machine has no route does not block, but makes the verdict likely too, unless its
//! server answers at another address, as every IPv6 address is on a machine without IPv6; so does the word of a resolver.

use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// How long an address that gives no usable answer blocks, from its first such answer in a row.
pub const GRACE: Duration = Duration::from_secs(10);
/// Between rounds of questions; the last one repeats.
const PAUSES: [Duration; 8] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];
/// So many of a server's values are quoted in a sentence, and so many characters of each.
const QUOTED: usize = 2;
const QUOTED_CHARACTERS: usize = 60;

/// What is known of every authoritative address of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    value: String,
    servers: Vec<Server>,
    /// Servers of which no address is known: they cannot be asked.
    nowhere: Vec<String>,
    rounds: u32,
    /// The rounds from this one on are close together first.
    begun: u32,
    since: Option<Timestamp>,
    latest: Option<Timestamp>,
    ensured: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    address: IpAddr,
    latest: Option<Observation>,
    /// Since when it has given no usable answer.
    unusable: Option<Timestamp>,
}

/// Whether the authority may be asked to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every address has the value.
    Ready,
    /// Every address that could be asked has it.
    Likely {
        /// Which could not.
        reason: String,
    },
    /// Not yet.
    Waiting {
        /// Who is behind, and what it says.
        reason: String,
    },
}

impl Watch {
    /// A watch over `servers` (host name and address) for `value`; those `nowhere` are like servers that do not answer.
    pub fn new(value: String, servers: Vec<(String, IpAddr)>, nowhere: Vec<String>) -> Self {
        let server = |(host, address)| Server {
            host,
            address,
            latest: None,
            unusable: None,
        };
        Self {
            value,
            servers: servers.into_iter().map(server).collect(),
            nowhere,
            rounds: 0,
            begun: 0,
            since: None,
            latest: None,
            ensured: None,
        }
    }

    /// Whom to ask next, and from when on: everybody who has not shown the value yet. Those that were given up would
    /// hold up each round, so they are asked only when nobody else is left.
    pub fn next(&self) -> (Vec<(String, IpAddr)>, Option<Timestamp>) {
        let behind = |given_up: bool| -> Vec<(String, IpAddr)> {
            let behind = self.servers.iter().filter(|server| {
                !self.agrees(server)
                    && self.latest.is_some_and(|at| is_over(server, at)) == given_up
            });
            behind
                .map(|server| (server.host.clone(), server.address))
                .collect()
        };
        let mut ask = behind(false);
        if ask.is_empty() {
            ask = behind(true);
        }
        (ask, self.latest.map(|at| self.next_round(at)))
    }

    /// After the pause that is due, but at once when a server's grace is over: that changes the verdict.
    fn next_round(&self, latest: Timestamp) -> Timestamp {
        let round = (self.rounds - self.begun).saturating_sub(1) as usize;
        let round = round.min(PAUSES.len() - 1);
        let ends = self.servers.iter().filter_map(|server| server.unusable);
        let ends = ends.chain(self.since.filter(|_| !self.nowhere.is_empty()));
        let ends = ends.map(|since| later(since, GRACE));
        let first = ends.filter(|end| *end > latest).min();
        let due = later(latest, PAUSES[round]);
        first.map_or(due, |end| end.min(due))
    }

    /// The host says that all of its servers have the value now: who is behind is asked at once, and has time again.
    pub fn begin_anew(&mut self, now: Timestamp) {
        self.begun = self.rounds;
        self.ensured = Some(now);
    }

    /// How many rounds were recorded.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Records one round of answers.
    pub fn record(&mut self, now: Timestamp, observations: Vec<Observation>) {
        self.since.get_or_insert(now);
        for observation in observations {
            // Several nameservers may have one address.
            let here = self.servers.iter_mut();
            for server in here.filter(|server| server.address == observation.address) {
                server.unusable = match observation.outcome {
                    Outcome::Values(_) => None,
                    _ => server.unusable.or(Some(now)),
                };
                server.latest = Some(observation.clone());
            }
        }
        self.latest = Some(now);
        self.rounds = self.rounds.saturating_add(1);
    }

    /// The verdict at `now`.
    pub fn verdict(&self, now: Timestamp) -> Verdict {
        if let Some(stale) = self.servers.iter().find(|server| self.is_stale(server)) {
            return Verdict::Waiting {
                reason: self.sentence(stale),
            };
        }
        if !self.servers.iter().any(|server| self.agrees(server)) {
            let first = self.servers.first().map(|server| self.sentence(server));
            return Verdict::Waiting {
                reason: first.unwrap_or("no nameserver is known".to_owned()),
            };
        }
        let silent: Vec<&Server> = self
            .servers
            .iter()
            .filter(|server| !self.agrees(server) && !self.answers_elsewhere(server))
            .collect();
        let blocks = |server: &&&Server| !is_beyond(server) && !is_over(server, now);
        if let Some(server) = silent.iter().find(blocks) {
            return Verdict::Waiting {
                reason: self.sentence(server),
            };
        }
        if let Some(host) = self.nowhere.first() {
            let reason = format!("{host} has no address that could be found");
            let is_over = self.since.is_some_and(|since| now >= later(since, GRACE));
            return match is_over {
                true => Verdict::Likely { reason },
                false => Verdict::Waiting { reason },
            };
        }
        match silent.first() {
            Some(server) => Verdict::Likely {
                reason: self.sentence(server),
            },
            None if self.servers.iter().any(is_resolver) => Verdict::Likely {
                reason: "only resolvers were asked".to_owned(),
            },
            None => Verdict::Ready,
        }
    }

    /// Whether servers have answered without the value for so long that it should be asked for again.
    pub fn should_ensure_again(&mut self, now: Timestamp, after: Duration) -> bool {
        let since = self.ensured.or(self.since);
        let due = since.is_some_and(|since| now >= later(since, after))
            && self.servers.iter().any(|server| self.is_stale(server));
        if due {
            self.ensured = Some(now);
        }
        due
    }

    fn agrees(&self, server: &Server) -> bool {
        matches!(&server.latest, Some(Observation { outcome: Outcome::Values(values), .. })
            if values.contains(&self.value))
    }

    /// Whether a server that cannot be asked at this address has the value at another.
    fn answers_elsewhere(&self, server: &Server) -> bool {
        let same = |other: &&Server| other.host == server.host && self.agrees(other);
        is_beyond(server) && self.servers.iter().any(|other| same(&other))
    }

    fn is_stale(&self, server: &Server) -> bool {
        matches!(&server.latest, Some(Observation { outcome: Outcome::Values(values), .. })
            if !values.contains(&self.value))
    }

    fn sentence(&self, server: &Server) -> String {
        let who = format!("{} ({})", server.host, server.address);
        match &server.latest {
            None => format!("{who} was not asked yet"),
            Some(observation) => match &observation.outcome {
                Outcome::Unreachable(why) | Outcome::NoRoute(why) => {
                    format!("{who} cannot be reached: {why}")
                }
                Outcome::Lame(why) => format!("{who} does not answer for the zone: {why}"),
                Outcome::Values(values) => {
                    let serial = observation
                        .serial
                        .map_or(String::new(), |serial| format!(", at serial {serial},"));
                    format!(
                        "{who}{serial} does not have the value yet; it has {}",
                        quoted(values)
                    )
                }
            },
        }
    }
}

/// Whether a server has been of no use for so long that it blocks no more.
fn is_over(server: &Server, now: Timestamp) -> bool {
    server
        .unusable
        .is_some_and(|since| now >= later(since, GRACE))
}

/// Whether this machine has no route to a server.
fn is_beyond(server: &Server) -> bool {
    matches!(
        &server.latest,
        Some(Observation {
            outcome: Outcome::NoRoute(_),
            ..
        })
    )
}

fn is_resolver(server: &Server) -> bool {
    server
        .latest
        .as_ref()
        .is_some_and(|observation| observation.by_resolver)
}

fn quoted(values: &[String]) -> String {
    if values.is_empty() {
        return "no TXT record there".to_owned();
    }
    let shown: Vec<String> = values
        .iter()
        .take(QUOTED)
        .map(|value| quote(value))
        .collect();
    let more = values.len().saturating_sub(QUOTED);
    match more {
        0 => shown.join(" and "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A value as a stranger's server gave it, safe for a terminal and no longer than a line.
fn quote(value: &str) -> String {
    match value.char_indices().nth(QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "wanted";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn watch(servers: usize) -> Watch {
        let server = |n| (format!("ns{n}.example.net"), address(n));
        Watch::new(
            VALUE.to_owned(),
            (1..=servers).map(server).collect(),
            Vec::new(),
        )
    }

    fn address(n: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(n).unwrap()])
    }

    fn says(n: usize, outcome: Outcome) -> Observation {
        let host = format!("ns{n}.example.net");
        Observation {
            host,
            address: address(n),
            outcome,
            serial: None,
            by_resolver: false,
        }
    }

    fn values(list: &[&str]) -> Outcome {
        Outcome::Values(list.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn a_server_without_an_address_blocks_for_ten_seconds() {
        let server = ("ns1.example.net".to_owned(), address(1));
        let nowhere = vec!["ns9.example.net".to_owned()];
        let mut watch = Watch::new(VALUE.to_owned(), vec![server], nowhere);
        watch.record(
            at(0),
            vec![says(1, Outcome::Values(vec![VALUE.to_owned()]))],
        );
        let reason = "ns9.example.net has no address that could be found".to_owned();
        let waiting = Verdict::Waiting {
            reason: reason.clone(),
        };
        assert_eq!(watch.verdict(at(9)), waiting);
        assert_eq!(watch.verdict(at(10)), Verdict::Likely { reason });
    }

    #[test]
    fn is_ready_when_every_address_has_the_value() {
        let mut watch = watch(2);
        watch.record(
            at(0),
            vec![says(1, values(&[VALUE])), says(2, values(&["old", VALUE]))],
        );
        assert_eq!(watch.verdict(at(0)), Verdict::Ready);
    }

    #[test]
    fn two_nameservers_with_one_address_are_answered_by_one_answer() {
        let servers = ["ns1.example.net", "ns2.example.net"];
        let servers = servers.map(|host| (host.to_owned(), address(1)));
        let mut watch = Watch::new(VALUE.to_owned(), servers.to_vec(), Vec::new());
        watch.record(at(0), vec![says(1, values(&[VALUE]))]);
        assert_eq!(watch.verdict(at(0)), Verdict::Ready);
    }

    #[test]
    fn a_stale_server_blocks_for_ever_and_is_quoted() {
        let mut watch = watch(2);
        watch.record(
            at(0),
            vec![says(1, values(&[VALUE])), says(2, values(&["old"]))],
        );
        let reason = "ns2.example.net (192.0.2.2) does not have the value yet; it has \"old\"";
        assert_eq!(
            watch.verdict(at(86_400)),
            Verdict::Waiting {
                reason: reason.to_owned()
            }
        );
        assert_eq!(watch.next().0, [("ns2.example.net".to_owned(), address(2))]);
    }

    #[test]
    fn a_silent_server_blocks_for_its_grace_and_then_makes_it_only_likely() {
        for outcome in [
            Outcome::Unreachable("silence".into()),
            Outcome::Lame("REFUSED".into()),
        ] {
            let mut watch = watch(2);
            watch.record(at(0), vec![says(1, values(&[VALUE])), says(2, outcome)]);
            assert!(matches!(watch.verdict(at(9)), Verdict::Waiting { .. }));
            assert!(matches!(watch.verdict(at(10)), Verdict::Likely { .. }));
        }
    }

    #[test]
    fn an_address_without_a_route_does_not_block() {
        let mut watch = watch(2);
        let beyond = says(2, Outcome::NoRoute("no IPv6 here".into()));
        watch.record(at(0), vec![says(1, values(&[VALUE])), beyond]);
        assert!(matches!(watch.verdict(at(0)), Verdict::Likely { .. }));
    }

    #[test]
    fn nobody_reachable_is_never_likely() {
        let mut watch = watch(1);
        watch.record(at(0), vec![says(1, Outcome::Unreachable("silence".into()))]);
        assert!(matches!(watch.verdict(at(100)), Verdict::Waiting { .. }));
    }

    #[test]
    fn resolvers_are_never_more_than_likely() {
        let mut watch = watch(1);
        watch.record(
            at(0),
            vec![Observation {
                by_resolver: true,
                ..says(1, values(&[VALUE]))
            }],
        );
        assert!(matches!(watch.verdict(at(0)), Verdict::Likely { .. }));
    }

    #[test]
    fn asks_for_the_value_again_only_while_a_server_lacks_it() {
        let mut watch = watch(1);
        watch.record(at(0), vec![says(1, values(&[]))]);
        let after = Duration::from_secs(30);
        assert!(!watch.should_ensure_again(at(29), after));
        assert!(watch.should_ensure_again(at(30), after));
        assert!(!watch.should_ensure_again(at(31), after));
    }

    #[test]
    fn an_address_without_a_route_is_no_gap_while_its_server_answers_at_another() {
        let host = "ns1.example.net".to_owned();
        let servers = vec![(host.clone(), address(1)), (host.clone(), address(2))];
        let mut watch = Watch::new(VALUE.to_owned(), servers, Vec::new());
        let beyond = Observation {
            host,
            ..says(2, Outcome::NoRoute("no IPv6 here".into()))
        };
        watch.record(at(0), vec![says(1, values(&[VALUE])), beyond]);
        assert_eq!(watch.verdict(at(0)), Verdict::Ready);
    }

    #[test]
    fn a_server_that_goes_silent_later_gets_its_whole_grace() {
        let mut watch = watch(2);
        watch.record(at(0), vec![says(1, values(&[VALUE])), says(2, values(&[]))]);
        let silence = || says(2, Outcome::Unreachable("silence".into()));
        watch.record(at(20), vec![silence()]);
        assert!(matches!(watch.verdict(at(29)), Verdict::Waiting { .. }));
        watch.record(at(30), vec![silence()]);
        assert!(matches!(watch.verdict(at(30)), Verdict::Likely { .. }));
    }

    #[test]
    fn rounds_are_close_together_first_and_then_every_five_seconds() {
        let mut watch = watch(1);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            watch.record(now, vec![says(1, values(&[]))]);
            let next = watch.next().1.unwrap();
            pauses.push(next.duration_since(now).as_millis());
            now = next;
        }
        let wanted = [50, 100, 200, 500, 1000, 2000, 3000, 5000, 5000, 5000];
        assert_eq!(pauses, wanted);
    }

    #[test]
    fn whoever_is_behind_when_the_host_has_spoken_is_asked_at_once() {
        let mut watch = watch(1);
        for second in [0, 5, 10] {
            watch.record(at(second), vec![says(1, values(&[]))]);
        }
        watch.begin_anew(at(11));
        assert!(watch.next().1.unwrap() <= at(11));
        watch.record(at(11), vec![says(1, values(&[]))]);
        let next = watch.next().1.unwrap();
        assert_eq!(next.duration_since(at(11)).as_millis(), 50);
    }

    #[test]
    fn the_end_of_a_grace_is_a_time_to_ask() {
        let mut watch = watch(2);
        for second in 0..9 {
            let silence = says(2, Outcome::Unreachable("silence".into()));
            watch.record(at(second), vec![says(1, values(&[VALUE])), silence]);
        }
        assert_eq!(watch.next().1, Some(at(10)));
    }

    #[test]
    fn a_server_that_was_given_up_does_not_hold_up_the_others() {
        let mut watch = watch(2);
        for second in [0, 10] {
            let silence = says(1, Outcome::Unreachable("silence".into()));
            watch.record(at(second), vec![silence, says(2, values(&[]))]);
        }
        assert_eq!(watch.next().0, [("ns2.example.net".to_owned(), address(2))]);
    }

    #[test]
    fn what_a_stranger_says_is_escaped_and_cut() {
        let nasty = format!("\u{1b}[31m{}", "x".repeat(500));
        let mut watch = watch(1);
        watch.record(at(0), vec![says(1, values(&[&nasty, "b", "c"]))]);
        let Verdict::Waiting { reason } = watch.verdict(at(0)) else {
            panic!("not waiting");
        };
        assert!(!reason.contains('\u{1b}') && reason.contains("\\u{1b}[31m"));
        assert!(reason.ends_with("…, \"b\" and 1 more"), "{reason}");
        assert!(reason.len() < 200);
    }
}
