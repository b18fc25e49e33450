//! Values of one order come to their host together, and leave it together.

use super::*;

const PENDING: AuthorizationStatus = AuthorizationStatus::Pending;

impl Stage {
    /// Has these authorizations looked at, and finds where their values belong.
    fn locate(&mut self, parts: &[usize]) {
        for part in parts {
            self.answer(&format!("authorization/0/{part}"), seen(*part, PENDING));
            let located = Event::Located(*part, Ok(located()));
            self.answer(&format!("locate/{part}"), located);
        }
    }

    /// Has the authority decide on one whose value is there.
    fn decide(&mut self, part: usize) {
        let known = &mut self.attempt.known.authorizations[part];
        known.seen = Some(authorization(part, AuthorizationStatus::Valid));
    }

    fn counts(&self, kind: &str) -> usize {
        self.kinds().iter().filter(|it| *it == kind).count()
    }
}

#[test]
fn a_value_waits_until_it_is_known_where_the_others_belong() {
    let mut stage = Stage::ordered(3);
    stage.locate(&[0, 1]);
    assert_eq!(stage.kinds(), ["authorization"]);
    stage.locate(&[2]);
    assert_eq!(stage.kinds(), ["present"; 3]);
}

#[test]
fn a_name_that_nobody_finds_holds_up_the_others_for_a_while_only() {
    let mut stage = Stage::ordered(2);
    stage.locate(&[0]);
    assert_eq!(stage.wake(), GATHERING);
    assert_eq!(stage.counts("present"), 1);
}

#[test]
fn values_of_one_zone_leave_once_the_last_of_them_is_decided_on() {
    let mut stage = Stage::ordered(2);
    stage.locate(&[0, 1]);
    for part in 0..2 {
        stage.answer(
            &format!("present/{part}"),
            Event::Presented(part, Ok(Placed::There)),
        );
    }
    stage.decide(0);
    assert_eq!(stage.counts("release"), 0);
    // One of another zone need not be waited for.
    let elsewhere = &mut stage.attempt.held[1].record.zone.id;
    let here = std::mem::replace(elsewhere, "another".to_owned());
    assert_eq!(stage.counts("release"), 1);
    stage.attempt.held[1].record.zone.id = here;
    stage.decide(1);
    assert_eq!(stage.counts("release"), 2);
}

/// The host may have room for it only when the other one is gone.
#[test]
fn a_value_that_is_not_there_yet_keeps_no_other_one() {
    let mut stage = Stage::ordered(2);
    stage.locate(&[0, 1]);
    stage.answer("present/0", Event::Presented(0, Ok(Placed::There)));
    stage.decide(0);
    assert_eq!(stage.kinds(), ["present", "release"]);
}
