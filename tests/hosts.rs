//! The main job through DNS hosts of every kind: a certificate for a name and its wildcard from Pebble, and nothing of
//! ours left. Cloudflare's has a place of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::issuance::{Host, judge};
use crate::support::command::Countersign;
use crate::support::golden::root;
use crate::support::pebble::{Pebble, Version};
use crate::support::powerdns::{PowerDns, Zone};
use crate::support::process::servers_directory;
use crate::support::{dns, ports, zone};

const CHALLENGE: &str = "_acme-challenge.example.test";

/// `example` for a name and its wildcard by the one provider `host`, from a Pebble that asks the servers at `dns`.
fn issues(at: SocketAddr, prepare: impl FnOnce(&Countersign) -> String) {
    let pebble = Pebble::new(Version::Newest, at).start();
    let program = Countersign::new("");
    let provider = prepare(&program);
    program.configure(&format!(
        "state: {{dir}}/state
authorities:
  pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: {trust}}}
providers: {{host: {{{provider}}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  example: {{names: [example.test, \"*.example.test\"], deliver: [{{files: {{directory: \"{{dir}}/out\"}}}}]}}
",
        directory = pebble.directory_url(),
        trust = pebble.https_root().display(),
        port = at.port(),
    ));
    program.run(&["check"]).expect_code(0);
    program.run(&["renew"]).expect_code(0);
    let names = ["example.test", "*.example.test"];
    judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
}

/// An executable file of the program's directory.
fn script(program: &Countersign, name: &str, text: &str) -> PathBuf {
    let path = program.path(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// BIND with a key that may change one name.
fn host() -> Host {
    Host::start("", &format!("grant acme name {CHALLENGE} TXT;"))
}

fn nsupdate() -> PathBuf {
    servers_directory().join("bin/nsupdate")
}

/// A line of shell that has BIND change one record: the words after `update`.
fn change(host: &Host, key: &Path, words: &str) -> String {
    format!(
        "printf 'server 127.0.0.1 {}\\nzone example.test.\\nupdate {words}\\nsend\\n' | {} -v -k {}",
        host.addr().port(),
        nsupdate().display(),
        key.display()
    )
}

#[test]
fn powerdns_by_its_manifest() {
    let api = ports::free();
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let text = zone::text("example.test", &here, "_acme-challenge 120 TXT foreign\n");
    let powerdns = PowerDns::new()
        .option("api=yes")
        .option("api-key=good")
        .option("webserver=yes")
        .option("webserver-address=127.0.0.1")
        .option(&format!("webserver-port={}", api.number()))
        .zone(Zone::primary("example.test", text))
        .start();
    issues(powerdns.addr(), |program| {
        std::fs::write(program.path("token"), "good\n").unwrap();
        let endpoint = format!("http://127.0.0.1:{}", api.number());
        format!("powerdns: {{endpoint: \"{endpoint}\", token: {{file: \"{{dir}}/token\"}}}}")
    });
    assert_eq!(dns::txt(powerdns.addr(), CHALLENGE), ["foreign"]);
}

#[test]
fn a_process_plug_in() {
    let host = host();
    issues(host.addr(), |program| {
        let key = host.key.write_keyfile(program.directory());
        format!(
            "process: {{command: [{}], config: {{zone: example.test, host: 127.0.0.1, port: {}, nsupdate: {}, key: {}}}}}",
            root().join("tests/hosts/plugin.py").display(),
            host.addr().port(),
            nsupdate().display(),
            key.display()
        )
    });
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [""; 0]);
}

#[test]
fn a_script_for_lego() {
    let host = host();
    issues(host.addr(), |program| {
        let key = host.key.write_keyfile(program.directory());
        let add = change(&host, &key, "add %s 60 TXT \"%s\"");
        let delete = change(&host, &key, "delete %s TXT \"%s\"");
        // The words for printf stand before its input.
        let filled = |line: &str| line.replacen("' |", "' \"$2\" \"$3\" |", 1);
        let text = format!(
            "#!/bin/sh\nset -e\ncase $1 in\npresent) {} ;;\ncleanup) {} ;;\nesac\n",
            filled(&add),
            filled(&delete)
        );
        let command = script(program, "update.sh", &text);
        format!("lego-exec: {{command: [{}]}}", command.display())
    });
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [""; 0]);
}

#[test]
fn certbots_hooks() {
    let host = host();
    issues(host.addr(), |program| {
        let key = host.key.write_keyfile(program.directory());
        let filled = |line: &str, value: &str| {
            let words = format!("' \"_acme-challenge.$CERTBOT_DOMAIN.\" \"{value}\" |");
            line.replacen("' |", &words, 1)
        };
        let add = change(&host, &key, "add %s 60 TXT \"%s\"");
        let add = filled(&add, "$CERTBOT_VALIDATION");
        let text = format!("#!/bin/sh\nset -e\n{add}\necho \"$CERTBOT_VALIDATION\"\n");
        let auth = script(program, "auth.sh", &text);
        // It removes by what the first one printed.
        let delete = change(&host, &key, "delete %s TXT \"%s\"");
        let delete = filled(&delete, "$CERTBOT_AUTH_OUTPUT");
        let cleanup = script(
            program,
            "cleanup.sh",
            &format!("#!/bin/sh\nset -e\n{delete}\n"),
        );
        format!(
            "certbot-hooks: {{auth: [{}], cleanup: [{}]}}",
            auth.display(),
            cleanup.display()
        )
    });
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [""; 0]);
}
