//! `check`: the configuration and the files that it names. No network, no store.

use std::path::{Path, PathBuf};

use countersign_providers::clock::Clock;

use super::Ending;
use super::print::{complain, out};
use super::words::{count, number};
use crate::config::{AlertChannel, Config, Finding, Look, Severity};

/// Nobody reads more findings.
const SHOWN: usize = 20;
/// So many included files are listed.
const LISTED: usize = 5;

/// The configuration was parsed; looks at the rest.
pub(super) async fn run(config: &Config, clock: &Clock, file: &Path) -> Ending {
    let findings = config.check_files(clock).await;
    let (errors, warnings): (Vec<_>, Vec<_>) = findings
        .iter()
        .partition(|finding| finding.severity == Severity::Error);
    if !warnings.is_empty() {
        complain(said("warning", &warnings));
    }
    if !errors.is_empty() {
        return Ending::Usage(said("error", &errors));
    }
    out(format!("{} is fine", file.display()));
    for line in configured(config) {
        out(format!("  {line}"));
    }
    Ending::Done
}

/// The findings; of very many the first.
fn said(severity: &str, findings: &[&Finding]) -> String {
    let shown = findings.iter().take(SHOWN);
    let mut said: Vec<String> = shown
        .map(|it| format!("{severity}: {}\n  hint: {}", it.message, it.hint))
        .collect();
    if let more @ 1.. = findings.len().saturating_sub(SHOWN) {
        said.push(format!("{severity}: and {} more", number(more)));
    }
    said.join("\n")
}

/// How many files belong to it, and the first of them.
fn included(files: &[PathBuf]) -> String {
    let first: Vec<String> = files
        .iter()
        .take(LISTED)
        .map(|it| it.display().to_string())
        .collect();
    let list = first.join(", ");
    match (files.len(), files.len().saturating_sub(LISTED)) {
        (0, _) => "no file matches `include`".to_owned(),
        (all, 0) => format!("{} included: {list}", count(all, "file")),
        (all, more) => format!(
            "{} included: {list} and {} more",
            count(all, "file"),
            number(more)
        ),
    }
}

fn configured(config: &Config) -> Vec<String> {
    let list = |names: Vec<String>| names.join(", ");
    let names: usize = config.certificates.values().map(|it| it.names.len()).sum();
    let mut lines = Vec::from_iter(config.included.as_ref().map(|files| included(files)));
    lines.push(format!(
        "{} with {}",
        count(config.certificates.len(), "certificate"),
        count(names, "name")
    ));
    lines.push(format!(
        "{}: {}",
        count(config.authorities.len(), "authority"),
        list(
            config
                .authorities
                .iter()
                .map(|it| it.name.to_string())
                .collect()
        )
    ));
    if !config.providers.is_empty() {
        lines.push(format!(
            "{}: {}",
            count(config.providers.len(), "provider"),
            list(config.providers.keys().map(ToString::to_string).collect())
        ));
    }
    if let Some(nameserver) = &config.nameserver {
        let listen = nameserver.listen.iter().map(ToString::to_string).collect();
        lines.push(format!(
            "nameserver for {} on {}",
            nameserver.zone,
            list(listen)
        ));
    }
    lines.push(format!(
        "looks at the DNS {}",
        match config.dns.look {
            Look::Roots => "from the roots down",
            Look::Resolvers => "through resolvers",
        }
    ));
    if !config.alerts.is_empty() {
        let alerts = config.alerts.iter().map(AlertChannel::shown).collect();
        lines.push(format!("alerts by {}", list(alerts)));
    }
    if let Some(heartbeat) = &config.heartbeat {
        lines.push(format!("heartbeat at {}", heartbeat.shown()));
    }
    lines.push(format!("state in {}", config.state.display()));
    lines
}
