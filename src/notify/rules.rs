//! Which alerts are due: from what is known of one certificate, what was announced of it, and the time. Data only.
//!
//! Levels, not edges: whatever was missed, by a crash or a clock, is found by the next look.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_providers::clock::{between, later};
use countersign_providers::words::printable;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::alert::{self, Alert, Event, time};
use crate::engine::delivery;
use crate::engine::reaction::Whose;
use crate::run::overview::{State, View};

/// A failure that is not the person's own move needs one when it is the so-manyth in a row,
const FAILURES: u32 = 3;
/// or when it has lasted so long.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// A certificate whose renewal was missed while nothing ran has so long to be renewed, from the start on, before that
/// is worth an alert.
const GRACE: Duration = Duration::from_secs(600);
/// Alerts of one certificate that wait; the oldest are given up beyond it. A channel that is down for weeks must not
/// fill the store.
const LONGEST: usize = 100;
/// More of a sentence helps nobody.
const SENTENCE: usize = 1_500;

/// What was announced of one certificate, and what is still to be sent. None is kept of one that is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When its trouble was first seen.
    since: Option<Timestamp>,
    /// Whose move it was when its failure was announced last.
    announced: Option<Whose>,
    /// The sentence that said last what is to be done by hand.
    #[serde(default)]
    asked: Option<String>,
    /// Whether it was announced that half of the time is gone.
    half_life: bool,
    /// What some channel has not taken yet, oldest first.
    pub outbox: Vec<Outgoing>,
}

/// An alert on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The alert.
    pub alert: Alert,
    /// The channels that have taken it, by their ids.
    pub sent: BTreeSet<String>,
}

impl Record {
    /// Notes what is due at `now`; gives when to look again though nothing happens. `begun` is when this process
    /// began to watch.
    pub fn look(&mut self, view: &View, now: Timestamp, begun: Timestamp) -> Option<Timestamp> {
        if is_well(view, now) {
            self.recover(view, now);
        }
        if let Some(failing) = &view.failure {
            let since = self.since.map_or(now, |since| since.min(now));
            self.since = Some(since);
            let whose = failing.failure.whose;
            let is_news = match self.announced {
                None => {
                    needs_person(whose)
                        || failing.count >= FAILURES
                        || now >= later(since, PATIENCE)
                }
                Some(before) => before != Whose::You && whose == Whose::You,
            };
            let asked = view.by_hand.then(|| failing.failure.sentence.clone());
            // Other values are for another order: those before are of no more use.
            let is_asked_anew = asked.is_some() && asked != self.asked;
            if is_news || is_asked_anew {
                self.announced = Some(whose);
                self.asked = asked.or(self.asked.take());
                self.push(Event::Failure, view, now);
            }
        }
        let half_life = self.half_life_at(view, begun);
        let is_in_trouble = view.failure.is_some() || is_overdue(view, now);
        if is_in_trouble && half_life.is_some_and(|at| at <= now) {
            self.half_life = true;
            self.push(Event::HalfLife, view, now);
        }
        let patience = self.since.filter(|_| self.announced.is_none());
        let patience = patience.map(|since| later(since, PATIENCE));
        let end = view.served_until();
        let times = [patience, half_life, end].into_iter().flatten();
        times.filter(|at| *at > now).min()
    }

    /// Notes that the channel `id` has taken `alert`.
    pub fn sent(&mut self, alert: &str, id: &str) {
        let mut waiting = self.outbox.iter_mut();
        if let Some(outgoing) = waiting.find(|outgoing| outgoing.alert.id == alert) {
            outgoing.sent.insert(id.to_owned());
        }
    }

    /// Forgets what all of `channels` have taken.
    pub fn settle<'c>(&mut self, channels: impl Iterator<Item = &'c String> + Clone) {
        self.outbox.retain(|outgoing| {
            let mut channels = channels.clone();
            !channels.all(|id| outgoing.sent.contains(id))
        });
    }

    /// Whether there is nothing to be kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn recover(&mut self, view: &View, now: Timestamp) {
        if self.announced.is_some() || self.half_life {
            self.push(Event::Recovery, view, now);
        }
        let outbox = std::mem::take(&mut self.outbox);
        *self = Self {
            outbox,
            ..Self::default()
        };
    }

    /// When half of the time is gone, unless that was announced: between the first failure, or when the renewal was
    /// due, and the end of what is served.
    fn half_life_at(&self, view: &View, begun: Timestamp) -> Option<Timestamp> {
        let issued = view.current.as_ref().filter(|_| !self.half_life)?;
        let due = issued.renew_at;
        let from = self.since.map_or(due, |since| since.min(due));
        let from = from.max(issued.not_before);
        let end = view.served_until()?;
        let half = later(from, between(from, end) / 2);
        Some(match &view.failure {
            Some(_) => half,
            None => half.max(later(begun, GRACE)),
        })
    }

    fn push(&mut self, event: Event, view: &View, now: Timestamp) {
        let failing = view.failure.as_ref().filter(|_| event != Event::Recovery);
        let (sentence, whose) = match (event, failing) {
            (Event::Recovery, _) => ("it is valid and in place".to_owned(), None),
            (_, Some(failing)) => {
                let failure = &failing.failure;
                (printable(&failure.sentence, SENTENCE), Some(failure.whose))
            }
            (_, None) => {
                let due = view.current.as_ref().map(|issued| time(issued.renew_at));
                let sentence = format!(
                    "its renewal was due {} and has not been done",
                    due.unwrap_or_default()
                );
                (sentence, Some(Whose::Countersign))
            }
        };
        let alert = Alert {
            id: format!(
                "{}{}.{}",
                alert::prefix(&view.name),
                event.as_str(),
                now.as_millisecond()
            ),
            at: now,
            event,
            certificate: view.name.clone(),
            names: view.names.clone(),
            sentence,
            whose,
            not_after: view.served_until(),
            retry_at: failing.and_then(|failing| failing.retry_at),
            left_out: 0,
        };
        self.outbox.push(Outgoing {
            alert,
            sent: BTreeSet::new(),
        });
        if self.outbox.len() > LONGEST {
            let oldest = self.outbox.remove(0);
            if let Some(next) = self.outbox.first_mut() {
                next.alert.left_out += oldest.alert.left_out + 1;
            }
        }
    }
}

/// Whether a certificate is failing or has expired.
pub fn is_unwell(view: &View) -> bool {
    view.failure.is_some() || view.state == State::Expired
}

/// Whether the trouble, if there was any, is over: valid, in place, and not waiting for a renewal that was missed.
fn is_well(view: &View, now: Timestamp) -> bool {
    view.failure.is_none()
        && view.state == State::Valid
        && !is_overdue(view, now)
        && (view.deliveries.iter()).all(|it| it.state == delivery::State::Installed)
}

fn is_overdue(view: &View, now: Timestamp) -> bool {
    (view.current.as_ref()).is_some_and(|issued| issued.renew_at <= now)
}

/// Whether nobody else will do anything about it.
fn needs_person(whose: Whose) -> bool {
    matches!(whose, Whose::You | Whose::Countersign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::certificate::{Issued, Specification};
    use crate::engine::key::KeyType;
    use crate::engine::names::CertificateName;
    use crate::engine::reaction::Failure;
    use crate::engine::renewal::{Due, Reason};
    use crate::run::overview::{Activity, Ahead, Delivered, Failing};

    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Valid from 0 to 90 days, to be renewed after 60, and in place.
    fn well() -> View {
        let issued = Issued {
            epoch: 1,
            generation: 1,
            specification: Specification {
                identifiers: Vec::new(),
                key: KeyType::P256,
            },
            authority: "corp".to_owned(),
            profile: None,
            serial: String::new(),
            sha256: String::new(),
            issuer: String::new(),
            not_before: at(0),
            not_after: at(90 * DAY),
            renew_at: at(60 * DAY),
        };
        View {
            name: CertificateName::parse("web").unwrap(),
            names: vec!["www.example.test".to_owned()],
            state: State::Valid,
            activity: Activity::Idle,
            step: None,
            current: Some(issued),
            due: Due {
                at: at(60 * DAY),
                reason: Reason::Renewal,
            },
            ahead: Ahead {
                authority: "ca".to_owned(),
                domain: "example.test".to_owned(),
                floor: None,
            },
            parked: None,
            failure: None,
            by_hand: false,
            deliveries: vec![Delivered {
                target: "files:/srv".to_owned(),
                state: delivery::State::Installed,
                generation: Some(1),
                serves_until: Some(at(90 * DAY)),
                since: None,
                failure: None,
                failures: 0,
            }],
        }
    }

    fn failing(whose: Whose, count: u32) -> View {
        View {
            failure: Some(Failing {
                failure: Failure::new(whose, "REFUSED"),
                retry_at: Some(at(100 * DAY)),
                count,
            }),
            ..well()
        }
    }

    /// A certificate that never came.
    fn missing(whose: Whose, count: u32) -> View {
        View {
            state: State::None,
            current: None,
            ..failing(whose, count)
        }
    }

    fn look(record: &mut Record, view: &View, second: i64) -> Option<i64> {
        let next = record.look(view, at(second), at(0));
        next.map(Timestamp::as_second)
    }

    fn events(record: &Record) -> Vec<&'static str> {
        let outbox = record.outbox.iter();
        outbox
            .map(|outgoing| outgoing.alert.event.as_str())
            .collect()
    }

    #[test]
    fn one_that_is_well_keeps_nothing_and_is_looked_at_when_half_of_its_last_third_is_gone() {
        let mut record = Record::default();
        assert_eq!(look(&mut record, &well(), 0), Some(75 * DAY));
        assert!(record.is_empty());
    }

    #[test]
    fn a_persons_own_move_is_announced_at_once_and_once() {
        for whose in [Whose::You, Whose::Countersign] {
            let mut record = Record::default();
            look(&mut record, &missing(whose, 1), 0);
            assert_eq!(events(&record), ["failure"]);
            for later in 1..100 {
                assert_eq!(look(&mut record, &missing(whose, 2), later * DAY), None);
            }
            assert_eq!(events(&record), ["failure"]);
        }
    }

    #[test]
    fn what_is_to_be_done_by_hand_is_announced_for_each_order() {
        let mut record = Record::default();
        let asks = |sentence: &str| View {
            failure: Some(Failing {
                failure: Failure::new(Whose::You, sentence),
                retry_at: None,
                count: 1,
            }),
            by_hand: true,
            ..well()
        };
        look(&mut record, &missing(Whose::You, 1), 0);
        for (second, sentence) in [(1, "add 1"), (2, "add 1"), (3, "add 2"), (4, "add 2")] {
            look(&mut record, &asks(sentence), second);
        }
        let said: Vec<&str> = (record.outbox.iter())
            .map(|it| it.alert.sentence.as_str())
            .collect();
        assert_eq!(said, ["REFUSED", "add 1", "add 2"]);
    }

    #[test]
    fn anothers_move_needs_a_person_at_the_third_failure_in_a_row() {
        for whose in [Whose::DnsHost, Whose::Authority, Whose::Target] {
            let mut record = Record::default();
            assert_eq!(look(&mut record, &missing(whose, 1), 0), Some(HOUR));
            look(&mut record, &missing(whose, 2), 600);
            assert_eq!(events(&record), [""; 0]);
            look(&mut record, &missing(whose, 3), 1_200);
            assert_eq!(events(&record), ["failure"]);
        }
    }

    #[test]
    fn anothers_move_needs_a_person_after_an_hour() {
        let mut record = Record::default();
        look(&mut record, &missing(Whose::Authority, 1), 0);
        look(&mut record, &missing(Whose::Authority, 2), HOUR - 1);
        assert_eq!(events(&record), [""; 0]);
        look(&mut record, &missing(Whose::Authority, 2), HOUR);
        assert_eq!(events(&record), ["failure"]);
    }

    #[test]
    fn what_becomes_the_persons_move_is_announced_once_more() {
        let mut record = Record::default();
        for (second, whose) in [
            (0, Whose::DnsHost),
            (1, Whose::Authority),
            (2, Whose::You),
            (3, Whose::DnsHost),
            (4, Whose::You),
        ] {
            look(&mut record, &missing(whose, 3), second);
        }
        let whose = |outgoing: &Outgoing| outgoing.alert.whose.unwrap();
        let whose: Vec<Whose> = record.outbox.iter().map(whose).collect();
        assert_eq!(whose, [Whose::DnsHost, Whose::You]);
    }

    #[test]
    fn what_is_well_before_anybody_heard_of_it_is_not_announced() {
        let mut record = Record::default();
        look(&mut record, &failing(Whose::Authority, 1), 0);
        look(&mut record, &well(), 60);
        assert!(record.is_empty());
    }

    #[test]
    fn recovery_follows_the_failure_also_when_that_was_not_sent_yet() {
        let mut record = Record::default();
        look(&mut record, &failing(Whose::You, 1), 0);
        look(&mut record, &well(), 60);
        look(&mut record, &well(), 120);
        assert_eq!(events(&record), ["failure", "recovery"]);
        look(&mut record, &failing(Whose::You, 1), 180);
        assert_eq!(events(&record), ["failure", "recovery", "failure"]);
    }

    #[test]
    fn what_is_issued_and_not_yet_in_place_has_not_recovered() {
        let mut record = Record::default();
        look(&mut record, &failing(Whose::You, 1), 0);
        let mut issued = well();
        issued.deliveries[0].state = delivery::State::Wanted;
        look(&mut record, &issued, 60);
        assert_eq!(events(&record), ["failure"]);
        look(&mut record, &well(), 61);
        assert_eq!(events(&record), ["failure", "recovery"]);
    }

    #[test]
    fn half_life_is_half_of_what_was_left_at_the_first_failure() {
        let mut record = Record::default();
        let view = failing(Whose::You, 1);
        // It failed before its renewal was due: a person had asked for it.
        assert_eq!(look(&mut record, &view, 10 * DAY), Some(50 * DAY));
        look(&mut record, &view, 50 * DAY - 1);
        assert_eq!(events(&record), ["failure"]);
        assert_eq!(look(&mut record, &view, 50 * DAY), Some(90 * DAY));
        look(&mut record, &view, 51 * DAY);
        assert_eq!(events(&record), ["failure", "half-life"]);
        look(&mut record, &well(), 52 * DAY);
        assert_eq!(events(&record), ["failure", "half-life", "recovery"]);
    }

    #[test]
    fn one_that_failed_after_its_renewal_was_due_counts_from_there() {
        let mut record = Record::default();
        let view = failing(Whose::Authority, 1);
        assert_eq!(look(&mut record, &view, 61 * DAY), Some(61 * DAY + HOUR));
        look(&mut record, &view, 75 * DAY);
        assert_eq!(events(&record), ["failure", "half-life"]);
    }

    #[test]
    fn one_that_is_renewed_and_cannot_be_delivered_counts_to_the_end_of_what_is_served() {
        let mut record = Record::default();
        let mut view = failing(Whose::Target, 1);
        let issued = view.current.as_mut().unwrap();
        (issued.not_before, issued.not_after) = (at(60 * DAY), at(150 * DAY));
        issued.renew_at = at(120 * DAY);
        view.deliveries[0].state = delivery::State::Failing;
        look(&mut record, &view, 60 * DAY);
        assert_eq!(look(&mut record, &view, 61 * DAY), Some(75 * DAY));
        look(&mut record, &view, 75 * DAY);
        assert_eq!(events(&record), ["failure", "half-life"]);
        let alert = &record.outbox[1].alert;
        assert_eq!(alert.not_after, Some(at(90 * DAY)));
    }

    #[test]
    fn a_renewal_that_nobody_does_is_announced_at_half_of_the_rest() {
        let mut record = Record::default();
        look(&mut record, &well(), 75 * DAY - 1);
        assert!(record.is_empty());
        look(&mut record, &well(), 75 * DAY);
        look(&mut record, &well(), 76 * DAY);
        assert_eq!(events(&record), ["half-life"]);
        let alert = &record.outbox[0].alert;
        assert_eq!(
            alert.sentence,
            "its renewal was due 1970-03-02T00:00:00Z and has not been done"
        );
    }

    #[test]
    fn one_that_was_missed_while_nothing_ran_has_a_moment_to_be_renewed() {
        let mut record = Record::default();
        let begun = at(80 * DAY);
        let next = record.look(&well(), begun, begun);
        assert_eq!(next, Some(later(begun, GRACE)));
        assert!(record.is_empty());
        record.look(&well(), later(begun, GRACE), begun);
        assert_eq!(events(&record), ["half-life"]);
    }

    #[test]
    fn a_restart_between_the_failure_and_the_look_changes_nothing() {
        let mut record = Record::default();
        for second in 0..10 {
            look(&mut record, &failing(Whose::You, 1), second);
            let bytes = serde_json::to_vec(&record).unwrap();
            record = serde_json::from_slice(&bytes).unwrap();
        }
        assert_eq!(events(&record), ["failure"]);
    }

    #[test]
    fn an_alert_goes_once_all_channels_have_taken_it() {
        let mut record = Record::default();
        look(&mut record, &failing(Whose::You, 1), 0);
        let channels = ["a".to_owned(), "b".to_owned()];
        let id = record.outbox[0].alert.id.clone();
        record.sent(&id, "a");
        record.settle(channels.iter());
        assert_eq!(events(&record), ["failure"]);
        record.sent(&id, "b");
        record.settle(channels.iter());
        assert_eq!(events(&record), [""; 0]);
        // It was announced: that is kept.
        assert!(!record.is_empty());
    }

    #[test]
    fn text_of_others_is_one_harmless_line() {
        let mut record = Record::default();
        let mut view = failing(Whose::You, 1);
        let failure = &mut view.failure.as_mut().unwrap().failure;
        failure.sentence =
            "no\r\nBcc: x@evil.test\u{1b}[31m\u{202e}".to_owned() + &"y".repeat(9_000);
        look(&mut record, &view, 0);
        let sentence = &record.outbox[0].alert.sentence;
        assert!(
            sentence.starts_with("no Bcc: x@evil.test [31m yyy"),
            "{sentence}"
        );
        assert!(sentence.chars().count() <= SENTENCE + 1);
    }

    #[test]
    fn what_waits_of_one_certificate_is_bounded_and_counted() {
        let mut record = Record::default();
        for n in 0..200 {
            look(&mut record, &failing(Whose::You, 1), 2 * n);
            look(&mut record, &well(), 2 * n + 1);
        }
        assert_eq!(record.outbox.len(), LONGEST);
        assert_eq!(record.outbox[0].alert.left_out, 300);
        assert_eq!(events(&record)[LONGEST - 1], "recovery");
    }

    #[test]
    fn expiry_is_looked_at_for_the_heartbeat() {
        let mut record = Record::default();
        let mut view = failing(Whose::You, 1);
        look(&mut record, &view, 75 * DAY);
        assert_eq!(look(&mut record, &view, 76 * DAY), Some(90 * DAY));
        view.failure = None;
        assert!(!is_unwell(&view));
        view.state = State::Expired;
        assert!(is_unwell(&view));
    }
}
