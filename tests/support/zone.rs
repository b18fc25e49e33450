//! Zones as text.

use std::fmt::Write as _;
use std::net::IpAddr;

/// A zone in master file format: SOA with serial 1, `ns1`, `ns2`, … at `nameservers`, and `records` (names relative
/// to the zone, default TTL 300). The SOA's minimum is 1 s, so that resolvers do not remember what is not there.
pub fn text(origin: &str, nameservers: &[IpAddr], records: &str) -> String {
    let origin = format!("{}.", origin.trim_end_matches('.'));
    let mut text = format!("$ORIGIN {origin}\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 86400 1\n");
    for (n, address) in (1..).zip(nameservers) {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        writeln!(text, "@ NS ns{n}\nns{n} {kind} {address}").expect("a String takes everything");
    }
    text + records + "\n"
}

/// A name without its trailing dot, fit for a file name.
pub(super) fn file_name(zone: &str) -> String {
    let name = zone.trim_end_matches('.');
    if name.is_empty() {
        "root.zone".to_owned()
    } else {
        format!("{name}.zone")
    }
}
