//! How many crates a part of the program brings along, by `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::support::golden::root;

/// Where the count is made.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What is there anyway: HTTPS and its cryptography.
const ANYWAY: [&str; 2] = ["reqwest", "ring"];
/// What the Route 53 plug-in uses of others and not every plug-in does.
const ROUTE_53: [&str; 4] = ["quick-xml", "reqsign-aws-v4", "reqsign-core", "rust-ini"];
/// More are not worth one DNS host.
const MOST: usize = 35;

#[test]
fn route_53_brings_few_crates_along() {
    let graph = Graph::read();
    let anyway = graph.below(&ANYWAY);
    let more: BTreeSet<&str> = graph.below(&ROUTE_53);
    let more: Vec<&&str> = more.difference(&anyway).collect();
    assert!(more.len() >= ROUTE_53.len(), "{more:?}");
    assert!(more.len() <= MOST, "{} crates: {more:?}", more.len());
}

/// Who uses whom in a program for [`TARGET`], by their ids.
struct Graph {
    uses: BTreeMap<String, Vec<String>>,
    /// What the plug-ins use themselves, by name.
    direct: BTreeMap<String, String>,
}

impl Graph {
    fn read() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["metadata", "--offline", "--locked", "--format-version", "1"])
            .args(["--filter-platform", TARGET])
            .current_dir(root());
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> = (list(&metadata["packages"]).iter())
            .map(|it| (text(&it["id"]), text(&it["name"])))
            .collect();
        let is_normal = |used: &Value| {
            let kinds = list(&used["dep_kinds"]);
            kinds.iter().any(|it| it["kind"].is_null())
        };
        let mut uses = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let used = list(&node["deps"]).into_iter().filter(is_normal);
            let used: Vec<String> = used.map(|it| text(&it["pkg"])).collect();
            uses.insert(text(&node["id"]), used);
        }
        let plugins = names.iter().find(|it| it.1 == "countersign-providers");
        let direct = uses[plugins.unwrap().0].iter();
        let direct = direct.map(|id| (names[id].clone(), id.clone())).collect();
        Self { uses, direct }
    }

    /// These and all that they use.
    fn below(&self, names: &[&str]) -> BTreeSet<&str> {
        let mut next: Vec<&str> = names.iter().map(|it| self.direct[*it].as_str()).collect();
        let mut all = BTreeSet::new();
        while let Some(id) = next.pop() {
            if all.insert(id) {
                next.extend(self.uses[id].iter().map(String::as_str));
            }
        }
        all
    }
}
