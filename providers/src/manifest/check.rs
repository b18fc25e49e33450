//! From a manifest as it is written to one that can be followed: every template reads and names only what is known where
//! it stands, every way into a reply reads, and nothing that is needed is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderName;

use crate::endpoint::endpoint;
use crate::meter::Rate;

use super::check_parts::{Checked, constants, errors, paging, pointer, pointers, wrong};
use super::form::{self, Form, Model, OneOrMany, Text, nearest};
use super::plan::{Auth, Change, Listing, Manifest, Owner, Records, Request, Settle, Zones};
use super::template::{Body, Place, Template};
use super::{ManifestError, mistakes};

/// What secrets may be called: the configuration never shows what stands under these keys.
const SECRET_NAMES: [&str; 4] = ["token", "api-key", "secret", "password"];
/// What is known of the zone.
const ZONE: [&str; 2] = ["zone", "zone-id"];
/// What is known of a name.
const NAME: [&str; 2] = ["name", "label"];
/// What is known of a new value.
const VALUE: [&str; 2] = ["value", "quoted-value"];
/// The TTL of a new value, as a number and as text.
const TTL: [&str; 2] = ["ttl", "ttl-text"];
/// Everything that templates may name besides settings.
const RESERVED: [&str; 11] = [
    "zone",
    "zone-id",
    "name",
    "label",
    "value",
    "quoted-value",
    "stored",
    "ttl",
    "ttl-text",
    "id",
    "receipt",
];

impl Manifest {
    /// Reads a manifest's text.
    pub fn read(text: &str) -> Result<Self, ManifestError> {
        let form = Form::read(text)?;
        let manifest = Check::of(&form)?.manifest(form)?;
        mistakes::find(&manifest)?;
        Ok(manifest)
    }
}

/// What is checked against.
struct Check {
    secrets: Vec<String>,
    settings: Vec<String>,
    apex: String,
}

impl Check {
    fn of(form: &Form) -> Checked<Self> {
        for name in form.secrets.keys() {
            if !SECRET_NAMES.contains(&name.as_str()) {
                let names = SECRET_NAMES.join(", ");
                return wrong(
                    "secrets",
                    format!("`{name}` is none of the names that a secret has: {names}"),
                );
            }
        }
        for name in form.settings.keys() {
            let taken = RESERVED.contains(&name.as_str()) || SECRET_NAMES.contains(&name.as_str());
            if taken || matches!(name.as_str(), "endpoint" | "file") {
                return wrong("settings", format!("`{name}` has a meaning already"));
            }
        }
        Ok(Self {
            secrets: form.secrets.keys().cloned().collect(),
            settings: form.settings.keys().cloned().collect(),
            apex: form.apex.clone(),
        })
    }

    fn manifest(&self, form: Form) -> Checked<Manifest> {
        let endpoint = form
            .endpoint
            .as_deref()
            .map(|text| endpoint(text).or_else(|why| wrong("endpoint", why)));
        if form.batch == 0 {
            return wrong("batch", "it is 0, wanted is at least 1");
        }
        let rate = form.rate.map(|it| match it.per_minute {
            0 => wrong("rate", "it is 0 a minute, wanted is at least 1"),
            per_minute => Ok(Rate {
                burst: it.burst,
                every: Duration::from_secs(60) / per_minute,
            }),
        });
        let change = match (form.model, form.create, form.remove, form.write) {
            (Model::Value, Some(create), Some(remove), None) if form.clear.is_none() => {
                self.value(create, remove, form.records.id.is_some())?
            }
            (Model::Set, None, None, Some(write)) => self.set(write, form.clear)?,
            (Model::Value, ..) => {
                return wrong(
                    "model",
                    "with `value` come `create` and `remove`, and neither `write` nor `clear`",
                );
            }
            (Model::Set, ..) => {
                return wrong(
                    "model",
                    "with `set` come `write` and maybe `clear`, and neither `create` nor `remove`",
                );
            }
        };
        let settings = form.settings.into_iter();
        Ok(Manifest {
            name: form.name,
            endpoint: endpoint.transpose()?,
            auth: self.auth(form.auth)?,
            secrets: form.secrets,
            settings: settings
                .map(|(name, it)| (name, (it.about, it.default)))
                .collect(),
            apex: form.apex,
            batch: form.batch,
            rate: rate.transpose()?,
            propagation: Duration::from_secs(form.propagation.into()),
            ttl: form.ttl,
            success: constants("success", form.success)?,
            errors: errors(form.errors)?,
            zones: self.zones(form.zones)?,
            records: self.records(form.records, form.model)?,
            change,
            settle: form.settle.map(|it| self.settle(it)).transpose()?,
        })
    }

    fn auth(&self, auth: form::Auth) -> Checked<Auth> {
        let known: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
        let template = |key: &str, text: &str| self.template(&format!("auth.{key}"), text, &known);
        let pairs = |key: &str, pairs: BTreeMap<String, String>| {
            let pairs = pairs
                .into_iter()
                .map(|(name, text)| Ok((name, template(key, &text)?)));
            pairs.collect::<Checked<Vec<_>>>()
        };
        let mut headers = Vec::new();
        if let Some(secret) = auth.bearer {
            let text = format!("Bearer {secret}");
            headers.push((reqwest::header::AUTHORIZATION, template("bearer", &text)?));
        }
        for (name, text) in pairs("header", auth.header)? {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => headers.push((name, text)),
                Err(_) => {
                    return wrong(
                        "auth.header",
                        format!("`{name}` is not the name of a header"),
                    );
                }
            }
        }
        let basic = auth.basic.map(|it| {
            let username = template("basic.username", &it.username)?;
            Ok((username, template("basic.password", &it.password)?))
        });
        Ok(Auth {
            headers,
            basic: basic.transpose()?,
            query: pairs("query", auth.query)?,
            body: pairs("body", auth.body)?,
        })
    }

    fn zones(&self, zones: form::Zones) -> Checked<Zones> {
        let ask = self.request("zones.ask", zones.ask, &["zone", "name"])?;
        let one_by_one = ask.says(&["zone"]);
        if zones.name.is_none() && !one_by_one {
            return wrong("zones", "`name` is missing: which zone an item is");
        }
        Ok(Zones {
            one_by_one,
            listing: Listing {
                ask,
                paging: zones
                    .paging
                    .map(|it| paging("zones.paging", it))
                    .transpose()?,
                none: None,
                items: pointer("zones.items", &zones.items)?,
                only: constants("zones.where", zones.only)?,
            },
            name: match zones.name {
                None => Vec::new(),
                Some(OneOrMany::One(way)) => vec![pointer("zones.name", &way)?],
                Some(OneOrMany::Many(ways)) => pointers("zones.name", &ways)?,
            },
            id: zones.id.map(|it| pointer("zones.id", &it)).transpose()?,
            nameservers: (zones
                .nameservers
                .map(|it| pointer("zones.nameservers", &it)))
            .transpose()?,
        })
    }

    fn records(&self, records: form::Records, model: Model) -> Checked<Records> {
        let ask = self.request("records.ask", records.ask, &[&ZONE[..], &NAME].concat())?;
        let one_by_one = ask.says(&NAME);
        let owner = match (records.name, records.label) {
            (Some(name), None) => Owner::Full(pointer("records.name", &name)?),
            (None, Some(label)) => Owner::Relative(pointer("records.label", &label)?),
            (None, None) if one_by_one => Owner::Asked,
            _ => {
                return wrong(
                    "records",
                    "one of `name` (in full) and `label` (relative to the zone) says whose a record is",
                );
            }
        };
        if model == Model::Set && records.values.is_none() {
            return wrong("records", "`values` is missing: a set has a list of them");
        }
        Ok(Records {
            one_by_one,
            listing: Listing {
                ask,
                paging: (records.paging.map(|it| paging("records.paging", it))).transpose()?,
                none: records.none,
                items: pointer("records.items", &records.items)?,
                only: constants("records.where", records.only)?,
            },
            owner,
            ttl: pointer("records.ttl", &records.ttl)?,
            id: records
                .id
                .map(|it| pointer("records.id", &it))
                .transpose()?,
            values: records
                .values
                .map(|it| pointer("records.values", &it))
                .transpose()?,
            value: pointer("records.value", &records.value)?,
            disabled: records
                .disabled
                .map(|it| pointer("records.disabled", &it))
                .transpose()?,
        })
    }

    fn value(&self, create: form::Request, remove: form::Request, has_id: bool) -> Checked<Change> {
        let mut known = [&NAME[..], &VALUE, &TTL].concat();
        let create = self.change("create", create, &known, &[])?;
        known.push("stored");
        known.extend(has_id.then_some("id"));
        let remove = self.change("remove", remove, &known, &[])?;
        for (at, it) in [("create", &create), ("remove", &remove)] {
            if it.body.as_ref().is_some_and(Body::takes_values) {
                return wrong(at, "`each-value` belongs to the model `set`");
            }
        }
        Ok(Change::Value { create, remove })
    }

    fn set(&self, write: form::Request, clear: Option<form::Request>) -> Checked<Change> {
        let known = [&NAME[..], &TTL].concat();
        let write = self.change("write", write, &known, &VALUE)?;
        if !write.body.as_ref().is_some_and(Body::takes_values) {
            return wrong(
                "write",
                "`each-value` is missing in its body: where the values go",
            );
        }
        let clear = clear
            .map(|it| self.change("clear", it, &NAME, &[]))
            .transpose()?;
        Ok(Change::Set { write, clear })
    }

    fn settle(&self, settle: form::Settle) -> Checked<Settle> {
        Ok(Settle {
            receipt: pointer("settle.receipt", &settle.receipt)?,
            ask: self.request("settle.ask", settle.ask, &["receipt"])?,
            state: pointer("settle.state", &settle.state)?,
            done: settle.done,
            failed: settle.failed,
        })
    }

    /// A request that changes something: what is known of one record or name is known in `each` only, if there is one.
    fn change(
        &self,
        at: &str,
        form: form::Request,
        each: &[&str],
        each_value: &[&str],
    ) -> Checked<Request> {
        let request = self.parse(at, form)?;
        let many = request.takes_many();
        for (place, template) in request.templates() {
            let mut known = ZONE.to_vec();
            if place.in_each || !many {
                known.extend(each);
            }
            if place.in_each_value {
                known.extend(each_value);
            }
            self.known(at, template, &known)?;
        }
        self.path(at, &request)?;
        Ok(request)
    }

    fn request(&self, at: &str, form: form::Request, known: &[&str]) -> Checked<Request> {
        let request = self.parse(at, form)?;
        for (place, template) in request.templates() {
            if place != Place::default() {
                return wrong(at, "`each` belongs to requests that change something");
            }
            self.known(at, template, known)?;
        }
        self.path(at, &request)?;
        Ok(request)
    }

    fn parse(&self, at: &str, form: form::Request) -> Checked<Request> {
        let methods = [
            (Method::GET, form.get),
            (Method::POST, form.post),
            (Method::PUT, form.put),
            (Method::PATCH, form.patch),
            (Method::DELETE, form.delete),
        ];
        let mut given = methods
            .into_iter()
            .filter_map(|(method, path)| Some((method, path?)));
        let (Some((method, path)), None) = (given.next(), given.next()) else {
            return wrong(
                at,
                "a request has one of get, post, put, patch and delete, and after it the path",
            );
        };
        let Some(path) = path.strip_prefix('/').filter(|it| !it.contains(['?', '#'])) else {
            return wrong(
                at,
                format!("`{path}` is no path: it begins with `/` and has no query in it"),
            );
        };
        let read = |text: &str| Template::parse(text).or_else(|why| wrong(at, why));
        let query = form.query.into_iter().map(|(key, text)| {
            let text = match text {
                Text::Words(text) => text,
                Text::Number(number) => number.to_string(),
                Text::Flag(flag) => flag.to_string(),
            };
            Ok((key, read(&text)?))
        });
        Ok(Request {
            method,
            path: path.split('/').map(read).collect::<Checked<_>>()?,
            query: query.collect::<Checked<_>>()?,
            body: (form
                .body
                .map(|it| Body::parse(it).or_else(|why| wrong(at, why))))
            .transpose()?,
        })
    }

    /// A path keeps its segments, whatever is put in.
    fn path(&self, at: &str, request: &Request) -> Checked<()> {
        let last = request.path.len().saturating_sub(1);
        for (nth, segment) in request.path.iter().enumerate() {
            let empty = Template::parse("").as_ref() == Ok(segment);
            if empty && nth != last {
                return wrong(at, "a segment of the path is empty");
            }
            if self.apex.is_empty() && Template::parse("{label}").as_ref() == Ok(segment) {
                return wrong(
                    at,
                    "for the apex a segment of the path would be empty: say what it is called in `apex`",
                );
            }
        }
        Ok(())
    }

    fn template(&self, at: &str, text: &str, known: &[&str]) -> Checked<Template> {
        let template = Template::parse(text).or_else(|why| wrong(at, why))?;
        self.known(at, &template, known)?;
        Ok(template)
    }

    fn known(&self, at: &str, template: &Template, known: &[&str]) -> Checked<()> {
        let settings = self.settings.iter().map(String::as_str);
        let known: Vec<&str> = known.iter().copied().chain(settings).collect();
        match template.names().find(|name| !known.contains(name)) {
            None => Ok(()),
            Some(name) => Err(ManifestError {
                hint: Some(nearest(name, &known)),
                ..ManifestError::new(format!("{at}: nothing is known here as `{{{name}}}`"))
            }),
        }
    }
}
