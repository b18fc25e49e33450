//! Standard output and standard error as people see them: lines that never fail, colours, widths.
//!
//! A reader that has gone away is no error of ours: what cannot be written is dropped. Any other failure, a full disk for
//! one, is kept until the end of the command ([`unwritten`]).

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

/// Narrower terminals are treated like this one.
const NARROWEST: usize = 40;

/// The column of names is at least so wide when a name is so long.
const LONGEST_NAME: usize = 24;
/// Where nothing limits a line, tables are made for so many columns.
const WIDEST: usize = 140;
/// Brackets with more in them are broken like other text.
const SHORT: usize = 24;
/// Lines around a table: its head, what is said below, and the prompt.
const MARGIN: usize = 5;
/// Lower terminals are treated like this one.
const FEWEST_LINES: usize = 10;

/// Why standard output did not take a line, the first time that it did not. There is one standard output.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Writes a line to standard output; whether anybody reads on.
pub(super) fn out(line: impl AsRef<str>) -> bool {
    let mut stdout = io::stdout().lock();
    let line = line.as_ref();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    match written {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                // The first one says it.
                let _ = UNWRITTEN.set(error.to_string());
            }
            false
        }
    }
}

/// What is missing from standard output, and why: a sentence.
pub(super) fn unwritten() -> Option<String> {
    let why = UNWRITTEN.get()?;
    Some(format!("standard output is not whole: {why}"))
}

/// Writes a line to standard error.
pub(super) fn complain(line: impl AsRef<str>) {
    // Nobody is left to hear that this failed.
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}

/// What standard output is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// Whether lines can be painted over.
    pub(super) is_live: bool,
    /// Whether colours are wanted.
    pub(super) has_colour: bool,
    /// Columns; `None` where nothing limits a line.
    pub(super) width: Option<usize>,
    /// Rows.
    pub(super) height: usize,
}

impl Screen {
    /// As it is now.
    pub(super) fn look() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let is_live = is_terminal && variable("TERM").is_some_and(|term| term != "dumb");
        let size = console::Term::stdout().size_checked();
        let (height, width) = size.unwrap_or((24, 80));
        Self {
            is_live,
            has_colour: is_live && variable("NO_COLOR").is_none_or(|value| value.is_empty()),
            width: is_terminal.then(|| usize::from(width).max(NARROWEST)),
            height: height.into(),
        }
    }

    /// How many lines of a long table a person sees at once; `otherwise` where there is no terminal.
    pub(super) fn lines(&self, otherwise: usize) -> usize {
        match self.width {
            Some(_) => self.height.saturating_sub(MARGIN).max(FEWEST_LINES),
            None => otherwise,
        }
    }

    /// How wide a column of names may be: where one is longer, it shifts its own line only.
    pub(super) fn name_column<'n>(&self, names: impl Iterator<Item = &'n str>) -> usize {
        let most = self.width.unwrap_or(WIDEST) * 3 / 10;
        let longest = names.map(str::len).max().unwrap_or(0);
        longest.clamp("NAME".len(), most.max(LONGEST_NAME))
    }

    /// For what went well.
    pub(super) fn good(&self, text: &str) -> String {
        self.paint("32", text)
    }

    /// For what needs a look.
    pub(super) fn warn(&self, text: &str) -> String {
        self.paint("33", text)
    }

    /// For what failed.
    pub(super) fn bad(&self, text: &str) -> String {
        self.paint("31", text)
    }

    /// For what matters most.
    pub(super) fn strong(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// For what may be overlooked.
    pub(super) fn faint(&self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.has_colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Breaks `text` between words so that it fits, every line but the first after `indent` spaces; the first one
    /// begins after `used` columns. Words that are longer than a line stay whole, so that they can be copied, and so
    /// do a few words in brackets.
    pub(super) fn wrap(&self, text: &str, used: usize, indent: usize) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        let mut wrapped = String::new();
        let mut column = used;
        for word in pieces(text) {
            let length = console::measure_text_width(&word);
            if !wrapped.is_empty() && column + 1 + length > width {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                column = indent;
            } else if !wrapped.is_empty() {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(&word);
            column += length;
        }
        wrapped
    }
}

/// The words of `text`; those in brackets are one, where they are few.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match pieces.last_mut() {
            Some(last) if is_open(last) && last.len() + word.len() < SHORT => {
                last.push(' ');
                last.push_str(word);
            }
            _ => pieces.push(word.to_owned()),
        }
    }
    pieces
}

/// Whether it begins with a bracket that it does not close.
fn is_open(piece: &str) -> bool {
    let closes = |with: char| !piece.contains(with);
    match piece.chars().next() {
        Some('(') => closes(')'),
        Some('[') => closes(']'),
        _ => false,
    }
}

/// Fills `text` up to `width` columns.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(console::measure_text_width(text));
    format!("{text}{}", " ".repeat(missing))
}

#[allow(
    clippy::disallowed_methods,
    reason = "what a terminal can do is said by the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(width: usize) -> Screen {
        Screen {
            is_live: false,
            has_colour: false,
            width: Some(width),
            height: 24,
        }
    }

    #[test]
    fn breaks_between_words_and_keeps_long_ones_whole() {
        let text = screen(20).wrap("the order failed, see https://long.example/page", 4, 2);
        assert_eq!(
            text,
            "the order\n  failed, see\n  https://long.example/page"
        );
    }

    #[test]
    fn few_words_in_brackets_stay_together() {
        let text = screen(20).wrap("a name is unknown [your move]; (1.2 s)", 0, 0);
        assert_eq!(text, "a name is unknown\n[your move]; (1.2 s)");
        let long = "(words that go on and on, and never come to an end)";
        assert!(screen(40).wrap(long, 0, 0).contains('\n'));
    }

    #[test]
    fn a_file_has_no_width() {
        let mut screen = screen(20);
        screen.width = None;
        let long = "word ".repeat(50);
        assert_eq!(screen.wrap(&long, 0, 2), long);
    }
}
