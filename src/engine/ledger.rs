//! Who owns which TXT value: one entry a (provider, zone, owner name, value), with the set of its owners.
//!
//! A value is saved as asked for before the host is asked, and forgotten only when the host has said that it is gone
//! and nothing can bring it back: an ensure with an unknown outcome may land late, so its entry stays as a tombstone
//! and is looked at again for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_providers::clock::later;
use countersign_providers::error::{ErrorKind, ProviderError};
use countersign_providers::record::{DnsName, Zone};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reaction::{Failure, to_provider_error};
use super::{EffectId, Pending, Wanted, due};

/// When a tombstone is looked at, counted from the removal. A write that a server accepted lands within minutes or not
/// at all; the last look ends the entry.
const LOOKS: [Duration; 4] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(240),
    Duration::from_secs(600),
];
/// Pauses between tries to remove a value, for as long as it takes.
const REMOVAL_PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(600),
];

/// The coordinates of one TXT value. A removal needs nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId {
    /// The provider's name in the configuration.
    pub provider: String,
    /// Its zone.
    pub zone: Zone,
    /// Where the record stands, after CNAMEs.
    pub name: DnsName,
    /// The TXT value.
    pub value: String,
}

/// Who wants a value: one authorization of one attempt.
pub type Owner = String;

/// One value and everybody who wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which value.
    pub record: RecordId,
    /// Everybody who wants it there.
    owners: BTreeSet<Owner>,
    /// What is known of the host.
    presence: Presence,
    /// What the host calls the value.
    #[serde(default)]
    handle: Option<String>,
    /// Whether a write with an unknown outcome may still land.
    doubt: bool,
    /// When it was last known to be removed.
    removed: Option<Timestamp>,
    /// How many looks at the tombstone were taken.
    looks: u32,
    /// Failures in a row.
    turn: u32,
    /// No earlier than this.
    not_before: Option<Timestamp>,
    /// The last failure, for `status`.
    pub failure: Option<Failure>,
    /// Since when it is in its [`State`]; not known of what was saved by versions that did not note it.
    #[serde(default)]
    since: Option<Timestamp>,
    /// Whether this process made the request whose outcome is open; a request of a dead process stays in doubt.
    #[serde(skip)]
    asked_here: bool,
    /// Whether an owner waits for the host to be asked. After a failure, and after a start, the owner says whether it
    /// still does: its own pauses hold, and nothing is asked that is not saved.
    #[serde(skip)]
    awaited: bool,
    /// Whether the host has refused to remove it, so that it must be looked whether it is there at all.
    #[serde(skip)]
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Presence {
    /// The host said that it is not there, or was never asked.
    Absent,
    /// The host is or was being asked to add it.
    Asked,
    /// The host said that it is there.
    Present,
    /// It was there, and the host is or was being asked to add it again.
    Again,
}

/// Where an entry stands, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Somebody wants the value, and the host has not said that it is there.
    Wanted,
    /// It is there, and somebody wants it.
    Present,
    /// Nobody wants it, and it may still be there.
    Withdrawing,
    /// It is gone; a late write is awaited.
    Watched,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 4] = [
        Self::Wanted,
        Self::Present,
        Self::Withdrawing,
        Self::Watched,
    ];

    /// In one word, for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Present => "present",
            Self::Withdrawing => "withdrawing",
            Self::Watched => "watched",
        }
    }
}

/// What an entry wants of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The value must be there.
    Ensure,
    /// The value must be gone.
    Remove,
    /// Is the value really gone?
    Look,
}

/// What happened to an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody wants the value, for the first time or once more. To be saved before the host is asked.
    Intended(Owner),
    /// Somebody wants it no more, or never did.
    Released(Owner),
    /// The host was asked to add it; what it calls it, if it has a name for it.
    Ensured(Result<Option<String>, ProviderError>),
    /// The host was asked to remove it.
    Removed(Result<(), ProviderError>),
    /// The host said so of a removal, and another writer may bring the value back.
    Unproven,
    /// A person saw it at the host, and it is to go unless somebody wants it.
    Found,
    /// The host was asked whether it is there.
    Looked(Result<bool, ProviderError>),
}

impl Entry {
    /// An entry that nobody owns yet.
    pub fn new(record: RecordId) -> Self {
        Self {
            record,
            owners: BTreeSet::new(),
            presence: Presence::Absent,
            handle: None,
            doubt: false,
            removed: None,
            looks: 0,
            turn: 0,
            not_before: None,
            failure: None,
            since: None,
            asked_here: false,
            awaited: false,
            refused: false,
        }
    }

    /// What should be happening at `now`.
    pub fn pending(&self, now: Timestamp) -> Pending<Effect> {
        due(self.wanted().into_iter().collect(), now)
    }

    /// Records what happened. An outcome of an effect that is not wanted any more is still news of the host.
    pub fn apply(&mut self, now: Timestamp, event: Event) {
        let was = self.state();
        match event {
            Event::Intended(owner) => self.intended(owner),
            Event::Released(owner) => {
                if self.owners.remove(&owner) && self.owners.is_empty() {
                    self.settle();
                }
            }
            Event::Ensured(outcome) => self.ensured(now, outcome),
            Event::Removed(outcome) => self.removed(now, outcome),
            // Removed once more because nobody can look there, it is what was looked for.
            Event::Unproven => self.doubt |= self.removed.is_none(),
            Event::Found => self.found(),
            Event::Looked(outcome) => self.looked(now, outcome),
        }
        if self.since.is_none() || self.state() != was {
            self.since = Some(now);
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match (self.owners.is_empty(), self.presence) {
            (false, Presence::Present) => State::Present,
            (false, _) => State::Wanted,
            (true, Presence::Absent) => State::Watched,
            (true, _) => State::Withdrawing,
        }
    }

    /// Since when, if that is known.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Whether the entry can be forgotten.
    pub fn is_over(&self) -> bool {
        self.owners.is_empty() && self.presence == Presence::Absent && !self.in_doubt()
    }

    /// Whether the host has the value, as far as is known.
    pub fn is_present(&self) -> bool {
        self.presence == Presence::Present
    }

    /// Whether the host was left with the value, as far as is known: it may be asked for it once more.
    pub fn was_left(&self) -> bool {
        matches!(self.presence, Presence::Present | Presence::Again)
    }

    /// Whether the host may have the value, although it is asked for it.
    pub fn may_be_there(&self) -> bool {
        self.was_left() || self.in_doubt()
    }

    /// What the host calls the value, if it said so.
    pub fn handle(&self) -> Option<&str> {
        self.handle.as_deref()
    }

    /// Whether the value may be at the host although nobody wants it.
    pub fn is_withdrawing(&self) -> bool {
        self.owners.is_empty() && self.presence != Presence::Absent
    }

    /// Everybody who wants the value.
    pub fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.owners.iter()
    }

    fn wanted(&self) -> Option<Wanted<Effect>> {
        let (what, effect, from) = match (self.owners.is_empty(), self.presence) {
            (false, _) if !self.awaited => return None,
            (false, _) => ("ensure", Effect::Ensure, self.not_before),
            (true, Presence::Absent) if !self.in_doubt() => return None,
            (true, Presence::Absent) => {
                let pause = LOOKS[(self.looks as usize).min(LOOKS.len() - 1)];
                let look = self.removed.map(|removed| later(removed, pause));
                ("look", Effect::Look, look.max(self.not_before))
            }
            (true, _) if self.refused => ("look", Effect::Look, None),
            (true, _) => ("remove", Effect::Remove, self.not_before),
        };
        Some(Wanted {
            id: EffectId::new(what, self.looks as usize, self.turn),
            effect,
            from,
        })
    }

    fn in_doubt(&self) -> bool {
        let asked = matches!(self.presence, Presence::Asked | Presence::Again);
        self.doubt || (asked && !self.asked_here)
    }

    fn intended(&mut self, owner: Owner) {
        self.owners.insert(owner);
        self.ask();
        self.settle();
    }

    /// Somebody waits for the host to be asked. A value that was there may be on its way out, or may have vanished.
    fn ask(&mut self) {
        self.doubt = self.in_doubt();
        self.presence = match self.presence {
            Presence::Absent | Presence::Asked => Presence::Asked,
            Presence::Present | Presence::Again => Presence::Again,
        };
        self.asked_here = true;
        self.awaited = true;
        self.removed = None;
    }

    fn ensured(&mut self, now: Timestamp, outcome: Result<Option<String>, ProviderError>) {
        self.doubt = self.in_doubt();
        self.asked_here = true;
        self.awaited = false;
        match outcome {
            Ok(handle) => {
                self.presence = Presence::Present;
                self.handle = handle;
                self.removed = None;
                self.settle();
            }
            Err(error) => {
                self.doubt |= error.outcome_unknown();
                // A refusal proves absence only if nothing else was ever asked.
                match self.presence {
                    Presence::Asked if !self.doubt => self.presence = Presence::Absent,
                    Presence::Again if !error.outcome_unknown() => {
                        self.presence = Presence::Present;
                    }
                    _ => {}
                }
                self.failed(now, &error);
                // Whoever wants it decides whether to go on.
                self.not_before = None;
            }
        }
    }

    fn removed(&mut self, now: Timestamp, outcome: Result<(), ProviderError>) {
        match outcome {
            // Somebody wants it again since: it must be added again.
            Ok(()) if !self.owners.is_empty() => {
                self.gone(now);
                self.ask();
            }
            Ok(()) => self.gone(now),
            Err(error) => {
                // What was done in part is not refused: a look would show it gone while the world still sees it.
                self.refused = error.kind.needs_person() && !error.partly;
                self.failed(now, &error);
            }
        }
    }

    /// The host says that it is not there. Where that is said once more because nobody can look, it is one of the looks.
    fn gone(&mut self, now: Timestamp) {
        self.doubt = self.in_doubt();
        self.presence = Presence::Absent;
        self.handle = None;
        if self.removed.is_none() {
            self.removed = Some(now);
            self.looks = 0;
        }
        self.settle();
    }

    fn found(&mut self) {
        self.doubt = self.in_doubt();
        self.asked_here = true;
        self.presence = Presence::Present;
        self.removed = None;
        self.refused = false;
        self.settle();
    }

    fn looked(&mut self, now: Timestamp, outcome: Result<bool, ProviderError>) {
        self.refused = false;
        match outcome {
            Ok(_) if !self.owners.is_empty() => {}
            // What may not be removed was never added.
            Ok(false) if self.presence != Presence::Absent => self.gone(now),
            // It counts anew from the removal that is due now.
            Ok(true) => {
                self.presence = Presence::Present;
                self.removed = None;
            }
            Ok(false) => {
                self.count_look(now);
                self.settle();
            }
            // Nobody can look there: each time a late write is taken away without a look.
            Err(error)
                if error.kind == ErrorKind::Unsupported && self.presence == Presence::Absent =>
            {
                self.count_look(now);
                self.presence = Presence::Present;
                self.settle();
            }
            Err(error) => self.failed(now, &error),
        }
    }

    /// After the last one nothing lands any more.
    fn count_look(&mut self, now: Timestamp) {
        self.looks += 1;
        let last = self
            .removed
            .is_none_or(|at| now >= later(at, LOOKS[LOOKS.len() - 1]));
        if last || self.looks as usize >= LOOKS.len() {
            self.doubt = false;
        }
    }

    fn failed(&mut self, now: Timestamp, error: &ProviderError) {
        let pause = REMOVAL_PAUSES[(self.turn as usize).min(REMOVAL_PAUSES.len() - 1)];
        let floor = match error.kind {
            ErrorKind::RateLimited { after } => after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.failure = Some(
            match to_provider_error(error, &self.record.provider, u32::MAX) {
                Ok(_) => Failure::new(super::reaction::Whose::DnsHost, error.message.clone()),
                Err(failure) => failure,
            },
        );
        self.turn = self.turn.saturating_add(1);
        self.not_before = Some(later(now, pause.max(floor)));
    }

    fn settle(&mut self) {
        self.turn = 0;
        self.not_before = None;
        self.failure = None;
    }
}

#[cfg(test)]
mod tests;
