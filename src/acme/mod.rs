//! RFC 8555 and its relatives over HTTPS.
