//! A daemon for tests of the rooms above the store: nothing that it is configured to ask is there.

use std::path::Path;

use super::Daemon;
use crate::clock::Clock;
use crate::config::Config;
use crate::run::progress::Watchers;

/// With its state in `directory`, and `certificates` as under that key.
pub(crate) async fn daemon(directory: &Path, certificates: &str, clock: Clock) -> Daemon {
    let config = config(directory, certificates);
    Daemon::open(&config, clock, Watchers::default())
        .await
        .unwrap()
}

/// The configuration of such a daemon.
pub(crate) fn config(directory: &Path, certificates: &str) -> Config {
    let text = format!(
        "state: '{}/state'
authorities: {{nobody: {{directory: 'https://127.0.0.1:1/', agree-to-terms: true}}}}
nameserver: {{zone: acme.test, listen: ['127.0.0.1:53'], hosts: {{ns1.acme.test: [127.0.0.1]}}}}
dns: {{look: roots, roots: [127.0.0.1], port: 1}}
certificates: {certificates}
",
        directory.display()
    );
    Config::parse(&directory.join("countersign.yaml"), &text)
        .unwrap_or_else(|errors| panic!("{errors}"))
}
