//! Alerts of a daemon whose store and time are at hand, through commands that write down what they are given.

use std::path::Path;

use countersign_providers::clock::VirtualClock;

use super::*;
use crate::config::Config;
use crate::daemon::Daemon;
use crate::engine::certificate::Certificate;
use crate::notify::alert::{Event, testing::alert};
use crate::run::progress::Watchers;

/// A state directory, and a clock that a test turns.
struct Stage {
    directory: tempfile::TempDir,
    clock: Clock,
    hands: Arc<VirtualClock>,
}

impl Stage {
    fn new() -> Self {
        let (clock, hands) = Clock::virtual_at("2026-01-01T00:00:00Z".parse().unwrap());
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock,
            hands,
        }
    }

    /// A channel that notes what it is given in the file `name`, and takes it once there is a file `name.open`.
    fn channel(&self, name: &str) -> String {
        let path = self.path(name);
        let script = r#"echo "$COUNTERSIGN_ID" >> "$0"; test -e "$0.open""#;
        format!("{{command: [sh, -c, '{script}', \"{}\"]}}", path.display())
    }

    fn config(&self, channels: &[String], certificates: &[&str]) -> Config {
        let certificates = certificates.iter();
        let certificates: String = certificates
            .map(|name| format!("  {name}: {{names: [{name}.test]}}\n"))
            .collect();
        let text = format!(
            "state: {}\nauthorities: {{corp: {{directory: https://ca.test/dir}}}}\n\
             providers: {{a: {{rfc2136: {{server: 127.0.0.1}}}}}}\n\
             alerts: [{}]\ncertificates:\n{certificates}",
            self.path("state").display(),
            channels.join(", "),
        );
        Config::parse(Path::new("c.yaml"), &text).unwrap()
    }

    async fn open(&self, config: &Config) -> Daemon {
        let opened = Daemon::open(config, self.clock.clone(), Watchers::default());
        opened.await.unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// The ids of the alerts that the channel `name` was given, each time.
    fn given(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Lets time pass until `is_so`.
    async fn until(&self, is_so: impl Fn() -> bool) {
        let system = Clock::system();
        while !is_so() {
            assert!(system.elapsed() < Duration::from_secs(60), "it never came");
            self.hands.advance(Duration::from_secs(1));
            system.sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The person must act before `name` comes.
async fn fail(shared: &Shared, name: &str) {
    let name = CertificateName::parse(name).unwrap();
    let certificate = Certificate::new(name.clone());
    let mut saved = Saved::new(records::certificate(&name), certificate);
    let failure = Failure::new(Whose::You, "no");
    saved.value.failed(shared.clock.now(), failure);
    let session = &shared.session;
    session.save(&mut [&mut saved], Vec::new()).await.unwrap();
    shared.watchers.tell(&name, Progress::Finished(false));
}

async fn outbox(shared: &Shared, name: &str) -> usize {
    let name = CertificateName::parse(name).unwrap();
    let saved = shared.session.load::<Record>(records::alert(&name)).await;
    saved.unwrap().map_or(0, |saved| saved.value.outbox.len())
}

#[tokio::test]
async fn what_was_not_taken_is_sent_by_the_next_process_and_only_there() {
    let stage = Stage::new();
    std::fs::write(stage.path("good.open"), "").unwrap();
    let channels = [stage.channel("good"), stage.channel("bad")];
    let config = stage.config(&channels, &["web"]);
    let daemon = stage.open(&config).await;
    let notifier = Notifier::start(Arc::clone(&daemon.shared));
    fail(&daemon.shared, "web").await;
    stage
        .until(|| !stage.given("good").is_empty() && !stage.given("bad").is_empty())
        .await;
    notifier.stop().await;
    assert_eq!(outbox(&daemon.shared, "web").await, 1);
    std::fs::write(stage.path("bad.open"), "").unwrap();
    let before = stage.given("bad").len();
    let notifier = Notifier::start(Arc::clone(&daemon.shared));
    stage.until(|| stage.given("bad").len() > before).await;
    notifier.stop().await;
    assert_eq!(outbox(&daemon.shared, "web").await, 0);
    let ids: BTreeSet<String> = [stage.given("good"), stage.given("bad")]
        .concat()
        .into_iter()
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(stage.given("good").len(), 1);
}

#[tokio::test]
async fn a_channel_that_is_put_right_gets_what_waited_for_it() {
    let stage = Stage::new();
    let wrong = stage.config(&[stage.channel("wrong")], &["web", "gone"]);
    let mut daemon = stage.open(&wrong).await;
    let notifier = Notifier::start(Arc::clone(&daemon.shared));
    fail(&daemon.shared, "web").await;
    fail(&daemon.shared, "gone").await;
    stage
        .until(|| !daemon.shared.notices.all().is_empty())
        .await;
    std::fs::write(stage.path("right.open"), "").unwrap();
    let right = stage.config(&[stage.channel("right")], &["web"]);
    daemon.reload(right).await.unwrap();
    notifier.reload(Arc::clone(&daemon.shared));
    stage.until(|| !stage.given("right").is_empty()).await;
    notifier.stop().await;
    let given = stage.given("right");
    assert!(
        given.len() == 1 && given[0].starts_with("web.failure."),
        "{given:?}"
    );
    assert_eq!(outbox(&daemon.shared, "web").await, 0);
    assert_eq!(outbox(&daemon.shared, "gone").await, 0);
    assert!(daemon.shared.notices.all().is_empty());
}

/// At the start and after a reload.
#[tokio::test]
async fn ten_thousand_certificates_are_looked_at_and_then_left_alone() {
    let stage = Stage::new();
    let names: Vec<String> = (0..10_000).map(|n| format!("c{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let daemon = stage
        .open(&stage.config(&[stage.channel("x")], &names))
        .await;
    let stop = CancellationToken::new();
    let mut watch = Watch::new(Arc::clone(&daemon.shared), Rounds::default(), stop.clone());
    let system = Clock::system();
    watch.take_over().await;
    let took = system.elapsed();
    println!("10,000 certificates: {took:?}");
    assert_eq!(watch.looks.wake(), None);
    stop.cancel();
}

#[test]
fn a_channel_forgets_what_was_given_up_and_nothing_else() {
    let name = CertificateName::parse("web").unwrap();
    let outgoing = |second, left_out| Outgoing {
        alert: Alert {
            left_out,
            ..alert("web", Event::Failure, second)
        },
        sent: BTreeSet::new(),
    };
    let (tell, mut told) = unbounded_channel();
    let id = |certificate, second| alert(certificate, Event::Failure, second).id;
    let mut sending = Sending {
        settings: AlertChannel::Command(Vec::new()),
        tell,
        stop: CancellationToken::new(),
        handed: [id("web", 1), id("web", 2), id("web-2", 1), id("we", 1)].into(),
    };
    sending.give_up(&name, &[outgoing(2, 0)]);
    assert!(told.try_recv().is_err(), "nothing was given up");
    sending.give_up(&name, &[outgoing(2, 1), outgoing(3, 0)]);
    let Ok(Told::GiveUp { ids, first }) = told.try_recv() else {
        panic!("the channel is told");
    };
    assert_eq!(ids, [id("web", 1)].into());
    assert_eq!((first.id, first.left_out), (id("web", 2), 1));
    let kept = [id("web", 2), id("web-2", 1), id("we", 1)];
    assert_eq!(sending.handed, kept.into());
    sending.give_up(&name, &[outgoing(2, 1), outgoing(3, 0)]);
    assert!(told.try_recv().is_err(), "it is told once");
}
