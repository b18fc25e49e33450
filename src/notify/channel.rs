//! One way to a person: what stands for it in the store, and what carries messages there.

use async_trait::async_trait;
use ring::digest;

use super::alert::Message;
use super::command::Command;
use super::mail::Smtp;
use super::webhook::Webhook;
use crate::clock::Clock;
use crate::config::{Address, AlertChannel};

/// Brings messages to one place.
#[async_trait]
pub(super) trait Carrier: Send + Sync {
    /// Brings `message` there once; why it was not taken, otherwise. Dropped when its time is over.
    async fn carry(&self, message: Message<'_>) -> Result<(), String>;
}

/// What stands for `channel` in the store: the same as long as it goes to the same place. Of what may be a secret it
/// has a digest only.
pub(super) fn id(channel: &AlertChannel) -> String {
    let (kind, parts) = match channel {
        AlertChannel::Webhook { address, template } => {
            let place = match address {
                Address::Url(url) => url.to_string(),
                Address::Secret(source) => format!("{source:?}"),
            };
            ("webhook", vec![place, format!("{template:?}")])
        }
        AlertChannel::Smtp(smtp) => {
            let server = format!("{}:{}", smtp.host, smtp.port);
            let to = smtp.to.iter().cloned();
            (
                "smtp",
                [server, smtp.from.clone()].into_iter().chain(to).collect(),
            )
        }
        AlertChannel::Command(argv) => ("command", argv.clone()),
    };
    let digest = digest::digest(&digest::SHA256, parts.join("\0").as_bytes());
    let start = digest.as_ref().iter().take(8);
    let start: String = start.map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{start}")
}

/// What brings messages there.
pub(super) fn carrier(channel: &AlertChannel, clock: &Clock) -> Box<dyn Carrier> {
    let clock = clock.clone();
    match channel.clone() {
        AlertChannel::Webhook { address, template } => Box::new(Webhook {
            address,
            template,
            clock,
        }),
        AlertChannel::Smtp(settings) => Box::new(Smtp { settings, clock }),
        AlertChannel::Command(argv) => Box::new(Command { argv, clock }),
    }
}
