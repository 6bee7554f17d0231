//! The outer process of a sandbox: enters the namespaces, starts the inner process, ends as the program did.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::plan::Plan;
use super::{FAILED, Failure, INNER_WORD, keep_failure, namespaces};
use crate::variable::RUN_VARIABLE;
use crate::worker::WORKER_WORD;

/// Longest answer of an inner process.
const ANSWER_BYTES_MAX: u64 = 8192;

/// How the program ended, as the inner process tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// There is no sandbox.
    NoSandbox(String),
    /// There is no such program.
    NoProgram(String),
}

/// Does the outer process's work.
pub(super) fn work() -> ExitCode {
    let plan = match Plan::read(io::stdin().lock()) {
        Ok(plan) => plan,
        Err(error) => {
            tracing::error!(%error, "a sandbox was not told what to start");
            return ExitCode::FAILURE;
        }
    };
    let directory = plan.0.directory.clone();
    let answer = run(plan).unwrap_or_else(|failure| match failure {
        Failure::Sandbox(message) => Answer::NoSandbox(message),
        Failure::Program(message) => Answer::NoProgram(message),
    });
    let failure = match answer {
        Answer::Code(code) => return exit(code),
        Answer::Signal(number) => return die(number),
        Answer::NoSandbox(message) => Failure::Sandbox(message),
        Answer::NoProgram(message) => Failure::Program(message),
    };
    if let Err(error) = keep_failure(&directory, &failure) {
        tracing::error!(%error, "failed to write down why a sandbox was not made");
    }
    exit(FAILED)
}

/// Runs the inner process to its end.
fn run((plan, bytes): (Plan, Vec<u8>)) -> Result<Answer, Failure> {
    let failed = |what: &'static str| move |error: io::Error| Failure::Sandbox(format!("{what}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed("failed to listen to signals"))?;
    let _entered = runtime.enter();
    // Each is for the program, which gets it itself. From here on none ends this process, which has to tell of its end.
    let mut signals = Signals::swallow().map_err(failed("failed to catch signals"))?;
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, core).map_err(|error| failed("failed to forbid core files")(error.into()))?;
    namespaces::enter(plan.network).map_err(failed("failed to enter namespaces"))?;
    let (mut ours, theirs) = UnixStream::pair().map_err(failed("failed to make a pair of sockets"))?;
    let mut child = start_inner(theirs).map_err(failed("failed to start its first process"))?;
    let said = ours.write_all(&bytes).and_then(|()| ours.shutdown(std::net::Shutdown::Write));
    // If that failed, the inner process has ended, and how it ended tells more.
    drop(said);
    let heard = runtime.block_on(hear(ours, &mut signals)).map_err(failed("failed to hear from its first process"))?;
    if let Heard::Signal(_) = heard {
        child.kill().map_err(failed("failed to end its first process"))?;
    }
    // Nothing of the namespace is left once its first process has ended.
    let status = child.wait().map_err(failed("failed to wait for its first process"))?;
    let answer = match heard {
        Heard::Signal(number) => return Ok(Answer::Signal(number)),
        Heard::Answer(answer) if answer.is_empty() => {
            tracing::debug!(%status, "the first process of a sandbox was killed");
            return Ok(Answer::Signal(Signal::KILL.as_raw()));
        }
        Heard::Answer(answer) => answer,
    };
    serde_json::from_slice(&answer)
        .map_err(|error| Failure::Sandbox(format!("its first process made no sense: {error}")))
}

/// What an inner process says once the program runs.
pub(super) const STARTED: &[u8] = b"+";

/// What came first.
enum Heard {
    /// All that the inner process said of the end.
    Answer(Vec<u8>),
    /// A signal that was meant for a program that does not run yet, and so would have been lost on it.
    Signal(i32),
}

/// Listens to the inner process until it has nothing more to say.
async fn hear(channel: UnixStream, signals: &mut Signals) -> io::Result<Heard> {
    channel.set_nonblocking(true)?;
    let mut channel = tokio::net::UnixStream::from_std(channel)?.take(ANSWER_BYTES_MAX);
    let mut first = [0_u8; 1];
    let count = tokio::select! {
        biased;
        number = signals.ending() => return Ok(Heard::Signal(number)),
        count = channel.read(&mut first) => count?,
    };
    let mut answer = Vec::new();
    answer.extend(first.get(..count).filter(|first| *first != STARTED).into_iter().flatten());
    channel.read_to_end(&mut answer).await?;
    Ok(Heard::Answer(answer))
}

/// What may be sent to all processes of a run, caught.
struct Signals {
    ending: Vec<(i32, tokio::signal::unix::Signal)>,
    _others: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    /// Those that ask a program to end.
    const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
    /// Those that mean something to some programs.
    const OTHERS: [Signal; 5] = [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::WINCH, Signal::PIPE];

    fn swallow() -> io::Result<Self> {
        let catch = |kind: &Signal| Ok((kind.as_raw(), signal(SignalKind::from_raw(kind.as_raw()))?));
        let ending = Self::ENDING.iter().map(catch).collect::<io::Result<_>>()?;
        let others = Self::OTHERS.iter().map(catch).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { ending, _others: others.into_iter().map(|(_, caught)| caught).collect() })
    }

    /// Waits until one came that asks to end.
    async fn ending(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            let mut each = self.ending.iter_mut();
            let caught = each.find_map(|(number, caught)| caught.poll_recv(context).is_ready().then_some(*number));
            caught.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}

fn start_inner(channel: UnixStream) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args([WORKER_WORD, INNER_WORD]).stdin(Stdio::from(std::os::fd::OwnedFd::from(channel)));
    let marker = std::env::var_os(RUN_VARIABLE).unwrap_or_default();
    command.env_clear().env(RUN_VARIABLE, marker).spawn()
}

fn exit(code: i32) -> ExitCode {
    u8::try_from(code & 0xff).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Ends by a signal, as the program did.
///
/// This process catches some of them, and its runtime library others. A new program catches none, so the shell does it.
fn die(number: i32) -> ExitCode {
    if number == Signal::KILL.as_raw() {
        // Nothing is left to do if that fails.
        let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    }
    let script = format!("kill -{number} $$");
    let error = Command::new("/bin/sh").args(["-c", &script]).env_clear().exec();
    tracing::error!(%error, "failed to end by the signal that ended a sandboxed program");
    exit(128_i32.saturating_add(number))
}
