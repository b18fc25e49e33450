//! What the process itself is allowed: files that only its user reads, no core dumps, and when it is asked to stop.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// As many files as the system allows. Private keys are in memory: nothing of it goes to a file that others read, or to a core dump.
pub(super) fn harden() {
    umask(Mode::from_raw_mode(0o077));
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // Refused only where the limit is lower already.
    let _ = setrlimit(Resource::Core, none);
    // The low default is for programs that use `select`; we and what we start do not.
    let files = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: files.maximum,
        ..files
    };
    let _ = setrlimit(Resource::Nofile, most);
}

/// What Ctrl-C and SIGTERM ask for: first to stop politely, then at once.
#[derive(Clone, Default)]
pub(super) struct Interrupts {
    /// Stop when everything is in order.
    pub(super) politely: CancellationToken,
    /// Stop now.
    pub(super) at_once: CancellationToken,
}

impl Interrupts {
    /// Listens from now on; what the signals did before happens no more.
    pub(super) fn listen() -> Self {
        let interrupts = Self::default();
        let heard = interrupts.clone();
        tokio::spawn(async move {
            let both = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            );
            let (Ok(mut interrupt), Ok(mut terminate)) = both else {
                // The signals end the process then, as they do by default.
                return;
            };
            for token in [heard.politely, heard.at_once] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        interrupts
    }
}
