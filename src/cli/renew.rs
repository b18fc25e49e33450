//! `renew`: one pass with its progress, by the process that holds the store or else by this one.

use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::Clock;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::Ending;
use super::arguments::{Level, Renew};
use super::print::{Screen, complain, out};
use super::process::Interrupts;
use super::progress::{Board, Tally};
use super::words::{ahead, clean, count, select, took};
use crate::config::Config;
use crate::control::{Ask, Client, ClientError, Reply, Served, Server};
use crate::daemon::Daemon;
use crate::engine::names::CertificateName;
use crate::run::overview::Overview;
use crate::run::progress::{Progress, Watchers};
use crate::run::scheduler::{self, Selection};
use crate::run::stop::Stop;
use crate::store::StoreError;

/// Removals get this long after the last certificate.
const QUIET: Duration = Duration::from_secs(10);

/// What a person asked for, and where it is shown.
struct Pass {
    clock: Clock,
    screen: Screen,
    selection: Selection,
    /// Logs in a flood and painted lines do not go together.
    may_paint: bool,
    started: Duration,
}

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
    let pass = Pass {
        started: clock.elapsed(),
        clock: clock.clone(),
        screen,
        selection,
        may_paint: level < Level::Debug,
    };
    match Client::connect(&config.state, &clock).await {
        Ok(Some(client)) => match pass.through(client).await {
            Ok(ending) => ending,
            Err(error) => Ending::yours(&error),
        },
        Ok(None) => pass.alone(config).await,
        Err(error) => Ending::yours(&error),
    }
}

/// Lets others look while the pass is at work. It goes on all the same where that cannot be.
fn serve(config: &Config, daemon: &Daemon) -> Option<Server> {
    let (_, shared) = watch::channel(Arc::clone(&daemon.shared));
    let orders = None;
    Server::start(&config.state, Served { shared, orders })
        .inspect_err(|error| tracing::warn!("nobody can look meanwhile: {error}"))
        .ok()
}

impl Pass {
    /// The daemon does it; it is shown here. Ctrl-C ends only the showing.
    async fn through(self, mut client: Client) -> Result<Ending, ClientError> {
        let interrupts = Interrupts::listen();
        let ask = Ask::Renew {
            names: self.selection.only.iter().cloned().collect(),
            force: self.selection.force,
        };
        let Reply::Begun(begun) = client.ask(ask).await? else {
            return Err(client.odd());
        };
        let (teller, told) = mpsc::unbounded_channel();
        let board = self.board(begun.iter());
        let board = tokio::spawn(board.show(told, CancellationToken::new()));
        let mut left = begun.len();
        while left > 0 {
            let reply = tokio::select! {
                reply = client.next() => reply,
                () = interrupts.politely.cancelled() => {
                    drop(teller);
                    let _ = board.await;
                    out("detached; the daemon goes on with it");
                    return Ok(Ending::Done);
                }
            };
            let (name, progress) = match reply {
                Ok(Some(Reply::Progress(name, progress))) => (name, progress),
                Ok(Some(_)) => return Err(client.odd()),
                Ok(None) => {
                    let reason =
                        "it ended before the renewal did; its next start goes on".to_owned();
                    return Err(ClientError::Refused(reason));
                }
                Err(error) => return Err(error),
            };
            left -= usize::from(matches!(progress, Progress::Finished(_)));
            // The board listens until the teller is gone.
            let _ = teller.send((name, progress));
        }
        drop(teller);
        let tally = board.await.unwrap_or_default();
        if begun.is_empty() {
            let Reply::Overview(overview) = client.ask(Ask::Status).await? else {
                return Err(client.odd());
            };
            self.nothing_due(&overview);
            return Ok(Ending::Done);
        }
        Ok(self.conclude(&tally, true))
    }

    /// This process does it.
    async fn alone(self, config: &Config) -> Ending {
        let clock = self.clock.clone();
        let watchers = Watchers::default();
        let told = watchers.listen();
        let daemon = match Daemon::open(config, clock.clone(), watchers.clone()).await {
            Ok(daemon) => daemon,
            Err(error) => return Ending::yours(&error),
        };
        let server = serve(config, &daemon);
        let names = daemon.shared.certificates.keys();
        let board = self.board(names.filter(|name| self.selection.means(name)));
        let interrupts = Interrupts::listen();
        let board = tokio::spawn(board.show(told, interrupts.politely.clone()));
        let worked = tokio::select! {
            worked = self.work(&daemon, &interrupts) => worked,
            () = interrupts.at_once.cancelled() => return Ending::Failed(Some(
                "stopped at once; the next `renew` removes what is left".to_owned(),
            )),
        };
        let session = Some(&daemon.shared.session);
        let overview = Overview::gather(config, session, clock.now(), &watchers.at_work()).await;
        drop((server, daemon));
        watchers.close();
        let tally = board.await.unwrap_or_default();
        let (asked, left) = match worked {
            Ok(worked) => worked,
            Err(error) => return Ending::yours(&error),
        };
        for sentence in &left {
            complain(sentence);
        }
        if asked > 0 {
            return self.conclude(&tally, left.is_empty());
        }
        if let Ok(overview) = overview {
            self.nothing_due(&overview);
        }
        match left.is_empty() {
            true => Ending::Done,
            false => Ending::Failed(None),
        }
    }

    /// The pass, then the removal of its records: how many certificates had something to do, and what is left where.
    async fn work(
        &self,
        daemon: &Daemon,
        interrupts: &Interrupts,
    ) -> Result<(usize, Vec<String>), StoreError> {
        let stop = Stop::withdrawing(interrupts.politely.clone());
        let report = scheduler::pass(&daemon.shared, &self.selection, &stop).await?;
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

    fn board<'a>(&self, names: impl Iterator<Item = &'a CertificateName>) -> Board {
        Board::new(self.screen, self.clock.clone(), names, self.may_paint)
    }

    fn nothing_due(&self, overview: &Overview) {
        let meant = overview.certificates.iter();
        let meant = meant.filter(|view| self.selection.means(&view.name));
        let next = meant
            .filter(|view| view.current.is_some() || view.failure.is_some())
            .min_by_key(|view| view.due.at);
        out(match next {
            Some(view) => {
                let ahead = ahead(overview.now, view.due.at);
                format!("nothing is due; next is {}, {ahead}", view.name)
            }
            None => "nothing is due".to_owned(),
        });
    }

    fn conclude(&self, tally: &Tally, is_clean: bool) -> Ending {
        let time = took(self.clock.elapsed().saturating_sub(self.started));
        let said = match tally.is_good() {
            true => self.screen.good(&tally.said()),
            false => self.screen.bad(&tally.said()),
        };
        out(format!("{said}, in {time}"));
        match tally.is_good() && is_clean {
            true => Ending::Done,
            false => Ending::Failed(None),
        }
    }
}
