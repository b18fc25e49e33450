//! What is going on, from whoever knows.

use std::collections::BTreeMap;

use countersign_providers::clock::Clock;

use super::AskError;
use crate::config::Config;
use crate::control::{Ask, Client, Reply};
use crate::daemon::open_store;
use crate::run::overview::Overview;
use crate::store;

/// From whoever holds the store, else from the store. Before the first `renew` there is none, and looking makes none.
pub(super) async fn overview(config: &Config, clock: &Clock) -> Result<Overview, AskError> {
    if let Some(mut client) = Client::connect(&config.state, clock).await? {
        return match client.ask(Ask::Status).await? {
            Reply::Overview(overview) => Ok(*overview),
            _ => Err(client.odd().into()),
        };
    }
    let session = match store::exists(&config.state) {
        true => Some(open_store(config, clock).await?.0),
        false => None,
    };
    let nobody = BTreeMap::new();
    let overview = Overview::gather(config, session.as_ref(), clock.now(), &nobody).await;
    Ok(overview?)
}
