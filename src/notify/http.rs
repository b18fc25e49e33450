//! One call of a URL that a person configured: bounded, never redirected, and nothing of its path or query in any word.

use std::time::Duration;

use countersign_providers::tls;
use countersign_providers::words::{innermost, printable};
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use url::Url;

use crate::clock::Clock;
use crate::config::Address;

/// A connection is there after this, or not at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// What we call ourselves.
const USER_AGENT: &str = concat!("countersign/", env!("CARGO_PKG_VERSION"));
/// More of a reason helps nobody.
const REASON: usize = 300;

/// Calls `address` with what `request` makes of it; any status of success is taken, the reply is not read. Each call
/// has a connection of its own: they are rare.
pub(super) async fn call(
    address: &Address,
    clock: &Clock,
    request: impl FnOnce(&Client, Url) -> RequestBuilder,
) -> Result<(), String> {
    let url = url(address, clock).await?;
    // Without any roots only plain http works: then the handshake says so.
    let tls = tls::client(None, true).map_err(|error| error.to_string())?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_DEADLINE)
        .build()
        .map_err(|error| reason(&error.without_url()))?;
    let sent = request(&client, url).send().await;
    let response = sent.map_err(|error| reason(&error.without_url()))?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status if status.is_redirection() => Err(format!(
            "it answered {} and sends elsewhere; configure the URL where it ends up",
            said(status)
        )),
        status => Err(format!("it answered {}", said(status))),
    }
}

/// The URL, read now when it is a secret.
async fn url(address: &Address, clock: &Clock) -> Result<Url, String> {
    let source = match address {
        Address::Url(url) => return Ok(url.clone()),
        Address::Secret(source) => source,
    };
    let secret = source
        .read(clock)
        .await
        .map_err(|error| error.to_string())?;
    let text = secret.expose_text().map_err(|error| error.to_string())?;
    Address::judge(text).map_err(|error| format!("{}: {error}", source.describe()))
}

fn reason(error: &reqwest::Error) -> String {
    match error.is_timeout() {
        true => "it accepted no connection in time".to_owned(),
        false => printable(&innermost(error), REASON),
    }
}

fn said(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
