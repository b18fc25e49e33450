//! `clean` on real servers: ours that nobody needs go, what others put there stays until a person says otherwise, and
//! what an order needs stays in any case.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hickory_proto::rr::RecordType;
use serde_json::Value;

use crate::cli::{complaint, is_time, keys, same};
use crate::issuance::{
    Host, ONE, configuration, judge, killed_with_its_record_in_place, with_pebble,
};
use crate::support::bind::{Bind, Zone};
use crate::support::command::{Countersign, Finished};
use crate::support::golden::{golden, mask, root};
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::process::{guarded, servers_directory};
use crate::support::tsig::{Key, nsupdate, run};
use crate::support::{dns, zone};

const CHALLENGE: &str = "_acme-challenge.example.test";
/// In the form of a challenge value.
const THEIRS: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Another client's value and a text of somebody, in one RRset.
fn foreign() -> String {
    format!("_acme-challenge 120 TXT {THEIRS}\n_acme-challenge 120 TXT \"v=spf1 -all\"\n")
}

fn host() -> Host {
    Host::start(&foreign(), &format!("grant acme name {CHALLENGE} TXT;"))
}

fn pebble(host: &Host) -> RunningPebble {
    Pebble::new(Version::Newest, host.addr()).start()
}

/// Exactly these values, and the TTL that others chose.
fn has(host: &Host, values: &[&str]) {
    assert_eq!(dns::txt(host.addr(), CHALLENGE), values);
    let ttl = dns::ttl(host.addr(), CHALLENGE, RecordType::TXT);
    assert_eq!(ttl, Some(120));
}

/// What was listed, without what differs from run to run.
fn listed(name: &str, finished: &Finished, program: &Countersign) {
    let text = same(&finished.stdout, program.directory());
    let lines = text.lines().map(|line| match line.split_once("ours, ") {
        Some((before, after)) => {
            let value = after.rsplit(' ').next().unwrap();
            format!("{before}ours, {}\n", after.replace(value, "VALUE"))
        }
        None => format!("{line}\n"),
    });
    let text = mask(&lines.collect::<String>(), "9999-99-99", "DAY");
    golden(&root().join(format!("tests/cli/{name}.txt")), &text);
}

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap()
}

/// How many values have this standing and came to this.
fn count(document: &Value, standing: &str, outcome: &str) -> usize {
    let values = document["values"].as_array().unwrap().iter();
    values
        .filter(|it| it["standing"] == standing && it["outcome"] == outcome)
        .count()
}

#[test]
fn what_a_killed_pass_left_goes_and_foreign_values_keep_their_ttl() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    killed_with_its_record_in_place(&program);
    assert!(dns::txt(host.addr(), CHALLENGE).len() > 2);
    let cleaned = program.run(&["clean"]).expect_code(0);
    assert_eq!(cleaned.stderr, "");
    listed("clean", &cleaned, &program);
    has(&host, &[THEIRS, "v=spf1 -all"]);
    // The order that stood still goes on, with its values there again.
    program.run(&["renew"]).expect_code(0);
    let names = ["example.test", "*.example.test"];
    judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
    has(&host, &[THEIRS, "v=spf1 -all"]);
}

#[test]
fn values_of_others_go_when_a_person_says_so_and_other_texts_never() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    let refused = program.run(&["clean", "--foreign"]).expect_code(2);
    complaint("clean-nobody", &refused, program.directory());
    program.run(&["clean", "--yes"]).expect_code(2);
    let unknown = program.run(&["clean", "exampel"]).expect_code(2);
    complaint("clean-unknown", &unknown, program.directory());
    has(&host, &[THEIRS, "v=spf1 -all"]);

    let cleaned = program.run(&["clean", "--foreign", "--yes"]).expect_code(0);
    listed("clean-foreign", &cleaned, &program);
    has(&host, &["v=spf1 -all"]);
    let history = program.run(&["history", "example"]).expect_code(0);
    let asked = format!("a person asks to remove the value {THEIRS} of others at {CHALLENGE}");
    assert!(history.stdout.contains(&asked), "{history:?}");
    let removed = format!("the value {THEIRS} of others is removed");
    assert!(history.stdout.contains(&removed), "{history:?}");
    let again = program.run(&["clean", "--foreign", "--yes"]).expect_code(0);
    assert!(again.stdout.contains("0 TXT values removed"), "{again:?}");
}

/// On a terminal, by way of `script` (Debian: bsdutils, essential), where a person types `answer`.
fn asked(program: &Countersign, answer: &str) -> String {
    let line = format!(
        "{} --config {} clean --foreign",
        env!("CARGO_BIN_EXE_countersign"),
        program.config().display()
    );
    let mut script = guarded(Path::new("/usr/bin/script"));
    script
        .args(["-qec", &line, "/dev/null"])
        .env("NO_COLOR", "1");
    let output = run(script, answer);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_person_at_a_terminal_is_shown_the_values_and_asked() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    let said = asked(&program, "y\n");
    assert!(said.contains(&format!("{CHALLENGE}  {THEIRS}")), "{said}");
    assert!(said.contains("Type `yes` to remove"), "{said}");
    has(&host, &[THEIRS, "v=spf1 -all"]);
    asked(&program, "yes\n");
    has(&host, &["v=spf1 -all"]);
}

/// One of the zone's servers does not answer: the order has its values there for ten seconds before it goes on.
#[test]
fn through_the_daemon_the_values_of_a_running_order_stay() {
    let key = Key::sha256("acme");
    let nowhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let text = zone::text("example.test", &[HERE, nowhere], &foreign());
    let zone = Zone::primary("example.test", text)
        .update_policy(&format!("grant acme name {CHALLENGE} TXT;"));
    let bind = Bind::new().key(&key).zone(zone).start();
    let host = Host { bind, key };
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    let daemon = program.start(&["run", "--log", "trace"]);
    daemon.wait_for("provider reply").unwrap();
    let cleaned = document(&program.run(&["clean", "--json"]).expect_code(0));
    assert_eq!(keys(&cleaned), ["failures", "names", "schema", "values"]);
    assert_eq!(
        (&cleaned["schema"], &cleaned["names"]),
        (&1.into(), &1.into())
    );
    assert_eq!(count(&cleaned, "in-use", "stays"), 2, "{cleaned}");
    assert_eq!(count(&cleaned, "foreign", "stays"), 1, "{cleaned}");
    assert_eq!(count(&cleaned, "other", "stays"), 1, "{cleaned}");
    let line = &cleaned["values"][0];
    let wanted = [
        "certificates",
        "name",
        "outcome",
        "provider",
        "since",
        "standing",
        "value",
        "zone",
    ];
    assert_eq!(keys(line), wanted);
    let values = cleaned["values"].as_array().unwrap();
    let in_use = values.iter().find(|it| it["standing"] == "in-use").unwrap();
    is_time(&in_use["since"]);

    let line = ["clean", "example", "--foreign", "--yes", "--json"];
    let cleaned = document(&program.run(&line).expect_code(0));
    assert_eq!(count(&cleaned, "in-use", "stays"), 2, "{cleaned}");
    assert_eq!(count(&cleaned, "foreign", "removed"), 1, "{cleaned}");
    assert_eq!(dns::txt(host.addr(), CHALLENGE).len(), 3);
    daemon.wait_for("issued: serial").unwrap();
    daemon.terminate();
    daemon.finish().expect_code(0);
    program.run(&["clean"]).expect_code(0);
    has(&host, &["v=spf1 -all"]);
}

#[test]
fn what_cannot_be_cleaned_is_said_with_whose_move_it_is() {
    let www = format!("_acme-challenge.www 120 TXT {THEIRS}\n");
    let host = Host::start(&www, &format!("grant acme name {CHALLENGE} TXT;"));
    let pebble = pebble(&host);
    let certificates = "  away: {names: [away.test]}\n  www: {names: [www.example.test]}\n";
    let program = with_pebble(&host, &pebble, certificates);
    let cleaned = program.run(&["clean", "--foreign", "--yes"]).expect_code(1);
    listed("clean-failed", &cleaned, &program);
    complaint("clean-failed", &cleaned, program.directory());
    let www = "_acme-challenge.www.example.test";
    assert_eq!(dns::txt(host.addr(), www), [THEIRS]);
    // It did not become ours by that.
    let again = document(&program.run(&["clean", "--json"]).expect_code(1));
    assert_eq!(count(&again, "foreign", "stays"), 1, "{again}");
    assert_eq!(again["failures"].as_array().unwrap().len(), 1, "{again}");
}

#[test]
fn where_there_is_nothing_it_says_so() {
    let host = Host::start("", "");
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    let cleaned = program.run(&["clean"]).expect_code(0);
    assert_eq!(cleaned.stdout, "no TXT value at 1 challenge name\n");
    let cleaned = document(&program.run(&["clean", "--json"]).expect_code(0));
    assert_eq!(cleaned["values"], Value::Array(vec![]));
}

/// A script can only write: the servers say what is there.
#[test]
fn at_a_host_that_shows_nothing_the_servers_are_asked() {
    let host = host();
    let pebble = pebble(&host);
    let text = configuration(&host, &pebble.directory_url(), &pebble.https_root(), ONE);
    let (before, after) = text.split_once("    rfc2136:").unwrap();
    let (_, after) = after.split_once("dns: ").unwrap();
    let program = Countersign::new(&format!(
        "{before}    lego-exec: {{command: [\"{{dir}}/update.sh\"], zones: [example.test]}}\ndns: {after}"
    ));
    let key = host.key.write_keyfile(program.directory());
    let line = |verb: &str| {
        format!(
            "printf 'server 127.0.0.1 {}\\nzone example.test.\\nupdate {verb} TXT \"%s\"\\nsend\\n' \"$2\" \"$3\" | {} -v -k {}",
            host.addr().port(),
            servers_directory().join("bin/nsupdate").display(),
            key.display()
        )
    };
    let script = format!(
        "#!/bin/sh\nset -e\ncase $1 in\npresent) {} ;;\ncleanup) {} ;;\nesac\n",
        line("add %s 60"),
        line("delete %s")
    );
    let path = program.path("update.sh");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let running = program.start(&["renew", "--log", "trace"]);
    // Both are there: a script that outlives its daemon could write the second one late.
    running.wait_for_nth("provider reply", 2);
    running.kill();
    let cleaned = document(&program.run(&["clean", "--json"]).expect_code(0));
    assert!(count(&cleaned, "left-over", "removed") > 0, "{cleaned}");
    assert_eq!(count(&cleaned, "foreign", "stays"), 1, "{cleaned}");
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [THEIRS, "v=spf1 -all"]);
    let line = ["clean", "--foreign", "--yes"];
    program.run(&line).expect_code(0);
    assert_eq!(dns::txt(host.addr(), CHALLENGE), ["v=spf1 -all"]);
}

/// The CNAME was pointed elsewhere while an order stood still: what it left behind is found by its saved coordinates.
#[test]
fn what_was_left_at_a_name_that_leads_elsewhere_now_goes() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    killed_with_its_record_in_place(&program);
    let text = std::fs::read_to_string(program.config()).unwrap();
    program.configure(&text.replace("[example.test, \"*.example.test\"]", "[other.example.test]"));
    let cleaned = document(&program.run(&["clean", "example", "--json"]).expect_code(0));
    assert!(count(&cleaned, "left-over", "removed") > 0, "{cleaned}");
    has(&host, &[THEIRS, "v=spf1 -all"]);
}

/// What is kept account of under the old name is ours under the new one too.
#[test]
fn ours_is_known_though_its_provider_has_another_name_now() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    killed_with_its_record_in_place(&program);
    let text = std::fs::read_to_string(program.config()).unwrap();
    program.configure(&text.replace("  office:", "  bind:"));
    let cleaned = program.run(&["clean", "--json"]).expect_code(0);
    assert_eq!(cleaned.stderr, "");
    let cleaned = document(&cleaned);
    assert_eq!(cleaned["values"].as_array().unwrap().len(), 4, "{cleaned}");
    assert_eq!(count(&cleaned, "left-over", "removed"), 2, "{cleaned}");
    assert_eq!(count(&cleaned, "foreign", "stays"), 1, "{cleaned}");
    has(&host, &[THEIRS, "v=spf1 -all"]);
    let again = document(&program.run(&["clean", "--json"]).expect_code(0));
    assert_eq!(again["values"].as_array().unwrap().len(), 2, "{again}");
}

/// Nobody but a person can take it away: it is asked for, not claimed.
#[test]
fn at_a_host_for_people_it_says_what_to_remove_by_hand() {
    let host = host();
    let pebble = pebble(&host);
    let program = with_pebble(&host, &pebble, ONE);
    let text = std::fs::read_to_string(program.config()).unwrap();
    let (before, after) = text.split_once("    rfc2136:").unwrap();
    let (_, after) = after.split_once("dns: ").unwrap();
    program.configure(&format!("{before}    manual: {{}}\ndns: {after}"));
    let renew = program.start(&["renew"]);
    let line = loop {
        let line = renew.next_output_line().unwrap();
        if line.contains("add by hand") {
            break line;
        }
    };
    let (_, value) = line.split_once("TXT \"").unwrap();
    let (value, _) = value.split_once('"').unwrap();
    // A person added one of the two.
    let line = format!("update add {CHALLENGE}. 120 TXT {value}");
    nsupdate(host.addr(), "example.test", Some(&host.key), &line).unwrap();
    renew.kill();

    let by_hand =
        |value: &str| format!("remove by hand TXT \"{value}\" at {CHALLENGE} [your move]");
    for _ in 0..2 {
        let cleaned = program.run(&["clean", "--json"]).expect_code(1);
        assert!(cleaned.stderr.contains(&by_hand(value)), "{cleaned:?}");
        let cleaned = document(&cleaned);
        assert_eq!(count(&cleaned, "left-over", "failed"), 1, "{cleaned}");
        assert_eq!(
            cleaned["failures"].as_array().unwrap().len(),
            1,
            "{cleaned}"
        );
    }
    let cleaned = program.run(&["clean", "--foreign", "--yes"]).expect_code(1);
    assert!(cleaned.stderr.contains(&by_hand(THEIRS)), "{cleaned:?}");
    assert!(
        cleaned.stdout.contains("0 TXT values removed"),
        "{cleaned:?}"
    );
    let history = program.run(&["history", "example"]).expect_code(0);
    assert!(!history.stdout.contains(THEIRS), "{history:?}");
    let mut there = dns::txt(host.addr(), CHALLENGE);
    there.sort_unstable();
    let mut wanted = [value, THEIRS, "v=spf1 -all"];
    wanted.sort_unstable();
    assert_eq!(there, wanted);
}
