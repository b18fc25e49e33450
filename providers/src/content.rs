//! TXT content as several APIs have it: character-strings in quotes (RFC 1035 section 5.1), or, from people and older days,
//! without.

/// The longest character-string (RFC 1035 section 3.3).
const LONGEST: usize = 255;

/// `value` as content: quoted, in as many character-strings as it takes.
pub(crate) fn quoted(value: &str) -> String {
    let mut strings: Vec<String> = value.as_bytes().chunks(LONGEST).map(string).collect();
    if strings.is_empty() {
        strings.push(string(&[]));
    }
    strings.join(" ")
}

fn string(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for &octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(octet)]),
            b' '..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("\\{octet:03}")),
        }
    }
    text.push('"');
    text
}

/// The value that `content` stands for: its character-strings joined. What is not in quotes from its first to its last
/// character is the value itself.
pub(crate) fn value(content: &str) -> String {
    match joined(content.trim()) {
        Some(octets) => String::from_utf8_lossy(&octets).into_owned(),
        None => content.to_owned(),
    }
}

/// `None` unless all of it is character-strings in quotes.
fn joined(content: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(content.len());
    let mut rest = content.as_bytes();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        rest = rest.strip_prefix(b"\"")?;
        loop {
            let (&first, after) = rest.split_first()?;
            rest = after;
            match first {
                b'"' => break,
                b'\\' => {
                    let (octet, after) = escaped(rest)?;
                    octets.push(octet);
                    rest = after;
                }
                octet => octets.push(octet),
            }
        }
        rest = rest.trim_ascii_start();
    }
    Some(octets)
}

/// The octet after a backslash: three digits, or the character itself.
fn escaped(rest: &[u8]) -> Option<(u8, &[u8])> {
    if let Some((digits, after)) = rest.split_at_checked(3)
        && digits.iter().all(u8::is_ascii_digit)
    {
        let number = digits
            .iter()
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
        return Some((u8::try_from(number).ok()?, after));
    }
    rest.split_first().map(|(&octet, after)| (octet, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_back_as_it_was() {
        let long = "x".repeat(600);
        for text in ["", "plain", "a \"b\" \\ c;,", "\"", "\\", "ä\u{7f}", &long] {
            assert_eq!(value(&quoted(text)), text, "{}", quoted(text));
        }
        assert_eq!(quoted(&long).matches('"').count(), 6);
    }

    #[test]
    fn every_form_of_one_value_is_that_value() {
        for content in ["ab", "\"ab\"", "\"a\" \"b\"", "\"a\"\"b\"", " \"a\\098\" "] {
            assert_eq!(value(content), "ab", "{content}");
        }
    }

    #[test]
    fn what_is_not_wholly_in_quotes_is_taken_as_it_stands() {
        for content in [
            "v=spf1 \"-all\"",
            "\"open",
            "\"a\" b",
            "\"",
            "\"a\\",
            "\"\\999\"",
            "a\\098",
        ] {
            assert_eq!(value(content), content);
        }
    }
}
