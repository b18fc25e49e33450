//! The smallest program on instant-acme that does the same: its own example, with our RFC 2136 plug-in in place of the
//! person who sets the record. It keeps nothing, looks at no nameserver, and waits as the library does by default.

use std::time::Duration;

use countersign_providers::clock::{Clock, later};
use countersign_providers::record::{Change, DnsName, Verb, Zone};
use countersign_providers::rfc2136::{Algorithm, Rfc2136, Settings, Tsig};
use countersign_providers::secret::SecretSource;
use countersign_providers::{Context, Provider};
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::stand::{CHALLENGE, Door, Meter, NAMES, Stand, ZONE};
use crate::support::proxy::Proxy;
use crate::table::Row;

/// Each takes most of a second, nearly all of it asleep.
const ORDERS: u32 = 20;

pub(crate) fn measure(stand: &Stand, runtime: &Runtime) -> Row {
    runtime.block_on(async {
        let (proxy, door) = stand.proxy();
        let (first, at_proxy) = count(stand, &proxy, &door).await;
        let program = Program::start(stand, &stand.door()).await;
        program.order().await;
        let mut times = Vec::new();
        let mut cpu = Duration::ZERO;
        for _ in 0..ORDERS {
            let meter = Meter::start();
            times.push(program.order().await);
            cpu += meter.own() / ORDERS;
        }
        stand.expect_clean();
        Row {
            peer: "instant-acme 0.8".to_owned(),
            times,
            first,
            warm: (at_proxy, at_proxy),
            cpu,
        }
    })
}

async fn count(stand: &Stand, proxy: &Proxy, door: &Door) -> (usize, usize) {
    let program = Program::start(stand, door).await;
    program.order().await;
    let first = proxy.seen().len();
    program.order().await;
    (first, proxy.seen().len() - first)
}

struct Program {
    account: Account,
    host: Rfc2136,
    home: TempDir,
}

impl Program {
    async fn start(stand: &Stand, door: &Door) -> Self {
        let home = TempDir::with_prefix_in("bench-", env!("CARGO_TARGET_TMPDIR")).unwrap();
        let secret = home.path().join("tsig");
        std::fs::write(&secret, &stand.key.secret).unwrap();
        let new = NewAccount {
            contact: &[],
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, _) = Account::builder_with_root(&door.root)
            .unwrap()
            .create(&new, door.directory.clone(), None)
            .await
            .unwrap();
        let host = Rfc2136::new(Settings {
            server: stand.dns().to_string(),
            tsig: Some(Tsig::Parts {
                name: DnsName::parse(&stand.key.name).unwrap(),
                algorithm: Algorithm::HmacSha256,
                secret: SecretSource::File(secret),
            }),
            zone: None,
        });
        Self {
            account,
            host,
            home,
        }
    }

    /// One order, until its files are written; then its records are taken away.
    async fn order(&self) -> Duration {
        let meter = Meter::start();
        let names = NAMES.map(|name| Identifier::Dns(name.to_owned()));
        let mut order = self
            .account
            .new_order(&NewOrder::new(&names))
            .await
            .unwrap();
        let mut values = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.unwrap();
            // Pebble reuses one now and then also when told to reuse none.
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let mut challenge = authorization.challenge(ChallengeType::Dns01).unwrap();
            let value = challenge.key_authorization().dns_value();
            self.change(Verb::Ensure, std::slice::from_ref(&value))
                .await;
            values.push(value);
            challenge.set_ready().await.unwrap();
        }
        let retries = RetryPolicy::default();
        assert_eq!(
            order.poll_ready(&retries).await.unwrap(),
            OrderStatus::Ready
        );
        let key = order.finalize().await.unwrap();
        let chain = order.poll_certificate(&retries).await.unwrap();
        std::fs::write(self.home.path().join("privkey.pem"), key).unwrap();
        std::fs::write(self.home.path().join("fullchain.pem"), chain).unwrap();
        let taken = meter.wall();
        self.change(Verb::Absent, &values).await;
        taken
    }

    async fn change(&self, verb: Verb, values: &[String]) {
        let clock = Clock::system();
        let deadline = later(clock.now(), Duration::from_secs(10));
        let changes: Vec<Change> = values
            .iter()
            .map(|value| Change {
                verb,
                name: DnsName::parse(CHALLENGE).unwrap(),
                value: value.clone(),
                ttl: 60,
                handle: None,
            })
            .collect();
        let zone = Zone {
            id: ZONE.to_owned(),
            name: DnsName::parse(ZONE).unwrap(),
        };
        let context = Context::new(clock, deadline);
        let done = self.host.apply(&zone, &changes, &[], &context).await;
        done.unwrap_or_else(|error| panic!("{}", error.message));
    }
}
