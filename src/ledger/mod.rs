//! The I/O of the ledger: one batch a zone.
