//! What reads well, and can be nothing but a mistake: with it the manifest would do less than its author believes.

use serde_json::Value;

use super::ManifestError;
use super::check_parts::{Checked, wrong};
use super::form::Kind;
use super::plan::{Change, Manifest, Meaning};
use super::template::{Body, Part, Template};

/// Every status that HTTP has (RFC 9110 section 15).
const STATUS: std::ops::RangeInclusive<u16> = 100..=599;
/// What says of which type a record is.
const TYPE: &str = "type";

/// The first mistake of `manifest`.
pub(super) fn find(manifest: &Manifest) -> Checked<()> {
    if manifest.name.trim().is_empty() {
        return wrong("name", "it is empty, wanted is what the host is called");
    }
    secrets(manifest)?;
    if manifest.rate.is_some_and(|it| it.burst == 0) {
        return wrong("rate", "`burst` is 0, wanted is at least 1");
    }
    if let (Some(least), Some(most)) = (manifest.ttl.least, manifest.ttl.most)
        && least > most
    {
        let why = format!("`least` is {least} and `most` is {most}: no TTL is both");
        return wrong("ttl", why);
    }
    if let Some(none) = manifest.records.listing.none {
        status("records.none", none)?;
    }
    for meaning in &manifest.errors.map {
        refusal(meaning)?;
    }
    types(manifest)
}

/// A secret that no request carries: most often its braces were forgotten.
fn secrets(manifest: &Manifest) -> Checked<()> {
    let auth = &manifest.auth;
    let pairs = auth.query.iter().chain(&auth.body).map(|it| &it.1);
    let basic = auth.basic.iter().flat_map(|(user, word)| [user, word]);
    let headers = auth.headers.iter().map(|it| &it.1);
    let used: Vec<&Template> = headers.chain(basic).chain(pairs).collect();
    let is_used = |secret: &str| used.iter().any(|it| it.names().any(|name| name == secret));
    match manifest.secrets().find(|it| !is_used(it)) {
        None => Ok(()),
        Some(unused) => Err(ManifestError {
            line: None,
            message: format!("`secrets`: `{unused}` goes into no request: `auth` does not name it"),
            hint: Some(format!(
                "write `{{{unused}}}`, with the braces, in `auth`, e.g. bearer: \"{{{unused}}}\""
            )),
        }),
    }
}

fn status(at: &str, status: u16) -> Checked<()> {
    match STATUS.contains(&status) {
        true => Ok(()),
        false => wrong(at, format!("{status} is no status: HTTP has 100 to 599")),
    }
}

fn refusal(meaning: &Meaning) -> Checked<()> {
    let Some(seen) = meaning.status else {
        return Ok(());
    };
    status("errors.map", seen)?;
    // Alone these say nothing of whether it was so already: they also come for a wrong credential, a wrong request and a
    // host that is out of order. 404, 409, 410, 412 and 422 are how some hosts say it.
    let says_nothing = matches!(seen, 100..=401 | 403 | 429 | 500..);
    if meaning.kind == Kind::Done
        && meaning.code.is_none()
        && meaning.says.is_none()
        && says_nothing
    {
        return Err(ManifestError {
            line: None,
            message: format!(
                "`errors.map`: every refusal with {seen} would be `done`, as if the change were made"
            ),
            hint: Some("add `code` or `says`, so that the entry is about one refusal".to_owned()),
        });
    }
    Ok(())
}

/// A record that is added as one type and looked for as another is never seen again.
fn types(manifest: &Manifest) -> Checked<()> {
    let (at, adds) = match &manifest.change {
        Change::Value { create, .. } => ("create", create),
        Change::Set { write, .. } => ("write", write),
    };
    let only = &manifest.records.listing.only;
    let looked = only.iter().find(|(way, _)| {
        let key = way.last_key();
        key.is_some_and(|key| key.eq_ignore_ascii_case(TYPE))
    });
    let (Some((_, looked)), Some(body)) = (looked, &adds.body) else {
        return Ok(());
    };
    let mut added = Vec::new();
    constants(body, &mut added);
    let differs = |it: &Value| match (it, looked) {
        (Value::String(it), Value::String(looked)) => !it.eq_ignore_ascii_case(looked),
        (Value::Number(it), Value::Number(looked)) => it != looked,
        // A host may take the name of a type and tell its number.
        _ => false,
    };
    match added.iter().find(|it| differs(it)) {
        None => Ok(()),
        Some(added) => wrong(
            at,
            format!("the type is {added}, and `records.where` looks for {looked} only"),
        ),
    }
}

/// What stands in a body as the type of a record, without names in it.
fn constants(body: &Body, found: &mut Vec<Value>) {
    match body {
        Body::Object(object) => {
            for (key, inner) in object {
                match inner {
                    Body::Fixed(value) if key.eq_ignore_ascii_case(TYPE) => {
                        found.push(value.clone());
                    }
                    Body::Text(Template(parts)) if key.eq_ignore_ascii_case(TYPE) => {
                        if let [Part::Text(text)] = &parts[..] {
                            found.push(Value::String(text.clone()));
                        }
                    }
                    inner => constants(inner, found),
                }
            }
        }
        Body::List(list) => list.iter().for_each(|it| constants(it, found)),
        Body::Each(inner) | Body::EachValue(inner) => constants(inner, found),
        Body::Fixed(_) | Body::Text(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = include_str!("../../../config/own-dns.yaml");

    /// The example with a part replaced.
    fn read(was: &str, is: &str) -> Result<Manifest, ManifestError> {
        let text = OWN.replace(was, is);
        assert_ne!(text, OWN, "{was}");
        Manifest::read(&text)
    }

    #[test]
    fn what_can_only_be_a_mistake_is_named() {
        let auth = "auth: {header: {X-Auth: \"Token {token}\"}}";
        let done = "{code: duplicate, kind: done}";
        let mistakes = [
            ("name: Own DNS", "name: \" \"", "`name`: it is empty"),
            (
                auth,
                "auth: {bearer: token}",
                "`token` goes into no request",
            ),
            (auth, "auth: {}", "`token` goes into no request"),
            ("burst: 10", "burst: 0", "`rate`: `burst` is 0"),
            (
                "{least: 60}",
                "{least: 60, most: 30}",
                "`ttl`: `least` is 60 and `most` is 30",
            ),
            (done, "{status: 503, kind: done}", "every refusal with 503"),
            (done, "{status: 400, kind: done}", "every refusal with 400"),
            (done, "{status: 401, kind: done}", "every refusal with 401"),
            (done, "{status: 403, kind: done}", "every refusal with 403"),
            (
                done,
                "{status: 700, kind: fatal}",
                "`errors.map`: 700 is no status",
            ),
            (
                "  label: /owner",
                "  none: 40\n  label: /owner",
                "`records.none`: 40 is no status",
            ),
            (
                "type: TXT, text",
                "type: CNAME, text",
                "`create`: the type is \"CNAME\", and `records.where` looks for \"TXT\" only",
            ),
            (
                "https://dns",
                "https://me:hidden@dns",
                "`endpoint`: the address of an API has no user name",
            ),
            (
                "/api",
                "/api?v=1",
                "`endpoint`: the address of an API has no",
            ),
        ];
        for (was, is, wanted) in mistakes {
            let error = read(was, is).unwrap_err();
            assert!(error.message.contains(wanted), "{is}: {error}");
            assert!(!error.message.contains("hidden"), "{error}");
        }
        let forgotten = read(auth, "auth: {bearer: token}").unwrap_err();
        let hint = forgotten.hint.unwrap();
        assert!(hint.contains("bearer: \"{token}\""), "{hint}");
    }

    #[test]
    fn what_a_host_may_really_do_is_taken() {
        let done = "{code: duplicate, kind: done}";
        for is in [
            "{status: 404, kind: done}",
            "{status: 409, kind: done}",
            "{status: 422, kind: done}",
            "{status: 400, says: Duplicate, kind: done}",
            "{status: 500, code: duplicate, kind: done}",
        ] {
            assert_eq!(read(done, is).err(), None, "{is}");
        }
        assert_eq!(read("{least: 60}", "{least: 60, most: 60}").err(), None);
        let numbered = read("where: {/type: TXT}", "where: {/type: 16}");
        assert_eq!(numbered.err(), None, "a host may tell the type's number");
        let written = read("where: {/type: TXT}", "where: {/type: txt}");
        assert_eq!(written.err(), None);
    }
}
