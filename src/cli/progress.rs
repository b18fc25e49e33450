//! What a pass is doing, a line per certificate: painted over on a terminal, one line per change of step elsewhere.
//!
//! With more certificates at work than fit, the rest is one line. Finished ones stay.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_providers::clock::Clock;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::logging;
use super::print::{Screen, complain, out, pad};
use super::words::{clean, failure as said, instant, took, until};
use crate::config::place;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Failure;
use crate::run::progress::Progress;
use crate::run::worker::is_interruption;

/// Said when a person wants the pass to stop.
const STOPPING: &str = "stopping: the TXT records are removed first; Ctrl-C again stops at once";
/// A longer name shifts its own line only.
const LONGEST_NAME: usize = 30;
/// Rows that are left for what is above and below the live lines.
const MARGIN: usize = 4;
/// More live lines than this nobody reads.
const MOST_LINES: usize = 16;
/// Between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

/// What came of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    issued: usize,
    delivered: usize,
    failed: usize,
    interrupted: usize,
}

impl Tally {
    /// Whether all is well.
    pub(super) fn is_good(&self) -> bool {
        self.failed == 0 && self.interrupted == 0
    }

    /// In words: `49 issued, 1 failed`.
    pub(super) fn said(&self) -> String {
        let parts = [
            (self.issued, "issued"),
            (self.delivered, "delivered"),
            (self.interrupted, "interrupted"),
            (self.failed, "failed"),
        ];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        match parts.is_empty() {
            true => "nothing was left to do".to_owned(),
            false => parts.join(", "),
        }
    }
}

/// Shows a pass while it runs.
pub(super) struct Board {
    screen: Screen,
    clock: Clock,
    name_width: usize,
    at_work: BTreeMap<CertificateName, Work>,
    live: Option<Live>,
    tally: Tally,
}

/// What is known of a certificate in this pass.
struct Work {
    since: Duration,
    doing: String,
    issued: Option<Timestamp>,
    delivered: Vec<String>,
    failure: Option<(Failure, Option<Timestamp>)>,
}

impl Board {
    /// A board for certificates of these names. Painted over if the screen can and `may_paint`.
    pub(super) fn new<'a>(
        screen: Screen,
        clock: Clock,
        names: impl Iterator<Item = &'a CertificateName>,
        may_paint: bool,
    ) -> Self {
        let longest = names.map(|name| name.as_str().len()).max().unwrap_or(0);
        let live = (screen.is_live && may_paint).then(|| Live::new(screen));
        Self {
            screen,
            clock,
            name_width: longest.min(LONGEST_NAME),
            at_work: BTreeMap::new(),
            live,
            tally: Tally::default(),
        }
    }

    /// Shows everything until nobody can tell any more.
    pub(super) async fn show(
        mut self,
        mut told: UnboundedReceiver<(CertificateName, Progress)>,
        stop: CancellationToken,
    ) -> Tally {
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.say(STOPPING);
                }
                told = told.recv() => match told {
                    Some((name, progress)) => self.hear(&name, progress),
                    None => break,
                },
            }
        }
        // A task that ended without a word did not succeed.
        self.tally.failed += self.at_work.len();
        if let Some(live) = self.live {
            live.clear();
        }
        self.tally
    }

    /// Something that is not about one certificate.
    fn say(&self, sentence: &str) {
        match &self.live {
            Some(live) => live.say(sentence),
            None => complain(sentence),
        }
    }

    fn hear(&mut self, name: &CertificateName, progress: Progress) {
        let now = self.clock.elapsed();
        let is_new = !self.at_work.contains_key(name);
        let at_work = self.at_work.len() + usize::from(is_new);
        let work = self.at_work.entry(name.clone()).or_insert_with(|| Work {
            since: now,
            doing: "starting".to_owned(),
            issued: None,
            delivered: Vec::new(),
            failure: None,
        });
        match progress {
            Progress::Began => {}
            Progress::Step(step) => work.doing = step.as_str().to_owned(),
            Progress::Trouble { sentence, again } => {
                let pause = again.map(|again| self.clock.until(again));
                work.doing = match pause.filter(|pause| !pause.is_zero()) {
                    Some(pause) => format!("{}; again in {}", clean(&sentence), took(pause)),
                    None => clean(&sentence),
                };
            }
            Progress::ByHand(sentence) => {
                let sentence = self.screen.wrap(&clean(&sentence), 0, 2);
                let text = self.screen.warn(&format!("{name}: {sentence}"));
                match &self.live {
                    Some(live) => live.say(&text),
                    None => drop(out(text)),
                }
                return;
            }
            Progress::Issued(issued) => {
                work.issued = Some(issued.not_after);
                work.doing = format!("issued, valid until {}", instant(issued.not_after));
            }
            Progress::Delivered { target } => {
                let place = place(&target);
                work.doing = format!("delivered to {place}");
                work.delivered.push(place.to_owned());
            }
            Progress::Failed { failure, again } => {
                work.failure = Some((failure, again));
                return;
            }
            Progress::Finished(_) => {
                if let Some(work) = self.at_work.remove(name) {
                    self.finished(name, work);
                }
                return;
            }
        }
        match &mut self.live {
            Some(live) => live.update(name, work, self.name_width, at_work),
            None => {
                out(format!("{name}: {}", work.doing));
            }
        }
    }

    fn finished(&mut self, name: &CertificateName, work: Work) {
        let time = took(self.clock.elapsed().saturating_sub(work.since));
        let came = came(&work, self.clock.now());
        let text = match &work.failure {
            None => {
                match work.issued {
                    Some(_) => self.tally.issued += 1,
                    None => self.tally.delivered += usize::from(!work.delivered.is_empty()),
                }
                came
            }
            Some((failure, _)) if is_interruption(failure) => {
                self.tally.interrupted += 1;
                failure.sentence.clone()
            }
            Some((failure, retry_at)) => {
                self.tally.failed += 1;
                let sentence = said(failure, self.clock.now(), *retry_at, false);
                match work.issued {
                    Some(_) => format!("{came}, but: {sentence}"),
                    None => sentence,
                }
            }
        };
        let is_good = work.failure.is_none();
        match &mut self.live {
            Some(live) => {
                let mark = match is_good {
                    true => self.screen.good("✓"),
                    false => self.screen.bad("✗"),
                };
                let indent = 2 + self.name_width + 2;
                let text = format!("{text} ({time})");
                let text = self.screen.wrap(&text, indent, indent);
                let line = format!("{mark} {}  {text}", pad(name.as_str(), self.name_width));
                live.finish(name, &line, &self.at_work, self.name_width);
            }
            None if is_good => {
                out(format!("{name}: done in {time}"));
            }
            None => complain(format!("{name}: {text}")),
        }
    }
}

/// What came of a certificate.
fn came(work: &Work, now: Timestamp) -> String {
    let issued = work
        .issued
        .map(|end| format!("valid until {}", until(now, end)));
    let mut parts = Vec::from_iter(issued);
    if !work.delivered.is_empty() {
        parts.push(format!("delivered to {}", work.delivered.join(" and ")));
    }
    match parts.is_empty() {
        true => "everything is in place".to_owned(),
        false => parts.join(", "),
    }
}

/// The lines that are painted over.
struct Live {
    lines: MultiProgress,
    style: ProgressStyle,
    room: usize,
    bars: BTreeMap<CertificateName, ProgressBar>,
    /// Those for which there is no room.
    rest: Option<ProgressBar>,
}

impl Live {
    fn new(screen: Screen) -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        logging::beside(&lines);
        let template = match screen.has_colour {
            true => "{spinner:.cyan} {prefix}  {wide_msg} {elapsed:>4.dim}",
            false => "{spinner} {prefix}  {wide_msg} {elapsed:>4}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        Self {
            lines,
            style,
            room: screen.height.saturating_sub(MARGIN).clamp(1, MOST_LINES),
            bars: BTreeMap::new(),
            rest: None,
        }
    }

    fn update(&mut self, name: &CertificateName, work: &Work, width: usize, at_work: usize) {
        if let Some(bar) = self.bars.get(name) {
            bar.set_message(work.doing.clone());
        } else if self.bars.len() < self.room {
            let bar = self.bar(pad(name.as_str(), width), &work.doing);
            self.bars.insert(name.clone(), bar);
        }
        self.count_rest(at_work);
    }

    fn finish(
        &mut self,
        name: &CertificateName,
        line: &str,
        at_work: &BTreeMap<CertificateName, Work>,
        width: usize,
    ) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
            self.lines.remove(&bar);
        }
        self.say(line);
        let next = at_work
            .iter()
            .find(|(name, _)| !self.bars.contains_key(name));
        if let Some((name, work)) = next {
            self.update(name, work, width, at_work.len());
        }
        self.count_rest(at_work.len());
    }

    fn say(&self, line: &str) {
        // What cannot be painted was not wanted.
        let _ = self.lines.println(line);
    }

    fn clear(&self) {
        for bar in self.bars.values().chain(&self.rest) {
            bar.finish_and_clear();
        }
        let _ = self.lines.clear();
    }

    fn count_rest(&mut self, at_work: usize) {
        match (at_work.saturating_sub(self.bars.len()), &self.rest) {
            (0, Some(bar)) => {
                bar.finish_and_clear();
                self.lines.remove(bar);
                self.rest = None;
            }
            (0, None) => {}
            (more, Some(bar)) => bar.set_message(more_at_work(more)),
            (more, None) => {
                let bar = self.bar("…".to_owned(), &more_at_work(more));
                self.rest = Some(bar);
            }
        }
    }

    fn bar(&self, prefix: String, doing: &str) -> ProgressBar {
        let bar = ProgressBar::new_spinner().with_style(self.style.clone());
        let bar = match &self.rest {
            Some(rest) => self.lines.insert_before(rest, bar),
            None => self.lines.add(bar),
        };
        bar.set_prefix(prefix);
        bar.set_message(doing.to_owned());
        bar.enable_steady_tick(TICK);
        bar
    }
}

fn more_at_work(more: usize) -> String {
    match more {
        1 => "and 1 more certificate".to_owned(),
        more => format!("and {more} more certificates"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_says_only_what_there_is() {
        let mut tally = Tally::default();
        assert_eq!(tally.said(), "nothing was left to do");
        tally.issued = 49;
        assert!(tally.is_good());
        tally.failed = 1;
        assert!(!tally.is_good());
        assert_eq!(tally.said(), "49 issued, 1 failed");
    }
}
