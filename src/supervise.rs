//! What a task of the daemon does after a fault of its own: the fault is said, and the others go on.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Runs `task` to its end. True when it panicked: that is logged as a fault of `what`, and whoever called may begin it
/// anew. What it shares with others must bear to be left in the middle.
pub async fn fell_over(what: &str, task: impl Future<Output = ()>) -> bool {
    outlived(what, task).await.is_none()
}

/// What came of `task`; `None` when it panicked, which is logged as a fault of `what`.
pub async fn outlived<T>(what: &str, task: impl Future<Output = T>) -> Option<T> {
    let outcome = AssertUnwindSafe(task).catch_unwind().await;
    outcome
        .inspect_err(|_| {
            tracing::error!("{what} had a fault of Countersign's own; the rest goes on");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_from_one_that_ends() {
        assert!(!fell_over("one that ends", async {}).await);
        assert!(fell_over("one that panics", async { panic!("planted") }).await);
    }
}
