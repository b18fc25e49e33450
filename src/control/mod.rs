//! The local socket: the daemon says what is going on, and is asked to renew.
//!
//! One JSON object a line each way, [`protocol`] says which. Rights are those of the file, `control.sock` in the state
//! directory, mode 0660: reading for the group; asking for work only for root and the user of the process.

mod client;
mod protocol;
mod seats;
mod server;

use std::path::{Path, PathBuf};

pub use client::{Client, ClientError};
pub use protocol::{Ask, Reply};
pub use server::{Served, Server};

/// The socket of the state directory `state`.
fn socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}
