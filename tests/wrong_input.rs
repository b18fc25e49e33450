//! What people read when something is wrong around a `renew`: real servers, each with one fault, and one golden message
//! in `tests/errors/renew-*.txt` for each.
//!
//! Every fault is repaired afterwards, and then the certificate comes: a failure leaves nothing behind. Mistakes in the
//! configuration itself are in `config.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde_json::json;

use crate::issuance::{Host, configuration, countersign};
use crate::support::bind::{self, Bind};
use crate::support::command::{Countersign, Finished};
use crate::support::disk::Disk;
use crate::support::golden::{golden, normal, root};
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::process::{Process, server};
use crate::support::tls::Identity;
use crate::support::tsig::Key;
use crate::support::{dns, ports, zone};

const GRANT: &str = "grant acme name _acme-challenge.example.test TXT;";
const FOREIGN: &str = "_acme-challenge 120 TXT foreign\n";
const ONE: &str = "  example:
    names: [example.test, \"*.example.test\"]
    deliver: [{files: {directory: \"{dir}/out\"}}]
";

/// Servers without a fault, and the program set up for them.
struct Scene {
    host: Host,
    pebble: RunningPebble,
    program: Countersign,
}

impl Scene {
    fn usual() -> Self {
        Self::with(Host::usual(), |pebble| pebble)
    }

    fn with(host: Host, pebble: impl FnOnce(Pebble) -> Pebble) -> Self {
        let pebble = pebble(Pebble::new(Version::Newest, host.addr())).start();
        let program = countersign(&host, &pebble.directory_url(), &pebble.https_root(), ONE);
        Self {
            host,
            pebble,
            program,
        }
    }

    /// The configuration without a fault.
    fn right(&self) -> String {
        let directory = self.pebble.directory_url();
        configuration(&self.host, &directory, &self.pebble.https_root(), ONE)
    }

    /// The same with one thing replaced.
    fn configure(&self, right: &str, wrong: &str) {
        let text = self.right();
        assert!(text.contains(right), "{right} is not in\n{text}");
        self.program.configure(&text.replace(right, wrong));
    }

    /// `renew` fails with the message of `case` and leaves nothing in the zone.
    fn fails(&self, case: &str) {
        fails(&self.program, &["renew"], case);
        self.host.expect_clean();
    }

    /// With the right configuration the certificate comes, and nothing is left.
    fn recovers(&self) {
        self.program.configure(&self.right());
        self.program.run(&["renew"]).expect_code(0);
        assert!(self.program.path("out/fullchain.pem").exists());
        self.host.expect_clean();
    }
}

/// The command ends with 1 and says what `tests/errors/renew-CASE.txt` says, and nothing else on standard error.
fn fails(program: &Countersign, arguments: &[&str], case: &str) -> Finished {
    let finished = program.run(arguments).expect_code(1);
    let message = normal(&finished.stderr, program.directory());
    for sign_of_a_stack in ["Error(", "Failure {", "Some(", "panicked", "os error", "0x"] {
        assert!(!message.contains(sign_of_a_stack), "{message}");
    }
    golden(
        &root().join(format!("tests/errors/renew-{case}.txt")),
        &message,
    );
    finished
}

// --- the DNS host ----------------------------------------------------------------------------------------------------

#[test]
fn a_wrong_tsig_secret() {
    let scene = Scene::usual();
    let wrong = Key::new("acme", "hmac-sha256", 9);
    std::fs::write(scene.program.path("tsig"), &wrong.secret).unwrap();
    scene.fails("tsig-secret");
    std::fs::write(scene.program.path("tsig"), &scene.host.key.secret).unwrap();
    scene.recovers();
}

#[test]
fn an_unknown_tsig_key() {
    let scene = Scene::usual();
    scene.configure("name: acme,", "name: stranger,");
    scene.fails("tsig-key");
    scene.recovers();
}

#[test]
fn a_tsig_secret_that_is_no_base64() {
    let scene = Scene::usual();
    std::fs::write(scene.program.path("tsig"), "not base64!\n").unwrap();
    scene.fails("tsig-not-base64");
    std::fs::write(scene.program.path("tsig"), &scene.host.key.secret).unwrap();
    scene.recovers();
}

#[test]
fn a_secret_file_that_is_missing() {
    let scene = Scene::usual();
    std::fs::remove_file(scene.program.path("tsig")).unwrap();
    scene.fails("secret-missing");
    std::fs::write(scene.program.path("tsig"), &scene.host.key.secret).unwrap();
    scene.recovers();
}

#[test]
fn a_clock_that_differs() {
    let key = Key::sha256("acme");
    let zone = bind::Zone::primary("example.test", zone::text("example.test", &[HERE], FOREIGN));
    let bind = Bind::new()
        .key(&key)
        .zone(zone.update_policy(GRANT))
        .clock_ahead(4000)
        .start();
    let mut scene = Scene::with(Host { bind, key }, |pebble| pebble);
    scene.fails("clock-skew");
    scene.host.bind.start_again();
    scene.recovers();
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn an_update_that_is_refused() {
    let host = Host::start(FOREIGN, "grant acme name www.example.test TXT;");
    let mut scene = Scene::with(host, |pebble| pebble);
    scene.fails("update-refused");
    change_bind(
        &mut scene.host,
        "grant acme name www.example.test TXT;",
        GRANT,
    );
    scene.recovers();
}

/// Changes the configuration of a BIND and starts it again.
fn change_bind(host: &mut Host, from: &str, to: &str) {
    let file = host.bind.directory().join("named.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in\n{text}");
    host.bind.stop();
    std::fs::write(&file, text.replace(from, to)).unwrap();
    host.bind.start_again();
}

#[test]
fn a_zone_that_nobody_holds() {
    let scene = Scene::usual();
    let other = zone::text("other.test", &[HERE], "");
    let elsewhere = Bind::new().key(&scene.host.key);
    let elsewhere = elsewhere
        .zone(bind::Zone::primary("other.test", other))
        .start();
    let office = format!("server: {}", scene.host.addr());
    scene.configure(&office, &format!("server: {}", elsewhere.addr()));
    scene.fails("no-provider");
    scene.recovers();
}

#[test]
fn a_zone_that_the_configured_one_is_not() {
    let records = format!("{FOREIGN}sub NS ns.sub\nns.sub A 127.0.0.1\n");
    let key = Key::sha256("acme");
    let parent = bind::Zone::primary(
        "example.test",
        zone::text("example.test", &[HERE], &records),
    );
    let child = bind::Zone::primary(
        "sub.example.test",
        zone::text("sub.example.test", &[HERE], ""),
    );
    let grant = "grant acme name _acme-challenge.sub.example.test TXT;";
    let bind = Bind::new()
        .key(&key)
        .zone(parent.update_policy(GRANT))
        .zone(child.update_policy(grant))
        .start();
    let scene = Scene::with(Host { bind, key }, |pebble| pebble);
    let at_child = scene.right().replace(
        "names: [example.test, \"*.example.test\"]",
        "names: [sub.example.test]",
    );
    let confined = at_child.replace("    rfc2136:\n", "    rfc2136:\n      zone: example.test\n");
    scene.program.configure(&confined);
    scene.fails("other-zone");
    scene.program.configure(&at_child);
    scene.program.run(&["renew"]).expect_code(0);
}

#[test]
fn an_update_server_that_is_down() {
    let scene = Scene::usual();
    let nobody = ports::free();
    let office = format!("server: {}", scene.host.addr());
    scene.configure(&office, &format!("server: 127.0.0.1:{}", nobody.number()));
    scene.fails("update-server-down");
    scene.recovers();
}

#[test]
fn a_dns_where_nothing_answers() {
    let mut scene = Scene::usual();
    scene.host.bind.stop();
    fails(&scene.program, &["renew"], "dns-refused");
    scene.host.bind.start_again();
    scene.host.bind.process.pause();
    fails(&scene.program, &["renew"], "dns-silent");
    scene.host.bind.process.resume();
    scene.recovers();
}

#[test]
fn a_domain_that_does_not_exist() {
    let key = Key::sha256("acme");
    let delegation = "example NS ns1.example\nns1.example A 127.0.0.1\n";
    let test = bind::Zone::primary("test", zone::text("test", &[HERE], delegation));
    let example = zone::text("example.test", &[HERE], FOREIGN);
    let example = bind::Zone::primary("example.test", example).update_policy(GRANT);
    let bind = Bind::new().key(&key).zone(test).zone(example).start();
    let scene = Scene::with(Host { bind, key }, |pebble| pebble);
    let missing = scene.right().replace("*.example.test", "missing.test");
    let confined = missing.replace("    rfc2136:\n", "    rfc2136:\n      zone: example.test\n");
    scene.program.configure(&confined);
    scene.fails("no-such-domain");
    scene.recovers();
}

#[test]
fn roots_that_are_none() {
    let scene = Scene::usual();
    scene.configure("*.example.test", "www.elsewhere");
    scene.fails("dns-no-root");
    scene.recovers();
}

/// Whether to run what waits for a minute.
#[allow(
    clippy::disallowed_methods,
    reason = "how tests/run asks for the long campaigns"
)]
pub(crate) fn is_full_run() -> bool {
    std::env::var_os("COUNTERSIGN_FULL").is_some()
}

/// We are as patient as the plug-in says: a minute.
#[test]
fn a_secondary_that_stays_behind() {
    if !is_full_run() {
        return;
    }
    let port = ports::free();
    let key = Key::sha256("acme");
    let behind: IpAddr = Ipv6Addr::LOCALHOST.into();
    let text = zone::text("example.test", &[HERE, behind], FOREIGN);
    let primary = bind::Zone::primary("example.test", text).update_policy(GRANT);
    let bind = Bind::new()
        .port(port.number())
        .key(&key)
        .zone(primary)
        .start();
    let secondary =
        bind::Zone::secondary("example.test", bind.addrs()).statement("allow-notify { any; };");
    let secondary = Bind::new()
        .port(port.number())
        .listen(behind)
        .zone(secondary)
        .start();
    let mut scene = Scene::with(Host { bind, key }, |pebble| pebble);
    scene.fails("stale-secondary");
    let notify = format!(
        "notify explicit; also-notify {{ ::1 port {}; }};",
        secondary.addr().port()
    );
    change_bind(&mut scene.host, "notify no;", &notify);
    scene.recovers();
}

// --- the authority ---------------------------------------------------------------------------------------------------

#[test]
fn an_authority_where_nothing_listens() {
    let scene = Scene::usual();
    let nobody = ports::free();
    let right = scene.pebble.directory_url();
    scene.configure(
        &right,
        &format!("https://127.0.0.1:{}/dir", nobody.number()),
    );
    scene.fails("ca-unreachable");
    scene.recovers();
}

/// Five times ten seconds.
#[test]
fn an_authority_that_is_silent() {
    if !is_full_run() {
        return;
    }
    let scene = Scene::usual();
    scene.pebble.process.pause();
    scene.fails("ca-silent");
    scene.pebble.process.resume();
    scene.recovers();
}

#[test]
fn an_authority_whose_name_is_unknown() {
    let scene = Scene::usual();
    let right = scene.pebble.directory_url();
    scene.configure(&right, "https://ca.invalid/dir");
    scene.fails("ca-name-unknown");
    scene.recovers();
}

#[test]
fn a_directory_url_that_is_mistyped() {
    let scene = Scene::usual();
    let right = scene.pebble.directory_url();
    scene.configure(&right, &right.replace("/dir", "/directory"));
    scene.fails("ca-not-a-directory");
    scene.recovers();
}

#[test]
fn an_authority_that_is_not_trusted() {
    let scene = Scene::usual();
    let trust = format!("    trust: {}\n", scene.pebble.https_root().display());
    scene.configure(&trust, "");
    scene.fails("ca-not-trusted");
    scene.recovers();
}

#[test]
fn a_trust_file_that_is_missing() {
    let scene = Scene::usual();
    let trust = format!("trust: {}", scene.pebble.https_root().display());
    scene.configure(&trust, "trust: \"{dir}/root.pem\"");
    scene.fails("trust-missing");
    std::fs::write(scene.program.path("root.pem"), "no certificate\n").unwrap();
    scene.fails("trust-not-pem");
    scene.recovers();
}

#[test]
fn an_authority_of_another_name() {
    let scene = Scene::usual();
    let files = tempfile::tempdir().unwrap();
    let identity = Identity::of(&["ca.example.test"]);
    identity.write(files.path());
    let port = ports::free();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let mut command = server("openssl");
    command
        .args(["s_server", "-www", "-accept", &at.to_string()])
        .arg("-cert")
        .arg(files.path().join("certificate.pem"))
        .arg("-key")
        .arg(files.path().join("key.pem"));
    let mut process = Process::start("s_server", command, files.path());
    process.wait_until("a connection", || std::net::TcpStream::connect(at).is_ok());
    let directory = format!("https://{at}/dir");
    let text = configuration(&scene.host, &directory, &files.path().join("root.pem"), ONE);
    scene.program.configure(&text);
    scene.fails("ca-other-name");
    scene.recovers();
}

#[test]
fn an_order_that_is_rejected() {
    // This Pebble panics at names with fewer labels than a blocked one.
    let blocked = |pebble: Pebble| pebble.config("domainBlocklist", json!(["blocked.test"]));
    let scene = Scene::with(Host::usual(), blocked);
    scene.configure("*.example.test", "blocked.test");
    scene.fails("order-rejected");
    scene.recovers();
}

#[test]
fn a_validation_that_fails_at_the_authority() {
    let scene = Scene::usual();
    // It looks at a DNS in which our value never appears.
    let other = Host::usual();
    let blind = Pebble::new(Version::Newest, other.addr()).start();
    let text = configuration(
        &scene.host,
        &blind.directory_url(),
        &blind.https_root(),
        ONE,
    );
    // Of two names either could be the first to fail.
    scene
        .program
        .configure(&text.replace(", \"*.example.test\"", ""));
    scene.fails("validation-failed");
    scene.recovers();
}

#[test]
fn terms_that_are_not_agreed_to() {
    let scene = Scene::usual();
    scene.configure("    agree-to-terms: true\n", "");
    scene.fails("terms");
    scene.recovers();
}

#[test]
fn an_external_account_that_is_missing_or_wrong() {
    let mac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let required = |pebble: Pebble| pebble.external_account("kid-1", mac_key);
    let scene = Scene::with(Host::usual(), required);
    scene.fails("external-account-missing");
    let write = |text: &str| std::fs::write(scene.program.path("mac"), text).unwrap();
    let with = |key_id: &str| {
        let account = format!(
            "    external-account: {{key-id: {key_id}, mac-key: {{file: \"{{dir}}/mac\"}}}}\n"
        );
        let text = scene.right().replace(
            "    agree-to-terms: true\n",
            &format!("    agree-to-terms: true\n{account}"),
        );
        scene.program.configure(&text);
    };
    with("kid-1");
    write("not base64!");
    scene.fails("external-account-not-base64");
    write("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    scene.fails("external-account-wrong");
    write(mac_key);
    with("kid-2");
    scene.fails("external-account-unknown");
    with("kid-1");
    scene.program.run(&["renew"]).expect_code(0);
    scene.host.expect_clean();
}

// --- this machine ----------------------------------------------------------------------------------------------------

#[test]
fn a_foreign_file_in_the_target_directory() {
    let scene = Scene::usual();
    let file = scene.program.path("out/fullchain.pem");
    std::fs::create_dir_all(scene.program.path("out")).unwrap();
    std::fs::write(&file, "somebody's own\n").unwrap();
    scene.fails("foreign-file");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's own\n");
    std::fs::remove_file(&file).unwrap();
    scene.recovers();
}

#[test]
fn a_target_directory_that_is_a_file() {
    let scene = Scene::usual();
    std::fs::write(scene.program.path("out"), "somebody's own\n").unwrap();
    scene.fails("target-is-a-file");
    std::fs::remove_file(scene.program.path("out")).unwrap();
    scene.recovers();
}

#[test]
fn a_reload_that_fails() {
    let scene = Scene::usual();
    let one = "{files: {directory: \"{dir}/out\"}}";
    let with =
        |reload: &str| format!("{{files: {{directory: \"{{dir}}/out\"}}, reload: {reload}}}");
    scene.configure(
        one,
        &with("[sh, -c, \"echo the syntax is wrong >&2; exit 3\"]"),
    );
    scene.fails("reload");
    scene.configure(one, &with("[/nowhere/reload]"));
    scene.fails("reload-missing");
    scene.recovers();
}

#[test]
fn a_store_that_another_process_uses() {
    let scene = Scene::usual();
    scene.pebble.process.pause();
    let first = scene.program.start(&["renew", "--log", "trace"]);
    first.wait_for("ca request").unwrap();
    let pid = first.pid().to_string();
    let finished = fails(&scene.program, &["renew"], "store-in-use");
    assert!(finished.stderr.contains(&pid), "{pid}: {finished:#?}");
    scene.pebble.process.resume();
    first.finish().expect_code(0);
    scene.host.expect_clean();
}

#[test]
fn a_seal_key_that_is_another() {
    let scene = Scene::usual();
    let seal = |name: &str| {
        let line = format!("seal-key: {{file: \"{{dir}}/{name}\"}}\nauthorities:");
        scene.configure("authorities:", &line);
    };
    std::fs::write(scene.program.path("seal-a"), "AAAA".repeat(10) + "AAA=").unwrap();
    std::fs::write(scene.program.path("seal-b"), "BBBB".repeat(10) + "BBA=").unwrap();
    seal("seal-a");
    scene.program.run(&["renew"]).expect_code(0);
    seal("seal-b");
    fails(&scene.program, &["renew", "--force"], "seal-key-other");
    seal("seal-missing");
    fails(&scene.program, &["renew", "--force"], "seal-key-missing");
    seal("seal-a");
    scene.program.run(&["renew", "--force"]).expect_code(0);
    scene.host.expect_clean();
}

#[test]
fn a_full_disk_under_the_state() {
    let host = Host::start(FOREIGN, "grant acme zonesub TXT;");
    let mut scene = Scene::with(host, |pebble| {
        pebble.environment("PEBBLE_CHAIN_LENGTH", "8")
    });
    let state = scene.program.path("state");
    let disk = Disk::mount(&state, "8m");
    scene.program = disk.holds(scene.program);
    let full = disk.fill();
    scene.fails("disk-full");
    drop(full);
    scene.recovers();

    // The store took a megabyte when it was made; so many long chains do not fit into it.
    let delivered = || std::fs::read(scene.program.path("out/fullchain.pem")).unwrap();
    let before = delivered();
    let many: String = (1..=MANY).map(one_of_many).collect();
    scene.program.configure(&(scene.right() + &many));
    let full = disk.fill();
    let finished = scene.program.run(&["renew"]).expect_code(1);
    for line in finished.stderr.lines() {
        assert!(line.contains("no space left for the store in"), "{line}");
    }
    drop(full);
    scene.program.run(&["renew"]).expect_code(0);
    for n in 1..=MANY {
        assert!(
            scene
                .program
                .path(&format!("out/c{n}/fullchain.pem"))
                .exists(),
            "{n}"
        );
        assert_eq!(
            dns::txt(
                scene.host.addr(),
                &format!("_acme-challenge.c{n}.example.test")
            ),
            [""; 0]
        );
    }
    assert_eq!(
        delivered(),
        before,
        "what was issued before the disk was full is still known"
    );
    scene.host.expect_clean();
}

const MANY: usize = 80;

fn one_of_many(n: usize) -> String {
    format!(
        "  c{n}: {{names: [c{n}.example.test], deliver: [{{files: {{directory: \"{{dir}}/out/c{n}\"}}}}]}}\n"
    )
}

#[test]
fn a_full_disk_at_the_target() {
    let mut scene = Scene::usual();
    let disk = Disk::mount(&scene.program.path("out"), "1m");
    scene.program = disk.holds(scene.program);
    let full = disk.fill();
    scene.fails("disk-full-at-target");
    drop(full);
    scene.program.run(&["renew"]).expect_code(0);
    assert!(disk.path("fullchain.pem").exists());
    scene.host.expect_clean();
}
