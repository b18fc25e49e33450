//! `status`: what is issued, until when, what comes next, what is wrong and whose move it is.
//!
//! `table` says it to people, `json` to programs.

mod json;
mod table;

use countersign_providers::clock::Clock;

use std::collections::BTreeMap;

use super::arguments::Status;
use super::print::{Screen, out};
use super::words::known;
use super::{AskError, Ending};
use crate::config::Config;
use crate::control::{Ask, Client, Reply};
use crate::daemon::open_store;
use crate::run::overview::Overview;
use crate::store;

pub(super) async fn run(config: &Config, clock: &Clock, screen: Screen, options: Status) -> Ending {
    let only = match options.name.as_deref().map(|name| known(config, name)) {
        None => None,
        Some(Ok(name)) => Some(name),
        Some(Err(sentence)) => return Ending::Usage(sentence),
    };
    let mut overview = match overview(config, clock).await {
        Ok(overview) => overview,
        Err(error) => return Ending::yours(&error),
    };
    if let Some(only) = &only {
        overview.certificates.retain(|view| view.name == *only);
    }
    match (options.json, only) {
        (true, _) => {
            out(json::document(&overview));
        }
        (false, Some(_)) => table::details(&overview, screen),
        (false, None) => table::table(&overview, screen),
    }
    match options.exit_code && overview.is_failing() {
        true => Ending::Failed(None),
        false => Ending::Done,
    }
}

/// From whoever holds the store, else from the store. Before the first `renew` there is none, and looking makes none.
async fn overview(config: &Config, clock: &Clock) -> Result<Overview, AskError> {
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
