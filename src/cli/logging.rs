//! Logs: text or JSON, to standard error. They wait while a progress line is being painted.

use std::io::{self, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
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

/// Starts logging.
pub(super) fn start(format: LogFormat, level: Level) {
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer(format, level))
        .try_init();
}

/// What writes logs from `level` on.
pub(super) fn layer<S>(format: LogFormat, level: Level) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    // Other crates may log what we would not: headers, buffers.
    let ours = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("countersign", level)
        .with_target("countersign_providers", level);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| Beside)
        .with_ansi(false);
    match format {
        LogFormat::Text => layer.with_target(false).with_filter(ours).boxed(),
        LogFormat::Json => layer.json().with_filter(ours).boxed(),
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
        let write = || io::stderr().lock().write_all(bytes);
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
