//! What an entry wants after each piece of news, in any order.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn entry() -> Entry {
    let apex = DnsName::parse("example.com").unwrap();
    Entry::new(RecordId {
        provider: "dns".to_owned(),
        name: apex.prepend("_acme-challenge").unwrap(),
        zone: Zone {
            id: apex.to_string(),
            name: apex,
        },
        value: "value".to_owned(),
    })
}

/// An entry that `owner` wants and the host has.
fn present(owner: &str) -> Entry {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended(owner.to_owned()));
    entry.apply(at(0), Event::Ensured(Ok(None)));
    entry
}

fn error(kind: ErrorKind) -> ProviderError {
    ProviderError {
        partly: false,
        theirs: false,
        kind,
        code: None,
        message: "the host said so".to_owned(),
        hint: None,
    }
}

fn wants(entry: &Entry, second: i64) -> Option<Effect> {
    let effects = entry.pending(at(second)).effects;
    effects.first().map(|(_, effect)| *effect)
}

fn restart(entry: &Entry) -> Entry {
    serde_json::from_slice(&serde_json::to_vec(entry).unwrap()).unwrap()
}

#[test]
fn is_forgotten_at_once_when_nothing_was_ever_in_doubt() {
    let mut entry = present("a");
    entry.apply(at(1), Event::Released("a".to_owned()));
    assert_eq!(wants(&entry, 1), Some(Effect::Remove));
    entry.apply(at(2), Event::Removed(Ok(())));
    assert!(entry.is_over());
}

#[test]
fn stays_while_another_owner_wants_it() {
    let mut entry = present("a");
    entry.apply(at(1), Event::Intended("b".to_owned()));
    entry.apply(at(1), Event::Ensured(Ok(None)));
    entry.apply(at(2), Event::Released("a".to_owned()));
    assert_eq!(wants(&entry, 2), None);
}

#[test]
fn an_ensure_without_an_answer_leaves_a_tombstone_for_ten_minutes() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    entry.apply(at(0), Event::Ensured(Err(error(ErrorKind::Transient))));
    entry.apply(at(0), Event::Released("a".to_owned()));
    entry.apply(at(0), Event::Removed(Ok(())));
    for second in [10, 60, 240, 600] {
        assert!(!entry.is_over(), "forgotten before {second} s");
        assert_eq!(wants(&entry, second - 1), None);
        assert_eq!(wants(&entry, second), Some(Effect::Look));
        entry.apply(at(second), Event::Looked(Ok(false)));
    }
    assert!(entry.is_over());
}

#[test]
fn where_nobody_can_look_a_late_write_is_removed_for_as_long_as_it_may_land() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    let lost = error(ErrorKind::Transient);
    entry.apply(at(0), Event::Ensured(Err(lost)));
    entry.apply(at(0), Event::Released("a".to_owned()));
    entry.apply(at(1), Event::Removed(Ok(())));
    for looked in [11, 61, 241, 601] {
        assert!(!entry.is_over());
        assert_eq!(wants(&entry, looked - 1), None);
        assert_eq!(wants(&entry, looked), Some(Effect::Look));
        let blind = error(ErrorKind::Unsupported);
        entry.apply(at(looked), Event::Looked(Err(blind)));
        assert_eq!(wants(&entry, looked), Some(Effect::Remove));
        entry.apply(at(looked), Event::Removed(Ok(())));
    }
    assert!(entry.is_over());
}

#[test]
fn what_may_be_brought_back_where_nobody_can_look_is_removed_for_ten_minutes_and_no_longer() {
    let mut entry = present("a");
    entry.apply(at(0), Event::Released("a".to_owned()));
    let removed = |entry: &mut Entry, second| {
        entry.apply(at(second), Event::Unproven);
        entry.apply(at(second), Event::Removed(Ok(())));
    };
    removed(&mut entry, 1);
    for looked in [11, 61, 241, 601] {
        assert_eq!(wants(&entry, looked - 1), None);
        assert_eq!(wants(&entry, looked), Some(Effect::Look));
        let blind = error(ErrorKind::Unsupported);
        entry.apply(at(looked), Event::Looked(Err(blind)));
        removed(&mut entry, looked);
    }
    assert!(entry.is_over());
}

#[test]
fn what_was_brought_back_is_removed_and_looked_for_anew() {
    let mut entry = present("a");
    entry.apply(at(0), Event::Released("a".to_owned()));
    for second in [0, 100] {
        entry.apply(at(second), Event::Unproven);
        entry.apply(at(second), Event::Removed(Ok(())));
        assert!(!entry.is_over());
        entry.apply(at(second + 10), Event::Looked(Ok(true)));
        assert_eq!(wants(&entry, second + 10), Some(Effect::Remove));
    }
}

#[test]
fn what_a_person_finds_again_is_as_old_as_before() {
    let mut entry = present("a");
    entry.apply(at(5), Event::Released("a".to_owned()));
    entry.apply(at(6), Event::Removed(Err(error(ErrorKind::Transient))));
    for later in [50, 500] {
        entry.apply(at(later), Event::Found);
        assert_eq!(wants(&entry, later), Some(Effect::Remove));
        entry.apply(at(later), Event::Removed(Err(error(ErrorKind::Transient))));
        assert_eq!(entry.since(), Some(at(5)));
    }
}

#[test]
fn what_is_wanted_again_after_its_removal_is_watched_anew() {
    let mut entry = present("a");
    entry.apply(at(1), Event::Released("a".to_owned()));
    let lost = || Event::Ensured(Err(error(ErrorKind::Transient)));
    entry.apply(at(2), Event::Intended("b".to_owned()));
    entry.apply(at(2), lost());
    entry.apply(at(2), Event::Released("b".to_owned()));
    entry.apply(at(3), Event::Removed(Ok(())));
    entry.apply(at(13), Event::Looked(Ok(false)));
    entry.apply(at(20), Event::Intended("c".to_owned()));
    entry.apply(at(20), lost());
    entry.apply(at(20), Event::Released("c".to_owned()));
    entry.apply(at(700), Event::Removed(Ok(())));
    assert_eq!(wants(&entry, 709), None);
    entry.apply(at(710), Event::Looked(Ok(false)));
    assert!(!entry.is_over());
}

#[test]
fn removes_what_landed_late() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    entry.apply(at(0), Event::Ensured(Err(error(ErrorKind::Transient))));
    entry.apply(at(0), Event::Released("a".to_owned()));
    entry.apply(at(0), Event::Removed(Ok(())));
    entry.apply(at(10), Event::Looked(Ok(true)));
    assert_eq!(wants(&entry, 10), Some(Effect::Remove));
}

#[test]
fn a_request_of_a_dead_process_stays_in_doubt() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    let mut entry = restart(&entry);
    entry.apply(at(1), Event::Released("a".to_owned()));
    entry.apply(at(2), Event::Removed(Ok(())));
    assert!(!entry.is_over());
    assert_eq!(wants(&entry, 12), Some(Effect::Look));
}

#[test]
fn a_value_asked_for_again_by_a_dead_process_stays_in_doubt() {
    let mut entry = present("a");
    entry.apply(at(1), Event::Intended("a".to_owned()));
    let mut entry = restart(&entry);
    entry.apply(at(2), Event::Released("a".to_owned()));
    entry.apply(at(3), Event::Removed(Ok(())));
    assert!(!entry.is_over());
}

#[test]
fn a_refusal_proves_absence_only_of_what_was_never_there() {
    let mut refused = entry();
    refused.apply(at(0), Event::Intended("a".to_owned()));
    refused.apply(at(0), Event::Ensured(Err(error(ErrorKind::Permission))));
    refused.apply(at(0), Event::Released("a".to_owned()));
    assert!(refused.is_over());

    let mut there = present("a");
    there.apply(at(1), Event::Intended("a".to_owned()));
    there.apply(at(1), Event::Ensured(Err(error(ErrorKind::Auth))));
    there.apply(at(1), Event::Released("a".to_owned()));
    assert_eq!(wants(&there, 1), Some(Effect::Remove));
}

#[test]
fn asks_only_while_an_owner_waits() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    assert_eq!(wants(&entry, 0), Some(Effect::Ensure));
    entry.apply(at(0), Event::Ensured(Err(error(ErrorKind::Transient))));
    assert_eq!(wants(&entry, 3_600), None, "the owner has its own pauses");
    entry.apply(at(1), Event::Intended("a".to_owned()));
    assert_eq!(wants(&entry, 1), Some(Effect::Ensure));
    assert_eq!(wants(&restart(&entry), 1), None);
}

#[test]
fn adds_what_is_wanted_again_while_it_goes() {
    let mut entry = present("a");
    entry.apply(at(1), Event::Released("a".to_owned()));
    entry.apply(at(2), Event::Intended("b".to_owned()));
    entry.apply(at(3), Event::Removed(Ok(())));
    assert_eq!(wants(&entry, 3), Some(Effect::Ensure));
}

#[test]
fn looks_whether_it_is_there_at_all_when_its_removal_is_refused() {
    let mut entry = entry();
    entry.apply(at(0), Event::Intended("a".to_owned()));
    let mut entry = restart(&entry);
    entry.apply(at(0), Event::Released("a".to_owned()));
    let refusal = || Event::Removed(Err(error(ErrorKind::Permission)));
    entry.apply(at(0), refusal());
    assert_eq!(wants(&entry, 0), Some(Effect::Look));
    entry.apply(at(0), Event::Looked(Ok(true)));
    assert_eq!(wants(&entry, 0), None, "the next try comes after a pause");
    assert_eq!(wants(&entry, 1), Some(Effect::Remove));
    entry.apply(at(1), refusal());
    entry.apply(at(1), Event::Looked(Ok(false)));
    assert!(!entry.is_withdrawing());
}

#[test]
fn a_removal_that_was_made_in_part_is_repeated_and_not_looked_for() {
    let mut entry = present("a");
    entry.apply(at(0), Event::Released("a".to_owned()));
    let unpublished = error(ErrorKind::Permission).partly();
    entry.apply(at(0), Event::Removed(Err(unpublished)));
    assert_eq!(wants(&entry, 1), Some(Effect::Remove));
}

#[test]
fn a_removal_is_tried_for_as_long_as_it_takes() {
    let mut entry = present("a");
    entry.apply(at(0), Event::Released("a".to_owned()));
    let mut second = 0;
    for pause in [1, 4, 15, 60, 600, 600] {
        entry.apply(at(second), Event::Removed(Err(error(ErrorKind::Transient))));
        assert_eq!(wants(&entry, second + pause - 1), None);
        second += pause;
        assert_eq!(wants(&entry, second), Some(Effect::Remove));
    }
}
