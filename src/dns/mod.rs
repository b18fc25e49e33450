//! How Countersign looks at the DNS.
