//! A look at what the configuration names: secrets, key files, roots. Reads files and the environment; starts no
//! program and uses no network.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use countersign_providers::azuredns::Login;
use countersign_providers::clock::Clock;
use countersign_providers::rfc2136::Tsig;
use countersign_providers::route53::Source;
use countersign_providers::runners::AcmeSh;
use countersign_providers::secret::SecretSource;
use rustix::fs::{Access, access};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::alerts::{Address, AlertChannel};
use super::checked::{Config, ProviderSettings};

/// The permission bit that lets others read.
const OTHERS_READ: u32 = 0o004;

/// The bits that let others in, or the group write.
const OTHERS_OR_GROUP_WRITE: u32 = 0o027;

/// Something that a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, a sentence without a full stop, beginning with the path in the configuration.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, and is unwise.
    Warning,
    /// It cannot work.
    Error,
}

impl Config {
    /// Reads every secret, key file and root that is named. Commands that give secrets are not run: they could use
    /// the network.
    pub async fn check_files(&self, clock: &Clock) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(check_state(&self.state));
        findings.extend(self.check_targets());
        for (path, source) in self.secrets() {
            findings.extend(check_secret(&path, &source, clock).await);
        }
        findings.extend(self.check_addresses(clock).await);
        for (name, settings) in &self.providers {
            let path = format!("providers.{name}");
            findings.extend(check_credential(&path, settings, clock).await);
            findings.extend(check_acme_sh(&path, settings));
            for (path, argv) in provider_programs(&path, settings) {
                findings.extend(check_program(&path, argv));
            }
        }
        for (nth, channel) in self.alerts.iter().enumerate() {
            if let AlertChannel::Smtp(smtp) = channel
                && let Some(trust) = &smtp.trust
            {
                let path = format!("alerts[{nth}].smtp.trust");
                findings.extend(check_roots(&path, trust, "the mail server's TLS"));
            }
        }
        for authority in &self.authorities {
            let path = format!("authorities.{}", authority.name);
            if let Some(trust) = &authority.trust {
                findings.extend(check_roots(
                    &format!("{path}.trust"),
                    trust,
                    "the authority's own HTTPS",
                ));
            }
            if authority.insecure && authority.directory.starts_with("https:") {
                findings.push(Finding {
                    severity: Severity::Warning,
                    message: format!(
                        "{path}.insecure: it allows plain http, and the directory is https anyway"
                    ),
                    hint: "take it out; a private root of the authority goes into `trust`"
                        .to_owned(),
                });
            }
        }
        findings
    }

    /// The URLs that are kept as secrets, as far as they can be read: what is no URL to call.
    async fn check_addresses(&self, clock: &Clock) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (path, source) in self.secret_addresses() {
            let is_run = matches!(source, SecretSource::Command(_));
            // One that cannot be read is found with the other secrets.
            if let (false, Ok(secret)) = (is_run, source.read(clock).await)
                && let Err(error) = Address::judge(secret.expose_text().unwrap_or_default())
            {
                findings.push(Finding {
                    severity: Severity::Error,
                    message: format!("{path}: {}: {error}", source.describe()),
                    hint: "put one line there, the URL".to_owned(),
                });
            }
        }
        findings
    }

    fn secret_addresses(&self) -> Vec<(String, &SecretSource)> {
        let webhooks = self.alerts.iter().enumerate();
        let webhooks = webhooks.filter_map(|(nth, channel)| match channel {
            AlertChannel::Webhook { address, .. } => {
                Some((format!("alerts[{nth}].webhook.url"), address))
            }
            _ => None,
        });
        let heartbeat = self.heartbeat.iter();
        let all = webhooks.chain(heartbeat.map(|it| ("heartbeat".to_owned(), it)));
        all.filter_map(|(path, address)| Some((path, address.secret()?)))
            .collect()
    }

    /// Every secret with its path, each source once.
    fn secrets(&self) -> Vec<(String, SecretSource)> {
        let mut all = Vec::new();
        all.extend(
            self.seal_key
                .iter()
                .map(|it| ("seal-key".to_owned(), it.clone())),
        );
        for authority in &self.authorities {
            let account = authority.external_account.iter();
            let path = format!("authorities.{}.external-account.mac-key", authority.name);
            all.extend(account.map(|it| (path.clone(), it.mac_key.clone())));
        }
        for (name, settings) in &self.providers {
            all.extend(provider_secrets(&format!("providers.{name}"), settings));
        }
        for (nth, channel) in self.alerts.iter().enumerate() {
            if let AlertChannel::Smtp(smtp) = channel {
                let login = smtp.login.iter();
                let path = format!("alerts[{nth}].smtp.password");
                all.extend(login.map(|(_, password)| (path.clone(), password.clone())));
            }
        }
        let addresses = self.secret_addresses().into_iter();
        all.extend(addresses.map(|(path, source)| (path, source.clone())));
        let mut seen = BTreeSet::new();
        all.retain(|(_, source)| seen.insert(source.describe()));
        all
    }
}

/// The secrets of one provider, each with its path.
fn provider_secrets(path: &str, settings: &ProviderSettings) -> Vec<(String, SecretSource)> {
    match settings {
        ProviderSettings::AcmeDns(settings) => {
            vec![(
                format!("{path}.acme-dns.accounts"),
                settings.accounts.clone(),
            )]
        }
        ProviderSettings::AzureDns(settings) => {
            let path = format!("{path}.azuredns");
            match &settings.login {
                Login::Secret { secret, .. } => {
                    vec![(format!("{path}.client-secret"), secret.clone())]
                }
                Login::Federated { token, .. } => {
                    vec![(format!("{path}.workload-identity.token"), token.clone())]
                }
                Login::Machine { .. } => Vec::new(),
            }
        }
        ProviderSettings::Cloudflare(settings) => {
            vec![(format!("{path}.cloudflare.token"), settings.token.clone())]
        }
        ProviderSettings::GoogleCloud(settings) => {
            let key = format!("{path}.googlecloud.credentials");
            let credentials = settings.credentials.iter();
            credentials.map(|it| (key.clone(), it.clone())).collect()
        }
        ProviderSettings::Ovh(settings) => {
            let path = format!("{path}.ovh");
            vec![
                (
                    format!("{path}.application-secret"),
                    settings.application_secret.clone(),
                ),
                (
                    format!("{path}.consumer-key"),
                    settings.consumer_key.clone(),
                ),
            ]
        }
        ProviderSettings::Rfc2136(settings) => {
            let path = format!("{path}.rfc2136.tsig");
            let tsig = settings.tsig.iter().map(|tsig| match tsig {
                Tsig::KeyFile(file) => {
                    (format!("{path}.keyfile"), SecretSource::File(file.clone()))
                }
                Tsig::Parts { secret, .. } => (format!("{path}.secret"), secret.clone()),
            });
            tsig.collect()
        }
        ProviderSettings::Route53(settings) => match &settings.source {
            Source::Key { secret, .. } => {
                vec![(format!("{path}.route53.secret-access-key"), secret.clone())]
            }
            Source::Chain | Source::Profile(_) => Vec::new(),
        },
        ProviderSettings::Rest { plugin, settings } => {
            let secrets = settings.secrets.iter();
            secrets
                .map(|(key, source)| (format!("{path}.{plugin}.{key}"), source.clone()))
                .collect()
        }
        ProviderSettings::Process(settings) => {
            let secrets = settings.secrets.iter();
            let path = |name: &str| format!("{path}.process.secrets.{name}");
            secrets
                .map(|(name, source)| (path(name), source.clone()))
                .collect()
        }
        ProviderSettings::Manual => Vec::new(),
        ProviderSettings::AcmeSh(settings) => {
            variables(&format!("{path}.acme-sh"), &settings.writer.env)
        }
        ProviderSettings::LegoExec(settings) => {
            variables(&format!("{path}.lego-exec"), &settings.writer.env)
        }
        ProviderSettings::CertbotHooks(settings) => {
            variables(&format!("{path}.certbot-hooks"), &settings.writer.env)
        }
        ProviderSettings::LegoHttpreq(settings) => {
            let login = settings.writer.login.iter();
            let path = format!("{path}.lego-httpreq.password");
            login
                .map(|(_, password)| (path.clone(), password.clone()))
                .collect()
        }
    }
}

fn variables(path: &str, env: &BTreeMap<String, SecretSource>) -> Vec<(String, SecretSource)> {
    env.iter()
        .map(|(name, source)| (format!("{path}.env.{name}"), source.clone()))
        .collect()
}

/// The programs of one provider, each with its path.
fn provider_programs<'s>(
    path: &str,
    settings: &'s ProviderSettings,
) -> Vec<(String, &'s [String])> {
    match settings {
        ProviderSettings::Process(settings) => {
            vec![(format!("{path}.process.command"), &settings.command)]
        }
        ProviderSettings::LegoExec(settings) => {
            vec![(
                format!("{path}.lego-exec.command"),
                &settings.writer.command,
            )]
        }
        ProviderSettings::CertbotHooks(settings) => vec![
            (format!("{path}.certbot-hooks.auth"), &settings.writer.auth),
            (
                format!("{path}.certbot-hooks.cleanup"),
                &settings.writer.cleanup,
            ),
        ],
        ProviderSettings::AcmeDns(_)
        | ProviderSettings::AcmeSh(_)
        | ProviderSettings::AzureDns(_)
        | ProviderSettings::Cloudflare(_)
        | ProviderSettings::GoogleCloud(_)
        | ProviderSettings::LegoHttpreq(_)
        | ProviderSettings::Manual
        | ProviderSettings::Ovh(_)
        | ProviderSettings::Rest { .. }
        | ProviderSettings::Rfc2136(_)
        | ProviderSettings::Route53(_) => Vec::new(),
    }
}

/// The program of a plug-in is there, and this user may run it.
fn check_program(path: &str, argv: &[String]) -> Option<Finding> {
    let program = Path::new(argv.first()?);
    let what = match std::fs::metadata(program) {
        Err(error) => error.to_string(),
        Ok(found) if !found.is_file() => "this is not a program".to_owned(),
        Ok(_) => access(program, Access::EXEC_OK).err()?.to_string(),
    };
    Some(Finding {
        severity: Severity::Error,
        message: format!("{path}: {}: {what}", program.display()),
        hint: "make it executable for the user that runs countersign, or correct the configuration"
            .to_owned(),
    })
}

/// A state directory that was there before countersign keeps the rights it had.
fn check_state(state: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(state).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS_OR_GROUP_WRITE != 0).then(|| Finding {
        severity: Severity::Warning,
        message: format!(
            "state: {} is open to others (mode {mode:04o})",
            state.display()
        ),
        hint: format!("chmod 0710 {}", state.display()),
    })
}

async fn check_secret(path: &str, source: &SecretSource, clock: &Clock) -> Option<Finding> {
    if matches!(source, SecretSource::Command(_)) {
        return None;
    }
    if let Err(error) = source.read(clock).await {
        return Some(Finding {
            severity: Severity::Error,
            message: format!("{path}: {error}"),
            hint: secret_hint(source).to_owned(),
        });
    }
    let file = source.path()?;
    let mode = std::fs::metadata(&file).ok()?.permissions().mode() & 0o7777;
    (mode & OTHERS_READ != 0).then(|| Finding {
        severity: Severity::Warning,
        message: format!(
            "{path}: {} can be read by others (mode {mode:04o})",
            file.display()
        ),
        hint: format!("chmod o-rwx {}", file.display()),
    })
}

/// What is in a provider's secret files is what it should be, as far as they can be read.
async fn check_credential(
    path: &str,
    settings: &ProviderSettings,
    clock: &Clock,
) -> Option<Finding> {
    for (_, source) in provider_secrets(path, settings) {
        let is_run = matches!(source, SecretSource::Command(_));
        // Those that cannot be read are found with the other secrets.
        if is_run || source.read(clock).await.is_err() {
            return None;
        }
    }
    let (key, judged, hint) = match settings {
        ProviderSettings::AcmeDns(settings) => (
            "acme-dns.accounts",
            settings.judge(clock).await,
            "name the file where lego or the acme-dns hook for certbot keeps the accounts of this server",
        ),
        ProviderSettings::GoogleCloud(settings) => (
            "googlecloud.credentials",
            settings.judge(clock).await,
            "name the JSON file of a service account's key, as Google gives it",
        ),
        ProviderSettings::Rfc2136(settings) => (
            "rfc2136.tsig",
            settings.judge(clock).await,
            "write the key as `tsig-keygen -a hmac-sha256` or `keymgr -t` does",
        ),
        _ => return None,
    };
    Some(Finding {
        severity: Severity::Error,
        message: format!("{path}.{key}: {}", judged.err()?),
        hint: hint.to_owned(),
    })
}

/// What an acme.sh that is configured lacks.
fn check_acme_sh(path: &str, settings: &ProviderSettings) -> Option<Finding> {
    let ProviderSettings::AcmeSh(settings) = settings else {
        return None;
    };
    let AcmeSh { home, script, .. } = &settings.writer;
    let file = format!("{script}.sh");
    let (key, lacks, hint) = match home.join("acme.sh").is_file() {
        false => (
            "home",
            format!("{} has no acme.sh", home.display()),
            "name the directory where acme.sh is installed, usually ~/.acme.sh",
        ),
        true if home.join(&file).is_file() || home.join("dnsapi").join(&file).is_file() => {
            return None;
        }
        true => (
            "script",
            format!("{} has no {file}, and its dnsapi neither", home.display()),
            "name one of the scripts in its directory dnsapi, without .sh",
        ),
    };
    Some(Finding {
        severity: Severity::Error,
        message: format!("{path}.acme-sh.{key}: {lacks}"),
        hint: hint.to_owned(),
    })
}

/// What to do about a secret that cannot be had.
fn secret_hint(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::File(_) => {
            "make it readable for the user that runs countersign, or correct the configuration"
        }
        SecretSource::Env(_) => "set it where countersign is started, or name a file instead",
        SecretSource::Credential(_) => {
            "add LoadCredential= to the systemd unit and start it there, or name a file instead"
        }
        SecretSource::Command(_) => "run it by hand to see why",
    }
}

fn check_roots(path: &str, file: &Path, whose: &str) -> Option<Finding> {
    let problem = match roots_in(file) {
        Ok(0) => "has no certificate in it".to_owned(),
        Ok(_) => return None,
        Err(error) => error,
    };
    Some(Finding {
        severity: Severity::Error,
        message: format!("{path}: {} {problem}", file.display()),
        hint: format!("name a PEM file with the root certificate of {whose}"),
    })
}

fn roots_in(file: &Path) -> Result<usize, String> {
    let pem = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let der = certificate.map_err(|error| format!("is not PEM: {error}"))?;
        x509_parser::parse_x509_certificate(&der)
            .map_err(|error| format!("has a certificate that cannot be read: {error}"))?;
        count += 1;
    }
    Ok(count)
}
