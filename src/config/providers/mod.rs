//! Checks of `providers`; each plug-in has a file of its own.

mod acme_dns;
mod azuredns;
mod cloudflare;
mod googlecloud;
mod ovh;
mod process;
mod rest;
mod rfc2136;
mod route53;
mod runners;

use std::collections::{BTreeMap, HashMap};

use countersign_providers::endpoint::endpoint;
use countersign_providers::record::DnsName;
use url::Url;

use super::checked::ProviderSettings;
use super::names::{self, ProviderName};
use super::problems::{Path, nearest};
use super::raw;
use super::scalars::Checker;

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
        let mut all: Vec<Option<ProviderSettings>> = Vec::new();
        if let Some(server) = &provider.acme_dns {
            let settings = self.acme_dns(&at.key("acme-dns"), server);
            all.push(settings.map(ProviderSettings::AcmeDns));
        }
        if let Some(azure) = &provider.azuredns {
            let settings = self.azuredns(&at.key("azuredns"), azure);
            all.push(settings.map(|it| ProviderSettings::AzureDns(Box::new(it))));
        }
        if let Some(cloudflare) = &provider.cloudflare {
            let settings = self.cloudflare(&at.key("cloudflare"), cloudflare);
            all.push(settings.map(ProviderSettings::Cloudflare));
        }
        if let Some(google) = &provider.googlecloud {
            let settings = self.googlecloud(&at.key("googlecloud"), google);
            all.push(settings.map(|it| ProviderSettings::GoogleCloud(Box::new(it))));
        }
        if let Some(ovh) = &provider.ovh {
            let settings = self.ovh(&at.key("ovh"), ovh);
            all.push(settings.map(ProviderSettings::Ovh));
        }
        if let Some(rfc2136) = &provider.rfc2136 {
            let settings = self.rfc2136(&at.key("rfc2136"), rfc2136);
            all.push(settings.map(ProviderSettings::Rfc2136));
        }
        if let Some(route53) = &provider.route53 {
            let settings = self.route53(&at.key("route53"), route53);
            all.push(settings.map(|it| ProviderSettings::Route53(Box::new(it))));
        }
        for (plugin, rest) in provider.rest() {
            if let Some(rest) = rest {
                let settings = self.rest(&at.key(plugin), plugin, rest);
                all.push(settings.map(|settings| ProviderSettings::Rest {
                    plugin: plugin.to_owned(),
                    settings,
                }));
            }
        }
        if let Some(process) = &provider.process {
            let settings = self.process(&at.key("process"), process);
            all.push(settings.map(ProviderSettings::Process));
        }
        if let Some(script) = &provider.acme_sh {
            let settings = self.acme_sh(&at.key("acme-sh"), script);
            all.push(settings.map(ProviderSettings::AcmeSh));
        }
        if let Some(script) = &provider.lego_exec {
            let settings = self.lego_exec(&at.key("lego-exec"), script);
            all.push(settings.map(ProviderSettings::LegoExec));
        }
        if let Some(server) = &provider.lego_httpreq {
            let settings = self.lego_httpreq(&at.key("lego-httpreq"), server);
            all.push(settings.map(ProviderSettings::LegoHttpreq));
        }
        if let Some(hooks) = &provider.certbot_hooks {
            let settings = self.certbot_hooks(&at.key("certbot-hooks"), hooks);
            all.push(settings.map(ProviderSettings::CertbotHooks));
        }
        if let Some(manual) = &provider.manual {
            let at = at.key("manual");
            self.problems
                .unknown_keys::<raw::Manual>(&at, &manual.unknown);
            all.push(Some(ProviderSettings::Manual));
        }
        let given = provider.unknown.0.len() + all.len();
        if given != 1 {
            self.problems.key(
                at,
                format!("a provider has one key, the plug-in, and this one has {given}"),
                "write e.g. rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}",
            );
        }
        all.into_iter().next().flatten()
    }

    /// Where a plug-in's API is.
    fn endpoint(&mut self, at: &Path<'_>, text: &str) -> Option<Url> {
        let hint = "write the API's base address, https, or http on loopback only";
        endpoint(text)
            .map_err(|why| self.problems.value(at, why, hint))
            .ok()
    }

    /// The ids of zones, each checked by `check`.
    fn zone_ids(
        &mut self,
        at: &Path<'_>,
        zones: &raw::Entries<String>,
        check: fn(&mut Self, &Path<'_>, &str) -> Option<String>,
    ) -> Option<BTreeMap<DnsName, String>> {
        let (mut seen, mut checked) = (HashMap::new(), BTreeMap::new());
        let mut all = true;
        for (name, id) in &zones.0 {
            if self.is_repeated(at, name, &mut seen) {
                continue;
            }
            let here = at.key(name);
            let apex = names::host(name);
            let apex = apex.map_err(|bad| self.problems.key(&here, bad.message, bad.hint));
            let id = check(self, &here, id.as_deref().unwrap_or_default());
            match apex.ok().zip(id) {
                Some((apex, id)) => drop(checked.insert(apex, id)),
                None => all = false,
            }
        }
        all.then_some(checked)
    }

    fn unknown_plugin(&mut self, at: &Path<'_>, plugin: &str) {
        let plugins = raw::known_keys::<raw::Provider>();
        let present: Vec<&str> = plugins.iter().map(String::as_str).collect();
        let hint = match nearest(plugin, &present) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("this version has: {}", present.join(", ")),
        };
        self.problems
            .key(at, format!("unknown plug-in `{plugin}`"), hint);
    }
}
