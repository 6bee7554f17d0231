//! A whole node in this process, for the tests of the runtime's parts: with its database, executors and sockets, but
//! without the door for people.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::time::Duration;

use jobmesh_engine::{Command, Response, Taken};
use jobmesh_protocol::{Epoch, JobState, RunId, Submission};
use jobmesh_store::Job;
use serde_json::{Value, json};

use super::{Handle, Runtime};
use crate::config::{Config, Overrides};
use crate::home::Home;

/// Longest wait for anything in these tests.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// A node of its own.
pub(super) struct Node {
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Node {
    /// Starts one by this configuration file.
    pub(super) async fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder);
        home.create().unwrap();
        std::fs::write(home.config(), config).unwrap();
        Self::start_in(folder, |_| {}).await
    }

    /// Starts one whose configuration is changed beyond what a file may say: no file may ask for a retention so short.
    pub(super) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        home(&folder).create().unwrap();
        Self::start_in(folder, change).await
    }

    async fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let flags = Overrides {
            name: Some("solo".to_owned()),
            slots: Some(2),
            listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
            mdns: Some(false),
            log: None,
        };
        let mut config = Config::resolve(home(&folder), flags).unwrap();
        change(&mut config);
        let runtime = Box::pin(Runtime::start(&config)).await.unwrap();
        Self { runtime, folder }
    }

    /// What a dispatch task works with.
    pub(super) fn parts(&self) -> (Handle, jobmesh_executors::Executors) {
        (self.runtime.handle.clone(), self.runtime.executors.clone())
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Submits what is described in JSON beside `spec`, whose task is this line of shell.
    pub(super) async fn submit(&self, line: &str, others: Value) -> Taken {
        let task = json!({ "process": { "argv": ["sh", "-c", line] } });
        self.submit_task(&task, others).await
    }

    pub(super) async fn submit_task(&self, task: &Value, mut others: Value) -> Taken {
        others["spec"]["job_type"] = json!("sh");
        others["spec"]["scope"] = json!("local");
        others["spec"]["task"] = task.clone();
        let submission: Submission = serde_json::from_value(others).unwrap();
        let response = self.handle().command(Command::Submit(vec![submission])).await.unwrap();
        let Response::Submitted(taken) = response else { panic!("{response:?}") };
        *taken.first().unwrap()
    }

    /// Waits until a job is in a state that will do.
    pub(super) async fn wait(&self, taken: Taken, will_do: impl Fn(JobState) -> bool) -> Job {
        let waiting = async {
            let mut changes = self.handle().subscribe();
            loop {
                let job = self.handle().read(move |view| view.job(taken.job)).await.unwrap().unwrap();
                if will_do(job.state) {
                    return job;
                }
                // One that was missed is seen by the next look.
                let _ = changes.recv().await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.unwrap()
    }

    /// Waits for the end of a job.
    pub(super) async fn ended(&self, taken: Taken) -> Job {
        self.wait(taken, JobState::is_final).await
    }

    /// Waits until a file is there, that a job makes.
    pub(super) async fn wait_for_file(&self, path: &Path) {
        let mut changes = self.handle().subscribe();
        let waiting = async {
            while !path.exists() {
                let _ = tokio::time::timeout(Duration::from_millis(20), changes.recv()).await;
            }
        };
        tokio::time::timeout(LIMIT, waiting).await.unwrap();
    }

    /// What the first attempt of a job wrote.
    pub(super) fn stdout(&self, taken: Taken) -> String {
        let path = self.handle().home().run(first_run(taken)).join("stdout");
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Runs what may block, as the thread of a slot does.
    pub(super) async fn on_slot<T: Send + 'static>(&self, work: impl FnOnce(&Handle) -> T + Send + 'static) -> T {
        let handle = self.handle().clone();
        let (done, is_done) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().spawn(move || {
            // A test that has failed waits no longer.
            let _ = done.send(work(&handle));
        });
        let result = tokio::time::timeout(LIMIT, is_done).await.unwrap().unwrap();
        thread.unwrap().join().unwrap();
        result
    }

    /// Stops it as the daemon does, without waiting for jobs.
    pub(super) async fn stop(self) {
        let _folder = self.stop_keeping().await;
    }

    /// Stops it and starts another one over the same data.
    pub(super) async fn restart(self) -> Self {
        Self::start_in(self.stop_keeping().await, |_| {}).await
    }

    async fn stop_keeping(self) -> tempfile::TempDir {
        let Self { runtime, folder } = self;
        runtime.handle().drain().await.unwrap();
        runtime.stop_runs().await;
        tokio::time::timeout(LIMIT, runtime.handle().runs_ended()).await.unwrap();
        Box::pin(runtime.stop()).await;
        folder
    }
}

/// The first attempt of a job.
pub(super) fn first_run(taken: Taken) -> RunId {
    RunId { job: taken.job, epoch: Epoch(1) }
}

fn home(folder: &tempfile::TempDir) -> Home {
    Home::locate(Some(&folder.path().join("home"))).unwrap()
}
