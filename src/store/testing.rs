//! What tests of the store and of its users need.

use std::path::Path;

use countersign_providers::clock::Clock;

use super::{RedbStore, Sealer, StoreError, open_state};

/// The state in `directory`, with a key file beside the store.
pub(crate) async fn open(directory: &Path) -> Result<(RedbStore, Sealer), StoreError> {
    open_state(directory, None, &Clock::system()).await
}
