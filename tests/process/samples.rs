//! The samples that authors start from, against the contract.

use async_trait::async_trait;
use countersign_providers::contract::{self, Fixture};
use countersign_providers::record::RrSet;

use super::*;
use crate::support::process::servers_directory;

const ZONE: &str = "example.test";

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_in_python_passes_the_battery() {
    let program = text(&root().join("providers/samples/example.py"));
    let file = zone_file(|name, ttl, value| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}. {ttl} IN TXT \"{value}\"")
    });
    battery(&[&program], file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_in_shell_passes_the_battery() {
    let program = text(&root().join("providers/samples/example.sh"));
    let bin = servers_directory().join("bin");
    let path = format!("PATH={}:/usr/bin:/bin", bin.display());
    let file =
        zone_file(|name, ttl, value| json!({"name": name, "ttl": ttl, "value": value}).to_string());
    battery(&["/usr/bin/env", &path, &program], file).await;
}

async fn battery(command: &[&str], file: ZoneFile) {
    let config = json!({"zone": ZONE, "file": file.path()});
    let plugin = Process::new(settings(command, config));
    let skipped = contract::skipped(&plugin, &file).await;
    let wanted = [
        "zone-below",
        "slots",
        "handle",
        "two-instances",
        "settled",
        "secrets",
    ];
    assert_eq!(skipped, wanted);
}

/// The file of a sample, as somebody else sees it.
struct ZoneFile {
    directory: TempDir,
    line: fn(&DnsName, u32, &str) -> String,
}

fn zone_file(line: fn(&DnsName, u32, &str) -> String) -> ZoneFile {
    ZoneFile {
        directory: TempDir::with_prefix("countersign-test-").unwrap(),
        line,
    }
}

impl ZoneFile {
    fn path(&self) -> PathBuf {
        self.directory.path().join("records")
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The TTL and value in a line of either sample, if it is one at `name`.
    fn record(&self, name: &DnsName, line: &str) -> Option<(u32, String)> {
        if let Ok(record) = serde_json::from_str::<Value>(line) {
            let value = record["value"].as_str().unwrap().to_owned();
            let ttl = u32::try_from(record["ttl"].as_u64().unwrap()).unwrap();
            return (record["name"] == name.as_str()).then_some((ttl, value));
        }
        let rest = line.strip_prefix(&format!("{name}. "))?;
        let (ttl, value) = rest.split_once(" IN TXT ").unwrap();
        // Of what zone files escape, JSON escapes the same, as far as these tests go.
        let strings = value.replace("\" \"", "");
        Some((
            ttl.parse().unwrap(),
            serde_json::from_str(&strings).unwrap(),
        ))
    }
}

#[async_trait]
impl Fixture for ZoneFile {
    fn zone(&self) -> Zone {
        zone(ZONE)
    }

    fn name(&self, label: &str) -> DnsName {
        name(&format!("{label}.{ZONE}"))
    }

    fn forbidden(&self) -> Option<DnsName> {
        Some(name("elsewhere.test"))
    }

    fn context(&self) -> Context {
        context(&Clock::system())
    }

    async fn served(&self, name: &DnsName) -> RrSet {
        let lines = self.lines();
        let records = lines.iter().filter_map(|line| self.record(name, line));
        let (ttls, values): (Vec<u32>, Vec<String>) = records.unzip();
        RrSet {
            name: name.clone(),
            ttl: ttls.first().copied(),
            values,
        }
    }

    async fn add_foreign(&self, name: &DnsName, value: &str, ttl: u32) {
        let lines = [self.lines(), vec![(self.line)(name, ttl, value)]].concat();
        std::fs::write(self.path(), lines.join("\n") + "\n").unwrap();
    }
}
