//! The calls of OVHcloud's API that are needed, each signed. Fields that are not needed are not read.

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::http::{Ask, Http};
use crate::oauth::read;
use crate::record::{DnsName, Zone};
use crate::secret::Secret;
use crate::{Context, ErrorKind, ProviderError};

use super::Settings;
use super::error::{About, Refusal};

const APPLICATION: HeaderName = HeaderName::from_static("x-ovh-application");
const CONSUMER: HeaderName = HeaderName::from_static("x-ovh-consumer");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-ovh-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("x-ovh-signature");
/// More records at one name than this nobody has; each takes a call.
const MOST_RECORDS: usize = 100;

/// The API, for one verb.
pub(super) struct Api<'a> {
    http: &'a Http,
    settings: &'a Settings,
    secret: Secret,
    consumer: Secret,
    context: &'a Context,
    /// What has to be added to the clock here to have the one there, in seconds.
    offset: i64,
}

/// A record.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) field_type: String,
    #[serde(default)]
    pub(super) sub_domain: Option<String>,
    #[serde(default)]
    pub(super) target: String,
    /// 0 for what the zone says.
    #[serde(default)]
    pub(super) ttl: Option<u32>,
}

impl Record {
    fn is_txt_at(&self, label: &str) -> bool {
        let at = self.sub_domain.as_deref().unwrap_or_default();
        at.eq_ignore_ascii_case(label) && self.field_type == "TXT"
    }
}

/// A TXT record to be made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Post<'a> {
    pub(super) field_type: &'static str,
    pub(super) sub_domain: &'a str,
    pub(super) target: String,
    pub(super) ttl: u32,
}

impl<'a> Api<'a> {
    /// Reads the secrets, and asks what time it is there, since signatures are dated.
    pub(super) async fn open(
        http: &'a Http,
        settings: &'a Settings,
        context: &'a Context,
    ) -> Result<Self, ProviderError> {
        let secret = read(&settings.application_secret, "application-secret", context).await?;
        let consumer = read(&settings.consumer_key, "consumer-key", context).await?;
        let mut api = Self {
            http,
            settings,
            secret,
            consumer,
            context,
            offset: 0,
        };
        let ask = Ask::new(Method::GET, &["auth", "time"]);
        let there: i64 = api.send(ask, &About::Time).await?;
        api.offset = there.saturating_sub(context.clock.now().as_second());
        Ok(api)
    }

    /// All zones of the account.
    pub(super) async fn zones(&self, name: &DnsName) -> Result<Vec<DnsName>, ProviderError> {
        let ask = Ask::new(Method::GET, &["domain", "zone"]);
        let names: Vec<String> = self.call(ask, &About::Lookup(name)).await?;
        Ok((names.iter())
            .filter_map(|name| DnsName::parse(name).ok())
            .collect())
    }

    /// The TXT records at `name`.
    pub(super) async fn records(
        &self,
        zone: &Zone,
        name: &DnsName,
    ) -> Result<Vec<Record>, ProviderError> {
        let about = About::Look(zone, name);
        let label = relative(name, zone);
        let path = ["domain", "zone", &zone.id, "record"];
        let ask = Ask::new(Method::GET, &path)
            .query("fieldType", "TXT")
            .query("subDomain", label);
        let ids: Vec<u64> = self.call(ask, &about).await?;
        if ids.len() > MOST_RECORDS {
            let message = format!(
                "{} answers {about} with more than {MOST_RECORDS} records",
                self.http.host()
            );
            return Err(ProviderError::new(ErrorKind::Fatal, message));
        }
        let mut records = Vec::new();
        for id in ids {
            let path = ["domain", "zone", &zone.id, "record", &id.to_string()];
            match self.call(Ask::new(Method::GET, &path), &about).await {
                Ok(record) => records.push(record),
                Err(refusal) if refusal.is_gone => {}
                Err(refusal) => return Err(refusal.error),
            }
        }
        // The filter is for names that are alike, not for one.
        records.retain(|it: &Record| it.is_txt_at(label));
        Ok(records)
    }

    /// The TXT record with this id, if it is at `name`.
    pub(super) async fn record(
        &self,
        zone: &Zone,
        name: &DnsName,
        id: &str,
    ) -> Result<Option<Record>, ProviderError> {
        let path = ["domain", "zone", &zone.id, "record", id];
        let ask = Ask::new(Method::GET, &path);
        match self.call::<Record>(ask, &About::Look(zone, name)).await {
            Ok(record) => Ok(Some(record).filter(|it| it.is_txt_at(relative(name, zone)))),
            Err(refusal) if refusal.is_gone => Ok(None),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// Makes a TXT record.
    pub(super) async fn create(
        &self,
        zone: &Zone,
        name: &DnsName,
        target: String,
        ttl: u32,
    ) -> Result<Record, ProviderError> {
        let post = Post {
            field_type: "TXT",
            sub_domain: relative(name, zone),
            target,
            ttl,
        };
        // Nothing that is sent has a form that JSON lacks.
        let body = serde_json::to_vec(&post).unwrap_or_default();
        let path = ["domain", "zone", &zone.id, "record"];
        let ask = Ask::new(Method::POST, &path).body("application/json", body);
        Ok(self.call(ask, &About::Change(zone, name)).await?)
    }

    /// Removes a record; whether it was there.
    pub(super) async fn delete(
        &self,
        zone: &Zone,
        name: &DnsName,
        id: &str,
    ) -> Result<bool, ProviderError> {
        let path = ["domain", "zone", &zone.id, "record", id];
        let ask = Ask::new(Method::DELETE, &path);
        match self
            .call::<IgnoredAny>(ask, &About::Change(zone, name))
            .await
        {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is_gone => Ok(false),
            Err(refusal) => Err(refusal.error),
        }
    }

    /// Publishes what was changed.
    pub(super) async fn refresh(&self, zone: &Zone) -> Result<(), ProviderError> {
        let ask = Ask::new(Method::POST, &["domain", "zone", &zone.id, "refresh"]);
        self.call::<IgnoredAny>(ask, &About::Refresh(zone)).await?;
        Ok(())
    }

    /// The reply to `ask`, signed.
    async fn call<T: DeserializeOwned>(&self, ask: Ask, about: &About<'_>) -> Result<T, Refusal> {
        let time = self.context.clock.now().as_second();
        let time = time.saturating_add(self.offset).to_string();
        let signature = self.signature(&ask, &time);
        let ask = ask
            .header(APPLICATION, plain(&self.settings.application_key)?)
            .header(TIMESTAMP, plain(&time)?)
            .header(SIGNATURE, plain(&signature)?)
            .credential(CONSUMER, "", &self.consumer, &self.settings.consumer_key)?;
        self.send(ask, about).await
    }

    /// SHA-1 of the secrets and everything that is sent, as the API wants it.
    fn signature(&self, ask: &Ask, time: &str) -> String {
        let (method, _, body) = ask.parts();
        let url = self.http.url_of(ask);
        let parts = [
            self.secret.expose(),
            self.consumer.expose(),
            method.as_str().as_bytes(),
            url.as_str().as_bytes(),
            body,
            time.as_bytes(),
        ];
        let mut digest = digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                digest.update(b"+");
            }
            digest.update(part);
        }
        let octets = digest.finish();
        let hex = octets.as_ref().iter().map(|octet| format!("{octet:02x}"));
        format!("$1${}", hex.collect::<String>())
    }

    async fn send<T: DeserializeOwned>(&self, ask: Ask, about: &About<'_>) -> Result<T, Refusal> {
        let host = self.http.host();
        let reply = self.http.send(ask, self.context).await?;
        let secrets = [&self.secret, &self.consumer];
        if reply.status.is_success() {
            // Calls that give nothing answer null, or nothing at all.
            let null = match reply.body.is_empty() {
                true => serde_json::from_slice(b"null").ok(),
                false => None,
            };
            return match null {
                Some(nothing) => Ok(nothing),
                None => Ok(reply.json(&host, secrets)?),
            };
        }
        Err(about.refusal(&host, &reply, &secrets, &self.context.clock))
    }
}

/// `name` without the zone; nothing for the apex.
pub(super) fn relative<'n>(name: &'n DnsName, zone: &Zone) -> &'n str {
    let front = name.as_str().strip_suffix(zone.name.as_str());
    front.unwrap_or(name.as_str()).trim_end_matches('.')
}

fn plain(text: &str) -> Result<HeaderValue, ProviderError> {
    HeaderValue::from_str(text).map_err(|_| {
        let message = "`application-key` has a character that no key has";
        ProviderError::new(ErrorKind::Auth, message)
    })
}
