//! A person asks while a target hangs, and a reload takes away and gives back.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_providers::clock::{Clock, earlier, later};
use tokio::sync::oneshot;

use super::*;
use crate::daemon::testing::{config, daemon};
use crate::deliver::{DeliverError, Generation, Shown, Target};
use crate::engine::certificate::{Certificate, Issued};
use crate::run::records;
use crate::run::shared::Destination;
use crate::store::Saved;

const DAY: Duration = Duration::from_secs(86_400);

/// On a file system that does not answer.
struct Hanging;

#[async_trait]
impl Target for Hanging {
    async fn install(&self, _: &Generation) -> Result<(), DeliverError> {
        std::future::pending().await
    }

    async fn inspect(&self) -> Result<Shown, DeliverError> {
        std::future::pending().await
    }

    async fn settle(&self, _: u64) -> Result<(), DeliverError> {
        std::future::pending().await
    }
}

fn name(text: &str) -> CertificateName {
    CertificateName::parse(text).unwrap()
}

/// A clock that goes by the timers of a runtime whose time is paused: it stands still while somebody reads the store.
fn clock() -> Clock {
    Clock::of_runtime(jiff::Timestamp::from_second(1_800_000_000).unwrap()).0
}

const BOTH: &str = "{hangs: {names: [a.acme.test]}, rests: {names: [b.acme.test]}}";

/// Two certificates that are issued and not due: `hangs`, whose target does, and `rests`, which has none.
async fn crew(directory: &std::path::Path, clock: Clock) -> Crew {
    let daemon = daemon(directory, BOTH, clock.clone()).await;
    let mut shared = daemon.shared;
    let now = clock.now();
    for (name, wanted) in &shared.certificates {
        let mut certificate = Certificate::new(name.clone());
        certificate.epoch = 1;
        certificate.current = Some(Issued {
            epoch: 1,
            generation: 1,
            specification: wanted.specification.clone(),
            authority: "nobody".to_owned(),
            profile: None,
            serial: "01".to_owned(),
            sha256: "00".to_owned(),
            issuer: "nobody".to_owned(),
            not_before: earlier(now, DAY),
            not_after: later(now, 90 * DAY),
            renew_at: later(now, 60 * DAY),
        });
        let mut saved = Saved::new(records::certificate(name), certificate);
        let session = &shared.session;
        session.save(&mut [&mut saved], Vec::new()).await.unwrap();
    }
    let mine = Arc::get_mut(&mut shared).unwrap();
    let hangs = mine.certificates.get_mut(&name("hangs")).unwrap();
    hangs.destinations.push(Destination {
        name: "share".to_owned(),
        target: Box::new(Hanging),
        reload: None,
    });
    Crew::new(shared, Stop::default())
}

impl Crew {
    fn ask(&mut self, only: &[&str]) -> oneshot::Receiver<Begun> {
        let selection = Selection {
            only: only.iter().map(|it| name(it)).collect(),
            ..Selection::default()
        };
        let (reply, begun) = oneshot::channel();
        self.look(selection, reply);
        begun
    }

    async fn hear_a_look(&mut self) {
        let looked = self.looks.join_next_with_id().await.unwrap();
        self.hurry(looked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_holds_up_nobody_else_who_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut crew = crew(directory.path(), clock()).await;
    let mut hung = crew.ask(&[]);
    let rest = crew.ask(&["rests"]);
    crew.hear_a_look().await;
    assert_eq!(rest.await.unwrap().unwrap(), []);
    assert!(hung.try_recv().is_err());
    crew.hear_a_look().await;
    assert_eq!(hung.await.unwrap().unwrap(), [name("hangs")]);
}

/// Else it could end before whoever asked is told that it began.
#[tokio::test(start_paused = true)]
async fn one_that_is_looked_at_begins_nothing_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let mut crew = crew(directory.path(), clock.clone()).await;
    crew.plan_all().await;
    let _first = crew.ask(&["hangs"]);
    let _second = crew.ask(&["hangs"]);
    // Its time comes, by a reload or by itself.
    crew.plan_at_start(name("hangs")).await;
    assert_eq!(crew.plan.start(clock.now()), None);
    crew.hear_a_look().await;
    assert_eq!(crew.plan.start(clock.now()), None);
    crew.hear_a_look().await;
    assert_eq!(crew.plan.start(clock.now()), Some(name("hangs")));
    assert_eq!(crew.plan.start(clock.now()), None);
}

/// Else its order is given up by one and taken up by the other.
#[tokio::test(start_paused = true)]
async fn one_that_is_configured_again_begins_after_what_it_had_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = daemon(directory.path(), BOTH, clock()).await;
    let mut crew = Crew::new(Arc::clone(&daemon.shared), Stop::default());
    let rests = name("rests");
    let without = "{hangs: {names: [a.acme.test]}}";
    for configured in [without, BOTH] {
        let config = config(directory.path(), configured);
        daemon.reload(config).await.unwrap();
        crew.take_over(Arc::clone(&daemon.shared)).await;
        assert!(crew.plan.turn(&rests).is_none(), "{configured}");
        assert_eq!(crew.tasks.len(), 1);
    }
    let joined = crew.tasks.join_next_with_id().await.unwrap();
    let (ended, result) = crew.heard(joined).await.unwrap();
    crew.plan_again(ended, result.is_ok()).await;
    assert!(crew.plan.turn(&rests).is_some());
    assert!(crew.tasks.is_empty());
}
