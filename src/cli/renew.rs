//! `renew`: one pass in the foreground, with its progress.

use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Ending;
use super::arguments::Renew;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::names::CertificateName;
use crate::run::progress::{Progress, Watchers};
use crate::run::scheduler::{self, Selection};

/// Removals get this long after the last certificate.
const QUIET: Duration = Duration::from_secs(10);

pub(super) async fn run(config: &Config, clock: Clock, options: Renew) -> Ending {
    let only = options
        .names
        .iter()
        .filter_map(|name| CertificateName::parse(name))
        .collect();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let daemon = match Daemon::open(config, clock, Watchers::new(sender)).await {
        Ok(daemon) => daemon,
        Err(error) => return Ending::Failed(Some(error.to_string())),
    };
    let stop = CancellationToken::new();
    let selection = Selection {
        only,
        force: options.force,
        ignore_back_off: true,
    };
    let painter = tokio::spawn(async move {
        while let Some((name, progress)) = receiver.recv().await {
            line(&name, &progress);
        }
    });
    let report = scheduler::pass(&daemon.shared, &selection, &stop).await;
    daemon.shared.ledger.quiet(QUIET).await;
    drop(daemon);
    let _ = painter.await;
    match report {
        Ok(report) if report.iter().all(|(_, result)| result.is_ok()) => Ending::Done,
        Ok(_) => Ending::Failed(None),
        Err(error) => Ending::Failed(Some(error.to_string())),
    }
}

#[allow(
    clippy::print_stdout,
    reason = "this is the room that speaks to people"
)]
fn line(name: &CertificateName, progress: &Progress) {
    println!("{name}: {progress:?}");
}
