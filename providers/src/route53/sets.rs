//! TXT sets as Route 53 writes them, and what takes one from what it is to what it should be. Pure.
//!
//! A set is replaced as a whole: the old one is stated exactly, values and TTL, so that the replacement is refused when
//! somebody else changed it in between.

use crate::record::DnsName;
use crate::txt_set::{TxtSet, Written};

use super::xml::{Action, Record, RecordSet, Records, Step};

/// The longest character-string (RFC 1035 section 3.3).
const MAX_STRING: usize = 255;

/// A value as it stands in Route 53: character-strings in quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quoted(pub(super) String);

impl Written for Quoted {
    fn of(text: &str) -> Self {
        Self(quote(text))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&unquote(&self.0)).into_owned()
    }
}

/// A TXT set there.
pub(super) type Txt = TxtSet<Quoted>;

/// The steps that replace `before` by `after`, and that are refused unless `before` is what is there.
pub(super) fn replace(name: &DnsName, before: Option<Txt>, after: Option<Txt>) -> Vec<Step> {
    let step = |action, set: Txt| Step {
        action,
        resource_record_set: RecordSet {
            name: format!("{name}."),
            kind: "TXT".to_owned(),
            set_identifier: None,
            ttl: Some(set.ttl),
            resource_records: Records {
                all: (set.values.into_iter())
                    .map(|Quoted(value)| Record { value })
                    .collect(),
            },
        },
    };
    let delete = before.map(|set| step(Action::Delete, set));
    let create = after.map(|set| step(Action::Create, set));
    delete.into_iter().chain(create).collect()
}

/// `text` as character-strings in quotes; what is not printable ASCII as three octal digits.
fn quote(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    for string in text.as_bytes().chunks(MAX_STRING) {
        quoted.push_str(if quoted.is_empty() { "\"" } else { " \"" });
        for &byte in string {
            match byte {
                b'"' | b'\\' => {
                    quoted.push('\\');
                    quoted.push(char::from(byte));
                }
                b' '..=b'~' => quoted.push(char::from(byte)),
                _ => quoted.push_str(&format!("\\{byte:03o}")),
            }
        }
        quoted.push('"');
    }
    quoted
}

/// The octets that character-strings stand for, joined (RFC 8555 section 8.4). A word without quotes is one too.
fn unquote(value: &str) -> Vec<u8> {
    let mut octets = Vec::with_capacity(value.len());
    let mut in_quotes = false;
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\\' => {
                let (octet, after) = escaped(rest);
                octets.extend(octet);
                rest = after;
            }
            _ if !in_quotes && byte.is_ascii_whitespace() => {}
            _ => octets.push(byte),
        }
    }
    octets
}

/// What follows a backslash: three octal digits, or the character itself.
fn escaped(rest: &[u8]) -> (Option<u8>, &[u8]) {
    if let Some((digits, after)) = rest.split_first_chunk::<3>()
        && digits.iter().all(|digit| matches!(digit, b'0'..=b'7'))
        && digits[0] <= b'3'
    {
        let octet = digits.iter().fold(0, |sum, digit| sum * 8 + (digit - b'0'));
        return (Some(octet), after);
    }
    let first = rest.split_first();
    first.map_or((None, rest), |(&octet, after)| (Some(octet), after))
}

/// A name as Route 53 writes it, without its last dot and in lower case: `\052` for an asterisk, and so on.
pub(super) fn plain_name(name: &str) -> String {
    let octets = match name.contains('\\') {
        true => unescape_name(name.as_bytes()),
        false => name.as_bytes().to_vec(),
    };
    let name = String::from_utf8_lossy(&octets).to_ascii_lowercase();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}

fn unescape_name(mut rest: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' {
            let (octet, after) = escaped(rest);
            octets.extend(octet);
            rest = after;
        } else {
            octets.push(byte);
        }
    }
    octets
}

/// Whether `name` comes before `other` in every list of Route 53. It sorts by the labels from the last to the first; the
/// final dot counts too, so that a label that is the beginning of another may come on either side: that is no `true`.
pub(super) fn surely_before(name: &str, other: &str) -> bool {
    let labels = |name: &str| -> Vec<String> { name.rsplit('.').map(str::to_owned).collect() };
    let (name, other) = (labels(name), labels(other));
    let dotted = |labels: &[String]| labels.join(".") + ".";
    name < other && dotted(&name) < dotted(&other)
}

/// Whether a list that began at `first`, and goes on at `next` if it does, has come past `name`.
pub(super) fn has_passed(first: &str, next: Option<&str>, name: &str) -> bool {
    let has_begun = name == first || surely_before(first, name);
    has_begun && next.is_none_or(|next| surely_before(name, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> DnsName {
        DnsName::parse("_acme-challenge.example.test").unwrap()
    }

    fn set(ttl: u32, values: &[&str]) -> Option<Txt> {
        let values = values.iter().map(|&it| Quoted(it.to_owned())).collect();
        Some(Txt { ttl, values })
    }

    #[test]
    fn what_is_quoted_is_unquoted_to_itself() {
        let long = "x".repeat(600);
        let all = [
            "",
            "plain",
            "a\"b\\c",
            " both ends ",
            "\u{e9}\u{1f600}",
            "tab\tand\0nul",
            "\\052",
            &long,
        ];
        for text in all {
            assert_eq!(unquote(&quote(text)), text.as_bytes(), "{text:?}");
            assert!(quote(text).bytes().all(|b| (b' '..=b'~').contains(&b)));
        }
        assert_eq!(quote("a\"b\\c\u{e9}"), "\"a\\\"b\\\\c\\303\\251\"");
        assert_eq!(quote(&long).matches('"').count(), 6);
    }

    #[test]
    fn every_way_to_write_character_strings_is_read() {
        assert_eq!(unquote("\"a\" \"b c\""), b"ab c");
        assert_eq!(unquote("bare"), b"bare");
        assert_eq!(unquote("\"a\\052b\\\"\\\\\""), b"a*b\"\\");
        assert_eq!(unquote("\"\\777\\9\\"), b"7779");
        assert_eq!(unquote("\\"), b"");
    }

    #[test]
    fn a_replacement_states_the_old_set_and_a_first_write_is_a_plain_create() {
        let actions = |before, after| -> Vec<Action> {
            let steps = replace(&name(), before, after);
            steps.iter().map(|step| step.action).collect()
        };
        let (old, new) = (set(60, &["\"a\""]), set(60, &["\"a\"", "\"b\""]));
        assert_eq!(actions(None, new.clone()), [Action::Create]);
        assert_eq!(actions(old.clone(), None), [Action::Delete]);
        assert_eq!(actions(old, new), [Action::Delete, Action::Create]);
        assert_eq!(actions(None, None), []);
    }

    #[test]
    fn names_are_read_without_escapes_and_without_the_last_dot() {
        assert_eq!(plain_name("\\052.Example.test."), "*.example.test");
        assert_eq!(plain_name("a.test"), "a.test");
        assert_eq!(plain_name("a\\"), "a");
    }

    #[test]
    fn a_list_has_passed_only_what_lies_surely_between_its_ends() {
        assert!(has_passed("a.test", None, "a.test"));
        assert!(has_passed("a.test", None, "b.a.test"));
        assert!(has_passed("a.test", Some("c.test"), "b.test"));
        assert!(!has_passed("a.test", Some("c.test"), "c.test"));
        assert!(!has_passed("b.test", None, "a.test"));
        // It may come before a.test.
        assert!(!has_passed("a.test", None, "a-b.test"));
    }

    #[test]
    fn only_an_order_that_is_certain_is_taken_for_one() {
        assert!(surely_before("example.com", "www.example.com"));
        assert!(surely_before("a.example.com", "b.example.com"));
        assert!(!surely_before("www.example.com", "example.com"));
        assert!(!surely_before("example.com", "example.com"));
        // With the final dot, com.example-a. comes before com.example. and after it without.
        assert!(!surely_before("x.example.com", "example-a.com"));
        assert!(!surely_before("example-a.com", "x.example.com"));
    }
}
