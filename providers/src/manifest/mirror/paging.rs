//! Which part of a long list a request gets, and how it learns of the next one.

use serde_json::{Value, json};

use crate::manifest::plan::{Key, Paging, Until};
use crate::manifest::pointer::text;

use super::inverse::Incoming;

/// How many items a page has, where the manifest does not rely on it.
const SIZE: usize = 50;
/// Where the number of a page stands in a link of ours.
const OWN: &str = "virtual-page";

/// How many items a page has.
pub(super) fn size(paging: Option<&Paging>) -> Option<usize> {
    match paging? {
        Paging::Count {
            until: Until::Short(size),
            ..
        } => Some(*size),
        _ => Some(SIZE),
    }
}

/// The key that a body has besides, for the page.
pub(super) fn body_key(paging: Option<&Paging>) -> Option<&str> {
    match paging? {
        Paging::Count {
            key: Key::Body(key),
            ..
        }
        | Paging::Cursor {
            key: Key::Body(key),
            ..
        } => Some(key),
        _ => None,
    }
}

/// One page.
pub(super) struct Page {
    /// Which of the items are on it.
    pub(super) first: usize,
    pub(super) size: usize,
    number: usize,
    pages: usize,
}

impl Page {
    /// The page that `incoming` asks for, of `items`; the only one where there is no paging.
    pub(super) fn of(paging: Option<&Paging>, incoming: &Incoming, items: usize) -> Self {
        let size = size(paging).unwrap_or(items.max(1));
        let asked = |key: &Key| match key {
            Key::Query(key) => query(incoming, key),
            Key::Body(key) => incoming.body.get(key).and_then(text),
        };
        let number = match paging {
            None => None,
            Some(Paging::Count {
                key, from, step, ..
            }) => {
                let at = asked(key).and_then(|it| it.parse::<u64>().ok());
                at.and_then(|at| Some(at.checked_sub(*from)? / step))
            }
            Some(Paging::Cursor { key, .. }) => {
                asked(key).and_then(|it| it.strip_prefix("page-")?.parse().ok())
            }
            Some(Paging::Link(_) | Paging::LinkHeader(_)) => {
                query(incoming, OWN).and_then(|it| it.parse().ok())
            }
        };
        let number = number.and_then(|it| usize::try_from(it).ok()).unwrap_or(0);
        Self {
            first: number.saturating_mul(size),
            size,
            number,
            pages: items.div_ceil(size).max(1),
        }
    }

    /// Says in `reply` that there are more, if there are; what the header `Link` says. `None`: there is no room for it.
    pub(super) fn tell(
        &self,
        paging: Option<&Paging>,
        incoming: &Incoming,
        reply: &mut Value,
    ) -> Option<Option<String>> {
        let has_more = self.number + 1 < self.pages;
        let done = |is_put: bool| is_put.then_some(None);
        match paging {
            None => Some(None),
            Some(Paging::Count {
                until: Until::Short(_),
                ..
            }) => Some(None),
            Some(Paging::Count {
                until: Until::Count(way),
                key: _,
                from,
                step,
            }) => {
                // The number of the last page, as the manifest counts.
                let last = (self.pages as u64 - 1)
                    .checked_mul(*step)?
                    .checked_add(*from)?;
                done(way.put(reply, json!(last)))
            }
            Some(Paging::Count {
                until: Until::No(way),
                ..
            }) => done(!has_more || way.put(reply, json!(true))),
            Some(Paging::Cursor { at, .. }) => {
                let next = if has_more {
                    format!("page-{}", self.number + 1)
                } else {
                    String::new()
                };
                done(at.put(reply, json!(next)))
            }
            Some(Paging::Link(at)) => done(!has_more || at.put(reply, json!(self.link(incoming)))),
            Some(Paging::LinkHeader(relation)) => {
                let header = || format!("<{}>; rel=\"{relation}\"", self.link(incoming));
                Some(has_more.then(header))
            }
        }
    }

    /// The next page, relative to this one.
    fn link(&self, incoming: &Incoming) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let kept = incoming.query.iter().filter(|it| it.0 != OWN);
        query.extend_pairs(kept);
        query.append_pair(OWN, &(self.number + 1).to_string());
        format!("?{}", query.finish())
    }
}

fn query(incoming: &Incoming, key: &str) -> Option<String> {
    // The last one counts: what is added for a page stands after what the manifest says.
    let pairs = incoming.query.iter().rev();
    pairs.filter(|it| it.0 == key).map(|it| it.1.clone()).next()
}
