//! How those at work are asked to leave: in three ways, which say what becomes of the records that they have placed.

use tokio_util::sync::CancellationToken;

/// Asks those who hold it to leave; cheap to clone.
#[derive(Clone, Default)]
pub struct Stop {
    withdraw: CancellationToken,
    park: CancellationToken,
    remove: CancellationToken,
}

impl Stop {
    /// One that is asked to withdraw by `token`.
    pub fn withdrawing(token: CancellationToken) -> Self {
        Self {
            withdraw: token,
            ..Self::default()
        }
    }

    /// One for a part of the work, asked whenever this one is.
    pub fn child(&self) -> Self {
        Self {
            withdraw: self.withdraw.child_token(),
            park: self.park.child_token(),
            remove: self.remove.child_token(),
        }
    }

    /// Nobody goes on soon: records are withdrawn, orders are kept.
    pub fn withdraw(&self) {
        self.withdraw.cancel();
    }

    /// Another process goes on at once: records and orders stay as they are.
    pub fn park(&self) {
        self.park.cancel();
    }

    /// It is not wanted any more: records are withdrawn, unless the CSR was sent: then it is completed.
    pub fn remove(&self) {
        self.remove.cancel();
    }

    /// Whether records are to be withdrawn.
    pub(super) fn withdraws(&self) -> bool {
        self.withdraw.is_cancelled()
    }

    /// Whether everything is to be left as it is.
    pub(super) fn parks(&self) -> bool {
        self.park.is_cancelled()
    }

    /// Whether it is not wanted any more.
    pub(super) fn removes(&self) -> bool {
        self.remove.is_cancelled()
    }

    /// Whether it is asked to leave in any way.
    pub fn is_asked(&self) -> bool {
        self.withdraws() || self.parks() || self.removes()
    }

    /// Waits until it is asked in any way.
    pub async fn asked(&self) {
        tokio::select! {
            () = self.withdraw.cancelled() => {}
            () = self.park.cancelled() => {}
            () = self.remove.cancelled() => {}
        }
    }
}
