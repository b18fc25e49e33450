//! Configuration: as typed (`raw`), then checked once ([`Config`]).
//!
//! `yaml` reads the text and finds places in it, `checked` and its helpers turn what was typed into values that need
//! no second look, `problems` collects what is wrong, `error` says it, `files` looks at the files that the
//! configuration names. It knows the settings of the plug-ins but starts nothing, and reads no secret while parsing.
//!
//! A relative path in a configuration is relative to the directory of the configuration file.

mod authorities;
mod certificates;
mod checked;
mod dns;
mod error;
mod files;
mod names;
mod problems;
mod providers;
mod raw;
mod scalars;
mod yaml;

pub use checked::{
    Authority, Certificate, Config, Delivery, DnsSettings, ExternalAccount, FileKind,
    FilesSettings, LogFormat, LogLevel, LogSettings, Look, NameserverSettings, ProviderSettings,
};
pub use error::{ConfigError, ConfigErrors, Place};
pub use files::{Finding, Severity};
pub use names::{AuthorityName, ProviderName};

/// The JSON schema of a configuration file, for editors; `config/schema.json` is this.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::Root).to_value()
}
