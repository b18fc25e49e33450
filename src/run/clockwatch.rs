//! Follows the machine's clock for the scheduler: asks the authorities when it is in doubt, says so to people, and keeps
//! what was believed over restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::clock::later;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;

use super::records;
use super::shared::{Authority, Shared};
use crate::engine::order::CaFault;
use crate::engine::timekeeping::{CLOCK_STEP, Doubt, Mark, Timekeeper};
use crate::store::{Keep, Saved, Write};

/// While nobody answers, authorities are asked so often.
const BETWEEN_QUESTIONS: Duration = Duration::from_secs(60);
/// What is believed is saved so often: after a restart a clock that was set back by more is noticed.
const BETWEEN_MARKS: Duration = Duration::from_secs(600);
/// The notice about it.
const NOTICE: &str = "clock";

/// Authorities that could not be asked, and why.
type Silent = Vec<(String, CaFault)>;

/// The scheduler's eye on the clock.
pub(super) struct Clockwatch {
    /// The doubt that was there at the last look.
    known: Option<Doubt>,
    mark: Saved<Mark>,
    /// Since when there is a doubt, as time passed: a reply after that ends it.
    since: Duration,
    /// A question under way.
    asking: JoinSet<Silent>,
    /// The next question is asked after this has passed.
    next: Duration,
    silent: Silent,
    ahead: BTreeMap<String, SignedDuration>,
}

/// What a look at the clock showed.
pub(super) struct Look {
    /// Whether what waits for its time is held back.
    pub(super) is_doubted: bool,
    /// Whether every turn is to be thought over: the time is another than it was.
    pub(super) is_other: bool,
    /// Whether the time is what the clock shows.
    pub(super) is_sure: bool,
    /// Whether it is an earlier one, so that what is under way counts from an instant that is yet to come.
    pub(super) is_back: bool,
}

impl Clockwatch {
    pub(super) async fn open(shared: &Shared) -> Self {
        let mark = match shared.session.load(records::clock()).await {
            Ok(mark) => mark,
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        };
        let known = mark.as_ref().map(|mark: &Saved<Mark>| mark.value);
        let at = Timestamp::MIN;
        *shared.timekeeper() = Timekeeper::new(known);
        Self {
            known: None,
            mark: mark.unwrap_or_else(|| Saved::new(records::clock(), Mark { at })),
            since: shared.clock.elapsed(),
            asking: JoinSet::new(),
            next: Duration::ZERO,
            silent: Silent::new(),
            ahead: BTreeMap::new(),
        }
    }

    /// Looks at the clock, and listens to what authorities said of it.
    pub(super) async fn look(&mut self, shared: &Shared) -> Look {
        let (now, passed) = (shared.clock.now(), shared.clock.elapsed());
        let doubt = shared.doubt();
        let before = std::mem::replace(&mut self.known, doubt);
        let jumped = match doubt {
            Some(Doubt::Jumped { from, to }) if before.is_none_or(|it| it == Doubt::Unasked) => {
                tracing::warn!("the clock went from {from} to {to} at once");
                self.since = passed;
                self.next = Duration::ZERO;
                Some(to < from)
            }
            _ => None,
        };
        let words = |authority: &Arc<Authority>| authority.client.word();
        let mut words = shared.authorities.values().filter_map(words);
        if doubt.is_some() && words.any(|word| word.passed >= self.since) {
            shared.timekeeper().heard(now, passed);
            self.known = None;
            self.silent.clear();
        }
        let ahead = ahead(shared);
        let is_other = jumped.is_some() || !is_same(&ahead, &self.ahead);
        if is_other {
            self.ahead = ahead;
        }
        shared.notices.set(NOTICE, self.notice(now));
        if self.known.is_none() {
            self.save(shared, BETWEEN_MARKS).await;
        }
        Look {
            is_doubted: self.known.is_some(),
            is_other,
            is_sure: self.known.is_none() && self.ahead.is_empty(),
            is_back: jumped == Some(true),
        }
    }

    /// Asks the authorities, unless they were asked just now: after a jump in any case, else where somebody is held
    /// back (`holds`).
    pub(super) fn ask(&mut self, shared: &Shared, holds: bool) {
        let is_wanted = match self.known {
            None => false,
            Some(Doubt::Unasked) => holds,
            Some(Doubt::Jumped { .. }) => true,
        };
        if !is_wanted || !self.asking.is_empty() || shared.clock.elapsed() < self.next {
            return;
        }
        let authorities = shared.authorities.clone();
        self.asking.spawn(async move {
            let ask = |(name, authority): (String, Arc<Authority>)| async move {
                let greeted = authority.client.greet().await;
                greeted.map_err(|fault| (name, fault))
            };
            let asked = join_all(authorities.into_iter().map(ask)).await;
            asked.into_iter().filter_map(Result::err).collect()
        });
    }

    /// Waits until a question was answered; for ever when none is under way.
    pub(super) async fn answered(&mut self, shared: &Shared) {
        let silent = match self.asking.join_next().await {
            Some(joined) => joined.unwrap_or_default(),
            None => std::future::pending().await,
        };
        let (now, passed) = (shared.clock.now(), shared.clock.elapsed());
        self.next = passed + BETWEEN_QUESTIONS;
        let is_heard = silent.len() < shared.authorities.len();
        self.silent = silent;
        if is_heard || self.known == Some(Doubt::Unasked) {
            // One was reached whom a wrong clock does not trust, though it may not have told the time. Or nothing
            // contradicts ours: whoever needs an authority finds out himself that there is none.
            shared.timekeeper().heard(now, passed);
        }
    }

    /// Saves something, to find out whether that can be done again.
    pub(super) async fn try_to_save(&mut self, shared: &Shared) {
        let bytes = match serde_json::to_vec(&self.mark.value) {
            Ok(bytes) => bytes,
            Err(error) => return tracing::error!("the mark of the clock: {error}"),
        };
        let (key, version) = self.mark.expectation();
        let write = Write::Put(key.clone(), bytes.clone());
        if let Ok(version) = shared.session.commit(&[(key, version)], &[write]).await {
            self.mark.committed(bytes, version);
        }
    }

    /// Keeps what is believed for the next process.
    pub(super) async fn close(&mut self, shared: &Shared) {
        if self.known.is_none() {
            self.save(shared, Duration::ZERO).await;
        }
    }

    fn notice(&self, now: Timestamp) -> Option<String> {
        if let Some(Doubt::Jumped { from, to }) = self.known {
            let silent = self.silent.first();
            let who = silent.map_or("none has answered yet".to_owned(), |(name, fault)| {
                format!("{name}: {fault}")
            });
            return Some(format!(
                "this machine's clock went from {} to {} at once, and no authority could be asked whether that is right ({who}): what waits for its time is held back; set the clock if it is wrong",
                said(from),
                said(to)
            ));
        }
        let (name, ahead) = self.ahead.first_key_value()?;
        let theirs = now.checked_add(*ahead).unwrap_or(now);
        Some(format!(
            "this machine's clock says {}, and that of authority {name} {}: set the clock that is wrong; until then renewals there go by the authority's",
            said(now),
            said(theirs)
        ))
    }

    /// Saves the mark where it is `after` later than the saved one, or earlier.
    async fn save(&mut self, shared: &Shared, after: Duration) {
        let is = shared.timekeeper().mark().at;
        let was = self.mark.value.at;
        if is >= was && is < later(was, after) {
            return;
        }
        self.mark.value.at = is;
        let saved = shared.session.save(&mut [&mut self.mark], Vec::new()).await;
        if let Err(error) = saved {
            // Others who cannot save say so where it matters.
            tracing::debug!("the mark of the clock: {error}");
        }
    }
}

/// How much the clock of each authority that was heard is ahead of ours.
fn ahead(shared: &Shared) -> BTreeMap<String, SignedDuration> {
    let authorities = shared.authorities.iter();
    let ahead = |(name, authority): (&String, &Arc<Authority>)| {
        let ahead = authority.ahead(&shared.clock)?;
        (!ahead.is_zero()).then(|| (name.clone(), ahead))
    };
    authorities.filter_map(ahead).collect()
}

/// Whether nothing has changed but by a correction.
fn is_same(
    one: &BTreeMap<String, SignedDuration>,
    other: &BTreeMap<String, SignedDuration>,
) -> bool {
    let same =
        |((a, one), (b, other)): ((&String, &SignedDuration), (&String, &SignedDuration))| {
            a == b && one.saturating_sub(*other).unsigned_abs() <= CLOCK_STEP
        };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn said(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d %H:%M:%S UTC")
}
