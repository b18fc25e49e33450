//! Everything outside the worker in one life: the certificates that are wanted, the authority, the DNS host, the
//! targets, and the faults that lie in wait. Every fault is paid from a budget, so that every life can end.

use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::{DnsName, Zone};
use jiff::Timestamp;

use super::super::attempt::{LocateFault, Located};
use super::super::names::{CertificateName, Identifier};
use super::super::order::{AuthorizationStatus, CaFault, OrderStatus};
use super::super::reaction::{Failure, Whose};
use super::Rng;
use super::authority::{Authority, Habits, Reply, Request, problem};
use super::host::{Directory, Host, HostFault, Server, address, draw_fault};
use super::store;

/// When every life begins.
pub(super) const BIRTH: i64 = 1_767_225_600;

/// A certificate that is wanted.
pub(super) struct Wish {
    pub(super) name: CertificateName,
    pub(super) identifiers: Vec<Identifier>,
    /// How many certificates in a row, renewals included.
    pub(super) generations: u32,
    /// Whether the world never lets it happen.
    pub(super) hopeless: Option<Hopeless>,
}

/// Why a certificate cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hopeless {
    /// The authority rejects its names.
    Rejected,
    /// The host forbids one of its names.
    Forbidden,
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) wishes: Vec<Wish>,
    pub(super) authority: Authority,
    pub(super) host: Host,
    pub(super) directories: Vec<Directory>,
    pub(super) faults: Faults,
    /// Draws key numbers: no key is drawn twice.
    pub(super) keys: u64,
    /// Whether resolvers are asked, whose word is only likely true.
    pub(super) by_resolver: bool,
}

/// What may still go wrong.
pub(super) struct Faults {
    authority: Budget,
    host: Budget,
    store: Budget,
    target: Budget,
    locate: Budget,
    tamper: Budget,
}

/// So many more, each with that chance.
struct Budget {
    left: u32,
    percent: u64,
}

impl Budget {
    fn draw(rng: &mut Rng, most: u64, percent: u64) -> Self {
        match rng.below(3) {
            0 => Self {
                left: 0,
                percent: 0,
            },
            1 => Self {
                left: u32::try_from(rng.below(3)).unwrap(),
                percent,
            },
            _ => Self {
                left: u32::try_from(rng.below(most + 1)).unwrap(),
                percent,
            },
        }
    }

    fn strikes(&mut self, rng: &mut Rng) -> bool {
        let strikes = self.left > 0 && rng.chance(self.percent);
        self.left -= u32::from(strikes);
        strikes
    }
}

/// The outcome of a request to the authority, and whether it made an order whose reply was lost.
pub(super) struct Exchange {
    pub(super) result: Result<Reply, CaFault>,
    pub(super) made: Option<usize>,
    pub(super) lost: bool,
}

impl World {
    pub(super) fn draw(mut rng: Rng) -> Self {
        let mut wishes = draw_wishes(&mut rng);
        let mut host = Host::new(draw_servers(&mut rng));
        for zone in ["one.test", "two.test"] {
            if rng.chance(20) {
                host.delegated.insert(DnsName::parse(zone).unwrap());
            }
        }
        let birth = Timestamp::from_second(BIRTH).unwrap();
        for wish in &wishes {
            let hopeless = wish.hopeless == Some(Hopeless::Forbidden);
            for (number, identifier) in wish.identifiers.iter().enumerate() {
                let (_, name) = host.place(identifier);
                if rng.chance(50) {
                    host.plant(birth, name.clone(), format!("foreign-{number}"));
                }
                if number == 0 && hopeless {
                    host.forbidden.push((name, Timestamp::MAX));
                } else if rng.chance(3) {
                    host.forbidden
                        .push((name, later(birth, rng.millis(0, 300_000))));
                }
            }
        }
        // Whoever shares a forbidden name shares its fate.
        let forever = |name: &DnsName| {
            let mut all = host.forbidden.iter();
            all.any(|(other, until)| other == name && *until == Timestamp::MAX)
        };
        for wish in wishes.iter_mut().filter(|wish| wish.hopeless.is_none()) {
            let mut names = wish
                .identifiers
                .iter()
                .map(|identifier| host.place(identifier).1);
            if names.any(|name| forever(&name)) {
                wish.hopeless = Some(Hopeless::Forbidden);
            }
        }
        let directories = wishes.iter().map(|_| Directory::default()).collect();
        Self {
            authority: Authority::new(draw_habits(&mut rng)),
            faults: Faults {
                authority: Budget::draw(&mut rng, 12, 15),
                host: Budget::draw(&mut rng, 6, 35),
                store: Budget::draw(&mut rng, 6, 5),
                target: Budget::draw(&mut rng, 6, 30),
                locate: Budget::draw(&mut rng, 4, 20),
                tamper: Budget::draw(&mut rng, 2, 20),
            },
            by_resolver: rng.chance(3),
            keys: 0,
            rng,
            wishes,
            host,
            directories,
        }
    }

    pub(super) fn draw_key(&mut self) -> u64 {
        self.keys += 1;
        self.keys
    }

    /// One request to the authority, with what may happen to it on the way.
    pub(super) fn exchange(
        &mut self,
        now: Timestamp,
        slot: Option<usize>,
        request: &Request,
    ) -> Exchange {
        let hopeless = slot.and_then(|slot| self.wishes[slot].hopeless);
        if matches!(request, Request::NewOrder { .. }) && hopeless == Some(Hopeless::Rejected) {
            let problem = problem("rejectedIdentifier", "policy forbids it", Some(400));
            return failed(CaFault::Refused {
                problem,
                retry_after: None,
            });
        }
        if !self.faults.authority.strikes(&mut self.rng) {
            return self.pass(now, request);
        }
        match self.rng.below(12) {
            0 => failed(unreachable_fault()),
            1 | 2 => self.reply_lost(now, request, unreachable_fault()),
            3 => failed(refused(500, "serverInternal", None)),
            4 => self.reply_lost(now, request, refused(502, "", None)),
            5 => {
                let wait = self.rng.millis(1_000, 30_000);
                failed(refused(503, "rateLimited", Some(wait)))
            }
            6 => {
                let longest = if self.rng.chance(20) {
                    4_000_000
                } else {
                    120_000
                };
                let wait = self.rng.millis(1_000, longest);
                failed(refused(429, "rateLimited", Some(wait)))
            }
            7 => failed(refused(429, "rateLimited", None)),
            8 => self.reply_lost(now, request, CaFault::Malformed("not JSON".to_owned())),
            9 => failed(refused(403, "orderNotReady", None)),
            _ => self.twisted(now, request),
        }
    }

    fn pass(&mut self, now: Timestamp, request: &Request) -> Exchange {
        let before = self.authority.orders.len();
        let result = self
            .authority
            .handle(now, request, &mut self.host, &mut self.rng);
        let made = (self.authority.orders.len() > before).then_some(before);
        Exchange {
            result,
            made,
            lost: false,
        }
    }

    fn reply_lost(&mut self, now: Timestamp, request: &Request, fault: CaFault) -> Exchange {
        let passed = self.pass(now, request);
        Exchange {
            result: Err(fault),
            made: passed.made,
            lost: true,
        }
    }

    /// The request arrives; the authority decides against it later, or says a word that nobody knows.
    fn twisted(&mut self, now: Timestamp, request: &Request) -> Exchange {
        let reason = self.rng.chance(50);
        let mut request = request.clone();
        match &mut request {
            Request::Respond { spoiled, .. } | Request::Finalize { spoiled, .. } => {
                *spoiled = Some(reason)
            }
            _ => {}
        }
        let mut exchange = self.pass(now, &request);
        match &mut exchange.result {
            Ok(Reply::Order(order)) if !matches!(request, Request::Finalize { .. }) => {
                order.status = OrderStatus::Unknown;
            }
            Ok(Reply::Authorization(seen)) => seen.status = AuthorizationStatus::Unknown,
            _ => {}
        }
        exchange
    }

    pub(super) fn locate(&mut self, identifier: &Identifier) -> Result<Located, LocateFault> {
        if self.faults.locate.strikes(&mut self.rng) {
            return Err(LocateFault {
                failure: Failure::new(Whose::DnsHost, "no server of the zone answers"),
                transient: self.rng.chance(80),
            });
        }
        let (zone, owner) = self.host.place(identifier);
        let server = |number| (format!("ns{number}.test"), address(number));
        Ok(Located {
            provider: "main".to_owned(),
            zone,
            owner,
            nowhere: Vec::new(),
            servers: (0..self.host.servers.len()).map(server).collect(),
            patience: Duration::from_secs(120),
        })
    }

    pub(super) fn host_fault(&mut self) -> Option<HostFault> {
        let strikes = self.faults.host.strikes(&mut self.rng);
        strikes.then(|| draw_fault(&mut self.rng))
    }

    pub(super) fn store_fault(&mut self) -> Option<store::Fault> {
        let strikes = self.faults.store.strikes(&mut self.rng);
        strikes.then(|| match self.rng.chance(60) {
            true => store::Fault::Full,
            false => store::Fault::Io,
        })
    }

    /// Whether a step at a target fails, and whether it was nevertheless done.
    pub(super) fn target_fault(&mut self) -> Option<bool> {
        let strikes = self.faults.target.strikes(&mut self.rng);
        strikes.then(|| self.rng.chance(40))
    }

    /// Whether a look at a thing of ours finds that somebody else has changed it.
    pub(super) fn tampers(&mut self) -> bool {
        self.faults.tamper.strikes(&mut self.rng)
    }
}

pub(super) fn zone_key(zone: &Zone) -> String {
    zone.id.clone()
}

fn failed(fault: CaFault) -> Exchange {
    Exchange {
        result: Err(fault),
        made: None,
        lost: false,
    }
}

fn unreachable_fault() -> CaFault {
    CaFault::Unreachable("no answer within 30 s".to_owned())
}

fn refused(status: u16, kind: &str, retry_after: Option<Duration>) -> CaFault {
    CaFault::Refused {
        problem: problem(kind, "not now", Some(status)),
        retry_after,
    }
}

fn draw_wishes(rng: &mut Rng) -> Vec<Wish> {
    const SETS: [&[&str]; 9] = [
        &["*.one.test"],
        &["*.one.test", "one.test"],
        &["one.test"],
        &["a.one.test", "b.one.test"],
        &["a.one.test", "two.test"],
        &["*.two.test", "a.two.test", "two.test"],
        &["a.one.test"],
        &["b.two.test"],
        &["*.a.one.test", "a.one.test", "c.two.test"],
    ];
    let count = 1 + rng.below(3).saturating_sub(rng.below(2));
    let doomed = rng.chance(10).then(|| rng.below(count));
    let mut sets: Vec<&[&str]> = Vec::new();
    while (sets.len() as u64) < count {
        let set = SETS[rng.below(SETS.len() as u64) as usize];
        // Two certificates with the same names take turns; that is the scheduler's to see to.
        if !sets.contains(&set) {
            sets.push(set);
        }
    }
    let wish = |(number, set): (usize, &&[&str])| Wish {
        name: CertificateName::parse(&format!("c{number}")).unwrap(),
        identifiers: set
            .iter()
            .map(|name| Identifier::parse(name).unwrap())
            .collect(),
        generations: 1,
        hopeless: None,
    };
    let mut wishes: Vec<Wish> = sets.iter().enumerate().map(wish).collect();
    for (number, wish) in wishes.iter_mut().enumerate() {
        wish.generations += u32::from(rng.chance(15));
        if doomed == Some(number as u64) {
            wish.hopeless = Some(match rng.chance(50) {
                true => Hopeless::Rejected,
                false => Hopeless::Forbidden,
            });
        }
    }
    wishes
}

fn draw_servers(rng: &mut Rng) -> Vec<Server> {
    let birth = Timestamp::from_second(BIRTH).unwrap();
    let count = 1 + rng.below(3);
    let window = |rng: &mut Rng, percent| {
        rng.chance(percent).then(|| {
            let from = later(birth, rng.millis(0, 60_000));
            (from, later(from, rng.millis(1_000, 400_000)))
        })
    };
    (0..count)
        .map(|_| Server {
            lag: match rng.below(3) {
                0 => rng.millis(0, 40_000),
                _ => Duration::ZERO,
            },
            down: window(rng, 15),
            stuck: window(rng, 8),
        })
        .collect()
}

fn draw_habits(rng: &mut Rng) -> Habits {
    let sometimes = |rng: &mut Rng, longest| match rng.below(2) {
        0 => Duration::ZERO,
        _ => rng.millis(0, longest),
    };
    Habits {
        validation: sometimes(rng, 20_000),
        processing: sometimes(rng, 20_000),
        lag: if rng.chance(20) {
            rng.millis(0, 3_000)
        } else {
            Duration::ZERO
        },
        reuses_orders: rng.chance(50),
        reuses_valid: rng.chance(40),
        reuses_pending: rng.chance(40),
        shuffles: rng.chance(30),
        one_token: rng.chance(20),
        retry_after: *rng.pick(&[
            None,
            None,
            Some(Duration::from_secs(3)),
            Some(Duration::from_secs(86_400)),
        ]),
        lifetime: *rng.pick(&[
            Duration::from_secs(6 * 86_400),
            Duration::from_secs(90 * 86_400),
        ]),
    }
}
