//! What the daemon logs: a line a thing at `info`, everything that is asked of others at `trace`, each line with the
//! certificate that it is for; and no line that somebody else wrote.

use std::time::Duration;

use countersign_testca::{Kind, Problem, Settings};
use serde_json::Value;

use crate::authority::Scene;
use crate::issuance::Host;
use crate::support::command::Running;
use crate::support::dns;
use crate::support::process::eventually;

const WITHIN: Duration = Duration::from_secs(20);

const CERTIFICATES: &str = "  web:
    names: [a.example.test, b.example.test]
    deliver: [{files: {directory: \"{dir}/out\"}, reload: [\"true\"]}]
";

fn scene(log: &str, settings: impl FnOnce(Settings) -> Settings) -> Scene {
    let grants: String = ["a", "b"]
        .iter()
        .map(|name| format!("grant acme name _acme-challenge.{name}.example.test TXT; "))
        .collect();
    let host = Host::start("_acme-challenge 120 TXT foreign\n", &grants);
    let settings = settings(Settings::asking(host.addr()));
    let scene = Scene::with(host, settings, CERTIFICATES);
    scene.set_log(log);
    scene
}

impl Scene {
    /// The configuration begins with `log: …` from now on.
    fn set_log(&self, log: &str) {
        let text = std::fs::read_to_string(self.program.config()).unwrap();
        let rest: String = text
            .lines()
            .filter(|line| !line.starts_with("log:"))
            .map(|line| format!("{line}\n"))
            .collect();
        self.program.configure(&format!("log: {log}\n{rest}"));
    }
}

/// Ends the daemon, and all that it logged.
fn logged(daemon: Running) -> Vec<String> {
    daemon.terminate();
    let ended = daemon.finish().expect_code(0);
    ended.stderr.lines().map(str::to_owned).collect()
}

/// The lines without their times.
fn said(lines: &[String]) -> Vec<&str> {
    let said = lines.iter().map(|line| {
        let (time, rest) = line.split_once(' ').expect(line);
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        rest.trim_start()
    });
    said.collect()
}

#[test]
fn at_info_there_is_one_readable_line_for_each_thing_that_happens() {
    // So that it is renewed after seconds.
    let scene = scene("{level: info}", |settings| Settings {
        lifetime: Duration::from_secs(21),
        ..settings
    });
    let daemon = scene.program.start(&["run"]);
    let issued = daemon.wait_for("issued by").unwrap();
    daemon.wait_for("delivered to").unwrap();
    daemon.hang_up();
    daemon.wait_for("reloaded: 1 certificate").unwrap();
    daemon.wait_for("renewed by").unwrap();
    daemon.wait_for("delivered to").unwrap();
    let lines = logged(daemon);
    let said = said(&lines);
    let state = scene.program.path("state").display().to_string();
    let out = scene.program.path("out").display().to_string();
    let authority = issued.split("issued by ").nth(1).unwrap();
    let authority = authority.split(':').next().unwrap();
    let web = |attempt: u32, line: &str| {
        format!("INFO work{{certificate=web attempt={attempt}}}: {line}")
    };
    let beginnings = [
        format!("INFO ready: 1 certificate, state in {state}"),
        web(
            1,
            &format!("issued by {authority}: a.example.test, b.example.test; valid until "),
        ),
        web(1, &format!("delivered to files:{out}, and reloaded")),
        "INFO reloaded: 1 certificate".to_owned(),
        web(
            2,
            &format!("renewed by {authority}: a.example.test, b.example.test; valid until "),
        ),
        web(2, &format!("delivered to files:{out}, and reloaded")),
        "INFO stopping: ".to_owned(),
        "INFO stopped".to_owned(),
    ];
    assert_eq!(said.len(), beginnings.len(), "{said:#?}");
    for (line, beginning) in said.iter().zip(&beginnings) {
        assert!(line.starts_with(beginning), "{line}\nwanted {beginning}");
    }
}

#[test]
fn a_failure_is_one_line_with_whose_move_it_is_and_when_it_is_tried_again() {
    let scene = scene("{level: info}", |settings| settings);
    // The key is wrong: the DNS host refuses.
    std::fs::write(scene.program.path("tsig"), "d3Jvbmc=").unwrap();
    let daemon = scene.program.start(&["run"]);
    let line = daemon.wait_for("failed: ").unwrap();
    assert!(
        line.contains("WARN work{certificate=web}: failed: "),
        "{line}"
    );
    assert!(line.contains("; tried again at 20"), "{line}");
    assert!(line.contains(" whose=\"you\""), "{line}");
    logged(daemon);
}

/// Fields of a JSON line and of the spans around it.
fn field<'l>(line: &'l Value, name: &str) -> &'l str {
    line["fields"][name].as_str().unwrap_or_default()
}

fn of_certificate(line: &Value) -> Option<(&str, u64)> {
    let spans = line["spans"].as_array()?;
    let span = spans.iter().find(|span| span["certificate"] == "web")?;
    Some(("web", span["attempt"].as_u64().unwrap_or_default()))
}

#[test]
fn at_trace_every_request_and_answer_is_there_and_says_for_which_certificate() {
    let scene = scene("{format: json, level: trace}", |settings| settings);
    let daemon = scene.program.start(&["run"]);
    daemon.wait_for("delivered to").unwrap();
    let at = |name: &str| dns::txt(scene.host.addr(), name);
    let is_clean = || at("_acme-challenge.a.example.test").is_empty();
    assert!(eventually(WITHIN, is_clean));
    let lines: Vec<Value> = logged(daemon)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let of = |message: &str| -> Vec<&Value> {
        let found: Vec<&Value> = lines
            .iter()
            .filter(|it| field(it, "message") == message)
            .collect();
        assert!(!found.is_empty(), "no line `{message}`");
        found
    };
    let asked = of("ca request");
    let replies = of("ca reply");
    assert_eq!(asked.len(), replies.len());
    let counted: u64 = scene.authority.requests().values().sum();
    assert_eq!(asked.len() as u64, counted, "the authority saw as many");
    for line in &asked {
        assert!(field(line, "url").starts_with("https://"), "{line}");
        assert!(
            ["GET", "HEAD", "POST"].contains(&field(line, "method")),
            "{line}"
        );
        assert!(of_certificate(line).is_some(), "{line}");
    }
    for line in &replies {
        assert!(line["fields"]["status"].is_u64(), "{line}");
        assert!(line["fields"]["elapsed_ms"].is_f64(), "{line}");
    }
    let finalized = asked
        .iter()
        .find(|line| field(line, "kind") == "finalize")
        .unwrap();
    assert_eq!(of_certificate(finalized), Some(("web", 1)));
    for line in of("a name server answered") {
        for name in ["server", "name", "kind", "code"] {
            assert_ne!(field(line, name), "", "{line}");
        }
        assert_eq!(of_certificate(line), Some(("web", 1)), "{line}");
    }
    let txt = of("a name server answered");
    let shown = |line: &&&Value| field(line, "kind") == "TXT" && field(line, "values").len() == 43;
    assert!(
        txt.iter().filter(shown).count() >= 2,
        "the values are shown"
    );
    let calls = of("provider call");
    assert!(
        field(calls[0], "what").contains("ensure _acme-challenge."),
        "{}",
        calls[0]
    );
    let added = of("a TXT value is to be there");
    assert_eq!(of_certificate(added[0]), Some(("web", 1)));
}

#[test]
fn the_level_changes_with_a_reload_and_the_format_with_a_restart() {
    let scene = scene("{level: warn}", |settings| settings);
    let daemon = scene.program.start(&["run"]);
    let has = || scene.program.path("out/current/cert.pem").exists();
    assert!(eventually(WITHIN, has));
    // What it does by itself is over, and no line of that comes in between.
    let status = || scene.program.run(&["status", "--json"]).stdout;
    assert!(eventually(WITHIN, || status().contains(r#""activity": "idle""#)));
    scene.set_log("{level: trace}");
    daemon.hang_up();
    let first = daemon.next_line().unwrap();
    assert!(first.contains("INFO reloaded: "), "{first}");
    daemon.wait_for("TRACE").unwrap();
    scene.set_log("{level: warn, format: json}");
    daemon.hang_up();
    let told = daemon.wait_for("takes a restart").unwrap();
    assert!(
        told.contains("WARN") && told.contains("`log.format`"),
        "{told}"
    );
    daemon.terminate();
    // It is quiet again.
    assert_eq!(daemon.next_line(), None);
    daemon.finish().expect_code(0);
}

#[test]
fn the_level_on_the_command_line_goes_before_the_one_of_the_file() {
    let scene = scene("{level: trace}", |settings| settings);
    let daemon = scene.program.start(&["--log", "info", "run"]);
    daemon.wait_for("delivered to").unwrap();
    daemon.hang_up();
    daemon.wait_for("reloaded: ").unwrap();
    let lines = logged(daemon);
    assert!(
        !lines.iter().any(|line| line.contains("TRACE")),
        "{lines:#?}"
    );
}

#[test]
fn what_an_authority_says_cannot_fake_a_line_or_steer_the_terminal() {
    let scene = scene("{level: trace}", |settings| settings);
    let detail = "no\n2026-01-01T00:00:00Z  INFO ready: fake\r\u{1b}[2J\u{9b}31m\u{202e}";
    let problem = Problem::new(Kind::RejectedIdentifier, detail);
    scene.authority.faults().reject_next_orders(&problem, 1);
    let daemon = scene.program.start(&["run"]);
    let line = daemon.wait_for("failed: ").unwrap();
    assert!(line.contains("ready: fake"), "{line}");
    let lines = logged(daemon);
    for line in said(&lines) {
        let steers = |c: char| c.is_control() || c == '\u{202e}';
        assert!(!line.contains(steers), "{line:?}");
        assert!(!line.starts_with("INFO ready: fake"), "{line}");
    }
}
