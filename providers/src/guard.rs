//! What stands before every plug-in: the meter of its credential, and a pause after the credential was refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::meter::Meter;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::{Context, ErrorKind, Held, Provider, ProviderError, Receipt, Remark, Settled, Traits};

/// A credential that was refused is tried again after this: hosts lock those out who go on.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// A plug-in with one credential, asked no more than its host bears.
pub struct Guard {
    plugin: Arc<dyn Provider>,
    meter: Meter,
    refused: Mutex<Option<Refusal>>,
}

struct Refusal {
    error: ProviderError,
    until: Duration,
}

impl Guard {
    /// Stands before `plugin`.
    pub fn new(plugin: Arc<dyn Provider>) -> Self {
        Self {
            meter: Meter::default(),
            plugin,
            refused: Mutex::default(),
        }
    }

    /// The context of a verb, unless the credential was refused a moment ago. Of all who come after that, one finds out
    /// whether it still is.
    fn enter(&self, context: &Context) -> Result<Context, ProviderError> {
        let now = context.clock.elapsed();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = &mut *refused {
            if refusal.until > now {
                return Err(refusal.error.clone());
            }
            refusal.until = now + AFTER_REFUSAL;
        }
        drop(refused);
        // A plug-in may learn only from its host how often that may be asked.
        self.meter.limit(self.plugin.traits().rate);
        Ok(Context {
            meter: self.meter.clone(),
            ..context.clone()
        })
    }

    /// Notes what `result` says of the credential; of one that a verb may not have used, success says nothing, and the
    /// next one finds out.
    fn leave<T>(
        &self,
        context: &Context,
        uses_it: bool,
        result: Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let now = context.clock.elapsed();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Err(error) if error.kind == ErrorKind::Auth => {
                *refused = Some(Refusal {
                    error: error.clone(),
                    until: now + AFTER_REFUSAL,
                });
            }
            Ok(_) if uses_it => *refused = None,
            Ok(_) => {
                if let Some(refusal) = &mut *refused {
                    refusal.until = now;
                }
            }
            Err(_) => {}
        }
        drop(refused);
        result
    }
}

#[async_trait]
impl Provider for Guard {
    fn traits(&self) -> Traits {
        self.plugin.traits()
    }

    async fn zones(&self, name: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
        // Which zones it holds, a plug-in may know without asking.
        let context = self.enter(context)?;
        let zones = self.plugin.zones(name, &context).await;
        self.leave(&context, false, zones)
    }

    async fn nameservers(
        &self,
        zone: &Zone,
        context: &Context,
    ) -> Result<Vec<DnsName>, ProviderError> {
        let context = self.enter(context)?;
        let nameservers = self.plugin.nameservers(zone, &context).await;
        // Most plug-ins have none to ask for.
        self.leave(&context, false, nameservers)
    }

    async fn observe(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<RrSet>, ProviderError> {
        let context = self.enter(context)?;
        self.leave(
            &context,
            true,
            self.plugin.observe(zone, names, &context).await,
        )
    }

    async fn remarks(
        &self,
        zone: &Zone,
        names: &[DnsName],
        context: &Context,
    ) -> Result<Vec<Remark>, ProviderError> {
        let context = self.enter(context)?;
        let remarks = self.plugin.remarks(zone, names, &context).await;
        // Most plug-ins have none, and do not use the credential for that.
        self.leave(&context, false, remarks)
    }

    async fn apply(
        &self,
        zone: &Zone,
        changes: &[Change],
        believed: &[RrSet],
        context: &Context,
    ) -> Result<Receipt, ProviderError> {
        let context = self.enter(context)?;
        let applied = self.plugin.apply(zone, changes, believed, &context).await;
        self.leave(&context, true, applied)
    }

    async fn settle(&self, ticket: &str, context: &Context) -> Result<Settled, ProviderError> {
        let context = self.enter(context)?;
        self.leave(&context, true, self.plugin.settle(ticket, &context).await)
    }

    fn forgive(&self) {
        self.plugin.forgive();
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use jiff::Timestamp;

    use super::*;
    use crate::RecordModel;
    use crate::clock::Clock;

    /// Refuses the credential, or not.
    #[derive(Default)]
    struct Host {
        is_good: AtomicBool,
        asked: AtomicUsize,
        forgiven: AtomicUsize,
    }

    #[async_trait]
    impl Provider for Host {
        fn traits(&self) -> Traits {
            Traits {
                model: RecordModel::Value,
                batch: 1,
                rate: None,
                propagation: Duration::ZERO,
            }
        }

        /// Known without asking.
        async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
            Ok(Vec::new())
        }

        async fn observe(
            &self,
            _: &Zone,
            _: &[DnsName],
            _: &Context,
        ) -> Result<Vec<RrSet>, ProviderError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            match self.is_good.load(Ordering::Relaxed) {
                true => Ok(Vec::new()),
                false => Err(ProviderError::new(ErrorKind::Auth, "the token is unknown")),
            }
        }

        async fn apply(
            &self,
            _: &Zone,
            _: &[Change],
            _: &[RrSet],
            _: &Context,
        ) -> Result<Receipt, ProviderError> {
            Ok(Receipt::default())
        }

        fn forgive(&self) {
            self.forgiven.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_refused_credential_is_tried_once_a_minute_however_many_want_it() {
        let host = Arc::new(Host::default());
        let guard = Guard::new(Arc::clone(&host) as Arc<dyn Provider>);
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let name = DnsName::parse("example.com").unwrap();
        let id = String::new();
        let zone = Zone { name, id };
        let ask = || guard.observe(&zone, &[], &context);
        assert_eq!(ask().await.unwrap_err().kind, ErrorKind::Auth);
        for minute in 1..=10 {
            for _ in 0..4 {
                // Whether that is good or not, it says nothing of the credential.
                let _ = guard.zones(&zone.name, &context).await;
                let all = tokio::join!(ask(), ask(), ask(), ask());
                assert!(all.0.is_err() && all.1.is_err() && all.2.is_err() && all.3.is_err());
                hands.advance(Duration::from_secs(15));
            }
            assert_eq!(host.asked.load(Ordering::Relaxed), minute);
        }
        host.is_good.store(true, Ordering::Relaxed);
        assert_eq!(ask().await, Ok(Vec::new()));
        assert_eq!(ask().await, Ok(Vec::new()));
        assert_eq!(host.asked.load(Ordering::Relaxed), 12);
    }

    #[tokio::test]
    async fn who_has_put_the_credential_right_need_not_wait() {
        let host = Arc::new(Host::default());
        let guard = Guard::new(Arc::clone(&host) as Arc<dyn Provider>);
        let (clock, _hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let name = DnsName::parse("example.com").unwrap();
        let id = String::new();
        let zone = Zone { name, id };
        let ask = || guard.observe(&zone, &[], &context);
        assert!(ask().await.is_err());
        host.is_good.store(true, Ordering::Relaxed);
        assert!(ask().await.is_err());
        guard.forgive();
        assert_eq!(host.forgiven.load(Ordering::Relaxed), 1);
        assert_eq!(ask().await, Ok(Vec::new()));
    }
}
