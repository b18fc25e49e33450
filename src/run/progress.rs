//! What is happening, for whoever watches.

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;

use crate::engine::attempt::Step;
use crate::engine::certificate::Issued;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;

/// One thing that happened to one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// A new certificate is saved.
    Issued(Box<Issued>),
    /// It is in place at a target, and whoever uses it was told.
    Delivered {
        /// Which target.
        target: String,
    },
    /// It did not work.
    Failed(Failure),
    /// Nothing more happens in this pass; `true` when all is well.
    Finished(bool),
}

/// Tells whoever watches; cheap to clone.
#[derive(Clone, Default)]
pub struct Watchers(Option<UnboundedSender<(CertificateName, Progress)>>);

impl Watchers {
    /// Tells `watcher`.
    pub fn new(watcher: UnboundedSender<(CertificateName, Progress)>) -> Self {
        Self(Some(watcher))
    }

    /// Says that `progress` happened to `name`.
    pub fn tell(&self, name: &CertificateName, progress: Progress) {
        if let Some(watcher) = &self.0 {
            // Whoever has stopped watching misses nothing.
            let _ = watcher.send((name.clone(), progress));
        }
    }
}
