//! What each executor costs beside the bare engine of its kind.
//!
//! For each kind the same work is done again and again in one slot, one job after the other: first by nothing but the
//! engine (spawn and wait, or a request over a socket), then as an order to [`Executors`]. Three rounds of both, in turns,
//! because a shared machine drifts; the medians count. The first job of an executor is told apart: that is its start-up.
//! A worker's floor is the start of a program of that size, so that its ratio tells what the interpreter costs too.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't run may panic")]
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use jobmesh_executors::model::settings::{Provider, ProviderKind, Settings};
use jobmesh_executors::{
    Config, Ended, Event, Executors, Groups, Limits, Order, Sandboxes, Secrets, Shelf, Surroundings,
};
use jobmesh_protocol::task::{EmbeddingTask, HttpTask, LlmTask, LuaTask, ProcessTask, Task, WasmTask};
use jobmesh_protocol::{BlobRef, DurationMillis, Epoch, Isolation, JobId, Outcome, RunId};

/// The program that executors start as a worker.
const WORKER: &str = env!("CARGO_BIN_EXE_jobmesh-worker");
/// Jobs in a round.
const JOBS: u32 = 300;
/// Rounds of both ways.
const ROUNDS: u32 = 3;
/// The smallest module there is.
const MODULE: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// One kind of work, and its floor.
struct Kind {
    name: &'static str,
    floor_name: &'static str,
    task: Task,
    floor: Box<dyn Fn()>,
}

fn main() {
    let server = serve();
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let blobs = home.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    std::fs::write(blobs.join(BlobRef::of(MODULE).hash.to_string()), MODULE).unwrap();
    for kind in kinds(server) {
        let (sender, events) = sync_channel(64);
        let report = move |event| drop(sender.send(event));
        let executors = Executors::start(config(home.path(), &runtime, server), report, |_, _| Outcome::Ok).unwrap();
        let bench = Bench { executors, events, home: home.path() };
        bench.measure(&kind);
        bench.executors.shutdown();
    }
}

fn config(home: &Path, runtime: &tokio::runtime::Runtime, server: SocketAddr) -> Config {
    let surroundings = Surroundings::new(runtime.handle().clone(), WORKER.into());
    Config {
        slots: NonZeroU16::MIN,
        spares: Some(home.join("spares")),
        groups: Groups::Use,
        sandboxes: Sandboxes::Use,
        shelf: Shelf::open(home.join("blobs")).unwrap(),
        surroundings: Surroundings { models: models(server), ..surroundings },
    }
}

fn kinds(server: SocketAddr) -> Vec<Kind> {
    let spawn = |program: &'static str| -> Box<dyn Fn()> { Box::new(move || spawn_and_wait(program)) };
    let (spawned, requested) = ("spawn and wait", "a request over a socket");
    let url = format!("http://{server}/");
    vec![
        Kind {
            name: "process",
            floor_name: spawned,
            task: Task::Process(ProcessTask::new(vec!["true".to_owned()])),
            floor: spawn("/bin/true"),
        },
        Kind {
            name: "wasm",
            floor_name: spawned,
            task: Task::Wasm(WasmTask::new(BlobRef::of(MODULE))),
            floor: spawn(WORKER),
        },
        Kind { name: "lua", floor_name: spawned, task: Task::Lua(LuaTask::new("")), floor: spawn(WORKER) },
        Kind {
            name: "http",
            floor_name: requested,
            task: Task::Http(HttpTask::new(url)),
            floor: Box::new(move || request(server, "/")),
        },
        Kind {
            name: "llm",
            floor_name: requested,
            task: Task::Llm(LlmTask { model: Some("here/small".to_owned()), ..LlmTask::new("hello?") }),
            floor: Box::new(move || request(server, "/v1/chat/completions")),
        },
        Kind {
            name: "embedding",
            floor_name: requested,
            task: Task::Embedding(EmbeddingTask {
                model: Some("here/small".to_owned()),
                ..EmbeddingTask::new(["hello"])
            }),
            floor: Box::new(move || request(server, "/v1/embeddings")),
        },
    ]
}

/// The one provider of models that there is.
fn models(server: SocketAddr) -> Settings {
    let base_url = Some(format!("http://{server}/v1/"));
    let provider = Provider { kind: ProviderKind::OpenAi, base_url, key: None, peers: false };
    Settings { providers: [("here".to_owned(), provider)].into(), ..Settings::default() }
}

/// The executors of one kind's measurement.
struct Bench<'h> {
    executors: Executors,
    events: Receiver<Event>,
    home: &'h Path,
}

impl Bench<'_> {
    fn measure(&self, kind: &Kind) {
        let name = kind.name;
        let probe = self.executors.probe().into_iter().find(|probe| probe.executor == name);
        if let Some(probe) = probe.filter(|probe| probe.isolation.is_none()) {
            println!("SKIPPED {name}: {}", probe.lacks.join("; "));
            return;
        }
        let mut number = 0;
        let mut job = || {
            number += 1;
            let ended = self.run(self.order(kind, number));
            assert_eq!(ended.outcome.word(), "ok", "{name}: {ended:?}");
        };
        let first = timed(&mut job);
        let (mut floor, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            floor.extend((0..JOBS).map(|_| timed(&kind.floor)));
            ours.extend((0..JOBS).map(|_| timed(&mut job)));
        }
        let (floor, ours) = (median(floor), median(ours));
        let ratio = ours.as_secs_f64() / floor.as_secs_f64();
        println!(
            "{name:<10} first job {first:>9.2?}, each {ours:>9.2?}, {} {floor:>9.2?}, ratio {ratio:.2}",
            kind.floor_name
        );
    }

    fn run(&self, order: Order) -> Ended {
        self.executors.run(order);
        loop {
            match self.events.recv().unwrap() {
                Event::Ended { ended, .. } => return ended,
                Event::Started { .. } | Event::Progress { .. } => {}
            }
        }
    }

    fn order(&self, kind: &Kind, number: u32) -> Order {
        let mut bytes = [0_u8; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        let run = RunId { job: JobId::from_bytes(bytes), epoch: Epoch(1) };
        Order {
            run,
            task: kind.task.clone(),
            follows: None,
            kill_grace: DurationMillis::from_secs(5),
            blobs: self.home.join("blobs"),
            stdin: None,
            inputs: None,
            outputs: Vec::new(),
            directory: self.home.join("runs").join(format!("{}-{run}", kind.name)),
            environment: [].into(),
            secrets: Secrets::default(),
            limits: Limits::default(),
            is_foreign: false,
            network: true,
            isolation: Isolation::None,
        }
    }
}

fn timed(mut work: impl FnMut()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn spawn_and_wait(program: &str) {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
}

/// Sends one request over a connection of its own, as each job does, and reads the answer.
fn request(server: SocketAddr, path: &str) {
    let mut stream = TcpStream::connect(server).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// A server of pages and models that says the same each time, for as long as this program lives.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
    address
}

/// Answers one request. Whoever went away is not missed.
fn answer(mut stream: TcpStream) {
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0_u64);
    let _ = head.read_line(&mut first);
    while head.read_line(&mut line).is_ok_and(|count| count > 2) {
        let (name, value) = line.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let _ = head.take(length).read_to_end(&mut Vec::new());
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (kind, body) = match path.rsplit('/').next() {
        Some("completions") => ("text/event-stream", COMPLETION),
        Some("embeddings") => ("application/json", EMBEDDING),
        Some(_) | None => ("text/plain", ""),
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
    let _ = stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes());
}

/// What the model says.
const COMPLETION: &str = concat!(
    r#"data: {"id":"x","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"x","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\ndata: [DONE]\n\n",
);

/// The vector of a text.
const EMBEDDING: &str = r#"{"object":"list","model":"small","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;
