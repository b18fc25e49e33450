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

/// What another configuration is for one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It was not there before.
    Come,
    /// It is there no more.
    Gone,
    /// Another certificate is wanted.
    Other,
    /// The same is wanted elsewhere.
    Elsewhere,
}

impl Crew {
    /// From now on by another configuration. Those at work go on by the one before, unless they are wanted no more, or
    /// otherwise.
    pub(super) async fn take_over(&mut self, shared: Arc<Shared>) {
        let before = std::mem::replace(&mut self.shared, shared);
        let changes = changes(&before, &self.shared);
        self.account_for(&changes).await;
        log_gone(&changes);
        for (name, change) in changes {
            match (change, self.stops.get(&name)) {
                (Change::Gone, at_work) => {
                    self.plan.remove(&name);
                    self.look_again.remove(&name);
                    if self.asked.remove(&name).is_some() {
                        let watchers = &self.shared.watchers;
                        watchers.tell(&name, Progress::Finished(false));
                    }
                    match at_work {
                        Some(stop) => stop.remove(),
                        None => self.forget(name),
                    }
                }
                (Change::Other, Some(stop)) => stop.withdraw(),
                (_, Some(_)) => drop(self.look_again.insert(name)),
                (_, None) => self.plan_at_start(name).await,
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

    /// The same for those alone that came or went.
    async fn account_for(&self, changes: &[(CertificateName, Change)]) {
        let is_new_or_gone = |change| matches!(change, Change::Come | Change::Gone);
        let names: Vec<CertificateName> = (changes.iter())
            .filter(|(_, change)| is_new_or_gone(*change))
            .map(|(name, _)| name.clone())
            .collect();
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

/// Those for whom something is different, by their names: one walk along both lists, which may be long.
fn changes(before: &Shared, now: &Shared) -> Vec<(CertificateName, Change)> {
    let mut changes = Vec::new();
    let mut was = before.certificates.iter().peekable();
    for (name, wanted) in &now.certificates {
        while let Some((gone, _)) = was.next_if(|(it, _)| *it < name) {
            changes.push((gone.clone(), Change::Gone));
        }
        let change = match was.next_if(|(it, _)| *it == name) {
            None => Change::Come,
            Some((_, was)) if job::is_other(before, was, now, wanted) => Change::Other,
            Some((_, was)) if was.deliveries != wanted.deliveries => Change::Elsewhere,
            Some(_) => continue,
        };
        changes.push((name.clone(), change));
    }
    changes.extend(was.map(|(gone, _)| (gone.clone(), Change::Gone)));
    changes
}

/// A line in a file, or a file that `include` no longer matches, is easily lost.
fn log_gone(changes: &[(CertificateName, Change)]) {
    let gone: Vec<&str> = (changes.iter())
        .filter(|(_, change)| *change == Change::Gone)
        .map(|(name, _)| name.as_str())
        .collect();
    let first = &gone[..gone.len().min(NAMED)];
    let more = match gone.len() - first.len() {
        _ if gone.is_empty() => return,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = first.join(", ");
    tracing::warn!(
        "not in the configuration any more: {first}{more}; no longer renewed, kept for 30 days"
    );
}
