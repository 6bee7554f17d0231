//! One container from its making to its removal.
//!
//! Waiting happens in the daemon's runtime, telling outside of it: whoever is told may wait for room, which nothing in a
//! runtime must.
//!
//! **The hard case** is an engine that goes away. What it runs mostly goes on, so it is waited for; if it doesn't come
//! back, the attempt is lost rather than repeated beside one that may still run, and its processes are killed by their
//! mark as far as they can be seen.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::errors::Error as ApiError;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, RemoveContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use futures::StreamExt as _;
use jobmesh_protocol::outcome::{Exit, Usage};
use jobmesh_protocol::task::ContainerTask;
use jobmesh_protocol::{Isolation, Outcome, RunId};

use super::body::{LEVEL_LABEL, Plan};
use super::engine::{ContainerError, Engine, is_missing, status};
use super::image::{self, Fetched, Image};
use super::output::{Flow, Heard, Line};
use super::policy::Permit;
use crate::control::Control;
use crate::event::{Event, ProcessId};
use crate::order::{Order, StopReason};
use crate::output::Stream;
use crate::process::{self, Breach, Disk, Ending, OutOfMemory};
use crate::stage::{Finish, Stage, StageError};

/// How long an engine that stopped answering may take to come back.
pub(super) const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at what has no news of its own.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How long the end of a container may come after the end of its output before the output is doubted.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// How long the rest of the output may take after the end.
const REST_PATIENCE: Duration = Duration::from_secs(10);

/// How long what was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// How long the making of a container is waited for that nobody wants any more.
const MAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Least time between two reports of progress.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Why an attempt doesn't go on by itself.
#[derive(Debug)]
pub(super) enum Halt {
    Asked(StopReason),
    Beyond(Breach),
    Failed(ContainerError),
    Stage(StageError),
}

impl From<StopReason> for Halt {
    fn from(reason: StopReason) -> Self {
        Self::Asked(reason)
    }
}

impl From<ContainerError> for Halt {
    fn from(error: ContainerError) -> Self {
        Self::Failed(error)
    }
}

impl From<StageError> for Halt {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

impl Halt {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Asked(reason) => reason.outcome(),
            Self::Beyond(breach) => breach.outcome(),
            Self::Failed(error) => error.outcome(),
            Self::Stage(error) => error.outcome(),
        }
    }
}

/// One attempt in a container.
pub(super) struct Attempt<'a> {
    pub(super) order: &'a Order,
    pub(super) engine: Engine,
    pub(super) runtime: &'a tokio::runtime::Handle,
    pub(super) control: &'a Control<'a>,
    /// The container's name.
    pub(super) name: String,
    pub(super) heard: Heard,
    /// Whether there may be a container.
    pub(super) is_made: bool,
    /// Whether there may be one that the engine has not made yet.
    pub(super) is_adrift: bool,
}

/// The name of a run's container.
pub(super) fn name_of(run: RunId) -> String {
    format!("jobmesh-{run}")
}

/// The directory in which a container leaves its outcome and its result.
pub(crate) fn exchange_path(directory: &Path) -> PathBuf {
    directory.join("exchange")
}

impl Attempt<'_> {
    fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        Ok(self.control.wait_for(self.runtime, work)?)
    }

    /// Fetches the image if it must be.
    pub(super) fn provide_image(&self, permit: &Permit, stage: &mut Stage<'_>) -> Result<(), Halt> {
        if !self.wait(image::must_be_fetched(&self.engine, permit))?? {
            return Ok(());
        }
        let image = permit.image.as_str();
        stage.say(Stream::Stderr, format!("jobmesh: fetching image {image}\n").as_bytes())?;
        let mut transfer = image::fetch(&self.engine, image);
        let (mut fetched, mut told) = (Fetched::default(), None::<Instant>);
        while let Some(news) = self.wait(transfer.next())? {
            let news = news.map_err(|error| image::failure(image, &error))?;
            let (done, status) = fetched.hear(&news);
            if told.is_none_or(|told| told.elapsed() >= REPORT_EVERY) {
                told = Some(Instant::now());
                let what = format!("fetching image {image}: {status}");
                self.control.emit(Event::Progress { run: self.order.run, done, what });
            }
        }
        stage.say(Stream::Stderr, format!("jobmesh: fetched image {image}\n").as_bytes())?;
        Ok(())
    }

    /// What is known of the image that it is made of.
    pub(super) fn know_image(&self, image: &str, level: Isolation) -> Result<Image, Halt> {
        if level < Isolation::Sandboxed {
            return Ok(Image { name: image.to_owned(), volumes: Vec::new() });
        }
        Ok(self.wait(image::inspect(&self.engine, image))??)
    }

    /// Makes the container, connects to it and starts it.
    pub(super) fn start(&mut self, task: &ContainerTask, plan: &Plan<'_>) -> Result<Line, Halt> {
        let stdin = match (&self.order.stdin, task.stdin) {
            (Some(path), _) => {
                let failed = |source| ContainerError::Directory { path: path.clone(), source };
                Some(File::open(path).map_err(failed)?)
            }
            (None, Some(_)) => return Err(ContainerError::NoInput.into()),
            (None, None) => None,
        };
        self.is_made = true;
        self.make(plan)?;
        let docker = &self.engine.docker;
        let line = self.wait(async {
            let line = Line::open(&self.engine, &self.name, stdin).await?;
            match docker.start_container(&self.name, None::<StartContainerOptions>).await {
                Ok(()) => Ok(line),
                Err(source) => Err(ContainerError::unstarted("start the container", source)),
            }
        })??;
        Ok(line)
    }

    /// Has the container made. An engine goes on with that whether or not somebody waits for it, so a run that is stopped
    /// meanwhile waits for it, too: only what is known to be there can be removed.
    fn make(&mut self, plan: &Plan<'_>) -> Result<(), Halt> {
        let runtime = self.runtime;
        let reason = {
            let mut making = Box::pin(self.create(plan));
            match self.control.wait_for(runtime, making.as_mut()) {
                Ok(made) => return Ok(made?),
                Err(reason) => match runtime.block_on(async { tokio::time::timeout(MAKE_PATIENCE, making).await }) {
                    Ok(_) => return Err(reason.into()),
                    Err(_elapsed) => reason,
                },
            }
        };
        self.is_adrift = true;
        Err(reason.into())
    }

    async fn create(&self, plan: &Plan<'_>) -> Result<(), ContainerError> {
        let options = || CreateContainerOptions { name: Some(self.name.clone()), ..CreateContainerOptions::default() };
        let body = plan.body(&self.engine);
        let docker = &self.engine.docker;
        let mut made = docker.create_container(Some(options()), body.clone()).await;
        if made.as_ref().is_err_and(|error| status(error) == Some(409) || error.to_string().contains("already in use"))
        {
            // Of a start that an earlier life of the daemon did not live to see.
            self.remove().await?;
            made = docker.create_container(Some(options()), body).await;
        }
        match made {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => {
                Err(ContainerError::NoImage { image: plan.image.name.clone(), engine: self.engine.kind })
            }
            Err(source) => Err(ContainerError::Engine { what: "make the container", source }),
        }
    }

    /// Tells of the container's main process, as far as it can be seen from here.
    pub(super) fn tell_start(&self) -> Result<Option<ProcessId>, Halt> {
        // One that is over by now may be in a state between two others; its end tells all.
        let Ok(state) = self.wait(self.state())? else { return Ok(None) };
        let process = process_of(&state);
        if state.running == Some(true) {
            let process = process.unwrap_or(ProcessId { pid: 0, started: 0 });
            self.control.emit(Event::Started { run: self.order.run, process });
        }
        Ok(process)
    }

    /// Hears the container out and waits for its end. Without a line, from the engine's record.
    pub(super) fn follow(
        &mut self,
        line: Option<Line>,
        process: Option<ProcessId>,
        stage: &mut Stage<'_>,
    ) -> Result<(), Halt> {
        let (control, runtime, run, disk) = (self.control, self.runtime, self.order.run, self.disk());
        let holders = move || process::members_under(process, run);
        control.wait_for(runtime, async {
            tokio::select! {
                heard = self.hear_out(line, stage) => heard,
                breach = watch(disk, holders) => Err(Halt::Beyond(breach)),
            }
        })??;
        // It may have been faster than the looks. Nobody lives any more who could hold a file open.
        if let Some(mut disk) = self.disk()
            && disk.look_now(BTreeSet::new)
        {
            return Err(Halt::Beyond(disk.breach()));
        }
        Ok(())
    }

    /// The watch over what it writes, if that is limited. What it writes elsewhere is in memory: a container that is kept
    /// apart can't change its image, and the image's volumes are there, too.
    fn disk(&self) -> Option<Disk> {
        let directory = &self.order.directory;
        self.order.limits.disk_bytes.map(|bytes_max| Disk::over(directory, exchange_path(directory), bytes_max))
    }

    async fn hear_out(&mut self, line: Option<Line>, stage: &mut Stage<'_>) -> Result<(), Halt> {
        if let Some(line) = line
            && self.hear_whole(line, stage).await?
        {
            return Ok(());
        }
        // It closed its output, or the engine was restarted, which looks the same. Only its record tells.
        let mut heard = self.heard;
        let followed = tokio::select! {
            exited = self.exited() => exited.map_err(Halt::from),
            Err(error) = heard.follow_record(&self.engine, &self.name, stage) => Err(Halt::from(error)),
        };
        self.heard = heard;
        followed?;
        self.heard.read_record(&self.engine, &self.name, false, stage).await?;
        Ok(())
    }

    /// Hears what comes over the line. Returns whether that was all: a line that ends and an engine that is restarted look
    /// the same, but a question that was asked at the start is answered at the end only by the engine that it was put to.
    async fn hear_whole(&mut self, mut line: Line, stage: &mut Stage<'_>) -> Result<bool, Halt> {
        let mut ending = std::pin::pin!(self.engine.docker.wait_container(&self.name, Some(until_it_ends())));
        let mut ended = None;
        let flow = {
            let mut attending = std::pin::pin!(self.heard.attend(&mut line, stage));
            loop {
                tokio::select! {
                    flow = &mut attending => break flow?,
                    said = ending.next(), if ended.is_none() => ended = Some(said),
                }
            }
        };
        if ended.is_none() {
            ended = tokio::time::timeout(END_PATIENCE, ending.next()).await.ok();
        }
        Ok(flow == Flow::Over && ended.is_some_and(|said| says_end(said.as_ref())))
    }

    /// Waits until the container has ended. An engine that doesn't answer is given time to come back.
    async fn exited(&self) -> Result<(), ContainerError> {
        let mut silent_since = None::<Instant>;
        loop {
            match self.state().await {
                Ok(state) if state.running != Some(true) => return Ok(()),
                Ok(_) => silent_since = None,
                Err(ContainerError::Engine { source, .. }) if is_missing(&source) => return Ok(()),
                // It answers, of a state that has no name in the API: the container is being cleared up.
                Err(ContainerError::Engine { source: ApiError::JsonDataError { .. }, .. }) => silent_since = None,
                Err(ContainerError::Engine { source, .. }) => {
                    if silent_since.get_or_insert_with(Instant::now).elapsed() > ENGINE_PATIENCE {
                        return Err(ContainerError::Gone { source });
                    }
                }
                Err(error) => return Err(error),
            }
            let said =
                std::pin::pin!(self.engine.docker.wait_container(&self.name, Some(until_it_ends()))).next().await;
            if says_end(said.as_ref()) {
                return Ok(());
            }
            // Some engines say nothing before the end, and then the time for an answer is over.
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse, ContainerError> {
        let found = self.engine.docker.inspect_container(&self.name, None::<InspectContainerOptions>).await;
        found.map_err(|source| ContainerError::Engine { what: "look at the container", source })
    }

    /// The same once it is as expected. While it is being cleared up, Podman says of a container that it is in a state
    /// that has no name in the API, so what can't be read is asked again.
    async fn settled(
        &self,
        is_expected: impl Fn(&ContainerInspectResponse) -> bool,
    ) -> Result<ContainerInspectResponse, ContainerError> {
        let since = Instant::now();
        loop {
            let found = self.inspect().await;
            let is_missing = matches!(&found, Err(ContainerError::Engine { source, .. }) if is_missing(source));
            if is_missing || found.as_ref().is_ok_and(&is_expected) || since.elapsed() > KILL_PATIENCE {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn state(&self) -> Result<ContainerState, ContainerError> {
        Ok(self.inspect().await?.state.unwrap_or_default())
    }

    /// What an earlier life of the daemon left of the container; none if there is nothing.
    pub(super) async fn found(&self) -> Result<Option<(ContainerState, Isolation)>, ContainerError> {
        let found = self.settled(|_| true).await;
        match found {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                let level = labels.get(LEVEL_LABEL).and_then(|word| Isolation::from_word(word));
                Ok(Some((found.state.unwrap_or_default(), level.unwrap_or(Isolation::None))))
            }
            Err(ContainerError::Engine { source, .. }) if is_missing(&source) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a container that has to end, keeping what it says meanwhile.
    pub(super) fn end(&mut self, halt: &Halt, stage: &mut Stage<'_>) {
        let grace = match halt {
            Halt::Asked(reason) => reason.grace(self.order.kill_grace),
            Halt::Beyond(_) | Halt::Failed(_) | Halt::Stage(_) => None,
        };
        let runtime = self.runtime;
        runtime.block_on(async {
            let mut heard = self.heard;
            if let Some(grace) = grace {
                self.signal("SIGTERM").await;
                let is_cut = async {
                    while !self.control.is_urgent() {
                        tokio::time::sleep(LOOK).await;
                    }
                };
                tokio::select! {
                    _ = self.exited() => {}
                    () = tokio::time::sleep(grace) => {}
                    () = is_cut => {}
                    Err(_) = heard.follow_record(&self.engine, &self.name, stage) => {}
                }
            }
            self.signal("SIGKILL").await;
            let gone = tokio::time::timeout(KILL_PATIENCE, self.exited()).await;
            if !matches!(gone, Ok(Ok(_))) {
                tracing::error!(run = %self.order.run, container = self.name, "a container can't be ended");
            }
            self.heard = heard;
            if matches!(halt, Halt::Asked(_)) {
                let rest = self.heard.read_record(&self.engine, &self.name, false, stage);
                // Its end is known already; what it said last is worth a few seconds.
                let _ = tokio::time::timeout(REST_PATIENCE, rest).await;
            }
        });
        if matches!(halt, Halt::Failed(ContainerError::Gone { .. })) {
            process::end_marked(self.order.run);
        }
    }

    async fn signal(&self, signal: &str) {
        let options = KillContainerOptions { signal: signal.to_owned() };
        if let Err(error) = self.engine.docker.kill_container(&self.name, Some(options)).await {
            tracing::debug!(run = %self.order.run, signal, %error, "a container was not signalled; it may have ended");
        }
    }

    /// How the container ended.
    pub(super) fn finish(&self, process: Option<ProcessId>) -> Finish {
        let ended =
            |found: &ContainerInspectResponse| found.state.as_ref().is_none_or(|state| state.running != Some(true));
        let state = self.runtime.block_on(self.settled(ended)).map_err(|error| {
            tracing::warn!(run = %self.order.run, error = %crate::event::chain(&error), "an end is not known");
        });
        let state = state.ok().filter(ended).and_then(|found| found.state);
        let code = state.as_ref().and_then(|state| i32::try_from(state.exit_code?).ok());
        let exit = Exit { code, signal: None };
        let ending = code.map_or_else(
            || Ending::Unknown("the container engine did not tell how its container ended".to_owned()),
            Ending::Code,
        );
        let is_oom = state.is_some_and(|state| state.oom_killed == Some(true));
        let limit = self.order.limits.memory_bytes.filter(|_| is_oom);
        let ran = process.and_then(process::age_of);
        // An engine tells what a container takes once a second and only while it runs: the last word would be too little,
        // which is worse than none.
        Finish { exit, ending, oom: limit.map(OutOfMemory::at), usage: Usage::default(), ran }
    }

    /// Removes the container, running or not.
    pub(super) async fn remove(&self) -> Result<(), ContainerError> {
        remove(&self.engine, &self.name).await
    }
}

/// Removes a container and its volumes, running or not. That it isn't there is no failure.
pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), ContainerError> {
    let options = RemoveContainerOptions { force: true, v: true, link: false };
    match engine.docker.remove_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(source) => Err(ContainerError::Engine { what: "remove the container", source }),
    }
}

/// Looks at a run's disk now and then until that is beyond its limit. `holders` names its processes.
async fn watch(disk: Option<Disk>, holders: impl Fn() -> BTreeSet<u32> + Copy + Send + 'static) -> Breach {
    let Some(mut disk) = disk else { return std::future::pending().await };
    loop {
        tokio::time::sleep_until(disk.next().into()).await;
        let breach = disk.breach();
        let looked = tokio::task::spawn_blocking(move || (disk.look_now(holders), disk)).await;
        match looked {
            Ok((false, next)) => disk = next,
            // What can't be measured is too much.
            Ok((true, _)) | Err(_) => return breach,
        }
    }
}

/// Asks to be told of the end of a container.
fn until_it_ends() -> WaitContainerOptions {
    WaitContainerOptions { condition: "not-running".to_owned() }
}

/// Whether that was told, whatever the exit code.
const fn says_end<T>(said: Option<&Result<T, ApiError>>) -> bool {
    matches!(said, Some(Ok(_) | Err(ApiError::DockerContainerWaitError { .. })))
}

/// The main process of a container, if it is one of this machine that can be seen.
fn process_of(state: &ContainerState) -> Option<ProcessId> {
    let pid = u32::try_from(state.pid?).ok().filter(|pid| *pid != 0)?;
    process::identify(pid)
}

/// Whether a container was made and never started.
pub(super) fn is_unstarted(state: &ContainerState) -> bool {
    state.status == Some(ContainerStateStatusEnum::CREATED)
}
