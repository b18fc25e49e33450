//! Logs: text or JSON, to standard error. They wait while a progress line is being painted.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::arguments::Level;
use crate::config::{LogFormat, LogLevel, LogSettings};

/// The progress lines that a log line must not be written into.
static LINES: OnceLock<MultiProgress> = OnceLock::new();

/// The level: what was asked for on the command line, else what is configured; of that, the default `info` is `info`
/// for this command.
pub(super) fn level(settings: LogSettings, asked: Option<Level>, info: Level) -> Level {
    asked.unwrap_or(match settings.level {
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    })
}

/// Changes the level of what is logged.
pub(super) struct Levels(reload::Handle<Targets, Registry>);

impl Levels {
    /// From now on.
    pub(super) fn set(&self, level: Level) {
        // Refused only when there is another logger, as in a second start in one process.
        let _ = self.0.reload(ours(level));
    }
}

/// Starts logging; faults of our own are logged too.
pub(super) fn start(format: LogFormat, level: Level) -> Levels {
    let (filter, handle) = reload::Layer::new(ours(level));
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry()
        .with(lines(format).with_filter(filter))
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("?");
        let what = panic.payload_as_str().unwrap_or("?");
        let at = panic.location().map(ToString::to_string);
        let at = at.unwrap_or_default();
        tracing::error!("a thread ({name}) panicked at {at}: {what}; please report it");
    }));
    Levels(handle)
}

/// What writes logs from `level` on.
pub(super) fn layer<S>(format: LogFormat, level: Level) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    lines(format).with_filter(ours(level)).boxed()
}

fn ours(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Other crates may log what we would not: headers, buffers.
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("countersign", level)
        .with_target("countersign_providers", level)
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Beside)
        .with_ansi(false);
    match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    }
}

/// Log lines make room for themselves among `lines` from now on.
pub(super) fn beside(lines: &MultiProgress) {
    // The first stays; there is one a process.
    let _ = LINES.set(lines.clone());
}

/// Standard error beside the progress lines.
struct Beside;

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = harmless(bytes);
        let write = || io::stderr().lock().write_all(&line);
        // Nobody is left to hear that this failed.
        let _ = match LINES.get() {
            Some(lines) => lines.suspend(write),
            None => write(),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line as it may come to a terminal, whatever others sent: control characters are written as JSON writes them. Only
/// the line end stays.
fn harmless(line: &[u8]) -> Cow<'_, [u8]> {
    let (text, end) = match line {
        [text @ .., b'\n'] => (text, "\n"),
        text => (text, ""),
    };
    let text = String::from_utf8_lossy(text);
    let is_harmful = |c: char| c.is_control() || is_direction(c);
    if !text.contains(is_harmful) {
        return Cow::Borrowed(line);
    }
    let mut safe = String::with_capacity(line.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            c if is_harmful(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe.push_str(end);
    Cow::Owned(safe.into_bytes())
}

/// Those that turn the direction of the text after them.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> String {
        String::from_utf8(harmless(line.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn what_others_send_cannot_steer_the_terminal_or_fake_a_line() {
        let sent = "problem: \x1b[2Jgone\r\nready: 1\u{9b}31m\u{7f}\u{202e}\n";
        let wanted = "problem: \\u001b[2Jgone\\u000d\\nready: 1\\u009b31m\\u007f\\u202e\n";
        assert_eq!(said(sent), wanted);
    }

    #[test]
    fn a_usual_line_stays_as_it_is() {
        let line = "2026 INFO délivré → out\n";
        assert!(matches!(harmless(line.as_bytes()), Cow::Borrowed(_)));
        assert_eq!(said(line), line);
    }

    #[test]
    fn a_json_line_stays_json() {
        let line = said("{\"message\":\"a\u{9b}b\"}\n");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["message"], "a\u{9b}b");
    }
}
