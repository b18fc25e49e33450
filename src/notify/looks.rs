//! When each certificate is looked at next though nothing happens. Data only.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::engine::names::CertificateName;

/// The next look at each.
#[derive(Default)]
pub(super) struct Looks {
    times: BTreeMap<CertificateName, Timestamp>,
    order: BTreeSet<(Timestamp, CertificateName)>,
}

impl Looks {
    /// At `at`, or not at all.
    pub(super) fn set(&mut self, name: &CertificateName, at: Option<Timestamp>) {
        if let Some(was) = self.times.remove(name) {
            self.order.remove(&(was, name.clone()));
        }
        if let Some(at) = at {
            self.times.insert(name.clone(), at);
            self.order.insert((at, name.clone()));
        }
    }

    /// When the first one is looked at.
    pub(super) fn wake(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// The first one whose time has come.
    pub(super) fn next(&mut self, now: Timestamp) -> Option<CertificateName> {
        let (_, name) = self.order.first().filter(|(at, _)| *at <= now)?.clone();
        self.set(&name, None);
        Some(name)
    }
}
