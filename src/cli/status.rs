//! `status`: what is issued, until when, what comes next, what is wrong and whose move it is.
//!
//! `table` says it to people, the most urgent first, `json` to programs, in the order of the names.

mod json;
mod table;

use countersign_providers::clock::Clock;

use super::Ending;
use super::arguments::Status;
use super::ask::overview;
use super::print::{Screen, out};
use super::words::known;
use crate::config::Config;

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
