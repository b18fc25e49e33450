//! Alerts to people, and the heartbeat.
//!
//! [`rules`] says from what is known of a certificate and what was announced of it which alerts are due: data only.
//! [`watch`] looks when something happened or a time has come, saves what is due, and hands it to the channels; each
//! sends in a task of its own ([`outbox`]) by its own means ([`webhook`], [`mail`], [`command`]), again until it is
//! taken, and what was taken is saved. So a process that is killed at any instant finds at its next start what is
//! still to be sent: an alert may come twice, but is never lost. [`alert`] has the words.
//!
//! [`heartbeat`] calls a URL as long as certificates get their turns and all are well. Nothing here delays a renewal.

pub mod alert;
mod channel;
mod command;
mod heartbeat;
mod http;
mod looks;
mod mail;
mod outbox;
pub mod rules;
mod watch;
mod webhook;

pub use heartbeat::Rounds;
pub use watch::Notifier;
