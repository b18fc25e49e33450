//! A plug-in that is a program.

use std::io;
use std::sync::Arc;

use serde_json::{Map, json};
use tempfile::TempDir;

use crate::clock::Clock;
use crate::process::Settings;

/// What is started, and what it is told.
#[derive(Clone)]
pub struct Program {
    settings: Settings,
    clock: Clock,
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
            _directory: None,
        }
    }

    /// What the plug-in is made of.
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }
}
