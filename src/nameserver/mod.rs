//! The built-in nameserver for delegated challenge names.
