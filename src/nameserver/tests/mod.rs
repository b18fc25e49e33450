//! The built-in server: odd packets filed under their RFC, mutated packets, and real sockets on loopback.

mod live;
mod packets;

use std::collections::BTreeMap;

use countersign_providers::record::DnsName;
use hickory_proto::op::Message;

use super::Settings;
use super::answer::{Transport, answer};
use super::zone::{Snapshot, Values};

fn name(text: &str) -> DnsName {
    DnsName::parse(text).unwrap()
}

fn settings() -> Settings {
    Settings {
        zone: name("acme.example.net"),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        hosts: BTreeMap::from([(
            name("ns1.acme.example.net"),
            vec![
                "203.0.113.5".parse().unwrap(),
                "2001:db8::5".parse().unwrap(),
            ],
        )]),
    }
}

fn values(values: &[&str]) -> Values {
    Values {
        ttl: 60,
        values: values.iter().map(|&value| value.to_owned()).collect(),
    }
}

/// A zone with one value at `www`, a deep name that makes `b.a` and `a` empty non-terminals, and a big RRset.
fn snapshot() -> Snapshot {
    let many: Vec<String> = (0..64).map(|n| format!("{n:0>43}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let texts = BTreeMap::from([
        (name("www.acme.example.net"), values(&["first", "second"])),
        (name("c.b.a.acme.example.net"), values(&["deep"])),
        (name("many.acme.example.net"), values(&many)),
        (name("long.acme.example.net"), values(&[&"x".repeat(300)])),
    ]);
    Snapshot::new(&settings(), 7, &texts).unwrap()
}

fn ask(query: &[u8], transport: Transport) -> Option<Message> {
    let reply = answer(&snapshot(), query, transport)?;
    Some(Message::from_vec(&reply).expect("the reply is a message"))
}
