//! `check`: the configuration and the files that it names. No network, no store.

use std::path::Path;

use countersign_providers::clock::Clock;

use super::Ending;
use super::print::{complain, out};
use super::words::count;
use crate::config::{AlertChannel, Config, Finding, Look, Severity};

/// The configuration was parsed; looks at the rest.
pub(super) async fn run(config: &Config, clock: &Clock, file: &Path) -> Ending {
    let findings = config.check_files(clock).await;
    let (errors, warnings): (Vec<_>, Vec<_>) = findings
        .iter()
        .partition(|finding| finding.severity == Severity::Error);
    for warning in warnings {
        complain(said("warning", warning));
    }
    if !errors.is_empty() {
        let errors: Vec<String> = errors.into_iter().map(|it| said("error", it)).collect();
        return Ending::Usage(errors.join("\n"));
    }
    out(format!("{} is fine", file.display()));
    for line in configured(config) {
        out(format!("  {line}"));
    }
    Ending::Done
}

fn said(severity: &str, finding: &Finding) -> String {
    format!("{severity}: {}\n  hint: {}", finding.message, finding.hint)
}

fn configured(config: &Config) -> Vec<String> {
    let list = |names: Vec<String>| names.join(", ");
    let names: usize = config.certificates.values().map(|it| it.names.len()).sum();
    let mut lines = vec![format!(
        "{} with {}",
        count(config.certificates.len(), "certificate"),
        count(names, "name")
    )];
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
