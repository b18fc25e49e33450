//! certbot and lego as their users run them: a process for each order, their RFC 2136 plug-ins, their own waits.

use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::stand::{Door, Meter, NAMES, Stand};
use crate::support::process::{server, spawn};
use crate::support::proxy::Proxy;
use crate::table::Row;

/// Each takes some seconds.
const CERTBOT_ORDERS: u32 = 5;

/// certbot 5 with its shortest wait for the DNS, 1 s.
pub(crate) fn certbot(stand: &Stand) -> Row {
    let (proxy, counted) = stand.proxy();
    let program = Certbot::new(stand, &counted);
    let (first, warm) = twice(&proxy, || program.order());
    let door = stand.door();
    let program = Certbot::new(stand, &door);
    program.order();
    let meter = Meter::start();
    let times = (0..CERTBOT_ORDERS).map(|_| program.order()).collect();
    let cpu = meter.children() / CERTBOT_ORDERS;
    stand.expect_clean();
    Row {
        peer: "certbot 5.8, waits 1 s".to_owned(),
        times,
        first,
        warm: (warm, warm),
        cpu,
    }
}

/// lego 4, which takes a minute between two values at one name. What the proxy takes does not show beside that, so the
/// order that is timed is also the one that is counted.
pub(crate) fn lego(stand: &Stand) -> Row {
    let (proxy, door) = stand.proxy();
    let program = Lego::new(stand, &door);
    program.order("run", &[]);
    let first = proxy.seen().len();
    let meter = Meter::start();
    let time = program.order("renew", &["--days", "36500", "--no-random-sleep"]);
    let cpu = meter.children();
    let warm = proxy.seen().len() - first;
    stand.expect_clean();
    Row {
        peer: "lego 4.9".to_owned(),
        times: vec![time],
        first,
        warm: (warm, warm),
        cpu,
    }
}

/// The requests of the first order ever and of the next.
fn twice(proxy: &Proxy, order: impl Fn() -> Duration) -> (usize, usize) {
    order();
    let first = proxy.seen().len();
    order();
    (first, proxy.seen().len() - first)
}

struct Certbot<'a> {
    door: &'a Door,
    home: TempDir,
}

impl<'a> Certbot<'a> {
    fn new(stand: &Stand, door: &'a Door) -> Self {
        let home = home();
        let credentials = format!(
            "dns_rfc2136_server = {}\ndns_rfc2136_port = {}\ndns_rfc2136_name = {}\n\
             dns_rfc2136_secret = {}\ndns_rfc2136_algorithm = HMAC-SHA256\n",
            stand.dns().ip(),
            stand.dns().port(),
            stand.key.name,
            stand.key.secret
        );
        std::fs::write(home.path().join("credentials.ini"), credentials).unwrap();
        Self { door, home }
    }

    fn order(&self) -> Duration {
        let mut command = server("certbot");
        command.args([
            "certonly",
            "--non-interactive",
            "--agree-tos",
            "--force-renewal",
        ]);
        command.args(["--register-unsafely-without-email", "--key-type", "ecdsa"]);
        command.args(["--server", &self.door.directory, "--cert-name", "bench"]);
        command.args(["--dns-rfc2136", "--dns-rfc2136-propagation-seconds", "1"]);
        command
            .arg("--dns-rfc2136-credentials")
            .arg(self.home.path().join("credentials.ini"));
        for directory in ["config", "work", "logs"] {
            command
                .arg(format!("--{directory}-dir"))
                .arg(self.home.path().join(directory));
        }
        for name in NAMES {
            command.args(["--domain", name]);
        }
        command.env("REQUESTS_CA_BUNDLE", &self.door.root);
        run(command)
    }
}

struct Lego<'a> {
    stand: &'a Stand,
    door: &'a Door,
    home: TempDir,
}

impl<'a> Lego<'a> {
    fn new(stand: &'a Stand, door: &'a Door) -> Self {
        let home = home();
        Self { stand, door, home }
    }

    fn order(&self, subcommand: &str, arguments: &[&str]) -> Duration {
        let dns = self.stand.dns().to_string();
        let mut command = server("lego");
        command.args(["--accept-tos", "--email", "a@example.test"]);
        command.args(["--key-type", "ec256", "--server", &self.door.directory]);
        // Its own look at the nameservers goes to port 53, where nobody listens here.
        command.args([
            "--dns",
            "rfc2136",
            "--dns.disable-cp",
            "--dns.resolvers",
            &dns,
        ]);
        command.arg("--path").arg(self.home.path());
        for name in NAMES {
            command.args(["--domains", name]);
        }
        command.arg(subcommand).args(arguments);
        command.env("LEGO_CA_CERTIFICATES", &self.door.root);
        command.env("RFC2136_NAMESERVER", &dns);
        command.env("RFC2136_TSIG_KEY", &self.stand.key.name);
        command.env(
            "RFC2136_TSIG_ALGORITHM",
            format!("{}.", self.stand.key.algorithm),
        );
        command.env("RFC2136_TSIG_SECRET", &self.stand.key.secret);
        run(command)
    }
}

fn home() -> TempDir {
    TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The wall time of the whole process.
fn run(mut command: Command) -> Duration {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let meter = Meter::start();
    let output = spawn(command).unwrap().wait_with_output().unwrap();
    let taken = meter.wall();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    taken
}
