//! Observations of authoritative servers → a verdict with reasons.
//!
//! A name is proven when every address that can be asked has the value. One that answers without it blocks for as
//! long as it does; one that cannot be reached, or is not authoritative, blocks for [`GRACE`], and then the verdict is
//! only likely. One to which this machine has no route does not block, but makes the verdict likely too; so does the
//! word of a resolver.

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

/// How long an address that cannot be reached blocks.
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
/// So many of a server's values are quoted in a sentence.
const QUOTED: usize = 2;

/// What is known of every authoritative address of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    value: String,
    servers: Vec<Server>,
    rounds: u32,
    since: Option<Timestamp>,
    next: Option<Timestamp>,
    ensured: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    address: IpAddr,
    latest: Option<Observation>,
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
    /// A watch over `servers` (host name and address) for `value`.
    pub fn new(value: String, servers: Vec<(String, IpAddr)>) -> Self {
        let server = |(host, address)| Server {
            host,
            address,
            latest: None,
        };
        Self {
            value,
            servers: servers.into_iter().map(server).collect(),
            rounds: 0,
            since: None,
            next: None,
            ensured: None,
        }
    }

    /// Whom to ask next, and from when on: everybody who has not shown the value yet.
    pub fn next(&self) -> (Vec<(String, IpAddr)>, Option<Timestamp>) {
        let behind = self.servers.iter().filter(|server| !self.agrees(server));
        let ask = behind
            .map(|server| (server.host.clone(), server.address))
            .collect();
        (ask, self.next)
    }

    /// How many rounds were recorded.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Records one round of answers.
    pub fn record(&mut self, now: Timestamp, observations: Vec<Observation>) {
        self.since.get_or_insert(now);
        for observation in observations {
            if let Some(server) = self
                .servers
                .iter_mut()
                .find(|server| server.address == observation.address)
            {
                server.latest = Some(observation);
            }
        }
        let pause = PAUSES[(self.rounds as usize).min(PAUSES.len() - 1)];
        self.next = Some(later(now, pause));
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
        let over = self.since.is_some_and(|since| now >= later(since, GRACE));
        let silent = self.servers.iter().filter(|server| !self.agrees(server));
        match silent
            .clone()
            .find(|server| !is_beyond(server))
            .or(silent.clone().next())
        {
            None if self.servers.iter().any(is_resolver) => Verdict::Likely {
                reason: "only resolvers were asked".to_owned(),
            },
            None => Verdict::Ready,
            Some(server) if over || is_beyond(server) => Verdict::Likely {
                reason: self.sentence(server),
            },
            Some(server) => Verdict::Waiting {
                reason: self.sentence(server),
            },
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
                        .map_or(String::new(), |serial| format!(" (serial {serial})"));
                    format!(
                        "{who}{serial} does not have the value yet; it has {}",
                        quoted(values)
                    )
                }
            },
        }
    }
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
        .map(|value| format!("{value:?}"))
        .collect();
    let more = values.len().saturating_sub(QUOTED);
    match more {
        0 => shown.join(" and "),
        _ => format!("{} and {more} more", shown.join(", ")),
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
        Watch::new(VALUE.to_owned(), (1..=servers).map(server).collect())
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
    fn is_ready_when_every_address_has_the_value() {
        let mut watch = watch(2);
        watch.record(
            at(0),
            vec![says(1, values(&[VALUE])), says(2, values(&["old", VALUE]))],
        );
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
}
