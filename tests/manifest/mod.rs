//! DNS hosts by their manifests: every shipped one against a fake of its host, PowerDNS against the real server, and the
//! engine against replies that mean harm.

mod hostile;
mod powerdns;
mod shipped;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_providers::Context;
use countersign_providers::clock::{Clock, later};
use countersign_providers::manifest::{Manifest, Rest, Settings, shipped as built_in};
use countersign_providers::record::DnsName;
use countersign_providers::secret::SecretSource;
use tempfile::NamedTempFile;

/// More than any verb needs, less than anybody waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A plug-in and the file with its secret.
struct Plugin {
    rest: Rest,
    _secret: NamedTempFile,
}

/// The plug-in that a manifest is, with one secret for all that it wants.
fn plugin(
    manifest: impl Into<Arc<Manifest>>,
    endpoint: &str,
    secret: &str,
    values: &[(&str, &str)],
) -> Plugin {
    let manifest = manifest.into();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{secret}\n")).unwrap();
    let source = SecretSource::File(file.path().to_owned());
    let secrets = manifest
        .secrets()
        .map(|name| (name.to_owned(), source.clone()));
    let secrets: BTreeMap<String, SecretSource> = secrets.collect();
    let defaults = manifest
        .settings()
        .map(|(name, default)| (name.to_owned(), default.unwrap_or_default().to_owned()));
    let mut all: BTreeMap<String, String> = defaults.collect();
    all.extend(
        values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let settings = Settings {
        endpoint: endpoint.parse().unwrap(),
        manifest: Arc::clone(&manifest),
        values: all,
        secrets,
    };
    Plugin {
        rest: Rest::new(settings),
        _secret: file,
    }
}

/// A shipped one.
fn built_in(name: &str, endpoint: &str, secret: &str) -> Plugin {
    let manifest = built_in::read(name).expect("a shipped manifest");
    let values: &[_] = if name == "dnsimple" {
        &[("account", "1010")]
    } else {
        &[]
    };
    plugin(manifest, endpoint, secret, values)
}

fn context() -> Context {
    let clock = Clock::system();
    let deadline = later(clock.now(), PATIENCE);
    Context::new(clock, deadline)
}

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}
