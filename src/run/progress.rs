//! What is happening, for whoever watches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::engine::attempt::Step;
use crate::engine::certificate::Issued;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;

/// One thing that happened to one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// An attempt began or went on.
    Began,
    /// It is at this step now.
    Step(Step),
    /// Something is in the way and is tried again.
    Trouble {
        /// What was seen.
        sentence: String,
        /// When it is tried again, if that is known.
        again: Option<Timestamp>,
    },
    /// A person is to do something by hand.
    ByHand(String),
    /// A new certificate is saved.
    Issued(Box<Issued>),
    /// It is in place at a target, and whoever uses it was told.
    Delivered {
        /// Which target.
        target: String,
    },
    /// It did not work.
    Failed {
        /// Why.
        failure: Failure,
        /// When it is tried again by itself.
        again: Option<Timestamp>,
    },
    /// Nothing more happens in this pass; `true` when all is well.
    Finished(bool),
}

/// Tells whoever watches; cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    listeners: Vec<(Wanted, UnboundedSender<Told>)>,
    /// The step that each one at work is at.
    at_work: BTreeMap<CertificateName, Step>,
}

/// One thing that happened, and to whom.
pub type Told = (CertificateName, Progress);
/// Whether somebody wants to hear of it.
type Wanted = fn(&Progress) -> bool;

impl Watchers {
    /// Everything that happens from now on.
    pub fn listen(&self) -> UnboundedReceiver<Told> {
        self.listen_for(|_| true)
    }

    /// What is `wanted` of everything that happens from now on.
    pub fn listen_for(&self, wanted: Wanted) -> UnboundedReceiver<Told> {
        let (listener, told) = mpsc::unbounded_channel();
        self.inner().listeners.push((wanted, listener));
        told
    }

    /// Nobody is told anything any more: those who listen hear the end.
    pub fn close(&self) {
        self.inner().listeners.clear();
    }

    /// The step that each one at work is at.
    pub fn at_work(&self) -> BTreeMap<CertificateName, Step> {
        self.inner().at_work.clone()
    }

    /// Says that `progress` happened to `name`.
    pub fn tell(&self, name: &CertificateName, progress: Progress) {
        let mut inner = self.inner();
        match &progress {
            Progress::Step(step) => drop(inner.at_work.insert(name.clone(), *step)),
            Progress::Finished(_) => drop(inner.at_work.remove(name)),
            _ => {}
        }
        // Whoever has stopped listening misses nothing.
        let told = |wanted: Wanted, listener: &UnboundedSender<Told>| match wanted(&progress) {
            true => listener.send((name.clone(), progress.clone())).is_ok(),
            false => !listener.is_closed(),
        };
        (inner.listeners).retain(|(wanted, listener)| told(*wanted, listener));
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
