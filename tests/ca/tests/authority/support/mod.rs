//! What the tests stand on: a tiny ACME client that can be made to lie, and a tiny nameserver.

pub(crate) mod client;
pub(crate) mod nameserver;

use countersign_testca::{Authority, Settings};

use client::Client;
use nameserver::Nameserver;

/// An authority, the nameserver that it asks, and a client with an account.
pub(crate) struct Stage {
    pub(crate) authority: Authority,
    pub(crate) nameserver: Nameserver,
    pub(crate) client: Client,
}

impl Stage {
    pub(crate) async fn new() -> Stage {
        Stage::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Stage {
        let nameserver = Nameserver::start().await;
        let mut settings = Settings::asking(nameserver.address());
        change(&mut settings);
        let authority = Authority::start(settings).await.unwrap();
        let mut client = Client::new(&authority).await;
        client.register().await;
        Stage {
            authority,
            nameserver,
            client,
        }
    }
}
