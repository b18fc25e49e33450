//! The conformance kit as its users run it, over plug-ins of every kind, and over plug-ins with one fault each.

mod begin;
mod runners;

use std::path::PathBuf;

use countersign_providers::manifest::shipped;
use serde_json::{Value, json};

use crate::support::bind::{self, Bind};
use crate::support::command::{Countersign, Finished};
use crate::support::golden::root;
use crate::support::process::servers_directory;
use crate::support::tsig::Key;
use crate::support::zone;

/// What no virtual zone of a program has: a zone below another, a right that is missing, secrets, and the kit cannot
/// know them.
const OF_PROGRAMS: [&str; 7] = [
    "slots",
    "handle",
    "refused-name",
    "beside-refused",
    "settled",
    "secrets",
    "zone-below",
];

/// What is skipped for each shipped manifest: lists without pages, no map of errors, a host that can tell of one zone of a
/// name only, and a manifest that leaves out no zones.
const OF_MANIFESTS: [(&str, &[&str]); 12] = [
    ("bunny", &["pages-records", "zone-left-out"]),
    ("desec", &["pages-zones", "zone-left-out", "zone-twins"]),
    (
        "digitalocean",
        &["pages-zones", "zone-left-out", "zone-twins"],
    ),
    ("dnsimple", &["pages-zones", "zone-left-out", "zone-twins"]),
    (
        "gandi",
        &["pages-records", "error-map", "zone-left-out", "zone-twins"],
    ),
    ("hetzner", &["pages-zones", "zone-left-out"]),
    ("ionos", &["pages-zones", "pages-records", "zone-left-out"]),
    ("linode", &[]),
    ("porkbun", &["pages-records", "zone-left-out", "zone-twins"]),
    (
        "powerdns",
        &["pages-zones", "pages-records", "error-map", "zone-left-out"],
    ),
    ("scaleway", &["pages-zones", "zone-twins"]),
    ("vultr", &["zone-left-out", "zone-twins"]),
];

/// The kit over one plug-in, for programs.
struct Seen {
    finished: Finished,
    document: Value,
}

impl Seen {
    fn of(program: &Countersign, arguments: &[&str]) -> Self {
        let arguments = [&["plugin", "test", "--json"], arguments].concat();
        let finished = program.run(&arguments);
        let document = serde_json::from_str(&finished.stdout);
        let document = document.unwrap_or_else(|error| panic!("{error}: {finished:?}"));
        Self { finished, document }
    }

    /// The cases that ended so, in their order.
    fn ended(&self, result: &str) -> Vec<String> {
        let cases = self.document["cases"].as_array().unwrap();
        let ended = cases.iter().filter(|it| it["result"] == result);
        ended
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Nothing failed, and just these were skipped.
    fn expect(&self, what: &str, skipped: &[&str]) {
        let cases = self.document["cases"].as_array().unwrap();
        let failed: Vec<&Value> = cases.iter().filter(|it| it["result"] == "failed").collect();
        assert!(failed.is_empty(), "{what}: {failed:#?}");
        let (mut seen, mut wanted) = (self.ended("skipped"), skipped.to_vec());
        seen.sort();
        wanted.sort_unstable();
        assert_eq!(seen, wanted, "skipped for {what}");
        assert_eq!(self.finished.code, Some(0), "{what}");
    }
}

fn text(path: PathBuf) -> String {
    path.to_str().unwrap().to_owned()
}

fn broken() -> String {
    text(root().join("tests/kit/broken.py"))
}

#[test]
fn the_samples_pass_with_no_configuration() {
    let program = Countersign::new("");
    std::fs::remove_file(program.config()).unwrap();
    let python = text(root().join("providers/samples/example.py"));
    Seen::of(&program, &[&python]).expect("example.py", &OF_PROGRAMS);
    let shell = text(root().join("providers/samples/example.sh"));
    let path = format!(
        "PATH={}:/usr/bin:/bin",
        servers_directory().join("bin").display()
    );
    Seen::of(&program, &["--", "env", &path, &shell]).expect("example.sh", &OF_PROGRAMS);
}

#[test]
fn every_shipped_manifest_passes_on_its_virtual_host() {
    let program = Countersign::new("");
    // A host that does not tell when a change is everywhere, and a manifest that keeps no name of a value.
    let settling = ["settled", "settle-pending", "settle-failed"];
    let mut tried = Vec::new();
    for (name, more) in OF_MANIFESTS {
        let file = text(root().join(format!("providers/manifests/{name}.yaml")));
        let settling: &[&str] = if name == "hetzner" { &[] } else { &settling };
        let skipped = [&["slots", "handle"], settling, more].concat();
        Seen::of(&program, &[&file]).expect(name, &skipped);
        tried.push(name);
    }
    let shipped: Vec<&str> = shipped::ALL.iter().map(|it| it.0).collect();
    assert_eq!(tried, shipped);
}

#[test]
fn a_manifest_that_is_wrong_is_caught_with_no_account() {
    let program = Countersign::new("");
    let own = std::fs::read_to_string(root().join("config/own-dns.yaml")).unwrap();
    let faults: [(&str, &str, &str, &[&str]); 3] = [
        (
            "records/{id}",
            "records/{label}",
            "a removal that takes the whole set",
            &["two-values", "foreign-value"],
        ),
        (
            "    - {code: duplicate, kind: done}\n",
            "    - {status: 409, kind: transient}\n    - {code: duplicate, kind: done}\n",
            "an entry that comes before another",
            &["error-map"],
        ),
        (
            ", ttl: \"{ttl}\"}",
            "}",
            "a TTL that is not handed on",
            &["foreign-ttl"],
        ),
    ];
    let file = program.path("own.yaml");
    for (was, is, what, proofs) in faults {
        let broken = own.replace(was, is);
        assert_ne!(broken, own, "{what}");
        std::fs::write(&file, broken).unwrap();
        let seen = Seen::of(&program, &[file.to_str().unwrap()]);
        let failed = seen.ended("failed");
        for proof in proofs {
            assert!(failed.iter().any(|it| it == proof), "{what}: {failed:?}");
        }
        assert_eq!(seen.finished.code, Some(1), "{what}");
    }
}

#[test]
fn a_faulty_plug_in_is_caught_by_the_case_that_proves_it() {
    let program = Countersign::new("");
    Seen::of(&program, &[&broken(), "none"]).expect("no fault", &OF_PROGRAMS);
    let faults: [(&str, &str, &[&str]); 13] = [
        (
            "removes-the-set",
            "two-values",
            &[
                "belief-right",
                "belief-ttl",
                "belief-wrong",
                "both-verbs",
                "foreign-odd",
                "foreign-removed",
                "foreign-ttl",
                "foreign-value",
                "four-writers",
                "handle",
                "handle-stale",
                "octets",
                "quoting",
                "replaced",
                "sixteen-writers",
                "two-hundred",
                "two-instances",
                "two-turned",
                "value-255",
            ],
        ),
        (
            "does-nothing",
            "first-value",
            &[
                "absent-never",
                "belief-gone",
                "belief-right",
                "belief-ttl",
                "belief-wrong",
                "both-verbs",
                "eight-values",
                "ensure-again",
                "foreign-odd",
                "foreign-removed",
                "foreign-ttl",
                "foreign-value",
                "four-writers",
                "full-batch",
                "handle",
                "handle-stale",
                "hundred-names",
                "killed-midway",
                "label-63",
                "label-idn",
                "long-value",
                "name-long",
                "names-at-once",
                "neighbours",
                "observe-each",
                "observe-many",
                "octets",
                "quoting",
                "refusal-form",
                "replaced",
                "same-twice",
                "several-names",
                "sixteen-writers",
                "twenty-values",
                "two-hundred",
                "two-instances",
                "two-turned",
                "two-values",
                "value-255",
                "zone-missing",
            ],
        ),
        ("answers-another-id", "id-echoed", &[]),
        (
            "loses-the-ttl",
            "foreign-ttl",
            &[
                "belief-right",
                "belief-ttl",
                "belief-wrong",
                "foreign-odd",
                "foreign-value",
                "four-writers",
                "sixteen-writers",
            ],
        ),
        ("ignores-case", "octets", &[]),
        ("cuts-values", "long-value", &["value-255"]),
        ("drops-an-octet", "value-255", &[]),
        (
            "forgets-after-200",
            "two-hundred",
            &["full-batch", "observe-many"],
        ),
        (
            "remembers",
            "two-instances",
            &[
                "belief-right",
                "belief-ttl",
                "belief-wrong",
                "foreign-odd",
                "foreign-removed",
                "foreign-ttl",
                "foreign-value",
                "four-writers",
                "neighbours",
                "sixteen-writers",
            ],
        ),
        ("holds-everything", "zone-elsewhere", &["zone-suffix"]),
        (
            "says-goodbye",
            "only-messages",
            &["input-closed", "input-cut", "shutdown"],
        ),
        (
            "never-ends",
            "input-closed",
            &["input-cut", "only-messages", "shutdown"],
        ),
        ("ignores-shutdown", "shutdown", &[]),
    ];
    for (fault, proof, others) in faults {
        let seen = Seen::of(&program, &[&broken(), fault]);
        let mut wanted = others.to_vec();
        wanted.push(proof);
        wanted.sort_unstable();
        let mut failed = seen.ended("failed");
        failed.sort();
        assert_eq!(failed, wanted, "{fault}");
        assert_eq!(seen.finished.code, Some(1), "{fault}");
    }
}

#[test]
fn what_a_plug_in_calls_a_value_is_given_back_when_the_value_goes() {
    let program = Countersign::new("");
    let skipped: Vec<&str> = OF_PROGRAMS
        .into_iter()
        .filter(|it| *it != "handle")
        .collect();
    Seen::of(&program, &[&broken(), "wants-handles"]).expect("wants-handles", &skipped);
}

#[test]
fn what_is_wrong_with_its_traits_is_said_where_it_tells_them() {
    let program = Countersign::new("");
    let seen = Seen::of(&program, &[&broken(), "batch-of-none"]);
    let cases = seen.document["cases"].as_array().unwrap();
    let case = cases.iter().find(|it| it["id"] == "initialize").unwrap();
    assert_eq!(case["result"], "failed");
    let said = case["seen"].as_str().unwrap();
    assert!(said.contains("a batch of 0, not of 1 to"), "{said}");
}

#[test]
fn everything_that_is_left_behind_is_named_on_a_line_of_its_own() {
    let program = Countersign::new("");
    let finished = program
        .run(&["plugin", "test", &broken(), "removes-nothing"])
        .expect_code(1);
    let lines = finished.stdout.lines();
    let mut last = lines.skip_while(|it| !it.contains("left behind, and to be removed by hand"));
    assert!(last.next().is_some(), "{finished:?}");
    let left: Vec<&str> = last.take_while(|it| it.contains(" at ")).collect();
    for nth in 0..100 {
        let name = format!(" at _acme-challenge.many-{nth}.");
        let named = left.iter().filter(|it| it.contains(&name)).count();
        assert_eq!(named, 1, "{name}: {left:?}");
    }
}

#[test]
fn bind_passes_on_a_live_zone() {
    let key = Key::sha256("acme");
    let here = [std::net::Ipv4Addr::LOCALHOST.into()];
    let zone = bind::Zone::primary("example.test", zone::text("example.test", &here, ""))
        .update_policy("grant acme zonesub TXT;");
    let bind = Bind::new().key(&key).zone(zone).start();
    let program = Countersign::new("");
    let keyfile = key.write_keyfile(program.directory());
    configure(
        &program,
        &format!(
            "office: {{rfc2136: {{server: \"{}\", tsig: {{keyfile: {}}}}}}}",
            bind.addr(),
            keyfile.display()
        ),
    );
    let skipped = [
        "zone-below",
        "slots",
        "handle",
        "refused-name",
        "beside-refused",
        "settled",
        "secrets",
    ];
    Seen::of(&program, &["office", "--live", "example.test"]).expect("BIND", &skipped);
}

/// A provider in a configuration that is otherwise as small as can be.
fn configure(program: &Countersign, providers: &str) {
    program.configure(&format!(
        "state: {{dir}}/state
authorities: {{corp: {{directory: \"https://ca.example/\", agree-to-terms: true}}}}
providers: {{{providers}}}
certificates: {{example: {{names: [example.test]}}}}
"
    ));
}

/// A sample with a file that the test can look into.
fn ours(program: &Countersign) -> PathBuf {
    let file = program.path("records");
    let sample = root().join("providers/samples/example.py");
    configure(
        program,
        &format!(
            "ours: {{process: {{command: [{}], config: {{zone: example.test, file: {}}}}}}}",
            sample.display(),
            file.display()
        ),
    );
    file
}

#[test]
fn a_live_zone_is_left_as_it_was() {
    let program = Countersign::new("");
    let file = ours(&program);
    let before = "www.example.test. 300 IN TXT \"public\"\n";
    std::fs::write(&file, before).unwrap();
    Seen::of(&program, &["ours", "--live", "example.test"]).expect("a live zone", &OF_PROGRAMS);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn what_was_written_is_removed_when_it_is_interrupted() {
    let program = Countersign::new("");
    let file = ours(&program);
    for until in [
        "first-value",
        "eight-values",
        "foreign-ttl",
        "hundred-names",
    ] {
        let running = program.start(&["plugin", "test", "ours", "--live", "example.test"]);
        let mut line = running.next_output_line();
        while line.as_ref().is_some_and(|it| !it.contains(until)) {
            line = running.next_output_line();
        }
        assert!(line.is_some(), "{until}");
        running.interrupt();
        let finished = running.finish();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(
            finished
                .stderr
                .contains("nothing that the cases wrote is left"),
            "{finished:?}"
        );
        let left = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(left, "", "after {until}");
    }
}

#[test]
fn the_table_shows_each_case_and_what_was_seen() {
    let program = Countersign::new("");
    let finished = program
        .run(&["plugin", "test", &broken(), "cuts-values"])
        .expect_code(1);
    let lines: Vec<&str> = finished.stdout.lines().collect();
    assert_eq!(lines[0], "zones");
    assert!(lines[1].starts_with("  ✓ zone-of-name "), "{}", lines[1]);
    let failed = lines.iter().position(|it| it.starts_with("  ✗ ")).unwrap();
    assert!(lines[failed].contains("long-value"), "{}", lines[failed]);
    assert!(
        lines[failed + 1].contains("wanted is"),
        "{}",
        lines[failed + 1]
    );
    assert!(lines.last().unwrap().contains("2 failed"), "{lines:?}");
    assert!(!finished.stdout.contains('\u{1b}'));
}

#[test]
fn the_document_for_programs_has_its_form() {
    let program = Countersign::new("");
    let seen = Seen::of(&program, &[&broken(), "none"]);
    let document = &seen.document;
    assert_eq!(document["schema"], 1);
    assert_eq!(document["plugin"], format!("{} none", broken()));
    assert_eq!(document["model"], "value");
    assert_eq!(document["zone"], "virtual.test");
    let cases = document["cases"].as_array().unwrap();
    let count = |result: &str| json!(seen.ended(result).len());
    for result in ["passed", "failed", "skipped"] {
        assert_eq!(document[result], count(result), "{result}");
    }
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let first = &cases[0];
    let keys: Vec<&String> = first.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["group", "id", "proves", "result", "seen"]);
    let mut ids: Vec<&str> = cases.iter().map(|it| it["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), cases.len(), "each has an id of its own");
}

#[test]
fn what_cannot_be_found_is_named_with_what_is_near() {
    let program = Countersign::new("");
    ours(&program);
    let stderr = |arguments: &[&str]| {
        let arguments = [&["plugin", "test"], arguments].concat();
        program.run(&arguments).expect_code(2).stderr
    };
    let near = stderr(&["our"]);
    assert!(
        near.contains("`our` is no provider of the configuration"),
        "{near}"
    );
    assert!(near.contains("did you mean `ours`?"), "{near}");
    let far = stderr(&["/no/such/program"]);
    assert!(
        far.contains("there is no program `/no/such/program`"),
        "{far}"
    );
    let missing = stderr(&["missing.yaml"]);
    assert!(
        missing.contains("`missing.yaml` is no provider"),
        "{missing}"
    );
    let manifest = text(root().join("providers/manifests/vultr.yaml"));
    let live = stderr(&[&manifest, "--live", "example.test"]);
    assert!(
        live.contains("a manifest alone has no credential"),
        "{live}"
    );
    let zone = stderr(&["ours", "--live", "a b"]);
    assert!(zone.contains("--live a b: "), "{zone}");
    let wrong = program.path("wrong.yaml");
    std::fs::write(&wrong, "name: x\nmodle: value\n").unwrap();
    let wrong = stderr(&[wrong.to_str().unwrap()]);
    assert!(wrong.contains("unknown word `modle`"), "{wrong}");
    let elsewhere = program
        .run(&["plugin", "test", "ours", "--live", "other.test"])
        .expect_code(1);
    assert!(elsewhere.stderr.contains("other.test"), "{elsewhere:?}");
}

/// A program of one line or more, which can be run.
fn script(program: &Countersign, name: &str, lines: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let file = program.path(name);
    std::fs::write(&file, lines).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn a_secret_that_a_program_repeats_is_not_shown() {
    let program = Countersign::new("");
    let lines = "#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    secrets = json.loads(line).get('params', {}).get('secrets', {})
    print('told', secrets.get('token'), flush=True)
";
    let leaks = script(&program, "leaks.py", lines);
    let secret = program.path("token");
    std::fs::write(&secret, "canary-of-nobody-".repeat(60)).unwrap();
    configure(
        &program,
        &format!(
            "leaks: {{process: {{command: [{}], secrets: {{token: {{file: {}}}}}}}}}",
            leaks.display(),
            secret.display()
        ),
    );
    let finished = program.run(&["plugin", "test", "leaks"]).expect_code(1);
    assert!(finished.stdout.contains("told (secret)"), "{finished:?}");
    assert!(!finished.stdout.contains("canary"), "{finished:?}");
}

#[test]
fn a_built_in_plug_in_is_not_tried_without_a_zone() {
    let program = Countersign::new("");
    let token = program.path("token");
    std::fs::write(&token, "nobody").unwrap();
    configure(
        &program,
        &format!(
            "cf: {{cloudflare: {{token: {{file: {}}}}}}}",
            token.display()
        ),
    );
    let finished = program.run(&["plugin", "test", "cf"]).expect_code(2);
    assert!(finished.stderr.contains("--live ZONE"), "{finished:?}");
}

#[test]
fn a_program_that_does_not_run_is_told_of_with_its_last_words() {
    let program = Countersign::new("");
    let dies = script(
        &program,
        "dies.sh",
        "#!/bin/sh\necho no library here >&2\nexit 3\n",
    );
    let finished = program
        .run(&["plugin", "test", dies.to_str().unwrap()])
        .expect_code(1);
    assert!(finished.stderr.contains("no library here"), "{finished:?}");
    assert_eq!(finished.stdout, "");
}
