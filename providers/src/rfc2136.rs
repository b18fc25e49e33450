//! DNS UPDATE (RFC 2136) signed with TSIG (RFC 8945): BIND, Knot DNS, PowerDNS and whatever else speaks it.

use std::path::PathBuf;

use crate::record::DnsName;
use crate::secret::SecretSource;

/// How to reach one update server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `host`, `host:port`, `address`, `address:port` or `[address]:port`; port 53 when none is given.
    pub server: String,
    /// The key; without one the server must allow the address.
    pub tsig: Option<Tsig>,
    /// The zone, where asking the server for it is not wanted.
    pub zone: Option<DnsName>,
}

/// A TSIG key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tsig {
    /// A file as `tsig-keygen` or `keymgr -t` write it.
    KeyFile(PathBuf),
    /// Its parts.
    Parts {
        /// The key's name.
        name: DnsName,
        /// How it signs.
        algorithm: Algorithm,
        /// Base64.
        secret: SecretSource,
    },
}

/// The signing algorithms that are supported (RFC 8945 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `hmac-sha384`
    HmacSha384,
    /// `hmac-sha512`
    HmacSha512,
}
