//! One certificate at one target: the wanted generation installed, then the reload.
//!
//! Saved, so that a target that was down is served later, and compared with what the target shows at each start.

use std::time::Duration;

use countersign_providers::clock::later;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::names::CertificateName;
use super::reaction::{Failure, Whose};
use super::{EffectId, Pending, Wanted, due};

/// Pauses after failures in a row; the last one repeats.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
];

/// One certificate at one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Which certificate.
    pub certificate: CertificateName,
    /// Which target: its name, or its directory when written in place.
    pub target: String,
    /// The generation that should be there.
    wanted: Option<u64>,
    /// When that one ends.
    ends: Option<Timestamp>,
    /// The generation that is there.
    installed: Option<u64>,
    /// The generation whose reload succeeded.
    reloaded: Option<u64>,
    /// When the one ends that was told of last.
    serves_until: Option<Timestamp>,
    /// Since when it is as it is.
    since: Option<Timestamp>,
    /// Why it is not there.
    failure: Option<Failure>,
    turn: u32,
    not_before: Option<Timestamp>,
    /// Whether this process has looked at the target.
    #[serde(skip)]
    inspected: bool,
}

/// What a delivery wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Which generation is there?
    Inspect,
    /// Put this generation there.
    Install(u64),
    /// Tell the one who uses it.
    Reload(u64),
}

/// What happened to a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What is there.
    Inspected(Result<Option<u64>, String>),
    /// It was put there, or not: a sentence.
    Installed(u64, Result<(), String>),
    /// It was told, or not.
    Reloaded(u64, Result<(), String>),
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not there yet.
    Wanted,
    /// There, and whoever uses it was told.
    Installed,
    /// Something is in the way.
    Failing,
}

impl Delivery {
    /// A delivery of nothing yet.
    pub fn new(certificate: CertificateName, target: String) -> Self {
        Self {
            certificate,
            target,
            wanted: None,
            ends: None,
            installed: None,
            reloaded: None,
            serves_until: None,
            since: None,
            failure: None,
            turn: 0,
            not_before: None,
            inspected: false,
        }
    }

    /// Sets the generation that should be there, and when that one ends.
    pub fn want(&mut self, now: Timestamp, generation: u64, ends: Timestamp) {
        self.ends = Some(ends);
        if self.wanted != Some(generation) {
            self.wanted = Some(generation);
            self.since = Some(now);
            self.hurry();
        }
    }

    /// Forgets a wait: a person asked for a try now.
    pub fn hurry(&mut self) {
        self.turn = 0;
        self.not_before = None;
    }

    /// What should be happening at `now`.
    pub fn pending(&self, now: Timestamp) -> Pending<Effect> {
        due(self.needed().into_iter().collect(), now)
    }

    /// Records what happened.
    pub fn apply(&mut self, now: Timestamp, effect: &EffectId, event: Event) {
        if self.needed().is_none_or(|needed| needed.id != *effect) {
            return;
        }
        match event {
            Event::Inspected(Ok(found)) => {
                self.inspected = true;
                // Whoever changed the target must also have it told again.
                if found != self.installed {
                    self.installed = None;
                    self.reloaded = None;
                }
                if self.is_done() {
                    self.failure = None;
                    self.hurry();
                }
            }
            Event::Installed(generation, Ok(())) => {
                self.installed = Some(generation);
                self.settle(now);
            }
            Event::Reloaded(generation, Ok(())) => {
                self.reloaded = Some(generation);
                self.serves_until = self.ends;
                self.settle(now);
            }
            // Paths, owners and room are for a person to see to; whoever takes the files up is the target.
            Event::Inspected(Err(sentence)) | Event::Installed(_, Err(sentence)) => {
                self.failed(now, Whose::You, sentence);
            }
            Event::Reloaded(_, Err(sentence)) => self.failed(now, Whose::Target, sentence),
        }
    }

    /// The generation that is wanted.
    pub fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    /// The generation that is there.
    pub fn installed(&self) -> Option<u64> {
        self.installed
    }

    /// When the certificate ends that the target was told of last: what it serves until the wanted one is there.
    pub fn serves_until(&self) -> Option<Timestamp> {
        self.serves_until
    }

    /// Whether the wanted generation is there and told.
    pub fn is_done(&self) -> bool {
        self.wanted.is_some() && self.wanted == self.installed && self.wanted == self.reloaded
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        match (&self.failure, self.is_done()) {
            (_, true) => State::Installed,
            (Some(_), false) => State::Failing,
            (None, false) => State::Wanted,
        }
    }

    /// Since when.
    pub fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Why it is not there, and when it is tried again.
    pub fn failure(&self) -> Option<(&Failure, Option<Timestamp>)> {
        self.failure
            .as_ref()
            .map(|failure| (failure, self.not_before))
    }

    /// How often it failed in a row, since somebody asked for it last; at least once where there is a failure.
    pub fn failures(&self) -> u32 {
        self.turn.max(u32::from(self.failure.is_some()))
    }

    fn needed(&self) -> Option<Wanted<Effect>> {
        let wanted = self.wanted?;
        let (what, effect) = match (self.inspected, self.installed, self.reloaded) {
            (false, ..) => ("inspect", Effect::Inspect),
            (true, installed, _) if installed != Some(wanted) => {
                ("install", Effect::Install(wanted))
            }
            (true, _, reloaded) if reloaded != Some(wanted) => ("reload", Effect::Reload(wanted)),
            _ => return None,
        };
        let id = EffectId(format!("{what}/{wanted}/{}", self.turn));
        Some(Wanted {
            id,
            effect,
            from: self.not_before,
        })
    }

    fn settle(&mut self, now: Timestamp) {
        self.since = Some(now);
        self.failure = None;
        self.hurry();
    }

    fn failed(&mut self, now: Timestamp, whose: Whose, sentence: String) {
        let pause = PAUSES[(self.turn as usize).min(PAUSES.len() - 1)];
        self.failure = Some(Failure::new(whose, sentence));
        self.since.get_or_insert(now);
        self.turn = self.turn.saturating_add(1);
        self.not_before = Some(later(now, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn delivery() -> Delivery {
        let name = CertificateName::parse("web").unwrap();
        Delivery::new(name, "/etc/certificates".to_owned())
    }

    fn wants(delivery: &Delivery, second: i64) -> Option<Effect> {
        let effects = delivery.pending(at(second)).effects;
        effects.first().map(|(_, effect)| *effect)
    }

    fn answer(delivery: &mut Delivery, second: i64, event: Event) {
        let pending = delivery.pending(at(second));
        let (id, _) = pending.effects.first().unwrap();
        delivery.apply(at(second), id, event);
    }

    /// A delivery whose generation 1 is there and told.
    fn done() -> Delivery {
        let mut delivery = delivery();
        delivery.want(at(0), 1, at(100));
        answer(&mut delivery, 0, Event::Inspected(Ok(None)));
        answer(&mut delivery, 0, Event::Installed(1, Ok(())));
        answer(&mut delivery, 0, Event::Reloaded(1, Ok(())));
        delivery
    }

    fn restart(delivery: &Delivery) -> Delivery {
        serde_json::from_slice(&serde_json::to_vec(delivery).unwrap()).unwrap()
    }

    #[test]
    fn wants_nothing_before_there_is_a_certificate() {
        assert_eq!(wants(&delivery(), 0), None);
    }

    #[test]
    fn inspects_installs_and_reloads_in_this_order() {
        let mut delivery = delivery();
        delivery.want(at(0), 1, at(100));
        assert_eq!(wants(&delivery, 0), Some(Effect::Inspect));
        answer(&mut delivery, 0, Event::Inspected(Ok(None)));
        assert_eq!(wants(&delivery, 0), Some(Effect::Install(1)));
        answer(&mut delivery, 0, Event::Installed(1, Ok(())));
        assert_eq!(wants(&delivery, 0), Some(Effect::Reload(1)));
        answer(&mut delivery, 0, Event::Reloaded(1, Ok(())));
        assert!(delivery.is_done());
    }

    #[test]
    fn looks_at_the_target_at_each_start_and_is_content() {
        let mut delivery = restart(&done());
        assert_eq!(wants(&delivery, 0), Some(Effect::Inspect));
        answer(&mut delivery, 0, Event::Inspected(Ok(Some(1))));
        assert_eq!(wants(&delivery, 0), None);
    }

    #[test]
    fn what_was_in_the_way_is_forgotten_when_all_is_well() {
        let mut delivery = restart(&done());
        let failed = Event::Inspected(Err("a file is in the way".to_owned()));
        answer(&mut delivery, 0, failed);
        assert!(delivery.failure().is_some());
        answer(&mut delivery, 5, Event::Inspected(Ok(Some(1))));
        assert_eq!(delivery.failure(), None);
    }

    #[test]
    fn puts_back_what_somebody_removed() {
        let mut delivery = restart(&done());
        answer(&mut delivery, 0, Event::Inspected(Ok(None)));
        assert_eq!(wants(&delivery, 0), Some(Effect::Install(1)));
    }

    #[test]
    fn reloads_again_when_the_reload_failed_and_does_not_install_again() {
        let mut delivery = delivery();
        delivery.want(at(0), 1, at(100));
        answer(&mut delivery, 0, Event::Inspected(Ok(None)));
        answer(&mut delivery, 0, Event::Installed(1, Ok(())));
        answer(
            &mut delivery,
            0,
            Event::Reloaded(1, Err("exit code 1".to_owned())),
        );
        assert_eq!(delivery.state(), State::Failing);
        assert_eq!(wants(&delivery, 4), None);
        assert_eq!(wants(&delivery, 5), Some(Effect::Reload(1)));
    }

    #[test]
    fn a_newer_generation_does_not_wait_for_an_older_ones_pause() {
        let mut delivery = delivery();
        delivery.want(at(0), 1, at(100));
        answer(&mut delivery, 0, Event::Inspected(Ok(None)));
        answer(
            &mut delivery,
            0,
            Event::Installed(1, Err("read-only".to_owned())),
        );
        delivery.want(at(1), 2, at(200));
        assert_eq!(wants(&delivery, 1), Some(Effect::Install(2)));
    }

    #[test]
    fn what_is_served_ends_with_the_older_one_until_the_newer_is_told() {
        let mut delivery = done();
        delivery.want(at(1), 2, at(200));
        answer(&mut delivery, 1, Event::Installed(2, Ok(())));
        let failed = Event::Reloaded(2, Err("exit code 1".to_owned()));
        answer(&mut delivery, 1, failed);
        assert_eq!(restart(&delivery).serves_until(), Some(at(100)));
        answer(&mut delivery, 6, Event::Reloaded(2, Ok(())));
        assert_eq!(delivery.serves_until(), Some(at(200)));
    }

    #[test]
    fn news_of_an_older_generation_are_ignored() {
        let mut delivery = done();
        delivery.want(at(1), 2, at(200));
        let (id, _) = delivery.pending(at(1)).effects.remove(0);
        delivery.want(at(2), 3, at(300));
        delivery.apply(at(2), &id, Event::Installed(2, Ok(())));
        assert_eq!(wants(&delivery, 2), Some(Effect::Install(3)));
    }
}
