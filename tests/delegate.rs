//! `delegate`: what it prints is what works. The records are loaded into real servers and make a certificate, the
//! policies into real servers that then allow what is needed and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{complaint, keys};
use crate::issuance::judge;
use crate::support::bind::{self, Bind};
use crate::support::command::Countersign;
use crate::support::golden::{golden, root};
use crate::support::knot::{self, Knot};
use crate::support::pebble::{Pebble, Version};
use crate::support::powerdns::{self, PowerDns};
use crate::support::process::server;
use crate::support::tsig::{Key, nsupdate, run};
use crate::support::unbound::Unbound;
use crate::support::{ports, zone};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Everything that prints something of its own, without a network.
const ALL: &str = "state: {dir}/state
dns: {look: roots, roots: [127.0.0.1], port: 1}
authorities: {letsencrypt: {agree-to-terms: true}}
providers:
  office: {rfc2136: {server: 192.0.2.53, zone: example.com, tsig: {name: acme, algorithm: hmac-sha256, secret: {file: x}}}}
  cf: {cloudflare: {token: {file: x}}}
  aws: {route53: {zones: {example.com: Z0EXAMPLE}}}
  pd: {powerdns: {token: {file: x}, endpoint: \"http://127.0.0.1:8081\"}}
  script: {lego-exec: {command: [/usr/local/bin/dns], zones: [example.com]}}
  ad: {acme-dns: {url: \"https://auth.example.org\", accounts: {file: acmedns.json}}}
certificates:
  example: {names: [Example.COM, \"*.example.com\"]}
  books: {names: [\"*.B\u{fc}cher.example.com\"], provider: aws}
";
const NAMESERVER: &str = "nameserver: {zone: acme.example.net, listen: [\"203.0.113.5:53\"], hosts: {ns1.acme.example.net: [203.0.113.5, \"2001:db8::5\"]}}
";

/// The first policy in the words of `form`.
fn grant<'v>(document: &'v Value, form: &str) -> &'v str {
    let privileges = document["privileges"].as_array().unwrap().iter();
    let mut grants = privileges.flat_map(|it| it["grants"].as_array().unwrap());
    let grant = grants.find(|it| it["form"] == form).unwrap();
    grant["text"].as_str().unwrap()
}

fn document(program: &Countersign, arguments: &[&str]) -> Value {
    let line = [&["delegate", "--json"], arguments].concat();
    serde_json::from_str(&program.run(&line).expect_code(0).stdout).unwrap()
}

/// The lines of a text that are records of a zone file.
fn records(text: &str) -> String {
    let before = text.split("\n# ").next().unwrap();
    let lines = before
        .lines()
        .filter(|it| !it.is_empty() && !it.starts_with(';'));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn what_is_said_is_as_it_was_judged() {
    let program = Countersign::new(ALL);
    let registered = json!({"example.com": {
        "fulldomain": "d420c923-bbd7-4056-ab64-c3ca54c9b3cf.auth.example.org",
        "subdomain": "d420c923-bbd7-4056-ab64-c3ca54c9b3cf",
        "username": "user",
        "password": "password",
    }});
    std::fs::write(program.path("acmedns.json"), registered.to_string()).unwrap();
    let said = |name: &str, arguments: &[&str]| {
        let line = [&["delegate"], arguments].concat();
        let finished = program.run(&line).expect_code(0);
        assert_eq!(finished.stderr, "");
        for line in finished.stdout.lines() {
            // Records and lists stay whole, so that they can be pasted.
            let is_remark = line.starts_with([';', '#']);
            assert!(!is_remark || line.chars().count() <= 80, "{line}");
        }
        golden(
            &root().join(format!("tests/cli/{name}.txt")),
            &finished.stdout,
        );
    };
    said("delegate", &["example"]);
    said("delegate-name", &["*.b\u{fc}cher.example.com"]);
    said("delegate-to", &["example", "--to", "acme.example.net"]);
    program.configure(&format!("{ALL}{NAMESERVER}"));
    said("delegate-nameserver", &["example"]);
}

#[test]
fn an_unknown_name_is_told_with_the_nearest() {
    let program = Countersign::new(ALL);
    for (case, arguments) in [
        ("delegate-certificate", &["delegate", "exampel"][..]),
        ("delegate-name", &["delegate", "exmaple.com"]),
        ("delegate-far", &["delegate", "elsewhere.test"]),
        ("delegate-to", &["delegate", "books", "--to", "."]),
    ] {
        let finished = program.run(arguments).expect_code(2);
        complaint(case, &finished, program.directory());
        assert_eq!(finished.stdout, "");
    }
    program.configure(&ALL.replace("provider: aws", "provider: office"));
    let line = ["delegate", "books", "--to", "elsewhere.test"];
    let finished = program.run(&line).expect_code(2);
    complaint("delegate-to-nobody", &finished, program.directory());
}

/// They write at names that begin so, and at no others.
#[test]
fn a_zone_of_certbots_hooks_is_given_names_that_they_can_write() {
    let program = Countersign::new(
        "state: {dir}/state
dns: {look: roots, roots: [127.0.0.1], port: 1}
authorities: {letsencrypt: {agree-to-terms: true}}
providers: {hooks: {certbot-hooks: {auth: [/bin/true], cleanup: [/bin/true], zones: [small.test]}}}
certificates: {example: {names: [example.com]}}
",
    );
    let document = document(&program, &["example", "--to", "small.test"]);
    let data = &document["records"][0]["records"][0]["data"];
    assert_eq!(data, "_acme-challenge.example.com.small.test.");
    let names = &document["privileges"][0]["names"];
    assert_eq!(names, &json!(["_acme-challenge.example.com.small.test"]));
}

#[test]
fn the_document_for_programs_keeps_its_schema() {
    let program = Countersign::new(&format!("{ALL}{NAMESERVER}"));
    let document = document(&program, &["example"]);
    let top = ["certificates", "privileges", "records", "rights", "schema"];
    assert_eq!(keys(&document), top);
    assert_eq!(document["schema"], 1);
    let sections = document["records"].as_array().unwrap();
    let kinds: Vec<&Value> = sections.iter().map(|it| &it["kind"]).collect();
    assert_eq!(kinds, ["delegation", "nameserver", "caa", "dns-persist-01"]);
    assert_eq!(keys(&sections[0]), ["kind", "missing", "notes", "records"]);
    let cname = json!({
        "name": "_acme-challenge.example.com",
        "type": "CNAME",
        "data": "example.com.acme.example.net.",
    });
    assert_eq!(sections[0]["records"], json!([cname]));
    let privilege = &document["privileges"][0];
    let wanted = ["grants", "names", "notes", "plugin", "provider"];
    assert_eq!(keys(privilege), wanted);
}

#[test]
fn the_iam_policy_has_the_names_as_route_53_compares_them() {
    let program = Countersign::new(ALL);
    let document = document(&program, &["example", "books"]);
    let policy: Value = serde_json::from_str(grant(&document, "iam-policy")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let write = statements.last().unwrap();
    let condition = &write["Condition"]["ForAllValues:StringEquals"];
    assert_eq!(
        condition["route53:ChangeResourceRecordSetsNormalizedRecordNames"],
        json!([
            "_acme-challenge.example.com",
            "_acme-challenge.xn--bcher-kva.example.com"
        ])
    );
    let types = &condition["route53:ChangeResourceRecordSetsRecordTypes"];
    assert_eq!(*types, json!(["TXT"]));
    let zone = json!(["arn:aws:route53:::hostedzone/Z0EXAMPLE"]);
    assert_eq!(write["Resource"], zone);
    let actions: Vec<&Value> = statements.iter().map(|it| &it["Action"]).collect();
    // The zone's id is configured: none need be listed.
    assert!(
        !format!("{actions:?}").contains("ListHostedZones"),
        "{actions:?}"
    );

    program.configure(&ALL.replace("{zones: {example.com: Z0EXAMPLE}}", "{region: cn-north-1}"));
    let document = self::document(&program, &["example"]);
    let policy = grant(&document, "iam-policy");
    assert!(
        policy.contains("arn:aws-cn:route53:::hostedzone/*"),
        "{policy}"
    );
    assert!(policy.contains("route53:ListHostedZonesByName"), "{policy}");
}

/// A server with `example.com` and one key takes a challenge value, and neither another type nor another name.
fn allows_challenges_only(at: SocketAddr, key: &Key) {
    let update = |line: &str| nsupdate(at, "example.com", Some(key), line);
    for name in ["_acme-challenge", "_acme-challenge.xn--bcher-kva"] {
        let owner = format!("{name}.example.com.");
        update(&format!("update add {owner} 60 TXT value")).unwrap();
        update(&format!("update delete {owner} TXT value")).unwrap();
        update(&format!("update add {owner} 60 A 192.0.2.1")).unwrap_err();
        update(&format!("update add {owner} 60 CNAME www.example.com.")).unwrap_err();
        update(&format!("update add a.{owner} 60 TXT value")).unwrap_err();
    }
    update("update add example.com. 60 TXT value").unwrap_err();
    update("update add _acme-challenge.www.example.com. 60 TXT value").unwrap_err();
}

#[test]
fn the_bind_policy_allows_challenges_and_nothing_else() {
    let key = Key::sha256("acme");
    let program = Countersign::new(&ALL.replace("provider: aws", "provider: office"));
    let document = document(&program, &["example", "books"]);
    let text = zone::text("example.com", &[HERE], "");
    let primary = bind::Zone::primary("example.com", text).statement(grant(&document, "bind"));
    let bind = Bind::new().key(&key).zone(primary).start();
    allows_challenges_only(bind.addr(), &key);
}

#[test]
fn the_knot_acl_allows_challenges_and_nothing_else() {
    let key = Key::sha256("acme");
    let program = Countersign::new(&ALL.replace("provider: aws", "provider: office"));
    let document = document(&program, &["example", "books"]);
    let text = zone::text("example.com", &[HERE], "");
    let primary =
        knot::Zone::primary("example.com", text).acl("countersign-acme", grant(&document, "knot"));
    let knot = Knot::new().key(&key).zone(primary).start();
    allows_challenges_only(knot.addr(), &key);
}

#[test]
fn the_powerdns_command_leaves_other_keys_their_right() {
    let (key, other) = (Key::sha256("acme"), Key::sha256("other"));
    let program = Countersign::new(&ALL.replace("provider: aws", "provider: office"));
    let document = document(&program, &["example"]);
    let text = zone::text("example.com", &[HERE], "");
    let primary = powerdns::Zone::primary("example.com", text).allow_update(&other);
    let server = PowerDns::new().key(&key).key(&other).zone(primary).start();
    let update = |key: &Key| {
        let line = "update add _acme-challenge.example.com. 60 TXT value";
        nsupdate(server.addr(), "example.com", Some(key), line)
    };
    update(&key).unwrap_err();
    server.does(grant(&document, "powerdns"));
    update(&key).unwrap();
    update(&other).unwrap();
}

/// One name that is delegated already, one that is not, and one that the built-in nameserver answers for.
#[test]
fn the_right_is_needed_where_a_cname_leads_and_nowhere_else() {
    let key = Key::sha256("acme");
    let challenge = "_acme-challenge.example.test";
    let records = "_acme-challenge CNAME example.acme.test.\n\
                   _acme-challenge.own CNAME own.here.test.\n";
    let names = bind::Zone::primary("example.test", zone::text("example.test", &[HERE], records));
    let text = zone::text("acme.test", &[HERE], "");
    let here = bind::Zone::primary("here.test", zone::text("here.test", &[HERE], ""));
    let port = ports::free();
    let program = Countersign::new(&format!(
        "state: {{dir}}/state
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
authorities: {{letsencrypt: {{agree-to-terms: true}}}}
providers:
  office: {{rfc2136: {{server: 192.0.2.53, tsig: {{name: acme, algorithm: hmac-sha256, secret: {{file: x}}}}}}}}
  other: {{rfc2136: {{server: 192.0.2.54, zone: example.test, tsig: {{name: acme, algorithm: hmac-sha256, secret: {{file: x}}}}}}}}
nameserver: {{zone: here.test, listen: [\"127.0.0.2:{port}\"], hosts: {{ns1.here.test: [127.0.0.2]}}}}
certificates:
  example: {{names: [example.test, own.example.test], provider: office}}
  both: {{names: [example.test, www.example.test]}}
",
        port = port.number(),
    ));
    let dns = || Bind::new().key(&key).port(port.number());
    let bind = dns().zone(names).zone(here);
    let bind = bind
        .zone(bind::Zone::primary("acme.test", text.as_str()))
        .start();
    let said = program.run(&["delegate", "example"]).expect_code(0).stdout;
    golden(&root().join("tests/cli/delegate-cname.txt"), &said);
    let granted = document(&program, &["example"]);
    let of_both = document(&program, &["both"]);
    let names = |nth: usize| of_both["privileges"][nth]["names"].clone();
    let plain = "_acme-challenge.www.example.test";
    assert_eq!(names(0), json!([plain, "example.acme.test"]));
    assert_eq!(names(1), json!([plain]), "its zone is another one");
    // What `--to` says wins.
    let to = document(&program, &["example", "--to", "elsewhere.test"]);
    let to = &to["privileges"][0]["names"];
    let wanted = [
        "example.test.elsewhere.test",
        "own.example.test.elsewhere.test",
    ];
    assert_eq!(*to, json!(wanted));
    drop(bind);

    let delegated = bind::Zone::primary("acme.test", text).statement(grant(&granted, "bind"));
    let bind = dns().zone(delegated).start();
    let update = |line: &str| nsupdate(bind.addr(), "acme.test", Some(&key), line);
    update("update add example.acme.test. 60 TXT value").unwrap();
    update("update add example.acme.test. 60 A 192.0.2.1").unwrap_err();
    update("update add acme.test. 60 TXT value").unwrap_err();
    drop(bind);

    let silent = document(&program, &["example"]);
    let names = &silent["privileges"][0]["names"];
    assert_eq!(
        *names,
        json!([challenge, "_acme-challenge.own.example.test"])
    );
    let rights = silent["rights"].as_str().unwrap();
    assert!(rights.contains("did not say"), "{rights}");
}

/// Two domains at two hosts, each with its own: neither is granted what the other holds.
#[test]
fn a_host_with_zones_is_granted_what_is_in_them() {
    for (one, other) in [
        (
            "route53: {zones: {one.test: Z0ONE}}",
            "route53: {zones: {other.test: Z0OTHER}}",
        ),
        (
            "googlecloud: {project: p, credentials: {file: x}, zones: {one.test: one}}",
            "googlecloud: {project: p, credentials: {file: x}, zones: {other.test: other}}",
        ),
    ] {
        let program = Countersign::new(&format!(
            "state: {{dir}}/state
dns: {{look: roots, roots: [127.0.0.1], port: 1}}
authorities: {{letsencrypt: {{agree-to-terms: true}}}}
providers:
  one: {{{one}}}
  other: {{{other}}}
certificates:
  both: {{names: [one.test, other.test]}}
"
        ));
        let document = document(&program, &["both"]);
        let privileges = document["privileges"].as_array().unwrap();
        let names: Vec<&Value> = privileges.iter().map(|it| &it["names"]).collect();
        let (one, other) = ("_acme-challenge.one.test", "_acme-challenge.other.test");
        assert_eq!(names, [&json!([one]), &json!([other])]);
        let all = document.to_string();
        assert!(!all.contains("hostedzone/*"), "{all}");
        assert!(!all.contains("GetHostedZone"), "{all}");
        let line = ["delegate", "both", "--to", "elsewhere.test"];
        program.run(&line).expect_code(2);
    }
}

#[test]
fn what_is_in_the_built_in_nameservers_zone_is_delegated_to_it() {
    let certificates = ALL.replace("provider: aws", "provider: office");
    let program = Countersign::new(&format!("{certificates}{NAMESERVER}"));
    let of_itself = program.run(&["delegate", "books"]).expect_code(0).stdout;
    let line = ["delegate", "books", "--to", "acme.example.net"];
    assert_eq!(program.run(&line).expect_code(0).stdout, of_itself);
    let below = document(&program, &["books", "--to", "a.acme.example.net"]);
    let cname = &below["records"][0]["records"][0]["data"];
    assert_eq!(*cname, "xn--bcher-kva.example.com.a.acme.example.net.");
    assert_eq!(below["records"][1]["kind"], "nameserver");
}

/// BIND's own tool reads the zone.
fn is_good_zone(directory: &Path, name: &str, text: &str) {
    let file = directory.join("judged.zone");
    std::fs::write(&file, text).unwrap();
    let mut command = server("named-checkzone");
    command
        .args(["-k", "fail", "-n", "ignore", "-r", "fail", name])
        .arg(&file);
    let output = run(command, "");
    assert!(output.status.success(), "{text}\n{output:?}");
}

/// What it prints is the whole of the customer's zone and of the parent's part.
#[test]
fn the_printed_records_make_a_certificate() {
    let port = ports::free();
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), port.number()));
    let unbound_sees: SocketAddr = (HERE, port.number()).into();
    let unbound = Unbound::new()
        .stub("example.test", &[unbound_sees])
        .stub("acme.test", &[own])
        .start();
    let pebble = Pebble::new(Version::Newest, unbound.addr())
        .config("caaIdentities", json!(["pebble.test"]))
        .start();
    let program = Countersign::new(&format!(
        "state: {{dir}}/state
authorities:
  pebble: {{agree-to-terms: true, directory: {directory}, trust: {trust}}}
nameserver:
  zone: acme.test
  listen: [\"{own}\"]
  hosts: {{ns1.acme.test: [127.0.0.2]}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  example: {{names: [example.test, \"*.example.test\"], deliver: [{{files: {{directory: out}}}}]}}
",
        directory = pebble.directory_url(),
        trust = pebble.https_root().display(),
        port = port.number(),
    ));
    let printed = program.run(&["delegate", "example"]).expect_code(0).stdout;
    let all = records(&printed);
    let (parent, customer): (Vec<&str>, Vec<&str>) = all
        .lines()
        .partition(|line| line.contains(" NS ") || line.contains(" A "));
    assert_eq!((parent.len(), customer.len()), (2, 3), "{printed}");
    let customer = zone::text("example.test", &[HERE], &customer.join("\n"));
    is_good_zone(program.directory(), "example.test", &customer);
    let parent = zone::text("test", &[HERE], &parent.join("\n"));
    is_good_zone(program.directory(), "test", &parent);
    let _bind = Bind::new()
        .port(port.number())
        .zone(bind::Zone::primary("example.test", customer))
        .zone(bind::Zone::primary("test", parent))
        .start();
    program.run(&["renew"]).expect_code(0);
    let names = ["example.test", "*.example.test"];
    judge(&program.path("out"), &pebble.issuing_root_pem(), &names);

    // Now there is an account.
    let printed = program.run(&["delegate", "example"]).expect_code(0).stdout;
    let account = format!("accounturi=https://{}/my-account/", pebble.addr());
    let issue = format!("example.test. CAA 0 issuewild \"pebble.test; {account}");
    assert!(printed.contains(&issue), "{printed}");
    let persist = format!("_validation-persist.example.test. TXT \"pebble.test; {account}");
    assert!(printed.contains(&persist), "{printed}");
    assert!(printed.contains("; policy=wildcard\"\n"), "{printed}");
    let of_zone = records(&printed);
    let of_zone = of_zone.lines().filter(|it| it.contains("example.test. "));
    let of_zone = zone::text(
        "example.test",
        &[HERE],
        &of_zone.collect::<Vec<_>>().join("\n"),
    );
    is_good_zone(program.directory(), "example.test", &of_zone);
    // Whoever holds the store is asked for it.
    let daemon = program.start(&["run"]);
    daemon.wait_for("ready").unwrap();
    assert_eq!(
        program.run(&["delegate", "example"]).expect_code(0).stdout,
        printed
    );
    daemon.terminate();
    daemon.finish().expect_code(0);
}
