//! The form of a manifest as it is written, in YAML. What it means is checked in `check`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::ManifestError;

/// A larger file is no manifest.
const MAX_FILE: usize = 64 * 1024;
/// How alike two words must be for one to be offered for the other (Jaro-Winkler).
const ALIKE: f64 = 0.8;
/// The keys that every manifest has; `model` says which more.
const REQUIRED: [&str; 8] = [
    "name",
    "documentation",
    "auth",
    "model",
    "batch",
    "propagation",
    "zones",
    "records",
];

/// A DNS host's API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Form {
    /// What the host is called.
    pub(super) name: String,
    /// The title of the page that documents its API.
    #[serde(rename = "documentation")]
    _documentation: String,
    /// Where its API is; left out where each user has another.
    pub(super) endpoint: Option<String>,
    /// The secrets that the configuration gives, and what each is.
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, String>,
    /// The other things that the configuration gives.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, Setting>,
    /// Where in a request the secrets go.
    pub(super) auth: Auth,
    /// How a name's values are written.
    pub(super) model: Model,
    /// How relative names call the apex.
    #[serde(default)]
    pub(super) apex: String,
    /// How many changes one call of the core may bring.
    pub(super) batch: usize,
    /// How often it may be asked.
    pub(super) rate: Option<Rate>,
    /// How many seconds a change needs, at most, until every server has it.
    pub(super) propagation: u32,
    /// The TTL that it takes.
    #[serde(default)]
    pub(super) ttl: Ttl,
    /// What every good reply says, by the way to it.
    #[serde(default)]
    pub(super) success: BTreeMap<String, Value>,
    /// What its refusals mean.
    #[serde(default)]
    pub(super) errors: Errors,
    /// Which zones it holds.
    pub(super) zones: Zones,
    /// Which TXT records there are.
    pub(super) records: Records,
    /// Adds records (model `value`).
    pub(super) create: Option<Request>,
    /// Removes records (model `value`).
    pub(super) remove: Option<Request>,
    /// Replaces the set of a name (model `set`).
    pub(super) write: Option<Request>,
    /// Removes the set of a name (model `set`); left out where `write` does it with no values.
    pub(super) clear: Option<Request>,
    /// How far an accepted change has come.
    pub(super) settle: Option<Settle>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Model {
    Value,
    Set,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Setting {
    pub(super) about: String,
    pub(super) default: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Auth {
    pub(super) bearer: Option<String>,
    pub(super) basic: Option<Basic>,
    pub(super) header: BTreeMap<String, String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Basic {
    pub(super) username: String,
    pub(super) password: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Rate {
    pub(super) burst: u32,
    pub(super) per_minute: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Ttl {
    pub(super) least: Option<u32>,
    pub(super) most: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Errors {
    /// Where the host's own code may stand.
    pub(super) code: Vec<String>,
    /// Where its words may stand.
    pub(super) message: Vec<String>,
    /// What they mean; the first that fits.
    pub(super) map: Vec<Meaning>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Meaning {
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) says: Option<String>,
    pub(super) kind: Kind,
    pub(super) hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Auth,
    Permission,
    ZoneMissing,
    Conflict,
    RateLimited,
    Quota,
    Invalid,
    Transient,
    Unsupported,
    Fatal,
    /// What was asked for was so already.
    Done,
}

/// A request; exactly one of the five methods with its path.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Request {
    pub(super) get: Option<String>,
    pub(super) post: Option<String>,
    pub(super) put: Option<String>,
    pub(super) patch: Option<String>,
    pub(super) delete: Option<String>,
    pub(super) query: BTreeMap<String, Text>,
    pub(super) body: Option<Value>,
}

/// One way into a reply or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A text, also one that looks like something else to YAML.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Text {
    Words(String),
    Number(u64),
    Flag(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Zones {
    pub(super) ask: Request,
    pub(super) paging: Option<Paging>,
    #[serde(default)]
    pub(super) items: String,
    #[serde(default, rename = "where")]
    pub(super) only: BTreeMap<String, Value>,
    /// The apex, or its parts, which dots join.
    pub(super) name: Option<OneOrMany>,
    pub(super) id: Option<String>,
    pub(super) nameservers: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Records {
    pub(super) ask: Request,
    pub(super) paging: Option<Paging>,
    /// The status that says that there is nothing at the name.
    pub(super) none: Option<u16>,
    #[serde(default)]
    pub(super) items: String,
    #[serde(default, rename = "where")]
    pub(super) only: BTreeMap<String, Value>,
    /// The owner in full, or relative to the zone; neither where the reply is about the name that was asked for.
    pub(super) name: Option<String>,
    pub(super) label: Option<String>,
    pub(super) ttl: String,
    pub(super) id: Option<String>,
    /// The elements of a set, where an item is one.
    pub(super) values: Option<String>,
    /// The text, in an item or in an element of `values`.
    #[serde(default)]
    pub(super) value: String,
    /// The way to what is true of a record that is kept and not served.
    pub(super) disabled: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settle {
    /// Where a reply to a change names the change.
    pub(super) receipt: String,
    pub(super) ask: Request,
    pub(super) state: String,
    pub(super) done: String,
    pub(super) failed: String,
}

/// How the next page of a long reply is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Paging {
    /// The query parameter that moves on.
    pub(super) query: Option<String>,
    /// The key of the body that moves on, where there is no query.
    pub(super) body: Option<String>,
    /// Its first value, and by how much it grows: 1 and 1 unless given.
    pub(super) from: Option<u64>,
    pub(super) step: Option<u64>,
    /// The way to what is there, and not false, while there are more pages.
    pub(super) more: Option<String>,
    /// The way to the number of pages.
    pub(super) pages: Option<String>,
    /// How many items a page has that is not the last.
    pub(super) size: Option<usize>,
    /// The way to the next value of the parameter.
    pub(super) cursor: Option<String>,
    /// The way to the next page's address.
    pub(super) link: Option<String>,
    /// Which relation in the header `Link` (RFC 8288) is the next page's address.
    pub(super) link_header: Option<String>,
}

impl Form {
    /// Reads a manifest's text.
    pub(super) fn read(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_FILE {
            let most = MAX_FILE >> 10;
            let message = format!("it is larger than a manifest can be, which is {most} KiB");
            return Err(ManifestError::new(message));
        }
        serde_yaml::from_str(text).map_err(|error| explain(&error, text))
    }
}

/// All keys of the whole that are missing: the parser names the first only.
fn missing(text: &str) -> Option<String> {
    let given: BTreeMap<String, Value> = serde_yaml::from_str(text).ok()?;
    let missing = REQUIRED.iter().filter(|it| !given.contains_key(**it));
    let missing: Vec<String> = missing.map(|it| format!("`{it}`")).collect();
    match &missing[..] {
        [] => None,
        [one] => Some(format!("{one} is missing")),
        all => Some(format!("{} are missing", all.join(", "))),
    }
}

/// The parser's words, with the nearest known key.
fn explain(error: &serde_yaml::Error, text: &str) -> ManifestError {
    let full = error.to_string();
    let line = error.location().map(|it| it.line());
    let words = full.split(" at line ").next().unwrap_or(&full);
    if words.starts_with("missing field")
        && let Some(message) = missing(text)
    {
        return ManifestError::new(message);
    }
    let unknown = words
        .split_once("unknown field `")
        .or_else(|| words.split_once("unknown variant `"));
    let Some((before, rest)) = unknown else {
        let message = words.to_owned();
        let hint = None;
        return ManifestError {
            line,
            message,
            hint,
        };
    };
    // The parser lists what it knows in backquotes.
    let mut quoted = rest.split('`').step_by(2);
    let key = quoted.next().unwrap_or_default().to_owned();
    let known: Vec<&str> = quoted.filter(|it| !it.is_empty()).collect();
    ManifestError {
        line,
        message: format!("{before}unknown word `{key}`"),
        hint: Some(nearest(&key, &known)),
    }
}

/// `did you mean …`, or all that is known where nothing is near.
pub(super) fn nearest<S: AsRef<str>>(word: &str, known: &[S]) -> String {
    let alike = known
        .iter()
        .map(|known| (strsim::jaro_winkler(word, known.as_ref()), known.as_ref()))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match alike {
        Some((_, near)) => format!("did you mean `{near}`?"),
        None => {
            let all: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
            format!("known here: {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_that_are_missing_are_named_at_once() {
        let error = Form::read("{name: x, model: value, auth: {}, zones: {ask: {}}}").unwrap_err();
        let all = "`documentation`, `batch`, `propagation`, `records` are missing";
        assert_eq!(error.to_string(), all);
        let all = REQUIRED.map(|key| format!("`{key}`")).join(", ");
        let error = Form::read("{}").unwrap_err();
        assert_eq!(error.to_string(), format!("{all} are missing"));
        // Whatever the parser wants is in that list.
        let whole = include_str!("../../../config/own-dns.yaml");
        let mut whole: BTreeMap<String, Value> = serde_yaml::from_str(whole).unwrap();
        whole.retain(|key, _| REQUIRED.contains(&key.as_str()));
        let whole = serde_json::to_string(&whole).unwrap();
        assert!(Form::read(&whole).is_ok());
    }
}
