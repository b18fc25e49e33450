//! Checks of `acme-sh`, `lego-exec`, `lego-httpreq` and `certbot-hooks`.

use std::collections::BTreeMap;

use countersign_providers::record::DnsName;
use countersign_providers::runners;
use countersign_providers::secret::SecretSource;

use crate::config::checked::{HttpreqSettings, RunnerSettings, optional};
use crate::config::problems::Path;
use crate::config::raw::{self, Entries, Secret};
use crate::config::scalars::Checker;

/// Where acme.sh is.
const HOME: &str = "write where it is installed, e.g. home: /opt/acme.sh";
/// What a script of it is called.
const DNSAPI: &str = "write its name in dnsapi without .sh, e.g. script: dns_nic";
/// What the command of a script looks like.
const SCRIPT: &str =
    "write the program and its arguments, e.g. command: [/usr/local/bin/update-dns.sh]";
/// What the hooks look like.
const HOOKS: &str = "write both, by absolute paths, e.g. auth: [/etc/letsencrypt/put.sh], cleanup: [/etc/letsencrypt/take.sh]";
/// What the server looks like.
const ENDPOINT: &str = "write its address, e.g. endpoint: \"https://dns.example.net/acme\"";
/// The one goes with the other.
const LOGIN: &str = "a login has a user name and a password";

impl Checker {
    pub(super) fn acme_sh(
        &mut self,
        at: &Path<'_>,
        settings: &raw::AcmeSh,
    ) -> Option<RunnerSettings<runners::AcmeSh>> {
        self.problems
            .unknown_keys::<raw::AcmeSh>(at, &settings.unknown);
        let required = [
            ("home", settings.home.is_some(), HOME),
            ("script", settings.script.is_some(), DNSAPI),
        ];
        self.problems.required(at, &required);
        let home = (settings.home.as_ref()).and_then(|it| self.path(&at.key("home"), it));
        let script = settings.script.as_deref().filter(|it| {
            let is_script = runners::is_script(it);
            if !is_script {
                let message = format!("`{it}` is not the name of a script for DNS");
                self.problems.value(&at.key("script"), message, DNSAPI);
            }
            is_script
        });
        let env = self.variables(at, settings.env.as_ref());
        let zones = self.runner_zones(at, settings.zones.as_ref());
        Some(RunnerSettings {
            writer: runners::AcmeSh {
                home: home?,
                script: script?.to_owned(),
                env: env?,
            },
            zones: zones?,
        })
    }

    pub(super) fn lego_exec(
        &mut self,
        at: &Path<'_>,
        settings: &raw::LegoExec,
    ) -> Option<RunnerSettings<runners::LegoExec>> {
        self.problems
            .unknown_keys::<raw::LegoExec>(at, &settings.unknown);
        self.problems
            .required(at, &[("command", settings.command.is_some(), SCRIPT)]);
        let command =
            (settings.command.as_ref()).and_then(|it| self.program(&at.key("command"), it));
        let env = self.variables(at, settings.env.as_ref());
        let zones = self.runner_zones(at, settings.zones.as_ref());
        Some(RunnerSettings {
            writer: runners::LegoExec {
                command: command?,
                env: env?,
            },
            zones: zones?,
        })
    }

    pub(super) fn certbot_hooks(
        &mut self,
        at: &Path<'_>,
        settings: &raw::CertbotHooks,
    ) -> Option<RunnerSettings<runners::CertbotHooks>> {
        self.problems
            .unknown_keys::<raw::CertbotHooks>(at, &settings.unknown);
        let required = [
            ("auth", settings.auth.is_some(), HOOKS),
            ("cleanup", settings.cleanup.is_some(), HOOKS),
        ];
        self.problems.required(at, &required);
        let auth = (settings.auth.as_ref()).and_then(|it| self.program(&at.key("auth"), it));
        let cleanup =
            (settings.cleanup.as_ref()).and_then(|it| self.program(&at.key("cleanup"), it));
        let env = self.variables(at, settings.env.as_ref());
        let zones = self.runner_zones(at, settings.zones.as_ref());
        Some(RunnerSettings {
            writer: runners::CertbotHooks {
                auth: auth?,
                cleanup: cleanup?,
                env: env?,
            },
            zones: zones?,
        })
    }

    pub(super) fn lego_httpreq(
        &mut self,
        at: &Path<'_>,
        settings: &raw::LegoHttpreq,
    ) -> Option<RunnerSettings<HttpreqSettings>> {
        self.problems
            .unknown_keys::<raw::LegoHttpreq>(at, &settings.unknown);
        self.problems
            .required(at, &[("endpoint", settings.endpoint.is_some(), ENDPOINT)]);
        let endpoint =
            (settings.endpoint.as_ref()).and_then(|it| self.endpoint(&at.key("endpoint"), it));
        let login = match (&settings.username, &settings.password) {
            (None, None) => Some(None),
            (Some(user), Some(password)) => {
                let user = self.text(&at.key("username"), user);
                let password = self.secret(&at.key("password"), password);
                user.zip(password).map(Some)
            }
            (None, Some(_)) => {
                self.problems.missing(at, "username", LOGIN);
                None
            }
            (Some(_), None) => {
                self.problems.missing(at, "password", LOGIN);
                None
            }
        };
        let zones = self.runner_zones(at, settings.zones.as_ref());
        Some(RunnerSettings {
            writer: HttpreqSettings {
                endpoint: endpoint?,
                login: login?,
            },
            zones: zones?,
        })
    }

    /// Variables that hold secrets, by their names.
    fn variables(
        &mut self,
        at: &Path<'_>,
        env: Option<&Entries<Secret>>,
    ) -> Option<BTreeMap<String, SecretSource>> {
        let at = at.key("env");
        let variables = optional(env.map(|it| self.named_secrets(&at, it)))?.unwrap_or_default();
        let bad = (variables.keys()).find(|name| name.is_empty() || name.contains(['=', '\0']));
        if let Some(bad) = bad {
            let message = format!("`{bad}` is not the name of an environment variable");
            self.problems.key(&at.key(bad), message, "");
            return None;
        }
        Some(variables)
    }

    fn runner_zones(&mut self, at: &Path<'_>, zones: Option<&Vec<String>>) -> Option<Vec<DnsName>> {
        let zones = zones.map(|it| self.each(&at.key("zones"), it, "zone", Self::host));
        optional(zones).map(Option::unwrap_or_default)
    }
}
