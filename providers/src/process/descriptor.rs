//! What a plug-in says of itself: the result of `initialize`.

use std::time::Duration;

use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::wire::VERSION;
use crate::meter::Rate;
use crate::secret::Secret;
use crate::{RecordModel, Traits};

/// More than any host takes at once.
const LARGEST_BATCH: usize = 10_000;
/// No host needs a day to show a change.
const LONGEST_PROPAGATION: f64 = 86_400.0;
/// A rate of less than one an hour is a mistake.
const LONGEST_EVERY: f64 = 3_600.0;

/// The parameters of `initialize`.
#[derive(Serialize)]
pub(super) struct Initialize<'a> {
    protocol: Versions,
    host: Host,
    config: &'a Map<String, Value>,
    #[serde(serialize_with = "exposed")]
    secrets: &'a [(String, Secret)],
}

#[derive(Serialize)]
struct Versions {
    min: u64,
    max: u64,
}

#[derive(Serialize)]
struct Host {
    name: &'static str,
    version: &'static str,
}

impl<'a> Initialize<'a> {
    pub(super) fn new(config: &'a Map<String, Value>, secrets: &'a [(String, Secret)]) -> Self {
        Self {
            protocol: Versions {
                min: VERSION,
                max: VERSION,
            },
            host: Host {
                name: "countersign",
                version: env!("CARGO_PKG_VERSION"),
            },
            config,
            secrets,
        }
    }
}

/// For the one pipe that secrets go through; those that are not text were refused before.
fn exposed<S: Serializer>(secrets: &[(String, Secret)], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(secrets.len()))?;
    for (name, secret) in secrets {
        let text = secret.expose_text().map_err(S::Error::custom)?;
        map.serialize_entry(name, text)?;
    }
    map.end()
}

/// What a plug-in says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    /// What it calls itself, and its version.
    pub(super) title: String,
    pub(super) traits: Traits,
    /// Whether it can be asked how far a change has come.
    pub(super) settles: bool,
}

#[derive(Deserialize)]
struct Said {
    name: String,
    version: String,
    model: Model,
    slots: Option<usize>,
    #[serde(default = "one")]
    batch: usize,
    #[serde(default)]
    propagation: f64,
    rate: Option<SaidRate>,
    #[serde(default)]
    settles: bool,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Model {
    Value,
    SetWithProof,
    Set,
    Zone,
    Slots,
}

#[derive(Deserialize)]
struct SaidRate {
    burst: u32,
    every: f64,
}

fn one() -> usize {
    1
}

impl Descriptor {
    /// The descriptor in an answer to `initialize`; an error is what is wrong with it, in words.
    pub(crate) fn read(answer: Value) -> Result<Self, String> {
        let Some(protocol) = answer.get("protocol") else {
            return Err("answers initialize without a version of the protocol".to_owned());
        };
        if protocol.as_u64() != Some(VERSION) {
            return Err(format!(
                "speaks version {protocol} of the protocol, and here is version {VERSION} alone"
            ));
        }
        let said: Said = serde_json::from_value(answer)
            .map_err(|error| format!("answers initialize with something else: {error}"))?;
        said.judged()
            .map_err(|what| format!("answers initialize with {what}"))
    }
}

impl Said {
    fn judged(self) -> Result<Descriptor, String> {
        let model = match (self.model, self.slots) {
            (Model::Slots, Some(slots @ 1..)) => RecordModel::Slots(slots),
            (Model::Slots, _) => return Err("the model slots and no number of `slots`".to_owned()),
            (Model::Value, _) => RecordModel::Value,
            (Model::SetWithProof, _) => RecordModel::SetWithProof,
            (Model::Set, _) => RecordModel::Set,
            (Model::Zone, _) => RecordModel::Zone,
        };
        if !(1..=LARGEST_BATCH).contains(&self.batch) {
            let batch = self.batch;
            return Err(format!("a batch of {batch}, not of 1 to {LARGEST_BATCH}"));
        }
        let propagation = seconds("a propagation", self.propagation, LONGEST_PROPAGATION)?;
        let rate = match self.rate {
            Some(SaidRate { burst: 0, .. }) => return Err("a rate with a burst of 0".to_owned()),
            Some(SaidRate { burst, every }) => Some(Rate {
                burst,
                every: seconds("a rate with one every", every, LONGEST_EVERY)?,
            }),
            None => None,
        };
        Ok(Descriptor {
            title: format!("{} {}", self.name, self.version),
            traits: Traits {
                model,
                batch: self.batch,
                rate,
                propagation,
            },
            settles: self.settles,
        })
    }
}

fn seconds(what: &str, said: f64, most: f64) -> Result<Duration, String> {
    let wrong = || format!("{what} {said} s, not 0 to {most} s");
    if said > most {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(said).map_err(|_| wrong())
}
