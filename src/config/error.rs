//! What is said of a configuration that cannot be used: file, line, column, path, value, hint, and the line itself.

use std::fmt;
use std::path::PathBuf;

use super::problems;

/// More than this is not read by anybody; and to find each place costs a pass over the file.
pub(super) const SHOWN: usize = 20;
/// A longer line of the file is cut around the place meant, to fit a terminal.
const LINE_WIDTH: usize = 120;
/// Stands for what is not shown.
const HIDDEN: &str = "…";

/// Everything that was found wrong in one configuration: those that are shown in the order of the file, the rest
/// without their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// One thing wrong in a configuration. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which file.
    pub file: PathBuf,
    /// Where in it, if it could be read at all.
    pub place: Option<Place>,
    /// The keys on the way there, e.g. `certificates.example.names[1]`; empty for the file as a whole.
    pub path: String,
    /// The value seen, if it is a scalar and no secret.
    pub value: Option<String>,
    /// What is wrong, a sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The line, without what could be a secret.
    source: String,
    /// How many characters from `column` on are meant.
    width: usize,
}

impl Place {
    /// The place at `line` and `column` of `text`, `width` characters wide. With `hide`, the rest of the line is
    /// not kept.
    pub(super) fn of(text: &str, line: usize, column: usize, width: usize, hide: bool) -> Self {
        let full = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let mut source = without_secrets(full);
        if continues_a_secret(text, line) {
            source = HIDDEN.to_owned();
        }
        if hide {
            let kept: String = full.chars().take(column.saturating_sub(1)).collect();
            source = format!("{}{HIDDEN}", without_secrets(&kept));
        }
        let left = source
            .chars()
            .count()
            .saturating_sub(column.saturating_sub(1));
        Self {
            line,
            column,
            width: width.clamp(1, left.max(1)),
            source,
        }
    }

    fn snippet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let before = self.column.saturating_sub(1);
        let cut = (before + self.width).saturating_sub(LINE_WIDTH).min(before);
        let line: String = self.source.chars().skip(cut).take(LINE_WIDTH).collect();
        // Tabs stay tabs, so that the caret stands under its character.
        let indent: String = self
            .source
            .chars()
            .chain(std::iter::repeat(' '))
            .skip(cut)
            .take(before - cut)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(self.width.min(LINE_WIDTH));
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", printable(&line))?;
        write!(f, "{margin} | {indent}{carets}")
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", printable(&self.path))?;
        }
        write!(f, ": {}", printable(&self.message))?;
        if let Some(place) = &self.place {
            writeln!(f)?;
            place.snippet(f)?;
        }
        if let Some(value) = &self.value {
            write!(f, "\n  value: `{}`", printable(value))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {}", printable(hint))?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            error.fmt(f)?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for ConfigErrors {}

/// The line without what stands after a key that could hold a secret, and without the user and password of a URL.
/// `{` begins a source of a secret, which is shown.
pub(super) fn without_secrets(line: &str) -> String {
    if let Some(start) = line.find("://").map(|it| it + "://".len()) {
        let authority = line[start..].split(['/', ' ', ',', '"', '\'']).next();
        if authority.is_some_and(|it| it.contains('@')) {
            return format!("{}{HIDDEN}", &line[..start]);
        }
    }
    for (at, _) in line.match_indices(':') {
        let key = line[..at]
            .rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        let rest = line[at + 1..].trim_start();
        if problems::is_sensitive_key(key) && !rest.is_empty() && !rest.starts_with(['{', '#']) {
            return format!("{} {HIDDEN}", &line[..=at]);
        }
    }
    line.to_owned()
}

/// Whether a line is the rest of a value that could be a secret: it has no key, and a key that could hold one ends the
/// line before, or the nearest one with less indent.
fn continues_a_secret(text: &str, line: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines = text.lines().take(line).filter(|it| !it.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    let Some((this, above)) = lines.split_last().filter(|it| !it.0.contains(':')) else {
        return false;
    };
    let opens = |line: &str| {
        let key = line.trim_end().trim_end_matches(['|', '>', '-', '+', ' ']);
        let key = key.strip_suffix(':').unwrap_or_default();
        let key = key.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        key.into_iter()
            .find(|word| !word.is_empty())
            .is_some_and(problems::is_sensitive_key)
    };
    let outer = above.iter().rfind(|it| indent(it) < indent(this));
    let before = above.last();
    before.is_some_and(|it| opens(it)) || outer.is_some_and(|it| opens(it))
}

/// Control characters of the file do not reach the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, column: usize, width: usize, hide: bool) -> String {
        ConfigError {
            file: PathBuf::from("c.yaml"),
            place: Some(Place::of(text, 1, column, width, hide)),
            path: "a.b".to_owned(),
            value: None,
            message: "wrong".to_owned(),
            hint: None,
        }
        .to_string()
    }

    #[test]
    fn the_caret_stands_under_what_is_meant() {
        assert_eq!(
            shown("ä: [b]", 4, 3, false),
            "c.yaml:1:4: a.b: wrong\n  |\n1 | ä: [b]\n  |    ^^^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}needle{}", "x".repeat(400), "y".repeat(400));
        let text = shown(&line, 401, 6, false);
        assert!(text.contains("xneedle"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() < 130),
            "{text}"
        );
    }

    #[test]
    fn secrets_of_the_line_are_not_shown() {
        assert!(!shown("{name: x, secret: hunter2, zone: y}", 2, 4, false).contains("hunter2"));
        assert!(!shown("  - \"mac-key\": 'hunter2'", 3, 1, false).contains("hunter2"));
        assert!(!shown("tsig: hunter2", 7, 7, true).contains("hunter2"));
        assert!(!shown("a: https://u:hunter2@b/", 1, 1, false).contains("hunter2"));
        assert!(shown("secret: {file: /x}", 1, 1, false).contains("/x"));
    }

    #[test]
    fn a_secret_over_several_lines_is_not_shown() {
        let text = "a:\n  secret: |\n    hunter\n    hunter2\n  b: c\n";
        for line in 3..=4 {
            assert_eq!(Place::of(text, line, 5, 1, false).source, HIDDEN);
        }
        assert_eq!(Place::of(text, 5, 5, 1, false).source, "  b: c");
        let keys = "tsig:\n  name: k\n  keyfile\n";
        assert_eq!(Place::of(keys, 2, 3, 1, false).source, "  name: k");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!shown("a: \u{1b}[31m", 1, 1, false).contains('\u{1b}'));
    }
}
