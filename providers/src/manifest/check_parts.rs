//! The parts of a manifest that need nothing else to be checked: ways into replies, refusals and paging.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::ManifestError;
use super::form;
use super::plan::{Errors, Key, Meaning, Paging, Until};
use super::pointer::Pointer;

/// What a check gives.
pub(super) type Checked<T> = Result<T, ManifestError>;

/// What stands at `at` is wrong.
pub(super) fn wrong<T>(at: &str, why: impl fmt::Display) -> Checked<T> {
    Err(ManifestError::new(format!("`{at}`: {why}")))
}

pub(super) fn pointer(at: &str, text: &str) -> Checked<Pointer> {
    Pointer::parse(text).or_else(|why| wrong(at, why))
}

pub(super) fn pointers(at: &str, texts: &[String]) -> Checked<Vec<Pointer>> {
    texts.iter().map(|it| pointer(at, it)).collect()
}

pub(super) fn constants(
    at: &str,
    constants: BTreeMap<String, Value>,
) -> Checked<Vec<(Pointer, Value)>> {
    let constants = constants
        .into_iter()
        .map(|(way, value)| Ok((pointer(at, &way)?, value)));
    constants.collect()
}

pub(super) fn errors(errors: form::Errors) -> Checked<Errors> {
    let map = errors.map.into_iter().map(|it| {
        if it.status.is_none() && it.code.is_none() && it.says.is_none() {
            return wrong(
                "errors.map",
                "one of `status`, `code` and `says` tells a refusal from others",
            );
        }
        Ok(Meaning {
            status: it.status,
            code: it.code,
            says: it.says,
            kind: it.kind,
            hint: it.hint,
        })
    });
    Ok(Errors {
        map: map.collect::<Checked<_>>()?,
        code: pointers("errors.code", &errors.code)?,
        message: pointers("errors.message", &errors.message)?,
    })
}

/// No host gives more items on a page.
const LARGEST_PAGE: usize = 10_000;

pub(super) fn paging(at: &str, paging: form::Paging) -> Checked<Paging> {
    let ways = [
        paging.more.is_some(),
        paging.pages.is_some(),
        paging.size.is_some(),
    ];
    let ways = ways.into_iter().filter(|it| *it).count();
    let counts = paging.from.is_some() || paging.step.is_some() || ways > 0;
    let key = match (paging.query, paging.body) {
        (Some(query), None) => Some(Key::Query(query)),
        (None, Some(body)) => Some(Key::Body(body)),
        (None, None) => None,
        _ => {
            return wrong(
                at,
                "`query` and `body` say where the page goes, and it goes into one of them",
            );
        }
    };
    match (key, paging.cursor, paging.link) {
        (None, None, None) if !counts && paging.link_header.is_some() => {
            Ok(Paging::LinkHeader(paging.link_header.unwrap_or_default()))
        }
        _ if paging.link_header.is_some() => wrong(at, "with `link-header` comes nothing else"),
        (None, None, Some(link)) if !counts => Ok(Paging::Link(pointer(at, &link)?)),
        (Some(key), Some(cursor), None) if !counts => {
            let at = pointer(at, &cursor)?;
            Ok(Paging::Cursor { key, at })
        }
        (Some(key), None, None) if ways == 1 => {
            let until = match (paging.more, paging.pages, paging.size) {
                (Some(more), ..) => Until::No(pointer(at, &more)?),
                (_, Some(pages), _) => Until::Count(pointer(at, &pages)?),
                (.., Some(size)) if size > LARGEST_PAGE => {
                    let what = format!("`size` is {size}, wanted is at most {LARGEST_PAGE}");
                    return wrong(at, &what);
                }
                (.., size) => Until::Short(size.unwrap_or_default().max(1)),
            };
            let (from, step) = (paging.from.unwrap_or(1), paging.step.unwrap_or(1));
            if step == 0 {
                return wrong(at, "`step` is 0, wanted is at least 1");
            }
            Ok(Paging::Count {
                key,
                from,
                step,
                until,
            })
        }
        _ => wrong(
            at,
            "pages go on by `link` or `link-header`, by `query` and `cursor`, or by `query` and one of `more`, `pages` and `size`",
        ),
    }
}
