//! A plug-in that is a program.

use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::process::Settings;

/// What is started, and what it is told.
#[derive(Clone)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What `initialize` says of the configuration.
    pub config: Map<String, Value>,
    /// Time, for deadlines of the conversations with it.
    pub clock: Clock,
}

impl Program {
    /// One that has no configuration: it is told a zone, and a file that it may keep its records in.
    pub fn new(command: Vec<String>, zone: &str, file: &std::path::Path, clock: Clock) -> Self {
        let mut config = Map::new();
        config.insert("zone".to_owned(), json!(zone));
        config.insert("file".to_owned(), json!(file));
        Self {
            command,
            config,
            clock,
        }
    }

    /// The same for the plug-in itself. It has no secrets.
    pub fn settings(&self) -> Settings {
        Settings {
            command: self.command.clone(),
            config: self.config.clone(),
            secrets: Default::default(),
        }
    }
}
