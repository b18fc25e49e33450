//! The main job through DNS hosts of every kind: a certificate for a name and its wildcard from Pebble, nothing of ours
//! left, and the host's credential seen by nobody else. Cloudflare's has a place of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use serde_json::Value;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::canary::{Search, marked, search_files, search_output, write_spy};
use crate::issuance::{Host, judge};
use crate::runners::ACME_SH;
use crate::support::bind::{self, Bind};
use crate::support::cloudflare::{self, Cloudflare, Token};
use crate::support::command::Countersign;
use crate::support::golden::root;
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::powerdns::{PowerDns, Zone};
use crate::support::process::{eventually, guarded, servers_directory};
use crate::support::route53::{self, moto::Moto};
use crate::support::tsig::Key;
use crate::support::webhook::Webhook;
use crate::support::{dns, ports, zone};

const CHALLENGE: &str = "_acme-challenge.example.test";
const WITHIN: Duration = Duration::from_secs(30);

/// `example` for a name and its wildcard by the one provider `host`, from a Pebble that asks the servers at `dns`.
fn issues(at: SocketAddr, prepare: impl FnOnce(&Countersign) -> String) {
    let pebble = Pebble::new(Version::Newest, at).start();
    let program = Countersign::new("");
    std::fs::write(program.path("secret"), format!("{}\n", secret())).unwrap();
    let provider = prepare(&program);
    write_spy(&program);
    configure(&program, &pebble, at, &provider, "");
    program.run(&["check"]).expect_code(0);
    let renewed = program.run(&["--log", "trace", "renew"]).expect_code(0);
    expect_issued(&program, &pebble);
    let mut search = Search::default();
    search.add("the credential", secret().as_bytes());
    search_output(&search, "renew", &renewed);
    search_files(&search, program.directory());
    let files = std::fs::read_dir(program.directory()).unwrap();
    let names = files.map(|it| it.unwrap().file_name());
    let mut spied = names.filter(|name| name.to_string_lossy().starts_with("seen-by-child-"));
    assert!(spied.next().is_some(), "nobody looked as a child does");
}

/// The credential that every host here wants.
fn secret() -> String {
    URL_SAFE_NO_PAD.encode(marked(7))
}

/// A line of shell that goes on only for whoever was given the credential, without showing it.
fn guard(variable: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret().as_bytes());
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    format!("printf %s \"${variable}\" | sha256sum | grep -q {digest} || exit 9\n")
}

/// `more` is lines at the top of the configuration.
fn configure(
    program: &Countersign,
    pebble: &RunningPebble,
    at: SocketAddr,
    provider: &str,
    more: &str,
) {
    program.configure(&format!(
        "state: {{dir}}/state
{more}
authorities:
  pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: {trust}}}
providers: {{host: {{{provider}}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  example: {{names: [example.test, \"*.example.test\"], deliver: [{{files: {{directory: \"{{dir}}/out\"}}{reload}}}]}}
",
        directory = pebble.directory_url(),
        trust = pebble.https_root().display(),
        port = at.port(),
        reload = match program.path("spy").exists() {
            true => ", reload: [\"{dir}/spy\"]",
            false => "",
        },
    ));
}

fn expect_issued(program: &Countersign, pebble: &RunningPebble) {
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
        .option(&format!("api-key={}", secret()))
        .option("webserver=yes")
        .option("webserver-address=127.0.0.1")
        .option(&format!("webserver-port={}", api.number()))
        .zone(Zone::primary("example.test", text))
        .start();
    issues(powerdns.addr(), |_| {
        let endpoint = format!("http://127.0.0.1:{}", api.number());
        format!("powerdns: {{endpoint: \"{endpoint}\", token: {{file: \"{{dir}}/secret\"}}}}")
    });
    assert_eq!(dns::txt(powerdns.addr(), CHALLENGE), ["foreign"]);
}

#[test]
fn a_process_plug_in() {
    let host = host();
    issues(host.addr(), |program| {
        let key = host.key.write_keyfile(program.directory());
        format!(
            "process: {{command: [{}], secrets: {{token: {{file: \"{{dir}}/secret\"}}}}, config: {{zone: example.test, host: 127.0.0.1, port: {}, nsupdate: {}, key: {}}}}}",
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
            "#!/bin/sh\nset -e\n{}case $1 in\npresent) {} ;;\ncleanup) {} ;;\nesac\n",
            guard("TOKEN"),
            filled(&add),
            filled(&delete)
        );
        let command = script(program, "update.sh", &text);
        format!(
            "lego-exec: {{command: [{}], env: {{TOKEN: {{file: \"{{dir}}/secret\"}}}}}}",
            command.display()
        )
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
        let guard = guard("TOKEN");
        let text =
            format!("#!/bin/sh\nset -e\n{guard}{add}\necho \"$TOKEN $CERTBOT_VALIDATION\"\n");
        let auth = script(program, "auth.sh", &text);
        // It removes by what the first one printed last.
        let delete = change(&host, &key, "delete %s TXT \"%s\"");
        let delete = filled(&delete, "${CERTBOT_AUTH_OUTPUT##* }");
        let cleanup = script(
            program,
            "cleanup.sh",
            &format!("#!/bin/sh\nset -e\n{guard}{delete}\n"),
        );
        format!(
            "certbot-hooks: {{auth: [{}], cleanup: [{}], env: {{TOKEN: {{file: \"{{dir}}/secret\"}}}}}}",
            auth.display(),
            cleanup.display()
        )
    });
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [""; 0]);
}

/// The acme.sh that is installed here is as much of it as a script needs.
#[test]
fn a_script_of_acme_sh() {
    let host = host();
    issues(host.addr(), |program| {
        let key = host.key.write_keyfile(program.directory());
        let filled = |words: &str| {
            let line = change(&host, &key, words);
            line.replacen("' |", "' \"$1\" \"$2\" |", 1)
        };
        let add = filled("add %s 60 TXT \"%s\"");
        let delete = filled("delete %s TXT \"%s\"");
        let guard = guard("NIC_Token");
        let text = format!(
            "dns_nic_add() {{\n{guard}_saveaccountconf_mutable NIC_Token \"$NIC_Token\"\n{add}\n}}\ndns_nic_rm() {{\n{guard}{delete}\n}}\n"
        );
        let home = program.path("acme.sh");
        std::fs::create_dir_all(home.join("dnsapi")).unwrap();
        std::fs::write(home.join("acme.sh"), ACME_SH).unwrap();
        std::fs::write(home.join("account.conf"), "").unwrap();
        std::fs::write(home.join("dnsapi/dns_nic.sh"), text).unwrap();
        format!(
            "acme-sh: {{home: {}, script: dns_nic, env: {{NIC_Token: {{file: \"{{dir}}/secret\"}}}}}}",
            home.display()
        )
    });
    assert_eq!(dns::txt(host.addr(), CHALLENGE), [""; 0]);
}

/// It has a change only after the zone was transferred back to it.
#[test]
fn a_secondary_that_passes_updates_on() {
    let key = Key::sha256("acme");
    let port = ports::free();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let policy = format!("grant acme name {CHALLENGE} TXT;");
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let text = zone::text("example.test", &here, "_acme-challenge 120 TXT foreign\n");
    let primary = bind::Zone::primary("example.test", text)
        .update_policy(&policy)
        .notify(&[at]);
    let primary = Bind::new().key(&key).zone(primary).start();
    let secondary = bind::Zone::secondary("example.test", &[primary.addr()])
        .statement("allow-update-forwarding { any; };");
    let secondary = Bind::new().port(port.number()).key(&key).zone(secondary);
    let secondary = secondary.start();
    issues(primary.addr(), |program| {
        let keyfile = key.write_keyfile(program.directory());
        format!(
            "rfc2136: {{server: \"{}\", tsig: {{keyfile: {}}}}}",
            secondary.addr(),
            keyfile.display()
        )
    });
    assert_eq!(dns::txt(primary.addr(), CHALLENGE), ["foreign"]);
    let ttl = dns::ttl(primary.addr(), CHALLENGE, RecordType::TXT);
    assert_eq!(ttl, Some(120));
}

/// moto shows what it holds to whoever asks; Pebble asks a DNS server that reads it there.
#[test]
fn route_53_as_moto_plays_it() {
    let moto = Moto::start();
    moto.make_zone("example.test", false);
    moto.make_zone("example.test", true);
    let dns = route53::dns::bridge(moto.addr());
    issues(dns.addr(), |_| {
        format!(
            "route53: {{endpoint: \"{}\", access-key-id: {}, secret-access-key: {{file: \"{{dir}}/secret\"}}}}",
            moto.url(),
            route53::KEY
        )
    });
    assert_eq!(dns::txt(dns.addr(), CHALLENGE), [""; 0]);
}

/// The first configurations of the README as they stand there, but for where the servers and files are.
#[test]
fn the_first_configurations_of_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = readme.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|it| it.split("```").next().unwrap()).collect();

    let policy = "grant acme name _acme-challenge.example.com. TXT;";
    assert!(readme.contains(policy));
    let key = Key::sha256("acme");
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let zone = bind::Zone::primary("example.com", zone::text("example.com", &here, ""));
    let bind = Bind::new().key(&key).zone(zone.update_policy(policy));
    let bind = bind.start();
    let program = Countersign::new("");
    let keyfile = key.write_keyfile(program.directory());
    let changes = [
        ("192.0.2.53:53", bind.addr().to_string()),
        ("/etc/countersign/acme.key", keyfile.display().to_string()),
        ("/etc/ssl/example", "{dir}/out".to_owned()),
        ("ssl-cert", "root".to_owned()),
        ("systemctl, reload, nginx", "/bin/true".to_owned()),
    ];
    first_certificate(&program, bind.addr(), blocks[0], &changes);

    let names = "names: [example.com, \"*.example.com\"]";
    let delivered = format!("{names}, deliver: [{{files: {{directory: \"{{dir}}/out\"}}}}]");
    let state = cloudflare::State::new(Token::usual()).zone("example.com", "acme");
    let api = Cloudflare::start(state);
    let dns = cloudflare::dns::bridge(&api);
    let program = Countersign::new("");
    std::fs::write(program.path("token"), Token::usual().secret).unwrap();
    let token = "{file: /etc/countersign/cloudflare.token}";
    let there = format!("{{file: \"{{dir}}/token\"}}, endpoint: \"{}\"", api.url());
    let changes = [(token, there), (names, delivered.clone())];
    first_certificate(&program, dns.addr(), blocks[1], &changes);

    let fake = route53::Fake::start(vec![route53::store::Zone::new("Z1EXAMPLE", "example.com")]);
    let dns = route53::dns::bridge(fake.addr());
    let program = Countersign::new("")
        .env("AWS_ACCESS_KEY_ID", route53::KEY)
        .env("AWS_SECRET_ACCESS_KEY", route53::SECRET);
    let settings = format!("route53: {{endpoint: \"{}\"}}", fake.url());
    let changes = [("route53: {}", settings), (names, delivered)];
    first_certificate(&program, dns.addr(), blocks[2], &changes);
}

/// A certificate by `text` with these changes, each of which it must have room for.
fn first_certificate(
    program: &Countersign,
    at: SocketAddr,
    text: &str,
    changes: &[(&str, String)],
) {
    let pebble = Pebble::new(Version::Newest, at).start();
    let authority = format!(
        "agree-to-terms: true, directory: \"{}\", trust: {}",
        pebble.directory_url(),
        pebble.https_root().display()
    );
    let mut text = text.replacen("agree-to-terms: true", &authority, 1);
    for (was, is) in changes {
        assert!(text.contains(was), "{was} is not in\n{text}");
        text = text.replacen(was, is, 1);
    }
    let port = at.port();
    program.configure(&format!(
        "state: {{dir}}/state\ndns: {{look: roots, roots: [127.0.0.1], port: {port}}}\n{text}"
    ));
    program.run(&["renew"]).expect_code(0);
    let names = ["example.com", "*.example.com"];
    judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
    assert_eq!(dns::txt(at, "_acme-challenge.example.com"), [""; 0]);
}

/// A person who does what the sentences say, by `nsupdate`.
struct Person {
    host: Host,
    key: PathBuf,
}

impl Person {
    fn new(program: &Countersign) -> Self {
        let host = host();
        let key = host.key.write_keyfile(program.directory());
        Self { host, key }
    }

    /// Does with every `TXT "value" at name` of a sentence what `words` say of it; how many there were.
    fn obeys(&self, sentence: &str, words: &str) -> usize {
        let records = sentence.split("TXT \"").skip(1);
        let records = records.map(|rest| {
            let (value, rest) = rest.split_once("\" at ").unwrap();
            let end = rest.find([' ', ',', ';']).unwrap_or(rest.len());
            let name = rest[..end].to_owned();
            words.replace("NAME", &name).replace("VALUE", value)
        });
        let lines: Vec<String> = records
            .map(|words| change(&self.host, &self.key, &words))
            .collect();
        for line in &lines {
            let mut sh = guarded(Path::new("/bin/sh"));
            assert!(sh.args(["-e", "-c", line]).status().unwrap().success());
        }
        lines.len()
    }
}

const ADD: &str = "add NAME. 60 TXT \"VALUE\"";
const DELETE: &str = "delete NAME. TXT \"VALUE\"";

#[test]
fn a_person_who_does_by_hand_what_renew_says() {
    let program = Countersign::new("");
    let person = Person::new(&program);
    let pebble = Pebble::new(Version::Newest, person.host.addr()).start();
    configure(&program, &pebble, person.host.addr(), "manual: {}", "");
    program.run(&["check"]).expect_code(0);
    let renew = program.start(&["renew"]);
    let (mut added, mut removed) = (0, 0);
    while let Some(line) = renew.next_output_line() {
        if line.contains("add by hand") {
            assert!(line.contains("`countersign delegate example`"), "{line}");
            added += person.obeys(&line, ADD);
        } else if line.contains("remove by hand") {
            removed += person.obeys(&line, DELETE);
        }
    }
    renew.finish().expect_code(0);
    expect_issued(&program, &pebble);
    assert_eq!((added, removed), (2, 2));
    assert_eq!(dns::txt(person.host.addr(), CHALLENGE), [""; 0]);
}

/// A script that hangs, and what it has started.
#[test]
fn no_script_outlives_whoever_started_it() {
    let host = host();
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    let program = Countersign::new("");
    let text = "#!/bin/sh\nsleep 987 &\necho $$ $! >\"$0.pids\"\nwait\n";
    let hangs = script(&program, "hangs.sh", text);
    let provider = format!("lego-exec: {{command: [{}]}}", hangs.display());
    configure(&program, &pebble, host.addr(), &provider, "");
    let pids = program.path("hangs.sh.pids");
    for command in ["renew", "run", "clean"] {
        let running = program.start(&[command]);
        let started = || std::fs::read_to_string(&pids).is_ok_and(|it| it.ends_with('\n'));
        assert!(eventually(WITHIN, started));
        // First politely, then at once.
        running.interrupt();
        running.interrupt();
        running.finish();
        let pids = std::fs::read_to_string(&pids).unwrap();
        let there = |pid: &str| Path::new("/proc").join(pid).join("exe").exists();
        let none = || !pids.split_whitespace().any(there);
        assert!(eventually(WITHIN, none), "{command}: {pids}");
        std::fs::remove_file(program.path("hangs.sh.pids")).unwrap();
    }
}

/// More certificates than an authority has seats.
const BY_HAND: usize = 40;

#[test]
fn however_many_wait_for_a_person_another_one_is_issued() {
    let program = Countersign::new("");
    let host = host();
    let key = host.key.write_keyfile(program.directory());
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    let providers = format!(
        "manual: {{}}}}, office: {{rfc2136: {{server: \"{}\", tsig: {{keyfile: {}}}}}",
        host.addr(),
        key.display()
    );
    let by_hand = |n: usize| format!("  a{n}: {{names: [a{n}.example.test], provider: host}}\n");
    configure(&program, &pebble, host.addr(), &providers, "");
    let text = std::fs::read_to_string(program.path("countersign.yaml")).unwrap();
    let others: String = (0..BY_HAND).map(by_hand).collect();
    let text = text.replace(
        "{names: [example.test",
        "{provider: office, names: [example.test",
    );
    program.configure(&format!("{text}{others}"));
    let daemon = program.start(&["run"]);
    assert!(eventually(3 * WITHIN, || program.path("out").exists()));
    expect_issued(&program, &pebble);
    daemon.wait_for_nth("add by hand", BY_HAND).unwrap();
    daemon.terminate();
    daemon.finish().expect_code(0);
}

#[test]
fn a_person_is_alerted_when_the_daemon_needs_something_done_by_hand() {
    let program = Countersign::new("");
    let person = Person::new(&program);
    let pebble = Pebble::new(Version::Newest, person.host.addr()).start();
    let hook = Webhook::start();
    let alerts = format!("alerts: [{{webhook: \"{}\"}}]", hook.url("/"));
    let at = person.host.addr();
    configure(&program, &pebble, at, "manual: {}", &alerts);
    let daemon = program.start(&["run"]);
    daemon.wait_for("add by hand").unwrap();
    assert!(eventually(WITHIN, || hook.taken("/").len() == 1));
    let alert = hook.taken("/").remove(0).json();
    assert_eq!(alert["event"], "failure", "{alert}");
    assert_eq!(alert["whose"], "you", "{alert}");
    let sentence = alert["sentence"].as_str().unwrap();
    assert_eq!(sentence.matches("TXT \"").count(), 2, "{sentence}");

    // Whoever looks is told all that is to be done, however often the daemon is killed.
    daemon.kill();
    let daemon = program.start(&["run"]);
    daemon.wait_for("ready: ").unwrap();
    let blocked = || {
        let said = program.run(&["status", "--json"]).expect_code(0).stdout;
        let status: Value = serde_json::from_str(&said).unwrap();
        let certificate = &status["certificates"][0];
        let sentence = certificate["failure"]["sentence"].as_str();
        let sentence = sentence.unwrap_or_default().to_owned();
        let is_blocked = certificate["activity"] == "blocked";
        (is_blocked && sentence.matches("TXT").count() == 2).then_some(sentence)
    };
    assert!(eventually(WITHIN, || blocked().is_some()));
    assert_eq!(person.obeys(&blocked().unwrap(), ADD), 2);
    daemon.wait_for("remove by hand").unwrap();
    // What was taken when the daemon was killed may be told again.
    let told = || {
        let bodies = hook.taken("/").into_iter().map(|it| it.json());
        let mut events: Vec<Value> = bodies.map(|body| body["event"].clone()).collect();
        events.dedup();
        events
    };
    assert!(eventually(WITHIN, || told() == ["failure", "recovery"]));
    expect_issued(&program, &pebble);
    daemon.terminate();
    daemon.finish().expect_code(0);
}
