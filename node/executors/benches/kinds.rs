//! What each executor costs beside the bare engine of its kind.
//!
//! `cargo bench -p jobmesh-executors --bench kinds [-- WORD…] [-- --quick]`: only the kinds whose name contains a word. It
//! prints the table that the README shows.
//!
//! For each kind the same job, which does nothing, is done again and again in one slot, one after the other: by nothing
//! but the bare engine, and as an order to `Executors`. Three rounds of both, in turns, because a shared machine drifts;
//! the medians count. The first job of an executor is told apart, since it pays for what is set up once: that is its
//! start-up. What a worker interprets has two floors: the engine alone, in this very process, and the start of a
//! program of the worker's size, which is what it costs to keep the engine out of the daemon.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't run may panic")]
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

// The nodes and the container engine are those of the tests.
#[expect(dead_code, reason = "tests need more of it")]
#[path = "../tests/executors/harness.rs"]
mod harness;
#[path = "../tests/executors/podman.rs"]
mod podman;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::StreamExt as _;
use jobmesh_executors::model::settings::{Provider, ProviderKind, Settings};
use jobmesh_protocol::task::{ContainerTask, EmbeddingTask, HttpTask, LlmTask, LuaTask, ProcessTask, Task, WasmTask};
use jobmesh_tests::provider::provider;
use jobmesh_tests::stopwatch::{machine, median, timed, words};
use jobmesh_tests::web::Server;

use crate::harness::Node;
use crate::podman::{IMAGE, Podman, podman};

/// The program that executors start as a worker.
const WORKER: &str = env!("CARGO_BIN_EXE_jobmesh-worker");
/// Jobs in a round.
const JOBS: u32 = 300;
/// Containers in a round, each of which takes a quarter of a second.
const CONTAINERS: u32 = 8;
/// Rounds of both ways.
const ROUNDS: u32 = 3;
/// How much less is done for a quick look.
const QUICK: u32 = 8;
/// Most time that an engine may take to begin an answer, in seconds.
const ANSWER_SECONDS: u64 = 120;
/// The smallest module there is.
const MODULE: &[u8] = br#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// The bare engine of a kind, in words and at work.
type Floor = (&'static str, Box<dyn Fn()>);

/// One kind of work.
struct Kind {
    name: &'static str,
    /// The node that does it; none, after saying so, where it can't be done.
    node: Box<dyn Fn() -> Option<Node>>,
    task: Box<dyn Fn(&Node) -> Task>,
    floors: Vec<Floor>,
    jobs: u32,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&String> = arguments.iter().filter(|word| !word.starts_with("--")).collect();
    let share = if arguments.iter().any(|word| word == "--quick") { QUICK } else { 1 };
    let server = provider();
    println!(
        "{}. fsync: none, executors leave that to the node, whose commits (synchronous=FULL) `jobmesh bench` counts.\n",
        machine()
    );
    println!("| kind | first job | each job | floor | ratio | the floor is |");
    println!("|---|---:|---:|---:|---:|---|");
    for kind in processes().into_iter().chain(containers()).chain(interpreted()).chain(asked(&server)) {
        if words.is_empty() || words.iter().any(|word| kind.name.contains(word.as_str())) {
            measure(&kind, share);
        }
    }
}

fn processes() -> Vec<Kind> {
    let run_true: fn(&Node) -> Task = |_| Task::Process(ProcessTask::new(vec!["true".to_owned()]));
    let spawned = || -> Floor { ("spawn and wait", Box::new(|| spawn_and_wait("/bin/true", &[]))) };
    let mut boxed = vec![spawned()];
    if Path::new("/usr/bin/unshare").exists() {
        let apart = ["--user", "--map-root-user", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "true"];
        boxed
            .push(("`unshare` into the same namespaces", Box::new(move || spawn_and_wait("/usr/bin/unshare", &apart))));
    }
    vec![
        Kind {
            name: "process",
            node: Box::new(|| Some(Node::start(1))),
            task: Box::new(run_true),
            floors: vec![spawned()],
            jobs: JOBS,
        },
        Kind {
            name: "process, sandboxed",
            node: Box::new(|| Node::start_sandboxed(1)),
            task: Box::new(run_true),
            floors: boxed,
            jobs: JOBS,
        },
    ]
}

/// Containers, where there is an engine.
fn containers() -> Option<Kind> {
    let engine = podman()?;
    let by_hand = Engine::of(&engine);
    Some(Kind {
        name: "container",
        node: Box::new(move || Some(podman::node(podman::containers(&engine)))),
        task: Box::new(|_| Task::Container(ContainerTask::new(IMAGE, vec!["true".to_owned()]))),
        floors: vec![("make, start, wait and remove by the engine's API", Box::new(move || by_hand.run()))],
        jobs: CONTAINERS,
    })
}

fn interpreted() -> Vec<Kind> {
    let started = || -> Floor { ("start of a program of the worker's size", Box::new(|| spawn_and_wait(WORKER, &[]))) };
    vec![
        Kind {
            name: "wasm",
            node: Box::new(|| Some(Node::start(1))),
            task: Box::new(|node| Task::Wasm(WasmTask::new(node.blob(MODULE)))),
            floors: vec![("wasmi in this process", Box::new(interpret_module)), started()],
            jobs: JOBS,
        },
        Kind {
            name: "lua",
            node: Box::new(|| Some(Node::start(1))),
            task: Box::new(|_| Task::Lua(LuaTask::new(""))),
            floors: vec![("Luau in this process", Box::new(|| mlua::Lua::new().load("").exec().unwrap())), started()],
            jobs: JOBS,
        },
    ]
}

/// What waits for a server.
fn asked(server: &Server) -> Vec<Kind> {
    let (port, page) = (server.port(), server.url("/"));
    let directly = |path: &'static str, body: &'static str| -> Floor {
        ("the same exchange over a bare socket", Box::new(move || exchange(port, path, body)))
    };
    let models = models(server);
    let kind = |name, task: Box<dyn Fn(&Node) -> Task>, floor| Kind {
        name,
        node: {
            let models = models.clone();
            Box::new(move || Some(Node::start_asking(1, models.clone())))
        },
        task,
        floors: vec![floor],
        jobs: JOBS,
    };
    let model = || Some("here/small".to_owned());
    vec![
        kind("http", Box::new(move |_| Task::Http(HttpTask::new(page.clone()))), directly("/", "")),
        kind(
            "llm",
            Box::new(move |_| Task::Llm(LlmTask { model: model(), ..LlmTask::new("hello?") })),
            directly("/v1/chat/completions", QUESTION),
        ),
        kind(
            "embedding",
            Box::new(move |_| Task::Embedding(EmbeddingTask { model: model(), ..EmbeddingTask::new(["hello"]) })),
            directly("/v1/embeddings", TEXTS),
        ),
    ]
}

/// The one provider of models that there is.
fn models(server: &Server) -> Settings {
    let base_url = Some(server.url("/v1/"));
    let provider = Provider { base_url, ..Provider::new(ProviderKind::OpenAi) };
    Settings { providers: [("here".to_owned(), provider)].into(), ..Settings::default() }
}

fn measure(kind: &Kind, share: u32) {
    let Some(node) = (kind.node)() else { return };
    let task = (kind.task)(&node);
    let job = || {
        let ended = node.end_of(node.order(task.clone()));
        assert_eq!(ended.outcome.word(), "ok", "{}: {ended:?}", kind.name);
    };
    let first = timed(job);
    let jobs = (kind.jobs / share).max(2);
    let (mut ours, mut floors) = (Vec::new(), vec![Vec::new(); kind.floors.len()]);
    for _ in 0..ROUNDS {
        for ((_, floor), times) in kind.floors.iter().zip(&mut floors) {
            times.extend((0..jobs).map(|_| timed(floor)));
        }
        ours.extend((0..jobs).map(|_| timed(job)));
    }
    let ours = median(ours);
    for ((name, _), times) in kind.floors.iter().zip(floors) {
        let floor = median(times);
        let ratio = ours.as_secs_f64() / floor.as_secs_f64();
        println!("| {} | {} | {} | {} | {ratio:.2} | {name} |", kind.name, words(first), words(ours), words(floor));
    }
}

fn spawn_and_wait(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap();
}

/// What a worker does with a module, without the worker.
fn interpret_module() {
    let mut config = wasmi::Config::default();
    config.consume_fuel(true);
    let engine = wasmi::Engine::new(&config);
    let module = wasmi::Module::new(&engine, MODULE).unwrap();
    let mut store = wasmi::Store::new(&engine, ());
    store.set_fuel(u64::MAX).unwrap();
    let instance = wasmi::Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
    instance.get_typed_func::<(), ()>(&store, "_start").unwrap().call(&mut store, ()).unwrap();
}

/// The container engine of the tests, asked without an executor.
struct Engine {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
    /// Runs as long as this.
    _podman: Arc<Podman>,
}

impl Engine {
    fn of(podman: &Arc<Podman>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let socket = podman.socket().to_string_lossy().into_owned();
        let docker = runtime.block_on(async {
            let docker = Docker::connect_with_unix(&socket, ANSWER_SECONDS, API_DEFAULT_VERSION).unwrap();
            docker.negotiate_version().await.unwrap()
        });
        Self { docker, runtime, _podman: Arc::clone(podman) }
    }

    /// Runs `true` in a container.
    fn run(&self) {
        let host = HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() };
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(vec!["true".to_owned()]),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        self.runtime.block_on(async {
            let made = self.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap();
            let id = made.id.as_str();
            self.docker.start_container(id, None::<StartContainerOptions>).await.unwrap();
            let ended: Vec<_> = self.docker.wait_container(id, None::<WaitContainerOptions>).collect().await;
            assert!(ended.iter().all(Result::is_ok), "{ended:?}");
            self.docker.remove_container(id, None::<RemoveContainerOptions>).await.unwrap();
        });
    }
}

/// Sends one request over a connection of its own, as each job does, and reads the answer.
fn exchange(port: u16, path: &str, body: &str) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let method = if body.is_empty() { "GET" } else { "POST" };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}", body.len());
    let request = format!("{head}\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

/// What the model is asked.
const QUESTION: &str = r#"{"model":"small","messages":[{"role":"user","content":"hello?"}],"stream":true}"#;

/// What vectors are asked of.
const TEXTS: &str = r#"{"model":"small","input":["hello"]}"#;
