//! The command line as people and programs meet it: what is printed, with which exit code. The authority runs in this
//! process, the nameserver is the built-in one.
//!
//! What a command prints is compared with files in `tests/cli/`, what it complains about with `tests/errors/cli-*.txt`;
//! times, numbers of processes and the like are made equal first.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Stdio;

use countersign::config::Config;
use countersign_testca::{Authority, Settings};
use serde_json::Value;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::support::command::{Countersign, Finished, Running};
use crate::support::dns;
use crate::support::golden::{golden, mask, root};
use crate::support::ports::{self, Port};
use crate::support::process::{guarded, spawn};

/// One certificate, delivered beside the configuration.
const ONE: &str =
    "  web: {names: [web.test, \"*.web.test\"], deliver: [{files: {directory: out}}]}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_is_told_in_plain_lines() {
    let lab = Lab::start(ONE).await;
    let before = lab.program.run(&["status"]).expect_code(0);
    said("status-before", &before.stdout, lab.program.directory());
    assert!(
        !lab.program.path("state").exists(),
        "looking makes no store"
    );

    let renew = lab.program.run(&["renew"]).expect_code(0);
    assert_eq!(renew.stderr, "");
    for line in [
        "web: adding the TXT records",
        "web: waiting for every nameserver",
        "web: sending the CSR",
        "web: delivered to DIR/out",
        "web: done in TIME",
        "1 issued, in TIME",
    ] {
        let told = same(&renew.stdout, lab.program.directory());
        assert!(told.lines().any(|it| it == line), "{line}\n{told}");
    }
    assert_eq!(
        names_in(&lab.program.path("out/fullchain.pem")),
        ["*.web.test", "web.test"]
    );

    let again = lab.program.run(&["renew"]).expect_code(0);
    said("renew-nothing-due", &again.stdout, lab.program.directory());
    let forced = lab.program.run(&["renew", "--force", "web"]).expect_code(0);
    assert!(
        forced.stdout.contains("web: delivered to"),
        "{}",
        forced.stdout
    );
    let after = lab.program.run(&["status", "--exit-code"]).expect_code(0);
    said("status-after", &after.stdout, lab.program.directory());
    let details = lab.program.run(&["status", "web"]).expect_code(0);
    said("status-details", &details.stdout, lab.program.directory());
    let check = lab.program.run(&["check"]).expect_code(0);
    said("check", &check.stdout, lab.program.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn history_has_every_step_in_groups() {
    let one = "  web: {names: [web.test], deliver: [{files: {directory: out}}]}\n";
    let lab = Lab::start(one).await;
    let before = lab.program.run(&["history", "web"]).expect_code(0);
    assert_eq!(before.stdout, "web: nothing was done yet\n");
    lab.program.run(&["renew"]).expect_code(0);
    lab.program.run(&["renew", "--force"]).expect_code(0);
    let history = lab.program.run(&["history", "web"]).expect_code(0).stdout;
    let history = same(&history, lab.program.directory());
    let groups: Vec<Vec<&str>> = history.split("\n\n").map(sorted).collect();
    assert_eq!(groups.len(), 2, "{history}");
    // The delivery and the removal of the record go side by side.
    let told: Vec<String> = groups.iter().map(|group| group.join("\n")).collect();
    golden(
        &root().join("tests/cli/history.txt"),
        &format!("{}\n", told.join("\n\n")),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_for_programs_keeps_its_schema() {
    let both = format!("{ONE}  bad: {{names: [bad.example]}}\n");
    let lab = Lab::start(&both).await;
    lab.program.run(&["renew"]).expect_code(1);
    let status = lab.program.run(&["status", "--json"]).expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(
        keys(&status),
        ["certificates", "notices", "now", "records", "schema"]
    );
    assert_eq!(status["schema"], 1);
    is_time(&status["now"]);
    let certificates = status["certificates"].as_array().unwrap();
    assert_eq!(certificates.len(), 2);
    for certificate in certificates {
        assert_eq!(
            keys(certificate),
            [
                "activity",
                "authority",
                "deliveries",
                "failure",
                "name",
                "names",
                "not_after",
                "not_before",
                "renew_at",
                "serial",
                "sha256",
                "state"
            ]
        );
    }
    let (bad, web) = (&certificates[0], &certificates[1]);
    assert_eq!(web["name"], "web");
    assert_eq!(web["names"], serde_json::json!(["web.test", "*.web.test"]));
    assert_eq!(web["state"], "valid");
    assert_eq!(web["activity"], "idle");
    assert_eq!(web["authority"], "lab");
    assert_eq!(web["sha256"].as_str().unwrap().len(), 64);
    assert!(!web["serial"].as_str().unwrap().is_empty());
    for field in ["not_before", "not_after", "renew_at"] {
        is_time(&web[field]);
    }
    assert_eq!(web["failure"], Value::Null);
    let delivery = &web["deliveries"][0];
    assert_eq!(keys(delivery), ["generation", "since", "state", "target"]);
    assert_eq!(delivery["state"], "installed");
    assert!(delivery["generation"].as_u64().unwrap() > 1_600_000_000_000);
    is_time(&delivery["since"]);
    assert!(delivery["target"].as_str().unwrap().ends_with("/out"));

    assert_eq!(bad["state"], "none");
    assert_eq!(bad["authority"], Value::Null);
    assert_eq!(bad["deliveries"], Value::Array(vec![]));
    let failure = &bad["failure"];
    assert_eq!(keys(failure), ["count", "retry_at", "sentence", "whose"]);
    assert_eq!(failure["count"], 1);
    is_time(&failure["retry_at"]);
    let whose = failure["whose"].as_str().unwrap();
    assert!(["you", "dns-host", "authority", "target", "countersign"].contains(&whose));

    lab.program.run(&["status", "--exit-code"]).expect_code(1);
    lab.program
        .run(&["status", "web", "--exit-code"])
        .expect_code(0);
    let table = lab.program.run(&["status"]).expect_code(0);
    said("status-failing", &table.stdout, lab.program.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_one_sentence_with_whose_move_it_is() {
    let lab = Lab::start("  bad: {names: [bad.example]}\n").await;
    let renew = lab.program.run(&["renew"]).expect_code(1);
    complaint("failed", &renew, lab.program.directory());
    assert!(same(&renew.stdout, Path::new("-")).ends_with("1 failed, in TIME\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_certificate_is_named_with_the_nearest() {
    let lab = Lab::start(ONE).await;
    for (case, arguments) in [
        ("unknown-near", ["renew", "wbe"]),
        ("unknown-far", ["history", "database"]),
        ("unknown-dns-name", ["status", "web.test"]),
    ] {
        let finished = lab.program.run(&arguments).expect_code(2);
        complaint(case, &finished, lab.program.directory());
        assert_eq!(finished.stdout, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_standard_output_does_not_take_is_told_and_fails() {
    let lab = Lab::start(ONE).await;
    lab.program.run(&["renew"]).expect_code(0);
    let ended = |arguments: &[&str], stdout: Stdio| {
        let mut command = lab.program.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped());
        let output = spawn(command).unwrap().wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), stderr)
    };
    let manifest = root().join("config/own-dns.yaml");
    let manifest = manifest.to_str().unwrap();
    for arguments in [
        &["check"][..],
        &["status"],
        &["status", "--json"],
        &["plan", "--json"],
        &["history", "web"],
        &["clean", "--json"],
        &["renew"],
        &["man"],
        &["completions", "bash"],
        &["plugin", "test", "--json", manifest],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let (code, stderr) = ended(arguments, Stdio::from(full.unwrap()));
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        let why = "standard output is not whole: No space left on device\n";
        assert_eq!(stderr.matches(why).count(), 1, "{arguments:?}: {stderr}");
    }
    // A reader that has seen enough is no failure.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(theirs);
    let gone = Stdio::from(std::os::fd::OwnedFd::from(ours));
    assert_eq!(ended(&["status"], gone), (Some(0), String::new()));
}

#[test]
fn the_configurations_of_the_readme_are_accepted() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|it| it.split("```").next().unwrap()).collect();
    let [bind, cloudflare, route53, private, alerts] = blocks[..] else {
        panic!("{blocks:?}")
    };
    // The others show only what differs.
    let rest = &bind[bind.find("providers:").unwrap()..];
    for text in [
        bind.to_owned(),
        cloudflare.to_owned(),
        route53.to_owned(),
        format!("{private}{rest}"),
        format!("{alerts}{bind}"),
    ] {
        let parsed = Config::parse(Path::new("README.md"), &text);
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
}

#[test]
fn what_is_not_in_this_version_is_unknown() {
    let program = Countersign::new("");
    for arguments in [
        &["doctor"][..],
        &["revoke", "web"],
        &["renew", "--rehearse"],
    ] {
        let finished = program.run(arguments).expect_code(2);
        assert!(finished.stderr.contains("Usage:"), "{}", finished.stderr);
    }
}

/// Root may write anywhere; the owner of the state directory is who counts.
#[test]
fn check_names_a_target_that_the_daemons_user_cannot_write_to() {
    let program = Countersign::new(
        "state: {dir}/state\n\
         authorities: {letsencrypt: {agree-to-terms: true}}\n\
         nameserver: {zone: acme.test, listen: [\"127.0.0.1:5353\"], hosts: {ns1.acme.test: [127.0.0.1]}}\n\
         certificates: {web: {names: [example.com], deliver: [{files: {directory: \"{dir}/closed/web\"}}]}}\n",
    );
    let closed = program.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::create_dir(program.path("state")).unwrap();
    let open = program.run(&["check"]);
    assert!(!open.stderr.contains("cannot be written"), "{open:?}");
    let nobody = 65_534;
    let given = std::os::unix::fs::chown(program.path("state"), Some(nobody), Some(nobody));
    if given.is_err() {
        // Not root: then it is this user's own right that counts.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(&closed, mode).unwrap();
    }
    let check = program.run(&["check"]).expect_code(2);
    assert!(
        check
            .stderr
            .contains("certificates.web.deliver[0].files.directory"),
        "{check:?}"
    );
    assert!(
        check.stderr.contains("cannot be written by the user"),
        "{check:?}"
    );
}

#[test]
fn check_names_what_cannot_be_read() {
    let program = Countersign::new(
        "authorities: {letsencrypt: {agree-to-terms: true}}\n\
         providers: {office: {rfc2136: {server: 192.0.2.53, tsig: {keyfile: missing.key}}}}\n\
         certificates: {web: {names: [example.com]}}\n",
    );
    let check = program.run(&["check"]).expect_code(2);
    complaint("check", &check, program.directory());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_pass_withdraws_its_records_and_a_store_has_one_user() {
    let lab = Lab::with_a_slow_authority(ONE).await;
    let renew = lab.program.start(&["renew"]);
    wait_for(&renew, "web: waiting for validation");
    let nameserver = lab.nameserver();
    assert_eq!(dns::txt(nameserver, "_acme-challenge.web.test").len(), 2);

    let status = lab.program.run(&["status"]).expect_code(0);
    assert!(
        status.stdout.contains("waiting for validation"),
        "{status:?}"
    );
    let history = lab.program.run(&["history", "web"]).expect_code(0);
    assert!(history.stdout.contains("attempt 1"), "{history:?}");
    let second = lab.program.run(&["renew"]).expect_code(1);
    let told = second.stderr.replace(&renew.pid().to_string(), "PID");
    assert!(told != second.stderr, "names the process: {told}");
    let second = Finished {
        stderr: told,
        ..second
    };
    complaint("in-use", &second, lab.program.directory());

    signal(&renew, rustix::process::Signal::INT);
    let renew = renew.finish().expect_code(1);
    complaint("interrupted", &renew, lab.program.directory());
    assert!(
        renew.stdout.contains("1 interrupted, in "),
        "{}",
        renew.stdout
    );
    let status = lab.program.run(&["status", "--json"]).expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["records"], Value::Array(vec![]));
    let history = lab.program.run(&["history", "web"]).expect_code(0).stdout;
    assert!(
        history.contains("left for another time: interrupted"),
        "{history}"
    );
    assert_eq!(history.matches("is wanted no more").count(), 2, "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_host_is_not_configured_any_more_are_named() {
    let lab = Lab::with_a_slow_authority("  web: {names: [web.test]}\n").await;
    let renew = lab.program.start(&["renew"]);
    wait_for(&renew, "web: waiting for validation");
    renew.kill();
    lab.program.configure(
        "state: state
authorities: {letsencrypt: {agree-to-terms: true}}
providers: {office: {rfc2136: {server: 192.0.2.53, tsig: {keyfile: acme.key}}}}
certificates: {web: {names: [web.test]}}
",
    );
    let status = lab.program.run(&["status"]).expect_code(0);
    said("status-left", &status.stdout, lab.program.directory());
    lab.program.run(&["status", "--exit-code"]).expect_code(1);
    let status = lab.program.run(&["status", "--json"]).expect_code(0);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    let record = &status["records"][0];
    assert_eq!(
        keys(record),
        ["configured", "failure", "name", "provider", "value", "zone"]
    );
    assert_eq!(record["configured"], false);
    assert_eq!(record["name"], "_acme-challenge.web.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_that_want_them() {
    let lab = Lab::start(ONE).await;
    let coloured = on_a_terminal(&lab, "status", &[]);
    assert!(coloured.contains("\u{1b}[33m"), "{coloured:?}");
    let plain = on_a_terminal(&lab, "status", &[("NO_COLOR", "1")]);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let live = on_a_terminal(&lab, "renew", &[("NO_COLOR", "1")]);
    assert!(live.contains("✓ web  valid until "), "{live:?}");
    assert!(!live.contains("\u{1b}[3"), "{live:?}");
    let live = on_a_terminal(&lab, "renew --force", &[]);
    assert!(live.contains("\u{1b}[32m✓\u{1b}[0m web"), "{live:?}");
}

/// An authority in this process, and a configuration that uses it and the built-in nameserver.
pub(crate) struct Lab {
    pub(crate) program: Countersign,
    port: Port,
    _authority: Authority,
    /// Bound and never read: whoever asks there waits.
    _silent: Option<UdpSocket>,
}

impl Lab {
    pub(crate) async fn start(certificates: &str) -> Self {
        let port = ports::free();
        let nameserver = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        Self::asking(nameserver, port, certificates, None).await
    }

    /// Its look-ups get no answer for seconds.
    async fn with_a_slow_authority(certificates: &str) -> Self {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let nameserver = silent.local_addr().unwrap();
        Self::asking(nameserver, ports::free(), certificates, Some(silent)).await
    }

    async fn asking(
        nameserver: SocketAddr,
        port: Port,
        certificates: &str,
        silent: Option<UdpSocket>,
    ) -> Self {
        let authority = Authority::start(Settings::asking(nameserver))
            .await
            .unwrap();
        let program = Countersign::new(&format!(
            "state: state
authorities: {{lab: {{directory: '{directory}', trust: root.pem, agree-to-terms: true}}}}
nameserver: {{zone: test, listen: ['127.0.0.1:{port}'], hosts: {{ns1.test: [127.0.0.1]}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
{certificates}",
            directory = authority.directory_url(),
            port = port.number(),
        ));
        std::fs::write(program.path("root.pem"), authority.https_root_pem()).unwrap();
        Self {
            program,
            port,
            _authority: authority,
            _silent: silent,
        }
    }

    fn nameserver(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }
}

/// What a command prints to a terminal, by way of `script` (Debian: bsdutils, essential).
fn on_a_terminal(lab: &Lab, command: &str, environment: &[(&str, &str)]) -> String {
    let line = format!(
        "stty cols 100 rows 30; {} --config {} {command}",
        env!("CARGO_BIN_EXE_countersign"),
        lab.program.config().display()
    );
    let mut script = guarded(Path::new("/usr/bin/script"));
    script
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm-256color")
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    let output = script.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for(running: &Running, wanted: &str) {
    while let Some(line) = running.next_output_line() {
        if line == wanted {
            return;
        }
    }
    panic!("it ended before it said {wanted:?}");
}

fn signal(running: &Running, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(running.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

pub(crate) fn names_in(file: &Path) -> Vec<String> {
    let text = std::fs::read(file).unwrap();
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
    let (_, leaf) = X509Certificate::from_der(&pem.contents).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let mut names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other}"),
        })
        .collect();
    names.sort();
    names
}

pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

/// RFC 3339 in UTC, to the second.
pub(crate) fn is_time(value: &Value) {
    let text = value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.parse::<jiff::Timestamp>().is_ok(), "{text}");
    assert!(text.len() == 20 && text.ends_with('Z'), "{text}");
}

/// The head of a group, then its lines sorted.
fn sorted(group: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = group.lines().collect();
    lines[1..].sort_unstable();
    lines
}

/// What was printed must be what is in `tests/cli/NAME.txt`.
fn said(name: &str, text: &str, directory: &Path) {
    for line in text.lines() {
        // Sentences are broken by the terminal, which is not there.
        let is_table = !line.contains('✗') && !line.contains("://");
        let is_table = is_table && !line.starts_with("  ");
        let short = line.replace(&directory.to_string_lossy().into_owned(), "");
        assert!(!is_table || short.chars().count() <= 80, "{line}");
    }
    golden(
        &root().join(format!("tests/cli/{name}.txt")),
        &same(text, directory),
    );
}

/// What was complained about must be what is in `tests/errors/cli-NAME.txt`.
pub(crate) fn complaint(name: &str, finished: &Finished, directory: &Path) {
    let file = root().join(format!("tests/errors/cli-{name}.txt"));
    golden(&file, &same(&finished.stderr, directory));
}

/// The text with everything that differs between runs made equal.
pub(crate) fn same(text: &str, directory: &Path) -> String {
    let directory = directory.to_string_lossy();
    let text = text.replace(&*directory, "DIR");
    let lines = text.split('\n').map(|line| {
        let words: Vec<String> = line.split(' ').map(same_word).collect();
        let line = words.join(" ").replace("DAY CLOCK UTC", "INSTANT");
        let took = ["in NUMBER s", "NUMBER ms"];
        let line = took
            .iter()
            .fold(line, |line, it| line.replace(it, "in TIME"));
        // Some seconds may pass between a failure and the look at it.
        mask(&line, "in 99 s (", "in 60 s (")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn same_word(word: &str) -> String {
    let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = word.chars().map(digits).collect();
    let bare = shape.trim_matches(['(', ')', ',', ';', '.']);
    let shown = match bare {
        "0000-00-00" => "DAY",
        "00:00:00" | "00:00" => "CLOCK",
        "0000-00-00T00:00:00.000Z" | "0000-00-00T00:00:00Z" => "INSTANT",
        "0.0" | "00.0" => "NUMBER",
        _ if word.len() == 45 && word.starts_with('"') => return "\"VALUE\"".to_owned(),
        "0000000000000" => "GENERATION",
        _ if bare.len() >= 15 && word.chars().all(|c| c.is_ascii_hexdigit() || c == ',') => "HEX",
        _ => return same_ports(word),
    };
    let start = shape.find(bare).unwrap_or(0);
    format!("{}{shown}{}", &word[..start], &word[start + bare.len()..])
}

/// `127.0.0.1:15001` → `127.0.0.1:PORT`.
fn same_ports(word: &str) -> String {
    match word.split_once("127.0.0.1:") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}127.0.0.1:PORT{rest}")
        }
        None => word.to_owned(),
    }
}

#[test]
fn check_names_credentials_that_are_none() {
    let program = Countersign::new(
        "state: {dir}/state\n\
         authorities: {letsencrypt: {agree-to-terms: true}}\n\
         providers:\n\
         \x20 acme: {acme-sh: {home: \"{dir}/nowhere\", script: dns_nic}}\n\
         \x20 bare: {acme-sh: {home: \"{dir}/bare\", script: dns_nic}}\n\
         \x20 file: {rfc2136: {server: 192.0.2.53, tsig: {keyfile: \"{dir}/none.json\"}}}\n\
         \x20 google: {googlecloud: {credentials: {file: \"{dir}/none.json\"}}}\n\
         \x20 parts: {rfc2136: {server: 192.0.2.53, tsig: {name: a.test, algorithm: hmac-sha256, secret: {file: \"{dir}/none.json\"}}}}\n\
         certificates: {web: {names: [example.com], provider: file}}\n",
    );
    std::fs::create_dir(program.path("bare")).unwrap();
    std::fs::write(program.path("bare/acme.sh"), "").unwrap();
    std::fs::write(program.path("none.json"), "{\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(program.path("none.json"), mode).unwrap();
    let check = program.run(&["check"]).expect_code(2);
    complaint("check-credentials", &check, program.directory());
}
