//! Checks of `providers`.

use std::collections::BTreeMap;

use countersign_providers::record::DnsName;
use countersign_providers::rfc2136::{Algorithm, Settings, Tsig};

use super::checked::{ProviderSettings, optional};
use super::names::ProviderName;
use super::problems::{Path, nearest};
use super::raw;
use super::scalars::Checker;

/// The plug-ins of this version.
const PLUGINS: [&str; 1] = ["rfc2136"];
/// The plug-ins of later versions.
const LATER: [&str; 11] = [
    "cloudflare",
    "route53",
    "digitalocean",
    "manifest",
    "process",
    "acme-sh",
    "lego-exec",
    "lego-httpreq",
    "certbot-hooks",
    "acme-dns",
    "manual",
];
/// The algorithms of TSIG keys.
const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha384", Algorithm::HmacSha384),
    ("hmac-sha512", Algorithm::HmacSha512),
];
/// The two forms of a key.
const TSIG_FORMS: &str = "write tsig: {keyfile: /path}, or tsig: {name: …, algorithm: hmac-sha256, secret: {file: /path}}";

impl Checker {
    /// The providers that are right.
    pub(super) fn providers(
        &mut self,
        roots: &[raw::Root],
    ) -> BTreeMap<ProviderName, ProviderSettings> {
        let nothing = raw::Provider::default();
        let mut checked = BTreeMap::new();
        self.entries(
            roots,
            "providers",
            |it| it.providers.as_ref(),
            |this, here, name, provider| {
                let parsed = ProviderName::parse(name);
                if parsed.is_none() {
                    this.problems.key(
                        here,
                        format!("`{name}` is not a name for a provider"),
                        "a name has 1 to 63 printable characters without spaces",
                    );
                }
                let settings = this.provider(here, provider.unwrap_or(&nothing));
                checked.extend(parsed.zip(settings));
            },
        );
        checked
    }

    fn provider(&mut self, at: &Path<'_>, provider: &raw::Provider) -> Option<ProviderSettings> {
        for plugin in &provider.unknown.0 {
            self.unknown_plugin(&at.key(plugin), plugin);
        }
        let given = provider.unknown.0.len() + usize::from(provider.rfc2136.is_some());
        if given != 1 {
            self.problems.key(
                at,
                format!("a provider has one key, the plug-in, and this one has {given}"),
                "write e.g. rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}",
            );
        }
        let rfc2136 = provider.rfc2136.as_ref()?;
        self.rfc2136(&at.key("rfc2136"), rfc2136)
            .map(ProviderSettings::Rfc2136)
    }

    fn unknown_plugin(&mut self, at: &Path<'_>, plugin: &str) {
        if LATER.contains(&plugin) {
            self.problems.key(
                at,
                format!("the plug-in `{plugin}` is not in this version"),
                format!("this version has: {}", PLUGINS.join(", ")),
            );
            return;
        }
        let known = [&PLUGINS[..], &LATER[..]].concat();
        let hint = match nearest(plugin, &known) {
            Some(near) if PLUGINS.contains(&near) => format!("did you mean `{near}`?"),
            Some(near) => format!("did you mean `{near}`? It is not in this version"),
            None => format!("this version has: {}", PLUGINS.join(", ")),
        };
        self.problems
            .key(at, format!("unknown plug-in `{plugin}`"), hint);
    }

    fn rfc2136(&mut self, at: &Path<'_>, settings: &raw::Rfc2136) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Rfc2136>(at, &settings.unknown);
        if settings.server.is_none() {
            self.problems.missing(
                at,
                "server",
                "write the server that takes updates, e.g. server: \"192.0.2.53:53\"",
            );
        }
        let server = (settings.server.as_ref()).and_then(|it| self.server(&at.key("server"), it));
        let tsig = (settings.tsig.as_ref()).map(|it| self.tsig(&at.key("tsig"), it));
        let zone = (settings.zone.as_ref()).map(|it| self.host(&at.key("zone"), it));
        Some(Settings {
            server: server?,
            tsig: optional(tsig)?,
            zone: optional(zone)?,
        })
    }

    fn tsig(&mut self, at: &Path<'_>, tsig: &raw::Tsig) -> Option<Tsig> {
        self.problems.unknown_keys::<raw::Tsig>(at, &tsig.unknown);
        let parts = tsig.name.is_some() || tsig.algorithm.is_some() || tsig.secret.is_some();
        match (&tsig.keyfile, parts) {
            (Some(file), false) => self.path(&at.key("keyfile"), file).map(Tsig::KeyFile),
            (None, true) => self.tsig_parts(at, tsig),
            (Some(_), true) => {
                self.problems.key(
                    at,
                    "a key comes from a keyfile or from its parts, and not from both",
                    TSIG_FORMS,
                );
                None
            }
            (None, false) => {
                if tsig.unknown.0.is_empty() {
                    self.problems.key(
                        at,
                        "the key is missing: a keyfile, or its parts",
                        TSIG_FORMS,
                    );
                }
                None
            }
        }
    }

    fn tsig_parts(&mut self, at: &Path<'_>, tsig: &raw::Tsig) -> Option<Tsig> {
        for (key, given) in [
            ("name", tsig.name.is_some()),
            ("algorithm", tsig.algorithm.is_some()),
            ("secret", tsig.secret.is_some()),
        ] {
            if !given {
                self.problems.missing(at, key, TSIG_FORMS);
            }
        }
        let name = (tsig.name.as_ref()).and_then(|it| self.key_name(&at.key("name"), it));
        let algorithm =
            (tsig.algorithm.as_ref()).and_then(|it| self.algorithm(&at.key("algorithm"), it));
        let secret = (tsig.secret.as_ref()).and_then(|it| self.secret(&at.key("secret"), it));
        Some(Tsig::Parts {
            name: name?,
            algorithm: algorithm?,
            secret: secret?,
        })
    }

    fn key_name(&mut self, at: &Path<'_>, text: &str) -> Option<DnsName> {
        let name = DnsName::parse(text);
        if let Err(error) = &name {
            self.problems.value(
                at,
                format!("`{text}` is not the name of a key: {error}"),
                "write the name exactly as the server has it",
            );
        }
        name.ok()
    }

    fn algorithm(&mut self, at: &Path<'_>, text: &str) -> Option<Algorithm> {
        self.word(at, &text.to_ascii_lowercase(), &ALGORITHMS)
    }
}
