//! From page to page of a long list.

use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;
use url::Url;

use crate::ProviderError;
use crate::http::{Reply, said};

use super::plan::{Key, Paging, Until};
use super::pointer::{number, text};
use super::session::{Filled, Session};

/// Which page is asked for.
pub(super) enum Page {
    Only,
    Count(Key, u64),
    Cursor(Key, String),
    Link(Vec<(String, String)>),
}

impl Page {
    pub(super) fn first(paging: Option<&Paging>) -> Self {
        match paging {
            Some(Paging::Count { key, from, .. }) => Self::Count(key.clone(), *from),
            _ => Self::Only,
        }
    }

    pub(super) fn put_into(&self, filled: &mut Filled) {
        let (key, at) = match self {
            Self::Only => return,
            Self::Link(pairs) => return filled.query.clone_from(pairs),
            Self::Count(key, at) => (key, at.to_string()),
            Self::Cursor(key, at) => (key, at.clone()),
        };
        match key {
            Key::Query(key) => filled.query.push((key.clone(), at)),
            Key::Body(key) => filled.put(key, at),
        }
    }
}

impl Session<'_> {
    /// The page after `page`, which was `reply`; none after the last.
    pub(super) fn next(
        &self,
        paging: Option<&Paging>,
        page: &Page,
        (head, reply): (&Reply, &Value),
        items: usize,
        path: &[String],
    ) -> Result<Option<Page>, ProviderError> {
        match (paging, page) {
            (
                Some(Paging::Count {
                    key, step, until, ..
                }),
                Page::Count(_, at),
            ) => {
                let goes_on = match until {
                    Until::No(way) => way.one(reply).is_some_and(is_something),
                    Until::Count(way) => way
                        .one(reply)
                        .and_then(number)
                        .is_some_and(|most| *at < most),
                    Until::Short(size) => items >= *size,
                };
                let next = at.checked_add(*step).filter(|_| goes_on);
                Ok(next.map(|next| Page::Count(key.clone(), next)))
            }
            (Some(Paging::Cursor { key, at }), _) => {
                let next = at.text_of(reply).filter(|it| !it.is_empty());
                Ok(next.map(|next| Page::Cursor(key.clone(), next)))
            }
            (Some(Paging::Link(at)), _) => {
                let link = at.text_of(reply).filter(|it| !it.is_empty());
                link.map(|link| self.follow(&link, path)).transpose()
            }
            (Some(Paging::LinkHeader(relation)), _) => {
                let link = link_header(&head.headers, relation);
                link.map(|link| self.follow(&link, path)).transpose()
            }
            _ => Ok(None),
        }
    }

    /// The next page is at the same place as this one: only its query is taken, so that no reply sends the credential
    /// elsewhere.
    fn follow(&self, link: &str, path: &[String]) -> Result<Page, ProviderError> {
        let here = self.http.url(path, &[]);
        let elsewhere = || self.odd(&format!("a next page that is elsewhere: `{}`", said(link)));
        let there: Url = here.join(link).map_err(|_| elsewhere())?;
        if there.origin() != here.origin()
            || there.path() != here.path()
            || !there.username().is_empty()
        {
            return Err(elsewhere());
        }
        let pairs = there.query_pairs();
        Ok(Page::Link(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        ))
    }
}

/// The address with this relation in the header `Link` (RFC 8288 section 3).
fn link_header(headers: &HeaderMap, relation: &str) -> Option<String> {
    let links = headers
        .get_all(LINK)
        .iter()
        .filter_map(|it| it.to_str().ok());
    let mut links = links
        .flat_map(|it| it.split('<').skip(1))
        .filter_map(|it| it.split_once('>'));
    let wanted = format!("rel=\"{relation}\"");
    let found =
        links.find(|(_, parameters)| parameters.split([';', ',']).any(|it| it.trim() == wanted));
    found.map(|(address, _)| address.to_owned())
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        other => text(other).is_none_or(|it| !it.is_empty() && it != "0"),
    }
}
