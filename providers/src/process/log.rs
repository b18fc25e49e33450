//! What a plug-in writes to its standard error goes to our log, as fast as somebody could read it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncRead;

use super::lines::{Lines, Next};
use crate::clock::Clock;
use crate::secret::{Secret, hide};
use crate::words::printable;

/// More of a line is not kept.
const LONGEST_LINE: usize = 16 * 1024;
/// More of a line is not shown.
const SHOWN: usize = 500;
/// So many lines are shown at once, and then one a second.
const BURST: u32 = 50;

/// What is known of a plug-in's words.
pub(super) struct Voice {
    /// What sentences call the plug-in.
    pub(super) program: String,
    /// They are not shown, wherever the plug-in repeats them.
    pub(super) secrets: Vec<(String, Secret)>,
    last: Mutex<Vec<u8>>,
}

impl Voice {
    pub(super) fn new(program: &str, secrets: Vec<(String, Secret)>) -> Self {
        Self {
            program: program.to_owned(),
            secrets,
            last: Mutex::default(),
        }
    }

    /// Words of the plug-in, fit to be shown.
    pub(super) fn shown(&self, words: &str, most: usize) -> String {
        let secrets = self.secrets.iter().map(|(_, secret)| secret);
        printable(&hide(words, secrets), most)
    }

    /// The last line that it wrote to its standard error.
    pub(super) fn last_line(&self, most: usize) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.shown(&String::from_utf8_lossy(&last), most)
    }

    /// Logs what comes from `stderr` until its end.
    pub(super) async fn log(&self, stderr: impl AsyncRead + Unpin, clock: &Clock) {
        let mut lines = Lines::new(stderr, LONGEST_LINE);
        let mut turns = Turns::new(clock.elapsed());
        while let Ok(next) = lines.next().await {
            let (line, is_over) = match next {
                Next::Line(line) | Next::Cut(line) => (line, false),
                Next::Over(line) => (line, true),
            };
            if !line.trim_ascii().is_empty() {
                if let Some(untold) = turns.next(clock.elapsed()) {
                    self.tell(&line, untold);
                }
                *self.last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
            if is_over {
                break;
            }
        }
        if turns.untold > 0 {
            let (program, lines) = (&self.program, turns.untold);
            tracing::info!(program, lines, "more lines of the plug-in are not shown");
        }
    }

    fn tell(&self, line: &[u8], untold: u64) {
        let (program, line) = (&self.program, String::from_utf8_lossy(line));
        let line = self.shown(&line, SHOWN);
        match untold {
            0 => tracing::info!(program, "plug-in: {line}"),
            _ => tracing::info!(program, untold, "plug-in: {line}"),
        }
    }
}

/// Which lines are shown.
struct Turns {
    left: u32,
    refilled: Duration,
    /// Lines since the one that was shown last.
    untold: u64,
}

impl Turns {
    fn new(now: Duration) -> Self {
        Self {
            left: BURST,
            refilled: now,
            untold: 0,
        }
    }

    /// Whether one more line is shown, and how many before it were not.
    fn next(&mut self, now: Duration) -> Option<u64> {
        let seconds = now.saturating_sub(self.refilled).as_secs();
        self.refilled += Duration::from_secs(seconds);
        let more = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(more).min(BURST);
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Some(std::mem::take(&mut self.untold))
            }
            None => {
                self.untold += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_shown_line_by_line_and_counted() {
        let mut turns = Turns::new(Duration::ZERO);
        let shown = (0..10_000).filter(|_| turns.next(Duration::ZERO).is_some());
        assert_eq!(shown.count(), 50);
        let later = Duration::from_millis(2_500);
        assert_eq!(turns.next(later), Some(9_950));
        assert_eq!(turns.next(later), Some(0));
        assert_eq!(turns.next(later), None);
    }

    #[test]
    fn a_secret_that_it_repeats_is_not_shown() {
        let secret = Secret::new(b"hunter2".to_vec());
        let voice = Voice::new("p", vec![("token".to_owned(), secret)]);
        assert_eq!(voice.shown("token=hunter2;", 100), "token=(secret);");
    }
}
