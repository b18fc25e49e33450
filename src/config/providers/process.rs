//! Checks of `process`.

use std::collections::{BTreeMap, HashMap};

use countersign_providers::process::Settings;
use countersign_providers::secret::SecretSource;

use crate::config::checked::optional;
use crate::config::problems::Path;
use crate::config::raw::{self, Entries, Secret};
use crate::config::scalars::Checker;

/// What a command looks like.
const COMMAND: &str =
    "write the program and its arguments, e.g. command: [/usr/local/lib/countersign/our-dns]";

impl Checker {
    pub(super) fn process(&mut self, at: &Path<'_>, settings: &raw::Process) -> Option<Settings> {
        self.problems
            .unknown_keys::<raw::Process>(at, &settings.unknown);
        self.problems
            .required(at, &[("command", settings.command.is_some(), COMMAND)]);
        let command =
            (settings.command.as_ref()).and_then(|it| self.program(&at.key("command"), it));
        let secrets =
            (settings.secrets.as_ref()).map(|it| self.named_secrets(&at.key("secrets"), it));
        Some(Settings {
            command: command?,
            config: settings.config.clone().unwrap_or_default(),
            secrets: optional(secrets)?.unwrap_or_default(),
        })
    }

    /// A program by its absolute path, and its arguments.
    pub(super) fn program(&mut self, at: &Path<'_>, argv: &[String]) -> Option<Vec<String>> {
        let argv = self.argv(at, argv)?;
        if let Some(program) = argv.first().filter(|it| !it.starts_with('/')) {
            self.problems.value(
                &at.index(0),
                format!("`{program}` is not an absolute path"),
                "write where the program is, e.g. /usr/local/bin/update-dns",
            );
            return None;
        }
        Some(argv)
    }

    pub(super) fn named_secrets(
        &mut self,
        at: &Path<'_>,
        secrets: &Entries<Secret>,
    ) -> Option<BTreeMap<String, SecretSource>> {
        let mut seen = HashMap::new();
        let mut checked = BTreeMap::new();
        let mut all = true;
        for (name, secret) in &secrets.0 {
            if self.is_repeated(at, name, &mut seen) {
                continue;
            }
            let secret = secret.as_ref().unwrap_or(&Secret::Bare);
            match self.secret(&at.key(name), secret) {
                Some(source) => drop(checked.insert(name.clone(), source)),
                None => all = false,
            }
        }
        all.then_some(checked)
    }
}
