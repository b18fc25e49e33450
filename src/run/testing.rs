//! Certificates as an overview has them, for tests.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use jiff::Timestamp;

use super::overview::{Activity, Ahead, Failing, State, View};
use crate::engine::certificate::{Issued, Specification};
use crate::engine::key::KeyType;
use crate::engine::names::CertificateName;
use crate::engine::reaction::{Failure, Whose};
use crate::engine::renewal::{Due, Reason};

/// In seconds.
pub(crate) const DAY: i64 = 86_400;

/// So many seconds from the beginning.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A certificate that nobody asked for yet.
pub(crate) fn missing(name: &str) -> View {
    View {
        name: CertificateName::parse(name).unwrap(),
        names: Vec::new(),
        state: State::None,
        activity: Activity::Waiting,
        step: None,
        current: None,
        due: Due {
            at: Timestamp::MIN,
            reason: Reason::Missing,
        },
        ahead: Ahead {
            authority: "ca".to_owned(),
            domain: format!("{name}.test"),
            floor: None,
        },
        parked: None,
        failure: None,
        by_hand: false,
        deliveries: Vec::new(),
    }
}

/// One that lives for so many days and is due in so many seconds.
pub(crate) fn issued(name: &str, lifetime: i64, due: i64) -> View {
    let begin = due - lifetime * DAY * 2 / 3;
    View {
        state: State::Valid,
        current: Some(Issued {
            epoch: 1,
            generation: 1,
            specification: Specification {
                identifiers: Vec::new(),
                key: KeyType::P256,
            },
            authority: "ca".to_owned(),
            profile: None,
            serial: String::new(),
            sha256: String::new(),
            issuer: String::new(),
            not_before: at(begin),
            not_after: at(begin + lifetime * DAY),
            renew_at: at(due),
        }),
        due: Due {
            at: at(due),
            reason: Reason::Renewal,
        },
        ..missing(name)
    }
}

/// One that failed twice and is tried again in so many seconds.
pub(crate) fn failing(view: View, again: i64, whose: Whose) -> View {
    View {
        failure: Some(Failing {
            failure: Failure::new(whose, "no"),
            retry_at: Some(at(again)),
            count: 2,
        }),
        due: Due {
            at: at(again),
            reason: Reason::Retry,
        },
        ..view
    }
}
