//! Alerts and heartbeat: the real daemon, whose DNS host refuses it until its key is put right.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_testca::Settings;
use rustix::process::Pid;
use serde_json::Value;

use crate::authority::Scene;
use crate::issuance::Host;
use crate::support::command::Running;
use crate::support::mail::{LOGIN, MailServer};
use crate::support::process::eventually;
use crate::support::stepwise::{self, Stepwise};
use crate::support::tls::Identity;
use crate::support::tsig::Key;
use crate::support::webhook::{Answer, Request, Webhook};

const WITHIN: Duration = Duration::from_secs(30);
/// The first two pauses after a message was not taken, and some.
const RETRIED_WITHIN: Duration = Duration::from_secs(60);
/// For what should not happen.
const LONG_ENOUGH: Duration = Duration::from_secs(3);
const ONE: &str =
    "  example: {names: [example.test], deliver: [{files: {directory: \"{dir}/out\"}}]}\n";
/// So many instants between the failure and the end are hit.
const KILLS: usize = 20;

/// A scene whose DNS host refuses, with `alerts` as lines of the configuration.
fn refused(alerts: &str) -> Scene {
    let host = Host::usual();
    let settings = Settings::asking(host.addr());
    let scene = Scene::with(host, settings, ONE);
    let text = std::fs::read_to_string(scene.program.config()).unwrap();
    scene.program.configure(&format!("{alerts}\n{text}"));
    spoil(&scene);
    scene
}

/// From now on the DNS host refuses.
fn spoil(scene: &Scene) {
    let wrong = Key::new("acme", "hmac-sha256", 9);
    std::fs::write(scene.program.path("tsig"), &wrong.secret).unwrap();
}

/// The DNS host takes it again, and the certificate comes.
fn mend(scene: &Scene) {
    std::fs::write(scene.program.path("tsig"), &scene.host.key.secret).unwrap();
    scene.program.run(&["renew"]).expect_code(0);
}

fn start(scene: &Scene) -> Running {
    let daemon = scene.program.start(&["run"]);
    daemon.wait_for("ready: ").unwrap();
    daemon
}

fn ends(daemon: Running) -> String {
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended.stderr
}

fn events(taken: &[Request]) -> Vec<String> {
    let bodies = taken.iter().map(Request::json);
    bodies
        .map(|body| body["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_failure_and_its_recovery_are_told_once_each_by_every_template_and_by_a_command() {
    let hook = Webhook::start();
    let scene = refused(&format!(
        "alerts:
  - webhook: {json}
  - webhook: {{url: {{file: \"{{dir}}/slack.url\"}}, template: slack}}
  - webhook: {{url: {ntfy}, template: ntfy}}
  - webhook: {{url: {text}, template: text}}
  - command: [sh, -c, 'cat >> \"$0\"; env >> \"$0\"', \"{{dir}}/told\"]
",
        json = hook.url("/json"),
        ntfy = hook.url("/ntfy"),
        text = hook.url("/text"),
    ));
    let secret = hook.url("/slack/hunter2?key=hunter2");
    std::fs::write(scene.program.path("slack.url"), format!("{secret}\n")).unwrap();
    let daemon = scene.program.start(&["--log", "trace", "run"]);
    let paths = ["/json", "/slack/hunter2?key=hunter2", "/ntfy", "/text"];
    let all_have = |many| paths.iter().all(|path| hook.taken(path).len() == many);
    assert!(eventually(WITHIN, || all_have(1)));

    let failure = hook.taken("/json").remove(0);
    assert_eq!(failure.method, "POST");
    assert_eq!(failure.header("content-type"), Some("application/json"));
    let body = failure.json();
    for (key, value) in [
        ("schema", Value::from(1)),
        ("event", "failure".into()),
        ("certificate", "example".into()),
        ("names", vec!["example.test"].into()),
        ("whose", "you".into()),
        ("not_after", Value::Null),
    ] {
        assert_eq!(body[key], value, "{body}");
    }
    let sentence = body["sentence"].as_str().unwrap();
    assert!(sentence.contains("provider office"), "{sentence}");
    let retry_at = body["retry_at"].as_str().unwrap();
    assert!(
        retry_at.ends_with('Z') && retry_at.len() == 20,
        "{retry_at}"
    );

    mend(&scene);
    daemon.hang_up();
    assert!(eventually(WITHIN, || all_have(2)));
    let log = ends(daemon);
    assert!(!log.contains("hunter2"), "a secret URL is in the log");
    assert_eq!(events(&hook.taken("/json")), ["failure", "recovery"]);
    assert!(all_have(2));
    let recovery = hook.taken("/json").remove(1).json();
    assert_eq!(recovery["whose"], Value::Null);
    assert!(recovery["not_after"].is_string(), "{recovery}");
    let slack = hook.taken(paths[1]).remove(0).json();
    assert!(
        slack["text"]
            .as_str()
            .unwrap()
            .contains("example needs you"),
        "{slack}"
    );
    let ntfy = hook.taken("/ntfy").remove(0);
    assert_eq!(ntfy.header("title"), Some("countersign: example needs you"));
    assert_eq!(ntfy.header("priority"), Some("4"));
    let text = hook.taken("/text").remove(0).body;
    assert!(text.contains("countersign status example"), "{text}");

    let told = std::fs::read_to_string(scene.program.path("told")).unwrap();
    for wanted in [
        "The certificate example needs you.",
        "Whose move: yours",
        "COUNTERSIGN_EVENT=failure",
        "COUNTERSIGN_EVENT=recovery",
        "COUNTERSIGN_CERTIFICATE=example",
        "COUNTERSIGN_NAMES=example.test",
    ] {
        assert_eq!(told.matches(wanted).count().min(1), 1, "{wanted}\n{told}");
    }
    assert_eq!(
        told.matches("COUNTERSIGN_EVENT=failure").count(),
        1,
        "{told}"
    );

    // All of it was noted: the next life has nothing to say.
    hook.forget();
    let daemon = start(&scene);
    assert!(!eventually(LONG_ENOUGH, || !all_have(0)));
    ends(daemon);
}

#[test]
fn channels_that_are_down_or_slow_delay_nobody_and_get_their_alert_once_when_they_are_back() {
    let (good, down, mute) = (Webhook::start(), Webhook::start(), Webhook::start());
    down.answer(Answer::Status(500));
    mute.answer(Answer::Nothing);
    let alerts = [&down, &mute, &good].map(|hook| format!("  - webhook: {}\n", hook.url("/")));
    let scene = refused(&format!("alerts:\n{}", alerts.concat()));
    let daemon = start(&scene);
    assert!(eventually(WITHIN, || good.taken("/").len() == 1));
    let said = || scene.program.run(&["status"]).expect_code(0).stdout;
    let heard = eventually(WITHIN, || {
        said().contains("alerts do not reach the webhook 127.0.0.1: it answered 500")
    });
    assert!(heard, "{}", said());
    // The certificate comes while two of its alerts wait.
    mend(&scene);
    assert!(scene.program.path("out/fullchain.pem").exists());
    assert!(eventually(WITHIN, || good.taken("/").len() == 2));
    down.answer(Answer::Status(204));
    mute.answer(Answer::Status(200));
    for hook in [&down, &mute] {
        assert!(eventually(RETRIED_WITHIN, || hook.taken("/").len() == 2));
        assert_eq!(events(&hook.taken("/")), ["failure", "recovery"]);
    }
    assert!(eventually(WITHIN, || !said().contains("alerts do not reach")));
    ends(daemon);
    assert!(
        [&good, &down, &mute]
            .iter()
            .all(|hook| hook.taken("/").len() == 2)
    );
}

#[test]
fn https_is_trusted_by_the_systems_roots_and_nothing_is_followed_elsewhere() {
    let (known, unknown) = (Identity::loopback(), Identity::loopback());
    let (good, strange) = (Webhook::https(&known), Webhook::https(&unknown));
    let away = Webhook::start();
    away.answer(Answer::Status(302));
    let alerts = [&good, &strange, &away].map(|hook| format!("  - webhook: {}\n", hook.url("/")));
    let mut scene = refused(&format!("alerts:\n{}", alerts.concat()));
    let roots = scene.program.path("roots.pem");
    std::fs::write(&roots, &known.root).unwrap();
    scene.program = (scene.program).env("SSL_CERT_FILE", &roots.to_string_lossy());
    let daemon = start(&scene);
    assert!(eventually(WITHIN, || good.taken("/").len() == 1));
    let said = || scene.program.run(&["status"]).expect_code(0).stdout;
    for wanted in ["invalid peer certificate: ", "it answered 302"] {
        assert!(eventually(WITHIN, || said().contains(wanted)), "{}", said());
    }
    ends(daemon);
    assert!(away.taken("/elsewhere").is_empty() && strange.taken("/").is_empty());
}

/// What a mail must be, whoever reads it.
fn expect_mail(mail: &Value, subject: &str) {
    let header = |name: &str| {
        let headers = mail["headers"].as_array().unwrap();
        let found: Vec<&str> = headers
            .iter()
            .filter(|it| it[0].as_str().unwrap().eq_ignore_ascii_case(name))
            .map(|it| it[1].as_str().unwrap())
            .collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0].to_owned()
    };
    assert_eq!(mail["defects"], Value::Array(vec![]));
    assert_eq!(mail["from"], "cs@example.test");
    assert_eq!(mail["to"], mail["recipients"]);
    assert_eq!(mail["to"].as_array().unwrap().len(), 2);
    assert_eq!(mail["type"], "text/plain");
    assert_eq!(header("Subject"), subject);
    assert_eq!(header("Auto-Submitted"), "auto-generated");
    assert!(header("Message-ID").ends_with("@example.test>"));
    assert!(mail["date"].as_str().unwrap().starts_with("20"));
    let text = mail["text"].as_str().unwrap();
    assert!(text.contains("countersign status example"), "{text}");
}

#[test]
fn a_mail_server_that_wants_starttls_and_a_login_gets_both() {
    let server = MailServer::with_starttls_and_login();
    let scene = refused(&format!(
        "alerts: [{{smtp: {{server: \"{}\", from: cs@example.test, to: [a@example.test, b@example.test], username: {}, password: {{file: \"{{dir}}/password\"}}, trust: {}}}}}]",
        server.server(),
        LOGIN.0,
        server.root().display(),
    ));
    // The password is read at each use: a wrong one is put right without a reload.
    std::fs::write(scene.program.path("password"), "wrong").unwrap();
    let daemon = start(&scene);
    let said = || scene.program.run(&["status"]).expect_code(0).stdout;
    assert!(eventually(WITHIN, || said()
        .contains("alerts do not reach the mail server")));
    assert!(!said().contains("wrong"), "{}", said());
    assert!(server.taken().is_empty());
    std::fs::write(scene.program.path("password"), format!("{}\n", LOGIN.1)).unwrap();
    assert!(eventually(RETRIED_WITHIN, || server.taken().len() == 1));
    mend(&scene);
    assert!(eventually(WITHIN, || server.taken().len() == 2));
    ends(daemon);
    let mails = server.taken();
    for mail in &mails {
        assert_eq!((&mail["tls"], &mail["login"]), (&true.into(), &true.into()));
    }
    expect_mail(&mails[0], "countersign: example needs you");
    expect_mail(&mails[1], "countersign: example is well again");
}

#[test]
fn a_mail_server_on_this_machine_is_told_in_the_clear() {
    let server = MailServer::plain();
    let scene = refused(&format!(
        "alerts: [{{smtp: {{server: \"{}\", from: cs@example.test, to: [a@example.test, b@example.test]}}}}]",
        server.server(),
    ));
    let daemon = start(&scene);
    assert!(eventually(WITHIN, || server.taken().len() == 1));
    ends(daemon);
    let mails = server.taken();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0]["tls"], false);
    expect_mail(&mails[0], "countersign: example needs you");
}

#[test]
fn the_heartbeat_is_called_while_all_is_well_and_not_while_something_fails() {
    let hook = Webhook::start();
    let alerts = format!(
        "alerts: [{{webhook: {}}}]\nheartbeat: {}",
        hook.url("/alert"),
        hook.url("/beat")
    );
    let scene = refused(&alerts);
    let beats = || hook.taken("/beat").len();
    let daemon = start(&scene);
    assert!(eventually(WITHIN, || hook.taken("/alert").len() == 1));
    daemon.kill();
    // The next life finds the failure at once.
    let before = beats();
    let daemon = start(&scene);
    assert!(!eventually(LONG_ENOUGH, || beats() != before));
    mend(&scene);
    assert!(eventually(WITHIN, || beats() > before));
    ends(daemon);
    let before = beats();
    let daemon = start(&scene);
    assert!(eventually(WITHIN, || beats() > before));
    ends(daemon);
    let beat = hook.taken("/beat").remove(0);
    assert_eq!((beat.method.as_str(), beat.body.as_str()), ("GET", ""));
}

#[test]
fn what_was_taken_out_of_the_configuration_is_not_told_any_more() {
    let hook = Webhook::start();
    hook.answer(Answer::Status(500));
    let scene = refused(&format!("alerts: [{{webhook: {}}}]", hook.url("/")));
    let daemon = start(&scene);
    let said = || scene.program.run(&["status"]).expect_code(0).stdout;
    assert!(eventually(WITHIN, || said().contains("alerts do not reach")));
    let text = std::fs::read_to_string(scene.program.config()).unwrap();
    scene
        .program
        .configure(&text.replace("  example:", "  other:"));
    daemon.hang_up();
    daemon.wait_for("reloaded: ").unwrap();
    hook.answer(Answer::Status(200));
    // The other one fails, too.
    assert!(eventually(RETRIED_WITHIN, || !hook.taken("/").is_empty()));
    let certificates = hook.taken("/");
    let certificates = certificates.iter().map(Request::json);
    let certificates: Vec<Value> = certificates.map(|it| it["certificate"].clone()).collect();
    assert_eq!(certificates, ["other"]);
    ends(daemon);
}

/// One life until the alert is noted as taken, or it is killed after the line number `kill`; the lines it logged, and
/// whether it was killed.
fn life(scene: &Scene, hook: &Webhook, kill: Kill) -> (Vec<String>, bool) {
    let program = Stepwise::start(scene.program.command(&["--log", "trace", "run"]));
    let pid = program.pid();
    let victim: Arc<Mutex<Option<Pid>>> = Arc::new(Mutex::new(None));
    if let Kill::AtTheWebhook = kill {
        *victim.lock().unwrap() = Some(pid);
    }
    let seen = Arc::clone(&victim);
    hook.on_request(move || {
        if let Some(pid) = seen.lock().unwrap().take() {
            stepwise::kill(pid);
        }
    });
    let mut lines: Vec<String> = Vec::new();
    let ended = program.run(|line| {
        lines.push(line.to_owned());
        if matches!(kill, Kill::After(nth) if lines.len() == nth) {
            stepwise::kill(pid);
        }
        if line.contains("alert taken") {
            stepwise::terminate(pid);
        }
    });
    hook.on_request(|| {});
    (lines, ended.was_killed())
}

#[derive(Clone, Copy, Debug)]
enum Kill {
    Never,
    After(usize),
    AtTheWebhook,
}

#[test]
fn whatever_the_instant_of_a_kill_an_alert_comes_once_or_twice_and_never_not_at_all() {
    let hook = Webhook::start();
    let scene = refused(&format!("alerts: [{{webhook: {}}}]", hook.url("/")));
    let (lines, _) = life(&scene, &hook, Kill::Never);
    assert_eq!(hook.taken("/").len(), 1, "{}", lines.join("\n"));
    let first = lines.iter().position(|line| line.contains("BADSIG"));
    let first = first.expect("a refusal in the log");
    let many = lines.len() - first;
    let mut kills: Vec<Kill> = (0..KILLS)
        .map(|nth| Kill::After(first + 1 + nth * many / KILLS))
        .collect();
    kills.extend([Kill::AtTheWebhook; 2]);
    let (mut killed, mut twice) = (0, 0);
    for kill in kills {
        std::fs::remove_dir_all(scene.program.path("state")).unwrap();
        hook.forget();
        let (lines, was_killed) = life(&scene, &hook, kill);
        killed += usize::from(was_killed);
        let daemon = start(&scene);
        // Whoever dies before the answer cannot know that it was taken.
        let wanted = 1 + usize::from(was_killed && matches!(kill, Kill::AtTheWebhook));
        let came = eventually(WITHIN, || hook.taken("/").len() >= wanted);
        assert!(came, "{kill:?}: never came\n{}", lines.join("\n"));
        ends(daemon);
        let taken = hook.taken("/");
        let ids: BTreeSet<String> = taken.iter().map(|it| it.json()["id"].to_string()).collect();
        assert!(taken.len() <= 2 && ids.len() == 1, "{kill:?}: {taken:?}");
        twice += usize::from(taken.len() == 2);
        // Nothing more comes of it.
        hook.forget();
        let daemon = start(&scene);
        ends(daemon);
        let more = hook.taken("/").len();
        assert!(
            more <= usize::from(taken.len() == 1),
            "{kill:?}: {more} more"
        );
    }
    println!("{killed} kills, {twice} alerts came twice");
    assert!(killed > KILLS / 2, "{killed}");
    assert!(
        twice > 0,
        "nothing was hit between the request and its note"
    );
}
