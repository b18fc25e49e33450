//! The program `countersign-testca`, as tests in other languages use it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn says_where_it_serves_and_ends_with_its_input() {
    let child = Command::new(env!("CARGO_BIN_EXE_countersign-testca"))
        .args(["--nameserver", "127.0.0.1:53", "--lifetime", "60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Program(child);
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert!(
        ready["directory"]
            .as_str()
            .unwrap()
            .starts_with("https://127.0.0.1:")
    );
    for root in ["https_root_pem", "issuing_root_pem"] {
        assert!(
            ready[root]
                .as_str()
                .unwrap()
                .starts_with("-----BEGIN CERTIFICATE-----")
        );
    }
    drop(program.0.stdin.take());
    assert!(program.0.wait().unwrap().success());
}

#[test]
fn refuses_what_it_does_not_know() {
    for arguments in [
        vec![],
        vec!["--nameserver", "here"],
        vec!["--colour", "red"],
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_countersign-testca"))
            .args(&arguments)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("usage:"));
    }
}
