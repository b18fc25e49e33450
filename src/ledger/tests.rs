//! A plug-in with a fault of its own must not take the ledger of its zone down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use countersign_providers::clock::Clock;
use countersign_providers::record::{Change, DnsName, RrSet, Zone};
use countersign_providers::{Context, Held, Provider, ProviderError, Receipt, RecordModel, Traits};

use super::*;
use crate::store::testing::session;

/// Panics at the first change.
#[derive(Default)]
struct Faulty {
    asked: AtomicUsize,
}

#[async_trait]
impl Provider for Faulty {
    fn traits(&self) -> Traits {
        Traits {
            model: RecordModel::Value,
            batch: 10,
            rate: None,
            propagation: Duration::ZERO,
        }
    }

    async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
        Ok(Vec::new())
    }

    async fn observe(
        &self,
        _: &Zone,
        _: &[DnsName],
        _: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        Ok(Vec::new())
    }

    async fn apply(
        &self,
        _: &Zone,
        _: &[Change],
        _: &[RrSet],
        _: &Context,
    ) -> Result<Receipt, ProviderError> {
        assert!(
            self.asked.fetch_add(1, Ordering::Relaxed) > 0,
            "a fault in a plug-in"
        );
        Ok(Receipt::default())
    }
}

#[tokio::test]
async fn after_a_fault_in_a_plug_in_its_zone_goes_on() {
    let host = Arc::new(Faulty::default());
    let hosts: BTreeMap<String, Arc<dyn Provider>> =
        [("host".to_owned(), Arc::clone(&host) as Arc<dyn Provider>)].into();
    let (session, clock) = (session().await, Clock::system());
    let ledger = Ledger::start(session, hosts, clock, |_| true)
        .await
        .unwrap();
    let name = |text: &str| DnsName::parse(text).unwrap();
    let record = RecordId {
        provider: "host".to_owned(),
        zone: Zone {
            name: name("example.test"),
            id: String::new(),
        },
        name: name("_acme-challenge.example.test"),
        value: "value".to_owned(),
    };
    let first = ledger
        .present("web/1/0".to_owned(), record.clone(), 60)
        .await;
    assert!(matches!(first, Err(PresentError::Store(_))), "{first:?}");
    let second = ledger
        .present("web/1/0".to_owned(), record.clone(), 60)
        .await;
    assert!(second.is_ok(), "{second:?}");
    ledger.release("web/1/0".to_owned(), record).await.unwrap();
    assert!(ledger.quiet(Duration::from_secs(10)).await.is_empty());
    assert!(host.asked.load(Ordering::Relaxed) >= 3);
}
