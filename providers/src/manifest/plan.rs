//! A manifest that was checked, ready to be followed.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderName;
use serde_json::Value;
use url::Url;

use crate::meter::Rate;

use super::form::{Kind, Ttl};
use super::pointer::Pointer;
use super::template::{Body, Place, Template};

/// A DNS host's API, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub(super) name: String,
    pub(super) endpoint: Option<Url>,
    pub(super) secrets: BTreeMap<String, String>,
    /// What each is, and its default.
    pub(super) settings: BTreeMap<String, (String, Option<String>)>,
    pub(super) auth: Auth,
    pub(super) apex: String,
    pub(super) batch: usize,
    pub(super) rate: Option<Rate>,
    pub(super) propagation: Duration,
    pub(super) ttl: Ttl,
    pub(super) success: Vec<(Pointer, Value)>,
    pub(super) errors: Errors,
    pub(super) zones: Zones,
    pub(super) records: Records,
    pub(super) change: Change,
    pub(super) settle: Option<Settle>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auth {
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) basic: Option<(Template, Template)>,
    pub(super) query: Vec<(String, Template)>,
    pub(super) body: Vec<(String, Template)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Errors {
    pub(super) code: Vec<Pointer>,
    pub(super) message: Vec<Pointer>,
    pub(super) map: Vec<Meaning>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) status: Option<u16>,
    pub(super) code: Option<String>,
    pub(super) says: Option<String>,
    pub(super) kind: Kind,
    pub(super) hint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: Vec<Template>,
    pub(super) query: Vec<(String, Template)>,
    pub(super) body: Option<Body>,
}

/// A request whose reply is a list, maybe on many pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) ask: Request,
    pub(super) paging: Option<Paging>,
    pub(super) none: Option<u16>,
    pub(super) items: Pointer,
    pub(super) only: Vec<(Pointer, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Paging {
    /// A number that grows.
    Count {
        key: Key,
        from: u64,
        step: u64,
        until: Until,
    },
    /// A text out of the reply.
    Cursor { key: Key, at: Pointer },
    /// The next page's address.
    Link(Pointer),
    /// The same in the header `Link`, by its relation.
    LinkHeader(String),
}

/// What moves on from page to page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Query(String),
    Body(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// Nothing is there, or false.
    No(Pointer),
    /// The number there is reached.
    Count(Pointer),
    /// A page has fewer items.
    Short(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zones {
    pub(super) listing: Listing,
    /// Whether each zone that could be is asked for.
    pub(super) one_by_one: bool,
    /// The parts of the apex; none where an item is the zone that was asked for.
    pub(super) name: Vec<Pointer>,
    pub(super) id: Option<Pointer>,
    pub(super) nameservers: Option<Pointer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) listing: Listing,
    /// Whether each name is asked for.
    pub(super) one_by_one: bool,
    pub(super) owner: Owner,
    pub(super) ttl: Pointer,
    pub(super) id: Option<Pointer>,
    pub(super) values: Option<Pointer>,
    pub(super) value: Pointer,
    pub(super) disabled: Option<Pointer>,
}

/// How a reply names the owner of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Asked,
    Full(Pointer),
    Relative(Pointer),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Value {
        create: Request,
        remove: Request,
    },
    Set {
        write: Request,
        clear: Option<Request>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settle {
    pub(super) receipt: Pointer,
    pub(super) ask: Request,
    pub(super) state: Pointer,
    pub(super) done: String,
    pub(super) failed: String,
}

impl Request {
    /// Every template in it.
    pub(super) fn templates(&self) -> Vec<(Place, &Template)> {
        let outside = self.path.iter().chain(self.query.iter().map(|it| &it.1));
        let mut found: Vec<_> = outside.map(|it| (Place::default(), it)).collect();
        if let Some(body) = &self.body {
            body.templates(Place::default(), &mut found);
        }
        found
    }

    /// Whether it says one of these names anywhere.
    pub(super) fn says(&self, names: &[&str]) -> bool {
        let templates = self.templates();
        templates
            .iter()
            .any(|(_, it)| it.names().any(|name| names.contains(&name)))
    }

    /// Whether one such request takes many records or names.
    pub(super) fn takes_many(&self) -> bool {
        self.body.as_ref().is_some_and(Body::takes_many)
    }
}
