//! The client through whole orders, against the test authority and a nameserver of this file.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use countersign_testca::{Authority, Endpoint, Settings as Authoritys};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use crate::acme::{
    AccountKey, ChainError, Client, Leaf, RequestKind, Settings, Signer, chain, csr,
};
use crate::clock::Clock;
use crate::engine::key::KeyType;
use crate::engine::names::{Identifier, challenge_value};
use crate::engine::order::{AuthorizationStatus, CaFault, OrderSeen, OrderStatus};
use crate::secret::Secret;

type Values = Arc<Mutex<Vec<(String, String)>>>;

/// An authority, the nameserver that it asks, and an account of ours.
struct World {
    authority: Authority,
    values: Values,
    client: Client,
    key: AccountKey,
    kid: String,
}

impl World {
    async fn new(change: impl FnOnce(&mut Authoritys)) -> Self {
        let values = Values::default();
        let mut settings = Authoritys::asking(nameserver(Arc::clone(&values)).await);
        change(&mut settings);
        let authority = Authority::start(settings).await.unwrap();
        let client = client(&authority.directory_url(), Some(authority.https_root_pem()));
        let key = AccountKey::load(&AccountKey::generate().ok().unwrap())
            .ok()
            .unwrap();
        let account = client.new_account(&key, &[], true, None).await.unwrap();
        Self {
            authority,
            values,
            client,
            key,
            kid: account.url,
        }
    }

    fn signer(&self) -> Signer<'_> {
        Signer {
            key: &self.key,
            kid: &self.kid,
        }
    }

    /// A new order, its challenges answered and passed.
    async fn ready_order(&self, names: &[Identifier]) -> OrderSeen {
        let signer = self.signer();
        let order = self.client.new_order(&signer, names, None).await.unwrap();
        assert_eq!(order.status, OrderStatus::Pending);
        for url in &order.authorizations {
            let seen = self.client.authorization(&signer, url).await.unwrap();
            let challenge = seen.challenge.unwrap();
            let value = challenge_value(&challenge.token, &self.key.thumbprint());
            let owner = format!("_acme-challenge.{}.", seen.identifier);
            self.values.lock().unwrap().push((owner, value));
            self.client.respond(&signer, &challenge.url).await.unwrap();
            let mut status = AuthorizationStatus::Pending;
            while status == AuthorizationStatus::Pending {
                status = self
                    .client
                    .authorization(&signer, url)
                    .await
                    .unwrap()
                    .status;
            }
            assert_eq!(status, AuthorizationStatus::Valid);
        }
        order
    }

    /// The chain of a finalized order.
    async fn chain(&self, order: &OrderSeen, key: &Secret, names: &[Identifier]) -> String {
        let signer = self.signer();
        let csr = csr::csr(key, names).unwrap();
        let mut seen = self
            .client
            .finalize(&signer, &order.url, &order.finalize, &csr)
            .await
            .unwrap();
        while seen.status != OrderStatus::Valid {
            seen = self.client.order(&signer, &order.url).await.unwrap();
        }
        assert_eq!(seen.url, order.url);
        let url = seen.certificate.unwrap();
        self.client.download(&signer, &url, None).await.unwrap().pem
    }

    async fn issue(&self, kind: KeyType, names: &[Identifier]) -> Result<Leaf, ChainError> {
        let key = csr::generate_key(kind).ok().unwrap();
        let order = self.ready_order(names).await;
        let chain = self.chain(&order, &key, names).await;
        chain::check(&chain, &key, names, Clock::system().now())
    }
}

fn client(directory: &str, trust: Option<&str>) -> Client {
    let settings = Settings {
        directory: directory.to_owned(),
        trust: trust.map(|pem| pem.as_bytes().to_vec()),
        insecure: false,
        hosts: Vec::new(),
        user_agent: "countersign-test".into(),
    };
    Client::new(settings, Clock::system()).ok().unwrap()
}

/// Answers every question with the TXT values at its name.
async fn nameserver(values: Values) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let mut message = Message::from_vec(&packet[..length]).unwrap();
            let name = message.queries[0].name().clone();
            let owner = name.to_ascii().to_ascii_lowercase();
            message.metadata.message_type = MessageType::Response;
            message.edns = None;
            for (at, value) in values.lock().unwrap().iter() {
                if *at == owner {
                    let data = RData::TXT(TXT::new(vec![value.clone()]));
                    message
                        .answers
                        .push(Record::from_rdata(name.clone(), 60, data));
                }
            }
            socket
                .send_to(&message.to_vec().unwrap(), from)
                .await
                .unwrap();
        }
    });
    address
}

fn names(texts: &[&str]) -> Vec<Identifier> {
    texts
        .iter()
        .map(|text| Identifier::parse(text).unwrap())
        .collect()
}

#[tokio::test]
async fn apex_and_wildcard_are_issued_and_checked() {
    let world = World::new(|_| {}).await;
    for kind in [KeyType::P256, KeyType::P384] {
        let leaf = world
            .issue(kind, &names(&["example.com", "*.example.com"]))
            .await
            .unwrap();
        let listed: Vec<_> = leaf.names.iter().map(ToString::to_string).collect();
        assert_eq!(listed, ["example.com", "*.example.com"]);
        assert!(leaf.not_before <= Clock::system().now() && leaf.not_after > leaf.not_before);
        let serial = world.authority.orders().pop().unwrap().certificate.unwrap();
        assert_eq!(
            leaf.serial.trim_start_matches('0'),
            serial.trim_start_matches('0')
        );
    }
    let counts = world.client.counts();
    assert_eq!(
        counts[&RequestKind::NewNonce],
        1,
        "one after the other, one nonce is enough"
    );
    assert_eq!(counts[&RequestKind::Directory], 1);
    assert_eq!(counts[&RequestKind::NewOrder], 2);
}

#[tokio::test]
async fn half_of_the_nonces_refused_changes_nothing() {
    let world = World::new(|settings| settings.nonce_reject_percent = 50).await;
    for number in 0..10 {
        let names = names(&[&format!("n{number}.example.com")]);
        world.issue(KeyType::P256, &names).await.unwrap();
    }
    assert_eq!(world.client.counts()[&RequestKind::NewNonce], 1);
}

#[tokio::test]
async fn a_certificate_for_another_key_or_name_is_told() {
    let world = World::new(|_| {}).await;
    let names = names(&["example.com"]);
    world.authority.faults().wrong_keys(1);
    let error = world.issue(KeyType::P256, &names).await.unwrap_err();
    assert!(matches!(error, ChainError::WrongKey { .. }), "{error}");
    world.authority.faults().wrong_names(1);
    let error = world.issue(KeyType::P256, &names).await.unwrap_err();
    assert!(
        matches!(&error, ChainError::WrongNames { seen, wanted, .. } if seen == "wrong.invalid" && wanted == "example.com"),
        "{error}"
    );
}

#[tokio::test]
async fn a_lost_reply_is_unreachable_and_not_sent_again() {
    let world = World::new(|_| {}).await;
    world.authority.faults().lose_replies(Endpoint::NewOrder, 1);
    let names = names(&["example.com"]);
    let error = world
        .client
        .new_order(&world.signer(), &names, None)
        .await
        .unwrap_err();
    assert!(matches!(error, CaFault::Unreachable(_)), "{error}");
    assert_eq!(world.authority.orders().len(), 1);
    // The same client goes on, with a new nonce.
    world
        .client
        .new_order(&world.signer(), &names, None)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_unknown_account_is_refused_and_an_unmade_one_absent() {
    let world = World::new(|_| {}).await;
    let stranger = AccountKey::load(&AccountKey::generate().ok().unwrap())
        .ok()
        .unwrap();
    assert_eq!(world.client.find_account(&stranger).await.unwrap(), None);
    let found = world
        .client
        .find_account(&world.key)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.url, world.kid);
    let kid = format!("{}9", world.kid);
    let signer = Signer {
        key: &world.key,
        kid: &kid,
    };
    let error = world
        .client
        .new_order(&signer, &names(&["example.com"]), None)
        .await
        .unwrap_err();
    assert!(matches!(&error, CaFault::Refused { .. }), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_says_what_to_do() {
    let authority = Authority::start(Authoritys::asking("127.0.0.1:9".parse().unwrap()))
        .await
        .unwrap();
    let url = authority.directory_url();
    let host = url
        .strip_prefix("https://")
        .unwrap()
        .split('/')
        .next()
        .unwrap();

    let unknown = client(&url, Some(authority.issuing_root_pem()))
        .directory()
        .await
        .unwrap_err();
    assert_eq!(
        unknown,
        CaFault::Untrusted(format!(
            "the certificate of {host} is not trusted: its issuer is not known to this machine; for a private authority give its root as `trust:`"
        ))
    );

    let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
    // The server listens on 127.0.0.1 only; a relay stands in for a wrong address in the configuration.
    let relay = tokio::net::TcpListener::bind(("127.0.0.2", 0))
        .await
        .unwrap();
    let port = relay.local_addr().unwrap().port();
    let target = host.to_owned();
    tokio::spawn(async move {
        while let Ok((mut inward, _)) = relay.accept().await {
            let mut outward = tokio::net::TcpStream::connect(&target).await.unwrap();
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut inward, &mut outward).await },
            );
        }
    });
    let path = elsewhere.rsplit('/').next().unwrap();
    let wrong = client(
        &format!("https://127.0.0.2:{port}/{path}"),
        Some(authority.https_root_pem()),
    );
    let wrong = wrong.directory().await.unwrap_err().to_string();
    assert!(
        wrong.contains("is not trusted: ")
            && wrong.contains("check the host in the `directory` URL"),
        "{wrong}"
    );
}

#[tokio::test]
async fn plain_http_where_tls_is_expected_is_told() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncWriteExt as _;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    });
    let directory = format!("https://{address}/dir");
    let error = client(&directory, None).directory().await.unwrap_err();
    assert!(
        matches!(&error, CaFault::Unreachable(text) if text.starts_with(&format!("no TLS with {address}: "))),
        "{error}"
    );
}

#[test]
fn a_trust_file_must_hold_certificates() {
    for (pem, what) in [
        ("", "holds no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot be used",
        ),
    ] {
        let settings = Settings {
            directory: "https://ca.example/dir".into(),
            trust: Some(pem.into()),
            insecure: false,
            hosts: Vec::new(),
            user_agent: "countersign-test".into(),
        };
        let error = Client::new(settings, Clock::system())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(what), "{error}");
    }
}
