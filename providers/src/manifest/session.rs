//! The requests of one verb: filled in, signed in, sent, paged through, and what a refusal means.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::http::{Ask, Http, Reply};
use crate::secret::{Secret, SecretSource};
use crate::{Context, ErrorKind, ProviderError};

use super::Settings;
use super::paging::Page;
use super::plan::{Listing, Manifest, Request};
use super::pointer::Pointer;
use super::template::{Item, Missing, Template, Values};

/// A list with more pages than this never ends.
const MAX_PAGES: usize = 500;

/// One verb at one host.
pub(super) struct Session<'s> {
    pub(super) http: &'s Http,
    settings: &'s Settings,
    pub(super) context: &'s Context,
    pub(super) secrets: BTreeMap<&'s str, (Secret, &'s SecretSource)>,
}

/// A reply that is good, or that says that there is nothing to do.
pub(super) enum Answer {
    Good(Value),
    /// It was so already, or there is nothing.
    Nothing,
}

/// What a request is about, for sentences: `… answers 403 when asked for its zones`.
pub(super) type Doing<'d> = &'d str;

impl<'s> Session<'s> {
    /// Reads the secrets.
    pub(super) async fn open(
        http: &'s Http,
        settings: &'s Settings,
        context: &'s Context,
    ) -> Result<Self, ProviderError> {
        let mut secrets = BTreeMap::new();
        for (name, source) in &settings.secrets {
            let secret = source.read(&context.clock).await.map_err(|error| {
                let message = format!("the {name} for {} cannot be read: {error}", http.host());
                ProviderError::new(ErrorKind::Auth, message).hint(format!(
                    "correct `{name}` in the configuration, or what it names"
                ))
            })?;
            secrets.insert(name.as_str(), (secret, source));
        }
        Ok(Self {
            http,
            settings,
            context,
            secrets,
        })
    }

    pub(super) fn manifest(&self) -> &'s Manifest {
        &self.settings.manifest
    }

    /// What templates can name everywhere.
    pub(super) fn values(&self) -> Values<'s> {
        Values {
            apex: &self.manifest().apex,
            settings: Some(&self.settings.values),
            ..Values::default()
        }
    }

    /// Sends `request`, which is about `items`.
    pub(super) async fn ask(
        &self,
        request: &Request,
        values: &Values<'_>,
        items: &[Item<'_>],
        doing: Doing<'_>,
    ) -> Result<Answer, ProviderError> {
        let filled = self.fill(request, values, items)?;
        let reply = self.send(filled).await?;
        self.judge(&reply, doing)
    }

    /// Every item on every page of `listing`, that has the constants that are wanted.
    pub(super) async fn list(
        &self,
        listing: &Listing,
        values: &Values<'_>,
        doing: Doing<'_>,
        mut each: impl FnMut(&Value) -> Result<(), ProviderError>,
    ) -> Result<(), ProviderError> {
        let mut page = Page::first(listing.paging.as_ref());
        for _ in 0..MAX_PAGES {
            let mut filled = self.fill(&listing.ask, values, &[])?;
            page.put_into(&mut filled);
            let path = filled.path.clone();
            let reply = self.send(filled).await?;
            if listing.none == Some(reply.status.as_u16()) {
                return Ok(());
            }
            let Answer::Good(json) = self.judge(&reply, doing)? else {
                return Ok(());
            };
            let items = listing.items.all(&json);
            let items = items.map_err(|way| self.odd(&format!("no list at `{way}`")))?;
            for item in &items {
                let has = |(way, wanted): &(Pointer, Value)| way.one(item) == Some(wanted);
                if listing.only.iter().all(has) {
                    each(item)?;
                }
            }
            let paging = listing.paging.as_ref();
            let Some(next) = self.next(paging, &page, (&reply, &json), items.len(), &path)? else {
                return Ok(());
            };
            page = next;
        }
        Err(self.odd(&format!("more than {MAX_PAGES} pages when {doing}")))
    }

    fn fill(
        &self,
        request: &Request,
        values: &Values<'_>,
        items: &[Item<'_>],
    ) -> Result<Filled, ProviderError> {
        let unknown = |missing: Missing| {
            let message = format!(
                "the manifest of {} names {}, which is not known there",
                self.manifest().name,
                missing.0
            );
            ProviderError::new(ErrorKind::Fatal, message)
        };
        let mut path = Vec::new();
        for template in &request.path {
            let segment = template.text(values).map_err(unknown)?;
            // These would make the path another one. What is written empty ends a path with a slash.
            let is_empty = segment.is_empty() && template.names().next().is_some();
            if is_empty || matches!(segment.as_str(), "." | "..") {
                return Err(self.odd(&format!("`{segment}` as an identifier")));
            }
            path.push(segment);
        }
        let query = request
            .query
            .iter()
            .map(|(key, it)| Ok((key.clone(), it.text(values)?)));
        let query = query.collect::<Result<_, Missing>>().map_err(unknown)?;
        let body = request.body.as_ref().map(|it| it.json(values, items));
        Ok(Filled {
            method: request.method.clone(),
            path,
            query,
            body: body.transpose().map_err(unknown)?,
        })
    }

    async fn send(&self, mut filled: Filled) -> Result<Reply, ProviderError> {
        let auth = &self.manifest().auth;
        let path: Vec<&str> = filled.path.iter().map(String::as_str).collect();
        let mut ask = Ask::new(filled.method.clone(), &path);
        for (key, value) in &filled.query {
            ask = ask.query(key, value);
        }
        for (key, template) in &auth.query {
            ask = ask.query(
                key,
                self.secret(template)?
                    .expose_text()
                    .map_err(|_| self.no_text())?,
            );
        }
        for (name, template) in &auth.headers {
            ask = self.credential(ask, name.clone(), "", &self.secret(template)?, template)?;
        }
        if let Some((username, password)) = &auth.basic {
            let mut pair = Zeroizing::new(self.secret(username)?.expose().to_vec());
            pair.push(b':');
            pair.extend_from_slice(self.secret(password)?.expose());
            let pair = Secret::new(STANDARD.encode(&pair).into_bytes());
            ask = self.credential(ask, AUTHORIZATION, "Basic ", &pair, password)?;
        }
        for (key, template) in &auth.body {
            let secret = self.secret(template)?;
            let secret = secret.expose_text().map_err(|_| self.no_text())?;
            filled.put(key, secret.to_owned());
        }
        ask = ask.header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = filled.body {
            ask = ask.body("application/json", body.to_string().into_bytes());
        }
        self.http.send(ask, self.context).await
    }

    fn secret(&self, template: &Template) -> Result<Secret, ProviderError> {
        let of = |name: &str| {
            let secret = self.secrets.get(name).map(|it| it.0.expose());
            secret.or_else(|| self.settings.values.get(name).map(String::as_bytes))
        };
        let bytes = template.bytes(of).map_err(|missing| {
            let message = format!(
                "`{}` of {} is not configured",
                missing.0,
                self.manifest().name
            );
            ProviderError::new(ErrorKind::Auth, message)
        })?;
        Ok(Secret::new(bytes.to_vec()))
    }

    fn credential(
        &self,
        ask: Ask,
        name: HeaderName,
        before: &str,
        secret: &Secret,
        template: &Template,
    ) -> Result<Ask, ProviderError> {
        let mut sources = template.names().filter_map(|name| self.secrets.get(name));
        match sources.next() {
            Some((_, source)) => ask.credential(name, before, secret, source),
            // A header that holds no secret.
            None => match HeaderValue::from_bytes(secret.expose()) {
                Ok(value) => Ok(ask.header(name, value)),
                Err(_) => Err(self.no_text()),
            },
        }
    }

    fn no_text(&self) -> ProviderError {
        let message = format!("a credential for {} is not text", self.http.host());
        ProviderError::new(ErrorKind::Auth, message)
    }
}

/// A request with everything in it but the credential.
pub(super) struct Filled {
    method: reqwest::Method,
    path: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    body: Option<Value>,
}

impl Filled {
    /// Puts a text into the body, which is an object.
    pub(super) fn put(&mut self, key: &str, text: String) {
        let body = self.body.get_or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(object) = body {
            object.insert(key.to_owned(), Value::String(text));
        }
    }
}
