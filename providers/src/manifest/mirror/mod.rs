//! A manifest turned around: a virtual DNS host that speaks what the manifest says, on loopback, so that an author can
//! try a manifest without an account.
//!
//! It agrees with the manifest by construction, so that it finds out whether a manifest holds together and does what a
//! plug-in must do, and not whether the host is really so.

mod inverse;
mod lists;
mod operations;
mod paging;
mod refusals;
mod serve;
mod store;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::ErrorKind;
use crate::record::{DnsName, RrSet, Zone};
use crate::secret::SecretSource;

use super::plan::{Change, Manifest};
use super::{Rest, Settings};
use inverse::Named;
use serve::Shared;
use store::Store;

/// What the virtual zone is called.
pub const ZONE: &str = "virtual.test";
/// What a zone below it is called.
pub const CHILD: &str = "child.virtual.test";
/// A zone that the credential may not change.
const CLOSED: &str = "closed.test";
/// Zones that only look like it.
const TRAPS: [&str; 3] = ["al.test", "notvirtual.test", "virtual.test.other.test"];
/// What a setting without a default is.
const SETTING: &str = "virtual";

/// What the virtual host does wrong from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It wants to be left alone, maybe for so many seconds.
    Busy(Option<u32>),
    /// After so many changes it is out of order.
    DownAfter(usize),
    /// After so many changes the credential is refused.
    RevokedAfter(usize),
    /// It makes a change, and its reply is lost.
    LosesReply,
    /// It does not answer.
    Silent,
    /// It answers with a page for people.
    Garbage,
    /// It answers without end.
    Flood,
    /// It sends elsewhere.
    Elsewhere,
    /// It writes names in capitals, with a dot at their end.
    Shouts,
    /// It has one more zone of the name of the virtual one.
    Twin,
    /// The same, and the manifest leaves that one out.
    TwinLeftOut,
    /// Changes that it accepted come to nothing.
    Fails,
    /// It refuses changes as this entry of the manifest's map of errors says.
    Entry(usize),
}

/// The virtual host of a manifest.
pub struct Mirror {
    shared: Arc<Shared>,
    endpoint: url::Url,
    directory: TempDir,
    server: JoinHandle<()>,
}

impl Mirror {
    /// Starts it on a free port of loopback; an error is a sentence, of a manifest that cannot be turned around or of the
    /// system.
    pub async fn start(manifest: Arc<Manifest>) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the virtual host cannot be started: {error}");
        let directory = TempDir::with_prefix("countersign-kit-").map_err(failed)?;
        let names = |text: &str| DnsName::parse(text).map_err(|error| error.to_string());
        let settings = manifest.settings();
        let settings = settings
            .map(|(name, default)| (name.to_owned(), default.unwrap_or(SETTING).to_owned()));
        let shared = Shared {
            values: settings.collect::<Named>(),
            secrets: Mutex::new(credential(&manifest, "first")),
            store: Mutex::new(stocked(&manifest)?),
            forbidden: names(&format!("_acme-challenge.forbidden.{ZONE}"))?,
            closed: names(CLOSED)?,
            state: Mutex::default(),
            manifest,
        };
        shared.can_be_said()?;
        let shared = Arc::new(shared);
        let (address, server) = serve::start(Arc::clone(&shared)).await.map_err(failed)?;
        let endpoint = format!("http://{address}").parse();
        let mirror = Self {
            endpoint: endpoint.map_err(|error: url::ParseError| error.to_string())?,
            directory,
            server,
            shared,
        };
        mirror.write_secrets().map_err(failed)?;
        Ok(mirror)
    }

    /// The plug-in that the manifest is, with the credential of this host.
    pub fn plugin(&self) -> Rest {
        let secrets = self.shared.manifest.secrets();
        let secrets = secrets.map(|name| {
            let source = SecretSource::File(self.directory.path().join(name));
            (name.to_owned(), source)
        });
        Rest::new(Settings {
            manifest: Arc::clone(&self.shared.manifest),
            endpoint: self.endpoint.clone(),
            values: self.shared.values.clone(),
            secrets: secrets.collect(),
        })
    }

    /// The zone of this name, as the host knows it.
    pub fn zone(&self, name: &str) -> Option<Zone> {
        let store = self.store();
        store
            .zones
            .iter()
            .find(|it| it.name.as_str() == name)
            .cloned()
    }

    /// A zone that the credential may not change.
    pub fn closed(&self) -> Option<Zone> {
        self.zone(CLOSED)
    }

    /// A name of the virtual zone that the credential may not change.
    pub fn forbidden(&self) -> DnsName {
        self.shared.forbidden.clone()
    }

    /// What the world sees at `name`.
    pub fn served(&self, name: &DnsName) -> RrSet {
        self.store().served(name)
    }

    /// Puts a value there as somebody else would; the set gets this TTL.
    pub fn add(&self, name: &DnsName, value: &str, ttl: u32) -> Result<(), String> {
        let zone = self.zone(ZONE).ok_or("there is no virtual zone")?;
        let stored = operations::foreign(&self.shared.manifest, value);
        let ttl = self.ttl(ttl).unwrap_or(ttl);
        let mut store = self.store();
        store.add(&zone, name, &stored, ttl);
        let set = store.records.iter_mut().filter(|it| it.name == *name);
        set.for_each(|it| it.ttl = ttl);
        Ok(())
    }

    /// What becomes of a TTL, if the manifest hands it on.
    pub fn ttl(&self, wanted: u32) -> Option<u32> {
        let manifest = &self.shared.manifest;
        let request = match &manifest.change {
            Change::Value { create, .. } => create,
            Change::Set { write, .. } => write,
        };
        let mut templates = request.templates().into_iter();
        let says = templates.any(|(_, it)| it.names().any(|it| matches!(it, "ttl" | "ttl-text")));
        let least = wanted.max(manifest.ttl.least.unwrap_or(0));
        says.then(|| least.min(manifest.ttl.most.unwrap_or(u32::MAX)))
    }

    /// From now on it does this wrong, or nothing.
    pub fn meet(&self, trouble: Option<Trouble>) {
        let mut state = self.shared.state();
        state.trouble = trouble;
        state.changes = 0;
    }

    /// From now on another credential is the right one. The plug-in finds it where the old one was.
    pub fn rotate(&self) -> Result<(), String> {
        *lock(&self.shared.secrets) = credential(&self.shared.manifest, "second");
        let written = self.write_secrets();
        written.map_err(|error| format!("the virtual credential cannot be written: {error}"))
    }

    /// Every entry of the manifest's map of errors: what it is about, and what it is to be understood as; `None`: as done
    /// already.
    pub fn meanings(&self) -> Vec<(String, Option<ErrorKind>)> {
        let map = self.shared.manifest.errors.map.iter();
        map.map(refusals::meaning).collect()
    }

    /// What credentials are made of.
    pub fn secrets(&self) -> Vec<String> {
        let old = credential(&self.shared.manifest, "first");
        let new = credential(&self.shared.manifest, "second");
        old.into_values().chain(new.into_values()).collect()
    }

    /// Requests that the manifest says nothing of.
    pub fn odd(&self) -> Vec<String> {
        self.shared.state().odd.clone()
    }

    /// How many requests went where it sent them.
    pub fn astray(&self) -> usize {
        self.shared.state().astray
    }

    /// Whether the list of zones has pages, and whether that of records.
    pub fn has_pages(&self) -> (bool, bool) {
        let manifest = &self.shared.manifest;
        let has = |it: &super::plan::Listing| it.paging.is_some();
        (has(&manifest.zones.listing), has(&manifest.records.listing))
    }

    /// Whether it can tell of two zones of one name, and whether of one that the manifest leaves out.
    pub fn has_twins(&self) -> (bool, bool) {
        let zones = &self.shared.manifest.zones;
        let items = &zones.listing.items;
        let lists = items.put_all(&mut json!(null), vec![json!(1), json!(2)]);
        let leaves_out = !zones.listing.only.is_empty();
        (lists && zones.id.is_some(), lists && leaves_out)
    }

    /// Whether changes can be asked about.
    pub fn settles(&self) -> bool {
        self.shared.manifest.settle.is_some()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.shared.store)
    }

    fn write_secrets(&self) -> std::io::Result<()> {
        for (name, secret) in lock(&self.shared.secrets).iter() {
            let mut file = std::fs::File::create(self.directory.path().join(name))?;
            file.write_all(secret.as_bytes())?;
        }
        Ok(())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Secrets that no host has.
fn credential(manifest: &Manifest, which: &str) -> BTreeMap<String, String> {
    let secrets = manifest.secrets();
    secrets
        .map(|name| (name.to_owned(), format!("{which}-virtual-{name}")))
        .collect()
}

/// The zones and records that are there from the beginning: more than one page of each, and what is looked for last.
fn stocked(manifest: &Manifest) -> Result<Store, String> {
    let mut store = Store::default();
    let others = |paging: Option<&super::plan::Paging>| paging::size(paging).map_or(2, |it| it + 1);
    let count = others(manifest.zones.listing.paging.as_ref());
    let names = (0..count).map(|nth| format!("other{nth}.test"));
    let names = names.chain(
        TRAPS
            .into_iter()
            .chain([CLOSED, ZONE, CHILD])
            .map(str::to_owned),
    );
    let has_ids = manifest.zones.id.is_some();
    for name in names {
        let name = DnsName::parse(&name).map_err(|error| error.to_string())?;
        let id = if has_ids {
            store.id()
        } else {
            name.to_string()
        };
        store.zones.push(Zone { name, id });
    }
    let zone = store
        .zones
        .iter()
        .find(|it| it.name.as_str() == ZONE)
        .cloned();
    let zone = zone.ok_or("there is no virtual zone")?;
    let stored = operations::foreign(manifest, "theirs");
    for nth in 0..others(manifest.records.listing.paging.as_ref()) {
        let name = DnsName::parse(&format!("other{nth}.{ZONE}"));
        let name = name.map_err(|error| error.to_string())?;
        store.add(&zone, &name, &stored, 300);
    }
    Ok(store)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
