//! What an attempt makes of what happened.

use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::error::ProviderError;
use jiff::Timestamp;

use super::event::wish;
use super::{Attempt, AuthorizationKnown, End, Event, Held, Known, LocateFault, Located, Placed};
use crate::engine::EffectId;
use crate::engine::ledger::RecordId;
use crate::engine::names::{Identifier, challenge_value};
use crate::engine::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeSeen, OrderSeen, OrderStatus, Problem,
};
use crate::engine::propagation::{Observation, Verdict, Watch};
use crate::engine::reaction::{
    CA_PATIENCE, CA_SILENCE, Failure, Reaction, Whose, provider_failure, refusal, to_ca_fault,
    to_provider_error, whose,
};

/// Early looks at an order or authorization that the authority is working on: validation and signing often take
/// milliseconds. After them its Retry-After is obeyed.
const EARLY_LOOKS: [Duration; 3] = [
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
];

/// Without a Retry-After, later looks.
const LATER_LOOKS: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// A polled object's Retry-After is clamped to this: some authorities say a day.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

/// Tries to find where a challenge name leads before a person hears of it.
const LOCATE_TRIES: u32 = 3;

/// Between those tries.
const LOCATE_PAUSE: Duration = Duration::from_secs(1);

/// Without proof after this long, the value is asked for again: somebody may have removed it.
const ENSURE_AGAIN: Duration = Duration::from_secs(30);

impl Attempt {
    pub(super) fn record(&mut self, now: Timestamp, effect: &EffectId, event: Event) {
        match event {
            // An order that is known is never forgotten.
            Event::Ordered(Ok(order)) if self.order_url.is_none() && !self.is_working() => {
                self.order_url = Some(order.url);
                return;
            }
            _ => {}
        }
        if let Some(wish) = event.wish() {
            self.not_before = self.not_before.max(Some(later(now, wish)));
        }
        if !self.wanted().iter().any(|wanted| wanted.id == *effect) {
            return;
        }
        match event {
            Event::Ordered(result) => self.ordered(now, result),
            Event::Order(result) => match result {
                Ok(order) => self.order_seen(now, order),
                Err(fault) => self.ca_fault(now, &fault, "looking at the order"),
            },
            Event::Authorization(part, result) => self.authorization_seen(now, part, result),
            Event::Located(part, result) => self.located(now, part, result),
            Event::Presented(part, result) => self.presented(now, part, result),
            Event::Settled(part) => self.settled(now, part),
            Event::Observed(part, observations) => self.observed(now, part, observations),
            Event::Responded(part, result) => self.responded(now, part, result),
            Event::Released(owner) => {
                let own = |held: &Held| self.request.owner(&held.authorization) == owner;
                self.held.retain(|held| !own(held));
            }
            Event::KeySaved => self.key_saved = true,
            Event::Finalized(result) => match result {
                Ok(order) => {
                    self.known.order_looks = 0;
                    self.order_seen(now, order);
                }
                Err(fault) => {
                    // Whether it was taken is for the order to say.
                    self.known.order = None;
                    self.ca_fault(now, &fault, "sending the CSR");
                }
            },
            Event::Downloaded => self.finish(End::Issued),
            Event::DownloadFailed(fault) => self.ca_fault(now, &fault, "fetching the certificate"),
            Event::CertificateWrong(sentence) => {
                self.finish_by_authority(Failure::new(Whose::Authority, sentence));
            }
        }
    }

    fn ordered(&mut self, now: Timestamp, result: Result<OrderSeen, CaFault>) {
        match result {
            Ok(order) => {
                self.order_url = Some(order.url.clone());
                self.order_seen(now, order);
            }
            Err(fault) if wish(&fault).is_none() && self.known.is_over(now) => {
                let failure = self.failure_of(&fault);
                self.finish(End::Failed(failure));
            }
            Err(fault) => self.ca_fault(now, &fault, "asking for an order"),
        }
    }

    fn order_seen(&mut self, now: Timestamp, mut order: OrderSeen) {
        let known = &mut self.known;
        known.turn = 0;
        known.failing_since = None;
        known.fault = None;
        // Only the answer to newOrder names the order; later replies need not.
        order.url = self.order_url.clone().unwrap_or(order.url);
        if known.authorizations.is_empty() {
            let fresh = |url: &String| AuthorizationKnown {
                url: url.clone(),
                ..Default::default()
            };
            known.authorizations = order.authorizations.iter().map(fresh).collect();
        }
        known.order_due = Some(later(now, look_pause(known.order_looks, order.retry_after)));
        known.order_looks += 1;
        if order.status == OrderStatus::Invalid {
            self.order_invalid(order);
        } else {
            // All proven and the order not ready: it lags; look at it rather than finalize again.
            self.known.order = Some(order);
        }
    }

    /// An invalid order without a reason of its own: its authorizations are asked for one.
    fn order_invalid(&mut self, order: OrderSeen) {
        if let Some(problem) = &order.error {
            let failure = refusal(problem, whose(&problem.kind), "proving the names");
            return self.finish_by_authority(failure);
        }
        if self
            .known
            .order
            .as_ref()
            .is_none_or(|seen| seen.status != OrderStatus::Invalid)
        {
            for known in &mut self.known.authorizations {
                let stale = |seen: &AuthorizationSeen| seen.status == AuthorizationStatus::Pending;
                if known.seen.as_ref().is_some_and(stale) {
                    known.seen = None;
                    known.due = None;
                }
            }
        }
        self.known.order = Some(order);
        if self
            .known
            .authorizations
            .iter()
            .all(|known| known.seen.is_some())
        {
            self.finish_invalid();
        }
    }

    /// Ends an invalid order with the first reason that an authorization gives.
    fn finish_invalid(&mut self) {
        let failures = self.known.authorizations.iter();
        let failure = failures
            .filter_map(|known| known.seen.as_ref())
            .find_map(authorization_failure);
        self.finish_by_authority(failure.unwrap_or_else(|| {
            Failure::new(
                Whose::Authority,
                "it made the order invalid and gave no reason",
            )
        }));
    }

    fn authorization_seen(
        &mut self,
        now: Timestamp,
        part: usize,
        result: Result<AuthorizationSeen, CaFault>,
    ) {
        let seen = match result {
            Ok(seen) => seen,
            Err(fault) => {
                return self.ca_fault_at(now, part, &fault, "looking at an authorization");
            }
        };
        self.known.fault = None;
        let failure = authorization_failure(&seen);
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        known.fault = None;
        known.turn = 0;
        known.due = Some(later(now, look_pause(known.looks, seen.retry_after)));
        known.looks += 1;
        known.seen = Some(seen);
        if let Some(failure) = failure {
            return self.finish_by_authority(failure);
        }
        let invalid = self
            .known
            .order
            .as_ref()
            .is_some_and(|order| order.status == OrderStatus::Invalid);
        if invalid
            && self
                .known
                .authorizations
                .iter()
                .all(|known| known.seen.is_some())
        {
            self.finish_invalid();
        }
    }

    fn located(&mut self, now: Timestamp, part: usize, result: Result<Located, LocateFault>) {
        let thumbprint = self.request.thumbprint.clone();
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        let Some(challenge) = known.seen.as_ref().and_then(|seen| seen.challenge.as_ref()) else {
            return;
        };
        let located = match result {
            Ok(located) => located,
            Err(fault) if fault.transient && known.turn + 1 < LOCATE_TRIES => {
                known.turn += 1;
                known.not_before = Some(later(now, LOCATE_PAUSE));
                known.fault = Some(fault.failure);
                return;
            }
            Err(fault) => return self.finish(End::Failed(fault.failure)),
        };
        let record = RecordId {
            provider: located.provider,
            zone: located.zone,
            name: located.owner,
            value: challenge_value(&challenge.token, &thumbprint),
        };
        known.turn = 0;
        known.not_before = None;
        known.fault = None;
        known.patience = located.patience;
        known.located = Some(now);
        let value = record.value.clone();
        known.watch = Some(Watch::new(value, located.servers, located.nowhere));
        let authorization = known.url.clone();
        match self.held(&authorization).cloned() {
            None => self.held.push(Held {
                authorization,
                record,
            }),
            Some(held) if held.record == record => {}
            Some(held) => {
                let place = |record: &RecordId| {
                    let RecordId { name, zone, .. } = record;
                    format!(
                        "{name} in the zone {} of provider {}",
                        zone.name, record.provider
                    )
                };
                let sentence = format!(
                    "the challenge name led to {} and now leads to {}: that was changed meanwhile",
                    place(&held.record),
                    place(&record)
                );
                self.finish(End::Failed(Failure::new(Whose::You, sentence)));
            }
        }
    }

    fn presented(&mut self, now: Timestamp, part: usize, result: Result<Placed, ProviderError>) {
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        let provider = self
            .held
            .iter()
            .find(|held| held.authorization == known.url);
        let provider = provider.map_or("", |held| held.record.provider.as_str());
        match result {
            Ok(placed) => {
                known.turn = 0;
                known.not_before = None;
                known.fault = None;
                known.present = true;
                known.spreading = placed == Placed::Spreading;
                if placed == Placed::There {
                    known.present_since.get_or_insert(now);
                }
            }
            Err(error) => match to_provider_error(&error, provider, known.turn) {
                Ok(pause) => {
                    known.turn += 1;
                    known.not_before = Some(later(now, pause));
                    known.fault = Some(provider_failure(&error, provider));
                }
                Err(failure) => self.finish(End::Failed(failure)),
            },
        }
    }

    /// From here on its servers have the value, or keep everybody waiting.
    fn settled(&mut self, now: Timestamp, part: usize) {
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        known.spreading = false;
        known.present_since.get_or_insert(now);
        if let Some(watch) = &mut known.watch {
            watch.begin_anew(now);
        }
    }

    fn observed(&mut self, now: Timestamp, part: usize, observations: Vec<Observation>) {
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        let Some(held) = self
            .held
            .iter()
            .find(|held| held.authorization == known.url)
        else {
            return;
        };
        let Some(watch) = &mut known.watch else {
            return;
        };
        let advice = match observations.iter().any(|seen| seen.by_resolver) {
            true => {
                "a resolver remembers for a while that there was nothing: shorten the last field of the zone's SOA, or set `look: roots`"
            }
            false => "repair that server, or take it out of the zone's NS records",
        };
        watch.record(now, observations);
        let is_over = (known.present_since).is_some_and(|it| now >= later(it, known.patience));
        match watch.verdict(now) {
            Verdict::Ready | Verdict::Likely { .. } => {
                known.proven = true;
                known.fault = None;
            }
            Verdict::Waiting { reason } if is_over => {
                let sentence = format!(
                    "{reason}; waited {} s for it at {}; {advice}",
                    known.patience.as_secs(),
                    held.record.name
                );
                self.finish(End::Failed(Failure::new(Whose::DnsHost, sentence)));
            }
            Verdict::Waiting { reason } => {
                known.fault = Some(Failure::new(Whose::DnsHost, reason));
                if !known.spreading && watch.should_ensure_again(now, ENSURE_AGAIN) {
                    known.present = false;
                }
            }
        }
    }

    fn responded(&mut self, now: Timestamp, part: usize, result: Result<ChallengeSeen, CaFault>) {
        let early = later(now, EARLY_LOOKS[0]);
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        known.looks = 1;
        match result {
            Ok(challenge) => {
                known.responded = true;
                known.due = Some(early);
                known.turn = 0;
                known.fault = None;
                if let Some(seen) = &mut known.seen {
                    seen.challenge = Some(challenge);
                }
            }
            // Whether it arrived is for the authorization to say.
            Err(fault) => {
                known.seen = None;
                self.ca_fault_at(now, part, &fault, "answering a challenge");
            }
        }
    }

    /// A fault of a request about one authorization: the others go on, unless the authority asked for a pause.
    fn ca_fault_at(&mut self, now: Timestamp, part: usize, fault: &CaFault, what: &str) {
        let failure = self.failure_of(fault);
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        match to_ca_fault(fault, known.turn, what) {
            Reaction::Again(pause) => {
                let again = later(now, pause);
                known.turn += 1;
                known.due = Some(again);
                known.fault = Some(failure);
            }
            Reaction::LookAtOrder => {
                known.due = Some(later(now, look_pause(known.looks, None)));
                known.looks += 1;
                self.known.order = None;
            }
            Reaction::GiveUp(failure) => self.finish_by_authority(failure),
        }
    }

    fn ca_fault(&mut self, now: Timestamp, fault: &CaFault, what: &str) {
        match to_ca_fault(fault, self.known.turn, what) {
            Reaction::Again(pause) => {
                self.known.turn += 1;
                self.known.failing_since.get_or_insert(now);
                self.known.fault = Some(self.failure_of(fault));
                // A longer wish of the authority still holds.
                self.not_before = self.not_before.max(Some(later(now, pause)));
            }
            // An answer that makes no sense.
            Reaction::LookAtOrder if self.order_url.is_none() => {
                let failure = self.failure_of(fault);
                self.finish(End::Failed(failure));
            }
            Reaction::LookAtOrder => {
                self.known.order = None;
                self.known.order_due = Some(later(now, look_pause(self.known.order_looks, None)));
                self.known.order_looks += 1;
            }
            Reaction::GiveUp(failure) => self.finish_by_authority(failure),
        }
    }

    fn failure_of(&self, fault: &CaFault) -> Failure {
        let authority = &self.request.authority;
        Failure {
            sentence: format!("authority {authority}: {fault}"),
            ..fault.failure()
        }
    }

    /// It failed there: with several in the configuration, a person wants to know where.
    fn finish_by_authority(&mut self, mut failure: Failure) {
        failure.sentence = format!("authority {}: {}", self.request.authority, failure.sentence);
        self.finish(End::Failed(failure));
    }
}

/// Why an authorization cannot become valid, if so.
fn authorization_failure(seen: &AuthorizationSeen) -> Option<Failure> {
    let name = Identifier {
        base: seen.identifier.clone(),
        wildcard: seen.wildcard,
    };
    match seen.status {
        AuthorizationStatus::Valid | AuthorizationStatus::Unknown => None,
        AuthorizationStatus::Pending if seen.challenge.is_some() => None,
        AuthorizationStatus::Pending => Some(Failure::new(
            Whose::Authority,
            format!("it offers no dns-01 challenge for {name}"),
        )),
        AuthorizationStatus::Invalid => {
            let problem = seen
                .challenge
                .as_ref()
                .and_then(|challenge| challenge.error.as_ref());
            Some(match problem {
                Some(problem) => unproven(problem, &name),
                None => Failure::new(
                    Whose::Authority,
                    format!("it found {name} not proven and gave no reason"),
                ),
            })
        }
        AuthorizationStatus::Deactivated
        | AuthorizationStatus::Expired
        | AuthorizationStatus::Revoked => {
            let word = match seen.status {
                AuthorizationStatus::Expired => "expired",
                AuthorizationStatus::Revoked => "was revoked",
                _ => "was deactivated",
            };
            Some(Failure::new(
                Whose::Authority,
                format!("the authorization of {name} {word}"),
            ))
        }
    }
}

/// We answer only when every nameserver has the value: an authority that does not find it looks elsewhere.
fn unproven(problem: &Problem, name: &Identifier) -> Failure {
    let mut failure = refusal(problem, whose(&problem.kind), &format!("proving {name}"));
    if matches!(problem.kind.as_str(), "unauthorized" | "incorrectResponse") {
        failure.sentence.push_str(
            "; every nameserver that was asked from here had the value, so this authority sees another DNS: set `dns` under it if it is a private one, else look for servers that answer differently elsewhere",
        );
    }
    failure
}

/// When to look again at an object that the authority is working on, after `looks` looks since the last step.
fn look_pause(looks: u32, retry_after: Option<Duration>) -> Duration {
    let looks = looks as usize;
    match (EARLY_LOOKS.get(looks), retry_after) {
        (Some(early), _) => *early,
        (None, Some(wish)) => wish.min(LONGEST_LOOK),
        (None, None) => LATER_LOOKS[(looks - EARLY_LOOKS.len()).min(LATER_LOOKS.len() - 1)],
    }
}

impl Known {
    /// Whether one more failure of this request is one too many.
    fn is_over(&self, now: Timestamp) -> bool {
        self.turn + 1 >= CA_PATIENCE
            || self
                .failing_since
                .is_some_and(|since| now >= later(since, CA_SILENCE))
    }
}
