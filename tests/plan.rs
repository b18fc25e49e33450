//! `plan`, and tables of very many certificates.

use serde_json::Value;

use crate::cli::{Lab, is_time, keys};
use crate::screens::picture;
use crate::support::command::Countersign;

/// Ten thousand certificates that nobody asked for yet.
fn many(number: usize) -> Countersign {
    let certificates: String = (0..number)
        .map(|nth| format!("  c{nth}: {{names: [n{nth}.example]}}\n"))
        .collect();
    Countersign::new(&format!(
        "state: state
authorities: {{letsencrypt: {{agree-to-terms: true}}}}
nameserver: {{zone: acme.test, listen: ['127.0.0.1:5353'], hosts: {{ns1.acme.test: [127.0.0.1]}}}}
certificates:
{certificates}"
    ))
}

fn plan(program: &Countersign) -> Value {
    let plan = program.run(&["plan", "--json"]).expect_code(0);
    serde_json::from_str(&plan.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_happens_when_and_what_binds() {
    let both = "  web: {names: [web.test]}\n  bad: {names: [bad.example]}\n";
    let lab = Lab::start(both).await;
    let before = plan(&lab.program);
    assert_eq!(keys(&before), ["events", "now", "schema", "until"]);
    assert_eq!(before["schema"], 1);
    is_time(&before["now"]);
    is_time(&before["until"]);
    let first = before["events"].as_array().unwrap();
    assert_eq!(first.len(), 2);
    for event in first {
        assert_eq!(
            keys(event),
            [
                "action",
                "at",
                "authority",
                "bound_by",
                "certificate",
                "reason",
                "repeats"
            ]
        );
        assert_eq!(event["action"], "issue");
        assert_eq!(event["authority"], "lab");
        assert_eq!(event["reason"], "not issued yet");
        assert_eq!(event["bound_by"], Value::Null);
    }
    assert!(
        !lab.program.path("state").exists(),
        "looking makes no store"
    );

    lab.program.run(&["renew"]).expect_code(1);
    let after = plan(&lab.program);
    let events = after["events"].as_array().unwrap();
    assert_eq!(
        events.len(),
        1,
        "the renewal of the other is far: {after:#}"
    );
    assert_eq!(events[0]["certificate"], "bad");
    assert_eq!(events[0]["action"], "retry");
    assert_eq!(events[0]["bound_by"]["limit"], "back-off");
    is_time(&events[0]["at"]);
    assert!(events[0]["at"].as_str() > after["now"].as_str());
    let again = plan(&lab.program);
    assert_eq!(again["events"], after["events"], "it touches nothing");
}

#[test]
fn thousands_fit_on_one_screen_and_go_whole_into_a_pipe() {
    let program = many(10_000);
    for (command, more) in [("status", "fine"), ("plan", "until")] {
        let seen = picture(&program, command, 80, 30, false);
        assert!(seen.lines().count() <= 30, "{seen}");
        assert!(seen.contains("and 9,9"), "{seen}");
        assert!(seen.contains(more), "{seen}");
    }
    let status = program.run(&["status"]).expect_code(0);
    assert_eq!(status.stdout.lines().count(), 10_001);
    let plan = program.run(&["plan"]).expect_code(0);
    assert!(plan.stdout.lines().count() < 60, "{}", plan.stdout);
    assert!(
        plan.stdout.contains("and 9,950 more until"),
        "{}",
        plan.stdout
    );
    let json = self::plan(&program);
    let events = json["events"].as_array().unwrap();
    assert_eq!(events.len(), 10_000);
    let waiting = events
        .iter()
        .filter(|it| it["bound_by"]["limit"] == "seats");
    assert_eq!(waiting.count(), 10_000 - 32);
    let status = program.run(&["status", "--json"]).expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let names: Vec<&str> = status["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert!(names.is_sorted(), "programs find them by name");
}

#[test]
fn the_manual_page_and_completions_need_no_configuration() {
    let program = Countersign::new("");
    std::fs::remove_file(program.config()).unwrap();
    for (shell, judge) in [
        ("bash", Some(["/usr/bin/bash", "-n"])),
        ("zsh", None),
        ("fish", None),
        ("elvish", None),
        ("powershell", None),
    ] {
        let script = program.run(&["completions", shell]).expect_code(0).stdout;
        for word in ["renew", "status", "plan", "exit-code"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
        if let Some([judge, option]) = judge {
            let file = program.path("completions");
            std::fs::write(&file, &script).unwrap();
            said_nothing(judge, &[option, &file.to_string_lossy()]);
        }
    }
    program.run(&["completions", "tcsh"]).expect_code(2);

    let page = program.run(&["man"]).expect_code(0).stdout;
    for word in [
        ".TH countersign 8",
        ".SH COMMANDS",
        ".SH \"EXIT STATUS\"",
        ".SH FILES",
        ".SH ENVIRONMENT",
        "COUNTERSIGN_CONFIG",
        "completions",
        "history",
        "\\-\\-force",
        "\\-\\-exit\\-code",
        "\\-\\-json",
    ] {
        assert!(page.contains(word), "{word}\n{page}");
    }
    let file = program.path("countersign.8");
    std::fs::write(&file, &page).unwrap();
    let groff = "/usr/bin/groff";
    if std::path::Path::new(groff).exists() {
        let file = file.to_string_lossy();
        said_nothing(groff, &["-ww", "-man", "-Tutf8", "-z", &file]);
    }
}

/// Runs a judge of files, which has nothing to say.
fn said_nothing(judge: &str, arguments: &[&str]) {
    let mut judge = crate::support::process::guarded(std::path::Path::new(judge));
    let output = judge.args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "");
}
