//! The kit over what was written for other clients, with a host that the test can look into.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::Context;
use countersign_providers::clock::{Clock, later};
use countersign_providers::contract::{Fixture, skipped};
use countersign_providers::record::{DnsName, RrSet, Zone};
use countersign_providers::runners::{
    AcmeSh, CertbotHooks, LegoExec, LegoHttpreq, WriteOnly, Writer,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::golden::root;
use crate::support::rest::{Raw, answer};

const ZONE: &str = "example.test";
/// The TTL that the host gives to a first value.
const TTL: u32 = 60;

/// What can be skipped for those that can only write: they cannot look, have one change a call, and take a zone's name
/// on trust.
const OF_WRITERS: [&str; 15] = [
    "zone-missing",
    "zone-below",
    "slots",
    "same-twice",
    "handle",
    "full-batch",
    "two-hundred",
    "observe-each",
    "observe-many",
    "two-instances",
    "refused-name",
    "beside-refused",
    "late-look",
    "settled",
    "secrets",
];

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

/// A file of records, one a line: name, TTL, value.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = TempDir::with_prefix("countersign-test-").unwrap();
        std::fs::write(directory.path().join("records"), "").unwrap();
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("records")
    }

    fn script(&self) -> [String; 2] {
        let script = root().join("tests/kit/host.sh");
        [script, self.file()].map(|it| it.to_str().unwrap().to_owned())
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[async_trait]
impl Fixture for Host {
    fn zone(&self) -> Zone {
        Zone {
            name: name(ZONE),
            id: ZONE.to_owned(),
        }
    }

    fn name(&self, label: &str) -> DnsName {
        name(&format!("_acme-challenge.{label}.{ZONE}"))
    }

    fn forbidden(&self) -> Option<DnsName> {
        None
    }

    fn context(&self) -> Context {
        let clock = Clock::system();
        let deadline = later(clock.now(), Duration::from_secs(60));
        Context::new(clock, deadline)
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let text = std::fs::read_to_string(self.file()).unwrap();
        let mut set = RrSet {
            name: name.clone(),
            ttl: None,
            values: Vec::new(),
        };
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            if parts.next() == Some(name.as_str()) {
                set.ttl = parts.next().map(|ttl| ttl.parse().unwrap());
                set.values.push(parts.next().unwrap().to_owned());
            }
        }
        set
    }

    fn ttl(&self, wanted: u32) -> u32 {
        // Nobody tells the script what is wanted.
        if wanted < TTL { TTL } else { wanted }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let text = std::fs::read_to_string(self.file()).unwrap();
        std::fs::write(self.file(), format!("{text}{name}\t{ttl}\t{value}\n")).unwrap();
    }
}

async fn passes<W: Writer>(writer: W, host: &Host) {
    let plugin = WriteOnly::new(writer, vec![name(ZONE)]);
    let mut seen = skipped(&plugin, host).await;
    let mut wanted = OF_WRITERS.to_vec();
    seen.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    assert_eq!(std::fs::read_to_string(host.file()).unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_for_lego_passes_the_kit() {
    let host = Host::new();
    let command = host.script().to_vec();
    let env = BTreeMap::new();
    passes(LegoExec { command, env }, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certbots_hooks_pass_the_kit() {
    let host = Host::new();
    let [script, file] = host.script();
    let hook = |verb: &str| {
        let line = format!(
            "exec {script} {file} {verb} \"_acme-challenge.$CERTBOT_DOMAIN\" \"$CERTBOT_VALIDATION\""
        );
        ["/bin/sh", "-c", &line].map(str::to_owned).to_vec()
    };
    let hooks = CertbotHooks {
        auth: hook("present"),
        cleanup: hook("cleanup"),
        env: BTreeMap::new(),
    };
    passes(hooks, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_acme_sh_passes_the_kit() {
    let host = Host::new();
    let [script, file] = host.script();
    host.write("acme.sh", "_initpath() { :; }\n");
    let functions = format!(
        "dns_kit_add() {{ {script} {file} present \"$1\" \"$2\"; }}\ndns_kit_rm() {{ {script} {file} cleanup \"$1\" \"$2\"; }}\n"
    );
    host.write("dnsapi/dns_kit.sh", &functions);
    let writer = AcmeSh {
        home: host.directory.path().to_owned(),
        script: "dns_kit".to_owned(),
        env: BTreeMap::new(),
    };
    passes(writer, &host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_for_lego_passes_the_kit() {
    let host = Host::new();
    let file = Arc::new(Mutex::new(host.file()));
    let server = Raw::start("/acme", move |ask| {
        // One request at a time changes the file.
        let file = file.lock().unwrap();
        let said = |key: &str| ask.body[key].as_str().unwrap().to_owned();
        let name = said("fqdn").trim_end_matches('.').to_owned();
        let text = std::fs::read_to_string(&*file).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let there = lines
            .iter()
            .find_map(|it| it.strip_prefix(&format!("{name}\t")));
        let ttl = there.map_or(TTL.to_string(), |it| {
            it.split('\t').next().unwrap().to_owned()
        });
        let line = format!("{name}\t{ttl}\t{}", said("value"));
        lines.retain(|it| *it != line);
        if ask.path == ["present"] {
            lines.push(line);
        }
        let text: String = lines.iter().map(|it| format!("{it}\n")).collect();
        std::fs::write(&*file, text).unwrap();
        answer(200, Value::Null)
    });
    let server = server.await;
    let endpoint = server.endpoint().parse().unwrap();
    passes(LegoHttpreq::new(endpoint, None), &host).await;
}
