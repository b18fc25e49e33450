//! TXT values as hosts write them: bare, or as character-strings in quotes (RFC 1035 section 5.1).

/// The longest character-string (RFC 1035 section 3.3).
const LONGEST_STRING: usize = 255;

/// `value` in quotes, in as many character-strings as it needs.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    let mut length = 0;
    for c in value.chars() {
        if length + c.len_utf8() > LONGEST_STRING {
            text.push_str("\" \"");
            length = 0;
        }
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
        length += c.len_utf8();
    }
    text.push('"');
    text
}

/// The value that `text` stands for: one that begins with a quote is made of character-strings, any other is the value
/// itself. Hosts that keep values bare have quoted ones too, written by people or by their own forms.
pub(super) fn value_of(text: &str) -> String {
    unquoted(text.trim()).unwrap_or_else(|| text.to_owned())
}

fn unquoted(text: &str) -> Option<String> {
    let mut rest = text;
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        rest = rest.strip_prefix('"')?;
        loop {
            let mut chars = rest.chars();
            match chars.next()? {
                '"' => {
                    rest = chars.as_str().trim_start();
                    break;
                }
                '\\' => rest = escaped(chars.as_str(), &mut bytes)?,
                c => {
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = chars.as_str();
                }
            }
        }
    }
    if text.is_empty() {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What follows a backslash: three digits are an octet, anything else is itself. Gives what comes after.
fn escaped<'t>(rest: &'t str, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let digits = rest
        .get(..3)
        .filter(|it| it.bytes().all(|b| b.is_ascii_digit()));
    if let Some(digits) = digits {
        bytes.push(digits.parse().ok()?);
        return rest.get(3..);
    }
    let c = rest.chars().next()?;
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    rest.get(c.len_utf8()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_again() {
        let long = "é".repeat(300);
        for value in ["plain", "", "a \"b\" \\ c", "ends in \\", long.as_str()] {
            assert_eq!(value_of(&quoted(value)), value);
        }
        assert_eq!(
            quoted(&"x".repeat(256)),
            format!("\"{}\" \"x\"", "x".repeat(255))
        );
    }

    #[test]
    fn reads_what_hosts_write() {
        assert_eq!(
            value_of("bare; \"with\" \\ quotes"),
            "bare; \"with\" \\ quotes"
        );
        assert_eq!(value_of("\"two\"  \"strings\""), "twostrings");
        assert_eq!(value_of("\"\\195\\169\\\"\""), "é\"");
        assert_eq!(value_of("\"unfinished"), "\"unfinished");
        assert_eq!(value_of("\"a\" b"), "\"a\" b");
        assert_eq!(value_of("\"\\999\""), "\"\\999\"");
        assert_eq!(value_of(""), "");
    }
}
