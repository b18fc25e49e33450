//! A small ACME authority.
