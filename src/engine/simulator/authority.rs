//! The virtual certificate authority (RFC 8555 section 7): orders, authorizations and certificates, with the habits
//! that real ones have. Every reply is the truth; faults on the way are `world`'s.

use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::record::DnsName;
use jiff::Timestamp;

use super::super::names::{Identifier, challenge_value};
use super::super::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeSeen, ChallengeStatus, OrderSeen,
    OrderStatus, Problem,
};
use super::Rng;
use super::host::Host;

/// How an authority behaves, drawn for each life.
pub(super) struct Habits {
    /// From the response to the look.
    pub(super) validation: Duration,
    /// From the CSR to the certificate; zero answers with the certificate at once.
    pub(super) processing: Duration,
    /// From the last valid authorization to a ready order.
    pub(super) lag: Duration,
    /// Gives a pending order again for the same names (Boulder).
    pub(super) reuses_orders: bool,
    /// Gives a valid authorization again.
    pub(super) reuses_valid: bool,
    /// Gives a pending authorization again.
    pub(super) reuses_pending: bool,
    /// Lists authorizations in another order than the names.
    pub(super) shuffles: bool,
    /// Uses one token for every authorization of an order.
    pub(super) one_token: bool,
    /// What polled objects say.
    pub(super) retry_after: Option<Duration>,
    /// How long certificates last.
    pub(super) lifetime: Duration,
}

/// What is asked of it.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Register {
        key: u64,
    },
    NewOrder {
        slot: usize,
        epoch: u64,
        identifiers: Vec<Identifier>,
    },
    Order(String),
    Authorization(String),
    Respond {
        url: String,
        thumbprint: String,
        spoiled: Option<bool>,
    },
    Finalize {
        url: String,
        key: u64,
        spoiled: Option<bool>,
    },
    Certificate(String),
}

/// What it answers.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Registered(String),
    Order(OrderSeen),
    Authorization(AuthorizationSeen),
    Challenge(ChallengeSeen),
    Certificate(Leaf),
}

/// A certificate.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) serial: u64,
    pub(super) key: u64,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

pub(super) struct Authority {
    pub(super) habits: Habits,
    pub(super) orders: Vec<Order>,
    authorizations: Vec<Authorization>,
    pub(super) leaves: Vec<Leaf>,
}

pub(super) struct Order {
    pub(super) slot: usize,
    pub(super) epoch: u64,
    /// Whether nobody can be blamed for not knowing it: its reply was lost, or not saved before a crash.
    pub(super) excused: bool,
    identifiers: Vec<Identifier>,
    authorizations: Vec<usize>,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Open,
    /// `spoiled`: fails in the end, with a reason or without.
    Processing {
        until: Timestamp,
        key: u64,
        spoiled: Option<bool>,
    },
    Valid(usize),
    Invalid {
        reason: bool,
    },
}

struct Authorization {
    identifier: Identifier,
    token: String,
    value: Option<String>,
    /// The look is due then; `spoiled`: fails whatever it sees, with a reason or without.
    due: Option<(Timestamp, Option<bool>)>,
    valid_since: Option<Timestamp>,
    invalid: Option<bool>,
}

impl Authority {
    pub(super) fn new(habits: Habits) -> Self {
        Self {
            habits,
            orders: Vec::new(),
            authorizations: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// Answers one request. The second value is the number of a new order.
    pub(super) fn handle(
        &mut self,
        now: Timestamp,
        request: &Request,
        host: &mut Host,
        rng: &mut Rng,
    ) -> Result<Reply, CaFault> {
        self.settle(now, host);
        match request {
            Request::Register { key } => {
                Ok(Reply::Registered(format!("https://ca.test/account/{key}")))
            }
            Request::NewOrder {
                slot,
                epoch,
                identifiers,
            } => Ok(Reply::Order(self.new_order(
                now,
                *slot,
                *epoch,
                identifiers,
                rng,
            ))),
            Request::Order(url) => Ok(Reply::Order(self.order(now, index(url)))),
            Request::Authorization(url) => Ok(Reply::Authorization(self.authorization(index(url)))),
            Request::Respond {
                url,
                thumbprint,
                spoiled,
            } => self.respond(now, index(url), thumbprint, *spoiled, host),
            Request::Finalize { url, key, spoiled } => {
                self.finalize(now, index(url), *key, *spoiled)
            }
            Request::Certificate(url) => Ok(Reply::Certificate(self.leaves[index(url)].clone())),
        }
    }

    /// The authorizations whose challenge was answered and is not decided, and that look for `value` at `name`.
    pub(super) fn looking_for(
        &mut self,
        now: Timestamp,
        name: &DnsName,
        value: &str,
        host: &mut Host,
    ) -> Vec<String> {
        self.settle(now, host);
        let looking = |a: &Authorization| {
            a.due.is_some()
                && a.value.as_deref() == Some(value)
                && host.place(&a.identifier).1 == *name
        };
        let all = self.authorizations.iter().enumerate();
        all.filter(|(_, a)| looking(a))
            .map(|(number, _)| authorization_url(number))
            .collect()
    }

    /// The value that proves the authorization at `url`.
    pub(super) fn value(&self, challenge: &str, thumbprint: &str) -> (Identifier, String) {
        let authorization = &self.authorizations[index(challenge)];
        (
            authorization.identifier.clone(),
            challenge_value(&authorization.token, thumbprint),
        )
    }

    fn new_order(
        &mut self,
        now: Timestamp,
        slot: usize,
        epoch: u64,
        identifiers: &[Identifier],
        rng: &mut Rng,
    ) -> OrderSeen {
        if self.habits.reuses_orders {
            let same = (0..self.orders.len()).find(|&number| {
                self.orders[number].identifiers == identifiers
                    && matches!(
                        self.status(now, number),
                        OrderStatus::Pending | OrderStatus::Ready
                    )
            });
            if let Some(number) = same {
                return self.order(now, number);
            }
        }
        let shared = format!("token-{}", rng.below(u64::MAX));
        let mut authorizations: Vec<usize> = Vec::new();
        for identifier in identifiers {
            let reusable = self.authorizations.iter().rposition(|authorization| {
                authorization.identifier == *identifier
                    && authorization.invalid.is_none()
                    && match authorization.valid_since {
                        Some(_) => self.habits.reuses_valid,
                        None => self.habits.reuses_pending,
                    }
            });
            authorizations.push(reusable.unwrap_or_else(|| {
                let token = match self.habits.one_token {
                    true => shared.clone(),
                    false => format!("token-{}", rng.below(u64::MAX)),
                };
                self.authorizations.push(Authorization {
                    identifier: identifier.clone(),
                    token,
                    value: None,
                    due: None,
                    valid_since: None,
                    invalid: None,
                });
                self.authorizations.len() - 1
            }));
        }
        if self.habits.shuffles {
            authorizations.reverse();
        }
        self.orders.push(Order {
            slot,
            epoch,
            excused: false,
            identifiers: identifiers.to_vec(),
            authorizations,
            state: State::Open,
        });
        self.order(now, self.orders.len() - 1)
    }

    fn order(&self, now: Timestamp, number: usize) -> OrderSeen {
        let order = &self.orders[number];
        let certificate = match order.state {
            State::Valid(leaf) => Some(format!("https://ca.test/certificate/{leaf}")),
            _ => None,
        };
        let error = match order.state {
            State::Invalid { reason: true } => Some(problem("caa", "CAA forbids it", None)),
            _ => None,
        };
        OrderSeen {
            url: format!("https://ca.test/order/{number}"),
            status: self.status(now, number),
            authorizations: order
                .authorizations
                .iter()
                .copied()
                .map(authorization_url)
                .collect(),
            finalize: format!("https://ca.test/finalize/{number}"),
            certificate,
            error,
            expires: None,
            retry_after: self.habits.retry_after,
        }
    }

    fn status(&self, now: Timestamp, number: usize) -> OrderStatus {
        let order = &self.orders[number];
        match order.state {
            State::Processing { .. } => OrderStatus::Processing,
            State::Valid(_) => OrderStatus::Valid,
            State::Invalid { .. } => OrderStatus::Invalid,
            State::Open => {
                let mut parts = order
                    .authorizations
                    .iter()
                    .map(|&part| &self.authorizations[part]);
                if parts.clone().any(|part| part.invalid.is_some()) {
                    return OrderStatus::Invalid;
                }
                let proven = |part: &Authorization| {
                    part.valid_since
                        .is_some_and(|since| now >= later(since, self.habits.lag))
                };
                match parts.all(proven) {
                    true => OrderStatus::Ready,
                    false => OrderStatus::Pending,
                }
            }
        }
    }

    fn authorization(&self, number: usize) -> AuthorizationSeen {
        let authorization = &self.authorizations[number];
        let status = match (authorization.valid_since, authorization.invalid) {
            (_, Some(_)) => AuthorizationStatus::Invalid,
            (Some(_), None) => AuthorizationStatus::Valid,
            (None, None) => AuthorizationStatus::Pending,
        };
        AuthorizationSeen {
            url: authorization_url(number),
            status,
            identifier: authorization.identifier.base.clone(),
            wildcard: authorization.identifier.wildcard,
            challenge: Some(self.challenge(number)),
            expires: None,
            retry_after: self.habits.retry_after,
        }
    }

    fn challenge(&self, number: usize) -> ChallengeSeen {
        let authorization = &self.authorizations[number];
        let status = match (
            authorization.valid_since,
            authorization.invalid,
            &authorization.due,
        ) {
            (_, Some(_), _) => ChallengeStatus::Invalid,
            (Some(_), None, _) => ChallengeStatus::Valid,
            (None, None, Some(_)) => ChallengeStatus::Processing,
            (None, None, None) => ChallengeStatus::Pending,
        };
        let error = authorization
            .invalid
            .filter(|reason| *reason)
            .map(|_| problem("unauthorized", "no such TXT record", None));
        ChallengeSeen {
            url: format!("https://ca.test/challenge/{number}"),
            token: authorization.token.clone(),
            status,
            error,
        }
    }

    fn respond(
        &mut self,
        now: Timestamp,
        number: usize,
        thumbprint: &str,
        spoiled: Option<bool>,
        host: &mut Host,
    ) -> Result<Reply, CaFault> {
        let validation = self.habits.validation;
        let authorization = &mut self.authorizations[number];
        if authorization.due.is_none()
            && authorization.valid_since.is_none()
            && authorization.invalid.is_none()
        {
            authorization.value = Some(challenge_value(&authorization.token, thumbprint));
            authorization.due = Some((later(now, validation), spoiled));
            self.settle(now, host);
        }
        Ok(Reply::Challenge(self.challenge(number)))
    }

    fn finalize(
        &mut self,
        now: Timestamp,
        number: usize,
        key: u64,
        spoiled: Option<bool>,
    ) -> Result<Reply, CaFault> {
        if self.status(now, number) != OrderStatus::Ready {
            return Err(CaFault::Refused {
                problem: problem("orderNotReady", "the order is not ready", Some(403)),
                retry_after: None,
            });
        }
        self.orders[number].state = State::Processing {
            until: later(now, self.habits.processing),
            key,
            spoiled,
        };
        self.issue(now);
        Ok(Reply::Order(self.order(now, number)))
    }

    /// Does what was to be done by `now`.
    fn settle(&mut self, now: Timestamp, host: &mut Host) {
        for authorization in &mut self.authorizations {
            let Some((due, spoiled)) = authorization.due.filter(|(due, _)| *due <= now) else {
                continue;
            };
            authorization.due = None;
            let (_, name) = host.place(&authorization.identifier);
            let proven = host.is_served(
                due,
                &name,
                authorization.value.as_deref().unwrap_or_default(),
            );
            match (spoiled, proven) {
                (Some(reason), _) => authorization.invalid = Some(reason),
                (None, false) => authorization.invalid = Some(true),
                (None, true) => authorization.valid_since = Some(due),
            }
        }
        self.issue(now);
    }

    fn issue(&mut self, now: Timestamp) {
        for order in &mut self.orders {
            let State::Processing {
                until,
                key,
                spoiled,
            } = order.state
            else {
                continue;
            };
            if until > now {
                continue;
            }
            order.state = match spoiled {
                Some(reason) => State::Invalid { reason },
                None => {
                    self.leaves.push(Leaf {
                        serial: self.leaves.len() as u64,
                        key,
                        not_before: until,
                        not_after: later(until, self.habits.lifetime),
                    });
                    State::Valid(self.leaves.len() - 1)
                }
            };
        }
    }
}

pub(super) fn problem(kind: &str, detail: &str, status: Option<u16>) -> Problem {
    Problem {
        kind: kind.to_owned(),
        detail: detail.to_owned(),
        status,
        subproblems: Vec::new(),
        instance: None,
    }
}

fn authorization_url(number: usize) -> String {
    format!("https://ca.test/authorization/{number}")
}

/// The number at the end of one of its URLs.
pub(super) fn index(url: &str) -> usize {
    url.rsplit('/').next().unwrap().parse().unwrap()
}
