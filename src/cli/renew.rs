//! `renew`: one pass in the foreground, with its progress.

use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::sync::mpsc;

use super::Ending;
use super::arguments::{Level, Renew};
use super::print::{Screen, complain, out};
use super::process::Interrupts;
use super::progress::{Board, Tally};
use super::words::{ahead, clean, count, select, took};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::certificate::Certificate;
use crate::engine::names::CertificateName;
use crate::run::progress::Watchers;
use crate::run::records;
use crate::run::scheduler::{self, Selection};
use crate::run::shared::Shared;
use crate::run::stop::Stop;
use crate::store::StoreError;

/// Removals get this long after the last certificate.
const QUIET: Duration = Duration::from_secs(10);

pub(super) async fn run(
    config: &Config,
    clock: Clock,
    screen: Screen,
    options: Renew,
    level: Level,
) -> Ending {
    let selection = match select(config, &options.names) {
        Ok(only) => Selection {
            only,
            force: options.force,
            ignore_back_off: true,
        },
        Err(sentence) => return Ending::Usage(sentence),
    };
    let started = clock.elapsed();
    let (watcher, told) = mpsc::unbounded_channel();
    let daemon = match Daemon::open(config, clock.clone(), Watchers::new(watcher)).await {
        Ok(daemon) => daemon,
        Err(error) => return Ending::yours(&error),
    };
    // Logs in a flood and painted lines do not go together.
    let may_paint = level < Level::Debug;
    let names = chosen(&daemon.shared, &selection);
    let session = daemon.shared.session.clone();
    let board = Board::new(screen, clock.clone(), session, names, may_paint);
    let interrupts = Interrupts::listen();
    let board = tokio::spawn(board.show(told, interrupts.politely.clone()));
    let worked = tokio::select! {
        worked = work(&daemon, &selection, &interrupts) => worked,
        () = interrupts.at_once.cancelled() => return Ending::Failed(Some(
            "stopped at once; the next `renew` removes what is left".to_owned(),
        )),
    };
    let next = next(&daemon.shared, &selection).await;
    let now = clock.now();
    drop(daemon);
    let tally = board.await.unwrap_or_default();
    let (asked, left) = match worked {
        Ok(worked) => worked,
        Err(error) => return Ending::yours(&error),
    };
    for sentence in &left {
        complain(sentence);
    }
    if asked == 0 {
        out(match next {
            Ok(Some((name, at))) => {
                format!("nothing is due; next is {name}, {}", ahead(now, at))
            }
            _ => "nothing is due".to_owned(),
        });
        return match left.is_empty() {
            true => Ending::Done,
            false => Ending::Failed(None),
        };
    }
    let time = took(clock.elapsed().saturating_sub(started));
    out(format!("{}, in {time}", coloured(screen, &tally)));
    match tally.is_good() && left.is_empty() {
        true => Ending::Done,
        false => Ending::Failed(None),
    }
}

/// The pass, then the removal of its records: how many certificates had something to do, and what is left where.
async fn work(
    daemon: &Daemon,
    selection: &Selection,
    interrupts: &Interrupts,
) -> Result<(usize, Vec<String>), StoreError> {
    let stop = Stop::withdrawing(interrupts.politely.clone());
    let report = scheduler::pass(&daemon.shared, selection, &stop).await?;
    let left = daemon.shared.ledger.quiet(QUIET).await;
    let left = left.into_iter().map(|((provider, zone), leaving)| {
        let why = match leaving.failure {
            Some(failure) => clean(&failure),
            None => "the host has not confirmed yet".to_owned(),
        };
        format!(
            "{} of ours still in the zone {} of provider {provider}: {why}; removed by the next `renew`",
            count(leaving.values, "TXT value"),
            zone.name
        )
    });
    Ok((report.len(), left.collect()))
}

fn chosen<'a>(
    shared: &'a Shared,
    selection: &'a Selection,
) -> impl Iterator<Item = &'a CertificateName> {
    let is_chosen =
        |name: &&CertificateName| selection.only.is_empty() || selection.only.contains(*name);
    shared.certificates.keys().filter(is_chosen)
}

/// The certificate that is due next, and when.
async fn next(
    shared: &Shared,
    selection: &Selection,
) -> Result<Option<(CertificateName, jiff::Timestamp)>, StoreError> {
    let mut next: Option<(CertificateName, jiff::Timestamp)> = None;
    for name in chosen(shared, selection) {
        let saved = shared
            .session
            .load::<Certificate>(records::certificate(name))
            .await?;
        let Some(certificate) = saved else { continue };
        let at = certificate
            .value
            .due(&shared.certificates[name].specification, &shared.profiles)
            .at;
        if next.as_ref().is_none_or(|(_, earliest)| at < *earliest) {
            next = Some((name.clone(), at));
        }
    }
    Ok(next)
}

fn coloured(screen: Screen, tally: &Tally) -> String {
    match tally.is_good() {
        true => screen.good(&tally.said()),
        false => screen.bad(&tally.said()),
    }
}
