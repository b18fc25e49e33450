//! Tests: a daemon to look at, that does nothing, with as many certificates as wanted.

use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::watch;

use super::Served;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::certificate::{Certificate, Issued, Specification};
use crate::engine::key::KeyType;
use crate::engine::names::CertificateName;
use crate::run::heartbeat::Heartbeat;
use crate::run::progress::Watchers;
use crate::run::records;
use crate::run::shared::{Shared, Wanted};
use crate::store::{Keep, Saved};

const DAY: Duration = Duration::from_secs(86_400);

/// What the store says of a daemon with so many certificates, all of them issued.
pub(super) struct Site {
    pub(super) served: Served,
    _shared: watch::Sender<Arc<Shared>>,
    _directory: TempDir,
}

impl Site {
    pub(super) async fn with(certificates: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let mut text = format!(
            "state: {at}/state\nauthorities: {{letsencrypt: {{agree-to-terms: true}}}}\nproviders: {{office: {{rfc2136: {{server: 192.0.2.53}}}}}}\ncertificates:\n"
        );
        for nth in 0..certificates {
            text.push_str(&format!(
                "  c{nth}: {{names: [c{nth}.example.com], deliver: [{{files: {{directory: {at}/{nth}}}}}]}}\n"
            ));
        }
        let file = directory.path().join("countersign.yaml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let clock = Clock::system();
        let daemon = Daemon::open(&config, clock.clone(), Watchers::default());
        let shared = daemon.await.unwrap().shared;
        let all = shared.certificates.iter();
        let mut all: Vec<Saved<Certificate>> = all
            .map(|(name, wanted)| kept(clock.now(), name, wanted))
            .collect();
        let mut all: Vec<&mut dyn Keep> = all.iter_mut().map(|it| it as &mut dyn Keep).collect();
        shared.session.save(&mut all, Vec::new()).await.unwrap();
        let (sender, receiver) = watch::channel(shared);
        Self {
            served: Served::new(receiver, Heartbeat::new(clock, DAY)),
            _shared: sender,
            _directory: directory,
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.served.shared()
    }
}

fn kept(now: Timestamp, name: &CertificateName, wanted: &Wanted) -> Saved<Certificate> {
    let mut certificate = Certificate::new(name.clone());
    certificate.issued(Issued {
        specification: wanted.specification.clone(),
        ..issued(now)
    });
    Saved::new(records::certificate(name), certificate)
}

/// One of 90 days, issued `now`.
pub(super) fn issued(now: Timestamp) -> Issued {
    Issued {
        epoch: 1,
        generation: 1,
        specification: Specification {
            identifiers: Vec::new(),
            key: KeyType::P256,
        },
        authority: "letsencrypt".to_owned(),
        profile: None,
        serial: "01".repeat(16),
        sha256: "01".repeat(32),
        issuer: "C=US, O=Let's Encrypt, CN=E7".to_owned(),
        not_before: now,
        not_after: later(now, DAY * 90),
        renew_at: later(now, DAY * 60),
    }
}
