//! What the kit says where it does not come to its cases, or not to their end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{broken, configure, ours, script, text};
use crate::support::command::{Countersign, Finished};
use crate::support::golden::root;
use crate::support::process::eventually;

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// A program that tells who it is in a file, and then neither answers nor ends.
fn hangs(program: &Countersign) -> (PathBuf, PathBuf) {
    let pid = program.path("pid");
    let lines = format!(
        "#!/bin/sh\ntrap '' TERM\necho $$ >{}.new\nmv {0}.new {0}\nwhile :; do sleep 600; done\n",
        pid.display()
    );
    (script(program, "hangs.sh", &lines), pid)
}

fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |it| it.contains(") Z "))
}

#[test]
fn one_that_hangs_is_told_of_and_ends_with_the_first_ctrl_c() {
    let program = Countersign::new("");
    let directory = program.path("temporary");
    std::fs::create_dir(&directory).unwrap();
    let program = program.env("TMPDIR", directory.to_str().unwrap());
    let (hangs, pid) = hangs(&program);
    for json in [&["--json"][..], &[]] {
        let _ = std::fs::remove_file(&pid);
        let arguments = [&["plugin", "test", hangs.to_str().unwrap()], json].concat();
        let running = program.start(&arguments);
        let told = running.wait_for("waiting for");
        assert!(told.is_some_and(|it| it.contains("hangs.sh to start and answer")));
        running.interrupt();
        let finished = running.finish().expect_code(1);
        let sentence = "stopped before the first case; nothing was written";
        assert!(finished.stderr.contains(sentence), "{finished:?}");
        if json.is_empty() {
            assert_eq!(finished.stdout, "");
        } else {
            let document = document(&finished);
            assert_eq!(document["failed"], 1);
            assert_eq!(document["cases"][0]["seen"], sentence);
        }
        let pid = std::fs::read_to_string(&pid).unwrap();
        let ended = eventually(Duration::from_secs(10), || is_gone(pid.trim()));
        assert!(ended, "the program {pid} still runs");
        let left: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_program_that_dies_at_once_has_a_document_too() {
    let program = Countersign::new("");
    let dies = script(
        &program,
        "dies.sh",
        "#!/bin/sh\necho no library here >&2\nexit 3\n",
    );
    let finished = program
        .run(&["plugin", "test", "--json", dies.to_str().unwrap()])
        .expect_code(1);
    let document = document(&finished);
    assert_eq!(document["cases"][0]["id"], "begin");
    assert_eq!(document["model"], Value::Null);
    let seen = document["cases"][0]["seen"].as_str().unwrap();
    assert!(seen.contains("no library here"), "{seen}");
}

/// Stopped with Ctrl-C as soon as the file of the plug-in has something in it.
fn stopped(program: &Countersign, file: &Path, twice: bool) -> Finished {
    let running = program.start(&["plugin", "test", "ours", "--live", "example.test", "--json"]);
    let begun = eventually(Duration::from_secs(60), || {
        std::fs::read_to_string(file).is_ok_and(|it| !it.is_empty())
    });
    assert!(begun, "nothing is written");
    running.interrupt();
    if twice {
        running.terminate();
    }
    running.finish().expect_code(1)
}

#[test]
fn the_document_of_one_that_was_stopped_has_all_cases() {
    let program = Countersign::new("");
    let file = ours(&program);
    let document = document(&stopped(&program, &file, false));
    let cases = document["cases"].as_array().unwrap();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let last = cases.last().unwrap();
    assert_eq!(last["id"], "nothing-left");
    assert_eq!(last["result"], "skipped");
    assert_eq!(last["seen"], "stopped before its end");
    assert!(cases.iter().any(|it| it["result"] == "passed"));
}

#[test]
fn one_that_was_stopped_at_once_says_how_its_names_are_found() {
    let program = Countersign::new("");
    let file = ours(&program);
    let finished = stopped(&program, &file, true);
    let told = "what the cases wrote may be left behind, at names that end with cs-";
    assert!(finished.stderr.contains(told), "{finished:?}");
    let (_, mark) = finished.stderr.split_once("that end with ").unwrap();
    let mark = mark.trim();
    assert!(mark.ends_with(".example.test"), "{mark}");
    let left = std::fs::read_to_string(&file).unwrap();
    assert!(left.lines().all(|it| it.contains(mark)), "{mark}: {left}");
}

#[test]
fn what_cannot_be_tried_is_said_once_and_truly() {
    let program = Countersign::new("");
    let file = program.path("plain");
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let plain = text(file);
    let lost = script(&program, "lost", "#!/no/such/interpreter\n");
    let lost = text(lost);
    let stderr = |program: &Countersign, arguments: &[&str]| {
        let arguments = [&["plugin", "test"], arguments].concat();
        let finished = program.run(&arguments).expect_code(2);
        assert_eq!(finished.stdout, "", "{arguments:?}");
        finished.stderr
    };
    for (word, why) in [(&plain, "Permission denied"), (&lost, "No such file")] {
        let told = stderr(&program, &[word]);
        let sentence = format!("{word} could not be started: {why}");
        assert!(told.contains(&sentence), "{told}");
        assert!(
            told.contains("  hint: see whether you may run it"),
            "{told}"
        );
    }
    ours(&program);
    let more = stderr(&program, &["ours", "more"]);
    let wanted =
        "`ours` is a provider of the configuration, which takes no arguments, and here is `more`";
    assert!(more.contains(wanted), "{more}");
    let vultr = text(root().join("providers/manifests/vultr.yaml"));
    let more = stderr(&program, &[&vultr, "more"]);
    assert!(
        more.contains("is a manifest, which takes no arguments"),
        "{more}"
    );
    let missing = stderr(&program, &["missing.yaml"]);
    assert!(
        missing.contains("there is no such manifest here"),
        "{missing}"
    );
    let missing = stderr(&program, &["./missing.yaml"]);
    assert!(
        missing.contains("there is no manifest `./missing.yaml`"),
        "{missing}"
    );
    configure(&program, "person: {manual: {}}");
    let person = stderr(&program, &["person", "--live", "example.test"]);
    assert!(person.contains("`manual` is a person"), "{person}");
    std::fs::remove_file(program.config()).unwrap();
    let nobody = stderr(&program, &["nobody"]);
    assert!(nobody.contains("there is no configuration at "), "{nobody}");
}

#[test]
fn a_program_is_tried_whatever_is_wrong_with_the_configuration() {
    let program = Countersign::new("wrong: [");
    let link = program.path("broken-plug-in");
    std::os::unix::fs::symlink(broken(), link).unwrap();
    let directory = program.directory().display().to_string();
    let program = program.env("PATH", &format!("{directory}:/usr/local/bin:/usr/bin:/bin"));
    let finished = program.run(&["plugin", "test", "broken-plug-in"]);
    // Without its argument it ends at once: it was started.
    assert!(finished.stderr.contains("IndexError"), "{finished:?}");
}

#[test]
fn a_host_of_single_names_gets_the_cases_that_fit() {
    let program = Countersign::new("");
    let full = "d420c923.auth.example.test";
    let url = "http://127.0.0.1:1";
    let account = json!({"example.test": {
        "fulldomain": full, "subdomain": "d420c923", "username": "user", "password": "not-a-secret",
        "server_url": url, "allowfrom": [],
    }});
    let accounts = program.path("accounts.json");
    std::fs::write(&accounts, account.to_string()).unwrap();
    let accounts = accounts.display();
    configure(
        &program,
        &format!("small: {{acme-dns: {{url: \"{url}\", accounts: {{file: {accounts}}}}}}}"),
    );
    let finished = program
        .run(&["plugin", "test", "small", "--live", full, "--json"])
        .expect_code(0);
    let document = document(&finished);
    let cases = document["cases"].as_array().unwrap();
    let of = |id: &str| cases.iter().find(|it| it["id"] == id).unwrap();
    for id in ["zone-of-apex", "zone-again", "zone-suffix", "late-change"] {
        assert_eq!(of(id)["result"], "passed", "{id}: {}", of(id));
    }
    for id in ["zone-of-name", "zone-deep"] {
        let why = of(id)["seen"].as_str().unwrap();
        assert!(why.contains("the host knows single names"), "{id}: {why}");
    }
}
