//! `status` for people: a line per certificate with what is wrong below it, or everything about one.

use countersign_providers::clock::between;
use jiff::Timestamp;

use crate::cli::print::{Screen, out, pad};
use crate::cli::words::{ahead, clean, failure, instant, number, soon, span};
use crate::config::place;
use crate::engine::delivery::State as DeliveryState;
use crate::engine::names::CertificateName;
use crate::engine::reaction::Whose;
use crate::engine::renewal::{Due, Reason};
use crate::ledger::spoken;
use crate::run::BUILT_IN;
use crate::run::overview::{Activity, Delivered, Overview, State, View};

/// The width of `expired 120 min ago`.
const STATE: usize = 19;
/// A record that should be gone takes about so many.
const LINES_OF_A_RECORD: usize = 3;
/// Why the next attempt is due.
fn reason(due: &Due) -> &'static str {
    match due.reason {
        Reason::Missing => "not issued yet",
        Reason::Changed => "its names, key or profile changed",
        Reason::Renewal => "renewal",
        Reason::Retry => "next try",
    }
}

/// Where the values of the details begin.
const LABEL: usize = 14;

/// A line per certificate, the most urgent first; on a terminal as many as it shows at once.
pub(super) fn table(overview: &Overview, screen: Screen) {
    for notice in &overview.notices {
        out(screen.warn(&screen.wrap(&clean(notice), 0, 2)));
    }
    let mut views: Vec<&View> = overview.certificates.iter().collect();
    views.sort_by_cached_key(|view| urgency(view));
    let width = screen.name_column(views.iter().map(|view| view.name.as_str()));
    let head = format!("{}  {}  NEXT", pad("NAME", width), pad("STATE", STATE));
    out(screen.faint(&head));
    let room = screen.lines(usize::MAX);
    let (mut used, mut shown) = (0, 0);
    for view in &views {
        let entry = entry(view, overview, width, screen);
        used += entry.lines().count();
        if used > room && shown > 0 {
            break;
        }
        if !out(entry) {
            return;
        }
        shown += 1;
    }
    rest(&views[shown..], screen);
    leftovers(overview, screen);
}

/// What a person should see first comes first: what needs a person or has ended, what fails, what is under way or due,
/// and then by when something happens.
fn urgency(view: &View) -> (u8, Option<Timestamp>, CertificateName) {
    let ends = view.served_until();
    let needs_person = matches!(&view.failure, Some(it) if it.failure.whose == Whose::You);
    let (rank, at) = match (&view.failure, view.activity) {
        _ if needs_person || view.state == State::Expired => (0, ends),
        (Some(_), _) => (1, ends),
        (None, Activity::Idle) => (3, Some(view.due.at)),
        (None, _) => (2, ends),
    };
    (rank, at, view.name.clone())
}

/// What is said of one certificate.
fn entry(view: &View, overview: &Overview, width: usize, screen: Screen) -> String {
    let (name, state) = (
        pad(view.name.as_str(), width),
        pad(&state(view, overview, screen), STATE),
    );
    let indent = width + STATE + 4;
    let next = next(view, overview, soon);
    let mut entry = format!("{name}  {state}  {}", screen.wrap(&next, indent, indent));
    if let Some(sentence) = trouble(view, overview) {
        let sentence = screen.wrap(&sentence, 4, 4);
        entry += &format!("\n  {} {sentence}", screen.bad("✗"));
    }
    if let Some(sentence) = in_use(view, overview) {
        let sentence = screen.wrap(&sentence, 4, 4);
        entry += &format!("\n  {} {sentence}", screen.warn("!"));
    }
    entry
}

/// Those for whom there was no room.
fn rest(views: &[&View], screen: Screen) {
    if views.is_empty() {
        return;
    }
    let failing = views.iter().filter(|view| view.is_failing()).count();
    let fine = views.len() - failing;
    let parts = [(failing, "failing"), (fine, "fine")];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(many, _)| *many > 0)
        .map(|(many, what)| format!("{} {what}", number(many)))
        .collect();
    let said = format!("and {} more: {}", number(views.len()), parts.join(", "));
    let said = match failing > 0 {
        true => screen.bad(&said),
        false => said,
    };
    out(format!("{said}; `countersign status | less` shows all"));
}

/// Everything about each.
pub(super) fn details(overview: &Overview, screen: Screen) {
    for view in &overview.certificates {
        let line = |label: &str, value: &str| {
            let value = screen.wrap(&clean(value), LABEL, LABEL);
            out(format!("  {}{value}", pad(label, LABEL - 2)));
        };
        let title = screen.strong(view.name.as_str());
        out(format!("{title}: {}", state(view, overview, screen)));
        line("names", &view.names.join(", "));
        if let Some(issued) = &view.current {
            line("from", &instant(issued.not_before));
            line("until", &instant(issued.not_after));
            line("authority", &issued.authority);
            line("issuer", &issued.issuer);
            line("serial", &issued.serial);
            line("sha256", &issued.sha256);
            line("generation", &issued.generation.to_string());
        }
        line("next", &next(view, overview, ahead));
        if let Some(sentence) = trouble(view, overview) {
            line("failure", &sentence);
        }
        if let Some(failing) = view.failure.as_ref().filter(|failing| failing.count > 1) {
            line("failed", &format!("{} times in a row", failing.count));
        }
        if let Some(sentence) = in_use(view, overview) {
            line("in use", &sentence);
        }
        if let Some(parked) = &view.parked {
            let order = parked.order_url().unwrap_or("not named yet");
            line("order", order);
        }
        for delivered in &view.deliveries {
            line("delivery", &delivery(delivered));
        }
        if view.deliveries.is_empty() {
            line("delivery", "nowhere: it stays in the store");
        }
    }
    leftovers(overview, screen);
}

fn state(view: &View, overview: &Overview, screen: Screen) -> String {
    let Some(issued) = &view.current else {
        return screen.warn("none");
    };
    match view.state {
        State::Expired => {
            let ago = span(between(issued.not_after, overview.now));
            screen.bad(&format!("expired {ago} ago"))
        }
        _ => {
            let left = span(between(overview.now, issued.not_after));
            screen.good(&format!("valid, {left} left"))
        }
    }
}

/// What happens next, and when in the words of `when`.
fn next(view: &View, overview: &Overview, when: impl Fn(Timestamp, Timestamp) -> String) -> String {
    if let Some(step) = view.step {
        return format!("now: {}", step.as_str());
    }
    if let Some(parked) = &view.parked {
        let authority = &parked.request.authority;
        let at = view.due.at.max(view.ahead.floor.unwrap_or(view.due.at));
        return match overview.by_itself {
            false => format!("the next `renew` goes on with its order at {authority}"),
            true if at > overview.now => {
                let when = when(overview.now, at);
                format!("goes on with its order at {authority} {when}")
            }
            true => format!("due now: going on with its order at {authority}"),
        };
    }
    let undelivered = view
        .deliveries
        .iter()
        .any(|it| it.state != DeliveryState::Installed);
    if view.current.is_some() && undelivered {
        return "due now: delivery".to_owned();
    }
    if view.due.at <= overview.now {
        return match view.due.reason {
            Reason::Retry => "due now: another try".to_owned(),
            _ => format!("due now: {}", reason(&view.due)),
        };
    }
    format!("{} {}", reason(&view.due), when(overview.now, view.due.at))
}

fn trouble(view: &View, overview: &Overview) -> Option<String> {
    let failing = view.failure.as_ref()?;
    Some(failure(
        &failing.failure,
        overview.now,
        failing.retry_at,
        overview.by_itself,
    ))
}

/// Where the present certificate is not in place and the one before it is: when that one ends.
fn in_use(view: &View, overview: &Overview) -> Option<String> {
    let present = view.current.as_ref()?.not_after;
    let end = view.served_until().filter(|end| *end < present)?;
    let when = match end > overview.now {
        true => format!("ends {}", ahead(overview.now, end)),
        false => format!("ended {}", instant(end)),
    };
    Some(format!("the one that is still in use {when}"))
}

fn delivery(delivered: &Delivered) -> String {
    let state = match delivered.state {
        DeliveryState::Wanted => "not there yet",
        DeliveryState::Installed => "installed",
        DeliveryState::Failing => "failing",
    };
    let place = place(&delivered.target);
    match delivered.since {
        Some(since) => format!("{place}: {state} since {}", instant(since)),
        None => format!("{place}: {state}"),
    }
}

fn leftovers(overview: &Overview, screen: Screen) {
    let left = &overview.left;
    if left.is_empty() {
        return;
    }
    let who = match overview.by_itself {
        true => "the daemon",
        false => "the next `renew`",
    };
    out("");
    out(screen.warn("TXT records of ours that should be gone:"));
    let shown = screen.lines(usize::MAX) / LINES_OF_A_RECORD;
    for record in left.iter().take(shown) {
        out(format!(
            "  {}. TXT \"{}\"",
            record.name,
            clean(&record.value)
        ));
        let host = match record.provider.as_str() {
            BUILT_IN => "the built-in nameserver".to_owned(),
            provider => format!("provider {}", spoken(provider)),
        };
        let why = match (record.is_configured, &record.failure) {
            (false, _) => {
                "that is not in the configuration any more: delete the record there by hand, or configure it again"
                    .to_owned()
            }
            (true, Some(failure)) => {
                format!("not removed: {}; tried again by {who}", clean(failure))
            }
            (true, None) => format!("removed by {who}"),
        };
        let zone = &record.zone;
        let why = screen.wrap(&format!("in the zone {zone} of {host}; {why}"), 4, 4);
        out(format!("    {why}"));
    }
    if let more @ 1.. = left.len().saturating_sub(shown) {
        out(format!("  and {} more", number(more)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::testing::{DAY, at, failing, issued, missing};

    #[test]
    fn what_a_person_must_see_comes_first() {
        let mut expired = issued("a-expired", 90, -40 * DAY);
        expired.state = State::Expired;
        let fine = |name: &str, due: i64| View {
            activity: Activity::Idle,
            ..issued(name, 90, due)
        };
        let views = [
            fine("b-fine-late", 9 * DAY),
            fine("c-fine-soon", DAY),
            missing("d-never"),
            issued("e-due", 90, -DAY),
            failing(issued("f-their-move", 90, -DAY), 60, Whose::Authority),
            failing(issued("g-your-move", 90, -DAY), 60, Whose::You),
            expired,
        ];
        let mut sorted: Vec<&View> = views.iter().collect();
        sorted.sort_by_cached_key(|view| urgency(view));
        let sorted: Vec<&str> = sorted.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(
            sorted,
            [
                "a-expired",
                "g-your-move",
                "f-their-move",
                "d-never",
                "e-due",
                "c-fine-soon",
                "b-fine-late"
            ]
        );
    }

    #[test]
    fn what_ends_before_the_present_one_and_is_still_in_use_is_named() {
        let at_target = |state, ends| Delivered {
            target: "web".to_owned(),
            state,
            generation: Some(2),
            serves_until: Some(at(ends)),
            since: None,
            failure: None,
            failures: 0,
        };
        let said = |deliveries| {
            let view = View {
                deliveries,
                ..issued("a", 90, 60 * DAY)
            };
            let overview = Overview {
                now: at(0),
                by_itself: true,
                notices: Vec::new(),
                certificates: Vec::new(),
                left: Vec::new(),
            };
            in_use(&view, &overview)
        };
        let ahead = said(vec![at_target(DeliveryState::Failing, 3 * DAY)]).unwrap();
        assert_eq!(
            ahead,
            "the one that is still in use ends 1970-01-04 00:00:00 UTC (in 3 d)"
        );
        let over = said(vec![at_target(DeliveryState::Wanted, -DAY)]).unwrap();
        assert_eq!(
            over,
            "the one that is still in use ended 1969-12-31 00:00:00 UTC"
        );
        for nothing_to_say in [
            at_target(DeliveryState::Installed, 3 * DAY),
            at_target(DeliveryState::Failing, 300 * DAY),
        ] {
            assert_eq!(said(vec![nothing_to_say]), None);
        }
    }
}
