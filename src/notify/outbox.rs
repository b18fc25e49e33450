//! What waits for one channel, and sending it: one message after the other, again until it is taken. A channel that is
//! down or slow holds up nothing but itself.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::alert::{Alert, Message};
use super::channel::Carrier;
use crate::clock::Clock;
use crate::engine::names::CertificateName;
use crate::run::shared::Notice;
use crate::supervise;

/// A message that was not taken by then was not taken.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// Pauses after failures in a row; the last one repeats. So whoever was away is told within a quarter of an hour.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
    Duration::from_secs(900),
];
/// So many alerts wait for a message each; the oldest of more go together: nobody reads hundreds, and servers refuse them,
const SINGLE: usize = 20;
/// so many in one message.
const TOGETHER: usize = 500;

/// What a channel is told.
pub(super) enum Told {
    /// Send this.
    Send(Box<Alert>),
    /// Nobody wants to hear of this certificate any more.
    Drop(CertificateName),
    /// These were given up, by their ids; the one that now comes first of its certificate says so.
    GiveUp {
        /// The ids of those.
        ids: BTreeSet<String>,
        /// That one, as it is now.
        first: Box<Alert>,
    },
}

/// Alerts that a channel has taken.
pub(super) struct Taken {
    /// Which channel, by its id.
    pub(super) channel: String,
    /// Which alerts.
    pub(super) alerts: Vec<Alert>,
}

/// A channel at work.
pub(super) struct Outbox {
    /// Its id.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
    /// What brings messages there.
    pub(super) carrier: Box<dyn Carrier>,
    /// What there is to send.
    pub(super) told: UnboundedReceiver<Told>,
    /// Who notes what was taken.
    pub(super) taken: UnboundedSender<Taken>,
    /// Where `status` looks.
    pub(super) notice: Notice,
    /// Time.
    pub(super) clock: Clock,
    /// Ends it; a message on its way is awaited.
    pub(super) stop: CancellationToken,
}

impl Outbox {
    /// Sends until told to stop, or nobody can tell it anything any more.
    pub(super) async fn serve(mut self) {
        let mut queue = Queue::default();
        let mut failures = 0;
        // By the clock that never goes back: a pause is short.
        let mut not_before = Duration::ZERO;
        loop {
            while let Ok(told) = self.told.try_recv() {
                queue.hear(told);
            }
            let pause = not_before.saturating_sub(self.clock.elapsed());
            if self.stop.is_cancelled() {
                break;
            }
            if queue.is_empty() || !pause.is_zero() {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    told = self.told.recv() => match told {
                        Some(told) => queue.hear(told),
                        None => break,
                    },
                    () = self.clock.sleep(pause), if !queue.is_empty() => {}
                }
                continue;
            }
            let batch = queue.next();
            match self.send(&batch).await {
                Ok(()) => {
                    self.well(failures);
                    failures = 0;
                    queue.sent(&batch);
                    let channel = self.id.clone();
                    let alerts = batch;
                    // Whoever notes it is gone only when all ends.
                    let _ = self.taken.send(Taken { channel, alerts });
                }
                Err(reason) => {
                    self.unwell(failures, &reason);
                    not_before = self.clock.elapsed() + PAUSES[failures.min(PAUSES.len() - 1)];
                    failures += 1;
                    queue.defer(&batch);
                }
            }
        }
    }

    async fn send(&self, batch: &[Alert]) -> Result<(), String> {
        let Some((first, more)) = batch.split_first() else {
            return Ok(());
        };
        let carried = self.carrier.carry(Message { first, more });
        let carried = async {
            let taken = supervise::outlived(&self.name, carried).await;
            taken.unwrap_or_else(|| Err("a fault of Countersign's own, see its log".to_owned()))
        };
        let in_time = self.clock.timeout(DEADLINE, carried).await;
        in_time.unwrap_or_else(|| {
            Err(format!(
                "it did not take it within {} s",
                DEADLINE.as_secs()
            ))
        })
    }

    fn well(&self, failures: usize) {
        if failures > 0 {
            tracing::info!("alerts reach the {} again", self.name);
            self.notice.set(None);
        }
    }

    fn unwell(&self, failures: usize, reason: &str) {
        let sentence = format!(
            "alerts do not reach the {}: {reason}; they wait and are sent again",
            self.name
        );
        match failures {
            0 => tracing::warn!("{sentence}"),
            _ => tracing::debug!("{sentence}"),
        }
        self.notice.set(Some(sentence));
    }
}

/// Alerts that wait, in the order in which they are sent.
#[derive(Default)]
struct Queue(VecDeque<Alert>);

impl Queue {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Send(alert) => self.0.push_back(*alert),
            Told::Drop(name) => self.0.retain(|alert| alert.certificate != name),
            Told::GiveUp { ids, first } => {
                self.0.retain(|alert| !ids.contains(&alert.id));
                if let Some(alert) = self.0.iter_mut().find(|alert| alert.id == first.id) {
                    *alert = *first;
                }
            }
        }
    }

    /// What goes into the next message.
    fn next(&self) -> Vec<Alert> {
        let excess = self.0.len().saturating_sub(SINGLE);
        let many = (excess + 1).min(TOGETHER);
        self.0.iter().take(many).cloned().collect()
    }

    fn sent(&mut self, batch: &[Alert]) {
        let ids: BTreeSet<&str> = batch.iter().map(|alert| alert.id.as_str()).collect();
        self.0.retain(|alert| !ids.contains(alert.id.as_str()));
    }

    /// Others go first: one that is refused for what it says must not hold them up. Those of one certificate stay in
    /// their order.
    fn defer(&mut self, batch: &[Alert]) {
        let names: BTreeSet<&CertificateName> =
            batch.iter().map(|alert| &alert.certificate).collect();
        let waiting = std::mem::take(&mut self.0).into_iter();
        let (later, first): (VecDeque<_>, VecDeque<_>) =
            waiting.partition(|alert| names.contains(&alert.certificate));
        self.0 = first;
        self.0.extend(later);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use countersign_providers::clock::VirtualClock;
    use jiff::Timestamp;
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::alert::Event;
    use super::super::alert::testing::alert;
    use super::*;
    use crate::run::shared::Notices;

    /// How a place behaves.
    #[derive(Default)]
    struct Place {
        is_down: AtomicBool,
        /// It takes the connection and says nothing.
        is_mute: AtomicBool,
        /// Bringing anything there is a fault of ours.
        is_fatal: AtomicBool,
        tries: AtomicUsize,
        /// The ids of what it took, a message each.
        took: Mutex<Vec<Vec<String>>>,
    }

    #[async_trait]
    impl Carrier for Arc<Place> {
        async fn carry(&self, message: Message<'_>) -> Result<(), String> {
            self.tries.fetch_add(1, Ordering::Relaxed);
            if self.is_mute.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            assert!(!self.is_fatal.load(Ordering::Relaxed), "planted");
            if self.is_down.load(Ordering::Relaxed) {
                return Err("it answered 500 Internal Server Error".to_owned());
            }
            let all = [message.first].into_iter().chain(message.more);
            let ids = all.map(|alert| alert.id.clone()).collect();
            self.took.lock().unwrap().push(ids);
            Ok(())
        }
    }

    struct Stage {
        place: Arc<Place>,
        tell: UnboundedSender<Told>,
        taken: UnboundedReceiver<Taken>,
        notices: Notices,
        hands: Arc<VirtualClock>,
    }

    impl Stage {
        fn start() -> Self {
            let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
            let (tell, told) = unbounded_channel();
            let (taken, all_taken) = unbounded_channel();
            let place = Arc::new(Place::default());
            let notices = Notices::default();
            let outbox = Outbox {
                id: "webhook-1".to_owned(),
                name: "webhook hooks.test".to_owned(),
                carrier: Box::new(Arc::clone(&place)),
                told,
                taken,
                notice: notices.speaker("alerts"),
                clock,
                stop: CancellationToken::new(),
            };
            tokio::spawn(outbox.serve());
            Self {
                place,
                tell,
                taken: all_taken,
                notices,
                hands,
            }
        }

        fn send(&self, alert: Alert) {
            self.tell.send(Told::Send(Box::new(alert))).ok().unwrap();
        }

        /// Lets `seconds` pass, one after the other.
        async fn pass(&self, seconds: u32) {
            for _ in 0..seconds {
                settle().await;
                self.hands.advance(Duration::from_secs(1));
            }
            settle().await;
        }

        fn took(&self) -> Vec<Vec<String>> {
            self.place.took.lock().unwrap().clone()
        }
    }

    /// Everybody who can go on does.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_answers_500_for_an_hour_gets_its_alert_once_when_it_returns() {
        let mut stage = Stage::start();
        stage.place.is_down.store(true, Ordering::Relaxed);
        stage.send(alert("a", Event::Failure, 1));
        stage.pass(3_600).await;
        assert!(stage.took().is_empty());
        assert_eq!(
            stage.notices.all(),
            [
                "alerts do not reach the webhook hooks.test: it answered 500 Internal Server Error; they wait and are sent again"
            ]
        );
        assert!(stage.taken.try_recv().is_err());
        stage.place.is_down.store(false, Ordering::Relaxed);
        stage.pass(900).await;
        assert_eq!(stage.took(), [["a.failure.1"]]);
        assert_eq!(stage.notices.all(), [""; 0]);
        assert_eq!(stage.taken.try_recv().unwrap().alerts.len(), 1);
        stage.pass(3_600).await;
        assert_eq!(stage.took().len(), 1);
        // 10 s, 30 s, 1 min, 5 min, and then every quarter of an hour.
        assert_eq!(stage.place.tries.load(Ordering::Relaxed), 5 + 3 + 1);
    }

    #[tokio::test]
    async fn one_that_never_answers_is_given_up_after_its_time_and_tried_again() {
        let stage = Stage::start();
        stage.place.is_mute.store(true, Ordering::Relaxed);
        stage.send(alert("a", Event::Failure, 1));
        stage.pass(14).await;
        assert_eq!(stage.notices.all(), [""; 0]);
        stage.pass(3_600).await;
        assert!(stage.notices.all()[0].contains("within 15 s"));
        stage.place.is_mute.store(false, Ordering::Relaxed);
        stage.pass(915).await;
        assert_eq!(stage.took(), [["a.failure.1"]]);
    }

    #[tokio::test]
    async fn what_waits_goes_in_its_order_once_the_place_is_back() {
        let stage = Stage::start();
        stage.place.is_down.store(true, Ordering::Relaxed);
        stage.send(alert("a", Event::Failure, 1));
        stage.pass(3_600).await;
        stage.send(alert("a", Event::Recovery, 2));
        stage.send(alert("b", Event::Failure, 3));
        stage.pass(60).await;
        stage.place.is_down.store(false, Ordering::Relaxed);
        stage.pass(900).await;
        let took: Vec<String> = stage.took().concat();
        assert_eq!(took.len(), 3);
        let place = |id| took.iter().position(|took| took == id).unwrap();
        assert!(place("a.failure.1") < place("a.recovery.2"), "{took:?}");
    }

    #[tokio::test]
    async fn a_fault_of_our_own_on_the_way_is_a_failure_like_others() {
        let stage = Stage::start();
        stage.place.is_fatal.store(true, Ordering::Relaxed);
        stage.send(alert("web", Event::Failure, 1));
        stage.pass(5).await;
        assert!(stage.notices.all()[0].contains("a fault of Countersign's own"));
        stage.place.is_fatal.store(false, Ordering::Relaxed);
        stage.pass(15).await;
        assert_eq!(stage.took().len(), 1);
    }

    #[tokio::test]
    async fn what_nobody_wants_to_hear_any_more_is_dropped() {
        let stage = Stage::start();
        stage.place.is_down.store(true, Ordering::Relaxed);
        stage.send(alert("a", Event::Failure, 1));
        stage.send(alert("b", Event::Failure, 2));
        stage.pass(1).await;
        let a = CertificateName::parse("a").unwrap();
        stage.tell.send(Told::Drop(a)).ok().unwrap();
        stage.place.is_down.store(false, Ordering::Relaxed);
        stage.pass(900).await;
        assert_eq!(stage.took(), [["b.failure.2"]]);
    }

    #[test]
    fn what_is_given_up_is_forgotten_and_the_next_one_says_so() {
        let mut queue = Queue::default();
        for n in 1..4 {
            let alert = alert("a", Event::Failure, n);
            queue.hear(Told::Send(Box::new(alert)));
        }
        let mut first = Box::new(alert("a", Event::Failure, 2));
        first.left_out = 1;
        let ids = BTreeSet::from(["a.failure.1".to_owned()]);
        queue.hear(Told::GiveUp { ids, first });
        let left: Vec<(&str, u32)> = (queue.0.iter())
            .map(|alert| (alert.id.as_str(), alert.left_out))
            .collect();
        assert_eq!(left, [("a.failure.2", 1), ("a.failure.3", 0)]);
    }

    #[test]
    fn one_that_is_refused_for_what_it_says_holds_up_no_other() {
        let mut queue = Queue::default();
        for alert in [
            alert("a", Event::Failure, 1),
            alert("a", Event::Recovery, 2),
            alert("b", Event::Failure, 3),
        ] {
            queue.hear(Told::Send(Box::new(alert)));
        }
        let batch = queue.next();
        assert_eq!(batch[0].id, "a.failure.1");
        queue.defer(&batch);
        let ids: Vec<&str> = queue.0.iter().map(|alert| alert.id.as_str()).collect();
        assert_eq!(ids, ["b.failure.3", "a.failure.1", "a.recovery.2"]);
    }

    #[test]
    fn the_oldest_of_very_many_go_together_and_none_is_lost() {
        let mut queue = Queue::default();
        for n in 0..1_700 {
            let alert = alert(&format!("c{n}"), Event::Failure, n);
            queue.hear(Told::Send(Box::new(alert)));
        }
        let mut sizes = Vec::new();
        let mut sent = 0;
        while !queue.is_empty() {
            let batch = queue.next();
            assert_eq!(batch[0].certificate.as_str(), format!("c{sent}"));
            sent += batch.len();
            sizes.push(batch.len());
            queue.sent(&batch);
        }
        assert_eq!(sent, 1_700);
        assert_eq!(sizes[..5], [500, 500, 500, 181, 1]);
    }
}
