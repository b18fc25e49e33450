//! Prometheus's text format 0.0.4, for what is known only when it is looked at: thousands of gauges, written once.

use std::fmt::{Display, Write as _};

/// A text that grows.
#[derive(Default)]
pub(super) struct Text(String);

/// One family of gauges being written.
pub(super) struct Gauges<'a> {
    name: &'a str,
    text: &'a mut String,
}

impl Text {
    /// Begins a family of gauges.
    pub(super) fn gauges<'a>(&'a mut self, name: &'a str, help: &str) -> Gauges<'a> {
        let text = &mut self.0;
        // A `String` takes whatever is written to it.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        Gauges { name, text }
    }

    /// One gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.gauges(name, help).sample(&[], value);
    }

    /// Adds what is in the format already.
    pub(super) fn push(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// All of it.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Gauges<'_> {
    /// One line.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(self.name);
        for (nth, (label, content)) in labels.iter().enumerate() {
            self.text.push(if nth == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for character in content.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_says_stays_inside_it() {
        let mut text = Text::default();
        let mut gauges = text.gauges("a_seconds", "Some time.");
        gauges.sample(&[("x", "1\"} 2\n\\"), ("y", "é")], 1.5);
        text.gauge("b", "One.", 1);
        let wanted = "# HELP a_seconds Some time.\n# TYPE a_seconds gauge\na_seconds{x=\"1\\\"} 2\\n\\\\\",y=\"é\"} 1.5\n# HELP b One.\n# TYPE b gauge\nb 1\n";
        assert_eq!(text.finish(), wanted);
    }
}
