//! Whatever a plug-in does wrong has its sentence, and harms only itself.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use countersign_providers::ErrorKind;
use countersign_providers::record::{Change, Verb};
use countersign_providers::secret::SecretSource;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::support::golden::golden;

/// What is asked of a hostile plug-in.
#[derive(Clone, Copy)]
enum Ask {
    Zones,
    Observe,
    Apply,
    Settle,
}

use Ask::{Apply, Observe, Settle, Zones};

/// Every way to do wrong that ends with an error, and whether the plug-in goes on after it.
const CASES: [(&str, Ask, bool); 45] = [
    ("garbage", Zones, false),
    ("not-utf-8", Zones, false),
    ("deep", Zones, false),
    ("list", Zones, false),
    ("result-of-a-list", Zones, false),
    ("batch", Zones, false),
    ("version-1-of-json-rpc", Zones, false),
    ("no-id", Zones, false),
    ("text-id", Zones, false),
    ("wrong-id", Zones, false),
    ("null", Zones, false),
    ("both", Zones, false),
    ("flood", Zones, false),
    ("endless-line", Zones, false),
    ("ends", Zones, false),
    ("killed", Zones, false),
    ("dies-mid-line", Zones, false),
    ("closes-its-output", Zones, false),
    ("ends-at-once", Zones, false),
    ("other-version", Zones, false),
    ("no-version", Zones, false),
    ("bad-model", Zones, false),
    ("no-slots", Zones, false),
    ("bad-batch", Zones, false),
    ("bad-propagation", Zones, false),
    ("bad-rate", Zones, false),
    ("refuses-to-start", Zones, false),
    ("writes-its-secret", Zones, false),
    ("tells-its-secret", Zones, false),
    ("zone-elsewhere", Zones, true),
    ("zone-below", Zones, true),
    ("zone-no-name", Zones, true),
    ("zone-bad-id", Zones, true),
    ("zone-twice", Zones, true),
    ("zones-not-a-list", Zones, true),
    ("name-elsewhere", Observe, true),
    ("name-missing", Observe, true),
    ("name-twice", Observe, true),
    ("no-ttl", Observe, true),
    ("bad-receipt", Apply, true),
    ("bad-settled", Settle, true),
    ("error-without-kind", Zones, true),
    ("error-without-data", Zones, true),
    ("error-unknown-kind", Zones, true),
    ("error-no-method", Zones, true),
];

async fn ask(plugin: &Process, ask: Ask, context: &Context) -> Result<(), ProviderError> {
    let held = zone("example.test");
    let at = name("a.example.test");
    let change = [Change {
        verb: Verb::Ensure,
        name: at.clone(),
        value: "v".to_owned(),
        ttl: 60,
        handle: None,
    }];
    match ask {
        Zones => plugin.zones(&at, context).await.map(drop),
        Observe => plugin.observe(&held, &[at], context).await.map(drop),
        Apply => plugin.apply(&held, &change, &[], context).await.map(drop),
        Settle => plugin.settle("r", context).await.map(drop),
    }
}

const SECRET: &str = "c4n4ry-0123456789";

/// One of the cases with a secret, and with a good plug-in beside it.
async fn wrong(mode: &str, what: Ask, goes_on: bool, clock: &Clock) -> ProviderError {
    let mut hostile = Hostile::new(mode);
    std::fs::write(hostile.path("secret"), SECRET).unwrap();
    let source = SecretSource::File(hostile.path("secret"));
    let secrets = &mut hostile.settings.secrets;
    secrets.insert("token".to_owned(), source);
    let plugin = hostile.plugin();
    let good = Hostile::new("good");
    let good = (good.plugin(), good);
    let context = context(clock);
    let (error, beside) = tokio::join!(ask(&plugin, what, &context), zones(&good.0, &context));
    let error = error.expect_err(mode);
    assert!(beside.is_ok(), "beside {mode}: {beside:?}");
    if goes_on {
        // It did wrong in one answer, and the conversation is still in order.
        let _ = ask(&plugin, Settle, &context).await;
        assert_eq!(hostile.starts(), 1, "{mode}");
    }
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_has_its_sentence_and_harms_only_itself() {
    let clock = Clock::system();
    for (mode, what, goes_on) in CASES {
        let error = wrong(mode, what, goes_on, &clock).await;
        let shown = shown(&error);
        assert!(!shown.contains("c4n4ry"), "{shown}");
        golden(&golden_file(mode), &shown);
    }
}

#[test]
fn every_golden_sentence_has_its_case() {
    let others = ["hang", "never-answers", "never-reads", "twice"];
    let cases = CASES.iter().map(|(mode, ..)| *mode).chain(others);
    let cases: BTreeSet<String> = cases.map(|mode| format!("plugin-{mode}.txt")).collect();
    for entry in std::fs::read_dir(root().join("tests/errors")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !file.starts_with("plugin-") || cases.contains(&file),
            "{file}"
        );
    }
}

fn golden_file(mode: &str) -> PathBuf {
    root().join(format!("tests/errors/plugin-{mode}.txt"))
}

fn shown(error: &ProviderError) -> String {
    let text = format!("{:?}: {}", error.kind, error.message);
    let text = text.replace(&text_of_root(), "DIR");
    let code = error.code.iter().map(|code| format!("  code: {code}\n"));
    let hint = error.hint.iter().map(|hint| format!("  hint: {hint}\n"));
    let more: String = code.chain(hint).collect();
    format!("{text}\n{more}")
}

fn text_of_root() -> String {
    text(&root())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_answer_ends_the_plugin_when_it_comes() {
    let hostile = Hostile::new("twice");
    let plugin = hostile.plugin();
    let (clock, _hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let context = context(&clock);
    // The first answer is as good as any.
    assert!(zones(&plugin, &context).await.is_ok());
    hostile.expect("zones");
    let ended = eventually(SOON, || {
        let pid = hostile.number("start ");
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_err()
    });
    assert!(ended);
    let error = ask(&plugin, Settle, &context).await.unwrap_err();
    golden(&golden_file("twice"), &shown(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_hangs_is_told_that_it_is_late_and_then_killed() {
    for (mode, begun) in [("hang", "zones"), ("never-reads", "start")] {
        let hostile = Hostile::new(mode);
        let plugin = hostile.plugin();
        let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
        let first = context(&clock);
        let late = async {
            let begins = || hostile.diary().iter().any(|it| it.starts_with(begun));
            assert!(eventually(SOON, begins));
            hands.advance(PATIENCE);
        };
        // The plug-in is up before the clock is turned: `begun` is noted after that.
        let asked = zones(&plugin, &first);
        tokio::pin!(asked);
        let error = loop {
            tokio::select! {
                biased;
                done = &mut asked => break done.unwrap_err(),
                () = tokio::task::yield_now() => {
                    if plugin.traits().batch == 100 {
                        break tokio::join!(asked, late).0.unwrap_err();
                    }
                }
            }
        };
        assert_eq!(error.kind, ErrorKind::Transient, "{error}");
        assert!(
            error.message.ends_with("did not answer zones in time"),
            "{error}"
        );
        let pid = hostile.number("start ");
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "not killed yet"
        );
        // Ten seconds of silence, counted from when it was late, by whoever reads.
        let gone = eventually(SOON, || {
            hands.advance(Duration::from_millis(10));
            !Path::new(&format!("/proc/{pid}")).exists()
        });
        assert!(gone, "{mode} lives");
        let error = zones(&plugin, &context(&clock)).await.unwrap_err();
        golden(&golden_file(mode), &shown(&error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_says_much_and_answers_nothing_is_started_anew() {
    const MOST_OPEN: usize = 256;
    let hostile = Hostile::new("never-answers");
    let plugin = Arc::new(hostile.plugin());
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let all: Vec<_> = (0..MOST_OPEN)
        .map(|_| {
            let (plugin, context) = (Arc::clone(&plugin), context(&clock));
            tokio::spawn(async move { zones(&plugin, &context).await })
        })
        .collect();
    let asked = || hostile.diary().iter().filter(|it| *it == "zones").count();
    assert!(eventually(SOON, || asked() == MOST_OPEN));
    hands.advance(PATIENCE);
    for late in all {
        let late = late.await.unwrap().unwrap_err();
        assert!(late.message.ends_with("did not answer zones in time"));
    }
    // It is not silent: time stands still from here.
    let full = zones(&plugin, &context(&clock)).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::Transient);
    assert!(is_gone(hostile.number("start ")));
    let ended = || async { zones(&plugin, &context(&clock)).await.unwrap_err() };
    let mut error = ended().await;
    while error == full {
        tokio::task::yield_now().await;
        error = ended().await;
    }
    golden(&golden_file("never-answers"), &shown(&error));
    hands.advance(Duration::from_secs(1));
    assert!(ask(&plugin, Observe, &context(&clock)).await.is_ok());
    assert_eq!(hostile.starts(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_no_more_has_the_plugin_told_and_the_next_one_is_answered() {
    let hostile = Hostile::new("waits-for-cancel");
    let plugin = hostile.plugin();
    let context = context(&Clock::system());
    assert!(
        plugin
            .observe(&zone("example.test"), &[name("example.test")], &context)
            .await
            .is_ok()
    );
    let mut dropped = Box::pin(zones(&plugin, &context));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    hostile.expect("zones");
    drop(dropped);
    assert!(zones(&plugin, &context).await.is_ok());
    assert!(
        hostile.diary().contains(&"cancel 3".to_owned()),
        "{:?}",
        hostile.diary()
    );
    assert_eq!(hostile.starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_is_waited_for_by_the_next_one_too() {
    let hostile = Hostile::new("slow-start");
    let plugin = hostile.plugin();
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let mut hasty = context(&clock);
    hasty.deadline = later(clock.now(), Duration::from_secs(1));
    let (late, ()) = tokio::join!(zones(&plugin, &hasty), async {
        hands.advance(Duration::from_secs(1));
    });
    let late = late.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Transient);
    assert!(late.message.ends_with("was not ready in time"), "{late}");
    std::fs::write(hostile.path("gate"), "").unwrap();
    assert!(zones(&plugin, &context(&clock)).await.is_ok());
    assert_eq!(hostile.starts(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_ends_again_and_again_is_started_after_longer_and_longer_pauses() {
    let hostile = Hostile::new("ends-at-once");
    let plugin = hostile.plugin();
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    let mut pauses = Vec::new();
    let mut starts = 0;
    let mut waited = 0;
    while pauses.len() < 9 {
        zones(&plugin, &context(&clock)).await.unwrap_err();
        // Another one who needs it at the same time changes nothing.
        zones(&plugin, &context(&clock)).await.unwrap_err();
        if hostile.starts() > starts {
            assert_eq!(hostile.starts(), starts + 1);
            starts += 1;
            pauses.push(waited);
            waited = 0;
        }
        hands.advance(Duration::from_secs(1));
        waited += 1;
    }
    assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_at_work_for_long_is_started_again_soon() {
    let hostile = Hostile::new("ends");
    let plugin = hostile.plugin();
    let (clock, hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    for starts in 1..=4 {
        assert!(ask(&plugin, Observe, &context(&clock)).await.is_ok());
        assert_eq!(hostile.starts(), starts);
        hands.advance(Duration::from_secs(61));
        zones(&plugin, &context(&clock)).await.unwrap_err();
        hands.advance(Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_before_the_end_counts() {
    let hostile = Hostile::new("answers-and-ends");
    let plugin = hostile.plugin();
    let context = context(&Clock::system());
    assert!(zones(&plugin, &context).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_asks_is_answered_with_no_such_method() {
    let hostile = Hostile::new("asks-back");
    let context = context(&Clock::system());
    assert!(zones(&hostile.plugin(), &context).await.is_ok());
    hostile.expect("told mine -32601");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_error_arrives_as_what_it_is() {
    let after = |seconds| ErrorKind::RateLimited {
        after: Some(Duration::from_secs(seconds)),
    };
    let unknown = ErrorKind::RateLimited { after: None };
    let mut sentences = String::new();
    for (data, kind) in [
        (json!({"kind": "auth"}), ErrorKind::Auth),
        (json!({"kind": "permission"}), ErrorKind::Permission),
        (json!({"kind": "zone-missing"}), ErrorKind::ZoneMissing),
        (json!({"kind": "zone-ambiguous"}), ErrorKind::ZoneAmbiguous),
        (json!({"kind": "conflict"}), ErrorKind::Conflict),
        (json!({"kind": "rate-limited"}), unknown),
        (json!({"kind": "rate-limited", "retry_after": 7}), after(7)),
        (json!({"kind": "rate-limited", "retry_after": -7}), unknown),
        (
            json!({"kind": "rate-limited", "retry_after": 1e300}),
            after(3_600),
        ),
        (json!({"kind": "quota"}), ErrorKind::Quota),
        (json!({"kind": "invalid"}), ErrorKind::Invalid),
        (json!({"kind": "transient"}), ErrorKind::Transient),
        (json!({"kind": "unsupported"}), ErrorKind::Unsupported),
        (json!({"kind": "fatal"}), ErrorKind::Fatal),
    ] {
        let mut data = data;
        data["code"] = json!("E\u{1b}7");
        data["hint"] = json!("do\nthis");
        data["partly"] = json!(true);
        data["new"] = json!({"field": "ignored"});
        let config = json!({"data": data, "message": "it\u{202e} failed.\u{1b}[31m"});
        let hostile = Hostile::new("errors").config(config);
        let error = zones(&hostile.plugin(), &context(&Clock::system())).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.ends_with(" says: it failed. [31m"), "{error}");
        assert_eq!(error.code.as_deref(), Some("E 7"));
        assert_eq!(error.hint.as_deref(), Some("do this"));
        assert!(error.partly);
        sentences += &shown(&error);
    }
    golden(&root().join("tests/errors/every-kind.txt"), &sentences);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_named() {
    let plugin = Process::new(settings(&["/no/such/plug-in"], json!({})));
    let error = zones(&plugin, &context(&Clock::system()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fatal);
    let words = "/no/such/plug-in could not be started: No such file or directory (os error 2)";
    assert_eq!(error.message, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_a_line_holds_is_refused_before_it_is_asked() {
    let hostile = Hostile::new("good");
    let plugin = hostile.plugin();
    let context = context(&Clock::system());
    let change = |value: &str| Change {
        verb: Verb::Ensure,
        name: name("a.example.test"),
        value: value.to_owned(),
        ttl: 60,
        handle: None,
    };
    let many = [change(&"x".repeat(1 << 20))];
    let held = zone("example.test");
    let refused = plugin.apply(&held, &many, &[], &context).await;
    // The core splits what is refused so.
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Invalid);
    let few = [change(&"x".repeat(1 << 19))];
    assert!(plugin.apply(&held, &few, &[], &context).await.is_ok());
    assert_eq!(hostile.starts(), 1);
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Takes down everything that this thread logs, which is all that a runtime of one thread does.
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(self.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_flood_of_errors_is_read_and_mostly_not_shown() {
    let log = Log::default();
    let _guard = log.start();
    let hostile = Hostile::new("flood-of-errors");
    let plugin = hostile.plugin();
    let (clock, _hands) = Clock::virtual_at(jiff::Timestamp::UNIX_EPOCH);
    assert!(zones(&plugin, &context(&clock)).await.is_ok());
    let text = log.text();
    let lines = text
        .lines()
        .filter(|line| line.contains("plug-in: "))
        .count();
    assert_eq!(lines, 50, "of 100001");
    assert!(!text.contains('\u{1b}'), "a log is not steered");
    assert!(text.contains("line 0 [31m"));
}

#[tokio::test]
async fn a_secret_goes_through_the_pipe_and_nowhere_else() {
    let log = Log::default();
    let _guard = log.start();
    let clock = Clock::system();
    let mut said = Vec::new();
    for mode in ["tells-its-secret", "writes-its-secret"] {
        said.push(wrong(mode, Zones, false, &clock).await);
    }
    let hostile = with_secret(Hostile::new("good"));
    let plugin = hostile.plugin();
    assert!(zones(&plugin, &context(&clock)).await.is_ok());
    let pid = hostile.number("start ");
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("c4n4ry"), "{file}: {text}");
        if file == "environ" {
            let names = text.split('\0').filter_map(|it| it.split_once('='));
            let names: BTreeSet<&str> = names.map(|it| it.0).collect();
            // The interpreter's own, where it is found through a launcher, come after ours.
            assert!(names.contains("PATH"));
            assert!(!names.iter().any(|it| it.starts_with("CARGO")), "{names:?}");
        }
    }
    let said = format!("{said:?} {:?} {}", hostile.settings, log.text());
    assert!(said.contains("(secret)"), "it was there to be seen");
    assert!(!said.contains("c4n4ry"), "{said}");
}

fn with_secret(mut hostile: Hostile) -> Hostile {
    std::fs::write(hostile.path("secret"), SECRET).unwrap();
    let source = SecretSource::File(hostile.path("secret"));
    hostile.settings.secrets.insert("token".to_owned(), source);
    hostile
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_is_read_anew() {
    let mut hostile = Hostile::new("tells-its-secret");
    hostile = with_secret(hostile);
    let plugin = hostile.plugin();
    let context = context(&Clock::system());
    for starts in 1..=3 {
        let error = zones(&plugin, &context).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Auth);
        assert_eq!(hostile.starts(), starts);
    }
    std::fs::remove_file(hostile.path("secret")).unwrap();
    let error = zones(&plugin, &context).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Auth);
    assert!(error.message.starts_with("the secret token of "), "{error}");
}
