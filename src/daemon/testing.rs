//! A daemon for tests of the rooms above the store: nothing that it is configured to ask is there.

use std::path::Path;

use super::Daemon;
use crate::clock::Clock;
use crate::config::Config;
use crate::run::progress::Watchers;

/// With its state in `directory`, and `certificates` as under that key.
pub(crate) async fn daemon(directory: &Path, certificates: &str, clock: Clock) -> Daemon {
    let text = format!(
        "state: '{}/state'
authorities: {{nobody: {{directory: 'https://127.0.0.1:1/', agree-to-terms: true}}}}
nameserver: {{zone: acme.test, listen: ['127.0.0.1:53'], hosts: {{ns1.acme.test: [127.0.0.1]}}}}
dns: {{look: roots, roots: [127.0.0.1], port: 1}}
certificates: {certificates}
",
        directory.display()
    );
    let config = Config::parse(&directory.join("countersign.yaml"), &text)
        .unwrap_or_else(|errors| panic!("{errors}"));
    Daemon::open(&config, clock, Watchers::default())
        .await
        .unwrap()
}
