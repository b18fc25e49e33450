//! Whether all is well, and why not: the store can be written, the scheduler goes on, and no certificate is past its
//! point of no return (5/6 of its lifetime have passed, or all of it, and no newer one is there). A certificate that
//! never existed is no reason: nobody has come to rely on it.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::Config;
use crate::engine::certificate::{Certificate, Issued};
use crate::engine::renewal::point_of_no_return;
use crate::run::heartbeat::Heartbeat;
use crate::run::records;
use crate::run::shared::Shared;
use crate::store::{Key, Session, StoreError, Write};

/// The store has this long to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// With less room than this on its disk the store cannot be relied upon to take the next certificate: what is kept of
/// one is some ten KiB, and the file grows in larger steps.
const LEAST_ROOM: u64 = 1024 * 1024;
/// So many certificates are named.
const NAMED: usize = 10;

/// What was found: a sentence where something is wrong.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    store: Option<String>,
    scheduler: Option<String>,
    certificates: Option<String>,
}

impl Readiness {
    /// Looks at everything.
    pub(super) async fn look(shared: &Shared, heartbeat: &Heartbeat) -> Self {
        let (written, gone) = tokio::join!(
            shared.clock.timeout(PATIENCE, write(shared)),
            shared.clock.timeout(PATIENCE, gone(shared)),
        );
        let silent = || Err("the store does not answer; look at its disk".to_owned());
        let (store, certificates) = match (written.unwrap_or_else(silent), gone) {
            (Err(sentence), Some(Ok(certificates))) => (Some(sentence), certificates),
            (Err(sentence), _) => (Some(sentence), None),
            (Ok(()), Some(Ok(certificates))) => (None, certificates),
            (Ok(()), Some(Err(error))) => (Some(unreadable(&error)), None),
            (Ok(()), None) => (silent().err(), None),
        };
        let scheduler = heartbeat.is_late().then(|| {
            let seconds = heartbeat.age().as_secs();
            format!("the scheduler stands still: its last turn was {seconds} s ago; restart Countersign, and report it")
        });
        Self {
            store,
            scheduler,
            certificates,
        }
    }

    /// What there is to say when the look itself failed.
    pub(super) fn unknown() -> Self {
        Self {
            scheduler: Some(
                "it could not be found out whether all is well; see the log".to_owned(),
            ),
            ..Self::default()
        }
    }

    /// Why all is not well; empty when it is.
    pub(super) fn reasons(&self) -> Vec<&str> {
        let all = self.conditions().into_iter();
        all.filter_map(|(_, sentence)| sentence).collect()
    }

    /// What was looked at, in one word each, and what is wrong with it.
    pub(super) fn conditions(&self) -> [(&'static str, Option<&str>); 3] {
        [
            ("store", self.store.as_deref()),
            ("scheduler", self.scheduler.as_deref()),
            ("certificates", self.certificates.as_deref()),
        ]
    }
}

fn unreadable(error: &StoreError) -> String {
    format!("the store cannot be read: {error}")
}

/// Writes something, and sees that there is room for more.
async fn write(shared: &Shared) -> Result<(), String> {
    let now = shared.clock.now();
    let probe = Write::Put(Key::of(&["web", "probe"]), now.to_string().into_bytes());
    let written = shared.session.commit(&[], &[probe]).await;
    written.map_err(|error| format!("the store cannot be written: {error}"))?;
    room(&shared.config.state)
}

fn room(state: &Path) -> Result<(), String> {
    // One that cannot be told was written to all the same.
    let Ok(disk) = rustix::fs::statvfs(state) else {
        return Ok(());
    };
    let left = disk.f_bavail.saturating_mul(disk.f_frsize);
    match left < LEAST_ROOM {
        true => Err(format!(
            "the disk of the store is full: {} KiB are left at {}; free some space",
            left / 1024,
            state.display()
        )),
        false => Ok(()),
    }
}

async fn gone(shared: &Shared) -> Result<Option<String>, StoreError> {
    past_return(&shared.config, &shared.session, shared.clock.now()).await
}

async fn past_return(
    config: &Config,
    session: &Session,
    now: Timestamp,
) -> Result<Option<String>, StoreError> {
    let all = session
        .load_all::<Certificate>(records::CERTIFICATES)
        .await?;
    let gone: Vec<String> = all
        .into_iter()
        .filter(|saved| config.certificates.contains_key(&saved.value.name))
        .filter_map(|saved| {
            let since = has_gone(saved.value.current.as_ref()?, now)?;
            Some(format!("{} {since}", saved.value.name))
        })
        .collect();
    if gone.is_empty() {
        return Ok(None);
    }
    let rest = match gone.len().saturating_sub(NAMED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    let named = gone[..gone.len().min(NAMED)].join(", ");
    Ok(Some(format!(
        "past the point of no return, 5/6 of the lifetime, without a newer certificate: {named}{rest}; `countersign status` says why"
    )))
}

fn has_gone(issued: &Issued, now: Timestamp) -> Option<String> {
    if issued.not_after <= now {
        return Some(format!("(expired at {})", issued.not_after));
    }
    let point = point_of_no_return(issued.not_before, issued.not_after);
    (point <= now).then(|| format!("(since {point}, ends at {})", issued.not_after))
}

#[cfg(test)]
mod tests {
    use countersign_providers::clock::Clock;

    use super::*;
    use crate::web::testing::Site;

    fn turning() -> Heartbeat {
        Heartbeat::new(Clock::system(), PATIENCE)
    }

    async fn reasons(site: &Site, heartbeat: &Heartbeat) -> String {
        let found = Readiness::look(&site.shared(), heartbeat).await;
        found.reasons().join("\n")
    }

    #[tokio::test]
    async fn a_scheduler_without_turns_is_a_reason() {
        let site = Site::with(1).await;
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let heartbeat = Heartbeat::new(clock, Duration::from_secs(60));
        assert_eq!(reasons(&site, &heartbeat).await, "");
        hands.advance(Duration::from_secs(200));
        let said = reasons(&site, &heartbeat).await;
        assert!(
            said.starts_with("the scheduler stands still: its last turn was 200 s ago"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn a_store_that_refuses_is_a_reason() {
        let site = Site::with(1).await;
        let shared = site.shared();
        let store = shared.session.store();
        let now = shared.clock.now();
        store
            .lease("worker", "another", now, PATIENCE)
            .await
            .unwrap();
        let said = reasons(&site, &turning()).await;
        assert!(
            said.starts_with("the store cannot be written: the lease worker"),
            "{said}"
        );
    }

    #[test]
    fn a_certificate_is_gone_from_five_sixths_of_its_lifetime_on() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut issued = crate::web::testing::issued(at(0));
        issued.not_after = at(600);
        assert_eq!(has_gone(&issued, at(499)), None);
        assert!(has_gone(&issued, at(500)).unwrap().contains("since"));
        assert!(has_gone(&issued, at(600)).unwrap().contains("expired"));
    }
}
