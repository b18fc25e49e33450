//! Logs: text or JSON, to standard error.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, filter::Targets};

use super::arguments::Level;
use crate::config::{LogFormat, LogLevel, LogSettings};

/// Starts logging as configured; `asked` on the command line wins.
pub(super) fn start(settings: LogSettings, asked: Option<Level>) {
    let level = match (asked, settings.level) {
        (Some(Level::Error), _) | (None, LogLevel::Error) => LevelFilter::ERROR,
        (Some(Level::Warn), _) | (None, LogLevel::Warn) => LevelFilter::WARN,
        (Some(Level::Info), _) | (None, LogLevel::Info) => LevelFilter::INFO,
        (Some(Level::Debug), _) | (None, LogLevel::Debug) => LevelFilter::DEBUG,
        (Some(Level::Trace), _) | (None, LogLevel::Trace) => LevelFilter::TRACE,
    };
    // Other crates may log what we would not: headers, buffers.
    let ours = Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("countersign", level)
        .with_target("countersign_providers", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    // A second start in one process keeps the first.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(ours))
        .try_init();
}
