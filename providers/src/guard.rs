//! What stands before every plug-in: the meter of its credential, and a pause after the credential was refused.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::meter::Meter;
use crate::record::{Change, DnsName, RrSet, Zone};
use crate::{Context, ErrorKind, Held, Provider, ProviderError, Receipt, Remark, Settled, Traits};

/// A credential that was refused is tried again after this: hosts lock those out who go on.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// One credential: what its host bears, and whether it is refused. Plug-ins that have the same one share it.
#[derive(Default)]
pub struct Credential {
    meter: Meter,
    /// While it is refused: when one may find out whether it still is.
    next_try: Mutex<Duration>,
}

/// A plug-in with one credential, asked no more than its host bears.
pub struct Guard {
    plugin: Arc<dyn Provider>,
    credential: Arc<Credential>,
}

impl Guard {
    /// Stands before `plugin`, which asks its host with `credential`.
    pub fn new(plugin: Arc<dyn Provider>, credential: Arc<Credential>) -> Self {
        Self { plugin, credential }
    }

    /// The context of a verb, unless the credential was refused a moment ago. Of all who come after that, one finds out
    /// whether it still is.
    fn enter(&self, context: &Context) -> Result<Context, ProviderError> {
        // A plug-in may learn only from its host how often that may be asked.
        let meter = &self.credential.meter;
        meter.limit(self.plugin.traits().rate);
        let now = context.clock.elapsed();
        let mut next_try = self.credential.next_try();
        if let Some(error) = meter.refused() {
            if *next_try > now {
                return Err(error);
            }
            *next_try = now + AFTER_REFUSAL;
        }
        Ok(Context {
            meter: meter.begin(),
            ..context.clone()
        })
    }

    /// Notes what `result` says of the credential; of one that a verb may not have used, success says nothing, and the
    /// next one finds out. Whoever had begun before the refusal asked nothing since, and can say nothing new.
    fn leave<T>(
        &self,
        context: &Context,
        uses_it: bool,
        result: Result<T, ProviderError>,
    ) -> Result<T, ProviderError> {
        let now = context.clock.elapsed();
        let meter = &self.credential.meter;
        let mut next_try = self.credential.next_try();
        match &result {
            _ if context.meter.overtaken().is_some() => {}
            Err(error) if error.kind == ErrorKind::Auth => {
                *next_try = now + AFTER_REFUSAL;
                meter.refuse(error.clone());
            }
            Ok(_) if uses_it => meter.accept(),
            Ok(_) => *next_try = now,
            Err(_) => {}
        }
        drop(next_try);
        result
    }
}

impl Credential {
    fn next_try(&self) -> MutexGuard<'_, Duration> {
        self.next_try.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.credential.meter.accept();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures_util::StreamExt as _;
    use futures_util::stream::FuturesUnordered;
    use jiff::Timestamp;
    use reqwest::{Method, Url};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;

    use super::*;
    use crate::RecordModel;
    use crate::clock::Clock;
    use crate::http::{Ask, Http};
    use crate::meter::Rate;
    use crate::oauth::Kept;

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
        let guard = Guard::new(Arc::clone(&host) as Arc<dyn Provider>, Arc::default());
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
    async fn two_plug_ins_with_one_credential_try_it_once_a_minute_together() {
        let hosts = [Arc::new(Host::default()), Arc::new(Host::default())];
        let credential = Arc::new(Credential::default());
        let guards = hosts.each_ref().map(|host| {
            let host = Arc::clone(host) as Arc<dyn Provider>;
            Guard::new(host, Arc::clone(&credential))
        });
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let name = DnsName::parse("example.com").unwrap();
        let id = String::new();
        let zone = Zone { name, id };
        let asked = || {
            hosts
                .each_ref()
                .map(|host| host.asked.load(Ordering::Relaxed))
        };
        for guard in &guards {
            let refused = guard.observe(&zone, &[], &context).await;
            assert_eq!(refused.unwrap_err().kind, ErrorKind::Auth);
        }
        assert_eq!(asked(), [1, 0]);
        hosts[1].is_good.store(true, Ordering::Relaxed);
        hands.advance(AFTER_REFUSAL);
        assert!(guards[1].observe(&zone, &[], &context).await.is_ok());
        assert!(guards[0].observe(&zone, &[], &context).await.is_err());
        assert_eq!(asked(), [2, 1], "what one finds out holds for the other");
    }

    /// A host behind HTTP that refuses everybody, and may be asked once a second. Its zones are known without asking, to
    /// whoever has waited for them.
    struct Slow {
        http: Http,
        known: Notify,
    }

    const EVERY: Duration = Duration::from_secs(1);

    #[async_trait]
    impl Provider for Slow {
        fn traits(&self) -> Traits {
            Traits {
                rate: Some(Rate {
                    burst: 1,
                    every: EVERY,
                }),
                ..Host::default().traits()
            }
        }

        async fn zones(&self, _: &DnsName, _: &Context) -> Result<Vec<Held>, ProviderError> {
            self.known.notified().await;
            Ok(Vec::new())
        }

        async fn observe(
            &self,
            _: &Zone,
            _: &[DnsName],
            context: &Context,
        ) -> Result<Vec<RrSet>, ProviderError> {
            let reply = self.http.send(Ask::new(Method::GET, &["txt"]), context);
            let kind = reply.await?.kind(&context.clock);
            Err(ProviderError::new(kind, "the token was revoked"))
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
    }

    /// Refuses every request and counts them.
    async fn refusing() -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                counted.fetch_add(1, Ordering::Relaxed);
                let reply =
                    b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(reply).await.unwrap();
            }
        });
        (Url::parse(&format!("http://{address}/")).unwrap(), asked)
    }

    #[tokio::test]
    async fn of_many_who_wait_for_their_turn_none_asks_after_the_refusal() {
        let (url, asked) = refusing().await;
        let slow = Slow {
            http: Http::new(url),
            known: Notify::new(),
        };
        let slow = Arc::new(slow);
        let guard = Guard::new(Arc::clone(&slow) as Arc<dyn Provider>, Arc::default());
        let (clock, hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let name = DnsName::parse("example.com").unwrap();
        let id = String::new();
        let zone = Zone { name, id };
        let ask = || guard.observe(&zone, &[], &context);
        let mut before = Box::pin(guard.zones(&zone.name, &context));
        assert!(futures_util::poll!(&mut before).is_pending());
        let mut waiting: FuturesUnordered<_> = (0..32).map(|_| ask()).collect();
        let mut refused = 0;
        while let Some(result) = waiting.next().await {
            assert_eq!(result.unwrap_err().message, "the token was revoked");
            refused += 1;
            hands.advance(EVERY);
        }
        assert_eq!((refused, asked.load(Ordering::Relaxed)), (32, 1));
        slow.known.notify_one();
        before.await.unwrap();
        ask().await.unwrap_err();
        let sent = asked.load(Ordering::Relaxed);
        assert_eq!(sent, 1, "what began before the refusal opens nothing");
        // It was refused in the first of these 32 seconds.
        hands.advance(AFTER_REFUSAL - EVERY * 32);
        ask().await.unwrap_err();
        ask().await.unwrap_err();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one finds out");
    }

    /// A host whose service of tokens refuses everybody.
    #[derive(Default)]
    struct Tokens {
        kept: Kept,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl Provider for Tokens {
        fn traits(&self) -> Traits {
            Host::default().traits()
        }

        async fn zones(&self, _: &DnsName, context: &Context) -> Result<Vec<Held>, ProviderError> {
            let refused = async {
                self.asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Err(ProviderError::new(ErrorKind::Auth, "the key was revoked"))
            };
            let refused = self.kept.current(context, refused).await;
            refused.map(|_| Vec::new())
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
            Ok(Receipt::default())
        }
    }

    #[tokio::test]
    async fn of_many_who_wait_for_a_token_none_asks_after_the_refusal() {
        let tokens = Arc::new(Tokens::default());
        let guard = Guard::new(Arc::clone(&tokens) as Arc<dyn Provider>, Arc::default());
        let (clock, _hands) = Clock::virtual_at(Timestamp::UNIX_EPOCH);
        let context = Context::new(clock, Timestamp::MAX);
        let name = DnsName::parse("example.com").unwrap();
        let all = (0..32).map(|_| guard.zones(&name, &context));
        for refused in futures_util::future::join_all(all).await {
            assert_eq!(refused.unwrap_err().message, "the key was revoked");
        }
        assert_eq!(tokens.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_has_put_the_credential_right_need_not_wait() {
        let host = Arc::new(Host::default());
        let guard = Guard::new(Arc::clone(&host) as Arc<dyn Provider>, Arc::default());
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
