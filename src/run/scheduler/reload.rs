//! What another configuration changes for those at work and those who wait, and what is left of those it has no more.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::Instrument;

use super::{Crew, Ended};
use crate::engine::names::CertificateName;
use crate::run::progress::Progress;
use crate::run::shared::Shared;
use crate::run::{job, removed};
use crate::supervise;

/// So many that are configured no more are named in the log.
const NAMED: usize = 20;

impl Crew {
    /// From now on by another configuration. Those at work go on by the one before, unless they are wanted no more, or
    /// otherwise.
    pub(super) async fn take_over(&mut self, shared: Arc<Shared>) {
        let before = std::mem::replace(&mut self.shared, shared);
        self.account_for(&before).await;
        let is_gone = |name: &&CertificateName| !self.shared.certificates.contains_key(*name);
        let gone: Vec<&CertificateName> = before.certificates.keys().filter(is_gone).collect();
        log_gone(&gone);
        for name in gone {
            self.plan.remove(name);
            self.look_again.remove(name);
            if self.asked.remove(name).is_some() {
                let watchers = &self.shared.watchers;
                watchers.tell(name, Progress::Finished(false));
            }
            match self.stops.get(name) {
                Some(stop) => stop.remove(),
                None => self.forget(name.clone()),
            }
        }
        let names: Vec<CertificateName> = self.shared.certificates.keys().cloned().collect();
        for name in names {
            let is = &self.shared.certificates[&name];
            let (is_other, is_elsewhere) = match before.certificates.get(&name) {
                None => (false, true),
                Some(was) => (
                    job::is_other(&before, was, &self.shared, &name),
                    was.deliveries != is.deliveries,
                ),
            };
            match self.stops.get(&name) {
                Some(stop) if is_other => stop.withdraw(),
                Some(_) if is_elsewhere => drop(self.look_again.insert(name)),
                None if is_other || is_elsewhere => self.plan_at_start(name).await,
                _ => {}
            }
        }
    }

    /// Keeps account of what is configured no more.
    pub(super) async fn sweep(&self, now: Option<Timestamp>) {
        let session = &self.shared.session;
        let swept = removed::sweep(session, now, |name| self.is_kept(name)).await;
        if let Err(error) = swept {
            tracing::error!("{error}");
        }
    }

    /// The same for those alone that came or went since `before`.
    async fn account_for(&self, before: &Shared) {
        let (was, is) = (&before.certificates, &self.shared.certificates);
        let gone = was.keys().filter(|name| !is.contains_key(*name));
        let come = is.keys().filter(|name| !was.contains_key(*name));
        let names: Vec<CertificateName> = gone.chain(come).cloned().collect();
        let (session, now) = (&self.shared.session, self.shared.clock.now());
        let now = self.shared.doubt().is_none().then_some(now);
        let noted = removed::look_at(session, now, &names, |name| self.is_kept(name)).await;
        if let Err(error) = noted {
            tracing::error!("{error}");
        }
    }

    /// Those at work save their own record.
    fn is_kept(&self, name: &CertificateName) -> bool {
        self.shared.certificates.contains_key(name) || self.stops.contains_key(name)
    }

    /// What is left of one that is configured no more: its order is given up, its records are withdrawn. It is at work
    /// for as long as that takes, so that one that is configured again begins after it. What fails is done by the next
    /// start.
    pub(super) fn forget(&mut self, name: CertificateName) {
        let span = job::span(&name);
        let task = self.tasks.spawn({
            let (shared, name) = (Arc::clone(&self.shared), name.clone());
            let forget = async move {
                let forget = async {
                    if let Err(failure) = job::forget(&shared, &name).await {
                        tracing::error!("{}", failure.sentence);
                    }
                };
                supervise::fell_over(&format!("giving up {name}"), forget).await;
                Ended {
                    issued_by: None,
                    result: Ok(()),
                }
            };
            forget.instrument(span)
        });
        self.leaving.insert(name.clone());
        self.stops.insert(name.clone(), self.stop.child());
        self.names.insert(task.id(), name);
    }
}

/// A line in a file, or a file that `include` no longer matches, is easily lost.
fn log_gone(names: &[&CertificateName]) {
    let first: Vec<&str> = (names.iter().take(NAMED))
        .map(|name| name.as_str())
        .collect();
    let more = match names.len() - first.len() {
        _ if names.is_empty() => return,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = first.join(", ");
    tracing::warn!(
        "not in the configuration any more: {first}{more}; no longer renewed, kept for 30 days"
    );
}
