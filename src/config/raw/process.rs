//! `process`: a plug-in of somebody's own, as typed.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Entries, Secret, Unknown};

/// A plug-in that is a program.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    rename_all = "kebab-case",
    expecting = "a mapping with command"
)]
#[schemars(deny_unknown_fields, extend("required" = ["command"]))]
pub(in crate::config) struct Process {
    /// The program, by its absolute path, and its arguments; no shell.
    pub(in crate::config) command: Option<Vec<String>>,
    /// What the plug-in is told when it starts, as it is. Default: {}.
    pub(in crate::config) config: Option<Map<String, Value>>,
    /// What it is told besides, by names that it knows; read at each start.
    pub(in crate::config) secrets: Option<Entries<Secret>>,
    #[serde(flatten)]
    #[schemars(skip)]
    pub(in crate::config) unknown: Unknown,
}
