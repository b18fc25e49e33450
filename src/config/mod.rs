//! Configuration: as typed (`raw`), then checked once ([`Config`]).
//!
//! `include` reads the files, `yaml` their text and finds places in it, `merge` makes them one, `checked` and its helpers turn what was typed into values that need
//! no second look, `problems` collects what is wrong, `error` says it, `files` looks at the files that the
//! configuration names. It knows the settings of the plug-ins but starts nothing, and reads no secret while parsing.
//!
//! A relative path in a configuration is relative to the directory of the file that it stands in.

mod alerts;
mod authorities;
mod certificates;
mod checked;
mod deliveries;
mod dns;
mod error;
mod files;
mod include;
mod merge;
mod names;
mod problems;
mod providers;
mod raw;
mod scalars;
mod targets;
mod web;
mod yaml;

pub use alerts::{Address, AddressError, AlertChannel, SmtpSettings, Template};
pub use checked::{
    Authority, Certificate, Config, Delivery, DnsSettings, ExternalAccount, FileKind,
    FilesSettings, HttpreqSettings, LogFormat, LogLevel, LogSettings, Look, NameserverSettings,
    ProviderSettings, RunnerSettings, WebSettings,
};
pub use deliveries::place;
pub use error::{ConfigError, ConfigErrors, Place};
pub use files::{Finding, Severity};
pub use names::{AuthorityName, ProviderName};

use serde_json::Value;

use crate::engine::names::Identifier;

/// A name on a certificate as people type it, normalised; `None` where it cannot be one.
pub fn identifier(text: &str) -> Option<Identifier> {
    names::identifier(text).ok()
}

/// The JSON schema of a configuration file, for editors; `config/schema.json` is this.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(raw::Root).to_value();
    without_null(&mut schema);
    schema
}

/// A key that is not wanted is left out, not written as null: takes null out of the types and the defaults.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.retain(|key, value| key != "default" || !value.is_null());
            object.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|it| it != "null");
                if let [only] = &mut types[..] {
                    let only = only.take();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|it| it.get("type").is_none_or(|it| it != "null"));
                if let [Value::Object(only)] = &mut choices[..] {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}
