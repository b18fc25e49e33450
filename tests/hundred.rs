//! One certificate with a hundred names of one zone, from Pebble: how often its DNS host is called, and how often lego
//! calls it.

use std::net::SocketAddr;

use crate::issuance::{self, judge};
use crate::support::cloudflare::{self, Cloudflare, Token};
use crate::support::command::Countersign;
use crate::support::lego::Lego;
use crate::support::pebble::{Pebble, RunningPebble, Version};
use crate::support::process::server;
use crate::support::route53::{self, Fake, store};
use crate::support::tsig;
use crate::support::updates::Updates;

const ZONE: &str = "example.test";
/// A signed message has up to so many octets.
const MESSAGE: usize = 32 * 1024;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("h{n}.{ZONE}")).collect()
}

/// Has Countersign get the certificate, with `provider` and the secret that it shows its host; its zones are at `dns`.
fn issue(pebble: &RunningPebble, provider: &str, secret: &str, dns: SocketAddr) {
    let names = names(100);
    let program = Countersign::new(&format!(
        "state: {{dir}}/state
authorities: {{pebble: {{agree-to-terms: true, directory: \"{directory}\", trust: {trust}}}}}
providers: {{office: {{{provider}}}}}
dns: {{look: roots, roots: [127.0.0.1], port: {port}}}
certificates:
  example: {{names: [{names}], deliver: [{{files: {{directory: \"{{dir}}/out\"}}}}]}}
",
        directory = pebble.directory_url(),
        trust = pebble.https_root().display(),
        port = dns.port(),
        names = names.join(", "),
    ));
    std::fs::write(program.path("secret"), secret).unwrap();
    program.run(&["renew"]).expect_code(0);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    judge(&program.path("out"), &pebble.issuing_root_pem(), &names);
}

/// An authority that believes everybody: a hundred names at once are too many questions for the DNS before an API.
fn credulous(dns: SocketAddr) -> RunningPebble {
    let pebble = Pebble::new(Version::Newest, dns).environment("PEBBLE_VA_ALWAYS_VALID", "1");
    pebble.start()
}

#[test]
fn cloudflare_is_called_three_times_to_present_a_hundred_names_and_once_to_clean_up() {
    let mut state = cloudflare::State::new(Token::usual()).zone(ZONE, "acme");
    // The DNS before it asks the same API.
    state.left = u64::MAX;
    let id = state.zone_id(ZONE);
    let api = Cloudflare::start(state);
    let dns = cloudflare::dns::bridge(&api);
    let provider = format!(
        "cloudflare: {{endpoint: \"{}\", token: {{file: \"{{dir}}/secret\"}}}}",
        api.url()
    );
    issue(
        &credulous(dns.addr()),
        &provider,
        &Token::usual().secret,
        dns.addr(),
    );
    assert_eq!(api.asked(), "zones list batch batch");
    assert_eq!(api.state().shown(&id), [""; 0]);

    let variables = [
        ("CLOUDFLARE_BASE_URL", api.url()),
        ("CLOUDFLARE_DNS_API_TOKEN", Token::usual().secret),
    ];
    let lego = Lego::present("cloudflare", dns.addr(), &names(100), &variables);
    let present = api.asked();
    assert_eq!(api.state().shown(&id).len(), 100);
    lego.clean();
    let clean = api.asked();
    assert_eq!(api.state().shown(&id), [""; 0]);
    let calls = [present, clean].map(|asked| asked.split(' ').count());
    assert_eq!(calls, [101, 100]);
}

#[test]
fn route_53_is_called_twice_to_present_a_hundred_names_waited_for_once_and_called_once_to_clean_up()
{
    let api = Fake::start(vec![store::Zone::new("Z1EXAMPLE", ZONE)]);
    let dns = route53::dns::bridge(api.addr());
    let provider = format!(
        "route53: {{endpoint: \"{}\", access-key-id: {}, secret-access-key: {{file: \"{{dir}}/secret\"}}}}",
        api.url(),
        route53::KEY
    );
    issue(
        &credulous(dns.addr()),
        &provider,
        route53::SECRET,
        dns.addr(),
    );
    let change = "ChangeResourceRecordSets";
    let calls = ["ListHostedZonesByName", change, "GetChange", change];
    assert_eq!(api.calls(), calls);
    assert_eq!(api.state().zones[0].sets.len(), 0);

    let variables = [
        ("AWS_ENDPOINT_URL", api.url()),
        ("AWS_ACCESS_KEY_ID", route53::KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", route53::SECRET.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
    ];
    let lego = Lego::present("route53", dns.addr(), &names(100), &variables);
    let present = api.calls().len();
    assert_eq!(api.state().zones[0].sets.len(), 100);
    lego.clean();
    let clean = api.calls().len();
    assert_eq!(api.state().zones[0].sets.len(), 0);
    assert_eq!([present, clean], [400, 400]);
}

#[test]
fn an_update_server_gets_one_message_to_present_a_hundred_names_and_one_to_clean_up() {
    let host = issuance::Host::start("", "grant acme wildcard *.example.test TXT;");
    let updates = Updates::start(host.addr());
    let provider = format!(
        "rfc2136: {{server: \"{}\", tsig: {{name: {}, algorithm: {}, secret: {{file: \"{{dir}}/secret\"}}}}}}",
        updates.addr(),
        host.key.name,
        host.key.algorithm
    );
    let pebble = Pebble::new(Version::Newest, host.addr()).start();
    issue(&pebble, &provider, &host.key.secret, host.addr());
    let seen = updates.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().all(|octets| *octets <= MESSAGE), "{seen:?}");

    // Of a few names it can be awaited: it takes one after the other.
    let directory = tempfile::tempdir().unwrap();
    let mut lego = server("lego");
    lego.args(["--server", &pebble.directory_url(), "--path"])
        .arg(directory.path())
        .args(["--accept-tos", "--email", "lego@example.test"])
        .args(["--dns", "rfc2136", "--dns.disable-cp", "--dns.resolvers"])
        .arg(host.addr().to_string());
    for name in names(3) {
        lego.args(["--domains", &name]);
    }
    lego.arg("run")
        .env("LEGO_CA_CERTIFICATES", pebble.https_root())
        .env("RFC2136_NAMESERVER", updates.addr().to_string())
        .env("RFC2136_TSIG_KEY", format!("{}.", host.key.name))
        .env("RFC2136_TSIG_ALGORITHM", format!("{}.", host.key.algorithm))
        .env("RFC2136_TSIG_SECRET", &host.key.secret)
        .env("RFC2136_POLLING_INTERVAL", "1")
        .env("RFC2136_SEQUENCE_INTERVAL", "1");
    let output = tsig::run(lego, "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(updates.seen().len(), 6, "for three names");
}
