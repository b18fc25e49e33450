//! Text of the program, compared with a file of the project: without what differs from run to run.

use std::path::{Path, PathBuf};

/// Set in the environment, it makes the tests write what they would compare.
const UPDATE: &str = "UPDATE";

/// The folder of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with a golden file, or writes it.
#[allow(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says so in the environment"
)]
pub fn golden(file: &Path, text: &str) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file, text).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(file).unwrap_or_default();
    let name = file.strip_prefix(root()).unwrap_or(file).display();
    assert_eq!(
        text, wanted,
        "{name} is stale; write it anew with `{UPDATE}=1 cargo test --test all` and look at the difference"
    );
}

/// Without what differs from run to run.
pub fn normal(text: &str, directory: &Path) -> String {
    let text = text.replace(&*directory.to_string_lossy(), "DIR");
    let text = mask(&text, "9999-99-99 99:99:99 UTC", "TIME");
    let text = mask(&text, "9999-99-99T99:99:99Z", "TIME");
    let text = mask(&text, "9999-99-99", "DAY");
    let text = number_after(&text, "127.0.0.1:", "PORT");
    let text = number_after(&text, "[::1]:", "PORT");
    let text = number_after(&text, "on port ", "PORT");
    let text = number_after(&text, "process ", "PID");
    // A second may pass between the signature and the look at it.
    text.replace("4001 s", "4000 s")
}

/// Replaces what looks like `pattern`, in which 9 is any digit.
pub fn mask(text: &str, pattern: &str, with: &str) -> String {
    let fits = |rest: &str| {
        let mut rest = rest.bytes();
        pattern.bytes().all(|wanted| {
            let seen = rest.next();
            seen.is_some_and(|seen| match wanted {
                b'9' => seen.is_ascii_digit(),
                _ => seen == wanted,
            })
        })
    };
    let mut masked = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if fits(rest) {
            masked += with;
            rest = &rest[pattern.len()..];
        } else {
            masked.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    masked
}

/// Replaces the number after each `before`.
fn number_after(text: &str, before: &str, with: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = if rest.len() < part.len() { with } else { "" };
        format!("{text}{before}{number}{rest}")
    })
}
