//! The calls of Cloudflare's API v4 that are needed, and the shape of its replies. Fields that are not needed are not
//! read, so that none that comes, goes or changes can do harm.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{About, Fault};
use crate::http::{Ask, Http, Reply};
use crate::record::DnsName;
use crate::secret::{Secret, SecretSource};
use crate::{Context, ErrorKind, ProviderError};

/// Zones on a page; the API gives no more.
const ZONES_A_PAGE: usize = 50;
/// Records on a page: more than most zones may have, and well within the largest reply.
const RECORDS_A_PAGE: usize = 5_000;
/// A list of more pages than this is not what was asked for.
const MOST_PAGES: usize = 100;
/// Longer than the API ever shuts anybody out (five minutes); a pause beyond this is a mistake.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The API, for one verb.
pub(super) struct Api<'a> {
    http: &'a Http,
    source: &'a SecretSource,
    token: Secret,
    context: &'a Context,
}

/// A zone as listed.
#[derive(Debug, Deserialize)]
pub(super) struct ListedZone {
    pub(super) id: String,
    pub(super) name: String,
    /// None where the zone is served from elsewhere.
    #[serde(default)]
    pub(super) name_servers: Option<Vec<String>>,
}

/// A TXT record as listed.
#[derive(Debug, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) content: String,
    /// Whole, but some clients of the API wrote it as a fraction.
    pub(super) ttl: f64,
    /// A text, if any. Whatever else it becomes one day, the rest of the record stays readable.
    #[serde(default)]
    pub(super) comment: Value,
    /// A time in a text.
    #[serde(default)]
    pub(super) created_on: Value,
}

/// What the API tells of a record that it has just made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Made {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) content: String,
}

/// A TXT record to be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Post {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) content: String,
    pub(super) ttl: u32,
    pub(super) comment: String,
}

/// The record that goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Delete {
    pub(super) id: String,
}

#[derive(Serialize)]
struct Batch<'a> {
    deletes: &'a [Delete],
    posts: &'a [Post],
}

/// What was done.
#[derive(Deserialize)]
struct Batched {
    #[serde(default)]
    posts: Option<Vec<Made>>,
}

/// What every reply is wrapped in.
#[derive(Deserialize)]
struct Envelope<T> {
    /// The reply to a removal is documented without it.
    success: Option<bool>,
    result: Option<T>,
    #[serde(default)]
    result_info: Option<ResultInfo>,
}

#[derive(Default, Deserialize)]
struct ResultInfo {
    #[serde(default)]
    total_pages: Option<usize>,
}

/// One page of a list.
struct Page<T> {
    items: Vec<T>,
    /// How many there are, where the API says so.
    pages: Option<usize>,
}

/// Which names' records are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// This name's.
    Name(String),
    /// Those of all names with this beginning and this end.
    Between(String, String),
}

impl<'a> Api<'a> {
    /// Reads the token.
    pub(super) async fn open(
        http: &'a Http,
        source: &'a SecretSource,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let token = source.read(&context.clock).await.map_err(|error| {
            ProviderError::new(
                ErrorKind::Auth,
                format!("the token cannot be read: {error}"),
            )
            .hint("correct `token` in the configuration, or what it names")
        })?;
        Ok(Self {
            http,
            source,
            token,
            context,
        })
    }

    /// The host and port, for sentences.
    pub(super) fn host(&self) -> String {
        self.http.host()
    }

    /// The zones of exactly this name, of whichever accounts the token sees.
    pub(super) async fn zones(&self, name: &DnsName) -> Result<Vec<ListedZone>, ProviderError> {
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let ask = Ask::new(Method::GET, &["zones"])
                .query("name", name.as_str())
                .query("per_page", &ZONES_A_PAGE.to_string())
                .query("page", &page.to_string());
            let got: Page<ListedZone> = self.page(ask, &About::Lookup(name)).await?;
            let is_last = got.is_last(page, ZONES_A_PAGE);
            all.extend(got.items);
            if is_last {
                return Ok(all);
            }
        }
        Err(self.endless())
    }

    /// The TXT records that `filter` lets through. `None` when they have more than `patience` pages: then only the first
    /// was read.
    pub(super) async fn records(
        &self,
        zone: &str,
        filter: &Filter,
        patience: usize,
        about: &About<'_>,
    ) -> Result<Option<Vec<Record>>, ProviderError> {
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let ask = Ask::new(Method::GET, &["zones", zone, "dns_records"]).query("type", "TXT");
            let ask = match filter {
                Filter::Name(name) => ask.query("name.exact", name),
                Filter::Between(begin, end) => [("startswith", begin), ("endswith", end)]
                    .into_iter()
                    .filter(|(_, part)| !part.is_empty())
                    .fold(ask, |ask, (key, part)| {
                        ask.query(&format!("name.{key}"), part)
                    }),
            };
            let ask = ask
                .query("per_page", &RECORDS_A_PAGE.to_string())
                .query("page", &page.to_string());
            let got: Page<Record> = self.page(ask, about).await?;
            if got.pages.is_some_and(|pages| pages > patience) {
                return Ok(None);
            }
            let is_last = got.is_last(page, RECORDS_A_PAGE);
            all.extend(got.items);
            if is_last {
                return Ok(Some(all));
            }
        }
        Err(self.endless())
    }

    /// All of it or nothing, the removals first; the new records, as far as the API tells of them.
    pub(super) async fn batch(
        &self,
        zone: &str,
        deletes: &[Delete],
        posts: &[Post],
        about: &About<'_>,
    ) -> Result<Vec<Made>, Fault> {
        let path = ["zones", zone, "dns_records", "batch"];
        let ask = with_json(Ask::new(Method::POST, &path), &Batch { deletes, posts });
        let done: Option<Batched> = self.send(ask, about).await?.result;
        match done.and_then(|done| done.posts) {
            Some(made) if made.len() != posts.len() => Err(Fault::from(ProviderError::new(
                ErrorKind::Fatal,
                format!(
                    "{} answers that all is done, but speaks of {} new records where {} were asked for",
                    self.host(),
                    made.len(),
                    posts.len()
                ),
            ))),
            made => Ok(made.unwrap_or_default()),
        }
    }

    /// Makes one record.
    pub(super) async fn create(
        &self,
        zone: &str,
        post: &Post,
        about: &About<'_>,
    ) -> Result<Option<Made>, Fault> {
        let ask = Ask::new(Method::POST, &["zones", zone, "dns_records"]);
        let sent = self.send(with_json(ask, post), about).await?;
        Ok(sent.result)
    }

    /// Removes one record.
    pub(super) async fn delete(
        &self,
        zone: &str,
        delete: &Delete,
        about: &About<'_>,
    ) -> Result<(), Fault> {
        let path = ["zones", zone, "dns_records", &delete.id];
        let ask = Ask::new(Method::DELETE, &path);
        self.send::<IgnoredAny>(ask, about).await.map(drop)
    }

    async fn page<T: DeserializeOwned>(
        &self,
        ask: Ask,
        about: &About<'_>,
    ) -> Result<Page<T>, ProviderError> {
        let got: Envelope<Vec<T>> = self.send(ask, about).await.map_err(Fault::into_error)?;
        let Some(items) = got.result else {
            let message = format!("{} answers {about} without a list", self.host());
            return Err(ProviderError::new(ErrorKind::Fatal, message));
        };
        Ok(Page {
            items,
            pages: got.result_info.and_then(|info| info.total_pages),
        })
    }

    /// The reply, unless it is a refusal.
    async fn send<T: DeserializeOwned>(
        &self,
        ask: Ask,
        about: &About<'_>,
    ) -> Result<Envelope<T>, Fault> {
        let ask = ask.credential(AUTHORIZATION, "Bearer ", &self.token, self.source)?;
        let reply = self.http.send(ask, self.context).await?;
        let limit = Limit::read(&reply.headers);
        self.heed(&reply, limit);
        let refusal = |after| {
            let (host, clock) = (self.host(), &self.context.clock);
            about.refusal(&host, &reply, after, &self.token, clock)
        };
        if !reply.status.is_success() {
            let after = limit.map(|limit| limit.resets);
            return Err(refusal(after));
        }
        let got: Envelope<T> = reply.json(&self.host(), [&self.token])?;
        match got.success {
            None | Some(true) => Ok(got),
            Some(false) => Err(refusal(None)),
        }
    }

    /// Nobody asks again before the API lets them.
    fn heed(&self, reply: &Reply, limit: Option<Limit>) {
        let is_over = reply.status == StatusCode::TOO_MANY_REQUESTS;
        if let Some(limit) = limit.filter(|limit| is_over || limit.remaining == 0) {
            self.context.meter.pause(&self.context.clock, limit.resets);
        }
    }

    fn endless(&self) -> ProviderError {
        let message = format!("{} lists more than {MOST_PAGES} pages", self.host());
        ProviderError::new(ErrorKind::Fatal, message)
    }
}

impl<T> Page<T> {
    fn is_last(&self, page: usize, size: usize) -> bool {
        match self.pages {
            // A list may become shorter while it is read.
            Some(pages) => page >= pages || self.items.is_empty(),
            None => self.items.len() < size,
        }
    }
}

fn with_json<T: Serialize>(ask: Ask, body: &T) -> Ask {
    // Nothing that is sent has a form that JSON lacks.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    ask.body("application/json", bytes)
}

/// What is left of a limit, and when it is whole again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    remaining: u64,
    resets: Duration,
}

impl Limit {
    /// `Ratelimit: "default";r=50;t=30`: of several limits, the one that leaves the least.
    fn read(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get("ratelimit")?.to_str().ok()?;
        let limits = text.split(',').filter_map(|item| {
            let parameter = |key: &str| {
                let mut parts = item.split(';').skip(1).map(str::trim);
                parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
            };
            Some(Self {
                remaining: parameter("r")?,
                resets: Duration::from_secs(parameter("t")?).min(LONGEST_PAUSE),
            })
        });
        limits.min_by_key(|limit| (limit.remaining, std::cmp::Reverse(limit.resets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", text.parse().unwrap());
        Limit::read(&headers).map(|limit| (limit.remaining, limit.resets.as_secs()))
    }

    #[test]
    fn the_limit_that_leaves_least_counts_and_garbage_does_not() {
        assert_eq!(limit("\"default\";r=50;t=30"), Some((50, 30)));
        assert_eq!(limit("\"a\";r=50;t=30, \"b\"; r=0; t=7"), Some((0, 7)));
        assert_eq!(limit("\"a\";r=0;t=30,\"b\";r=0;t=7"), Some((0, 30)));
        assert_eq!(limit("\"a\";r=0;t=99999999"), Some((0, 600)));
        for garbage in [
            "",
            "default",
            "\"a\";r=x;t=1",
            "\"a\";r=1",
            ";;;,=,",
            "\"a\";r=-1;t=1",
        ] {
            assert_eq!(limit(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn records_are_read_without_zone_and_with_fields_unheard_of() {
        let text = r#"{"success":true,"news":{},"result":[{"id":"1","name":"a.test","content":"v","ttl":60.0,"later":[1]}]}"#;
        let got: Envelope<Vec<Record>> = serde_json::from_str(text).unwrap();
        assert_eq!(got.result.unwrap()[0].content, "v");
    }
}
