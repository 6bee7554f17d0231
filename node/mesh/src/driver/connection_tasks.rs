//! The tasks that libp2p runs connections on, watched.
//!
//! Most code that reads a peer's bytes runs there and not in the driver. A panic would end the task alone and leave
//! the swarm believing in a connection that nothing serves, so it is reported, and the driver gives way to a new one.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures::FutureExt as _;
use libp2p::swarm::Executor;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Runs connections and reports panics. Its tasks end with the swarm, when their channels to it close.
pub(super) struct ConnectionTasks {
    tracker: TaskTracker,
    /// One report is as good as many, hence a capacity of 1 and no waiting.
    panics: mpsc::Sender<()>,
}

impl ConnectionTasks {
    /// Returns the tasks' spawner and what receives word of a panic.
    pub(super) fn new() -> (Self, mpsc::Receiver<()>) {
        let (panics, receiver) = mpsc::channel(1);
        (Self { tracker: TaskTracker::new(), panics }, receiver)
    }
}

impl Executor for ConnectionTasks {
    fn exec(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let panics = self.panics.clone();
        self.tracker.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                let _ = panics.try_send(());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_and_an_end_is_not() {
        let (tasks, mut panics) = ConnectionTasks::new();
        tasks.exec(Box::pin(async {}));
        tasks.exec(Box::pin(async { std::panic::panic_any("a panic that a test asked for") }));
        assert_eq!(panics.recv().await, Some(()));
        drop(tasks);
        assert_eq!(panics.recv().await, None);
    }
}
