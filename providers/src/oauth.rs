//! Bearer tokens (RFC 6750) that a service gives for a credential: kept until shortly before their end, as every such
//! service asks for, and forgotten when they are refused.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use crate::clock::between;
use crate::http::{Ask, Http, Reply, said};
use crate::secret::{Secret, SecretSource, hide};
use crate::{Context, ErrorKind, ProviderError};

/// A token is not used any more so shortly before its end: a verb may take as long.
const MARGIN: Duration = Duration::from_secs(180);
/// No token is kept longer than this, whatever its service says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// A token.
#[derive(Clone)]
pub(crate) struct Bearer {
    pub(crate) token: Secret,
    /// By the clock that nobody sets.
    until: Duration,
    /// What else the credential says of itself.
    pub(crate) note: Option<String>,
}

/// The token of one credential, while it is good.
#[derive(Default)]
pub(crate) struct Kept(Mutex<Option<Bearer>>);

/// What a service answers with success.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    /// Seconds; some write them as a text.
    expires_in: Value,
}

/// What it answers otherwise (RFC 6749 section 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    pub(crate) error_description: String,
}

impl Kept {
    /// A token that is good for a while; the kept one, or what `fetch` gets. Who comes meanwhile waits for it.
    pub(crate) async fn current(
        &self,
        context: &Context,
        fetch: impl Future<Output = Result<Bearer, ProviderError>>,
    ) -> Result<Bearer, ProviderError> {
        let patience = between(context.clock.now(), context.deadline);
        let current = async {
            let mut kept = self.0.lock().await;
            // The service may have refused the one who was waited for, and is not asked the same once more.
            if let Some(error) = context.meter.overtaken() {
                return Err(error);
            }
            let needed_until = context.clock.elapsed() + MARGIN;
            if let Some(bearer) = kept.as_ref().filter(|it| it.until > needed_until) {
                return Ok(bearer.clone());
            }
            let bearer = fetch.await?;
            *kept = Some(bearer.clone());
            Ok(bearer)
        };
        let current = context.clock.timeout(patience, current).await;
        current.unwrap_or_else(|| {
            let message = "no access token was there in time";
            Err(ProviderError::new(ErrorKind::Transient, message))
        })
    }

    /// The kept token was refused, or may be by now.
    pub(crate) fn forget(&self) {
        // Whoever holds the lock fetches another one.
        if let Ok(mut kept) = self.0.try_lock() {
            *kept = None;
        }
    }
}

impl Bearer {
    /// The token of a successful `reply` of `host`; no part of the reply is told.
    pub(crate) fn read(
        reply: &Reply,
        host: &str,
        context: &Context,
    ) -> Result<Self, ProviderError> {
        let odd = || {
            let message = format!("{host} answers the request for a token without one");
            ProviderError::new(ErrorKind::Fatal, message)
                .hint("look whether something on the way answers in its place")
        };
        let granted: Granted = serde_json::from_slice(&reply.body).map_err(|_| odd())?;
        let text = Zeroizing::new(granted.access_token);
        let seconds = match &granted.expires_in {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if text.is_empty() {
            return Err(odd());
        }
        let lives = Duration::from_secs(seconds.ok_or_else(odd)?).min(LONGEST);
        Ok(Self {
            token: Secret::new(text.as_bytes().to_vec()),
            until: context.clock.elapsed() + lives,
            note: None,
        })
    }

    /// `ask` with the token.
    pub(crate) fn authorize(&self, ask: Ask, host: &str) -> Result<Ask, ProviderError> {
        let whole = Zeroizing::new([b"Bearer ", self.token.expose()].concat());
        let mut value = HeaderValue::from_bytes(&whole).map_err(|_| {
            let message = format!("the token for {host} has a character that no token has");
            ProviderError::new(ErrorKind::Fatal, message)
        })?;
        value.set_sensitive(true);
        Ok(ask.header(AUTHORIZATION, value))
    }
}

/// What the secret at `key` of the configuration is now.
pub(crate) async fn read(
    source: &SecretSource,
    key: &str,
    context: &Context,
) -> Result<Secret, ProviderError> {
    source.read(&context.clock).await.map_err(|error| {
        let message = format!("`{key}` cannot be read: {error}");
        let hint = format!("correct `{key}` in the configuration, or what it names");
        ProviderError::new(ErrorKind::Auth, message).hint(hint)
    })
}

/// The reply of a service to a form. It is not of the API and does not count there.
pub(crate) async fn post(
    http: &Http,
    path: &[&str],
    form: &[(&str, &str)],
    context: &Context,
) -> Result<Reply, ProviderError> {
    let body = Serializer::new(String::new()).extend_pairs(form).finish();
    let kind = "application/x-www-form-urlencoded";
    let ask = Ask::new(Method::POST, path).body(kind, body.into_bytes());
    let uncounted = Context::new(context.clock.clone(), context.deadline);
    http.send(ask, &uncounted).await
}

impl Refusal {
    /// Of a `reply` without success to somebody who was told `secret`, in words that can be shown.
    pub(crate) fn read(reply: &Reply, secret: Option<&Secret>) -> Self {
        let stated: Self = serde_json::from_slice(&reply.body).unwrap_or_default();
        Self {
            error: said(&hide(&stated.error, secret)),
            error_description: said(&hide(&stated.error_description, secret)),
        }
    }
}
