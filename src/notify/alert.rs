//! One alert, and its words for people at three in the morning.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::names::CertificateName;
use crate::engine::reaction::Whose;

/// So many of the further alerts of a message have a line of their own.
const LISTED: usize = 100;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The first failure of a trouble that needs a person.
    Failure,
    /// Half of the time that was left when it began is gone.
    HalfLife,
    /// The trouble is over.
    Recovery,
}

/// One alert, as stored until every channel has taken it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for each repetition, and for nothing else: the certificate, the event, and when.
    pub id: String,
    /// When it fell due.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// To which certificate.
    pub certificate: CertificateName,
    /// Its names.
    pub names: Vec<String>,
    /// What was seen: one line without control characters.
    pub sentence: String,
    /// Whose move it is; nobody's after a recovery.
    pub whose: Option<Whose>,
    /// When what is in use ends: the present certificate, or the one before it where the present one is not in place.
    pub not_after: Option<Timestamp>,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// So many older alerts of the certificate could not be sent in time and were given up.
    #[serde(default)]
    pub left_out: u32,
}

/// How the ids of all alerts of a certificate begin.
pub(super) fn prefix(name: &CertificateName) -> String {
    format!("{name}.")
}

impl Event {
    /// As written for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::HalfLife => "half-life",
            Self::Recovery => "recovery",
        }
    }
}

impl Alert {
    /// What happened, in a few words.
    fn headline(&self) -> String {
        let what = match (self.event, self.whose) {
            (Event::Failure, Some(Whose::You)) => "needs you",
            (Event::Failure, _) => "is failing",
            (Event::HalfLife, _) => "is not renewed, and half of the time left is gone",
            (Event::Recovery, _) => "is well again",
        };
        format!("{} {what}", self.certificate)
    }

    /// All of it, a line each.
    fn text(&self) -> String {
        let mut lines = vec![
            format!("The certificate {}.", self.headline()),
            String::new(),
            format!("Names: {}", self.names.join(", ")),
            format!("Seen: {}", self.sentence),
        ];
        lines.extend(
            self.whose
                .map(|whose| format!("Whose move: {}", move_of(whose))),
        );
        lines.push(match self.not_after {
            Some(end) if end <= self.at => {
                format!("What is in use has EXPIRED: {}", instant(end))
            }
            Some(end) => format!("What is in use is valid until: {}", instant(end)),
            None => "There is no certificate yet.".to_owned(),
        });
        let again = self.retry_at.filter(|_| self.event != Event::Recovery);
        lines.extend(again.map(|at| format!("Tried again: {}", instant(at))));
        lines.push(format!("Noted: {}", instant(self.at)));
        if self.left_out > 0 {
            lines.push(format!(
                "{} older alerts of it could not be sent and were given up.",
                self.left_out
            ));
        }
        lines.push(format!(
            "To see more: countersign status {}",
            self.certificate
        ));
        lines.join("\n")
    }

    fn line(&self) -> String {
        format!("- {}: {}", self.headline(), self.sentence)
    }
}

/// What one message says: an alert, and further ones where too many wait for one each.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// The alert.
    pub first: &'a Alert,
    /// Further ones, in the order in which they fell due.
    pub more: &'a [Alert],
}

impl Message<'_> {
    /// One line.
    pub fn subject(&self) -> String {
        let more = match self.more.len() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        format!("countersign: {}{more}", self.first.headline())
    }

    /// The whole text, with a line end.
    pub fn text(&self) -> String {
        let mut text = self.first.text();
        text.push('\n');
        if !self.more.is_empty() {
            text.push_str(&format!(
                "\nMany alerts waited for this channel; this message has {} more:\n",
                self.more.len()
            ));
        }
        for alert in self.more.iter().take(LISTED) {
            text.push_str(&alert.line());
            text.push('\n');
        }
        if self.more.len() > LISTED {
            text.push_str("and so on; `countersign status` has all that is wrong now.\n");
        }
        text
    }
}

/// RFC 3339 in UTC, to the second.
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn move_of(whose: Whose) -> &'static str {
    match whose {
        Whose::You => "yours, nothing goes on without you",
        Whose::DnsHost => "of whoever runs the DNS servers",
        Whose::Authority => "of the certificate authority",
        Whose::Target => "of the machine that uses the certificate",
        Whose::Countersign => "of Countersign's makers: please report it",
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// An alert of `certificate`, due at that second.
    pub(crate) fn alert(certificate: &str, event: Event, second: i64) -> Alert {
        let at = Timestamp::from_second(second).unwrap();
        Alert {
            id: format!("{certificate}.{}.{second}", event.as_str()),
            at,
            event,
            certificate: CertificateName::parse(certificate).unwrap(),
            names: vec!["www.example.test".to_owned(), "*.example.test".to_owned()],
            sentence: "provider office: REFUSED".to_owned(),
            whose: (event != Event::Recovery).then_some(Whose::You),
            not_after: Timestamp::from_second(86_400).ok(),
            retry_at: Timestamp::from_second(3_600).ok(),
            left_out: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::alert;
    use super::*;

    #[test]
    fn says_what_was_seen_whose_move_it_is_until_when_and_what_to_type() {
        let alert = alert("web", Event::Failure, 0);
        let message = Message {
            first: &alert,
            more: &[],
        };
        assert_eq!(message.subject(), "countersign: web needs you");
        assert_eq!(
            message.text(),
            "The certificate web needs you.\n\n\
             Names: www.example.test, *.example.test\n\
             Seen: provider office: REFUSED\n\
             Whose move: yours, nothing goes on without you\n\
             What is in use is valid until: 1970-01-02 00:00:00 UTC\n\
             Tried again: 1970-01-01 01:00:00 UTC\n\
             Noted: 1970-01-01 00:00:00 UTC\n\
             To see more: countersign status web\n"
        );
    }

    #[test]
    fn a_message_of_many_stays_short() {
        let first = alert("web", Event::Recovery, 0);
        let more: Vec<Alert> = (0..5_000)
            .map(|n| alert(&format!("c{n}"), Event::HalfLife, n))
            .collect();
        let message = Message {
            first: &first,
            more: &more,
        };
        assert_eq!(
            message.subject(),
            "countersign: web is well again (and 5000 more)"
        );
        assert!(message.text().lines().count() < 120);
    }
}
