//! `countersign demo`: all of it on this machine, once and until it is told to end.

use std::path::Path;

use serde_json::Value;

use crate::cli::{complaint, names_in};
use crate::support::command::Countersign;
use crate::support::process::guarded;

#[test]
fn the_demo_ends_after_the_first_certificate() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("kept");
    let program = Countersign::new("");
    let demo = program.run(&["demo", "--once", "--directory", &kept.to_string_lossy()]);
    let demo = demo.expect_code(0);
    for told in [
        "→ authority    an order for both names, please        new-order 201",
        "→ nameserver   are the values there? 2 values         TXT",
        "authority → ns sees the value for itself              TXT",
        "puts the files in their place",
    ] {
        assert!(demo.stdout.contains(told), "{told}\n{}", demo.stdout);
    }
    assert_eq!(demo.stderr, "");
    let names = names_in(&kept.join("certificates/fullchain.pem"));
    assert_eq!(names, ["*.demo.test", "demo.test"]);
    for file in ["cert.pem", "chain.pem", "privkey.pem", "bundle.pem"] {
        assert!(kept.join("certificates").join(file).exists(), "{file}");
    }
    let config = kept.join("countersign.yaml");
    let status = guarded(Path::new(env!("CARGO_BIN_EXE_countersign")))
        .args(["--config", &config.to_string_lossy(), "status", "--json"])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["certificates"][0]["state"], "valid");
    assert_eq!(
        status["records"],
        Value::Array(vec![]),
        "nothing of ours is left"
    );
}

#[test]
fn the_demo_leaves_nothing_behind_by_itself() {
    let program = Countersign::new("");
    let temporary = program.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let program = program.env("TMPDIR", &temporary.to_string_lossy());
    let demo = program.run(&["demo", "--once"]).expect_code(0);
    assert!(
        demo.stdout.contains("The files are removed now"),
        "{}",
        demo.stdout
    );
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn the_demo_renews_by_itself_until_it_is_told_to_end() {
    let place = tempfile::tempdir().unwrap();
    let kept = place.path().join("kept");
    let program = Countersign::new("");
    let demo = program.start(&["demo", "--directory", &kept.to_string_lossy()]);
    let told = |wanted: &str| {
        while !demo.next_output_line().unwrap().contains(wanted) {}
    };
    told("It stays up and renews by itself");
    let first = std::fs::read(kept.join("certificates/cert.pem")).unwrap();
    told("Its renewal is due");
    told("puts the files in their place");
    told("→");
    demo.terminate();
    let ended = demo.finish().expect_code(0);
    assert_eq!(ended.stderr, "");
    let second = std::fs::read(kept.join("certificates/cert.pem")).unwrap();
    assert_ne!(first, second);
}

#[test]
fn the_demo_takes_no_directory_that_is_in_use() {
    let program = Countersign::new("");
    let here = program.directory().to_string_lossy().into_owned();
    let demo = program
        .run(&["demo", "--once", "--directory", &here])
        .expect_code(2);
    complaint("demo-directory", &demo, program.directory());
}
