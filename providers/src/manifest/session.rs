//! The requests of one verb: filled in, signed in, sent, paged through, and what a refusal means.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::http::{Ask, Http, Reply, said};
use crate::secret::{Secret, SecretSource};
use crate::{Context, ErrorKind, ProviderError};

use super::Settings;
use super::form::Kind;
use super::plan::{Listing, Manifest, Paging, Request, Until};
use super::pointer::{Pointer, number, text};
use super::template::{Item, Missing, Template, Values};

/// A list with more pages than this never ends.
const MAX_PAGES: usize = 500;
/// A shorter secret is not looked for in what a host says: it would be found in every word.
const SHORTEST_SECRET: usize = 4;

/// One verb at one host.
pub(super) struct Session<'s> {
    http: &'s Http,
    settings: &'s Settings,
    context: &'s Context,
    secrets: BTreeMap<&'s str, (Secret, &'s SecretSource)>,
}

/// A reply that is good, or that says that there is nothing to do.
pub(super) enum Answer {
    Good(Value),
    /// It was so already, or there is nothing.
    Nothing,
}

/// What a failed request is about, for sentences: `answers 403 when asked …`.
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

    fn manifest(&self) -> &'s Manifest {
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
            page.put_into(&mut filled.query);
            let path = filled.path.clone();
            let reply = self.send(filled).await?;
            if listing.none == Some(reply.status.as_u16()) {
                return Ok(());
            }
            let Answer::Good(reply) = self.judge(&reply, doing)? else {
                return Ok(());
            };
            let items = (listing.items.all(&reply))
                .map_err(|way| self.odd(&format!("no list at `{way}`")))?;
            for item in &items {
                let has = |(way, wanted): &(Pointer, Value)| way.one(item) == Some(wanted);
                if listing.only.iter().all(has) {
                    each(item)?;
                }
            }
            let Some(next) =
                self.next(listing.paging.as_ref(), &page, &reply, items.len(), &path)?
            else {
                return Ok(());
            };
            page = next;
        }
        Err(self.odd(&format!("more than {MAX_PAGES} pages, {doing}")))
    }

    fn next(
        &self,
        paging: Option<&Paging>,
        page: &Page,
        reply: &Value,
        items: usize,
        path: &[String],
    ) -> Result<Option<Page>, ProviderError> {
        match (paging, page) {
            (
                Some(Paging::Count {
                    query, step, until, ..
                }),
                Page::Count(_, at),
            ) => {
                let goes_on = match until {
                    Until::No(way) => way.one(reply).is_some_and(is_something),
                    Until::Count(way) => way
                        .one(reply)
                        .and_then(number)
                        .is_some_and(|most| *at < most),
                    Until::Short(size) => items >= *size,
                };
                let next = at.checked_add(*step).filter(|_| goes_on);
                Ok(next.map(|next| Page::Count(query.clone(), next)))
            }
            (Some(Paging::Cursor { query, at }), _) => {
                let next = at.text_of(reply).filter(|it| !it.is_empty());
                Ok(next.map(|next| Page::Cursor(query.clone(), next)))
            }
            (Some(Paging::Link(at)), _) => match at.text_of(reply).filter(|it| !it.is_empty()) {
                None => Ok(None),
                Some(link) => self.follow(&link, path).map(Some),
            },
            _ => Ok(None),
        }
    }

    /// The next page is at the same place as this one: only its query is taken, so that no reply sends the credential
    /// elsewhere.
    fn follow(&self, link: &str, path: &[String]) -> Result<Page, ProviderError> {
        let here = self.http.url(path, &[]);
        let elsewhere = || self.odd(&format!("a next page that is elsewhere: `{}`", said(link)));
        let there: Url = here.join(link).map_err(|_| elsewhere())?;
        if there.origin() != here.origin()
            || there.path() != here.path()
            || !there.username().is_empty()
        {
            return Err(elsewhere());
        }
        let pairs = there.query_pairs();
        Ok(Page::Link(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        ))
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
        let last = request.path.len().saturating_sub(1);
        for (nth, template) in request.path.iter().enumerate() {
            let segment = template.text(values).map_err(unknown)?;
            // These would make the path another one.
            if matches!(segment.as_str(), "." | "..") || (segment.is_empty() && nth != last) {
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

    async fn send(&self, filled: Filled) -> Result<Reply, ProviderError> {
        let auth = &self.manifest().auth;
        let path: Vec<&str> = filled.path.iter().map(String::as_str).collect();
        let mut ask = Ask::new(filled.method, &path);
        for (key, value) in filled.query {
            ask = ask.query(&key, &value);
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
        let mut body = filled.body;
        for (key, template) in &auth.body {
            let object = body.get_or_insert_with(|| Value::Object(serde_json::Map::new()));
            if let Value::Object(object) = object {
                let secret = self.secret(template)?;
                let secret = secret.expose_text().map_err(|_| self.no_text())?;
                object.insert(key.clone(), Value::String(secret.to_owned()));
            }
        }
        ask = ask.header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = body {
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

    /// What a reply means.
    fn judge(&self, reply: &Reply, doing: Doing<'_>) -> Result<Answer, ProviderError> {
        let json = match reply.body.iter().all(u8::is_ascii_whitespace) {
            true => Ok(Value::Null),
            false => reply.json::<Value>(&self.http.host()),
        };
        let has = |(way, wanted): &(Pointer, Value), json: &Value| way.one(json) == Some(wanted);
        let success = &self.manifest().success;
        match json {
            Ok(json) if !reply.status.is_success() => self.refused(reply, &json, doing),
            Ok(json) if success.iter().all(|it| has(it, &json)) => Ok(Answer::Good(json)),
            Ok(json) => self.refused(reply, &json, doing),
            Err(_) if !reply.status.is_success() => self.refused(reply, &Value::Null, doing),
            Err(error) => Err(error),
        }
    }

    fn refused(
        &self,
        reply: &Reply,
        json: &Value,
        doing: Doing<'_>,
    ) -> Result<Answer, ProviderError> {
        let errors = &self.manifest().errors;
        let first = |ways: &[Pointer]| ways.iter().find_map(|way| way.text_of(json));
        let (code, words) = (first(&errors.code), first(&errors.message));
        let words = words.map(|it| said(&self.without_secrets(it)));
        let code = code.map(|it| said(&self.without_secrets(it)));
        let status = reply.status.as_u16();
        let meaning = errors.map.iter().find(|it| {
            it.status.is_none_or(|it| it == status)
                && it.code.as_ref().is_none_or(|it| Some(it) == code.as_ref())
                && (it.says.as_ref())
                    .is_none_or(|it| words.as_ref().is_some_and(|words| words.contains(it)))
        });
        let after = reply.retry_after(&self.context.clock);
        let kind = match meaning.map(|it| it.kind) {
            Some(Kind::Done) => return Ok(Answer::Nothing),
            Some(kind) => kind_of(kind, after),
            None if reply.status.is_success() => ErrorKind::Fatal,
            None => reply.kind(&self.context.clock),
        };
        let mut message = format!("{} answers {}", self.http.host(), reply.status.as_u16());
        if let Some(code) = &code {
            message.push_str(&format!(" ({code})"));
        }
        message.push_str(&format!(", {doing}"));
        if reply.status.is_redirection() {
            message.push_str(": it sends elsewhere, and is not followed");
        } else if let Some(words) = words {
            message.push_str(&format!(": {words}"));
        }
        let hint = meaning
            .and_then(|it| it.hint.clone())
            .or_else(|| self.hint(kind));
        Err(ProviderError {
            code,
            hint,
            ..ProviderError::new(kind, message)
        })
    }

    /// What a person can do where the manifest says nothing else.
    fn hint(&self, kind: ErrorKind) -> Option<String> {
        let manifest = self.manifest();
        let secrets = manifest.secrets.iter();
        let secrets: Vec<String> = secrets
            .map(|(name, about)| format!("`{name}` is {about}"))
            .collect();
        let secrets = secrets.join(", ");
        match kind {
            ErrorKind::Auth => Some(format!("look whether it is still good there: {secrets}")),
            ErrorKind::Permission => Some(format!("grant what is missing: {secrets}")),
            ErrorKind::ZoneMissing => Some(format!(
                "is the zone at {}, in the account of this credential?",
                manifest.name
            )),
            _ => None,
        }
    }

    /// A host may repeat in its refusal what it was sent.
    fn without_secrets(&self, mut words: String) -> String {
        for (secret, _) in self.secrets.values() {
            if let Ok(secret) = secret.expose_text()
                && secret.len() >= SHORTEST_SECRET
            {
                words = words.replace(secret, "…");
            }
        }
        words
    }

    /// An accepted change that came to nothing.
    pub(super) fn failed(&self, receipt: &str, reply: &Value) -> ProviderError {
        let errors = &self.manifest().errors;
        let first = |ways: &[Pointer]| ways.iter().find_map(|way| way.text_of(reply));
        let clean = |words: String| said(&self.without_secrets(words));
        let words =
            first(&errors.message).map_or_else(String::new, |it| format!(": {}", clean(it)));
        let message = format!(
            "{} says that the change {receipt} failed{words}",
            self.http.host()
        );
        ProviderError {
            code: first(&errors.code).map(clean),
            ..ProviderError::new(ErrorKind::Transient, message)
        }
    }

    /// The reply is not what the manifest says.
    pub(super) fn odd(&self, what: &str) -> ProviderError {
        let message = format!(
            "{} answered with something other than its manifest says: {what}",
            self.http.host()
        );
        ProviderError::new(ErrorKind::Fatal, message)
    }
}

/// A request with everything in it but the credential.
struct Filled {
    method: reqwest::Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<Value>,
}

/// Which page is asked for.
enum Page {
    Only,
    Count(String, u64),
    Cursor(String, String),
    Link(Vec<(String, String)>),
}

impl Page {
    fn first(paging: Option<&Paging>) -> Self {
        match paging {
            Some(Paging::Count { query, from, .. }) => Self::Count(query.clone(), *from),
            _ => Self::Only,
        }
    }

    fn put_into(&self, query: &mut Vec<(String, String)>) {
        match self {
            Self::Only => {}
            Self::Count(key, at) => query.push((key.clone(), at.to_string())),
            Self::Cursor(key, at) => query.push((key.clone(), at.clone())),
            Self::Link(pairs) => query.clone_from(pairs),
        }
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        other => text(other).is_none_or(|it| !it.is_empty() && it != "0"),
    }
}

fn kind_of(kind: Kind, after: Option<std::time::Duration>) -> ErrorKind {
    match kind {
        Kind::Auth => ErrorKind::Auth,
        Kind::Permission => ErrorKind::Permission,
        Kind::ZoneMissing => ErrorKind::ZoneMissing,
        Kind::Conflict => ErrorKind::Conflict,
        Kind::RateLimited => ErrorKind::RateLimited { after },
        Kind::Quota => ErrorKind::Quota,
        Kind::Invalid => ErrorKind::Invalid,
        Kind::Transient => ErrorKind::Transient,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Fatal | Kind::Done => ErrorKind::Fatal,
    }
}
