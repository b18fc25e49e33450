//! Process plug-ins: the samples pass the contract's battery, the specification is what is really spoken, and a plug-in
//! that does wrong harms only itself.

mod ends;
mod hostile;
mod samples;
mod transcript;

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::process::{Process, Settings};
use countersign_providers::record::{DnsName, Zone};
use countersign_providers::{Context, Held, Provider as _, ProviderError};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::support::golden::root;
use crate::support::process::eventually;

/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// What has not come to pass after this never will.
const SOON: Duration = Duration::from_secs(30);

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn zone(text: &str) -> Zone {
    Zone {
        name: name(text),
        id: text.to_owned(),
    }
}

fn context(clock: &Clock) -> Context {
    Context::new(clock.clone(), later(clock.now(), PATIENCE))
}

fn settings(command: &[&str], config: Value) -> Settings {
    let Value::Object(config) = config else {
        panic!("a configuration is a mapping");
    };
    Settings {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        config,
        secrets: Default::default(),
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The hostile plug-in in one of its modes, and what it notes of its life.
struct Hostile {
    directory: TempDir,
    settings: Settings,
}

impl Hostile {
    fn new(mode: &str) -> Self {
        let directory = TempDir::with_prefix("countersign-test-").unwrap();
        let program = text(&root().join("tests/process/hostile.py"));
        let diary = text(&directory.path().join("diary"));
        let config = json!({"gate": directory.path().join("gate")});
        Self {
            settings: settings(&[&program, mode, &diary], config),
            directory,
        }
    }

    fn config(mut self, config: Value) -> Self {
        self.settings.config = config.as_object().cloned().unwrap_or_else(Map::new);
        self
    }

    fn plugin(&self) -> Process {
        Process::new(self.settings.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn diary(&self) -> Vec<String> {
        let diary = std::fs::read_to_string(self.path("diary")).unwrap_or_default();
        diary.lines().map(str::to_owned).collect()
    }

    fn starts(&self) -> usize {
        let diary = self.diary();
        diary.iter().filter(|it| it.starts_with("start ")).count()
    }

    /// Waits until it has noted this.
    fn expect(&self, line: &str) {
        let noted = eventually(SOON, || self.diary().iter().any(|it| it == line));
        assert!(noted, "no {line:?} in {:?}", self.diary());
    }

    /// The number after `word` in what it noted last.
    fn number(&self, word: &str) -> u32 {
        let diary = self.diary();
        let mut numbers = diary.iter().rev().filter_map(|it| it.strip_prefix(word));
        numbers.next().unwrap().trim().parse().unwrap()
    }
}

async fn zones(plugin: &Process, context: &Context) -> Result<Vec<Held>, ProviderError> {
    plugin.zones(&name("a.example.test"), context).await
}

/// Whether the process ends soon; one that is dead but not yet reaped counts as gone.
fn is_gone(pid: u32) -> bool {
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
    eventually(SOON, || stat().map_or(true, |stat| stat.contains(") Z ")))
}
