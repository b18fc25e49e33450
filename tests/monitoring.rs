//! The alert rules and the dashboard in `config/`, judged by Prometheus's own tool and by what the real daemon serves.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_yaml::Value;

use crate::support::golden::root;
use crate::support::process::server;
use crate::web::issued;

const RULES: &str = "config/prometheus/alerts.yaml";
const RULE_TESTS: &str = "config/prometheus/alerts_test.yaml";
const DASHBOARD: &str = "config/grafana/countersign.json";

/// What a command says that must succeed.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn promtool(arguments: &[&str], file: &Path) -> String {
    let mut command = server("promtool");
    command.args(arguments).arg(file);
    said(command)
}

fn yaml(file: &str) -> Value {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_sequence().map_or(&[], Vec::as_slice)
}

/// Every alert and its expression.
fn alerts() -> BTreeMap<String, String> {
    let rules = yaml(RULES);
    let groups = list(&rules, "groups").iter();
    groups
        .flat_map(|group| list(group, "rules"))
        .map(|rule| {
            let text = |key: &str| rule[key].as_str().unwrap().to_owned();
            (text("alert"), text("expr"))
        })
        .collect()
}

/// Every expression of the dashboard, its variables filled in.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(root().join(DASHBOARD)).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| {
            let expr = target["expr"].as_str().unwrap();
            expr.replace("$__rate_interval", "5m")
        })
        .collect()
}

/// The names of our metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(move |c| !is_of_name(c));
    words.filter(|word| word.starts_with("countersign_"))
}

#[test]
fn the_rules_are_good_and_each_alert_comes_and_stays_away_as_it_should() {
    let checked = promtool(&["check", "rules"], &root().join(RULES));
    assert!(checked.contains("SUCCESS"), "{checked}");
    promtool(&["test", "rules"], &root().join(RULE_TESTS));
    let tests = yaml(RULE_TESTS);
    let cases = list(&tests, "tests").iter();
    let cases = cases.flat_map(|test| list(test, "alert_rule_test"));
    let (mut come, mut stay_away) = (BTreeSet::new(), BTreeSet::new());
    for case in cases {
        let name = case["alertname"].as_str().unwrap();
        match list(case, "exp_alerts") {
            [] => stay_away.insert(name.to_owned()),
            _ => come.insert(name.to_owned()),
        };
    }
    let all: BTreeSet<String> = alerts().into_keys().collect();
    assert_eq!(come, all);
    assert_eq!(stay_away, all);
}

/// The tool knows expressions in rules only, so each becomes one.
#[test]
fn each_expression_of_the_dashboard_can_be_read_by_prometheus() {
    let queries = queries();
    assert!(queries.len() > 30, "{}", queries.len());
    let rules: Vec<serde_json::Value> = queries
        .iter()
        .enumerate()
        .map(|(nth, expr)| serde_json::json!({"record": format!("dashboard:{nth}"), "expr": expr}))
        .collect();
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let mut written = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    written.write_all(file.to_string().as_bytes()).unwrap();
    let checked = promtool(&["check", "rules"], written.path());
    let found = format!("{} rules found", queries.len());
    assert!(checked.contains(&found), "{checked}");
}

#[test]
fn the_daemon_serves_what_rules_and_dashboard_ask_for_and_promtool_agrees_with_it() {
    let (site, daemon) = issued();
    let text = site.get("/metrics").body;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    let mut check = server("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::from(file));
    // It names what is against Prometheus's guide, and still succeeds with some of that.
    assert_eq!(said(check), "");
    let served: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    assert!(served.iter().all(|name| name.starts_with("countersign_")));
    let queries = queries();
    let alerts = alerts();
    for expression in queries.iter().chain(alerts.values()) {
        for name in names(expression) {
            assert!(served.contains(name), "{name} in {expression}");
        }
    }
    crate::web::ends(daemon);
}
