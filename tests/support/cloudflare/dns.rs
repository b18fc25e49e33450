//! A zone as its nameservers give it, and a DNS server that reads it from the API.

use serde_json::Value;

/// What the API calls automatic.
const AUTOMATIC: u32 = 300;

/// A DNS server before the API.
pub struct Bridge;

/// The values and the TTL of the TXT RRset at `name`; servers give all records of one RRset the least TTL.
pub(super) fn txt(records: &[Value], name: &str) -> (Vec<String>, Option<u32>) {
    let here = |record: &&Value| record["type"] == "TXT" && record["name"] == name;
    let here: Vec<&Value> = records.iter().filter(here).collect();
    let ttl = |record: &&Value| match record["ttl"].as_u64().unwrap_or_default() as u32 {
        1 => AUTOMATIC,
        ttl => ttl,
    };
    let content = |record: &&Value| plain(record["content"].as_str().unwrap_or_default());
    (
        here.iter().map(content).collect(),
        here.iter().map(ttl).min(),
    )
}

/// Without the quotes of its character-strings, if it has any.
fn plain(content: &str) -> String {
    if !content.starts_with('"') {
        return content.to_owned();
    }
    let (mut text, mut inside) = (String::new(), false);
    let mut rest = content.chars();
    while let Some(next) = rest.next() {
        match next {
            '"' => inside = !inside,
            '\\' => text.extend(rest.next()),
            _ if inside => text.push(next),
            _ => {}
        }
    }
    text
}
