//! Checks of hosts by their manifests, shipped or the user's own.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use countersign_providers::manifest::{Manifest, Settings, shipped};
use countersign_providers::secret::SecretSource;
use url::Url;

use crate::config::problems::{Path, nearest_hint};
use crate::config::raw::{self, Given};
use crate::config::scalars::Checker;

/// The plug-in whose manifest is a file.
const OWN: &str = "manifest";
/// More of a file is not read; a manifest is far smaller.
const MAX_FILE: u64 = 1024 * 1024;

impl Checker {
    pub(super) fn rest(
        &mut self,
        at: &Path<'_>,
        plugin: &str,
        rest: &raw::Rest,
    ) -> Option<Settings> {
        let given = &rest.0.0;
        let manifest = match plugin {
            OWN => Arc::new(self.own_manifest(at, given)?),
            shipped => shipped::read(shipped)?,
        };
        self.known_keys(at, plugin, &manifest, given);
        let (values, secrets) = (
            self.values(at, &manifest, given),
            self.secrets(at, &manifest, given),
        );
        let endpoint = self.endpoint_of(at, &manifest, given);
        Some(Settings {
            values: values?,
            secrets: secrets?,
            endpoint: endpoint?,
            manifest,
        })
    }

    fn own_manifest(
        &mut self,
        at: &Path<'_>,
        given: &[(String, Option<Given>)],
    ) -> Option<Manifest> {
        let here = at.key("file");
        let written = match find(given, "file") {
            Some(Given::Text(written)) => written,
            Some(Given::Secret(_)) => return self.no_text(&here),
            None => {
                let hint = "write where the manifest is, e.g. file: /etc/countersign/own-dns.yaml";
                self.problems.missing(at, "file", hint);
                return None;
            }
        };
        let file = self.path(&here, written)?;
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        if let Err(error) = read {
            self.problems
                .value(&here, format!("the manifest cannot be read: {error}"), "");
            return None;
        }
        match Manifest::read(&text) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                let message = format!("the manifest is wrong: {error}");
                self.problems
                    .value(&here, message, error.hint.unwrap_or_default());
                None
            }
        }
    }

    fn known_keys(
        &mut self,
        at: &Path<'_>,
        plugin: &str,
        manifest: &Manifest,
        given: &[(String, Option<Given>)],
    ) {
        let settings = manifest.settings().map(|it| it.0);
        let own = (plugin == OWN).then_some("file");
        let known: Vec<&str> = manifest
            .secrets()
            .chain(settings)
            .chain(own)
            .chain(["endpoint"])
            .collect();
        let mut seen = HashMap::new();
        for (key, _) in given {
            if !self.is_repeated(at, key, &mut seen) && !known.contains(&key.as_str()) {
                let hint = nearest_hint(key, &known);
                self.problems
                    .key(&at.key(key), format!("unknown key `{key}`"), hint);
            }
        }
    }

    fn values(
        &mut self,
        at: &Path<'_>,
        manifest: &Manifest,
        given: &[(String, Option<Given>)],
    ) -> Option<BTreeMap<String, String>> {
        let mut values = BTreeMap::new();
        let mut all = true;
        for (key, default) in manifest.settings() {
            let value = match (find(given, key), default) {
                (Some(Given::Text(text)), _) => self.text(&at.key(key), text),
                (Some(Given::Secret(_)), _) => self.no_text(&at.key(key)),
                (None, Some(default)) => Some(default.to_owned()),
                (None, None) => {
                    self.problems
                        .missing(at, key, format!("it is {}", manifest.about(key)));
                    None
                }
            };
            all &= value.is_some();
            values.extend(value.map(|value| (key.to_owned(), value)));
        }
        all.then_some(values)
    }

    fn secrets(
        &mut self,
        at: &Path<'_>,
        manifest: &Manifest,
        given: &[(String, Option<Given>)],
    ) -> Option<BTreeMap<String, SecretSource>> {
        let mut secrets = BTreeMap::new();
        let mut all = true;
        for key in manifest.secrets() {
            let source = match find(given, key) {
                Some(Given::Secret(form)) => self.secret_form(&at.key(key), form),
                Some(Given::Text(_)) => self.secret(&at.key(key), &raw::Secret::Bare),
                None => {
                    let about = manifest.about(key);
                    self.problems.missing(
                        at,
                        key,
                        format!("it is {about}; write where it is, e.g. {key}: {{file: /path}}"),
                    );
                    None
                }
            };
            all &= source.is_some();
            secrets.extend(source.map(|source| (key.to_owned(), source)));
        }
        all.then_some(secrets)
    }

    fn endpoint_of(
        &mut self,
        at: &Path<'_>,
        manifest: &Manifest,
        given: &[(String, Option<Given>)],
    ) -> Option<Url> {
        let here = at.key("endpoint");
        match (find(given, "endpoint"), manifest.endpoint()) {
            (Some(Given::Text(text)), _) => self.endpoint(&here, text),
            (Some(Given::Secret(_)), _) => self.no_text(&here),
            (None, Some(endpoint)) => Some(endpoint.clone()),
            (None, None) => {
                self.problems.missing(
                    at,
                    "endpoint",
                    "write where the API is, e.g. endpoint: https://dns.example.com:8081",
                );
                None
            }
        }
    }

    fn no_text<T>(&mut self, at: &Path<'_>) -> Option<T> {
        self.problems.value(
            at,
            "a text is wanted here, and this is where a secret is",
            "",
        );
        None
    }
}

/// What is given for `key`; nothing for a key without a value.
fn find<'g>(given: &'g [(String, Option<Given>)], key: &str) -> Option<&'g Given> {
    let (_, value) = given.iter().find(|it| it.0 == key)?;
    value.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_manifest_is_a_plug_in() {
        let nothing = raw::Provider::default();
        let plugins = nothing.rest().into_iter().map(|it| it.0);
        let plugins: Vec<&str> = plugins.filter(|it| *it != OWN).collect();
        let shipped: Vec<&str> = shipped::ALL.iter().map(|it| it.0).collect();
        assert_eq!(plugins, shipped);
    }
}
