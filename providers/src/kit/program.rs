//! A plug-in that is a program.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, json};
use tempfile::TempDir;

use crate::child::{Group, command};
use crate::clock::Clock;
use crate::process::Settings;
use crate::secret::Secret;

/// What is started, and what it is told.
#[derive(Clone)]
pub struct Program {
    settings: Settings,
    clock: Clock,
    /// What it was told so far that no message may show.
    told: Arc<Mutex<Vec<Secret>>>,
    /// Where it may keep its records, if it has no other place.
    _directory: Option<Arc<TempDir>>,
}

impl Program {
    /// One that has no configuration: it is told a zone, and a file that it may keep its records in.
    pub fn new(command: Vec<String>, zone: &str, clock: Clock) -> io::Result<Self> {
        let directory = TempDir::with_prefix("countersign-kit-")?;
        let mut config = Map::new();
        config.insert("zone".to_owned(), json!(zone));
        config.insert("file".to_owned(), json!(directory.path().join("records")));
        let settings = Settings {
            command,
            config,
            secrets: Default::default(),
        };
        Ok(Self {
            _directory: Some(Arc::new(directory)),
            ..Self::of(settings, clock)
        })
    }

    /// One that has a configuration.
    pub fn of(settings: Settings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            told: Arc::default(),
            _directory: None,
        }
    }

    /// Whether it can be started at all; it is killed at once.
    pub fn try_start(&self) -> io::Result<()> {
        let mut command = command(&self.settings.command)?;
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Group::start(command).map(drop)
    }

    /// What the plug-in is made of.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    /// Keeps a secret that it is told, to look for it in what is shown.
    pub(super) fn tells(&self, secret: &Secret) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.iter().all(|it| it.expose() != secret.expose()) {
            told.push(secret.clone());
        }
    }

    /// The secrets that it was told so far.
    pub(super) fn secrets(&self) -> Vec<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = told.iter().filter_map(|it| it.expose_text().ok());
        texts.map(str::to_owned).collect()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}
