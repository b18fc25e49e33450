//! `demo`: the main job on this machine alone. A throw-away authority, the real daemon and its built-in nameserver,
//! speaking real HTTPS and real DNS over loopback.
//!
//! `stage` puts the parts and the configuration in place, `wire` retells what the parts send each other.

mod stage;
mod wire;

use std::path::Path;
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::arguments::{Demo, Level};
use super::print::{Screen, out, pad};
use super::process::Interrupts;
use super::words::{failure, instant, span};
use super::{Ending, logging};
use crate::config::LogFormat;
use crate::daemon::Daemon;
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::names::CertificateName;
use crate::run::progress::Watchers;
use crate::run::records;
use crate::run::scheduler::{self, Selection};
use crate::run::stop::Stop;
use crate::store::StoreError;
use stage::Stage;
use wire::Seen;

/// Short enough to see a renewal: it comes after two thirds.
const LIFETIME: Duration = Duration::from_secs(45);
/// Removals get this long after a certificate.
const QUIET: Duration = Duration::from_secs(5);
/// The wall clock is read again after this, and the countdown changes.
const TICK: Duration = Duration::from_secs(1);
/// Between two passes, at least.
const BETWEEN_PASSES: Duration = Duration::from_secs(1);
/// Where the values of the lists begin.
const LABEL: usize = 15;
/// The width of who speaks to whom.
const BETWEEN: usize = 14;
/// The width of what a step means.
const SAID: usize = 38;
/// The width of what was sent, in short.
const SENT: usize = 17;
/// From this width on it is shown in full.
const FULL: usize = 130;

pub(super) async fn run(
    clock: Clock,
    screen: Screen,
    options: Demo,
    level: Option<Level>,
) -> Ending {
    let (layer, seen) = wire::listen(clock.clone());
    let logs = level.map(|level| logging::layer(LogFormat::Text, level));
    // There is one subscriber a process, and this is the only command of this one.
    let _ = tracing_subscriber::registry()
        .with(layer)
        .with(logs)
        .try_init();
    let interrupts = Interrupts::listen();
    let stage = match Stage::build(options.directory.as_deref(), LIFETIME).await {
        Ok(stage) => stage,
        Err(stage::StageError::Directory(sentence)) => return Ending::Usage(sentence),
        Err(error) => return Ending::yours(&error),
    };
    let daemon = match Daemon::open(&stage.config, clock.clone(), Watchers::default()).await {
        Ok(daemon) => daemon,
        Err(error) => return Ending::yours(&error),
    };
    let mut show = Show {
        screen,
        clock,
        stage,
        daemon,
        seen,
        began: Duration::ZERO,
    };
    let ending = tokio::select! {
        ending = show.play(&options, &interrupts.politely) => ending,
        () = interrupts.at_once.cancelled() => Ending::Failed(Some("stopped at once".to_owned())),
    };
    let Show { stage, daemon, .. } = show;
    drop(daemon);
    stage.clear();
    ending
}

/// The demonstration while it runs.
struct Show {
    screen: Screen,
    clock: Clock,
    stage: Stage,
    daemon: Daemon,
    seen: UnboundedReceiver<Seen>,
    began: Duration,
}

impl Show {
    async fn play(&mut self, options: &Demo, stop: &CancellationToken) -> Ending {
        self.introduce(options);
        out(self
            .screen
            .strong("A certificate for demo.test and *.demo.test"));
        let is_issued = match self.pass(stop).await {
            Ok(is_issued) => is_issued,
            Err(error) => return Ending::yours(&error),
        };
        if is_issued {
            self.explain(options).await;
        }
        if options.once || stop.is_cancelled() {
            return match is_issued {
                true => Ending::Done,
                false => Ending::Failed(None),
            };
        }
        let ending = self.go_on(stop).await;
        self.farewell(options);
        ending
    }

    /// Renews by the engine's own due times until told to stop.
    async fn go_on(&mut self, stop: &CancellationToken) -> Ending {
        out("");
        let mut reads_on = out("It stays up and renews by itself. Ctrl-C ends it.");
        while reads_on {
            let next = match scheduler::next(&self.daemon.shared).await {
                Ok(Some(next)) => next,
                Ok(None) => return Ending::Done,
                Err(error) => return Ending::yours(&error),
            };
            // A pass that failed is not repeated without a pause.
            let soonest = later(self.clock.now(), BETWEEN_PASSES);
            self.wait(next.max(soonest), stop).await;
            if stop.is_cancelled() {
                break;
            }
            out("");
            reads_on = out(self.screen.strong("Its renewal is due"));
            let before = self.issued().await.map(|issued| issued.serial);
            match self.pass(stop).await {
                Ok(true) => self.renewed(before).await,
                Ok(false) => {}
                Err(error) => return Ending::yours(&error),
            }
        }
        Ending::Done
    }

    /// One pass, each step shown as it happens; whether all is well.
    async fn pass(&mut self, stop: &CancellationToken) -> Result<bool, StoreError> {
        self.began = self.clock.elapsed();
        while self.seen.try_recv().is_ok() {}
        let shared = std::sync::Arc::clone(&self.daemon.shared);
        let selection = Selection::default();
        let stop = Stop::withdrawing(stop.clone());
        let work = async {
            let report = scheduler::pass(&shared, &selection, &stop).await;
            shared.ledger.quiet(QUIET).await;
            report
        };
        tokio::pin!(work);
        let report = loop {
            tokio::select! {
                biased;
                Some(seen) = self.seen.recv() => tell(self.screen, self.began, &seen),
                report = &mut work => break report?,
            }
        };
        while let Ok(seen) = self.seen.try_recv() {
            tell(self.screen, self.began, &seen);
        }
        let mut is_good = true;
        for (name, result) in report {
            if let Err(failed) = result {
                is_good = false;
                self.failed(&name, &failed).await;
            }
        }
        Ok(is_good)
    }

    async fn failed(&self, name: &CertificateName, failed: &crate::engine::reaction::Failure) {
        let trouble = self.certificate(name).await.and_then(|it| it.trouble);
        let again = trouble.map(|trouble| trouble.retry_at);
        super::complain(failure(failed, self.clock.now(), again, false));
    }

    async fn certificate(&self, name: &CertificateName) -> Option<Certificate> {
        let session = &self.daemon.shared.session;
        let saved = session.load(records::certificate(name)).await;
        saved.ok().flatten().map(|saved| saved.value)
    }

    async fn issued(&self) -> Option<Issued> {
        let name = self.daemon.shared.certificates.keys().next()?.clone();
        self.certificate(&name).await?.current
    }

    /// Waits until `next`, counting down where that can be painted.
    async fn wait(&self, next: Timestamp, stop: &CancellationToken) {
        let line = self.screen.is_live.then(|| countdown(self.screen));
        while !stop.is_cancelled() && self.clock.now() < next {
            let left = self.clock.until(next);
            if let Some(line) = &line {
                line.set_message(format!("the next renewal is in {}", span(left)));
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.clock.sleep(left.min(TICK)) => {}
            }
        }
        if let Some(line) = line {
            line.finish_and_clear();
        }
    }

    fn introduce(&self, options: &Demo) {
        let Stage {
            directory_url,
            nameserver,
            ..
        } = &self.stage;
        let keeps = match options.directory {
            Some(_) => "kept",
            None => "removed at the end; --directory DIR keeps them",
        };
        out(self
            .screen
            .strong("Countersign's demo: everything is on this machine, nothing leaves it"));
        self.part("authority", directory_url);
        self.more(&format!(
            "a throw-away one; its certificates last {} seconds",
            LIFETIME.as_secs()
        ));
        self.part("nameserver", &format!("{nameserver}, UDP and TCP"));
        self.more(&format!(
            "the built-in one; it has the zone {}",
            stage::ZONE
        ));
        self.part("files", &self.stage.path().display().to_string());
        self.more(keeps);
        out("");
    }

    fn part(&self, label: &str, value: &str) {
        out(format!("  {}{value}", pad(label, LABEL)));
    }

    fn more(&self, value: &str) {
        out(format!("  {}{}", pad("", LABEL), self.screen.faint(value)));
    }

    /// What is there now, and where.
    async fn explain(&self, options: &Demo) {
        let took = self.clock.elapsed().saturating_sub(self.began);
        let took = format!("Done in {:.2} s", took.as_secs_f64());
        out(self.screen.good(&took));
        if let Some(issued) = self.issued().await {
            self.part("issuer", &issued.issuer);
            self.part("serial", &issued.serial);
            self.part("valid until", &instant(issued.not_after));
        }
        out("");
        if options.once && options.directory.is_none() {
            out("The files are removed now; --directory DIR keeps them.");
            return;
        }
        let place = self.stage.certificates();
        out(format!("In {}", place.display()));
        for (file, what) in [
            ("fullchain.pem", "the certificate, then its chain"),
            ("cert.pem", "the certificate alone"),
            ("chain.pem", "the chain alone"),
            ("privkey.pem", "its private key"),
            ("bundle.pem", "key, certificate and chain"),
        ] {
            out(format!("  {}{}", pad(file, LABEL), self.screen.faint(what)));
        }
        out("");
        out("Look at it with");
        for line in commands(&self.stage) {
            out(format!("  {line}"));
        }
    }

    async fn renewed(&self, before: Option<String>) {
        let (Some(before), Some(issued)) = (before, self.issued().await) else {
            return;
        };
        let said = format!("Renewed: serial {before} → {}", issued.serial);
        out(self.screen.wrap(&self.screen.good(&said), 0, 2));
    }

    fn farewell(&self, options: &Demo) {
        out("");
        match &options.directory {
            Some(_) => {
                let config = self.stage.path().join(stage::CONFIG);
                out(format!(
                    "Ended, and its authority is gone with it. The files stay in {}; look back with",
                    self.stage.path().display()
                ));
                for command in ["status", "history demo"] {
                    out(format!(
                        "  countersign --config {} {command}",
                        config.display()
                    ));
                }
            }
            None => {
                out(format!(
                    "Ended; {} is removed.",
                    self.stage.path().display()
                ));
            }
        }
    }
}

/// One step: when, between whom, what it means, and what was really sent as far as there is room.
fn tell(screen: Screen, began: Duration, seen: &Seen) {
    let at = seen.at.saturating_sub(began).as_millis();
    let step = &seen.step;
    let room = screen.width.unwrap_or(FULL);
    let sent = match room >= FULL {
        true => format!("{}  {}", pad(&step.sent, SENT), step.more),
        false => step.sent.clone(),
    };
    let line = format!(
        "{}  {} {} {}",
        screen.faint(&format!("{at:>4} ms")),
        pad(step.between, BETWEEN),
        pad(&step.said, SAID),
        screen.faint(sent.trim_end())
    );
    out(line.trim_end());
}

/// What to try in another terminal.
fn commands(stage: &Stage) -> [String; 2] {
    let show = |path: &Path| path.display().to_string();
    let place = stage.certificates();
    [
        format!(
            "openssl x509 -in {} -noout -text",
            show(&place.join("cert.pem"))
        ),
        format!(
            "dig @{} -p {} {} SOA",
            stage.nameserver.ip(),
            stage.nameserver.port(),
            stage::ZONE
        ),
    ]
}

fn countdown(screen: Screen) -> ProgressBar {
    let template = match screen.has_colour {
        true => "{spinner:.cyan} {wide_msg}",
        false => "{spinner} {wide_msg}",
    };
    let style = ProgressStyle::with_template(template);
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    line.enable_steady_tick(Duration::from_millis(100));
    line
}
