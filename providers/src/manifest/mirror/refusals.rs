//! How the virtual host refuses: as the manifest's own map of errors has it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ErrorKind;
use crate::manifest::form::Kind;
use crate::manifest::plan::{Errors, Meaning};

/// A reply.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub(super) fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            headers: Vec::new(),
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The refusal that means `kind`, with `words` in it where the manifest has a place for them.
pub(super) fn refusal(errors: &Errors, kind: Kind, words: &str) -> Answer {
    match errors.map.iter().position(|it| it.kind == kind) {
        Some(nth) => entry(errors, nth, words).unwrap_or_default(),
        None => written(errors, status(kind), None, words),
    }
}

/// The refusal that entry `nth` of the map is about.
pub(super) fn entry(errors: &Errors, nth: usize, words: &str) -> Option<Answer> {
    let meaning = errors.map.get(nth)?;
    let words = match &meaning.says {
        Some(says) => format!("{says} ({words})"),
        None => words.to_owned(),
    };
    let status = meaning.status.unwrap_or_else(|| status(meaning.kind));
    Some(written(errors, status, meaning.code.as_deref(), &words))
}

fn written(errors: &Errors, status: u16, code: Option<&str>, words: &str) -> Answer {
    let mut body = Value::Null;
    // A number as a code is read as text as well.
    if let (Some(way), Some(code)) = (errors.code.first(), code) {
        way.put(&mut body, json!(code));
    }
    if let Some(way) = errors
        .message
        .iter()
        .find(|it| it.put(&mut body.clone(), json!("")))
    {
        way.put(&mut body, json!(words));
    }
    if body.is_null() {
        body = json!({});
    }
    Answer::new(status, body)
}

/// What an entry is, in words, and what it is to be understood as; `None`: as done already.
pub(super) fn meaning(entry: &Meaning) -> (String, Option<ErrorKind>) {
    let mut words = Vec::new();
    words.extend(entry.status.map(|it| format!("status {it}")));
    words.extend(entry.code.as_ref().map(|it| format!("code {it}")));
    words.extend(entry.says.as_ref().map(|it| format!("\"{it}\"")));
    let kind = match entry.kind {
        Kind::Done => None,
        Kind::Auth => Some(ErrorKind::Auth),
        Kind::Permission => Some(ErrorKind::Permission),
        Kind::ZoneMissing => Some(ErrorKind::ZoneMissing),
        Kind::Conflict => Some(ErrorKind::Conflict),
        Kind::RateLimited => Some(ErrorKind::RateLimited {
            after: None::<Duration>,
        }),
        Kind::Quota => Some(ErrorKind::Quota),
        Kind::Invalid => Some(ErrorKind::Invalid),
        Kind::Transient => Some(ErrorKind::Transient),
        Kind::Unsupported => Some(ErrorKind::Unsupported),
        Kind::Fatal => Some(ErrorKind::Fatal),
    };
    (words.join(", "), kind)
}

fn status(kind: Kind) -> u16 {
    match kind {
        Kind::Auth => 401,
        Kind::Permission => 403,
        Kind::ZoneMissing => 404,
        Kind::Conflict | Kind::Done => 409,
        Kind::RateLimited => 429,
        Kind::Quota | Kind::Invalid | Kind::Unsupported => 422,
        Kind::Transient => 503,
        Kind::Fatal => 500,
    }
}
