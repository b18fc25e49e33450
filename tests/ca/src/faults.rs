//! What can be made to go wrong on purpose, while the authority runs.
//!
//! Every fault is counted down: asked for `n` times, it happens at the next `n` occasions and is
//! gone. Faults of the network between client and authority beyond a lost reply belong to a proxy.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::Shared;
use crate::problem::Problem;

/// The resources of RFC 8555 section 7.1 as a client meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named as the standard names it")]
pub enum Endpoint {
    Directory,
    NewNonce,
    NewAccount,
    NewOrder,
    RevokeCert,
    KeyChange,
    Account,
    Order,
    Finalize,
    Authorization,
    Challenge,
    Certificate,
    /// A path that the authority does not have.
    Unknown,
}

/// The switchboard; see the module for how faults are counted.
#[derive(Clone)]
pub struct Faults(pub(crate) Arc<Shared>);

/// The faults still to come.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) forbidden: BTreeSet<String>,
    pub(crate) is_down: bool,
    refused_orders: VecDeque<Problem>,
    http: BTreeMap<Endpoint, VecDeque<HttpFault>>,
    unread: BTreeMap<Endpoint, u32>,
    unanswered: BTreeMap<Endpoint, u32>,
    unknown_statuses: u32,
    wrong_keys: u32,
    wrong_names: u32,
}

/// An answer that is not ACME, such as a load balancer gives.
#[derive(Clone, Copy)]
pub(crate) struct HttpFault {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
}

impl Faults {
    /// The next `n` valid `newOrder` requests are refused with `problem`.
    pub fn reject_next_orders(&self, problem: &Problem, n: usize) {
        let refusals = std::iter::repeat_n(problem.clone(), n);
        self.0.state().faults.refused_orders.extend(refusals);
    }

    /// From now on orders that name `name`, or a wildcard of it, get `rejectedIdentifier`.
    pub fn forbid_name(&self, name: &str) {
        self.0
            .state()
            .faults
            .forbidden
            .insert(name.to_ascii_lowercase());
    }

    /// The next `n` requests to `endpoint` are answered `status` with an HTML body, unprocessed.
    pub fn fail_http(
        &self,
        endpoint: Endpoint,
        status: u16,
        retry_after: Option<Duration>,
        n: usize,
    ) {
        let faults = std::iter::repeat_n(
            HttpFault {
                status,
                retry_after,
            },
            n,
        );
        self.0
            .state()
            .faults
            .http
            .entry(endpoint)
            .or_default()
            .extend(faults);
    }

    /// From now on every connection is closed before anything is read, until it is set right again.
    pub fn set_down(&self, is_down: bool) {
        self.0.state().faults.is_down = is_down;
    }

    /// The next `n` requests to `endpoint` find the connection closed, unprocessed.
    pub fn drop_requests(&self, endpoint: Endpoint, n: u32) {
        *self.0.state().faults.unread.entry(endpoint).or_default() += n;
    }

    /// The next `n` requests to `endpoint` are processed, and then the connection is closed
    /// without a reply.
    pub fn lose_replies(&self, endpoint: Endpoint, n: u32) {
        *self
            .0
            .state()
            .faults
            .unanswered
            .entry(endpoint)
            .or_default() += n;
    }

    /// The next `n` orders or authorizations shown have a status that no standard knows.
    pub fn unknown_status(&self, n: u32) {
        self.0.state().faults.unknown_statuses += n;
    }

    /// The next `n` certificates are for a key that is not the subscriber's.
    pub fn wrong_keys(&self, n: u32) {
        self.0.state().faults.wrong_keys += n;
    }

    /// The next `n` certificates are for `wrong.invalid`.
    pub fn wrong_names(&self, n: u32) {
        self.0.state().faults.wrong_names += n;
    }

    /// It has no account any more, as after a loss of its data; orders stay.
    pub fn forget_accounts(&self) {
        self.0.state().forget_accounts();
    }

    /// Forgets every fault, also the forbidden names.
    pub fn clear(&self) {
        self.0.state().faults = Plan::default();
    }
}

impl Plan {
    pub(crate) fn take_refused_order(&mut self) -> Option<Problem> {
        self.refused_orders.pop_front()
    }

    pub(crate) fn take_http(&mut self, endpoint: Endpoint) -> Option<HttpFault> {
        self.http.get_mut(&endpoint)?.pop_front()
    }

    pub(crate) fn take_unread(&mut self, endpoint: Endpoint) -> bool {
        self.unread.get_mut(&endpoint).is_some_and(count_down)
    }

    pub(crate) fn take_unanswered(&mut self, endpoint: Endpoint) -> bool {
        self.unanswered.get_mut(&endpoint).is_some_and(count_down)
    }

    pub(crate) fn take_unknown_status(&mut self) -> bool {
        count_down(&mut self.unknown_statuses)
    }

    pub(crate) fn take_wrong_key(&mut self) -> bool {
        count_down(&mut self.wrong_keys)
    }

    pub(crate) fn take_wrong_names(&mut self) -> bool {
        count_down(&mut self.wrong_names)
    }
}

fn count_down(left: &mut u32) -> bool {
    let some = *left > 0;
    *left = left.saturating_sub(1);
    some
}
