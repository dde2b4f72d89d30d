//! Whose turn it is among the tasks of a runtime.

use std::task::Poll;

/// Waits until the tasks that are ready now have had their turn. Unlike tokio's `yield_now`, nobody
/// looks at the sockets before: what they have makes other tasks ready, which would go first.
pub async fn after_others() {
    let mut has_waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // Woken at once: its task stands behind all that are ready now.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
