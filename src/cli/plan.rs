//! `plan`: what happens in the next 30 days, in which order, when, and what makes it wait. Touches nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use countersign_providers::clock::{Clock, between};
use serde::Serialize;

use super::Ending;
use super::arguments::Plan;
use super::ask::overview;
use super::print::{Screen, out, pad};
use super::words::{NEAR, clean, count, day, number, rfc3339, soon, span};
use crate::config::Config;
use crate::engine::reaction::Whose;
use crate::run::forecast::{Action, Again, Bound, Event, Forecast};

/// Rises when a field is changed or removed.
const SCHEMA: u32 = 1;
/// The width of `in 119 min (12:00)`.
const WHEN: usize = 18;
/// The width of `deliver`.
const ACTION: usize = 7;
/// With less room on its line, the reason is below.
const LEAST_ROOM: usize = 32;
/// So many lines where there is no terminal that says how many it has.
const LINES: usize = 50;

pub(super) async fn run(config: &Config, clock: &Clock, screen: Screen, options: Plan) -> Ending {
    let overview = match overview(config, clock).await {
        Ok(overview) => overview,
        Err(error) => return Ending::yours(&error),
    };
    let forecast = Forecast::of(&overview);
    match options.json {
        true => drop(out(document(&forecast))),
        false => {
            for notice in &overview.notices {
                out(screen.warn(&screen.wrap(&clean(notice), 0, 2)));
            }
            table(&forecast, screen);
        }
    }
    Ending::Done
}

/// An entry for each certificate, with what happens to it first; at most a screenful.
fn table(forecast: &Forecast, screen: Screen) {
    let mut seen = BTreeSet::new();
    let events = forecast.events.iter();
    let firsts: Vec<&Event> = events
        .filter(|event| seen.insert(&event.certificate))
        .collect();
    let room = screen.lines(LINES);
    let names = firsts.iter().take(room);
    let width = screen.name_column(names.map(|event| event.certificate.as_str()));
    if !firsts.is_empty() {
        let (when, action) = (pad("WHEN (UTC)", WHEN), pad("WHAT", ACTION));
        let head = format!("{when}  {action}  {}  WHY", pad("NAME", width));
        out(screen.faint(head.trim_end()));
    }
    let (mut used, mut shown) = (0, 0);
    for event in &firsts {
        let entry = entry(forecast, event, width, screen);
        used += entry.lines().count();
        if used > room && shown > 0 {
            break;
        }
        out(entry);
        shown += 1;
    }
    let day = day(forecast.until);
    out(match firsts.len() - shown {
        0 if firsts.is_empty() => format!("nothing happens until {day}"),
        0 => format!("{} until {day}", count(firsts.len(), "certificate")),
        more => format!(
            "and {} more until {day}; `plan --json` has all",
            number(more)
        ),
    });
    if let Some((at, name)) = &forecast.after {
        let others = match firsts.is_empty() {
            true => count(forecast.idle, "certificate"),
            false => format!("{} more", number(forecast.idle)),
        };
        let first = soon(forecast.now, *at);
        let said = format!("{others} with nothing to do until then; first {name}, {first}");
        out(screen.wrap(&said, 0, 2));
    }
}

fn entry(forecast: &Forecast, event: &Event, width: usize, screen: Screen) -> String {
    let begins = format!(
        "{}  {}  {}  ",
        pad(&when(forecast, event), WHEN),
        pad(&action(event, screen), ACTION),
        pad(event.certificate.as_str(), width)
    );
    let indent = WHEN + ACTION + width + 6;
    let has_room = screen.width.is_none_or(|it| it >= indent + LEAST_ROOM);
    match has_room {
        true => format!("{begins}{}", screen.wrap(&why(event), indent, indent)),
        false => format!(
            "{}\n    {}",
            begins.trim_end(),
            screen.wrap(&why(event), 4, 4)
        ),
    }
}

/// How far it is, and when: no more of it than one asks for.
fn when(forecast: &Forecast, event: &Event) -> String {
    let far = between(forecast.now, event.at);
    let when = match far {
        Duration::ZERO => return "now".to_owned(),
        _ if far < NEAR => "%H:%M",
        _ => "%b %-d",
    };
    format!("in {} ({})", span(far), event.at.strftime(when))
}

fn action(event: &Event, screen: Screen) -> String {
    let action = event.action.as_str();
    match event.action {
        Action::Retry => screen.bad(action),
        Action::Issue | Action::Deliver => screen.warn(action),
        Action::Renew => screen.good(action),
    }
}

/// Why, whom it asks, what makes it wait, and how it goes on.
fn why(event: &Event) -> String {
    let mut parts = vec![match &event.authority {
        Some(authority) => format!("{}, at {authority}", event.reason),
        None => event.reason.clone(),
    }];
    parts.extend(event.bound.as_ref().map(|bound| bound_by(bound, event)));
    parts.extend(event.again.as_ref().map(again));
    clean(&parts.join("; "))
}

fn bound_by(bound: &Bound, event: &Event) -> String {
    match bound {
        Bound::BackOff(1) => "a pause after a failure, `renew` skips it".to_owned(),
        Bound::BackOff(failures) => {
            format!("a pause after {failures} failures, `renew` skips it")
        }
        Bound::RetryAfter(whose) => {
            let who = match whose {
                Whose::Authority => event.authority.as_deref().unwrap_or("the authority"),
                Whose::DnsHost => "the DNS host",
                Whose::Target => "the target",
                Whose::You | Whose::Countersign => "the other side",
            };
            format!("not sooner, {who} asked for it")
        }
        Bound::Seats(seats) => format!("waits, {seats} at a time"),
    }
}

fn again(again: &Again) -> String {
    let every = span(again.every);
    match again.times {
        0 => format!("every {every}"),
        times => format!("every {every}, {} in all by then", number_of(times + 1)),
    }
}

fn number_of(times: u64) -> String {
    number(usize::try_from(times).unwrap_or(usize::MAX))
}

/// The whole document.
fn document(forecast: &Forecast) -> String {
    let document = Document {
        schema: SCHEMA,
        now: rfc3339(forecast.now),
        until: rfc3339(forecast.until),
        events: forecast.events.iter().map(Line::of).collect(),
    };
    serde_json::to_string_pretty(&document).expect("text, numbers and lists make JSON")
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    now: String,
    until: String,
    events: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    at: String,
    certificate: &'a str,
    action: &'static str,
    authority: Option<&'a str>,
    reason: &'a str,
    bound_by: Option<Limit>,
    repeats: Option<Repeats>,
}

/// What makes it wait: a word for programs, a sentence for people.
#[derive(Serialize)]
struct Limit {
    limit: &'static str,
    sentence: String,
}

/// It happens again so many seconds after each time, so often until the end of the plan.
#[derive(Serialize)]
struct Repeats {
    every_seconds: u64,
    times: u64,
}

impl<'a> Line<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            at: rfc3339(event.at),
            certificate: event.certificate.as_str(),
            action: event.action.as_str(),
            authority: event.authority.as_deref(),
            reason: &event.reason,
            bound_by: event.bound.as_ref().map(|bound| Limit {
                limit: bound.as_str(),
                sentence: bound_by(bound, event),
            }),
            repeats: event.again.map(|again| Repeats {
                every_seconds: again.every.as_secs(),
                times: again.times,
            }),
        }
    }
}
