//! Checks of `certificates` and `defaults`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;

use countersign_providers::record::DnsName;

use crate::engine::key::KeyType;
use crate::engine::names::{CertificateName, Identifier};

use super::checked::{Certificate, optional};
use super::deliveries::Places;
use super::error::SHOWN;
use super::names::{self, AuthorityName, ProviderName};
use super::problems::{Path, listed, nearest};
use super::raw::{self, Entries, OneOrMany};
use super::scalars::Checker;

/// What certificates may refer to, by the keys in the files, also of what is wrong there: one mistake is told once.
pub(super) struct Defined<'a> {
    authorities: Vec<&'a str>,
    providers: Vec<&'a str>,
    nameserver: bool,
}

impl<'a> Defined<'a> {
    pub(super) fn of(roots: &'a [raw::Root]) -> Self {
        Self {
            authorities: keys(roots.iter().filter_map(|it| it.authorities.as_ref())),
            providers: keys(roots.iter().filter_map(|it| it.providers.as_ref())),
            nameserver: roots.iter().any(|it| it.nameserver.is_some()),
        }
    }
}

fn keys<'a, T: 'a>(entries: impl Iterator<Item = &'a Entries<T>>) -> Vec<&'a str> {
    let entries = entries.flat_map(|it| &it.0);
    entries.map(|(key, _)| key.as_str()).collect()
}

/// What certificates share.
struct Shared<'a> {
    defined: &'a Defined<'a>,
    key: KeyType,
    authorities: Vec<AuthorityName>,
    places: Places<'a>,
}

impl Checker {
    /// The certificates that are right.
    pub(super) fn certificates(
        &mut self,
        roots: &[raw::Root],
        defined: &Defined<'_>,
        state: Option<&FilePath>,
    ) -> BTreeMap<CertificateName, Certificate> {
        let (key, authorities) = self.defaults(roots, defined);
        let mut shared = Shared {
            defined,
            key,
            authorities,
            places: self.targets(roots, state),
        };
        let given = |root: &raw::Root| {
            root.certificates
                .as_ref()
                .is_some_and(|it| !it.0.is_empty())
        };
        if self.is_misspelt_at_top(roots, "certificates")
            || self.is_misspelt_at_top(roots, "providers")
        {
            // What is missing is there under another key.
        } else if !roots.iter().any(given) {
            self.problems.key(
                &Path::TOP.key("certificates"),
                "no certificate is configured",
                "write e.g. certificates: {example: {names: [example.com, \"*.example.com\"]}}",
            );
        } else if defined.providers.is_empty() && !defined.nameserver {
            self.problems.key(
                &Path::TOP.key("providers"),
                "neither a provider nor a nameserver is configured, so that no name could be proven",
                "write e.g. providers: {office: {rfc2136: {server: \"192.0.2.53:53\", tsig: {keyfile: /etc/bind/acme.key}}}}",
            );
        }
        let nothing = raw::Certificate::default();
        let mut checked = BTreeMap::new();
        self.entries(
            roots,
            "certificates",
            |it| it.certificates.as_ref(),
            |this, here, name, certificate| {
                let parsed = CertificateName::parse(name);
                if parsed.is_none() {
                    this.problems.key(
                        here,
                        format!("`{name}` is not a name for a certificate"),
                        "a name has 1 to 63 characters from a-z, 0-9 and -, and does not begin with -",
                    );
                }
                let certificate = certificate.unwrap_or(&nothing);
                checked.extend(parsed.zip(this.certificate(here, certificate, &mut shared)));
            },
        );
        checked
    }

    fn defaults(
        &mut self,
        roots: &[raw::Root],
        defined: &Defined<'_>,
    ) -> (KeyType, Vec<AuthorityName>) {
        let checked = self.only(
            roots,
            "defaults",
            |it| it.defaults.as_ref(),
            |this, at, defaults| {
                this.problems
                    .unknown_keys::<raw::Defaults>(at, &defaults.unknown);
                let key = (defaults.key.as_ref()).and_then(|it| this.key_type(&at.key("key"), it));
                let authorities = (defaults.authorities.as_ref()).map(|named| {
                    this.authority_names(&at.key("authorities"), named, defined)
                        .unwrap_or_default()
                });
                (key, authorities)
            },
        );
        let (key, authorities) = checked.unwrap_or_default();
        let all = || {
            let all = defined.authorities.iter();
            all.filter_map(|it| AuthorityName::parse(it)).collect()
        };
        (key.unwrap_or_default(), authorities.unwrap_or_else(all))
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
        let providers = (certificate.provider.as_ref())
            .map(|it| self.provider_names(&at.key("provider"), it, shared.defined));
        let authorities = match &certificate.authorities {
            Some(named) => self.authority_names(&at.key("authorities"), named, shared.defined),
            None => Some(shared.authorities.clone()),
        };
        let deliver = certificate.deliver.as_deref().unwrap_or_default();
        let deliver = self.deliveries(&at.key("deliver"), deliver, &mut shared.places);
        Some(Certificate {
            names: names?,
            key: key?,
            providers: optional(providers)?.unwrap_or_default(),
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

    fn provider_names(
        &mut self,
        at: &Path<'_>,
        given: &OneOrMany,
        defined: &Defined<'_>,
    ) -> Option<Vec<ProviderName>> {
        let names = match given {
            OneOrMany::One(name) => {
                self.reference(at, name, "provider", &defined.providers)?;
                return ProviderName::parse(name).map(|name| vec![name]);
            }
            OneOrMany::Many(names) => names,
        };
        self.no_repetition(at, names);
        self.each(at, names, "provider", |this, here, name| {
            this.reference(here, name, "provider", &defined.providers)?;
            ProviderName::parse(name)
        })
    }

    fn authority_names(
        &mut self,
        at: &Path<'_>,
        texts: &[String],
        defined: &Defined<'_>,
    ) -> Option<Vec<AuthorityName>> {
        self.no_repetition(at, texts);
        self.each(at, texts, "authority", |this, here, text| {
            this.reference(here, text, "authority", &defined.authorities)?;
            AuthorityName::parse(text)
        })
    }

    fn no_repetition(&mut self, at: &Path<'_>, texts: &[String]) {
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
    }

    /// Something that is defined elsewhere.
    pub(super) fn reference(
        &mut self,
        at: &Path<'_>,
        name: &str,
        what: &str,
        defined: &[&str],
    ) -> Option<()> {
        if defined.contains(&name) {
            return Some(());
        }
        let list = match defined {
            [] => "none is defined".to_owned(),
            _ => format!("defined: {}", listed(defined)),
        };
        // What is not shown needs no hint: thousands compared with thousands take a minute.
        let is_shown = self.problems.all.len() < SHOWN;
        let near = nearest(name, if is_shown { defined } else { &[] });
        let hint = match near {
            Some(near) => format!("did you mean `{near}`? {list}"),
            None => list,
        };
        self.problems
            .value(at, format!("there is no {what} `{name}`"), hint);
        None
    }
}
