//! What `config/systemd/` promises, by systemd's own tools, and the polkit rule by a real interpreter.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use hickory_proto::rr::RecordType;

use crate::support::command::{Countersign, Running};
use crate::support::dns;
use crate::support::golden::root;
use crate::support::ports::{self, Port};
use crate::support::process::{server, servers_directory};

/// The unit may be exposed this far, by systemd's own reckoning (0 is best, 10 worst).
const EXPOSURE: f32 = 2.0;

fn units() -> PathBuf {
    root().join("config/systemd")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|text| String::from_utf8_lossy(text))
        .concat()
}

#[test]
fn the_unit_is_hardened() {
    let judged = server("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager"])
        .arg(units().join("countersign.service"))
        .output()
        .unwrap();
    let said = said(&judged);
    let (_, level) = said.rsplit_once("countersign.service: ").expect(&said);
    let level: f32 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE, "{said}");
    assert!(
        !said.contains("✗ CapabilityBoundingSet") && !said.contains("✗ AmbientCapabilities"),
        "{said}"
    );
}

/// The units with the program that was built in the place of the installed one.
fn verified(change: impl Fn(String) -> String) -> String {
    let copies = tempfile::tempdir().unwrap();
    let mut command = server("systemd-analyze");
    command.args(["verify", "--man=no", "--no-pager"]);
    for name in ["countersign.service", "countersign.socket"] {
        let unit = std::fs::read_to_string(units().join(name)).unwrap();
        let here = env!("CARGO_BIN_EXE_countersign");
        let unit = unit.replace("/usr/local/bin/countersign", here);
        std::fs::write(copies.path().join(name), change(unit)).unwrap();
        command.arg(copies.path().join(name));
    }
    // Some versions end with 0 after a complaint.
    said(&command.output().unwrap())
}

#[test]
fn systemd_has_nothing_to_complain_of_in_the_units() {
    assert_eq!(verified(|unit| unit), "");
    let misspelt = verified(|unit| unit.replace("WatchdogSec", "WatchdogSecs"));
    assert!(misspelt.contains("WatchdogSecs"), "{misspelt}");
}

/// A daemon with a nameserver for `acme.test` at `listen`.
fn program(listen: SocketAddr) -> Countersign {
    Countersign::new(&format!(
        "state: '{{dir}}/state'
authorities: {{nobody: {{directory: 'https://127.0.0.1:1/', agree-to-terms: true}}}}
nameserver: {{zone: acme.test, listen: ['{listen}'], hosts: {{ns1.acme.test: [127.0.0.1]}}}}
certificates: {{example: {{names: [example.acme.test]}}}}
"
    ))
}

fn at(port: &Port) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port.number()))
}

/// Starts `program run` as systemd does, with a TCP and a UDP socket at `passed` by `systemd-socket-activate`, which
/// waits for the first connection.
fn activate(program: Countersign, passed: SocketAddr) -> (Countersign, Running) {
    let tool = servers_directory().join("bin/systemd-socket-activate");
    let (tool, at) = (tool.to_string_lossy().into_owned(), passed.to_string());
    // The outer one opens TCP and hands it on to the inner one, which adds UDP.
    let program = program.started_by(&[&tool, "-l", &at, &tool, "-d", "-l", &at]);
    let daemon = program.start(&["run"]);
    daemon.wait_for("Listening on").unwrap();
    let _first = std::net::TcpStream::connect(passed).unwrap();
    (program, daemon)
}

fn notices(program: &Countersign) -> String {
    let told = program.run(&["status", "--json"]).expect_code(0);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    told["notices"].to_string()
}

#[test]
fn the_nameserver_answers_at_the_sockets_that_systemd_passes() {
    let port = ports::free();
    let address = at(&port);
    let (program, daemon) = activate(program(address), address);
    daemon.wait_for("ready: ").unwrap();
    assert!(dns::serial(address, "acme.test").is_some(), "by UDP");
    dns::query_tcp(address, "acme.test", RecordType::SOA).unwrap();
    // They are those that were passed, and no others of the same address.
    let sockets = listening(daemon.pid(), address.port());
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    let program = program.started_by(&[]);
    assert_eq!(notices(&program), "[]");
    daemon.terminate();
    daemon.finish().expect_code(0);
}

#[test]
fn a_passed_socket_that_nobody_wants_is_named_and_the_missing_ones_are_taken() {
    let ports = [ports::free(), ports::free()];
    let [passed, configured] = [at(&ports[0]), at(&ports[1])];
    let (program, daemon) = activate(program(configured), passed);
    let warned = daemon.wait_for("nobody answers at").unwrap();
    for socket in [format!("TCP {passed}"), format!("UDP {passed}")] {
        assert!(warned.contains(&socket), "{warned}");
    }
    daemon.wait_for("ready: ").unwrap();
    assert!(dns::serial(configured, "acme.test").is_some());
    let program = program.started_by(&[]);
    assert!(notices(&program).contains("nobody answers at TCP"));
    daemon.terminate();
    daemon.finish().expect_code(0);
}

/// The descriptors from 3 on that `pid` listens with at `port`: `tcp` or `udp`, and the descriptor's number.
fn listening(pid: u32, port: u16) -> Vec<(&'static str, String)> {
    let mut inodes = Vec::new();
    for (kind, table) in [("tcp", "tcp"), ("udp", "udp")] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // TCP_LISTEN is 0A; an unconnected UDP socket is 07.
            if fields[1].ends_with(&format!(":{port:04X}")) && ["0A", "07"].contains(&fields[3]) {
                inodes.push((kind, format!("socket:[{}]", fields[9])));
            }
        }
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        let aim = std::fs::read_link(&path).unwrap_or_default();
        let aim = aim.to_string_lossy().into_owned();
        let number = path.file_name().unwrap().to_string_lossy().into_owned();
        found.extend(
            inodes
                .iter()
                .filter(|(_, inode)| *inode == aim)
                .map(|(kind, _)| (*kind, number.clone())),
        );
    }
    found
}

/// Runs the rule file in `node` as polkit would, once for each question; the answers in their order.
fn polkit(questions: &[(&str, &str, &str, &str)]) -> Vec<String> {
    let rules = std::fs::read_to_string(units().join("50-countersign.rules")).unwrap();
    let mut script = format!(
        "var rule; var polkit = {{
  Result: {{YES: 'yes', NOT_HANDLED: 'not handled'}},
  addRule: function (it) {{ rule = it; }},
}};
{rules}
function ask(id, verb, unit, user) {{
  var details = {{verb: verb, unit: unit}};
  console.log(rule({{id: id, lookup: function (key) {{ return details[key]; }}}}, {{user: user}}));
}}
"
    );
    for (id, verb, unit, user) in questions {
        writeln!(script, "ask({id:?}, {verb:?}, {unit:?}, {user:?});").unwrap();
    }
    let mut node: Command = server("node");
    let answered = node.arg("-e").arg(script).output().unwrap();
    assert!(answered.status.success(), "{}", said(&answered));
    let answers = String::from_utf8_lossy(&answered.stdout).into_owned();
    answers.lines().map(str::to_owned).collect()
}

#[test]
fn polkit_lets_the_daemon_reload_the_listed_units_and_nothing_else() {
    let manage = "org.freedesktop.systemd1.manage-units";
    let (me, unit) = ("countersign", "nginx.service");
    let allowed = [
        (manage, "reload", unit, me),
        (manage, "reload", "postfix.service", me),
        (manage, "reload-or-restart", unit, me),
        (manage, "try-reload-or-restart", unit, me),
    ];
    let refused = [
        (manage, "restart", unit, me),
        (manage, "stop", unit, me),
        (manage, "start", unit, me),
        (manage, "reload", "sshd.service", me),
        (manage, "reload", "nginx.service.evil", me),
        (manage, "reload", "", me),
        (manage, "reload", unit, "www-data"),
        (manage, "reload", unit, ""),
        (
            "org.freedesktop.systemd1.manage-unit-files",
            "reload",
            unit,
            me,
        ),
        ("org.freedesktop.login1.power-off", "reload", unit, me),
    ];
    let answers = polkit(&[&allowed[..], &refused].concat());
    let (yes, no) = answers.split_at(allowed.len());
    assert_eq!(yes, ["yes"; 4]);
    assert_eq!(no, ["not handled"; 10]);
}
