//! Words of others and of errors, made fit for one line that a person reads.

use std::error::Error;
use std::fmt::Display;
use std::io;

/// A sentence names so many things and counts the rest.
const SHOWN: usize = 3;

/// `text` on one line without control characters, at most `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    let mut words = String::new();
    for word in text
        .split(|c: char| c.is_whitespace() || !is_visible(c))
        .filter(|word| !word.is_empty())
    {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        // Enough to know that it is too long; the rest of a huge text need not be walked.
        if words.len() > max * 4 {
            break;
        }
    }
    match words.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// Not a control character, and none that turns the direction of what follows on a terminal.
fn is_visible(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// The first error of type `E` among the causes; `io::Error` hides what it wraps from `source`.
pub fn find<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// `words` in small letters and without `names`, which say nothing of what is the matter.
pub fn without_names(words: &str, names: &[&str]) -> String {
    let small = words.to_ascii_lowercase();
    let names = names.iter().map(|name| name.to_ascii_lowercase());
    // What could be a word of a sentence is left where it is.
    let names = names.filter(|name| name.contains(['.', '_']));
    names.fold(small, |words, name| words.replace(&name, ""))
}

/// All causes in words, outermost first.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}

/// The innermost cause in words.
pub fn innermost(error: &dyn Error) -> String {
    let mut innermost = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        innermost = error.to_string();
        next = error.source();
    }
    innermost
}

/// The first few, and how many more there are.
pub fn listed<T: Display>(all: &[T]) -> String {
    let shown: Vec<String> = all.iter().take(SHOWN).map(T::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_sentence_says_nothing() {
        let names = [
            "_acme-challenge.cname.quota.test",
            "_acme-challenge.cname",
            "quota.test",
        ];
        let words = "Zone QUOTA.test has no _acme-challenge.cname, a service";
        let left = "zone  has no , a service";
        assert_eq!(without_names(words, &names), left);
        assert_eq!(without_names("a service", &["service"]), "a service");
    }

    #[test]
    fn names_three_and_counts_the_rest() {
        assert_eq!(listed(&["a", "b", "c"]), "a, b, c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
