//! A server for lego's provider `httpreq`: `POST /present` and `POST /cleanup` with `{"fqdn", "value"}`.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Url};
use serde_json::json;
use zeroize::Zeroizing;

use super::Writer;
use crate::http::{Ask, Http, said};
use crate::record::{Change, Verb};
use crate::secret::{Secret, SecretSource, hide};
use crate::{Context, ErrorKind, ProviderError};

/// A server that writes values.
pub struct LegoHttpreq {
    http: Http,
    login: Option<(String, SecretSource)>,
}

impl LegoHttpreq {
    /// The server at `endpoint`, with a user name and where the password is.
    pub fn new(endpoint: Url, login: Option<(String, SecretSource)>) -> Self {
        Self {
            http: Http::new(endpoint),
            login,
        }
    }
}

#[async_trait]
impl Writer for LegoHttpreq {
    fn title(&self) -> String {
        self.http.host()
    }

    async fn write(
        &self,
        change: &Change,
        context: &Context,
    ) -> Result<Option<String>, ProviderError> {
        let host = self.http.host();
        let path = match change.verb {
            Verb::Ensure => "present",
            Verb::Absent => "cleanup",
        };
        let body = json!({"fqdn": format!("{}.", change.name), "value": change.value});
        let body = body.to_string().into_bytes();
        let mut ask = Ask::new(Method::POST, &[path]).body("application/json", body);
        let mut told = Vec::new();
        if let Some((user, source)) = &self.login {
            let password = source.read(&context.clock).await.map_err(|error| {
                let message = format!("the password for {host} cannot be had: {error}");
                ProviderError::new(ErrorKind::Auth, message)
                    .hint("correct `password` in the configuration, or what it names")
            })?;
            let login = Zeroizing::new([user.as_bytes(), b":", password.expose()].concat());
            let encoded = Secret::new(STANDARD.encode(&*login).into_bytes());
            ask = ask.credential(AUTHORIZATION, "Basic ", &encoded, source)?;
            told.extend([password, encoded]);
        }
        let reply = self.http.send(ask, context).await?;
        if reply.status.is_success() {
            return Ok(None);
        }
        let words = said(&hide(&String::from_utf8_lossy(&reply.body), &told));
        let status = reply.status.as_u16();
        let message = format!(
            "{host} answers /{path} of {} with {status} {words}",
            change.name
        );
        let message = message.trim_end().to_owned();
        Err(ProviderError::new(reply.kind(&context.clock), message).code(status.to_string()))
    }
}
