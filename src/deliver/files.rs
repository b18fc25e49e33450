//! Certificates in a directory: `.gen-N/` holds one generation, `current` points to it and is changed by one rename,
//! and fixed links such as `fullchain.pem` → `current/fullchain.pem` never change.
//!
//! Who reads `bundle.pem`, or opens `current/` once, never sees the key of one generation with the certificate of
//! another. How it is done is in `install`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::install::Place;
use super::{DeliverError, Generation, Shown, Target};

/// A directory that certificates are delivered to.
pub struct Files {
    settings: Settings,
}

impl Files {
    /// The target that `settings` describe. Looks at nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Settings) -> Result<T, DeliverError> + Send + 'static,
    ) -> Result<T, DeliverError> {
        let settings = self.settings.clone();
        let path = settings.directory.display().to_string();
        let outcome = tokio::task::spawn_blocking(move || work(&settings))
            .await
            .unwrap_or_else(|error| {
                Err(DeliverError::Io {
                    path: path.clone(),
                    what: "the work there was cut short",
                    error: std::io::Error::other(error),
                })
            });
        match &outcome {
            Ok(_) => tracing::trace!(directory = path, "files: done"),
            Err(error) => tracing::trace!(directory = path, %error, "files: failed"),
        }
        outcome
    }
}

#[async_trait]
impl Target for Files {
    async fn install(&self, generation: &Generation) -> Result<(), DeliverError> {
        let generation = generation.clone();
        self.blocking(move |settings| Place::make(settings)?.install(&generation))
            .await
    }

    async fn inspect(&self) -> Result<Shown, DeliverError> {
        self.blocking(|settings| match Place::open(settings)? {
            Some(place) => place.inspect(),
            None => Ok(Shown::Nothing),
        })
        .await
    }

    async fn settle(&self, number: u64) -> Result<(), DeliverError> {
        self.blocking(move |settings| match Place::open(settings)? {
            Some(place) => place.settle(number),
            None => Ok(()),
        })
        .await
    }
}

/// Where the files go, and who may read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A real directory, absolute; made with its parents if missing.
    pub directory: PathBuf,
    /// The user that every file is given to; the daemon's own if absent.
    pub owner: Option<String>,
    /// The group that every file is given to; the daemon's own if absent.
    pub group: Option<String>,
    /// The mode of private key and bundle; 0o600 unless configured.
    pub mode: u32,
    /// The mode of the other files; 0o644 unless configured.
    pub cert_mode: u32,
    /// Other names for the fixed links.
    pub names: BTreeMap<FileKind, String>,
    /// Whether files that are not ours are replaced, where they stand in the way.
    pub take_over: bool,
}

/// What a file of a generation holds. The word in the configuration is the name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// The certificate, then its chain.
    Fullchain,
    /// The certificate alone.
    Cert,
    /// The chain without the certificate.
    Chain,
    /// The private key.
    Privkey,
    /// The private key, then the certificate, then its chain.
    Bundle,
}

impl FileKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Fullchain,
        Self::Cert,
        Self::Chain,
        Self::Privkey,
        Self::Bundle,
    ];

    /// Its name unless `names` gives another.
    pub fn default_name(self) -> &'static str {
        match self {
            Self::Fullchain => "fullchain.pem",
            Self::Cert => "cert.pem",
            Self::Chain => "chain.pem",
            Self::Privkey => "privkey.pem",
            Self::Bundle => "bundle.pem",
        }
    }
}

impl Settings {
    /// Plain settings for `directory`: the daemon's own user and group, modes 0600 and 0644, the usual names.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            owner: None,
            group: None,
            mode: 0o600,
            cert_mode: 0o644,
            names: BTreeMap::new(),
            take_over: false,
        }
    }

    /// The name of the fixed link for `kind`.
    pub fn name(&self, kind: FileKind) -> &str {
        self.names
            .get(&kind)
            .map_or(kind.default_name(), String::as_str)
    }

    /// Whether the names can be used: each a plain file name, none twice, none that we need ourselves.
    pub fn check_names(&self) -> Result<(), String> {
        for (index, kind) in FileKind::ALL.into_iter().enumerate() {
            let name = self.name(kind);
            let plain = !name.is_empty()
                && name.len() <= 200
                && !name.contains(['/', '\0'])
                && name != "."
                && name != "..";
            if !plain {
                return Err(format!(
                    "`{name}` is not a plain file name; write one without `/`, such as `{}`",
                    kind.default_name()
                ));
            }
            if name.starts_with('.') || name == "current" {
                return Err(format!(
                    "the name `{name}` is needed by Countersign itself; choose one that is not `current` and does not begin with a dot"
                ));
            }
            if FileKind::ALL[..index]
                .iter()
                .any(|&other| self.name(other) == name)
            {
                return Err(format!(
                    "two files have the name `{name}`; give each its own"
                ));
            }
        }
        Ok(())
    }
}
