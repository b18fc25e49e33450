//! `status`: what is issued, until when, what comes next, what is wrong and whose move it is.
//!
//! `view` gathers it from the configuration and the store, `table` says it to people, `json` to programs.

mod json;
mod table;
mod view;

use countersign_providers::clock::Clock;

use super::Ending;
use super::arguments::Status;
use super::print::{Screen, out};
use super::words::known;
use crate::config::Config;
use crate::daemon::open_store;
use crate::store::{self, StoreError};
use view::Overview;

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

/// Before the first `renew` there is no store, and looking makes none.
async fn overview(config: &Config, clock: &Clock) -> Result<Overview, StoreError> {
    let session = match store::exists(&config.state) {
        true => Some(open_store(config, clock).await?.0),
        false => None,
    };
    Overview::gather(config, session.as_ref(), clock.now()).await
}
