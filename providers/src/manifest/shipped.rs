//! The manifests that are built in; each is a plug-in by its name.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::Manifest;

/// Name and text of each, in the order of their names.
pub const ALL: [(&str, &str); 12] = [
    ("bunny", include_str!("../../manifests/bunny.yaml")),
    ("desec", include_str!("../../manifests/desec.yaml")),
    (
        "digitalocean",
        include_str!("../../manifests/digitalocean.yaml"),
    ),
    ("dnsimple", include_str!("../../manifests/dnsimple.yaml")),
    ("gandi", include_str!("../../manifests/gandi.yaml")),
    ("hetzner", include_str!("../../manifests/hetzner.yaml")),
    ("ionos", include_str!("../../manifests/ionos.yaml")),
    ("linode", include_str!("../../manifests/linode.yaml")),
    ("porkbun", include_str!("../../manifests/porkbun.yaml")),
    ("powerdns", include_str!("../../manifests/powerdns.yaml")),
    ("scaleway", include_str!("../../manifests/scaleway.yaml")),
    ("vultr", include_str!("../../manifests/vultr.yaml")),
];

/// The manifest of this name. A test reads each of them.
pub fn read(name: &str) -> Option<Arc<Manifest>> {
    /// They are constants, and reading them takes longer than reading a configuration.
    static READ: LazyLock<BTreeMap<&str, Arc<Manifest>>> = LazyLock::new(|| {
        let all = ALL.into_iter();
        let all = all.filter_map(|(name, text)| Some((name, Arc::new(Manifest::read(text).ok()?))));
        all.collect()
    });
    READ.get(name).map(Arc::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest is a page that a person can read.
    const MOST_LINES: usize = 60;

    #[test]
    fn every_shipped_manifest_reads_and_fits_on_a_page() {
        for (name, text) in ALL {
            if let Err(error) = Manifest::read(text) {
                panic!("{name}: {error} ({:?})", error.hint);
            }
            let lines = text.lines().count();
            assert!(lines <= MOST_LINES, "{name} has {lines} lines");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(
                widest <= Some(120),
                "{name} has a line of {widest:?} characters"
            );
        }
        assert!(ALL.is_sorted());
    }
}
