//! Checks of `certificates` and `defaults`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};

use countersign_providers::record::DnsName;

use crate::engine::key::KeyType;
use crate::engine::names::{CertificateName, Identifier};

use super::checked::{Certificate, Delivery, FileKind, FilesSettings, optional};
use super::names::{self, AuthorityName, ProviderName};
use super::problems::{Path, listed, nearest};
use super::raw::{self, Deliver, Entries, OneOrMany};
use super::scalars::Checker;

/// The mode of private key and bundle unless configured.
const KEY_MODE: u32 = 0o600;
/// The mode of the other files unless configured.
const CERT_MODE: u32 = 0o644;
/// The longest name of a file.
const MAX_FILE_NAME: usize = 200;

/// What certificates may refer to, by the keys in the file, also of what is wrong there: one mistake is told once.
pub(super) struct Defined<'a> {
    authorities: Vec<&'a str>,
    providers: Vec<&'a str>,
    nameserver: bool,
}

impl<'a> Defined<'a> {
    pub(super) fn of(root: &'a raw::Root) -> Self {
        Self {
            authorities: keys(root.authorities.as_ref()),
            providers: keys(root.providers.as_ref()),
            nameserver: root.nameserver.is_some(),
        }
    }
}

fn keys<T>(entries: Option<&Entries<T>>) -> Vec<&str> {
    entries.map_or_else(Vec::new, |it| {
        it.0.iter().map(|(key, _)| key.as_str()).collect()
    })
}

/// What certificates share.
struct Shared<'a> {
    defined: &'a Defined<'a>,
    key: KeyType,
    authorities: Vec<AuthorityName>,
    /// The state directory, if it is right.
    state: Option<&'a FilePath>,
    /// Who writes to a directory.
    directories: BTreeMap<PathBuf, String>,
}

impl Checker<'_> {
    /// The certificates that are right.
    pub(super) fn certificates(
        &mut self,
        top: &Path<'_>,
        root: &raw::Root,
        defined: &Defined<'_>,
        state: Option<&FilePath>,
    ) -> BTreeMap<CertificateName, Certificate> {
        let (key, authorities) = self.defaults(&top.key("defaults"), root, defined);
        let mut shared = Shared {
            defined,
            key,
            authorities,
            state,
            directories: BTreeMap::new(),
        };
        let at = top.key("certificates");
        let entries = root.certificates.as_ref().map_or(&[][..], |it| &it.0);
        if self.problems.is_misspelt(top, "certificates")
            || self.problems.is_misspelt(top, "providers")
        {
            // What is missing is there under another key.
        } else if entries.is_empty() {
            self.problems.key(
                &at,
                "no certificate is configured",
                "write e.g. certificates: {example: {names: [example.com, \"*.example.com\"]}}",
            );
        } else if defined.providers.is_empty() && !defined.nameserver {
            self.problems.key(
                &top.key("providers"),
                "neither a provider nor a nameserver is configured, so that no name could be proven",
                "write e.g. providers: {office: {rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}}}",
            );
        }
        let nothing = raw::Certificate::default();
        let mut seen = BTreeSet::new();
        let mut checked = BTreeMap::new();
        for (name, certificate) in entries {
            if self.is_repeated(&at, name, &mut seen) {
                continue;
            }
            let here = at.key(name);
            let parsed = CertificateName::parse(name);
            if parsed.is_none() {
                self.problems.key(
                    &here,
                    format!("`{name}` is not a name for a certificate"),
                    "a name has 1 to 63 characters from a-z, 0-9 and -, and does not begin with -",
                );
            }
            let certificate = certificate.as_ref().unwrap_or(&nothing);
            checked.extend(parsed.zip(self.certificate(&here, certificate, &mut shared)));
        }
        checked
    }

    fn defaults(
        &mut self,
        at: &Path<'_>,
        root: &raw::Root,
        defined: &Defined<'_>,
    ) -> (KeyType, Vec<AuthorityName>) {
        let all = defined
            .authorities
            .iter()
            .filter_map(|it| AuthorityName::parse(it));
        let Some(defaults) = &root.defaults else {
            return (KeyType::default(), all.collect());
        };
        self.problems
            .unknown_keys::<raw::Defaults>(at, &defaults.unknown);
        let key = (defaults.key.as_ref()).and_then(|it| self.key_type(&at.key("key"), it));
        let authorities = match &defaults.authorities {
            Some(named) => self
                .authority_names(&at.key("authorities"), named, defined)
                .unwrap_or_default(),
            None => all.collect(),
        };
        (key.unwrap_or_default(), authorities)
    }

    fn certificate(
        &mut self,
        at: &Path<'_>,
        certificate: &raw::Certificate,
        shared: &mut Shared<'_>,
    ) -> Option<Certificate> {
        self.problems
            .unknown_keys::<raw::Certificate>(at, &certificate.unknown);
        let names = self.identifiers(at, certificate.names.as_deref().unwrap_or_default());
        let key = (certificate.key.as_ref())
            .map_or(Some(shared.key), |it| self.key_type(&at.key("key"), it));
        let provider = (certificate.provider.as_ref())
            .map(|it| self.provider_name(&at.key("provider"), it, shared.defined));
        let authorities = match &certificate.authorities {
            Some(named) => self.authority_names(&at.key("authorities"), named, shared.defined),
            None => Some(shared.authorities.clone()),
        };
        let deliver = certificate.deliver.as_deref().unwrap_or_default();
        let deliver = self.deliveries(&at.key("deliver"), deliver, shared);
        Some(Certificate {
            names: names?,
            key: key?,
            provider: optional(provider)?,
            authorities: authorities?,
            deliver: deliver?,
        })
    }

    fn identifiers(&mut self, certificate: &Path<'_>, texts: &[String]) -> Option<Vec<Identifier>> {
        let at = certificate.key("names");
        if texts.is_empty() {
            self.problems.missing(
                certificate,
                "names",
                "write at least one name, e.g. names: [example.com, \"*.example.com\"]",
            );
            return None;
        }
        let parsed = self.each(&at, texts, "name", |this, here, text| {
            names::identifier(text)
                .map_err(|bad| this.problems.value(here, bad.message, bad.hint))
                .ok()
        })?;
        let wildcards: BTreeSet<&DnsName> = parsed
            .iter()
            .filter(|it| it.wildcard)
            .map(|it| &it.base)
            .collect();
        let mut seen = BTreeSet::new();
        let mut good = true;
        for (index, name) in parsed.iter().enumerate() {
            let here = at.index(index);
            let parent = name.base.parent().filter(|_| !name.wildcard);
            if !seen.insert(name) {
                self.problems.value(
                    &here,
                    format!("`{name}` is in this certificate twice"),
                    "take one of them out",
                );
                good = false;
            } else if let Some(parent) = parent.filter(|it| wildcards.contains(it)) {
                self.problems.value(
                    &here,
                    format!("`{name}` is covered by `*.{parent}` of the same certificate, and authorities refuse such an order"),
                    "take it out: the wildcard serves it already",
                );
                good = false;
            }
        }
        good.then_some(parsed)
    }

    fn provider_name(
        &mut self,
        at: &Path<'_>,
        provider: &OneOrMany,
        defined: &Defined<'_>,
    ) -> Option<ProviderName> {
        match provider {
            OneOrMany::One(name) => {
                self.reference(at, name, "provider", &defined.providers)?;
                ProviderName::parse(name)
            }
            OneOrMany::Many(names) if names.len() == 1 => {
                self.reference(&at.index(0), &names[0], "provider", &defined.providers)?;
                ProviderName::parse(&names[0])
            }
            OneOrMany::Many(names) if names.is_empty() => {
                self.problems.value(
                    at,
                    "this list is empty; it wants the name of a provider",
                    format!("defined: {}", listed(&defined.providers)),
                );
                None
            }
            OneOrMany::Many(_) => {
                self.problems
                    .later(at, "writing to several providers", "name one provider");
                None
            }
        }
    }

    fn authority_names(
        &mut self,
        at: &Path<'_>,
        texts: &[String],
        defined: &Defined<'_>,
    ) -> Option<Vec<AuthorityName>> {
        let mut seen = BTreeSet::new();
        for (index, text) in texts.iter().enumerate() {
            if !seen.insert(text) {
                self.problems.value(
                    &at.index(index),
                    format!("`{text}` is in this list twice"),
                    "take one of them out",
                );
            }
        }
        self.each(at, texts, "authority", |this, here, text| {
            this.reference(here, text, "authority", &defined.authorities)?;
            AuthorityName::parse(text)
        })
    }

    fn reference(&mut self, at: &Path<'_>, name: &str, what: &str, defined: &[&str]) -> Option<()> {
        if defined.contains(&name) {
            return Some(());
        }
        let list = match defined {
            [] => "none is defined".to_owned(),
            _ => format!("defined: {}", listed(defined)),
        };
        let hint = match nearest(name, defined) {
            Some(near) => format!("did you mean `{near}`? {list}"),
            None => list,
        };
        self.problems
            .value(at, format!("there is no {what} `{name}`"), hint);
        None
    }

    fn deliveries(
        &mut self,
        at: &Path<'_>,
        items: &[Deliver],
        shared: &mut Shared<'_>,
    ) -> Option<Vec<Delivery>> {
        let mut checked = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let here = at.index(index);
            match item {
                Deliver::InPlace(target) => checked.extend(self.target(&here, target, shared)),
                Deliver::Named(name) => self.problems.later(
                    &here,
                    &format!("the named target `{name}`"),
                    "write the target in place, e.g. {files: {directory: /srv/certs/example}}",
                ),
            }
        }
        (checked.len() == items.len()).then_some(checked)
    }

    fn target(
        &mut self,
        at: &Path<'_>,
        target: &raw::Target,
        shared: &mut Shared<'_>,
    ) -> Option<Delivery> {
        self.problems
            .unknown_keys::<raw::Target>(at, &target.unknown);
        if target.files.is_none() {
            self.problems.missing(
                at,
                "files",
                "write e.g. files: {directory: /srv/certs/example}",
            );
        }
        let files = (target.files.as_ref()).and_then(|it| self.files(&at.key("files"), it, shared));
        let reload = (target.reload.as_ref()).map(|it| self.argv(&at.key("reload"), it));
        let files = files?;
        Some(Delivery {
            target: format!("files:{}", files.directory.display()),
            files,
            reload: optional(reload)?,
        })
    }

    fn files(
        &mut self,
        at: &Path<'_>,
        files: &raw::Files,
        shared: &mut Shared<'_>,
    ) -> Option<FilesSettings> {
        self.problems.unknown_keys::<raw::Files>(at, &files.unknown);
        if files.directory.is_none() {
            self.problems.missing(
                at,
                "directory",
                "write where the files go, e.g. directory: /srv/certs/example",
            );
        }
        let directory = (files.directory.as_ref())
            .and_then(|it| self.own_directory(&at.key("directory"), it, shared));
        let owner = (files.owner.as_ref()).map(|it| self.text(&at.key("owner"), it));
        let group = (files.group.as_ref()).map(|it| self.text(&at.key("group"), it));
        let mode =
            (files.mode.as_ref()).map_or(Some(KEY_MODE), |it| self.mode(&at.key("mode"), it));
        let cert_mode = (files.cert_mode.as_ref())
            .map_or(Some(CERT_MODE), |it| self.mode(&at.key("cert-mode"), it));
        let names = (files.names.as_ref()).map_or(Some(BTreeMap::new()), |it| {
            self.file_names(&at.key("names"), it)
        });
        Some(FilesSettings {
            directory: directory?,
            owner: optional(owner)?,
            group: optional(group)?,
            mode: mode?,
            cert_mode: cert_mode?,
            names: names?,
            take_over: files.take_over.unwrap_or(false),
        })
    }

    /// A directory that no other delivery writes to.
    fn own_directory(
        &mut self,
        at: &Path<'_>,
        text: &str,
        shared: &mut Shared<'_>,
    ) -> Option<PathBuf> {
        let directory = self.directory(at, text)?;
        if let Some(state) = shared.state.filter(|state| directory.starts_with(state)) {
            self.problems.value(
                at,
                format!(
                    "`{}` is in the state directory, where secrets are",
                    directory.display()
                ),
                format!("name a directory outside of {}", state.display()),
            );
            return None;
        }
        if let Some(other) = shared.directories.get(&directory) {
            self.problems.value(
                at,
                format!("`{}` is written to by {other} already", directory.display()),
                "give each certificate a directory of its own",
            );
            return None;
        }
        shared.directories.insert(directory.clone(), at.to_string());
        Some(directory)
    }

    fn file_names(
        &mut self,
        at: &Path<'_>,
        names: &raw::FileNames,
    ) -> Option<BTreeMap<FileKind, String>> {
        self.problems
            .unknown_keys::<raw::FileNames>(at, &names.unknown);
        let kinds = [
            ("fullchain", FileKind::Fullchain, &names.fullchain),
            ("cert", FileKind::Cert, &names.cert),
            ("chain", FileKind::Chain, &names.chain),
            ("privkey", FileKind::Privkey, &names.privkey),
            ("bundle", FileKind::Bundle, &names.bundle),
        ];
        let given = || {
            kinds
                .iter()
                .filter_map(|(word, kind, name)| Some((*word, *kind, name.as_ref()?)))
        };
        let mut taken: BTreeMap<String, &str> = kinds
            .iter()
            .filter(|(_, _, name)| name.is_none())
            .map(|(word, _, _)| (format!("{word}.pem"), *word))
            .collect();
        let mut checked = BTreeMap::new();
        for (word, kind, name) in given() {
            let here = at.key(word);
            let Some(name) = self.file_name(&here, name) else {
                continue;
            };
            if let Some(other) = taken.insert(name.clone(), word) {
                self.problems.value(
                    &here,
                    format!("`{name}` is the name of `{other}` already"),
                    "give each file a name of its own",
                );
                continue;
            }
            checked.insert(kind, name);
        }
        (checked.len() == given().count()).then_some(checked)
    }

    fn file_name(&mut self, at: &Path<'_>, name: &str) -> Option<String> {
        let plain = !name.is_empty() && name.len() <= MAX_FILE_NAME && !name.contains(['/', '\0']);
        if !plain {
            self.problems.value(
                at,
                format!("`{name}` is not a plain file name"),
                "write a name without `/`, e.g. server.crt",
            );
            return None;
        }
        if name.starts_with('.') || name == "current" {
            self.problems.value(
                at,
                format!("the name `{name}` is needed by Countersign itself"),
                "choose one that is not `current` and does not begin with a dot",
            );
            return None;
        }
        Some(name.to_owned())
    }
}
