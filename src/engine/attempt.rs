//! One order, from due to a certificate that is saved (RFC 8555 section 7.4).
//!
//! Saved is only what the authority cannot tell: the order's URL, where each record was put, that the leaf key is in
//! the store, and how it ended. What the authority and the nameservers last said is not saved; not knowing it means
//! asking, so that after any doubt the authority's own objects decide.

use std::net::IpAddr;
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::error::ProviderError;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key::KeyType;
use super::ledger::{Owner, RecordId};
use super::names::{CertificateName, Identifier, challenge_value};
use super::order::{
    AuthorizationSeen, AuthorizationStatus, CaFault, ChallengeSeen, ChallengeStatus, OrderSeen,
    OrderStatus,
};
use super::propagation::{Observation, Verdict, Watch};
use super::reaction::{
    CA_PATIENCE, Failure, Reaction, Whose, refusal, to_ca_fault, to_provider_error, whose,
};
use super::{EffectId, Pending, Wanted, due};

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
/// The TTL of a value that starts an RRset, in seconds.
pub const TTL: u32 = 60;

/// What is wanted; fixed for the whole attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which certificate of the configuration.
    pub certificate: CertificateName,
    /// Rises with every attempt for this certificate.
    pub epoch: u64,
    /// The names, sorted.
    pub identifiers: Vec<Identifier>,
    /// The profile to ask for (draft-ietf-acme-profiles).
    pub profile: Option<String>,
    /// The kind of the leaf key.
    pub key: KeyType,
    /// The authority's name in the configuration.
    pub authority: String,
    /// The account's URL.
    pub account: String,
    /// The account key's thumbprint (RFC 7638).
    pub thumbprint: String,
}

/// One order and everything around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What is wanted.
    pub request: Request,
    /// When it began.
    pub started: Timestamp,
    /// The order, once the authority has named it.
    order_url: Option<String>,
    /// Records put at DNS hosts, by the URL of their authorization.
    held: Vec<Held>,
    /// Whether the leaf key is in the store.
    key_saved: bool,
    /// How it ended; records may still have to be released.
    end: Option<End>,
    /// No request to the authority before this: its own Retry-After.
    not_before: Option<Timestamp>,
    #[serde(skip)]
    known: Known,
}

/// A record of this attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    authorization: String,
    record: RecordId,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The certificate is in the store.
    Issued,
    /// It did not work.
    Failed(Failure),
}

/// What this process has learnt and the store need not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    order: Option<OrderSeen>,
    order_looks: u32,
    order_due: Option<Timestamp>,
    authorizations: Vec<AuthorizationKnown>,
    /// Failures of the current kind of request in a row.
    turn: u32,
    /// The last fault, for `status`.
    fault: Option<String>,
    /// Everything is released and nothing else done until the next start.
    suspended: bool,
}

/// What is known of one authorization.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AuthorizationKnown {
    url: String,
    seen: Option<AuthorizationSeen>,
    looks: u32,
    due: Option<Timestamp>,
    present: bool,
    watch: Option<Watch>,
    patience: Duration,
    present_since: Option<Timestamp>,
    proven: bool,
    responded: bool,
    turn: u32,
    not_before: Option<Timestamp>,
    fault: Option<String>,
}

/// Something to do for an attempt. `part` is the authorization's place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask for an order (section 7.4).
    NewOrder,
    /// Look at the order.
    FetchOrder(String),
    /// Look at an authorization (section 7.5).
    FetchAuthorization {
        /// Which.
        part: usize,
        /// Its URL.
        url: String,
    },
    /// Find the zone, the provider and the servers of a challenge name.
    Locate {
        /// Which authorization.
        part: usize,
        /// The name, with or without a wildcard.
        identifier: Identifier,
    },
    /// Have the value put at the DNS host; answered when the host says that it is there.
    Present {
        /// Which authorization.
        part: usize,
        /// Who wants it.
        owner: Owner,
        /// The value and its coordinates.
        record: RecordId,
    },
    /// Ask authoritative servers for the value.
    Observe {
        /// Which authorization.
        part: usize,
        /// The coordinates and the value.
        record: RecordId,
        /// Whom to ask.
        servers: Vec<(String, IpAddr)>,
    },
    /// Tell the authority that it may look (section 7.5.1).
    Respond {
        /// Which authorization.
        part: usize,
        /// The challenge's URL.
        url: String,
    },
    /// Want the value no more; answered when that is saved.
    Release {
        /// Which record.
        part: usize,
        /// Who wanted it.
        owner: Owner,
        /// The value and its coordinates.
        record: RecordId,
    },
    /// Draw the leaf key and save it.
    MakeKey,
    /// Send the CSR (section 7.4).
    Finalize(String),
    /// Fetch and check the certificate, and save it.
    Download(String),
}

impl Effect {
    /// Whether it only asks, and so changes nothing at the authority, at a DNS host, or in the store.
    pub fn only_looks(&self) -> bool {
        match self {
            Self::FetchOrder(_)
            | Self::FetchAuthorization { .. }
            | Self::Locate { .. }
            | Self::Observe { .. } => true,
            Self::NewOrder
            | Self::Present { .. }
            | Self::Respond { .. }
            | Self::Release { .. }
            | Self::MakeKey
            | Self::Finalize(_)
            | Self::Download(_) => false,
        }
    }
}

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The authority made or found the order.
    Ordered(Result<OrderSeen, CaFault>),
    /// The order as it is, from `FetchOrder`.
    Order(Result<OrderSeen, CaFault>),
    /// An authorization as it is.
    Authorization(usize, Result<AuthorizationSeen, CaFault>),
    /// Where a challenge name leads.
    Located(usize, Result<Located, LocateFault>),
    /// The host says that the value is there.
    Presented(usize, Result<(), ProviderError>),
    /// What the servers said.
    Observed(usize, Vec<Observation>),
    /// The challenge as the authority sees it after the response.
    Responded(usize, Result<ChallengeSeen, CaFault>),
    /// The ledger has saved that the record is wanted no more by this owner.
    Released(Owner),
    /// The leaf key is in the store.
    KeySaved,
    /// The order after the CSR was sent.
    Finalized(Result<OrderSeen, CaFault>),
    /// The certificate was checked; this event is saved together with it.
    Downloaded,
    /// The certificate could not be fetched.
    DownloadFailed(CaFault),
    /// What came is not the certificate that was ordered.
    CertificateWrong(String),
}

/// Where a challenge name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The provider's name.
    pub provider: String,
    /// The zone to change.
    pub zone: countersign_providers::record::Zone,
    /// Where the record must stand, after CNAMEs.
    pub owner: countersign_providers::record::DnsName,
    /// Every authoritative server of the real zone: host name and address.
    pub servers: Vec<(String, IpAddr)>,
    /// How long the provider may need until every server has a value.
    pub patience: Duration,
}

/// Why a challenge name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocateFault {
    /// What was seen and whose move it is.
    pub failure: Failure,
    /// Whether asking again in a moment may help.
    pub transient: bool,
}

impl Attempt {
    /// An attempt that has done nothing yet. To be saved before anything else.
    pub fn new(request: Request, now: Timestamp) -> Self {
        Self {
            request,
            started: now,
            order_url: None,
            held: Vec::new(),
            key_saved: false,
            end: None,
            not_before: None,
            known: Known::default(),
        }
    }

    /// What should be happening at `now`.
    pub fn pending(&self, now: Timestamp) -> Pending<Effect> {
        due(self.wanted(), now)
    }

    /// Records what happened; `effect` names the effect that it came from. News of an effect that is not wanted any
    /// more are ignored, except those that say what is held.
    pub fn apply(&mut self, now: Timestamp, effect: &EffectId, event: Event) {
        match event {
            // An order that is known is never forgotten.
            Event::Ordered(Ok(order)) if self.order_url.is_none() && !self.is_working() => {
                self.order_url = Some(order.url);
                return;
            }
            _ => {}
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
                self.finish(End::Failed(Failure::new(Whose::Authority, sentence)));
            }
        }
    }

    /// Whoever runs this stops for now: records are released, the order stays for the next start.
    pub fn suspend(&mut self) {
        if self.end.is_none() {
            self.known = Known {
                suspended: true,
                ..Known::default()
            };
        }
    }

    /// The certificate is not wanted any more, or another one is.
    pub fn abandon(&mut self, failure: Failure) {
        self.finish(End::Failed(failure));
    }

    /// How it ended, once every record is released.
    pub fn outcome(&self) -> Option<&End> {
        self.end.as_ref().filter(|_| self.held.is_empty())
    }

    /// How it ended, also while records are still being released.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The order's URL, once known.
    pub fn order_url(&self) -> Option<&str> {
        self.order_url.as_deref()
    }

    /// How many authorizations have no value at their DNS host yet: a batch may wait a moment for those that have not
    /// asked for it.
    pub fn approaching(&self) -> usize {
        let waits = |known: &&AuthorizationKnown| match &known.seen {
            None => known.turn == 0,
            Some(seen) => {
                seen.status == AuthorizationStatus::Pending
                    && !known.present
                    && !known.proven
                    && !known.responded
                    && known.not_before.is_none()
            }
        };
        let parts = self.known.authorizations.iter().filter(waits).count();
        if self.is_working() { parts } else { 0 }
    }

    /// Whether requests to the authority have failed so often that only time can help.
    pub fn is_stuck(&self) -> bool {
        let parts = self.known.authorizations.iter().map(|known| known.turn);
        parts
            .chain([self.known.turn])
            .any(|turn| turn >= CA_PATIENCE)
    }

    /// The step that it is at, in a few words.
    pub fn step(&self) -> Step {
        match (&self.end, &self.order_url, &self.known.order) {
            (Some(_), ..) => Step::Closing,
            (None, None, _) => Step::Ordering,
            (None, Some(_), None) => Step::LookingAtOrder,
            (None, Some(_), Some(order)) => match order.status {
                OrderStatus::Pending | OrderStatus::Unknown if !self.all_valid() => self.slowest(),
                OrderStatus::Valid => Step::Downloading,
                OrderStatus::Processing => Step::AwaitingCertificate,
                _ => Step::Finalizing,
            },
        }
    }

    /// The last fault that is being retried, and when.
    pub fn trouble(&self) -> Option<(&str, Option<Timestamp>)> {
        if let Some(fault) = &self.known.fault {
            return Some((fault, self.not_before.max(self.known.order_due)));
        }
        let of_part = |a: &'_ AuthorizationKnown| a.fault.is_some();
        let part = self.known.authorizations.iter().find(|a| of_part(a))?;
        part.fault
            .as_deref()
            .map(|fault| (fault, part.not_before.or(part.due)))
    }

    fn is_working(&self) -> bool {
        self.end.is_none() && !self.known.suspended
    }

    fn wanted(&self) -> Vec<Wanted<Effect>> {
        if !self.is_working() {
            return self.releases(|_| true);
        }
        let Some(url) = &self.order_url else {
            return vec![self.ca_effect("new-order", 0, Effect::NewOrder)];
        };
        let mut wanted = Vec::new();
        if !self.key_saved {
            wanted.push(Wanted {
                id: EffectId::new("make-key", 0, 0),
                effect: Effect::MakeKey,
                from: None,
            });
        }
        let Some(order) = &self.known.order else {
            wanted.push(self.fetch_order(url));
            return wanted;
        };
        match order.status {
            OrderStatus::Pending | OrderStatus::Unknown if !self.all_valid() => {
                let parts = self.known.authorizations.iter().enumerate();
                wanted.extend(
                    parts.filter_map(|(part, known)| self.authorization_effect(part, known)),
                );
                if order.status == OrderStatus::Unknown {
                    wanted.push(self.fetch_order(url));
                }
            }
            OrderStatus::Pending | OrderStatus::Unknown | OrderStatus::Ready => {
                if self.key_saved {
                    let finalize = Effect::Finalize(order.finalize.clone());
                    wanted.push(self.ca_effect("finalize", 0, finalize));
                }
            }
            OrderStatus::Processing => wanted.push(self.fetch_order(url)),
            OrderStatus::Valid => match &order.certificate {
                Some(certificate) => {
                    let download = Effect::Download(certificate.clone());
                    wanted.push(self.ca_effect("download", 0, download));
                }
                None => wanted.push(self.fetch_order(url)),
            },
            // Only until its authorizations have said why.
            OrderStatus::Invalid => {
                let parts = self.known.authorizations.iter().enumerate();
                wanted.extend(
                    parts
                        .filter(|(_, known)| known.seen.is_none())
                        .map(|(part, known)| self.fetch_authorization(part, known)),
                );
            }
        }
        wanted.extend(self.releases(|authorization| self.is_decided(authorization)));
        wanted
    }

    fn authorization_effect(
        &self,
        part: usize,
        known: &AuthorizationKnown,
    ) -> Option<Wanted<Effect>> {
        let Some(seen) = &known.seen else {
            return Some(self.fetch_authorization(part, known));
        };
        let waits = matches!(
            seen.status,
            AuthorizationStatus::Pending | AuthorizationStatus::Unknown
        );
        if !waits {
            return None;
        }
        let challenge = seen.challenge.as_ref()?;
        let asked = known.responded || challenge.status != ChallengeStatus::Pending;
        if asked || seen.status == AuthorizationStatus::Unknown {
            return Some(self.fetch_authorization(part, known));
        }
        if known.proven {
            let respond = Effect::Respond {
                part,
                url: challenge.url.clone(),
            };
            return Some(self.ca_effect("respond", part, respond));
        }
        let held = self.held(&known.url);
        let (Some(held), Some(watch)) = (held, &known.watch) else {
            let identifier = Identifier {
                base: seen.identifier.clone(),
                wildcard: seen.wildcard,
            };
            return Some(Wanted {
                id: EffectId::new("locate", part, known.turn),
                effect: Effect::Locate { part, identifier },
                from: known.not_before,
            });
        };
        let record = held.record.clone();
        if !known.present {
            return Some(Wanted {
                id: EffectId::new("present", part, known.turn),
                effect: Effect::Present {
                    part,
                    owner: self.request.owner(&known.url),
                    record,
                },
                from: known.not_before,
            });
        }
        let (servers, from) = watch.next();
        Some(Wanted {
            id: EffectId::new("observe", part, watch.rounds()),
            effect: Effect::Observe {
                part,
                record,
                servers,
            },
            from,
        })
    }

    fn ca_effect(&self, what: &str, part: usize, effect: Effect) -> Wanted<Effect> {
        Wanted {
            id: EffectId::new(what, part, self.known.turn),
            effect,
            from: self.not_before,
        }
    }

    fn fetch_order(&self, url: &str) -> Wanted<Effect> {
        let what = Effect::FetchOrder(url.to_owned());
        let mut wanted = self.ca_effect("order", self.known.order_looks as usize, what);
        wanted.from = wanted.from.max(self.known.order_due);
        wanted
    }

    fn fetch_authorization(&self, part: usize, known: &AuthorizationKnown) -> Wanted<Effect> {
        let effect = Effect::FetchAuthorization {
            part,
            url: known.url.clone(),
        };
        Wanted {
            id: EffectId::new(&format!("authorization/{}", known.looks), part, known.turn),
            effect,
            from: known.due.max(self.not_before),
        }
    }

    fn releases(&self, which: impl Fn(&str) -> bool) -> Vec<Wanted<Effect>> {
        let held = self
            .held
            .iter()
            .enumerate()
            .filter(|(_, held)| which(&held.authorization));
        held.map(|(part, held)| Wanted {
            id: EffectId(format!("release/{}", held.authorization)),
            effect: Effect::Release {
                part,
                owner: self.request.owner(&held.authorization),
                record: held.record.clone(),
            },
            from: None,
        })
        .collect()
    }

    fn ordered(&mut self, now: Timestamp, result: Result<OrderSeen, CaFault>) {
        match result {
            Ok(order) => {
                self.order_url = Some(order.url.clone());
                self.order_seen(now, order);
            }
            Err(fault) if self.known.turn + 1 >= CA_PATIENCE && !is_limit(&fault) => {
                let failure = unreachable_failure(&fault, &self.request.authority);
                self.finish(End::Failed(failure));
            }
            Err(fault) => self.ca_fault(now, &fault, "asking for an order"),
        }
    }

    fn order_seen(&mut self, now: Timestamp, mut order: OrderSeen) {
        let known = &mut self.known;
        known.turn = 0;
        known.fault = None;
        self.not_before = None;
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
            return self.finish(End::Failed(failure));
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
        self.finish(End::Failed(failure.unwrap_or_else(|| {
            Failure::new(
                Whose::Authority,
                "the authority made the order invalid and gave no reason",
            )
        })));
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
            return self.finish(End::Failed(failure));
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
                known.fault = Some(fault.failure.sentence);
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
        let value = record.value.clone();
        known.watch = Some(Watch::new(value, located.servers));
        let authorization = known.url.clone();
        match self.held(&authorization).cloned() {
            None => self.held.push(Held {
                authorization,
                record,
            }),
            Some(held) if held.record == record => {}
            Some(held) => {
                let sentence = format!(
                    "the challenge name led to {} and now leads to {}: the delegation was changed meanwhile",
                    held.record.name, record.name
                );
                self.finish(End::Failed(Failure::new(Whose::You, sentence)));
            }
        }
    }

    fn presented(&mut self, now: Timestamp, part: usize, result: Result<(), ProviderError>) {
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        let provider = self
            .held
            .iter()
            .find(|held| held.authorization == known.url);
        let provider = provider.map_or("", |held| held.record.provider.as_str());
        match result {
            Ok(()) => {
                known.turn = 0;
                known.not_before = None;
                known.fault = None;
                known.present = true;
                known.present_since.get_or_insert(now);
            }
            Err(error) => match to_provider_error(&error, provider, known.turn) {
                Ok(pause) => {
                    known.turn += 1;
                    known.not_before = Some(later(now, pause));
                    known.fault = Some(error.message);
                }
                Err(failure) => self.finish(End::Failed(failure)),
            },
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
        watch.record(now, observations);
        let since = *known.present_since.get_or_insert(now);
        match watch.verdict(now) {
            Verdict::Ready | Verdict::Likely { .. } => {
                known.proven = true;
                known.fault = None;
            }
            Verdict::Waiting { reason } if now >= later(since, known.patience) => {
                let sentence = format!(
                    "{reason}; waited {} s for {} at {}",
                    known.patience.as_secs(),
                    self.request.certificate,
                    held.record.name
                );
                self.finish(End::Failed(Failure::new(Whose::DnsHost, sentence)));
            }
            Verdict::Waiting { reason } => {
                known.fault = Some(reason);
                if watch.should_ensure_again(now, ENSURE_AGAIN) {
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
                if let Some(seen) = &mut known.seen {
                    seen.challenge = Some(challenge);
                }
                self.known.turn = 0;
                self.known.fault = None;
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
        let Some(known) = self.known.authorizations.get_mut(part) else {
            return;
        };
        match to_ca_fault(fault, known.turn, what) {
            Reaction::Again(pause) => {
                let again = later(now, pause);
                known.turn += 1;
                known.due = Some(again);
                known.fault = Some(fault.to_string());
                if is_limit(fault) {
                    self.not_before = Some(again);
                }
            }
            Reaction::LookAtOrder => self.known.order = None,
            Reaction::GiveUp(failure) => self.finish(End::Failed(failure)),
        }
    }

    fn ca_fault(&mut self, now: Timestamp, fault: &CaFault, what: &str) {
        match to_ca_fault(fault, self.known.turn, what) {
            Reaction::Again(pause) => {
                self.known.turn += 1;
                self.known.fault = Some(fault.to_string());
                self.not_before = Some(later(now, pause));
            }
            Reaction::LookAtOrder => {
                self.known.order = None;
                self.known.order_due = Some(later(now, look_pause(self.known.order_looks, None)));
            }
            Reaction::GiveUp(failure) => self.finish(End::Failed(failure)),
        }
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    fn held(&self, authorization: &str) -> Option<&Held> {
        self.held
            .iter()
            .find(|held| held.authorization == authorization)
    }

    fn all_valid(&self) -> bool {
        let valid = |known: &AuthorizationKnown| {
            known
                .seen
                .as_ref()
                .is_some_and(|seen| seen.status == AuthorizationStatus::Valid)
        };
        let parts = &self.known.authorizations;
        !parts.is_empty() && parts.iter().all(valid)
    }

    /// Whether the authority has decided on an authorization, so that its record is of no more use.
    fn is_decided(&self, authorization: &str) -> bool {
        let known = self
            .known
            .authorizations
            .iter()
            .find(|known| known.url == authorization);
        known
            .and_then(|known| known.seen.as_ref())
            .is_some_and(|seen| {
                !matches!(
                    seen.status,
                    AuthorizationStatus::Pending | AuthorizationStatus::Unknown
                )
            })
    }

    /// The step of the authorization that is furthest behind.
    fn slowest(&self) -> Step {
        let step = |known: &AuthorizationKnown| match &known.seen {
            None => Step::LookingAtAuthorizations,
            Some(seen) if seen.status == AuthorizationStatus::Valid => Step::Finalizing,
            Some(_) if known.responded => Step::AwaitingValidation,
            Some(_) if known.proven => Step::Responding,
            Some(_) if known.present => Step::Proving,
            Some(_) if known.watch.is_some() => Step::Presenting,
            Some(_) => Step::Locating,
        };
        self.known
            .authorizations
            .iter()
            .map(step)
            .min()
            .unwrap_or(Step::LookingAtAuthorizations)
    }
}

impl Request {
    /// How the ledger knows the one who wants a record: this attempt's authorization.
    fn owner(&self, authorization: &str) -> Owner {
        format!("{}{authorization}", self.owner_prefix())
    }

    /// How the owners of every record of this attempt begin.
    pub fn owner_prefix(&self) -> String {
        format!("{}/{}/", self.certificate, self.epoch)
    }
}

/// Where an attempt stands, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Asks for an order.
    Ordering,
    /// Looks at an order from before.
    LookingAtOrder,
    /// Looks at authorizations.
    LookingAtAuthorizations,
    /// Finds where challenge names lead.
    Locating,
    /// Waits for the DNS host.
    Presenting,
    /// Waits for every authoritative server.
    Proving,
    /// Tells the authority.
    Responding,
    /// Waits for the authority's look.
    AwaitingValidation,
    /// Sends the CSR.
    Finalizing,
    /// Waits for the certificate.
    AwaitingCertificate,
    /// Fetches and checks the certificate.
    Downloading,
    /// Releases its records.
    Closing,
}

impl Step {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordering => "asking for an order",
            Self::LookingAtOrder => "looking at its order",
            Self::LookingAtAuthorizations => "looking at the challenges",
            Self::Locating => "finding the DNS servers",
            Self::Presenting => "adding the TXT records",
            Self::Proving => "waiting for every nameserver",
            Self::Responding => "calling the authority to look",
            Self::AwaitingValidation => "waiting for validation",
            Self::Finalizing => "sending the CSR",
            Self::AwaitingCertificate => "waiting for the certificate",
            Self::Downloading => "fetching the certificate",
            Self::Closing => "removing the TXT records",
        }
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
            format!("the authority offers no dns-01 challenge for {name}"),
        )),
        AuthorizationStatus::Invalid => {
            let problem = seen
                .challenge
                .as_ref()
                .and_then(|challenge| challenge.error.as_ref());
            Some(match problem {
                Some(problem) => refusal(problem, whose(&problem.kind), &format!("proving {name}")),
                None => Failure::new(
                    Whose::Authority,
                    format!("the authority found {name} not proven and gave no reason"),
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

/// When to look again at an object that the authority is working on, after `looks` looks since the last step.
fn look_pause(looks: u32, retry_after: Option<Duration>) -> Duration {
    let looks = looks as usize;
    match (EARLY_LOOKS.get(looks), retry_after) {
        (Some(early), _) => *early,
        (None, Some(wish)) => wish.min(LONGEST_LOOK),
        (None, None) => LATER_LOOKS[(looks - EARLY_LOOKS.len()).min(LATER_LOOKS.len() - 1)],
    }
}

/// Whether the authority asked for a pause of everybody's.
fn is_limit(fault: &CaFault) -> bool {
    matches!(
        fault,
        CaFault::Refused {
            retry_after: Some(_),
            ..
        }
    )
}

fn unreachable_failure(fault: &CaFault, authority: &str) -> Failure {
    Failure::new(Whose::Authority, format!("authority {authority}: {fault}"))
}
