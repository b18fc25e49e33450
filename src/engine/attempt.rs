//! One order, from due to a certificate that is saved (RFC 8555 section 7.4).
//!
//! Saved is only what the authority cannot tell: the order's URL, where each record was put, that the leaf key is in
//! the store, and how it ended. What the authority and the nameservers last said is not saved; not knowing it means
//! asking, so that after any doubt the authority's own objects decide.

mod applying;
mod event;
mod step;
#[cfg(test)]
mod tests;
mod wanting;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use countersign_providers::clock::between;
use countersign_providers::record::Zone;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use event::{Effect, Event, LocateFault, Located, Placed};
pub use step::Step;

use super::key::KeyType;
use super::ledger::{Owner, RecordId};
use super::names::{CertificateName, Identifier};
use super::order::{AuthorizationSeen, AuthorizationStatus, OrderSeen, OrderStatus};
use super::propagation::Watch;
use super::reaction::{CA_PATIENCE, Failure};
use super::{EffectId, Pending, due};

/// A value waits so long at most for the others of its order, so that all of one zone come to their host together.
const GATHERING: Duration = Duration::from_secs(30);

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
    /// When the first of them was.
    failing_since: Option<Timestamp>,
    /// The last fault, while it is retried.
    fault: Option<Failure>,
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
    /// The host will say when all of its servers have it.
    spreading: bool,
    watch: Option<Watch>,
    patience: Duration,
    present_since: Option<Timestamp>,
    located: Option<Timestamp>,
    proven: bool,
    responded: bool,
    turn: u32,
    not_before: Option<Timestamp>,
    fault: Option<Failure>,
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
    /// more are ignored, except those that say what is held and when the authority wants to be asked again.
    pub fn apply(&mut self, now: Timestamp, effect: &EffectId, event: Event) {
        let was_open = self.end.is_none();
        self.record(now, effect, event);
        // The next attempt asks the same authority.
        if let (true, Some(End::Failed(failure)), Some(floor)) =
            (was_open, &mut self.end, self.not_before)
            && floor > now
        {
            failure.not_before = failure.not_before.max(Some(between(now, floor)));
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

    /// The records that it wants at DNS hosts, or has there.
    pub fn records(&self) -> impl Iterator<Item = &RecordId> {
        self.held.iter().map(|held| &held.record)
    }

    /// Whether whoever runs this stops for now: the order goes on with the same values.
    pub fn is_suspended(&self) -> bool {
        self.known.suspended
    }

    /// How many authorizations have no value at their DNS host yet: a batch may wait a moment for those that have not
    /// asked for it.
    pub fn approaching(&self) -> usize {
        let parts = self.known.authorizations.iter();
        let parts = parts.filter(|known| known.is_on_its_way()).count();
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
    pub fn trouble(&self) -> Option<(&Failure, Option<Timestamp>)> {
        if let Some(fault) = &self.known.fault {
            return Some((fault, self.not_before.max(self.known.order_due)));
        }
        let of_part = |a: &'_ AuthorizationKnown| a.fault.is_some();
        let part = self.known.authorizations.iter().find(|a| of_part(a))?;
        part.fault
            .as_ref()
            .map(|fault| (fault, part.not_before.or(part.due)))
    }

    /// Until when the authority asked not to be asked, by what is saved.
    pub fn held_until(&self) -> Option<Timestamp> {
        self.not_before
    }

    fn is_working(&self) -> bool {
        self.end.is_none() && !self.known.suspended
    }

    fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    fn held(&self, authorization: &str) -> Option<&Held> {
        self.held
            .iter()
            .find(|held| held.authorization == authorization)
    }

    /// Whether it is not known yet where the value of some authorization belongs.
    fn is_gathering(&self) -> bool {
        let mut parts = self.known.authorizations.iter();
        parts.any(|known| !known.is_decided() && known.watch.is_none())
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

    /// Says of a record whether the authority has decided on its authorization, and on all those that it is about to
    /// decide on in the same zone: their values are of no more use and leave together.
    fn is_over(&self) -> impl Fn(&Held) -> bool {
        let parts = self.known.authorizations.iter();
        let parts: HashMap<&str, &AuthorizationKnown> =
            parts.map(|known| (known.url.as_str(), known)).collect();
        let known = move |held: &Held| parts.get(held.authorization.as_str()).copied();
        let held = self.held.iter();
        let busy = held.filter(|it| known(it).is_some_and(AuthorizationKnown::is_being_decided));
        let busy: HashSet<(&str, &Zone)> = busy.map(Held::place).collect();
        move |held| {
            known(held).is_some_and(AuthorizationKnown::is_decided) && !busy.contains(&held.place())
        }
    }
}

impl Held {
    /// The host and the zone that it was put into.
    fn place(&self) -> (&str, &Zone) {
        (&self.record.provider, &self.record.zone)
    }
}

impl AuthorizationKnown {
    /// Whether it has no value at its DNS host yet, and nothing is in the way.
    fn is_on_its_way(&self) -> bool {
        match &self.seen {
            None => self.turn == 0,
            Some(seen) => {
                seen.status == AuthorizationStatus::Pending
                    && !self.present
                    && !self.proven
                    && !self.responded
                    && self.not_before.is_none()
            }
        }
    }

    /// Whether the authority has decided.
    fn is_decided(&self) -> bool {
        let open = [AuthorizationStatus::Pending, AuthorizationStatus::Unknown];
        (self.seen.as_ref()).is_some_and(|seen| !open.contains(&seen.status))
    }

    /// Whether the authority has all that it needs to decide, or soon has it. One without a value is not waited for: it
    /// may be the one that waits until there is room.
    fn is_being_decided(&self) -> bool {
        match &self.seen {
            None => self.turn == 0,
            Some(_) => !self.is_decided() && (self.present || self.proven || self.responded),
        }
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
