//! A host that says later when all of its servers have a value.

use super::*;

/// One whose value its host has taken, and which is on its way to the host's servers.
fn spreading() -> Stage {
    let mut stage = Stage::ordered(1);
    stage.answer("authorization", seen(0, AuthorizationStatus::Pending));
    stage.answer("locate", Event::Located(0, Ok(located())));
    stage.answer("present", Event::Presented(0, Ok(Placed::Spreading)));
    stage
}

#[test]
fn the_servers_are_asked_while_the_host_is_heard_and_both_must_agree() {
    let mut stage = spreading();
    assert_eq!(stage.kinds(), ["observe", "settle"]);
    let value = stage.value();
    stage.answer("observe", observed(&[&value]));
    assert_eq!(stage.kinds(), ["settle"]);
    assert_eq!(stage.attempt.step(), Step::Proving);
    stage.answer("settle", Event::Settled(0));
    assert_eq!(stage.kinds(), ["respond"]);

    let mut stage = spreading();
    stage.answer("observe", observed(&[]));
    stage.answer("settle", Event::Settled(0));
    stage.pass(1);
    assert_eq!(stage.kinds(), ["observe"]);
    stage.answer("observe", observed(&[&value]));
    assert_eq!(stage.kinds(), ["respond"]);
}

#[test]
fn a_value_on_its_way_is_neither_asked_for_again_nor_given_up() {
    let mut stage = spreading();
    stage.answer("observe", observed(&[]));
    for _ in 0..4 {
        stage.pass(100);
        stage.answer("observe", observed(&[]));
        assert_eq!(stage.attempt.end(), None);
        assert!(!stage.kinds().contains(&"present".to_owned()));
    }
    stage.answer("settle", Event::Settled(0));
    stage.pass(29);
    stage.answer("observe", observed(&[]));
    stage.pass(5);
    stage.answer("observe", observed(&[]));
    assert_eq!(
        stage.kinds(),
        ["present"],
        "half a minute after its host's word"
    );
    // However often its host takes it anew, its patience goes on from the first word.
    stage.answer("present", Event::Presented(0, Ok(Placed::Spreading)));
    stage.pass(40);
    stage.answer("observe", observed(&[]));
    assert_eq!(stage.attempt.end(), None);
    stage.answer("settle", Event::Settled(0));
    stage.pass(50);
    stage.answer("observe", observed(&[]));
    assert!(stage.failure().sentence.contains("waited 120 s"));
}
