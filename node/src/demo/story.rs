//! What the demo shows, step by step.

use std::time::Duration;

use jobmesh::api::{
    CHANGE_EVENT, CapabilityAnswer, CapabilityRequest, Change, Explanation, InviteRequest, InviteView, JobDetail,
    JoinRequest, Joined, Learned, Peers, ReceiptView, SubmitRequest, Submitted,
};
use jobmesh_keys::Role;
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, JobSpec, JobState, Requirement, Tag};
use tokio::time::Instant;

use super::Teller;
use super::stage::{Node, Stage};
use crate::cli::receipt::verify::{self, Files};
use crate::cli::{Colour, Failure, JobRef, Kind, clean, explain, learn, receipt, time_words, words};

/// The capability that only one of the three machines has.
const CAPABILITY: &str = "tool:demo-gpu";
/// What the laptop sends to be worked on.
const INPUT: &[u8] = b"a picture that needs a gpu\n";
/// How long the nodes may take to find each other.
const MEET_LIMIT: Duration = Duration::from_secs(15);
/// Time between two looks at who is connected.
const LOOK: Duration = Duration::from_millis(50);

/// Tells the whole story.
pub(super) async fn tell(stage: &mut Stage, teller: &mut Teller) -> Result<(), Failure> {
    teller.step("starting three nodes, as if they were three machines: laptop, server and gpubox")?;
    let [laptop, server, gpubox] = stage.start(["laptop", "server", "gpubox"]).await?;
    teller.step("laptop invites the other two, and they join its mesh")?;
    for node in [server, gpubox] {
        join(laptop, node, teller).await?;
    }
    until_met(laptop, 2).await?;
    teller.lines("laptop is connected to both")?;
    local_jobs(laptop, teller).await?;
    let job = far_job(laptop, teller).await?;
    teller.step(&format!("gpubox gets the capability {CAPABILITY}; the job goes there by itself"))?;
    let _: CapabilityAnswer = gpubox.client.post("/v1/capabilities", &CapabilityRequest { tags: vec![tag()?] }).await?;
    let detail = follow(laptop, &job, teller).await?;
    completed(&detail)?;
    let output = output(laptop, &job).await?;
    teller.lines(&format!("output: {}", clean(&output)))?;
    proof(laptop, &job, &detail, teller).await?;
    teller.step("what laptop has learned about who does what how well")?;
    let learned: Learned = laptop.client.get("/v1/learn").await?;
    teller.lines(&learn::text(&learned, Colour::Off))
}

async fn join(inviter: &Node, node: &Node, teller: &Teller) -> Result<(), Failure> {
    let question = InviteRequest { ttl_ms: DurationMillis::from_secs(60), role: Role::Member };
    let invite: InviteView = inviter.client.post("/v1/invites", &question).await?;
    let joined: Joined = node.client.post("/v1/join", &JoinRequest { invite: invite.invite }).await?;
    teller.lines(&format!("{} joined; both show the words: {}", node.name, joined.words.join(" ")))
}

/// Waits until `node` is connected to so many others and knows what they can do.
async fn until_met(node: &Node, others: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + MEET_LIMIT;
    loop {
        let peers: Peers = node.client.get("/v1/peers").await?;
        if peers.peers.iter().filter(|peer| peer.is_connected && peer.record.is_some()).count() >= others {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let message = format!("{} has not found the other nodes after {} s", node.name, MEET_LIMIT.as_secs());
            return Err(Failure::new(Kind::Timeout, message).hint("is loopback traffic blocked by a firewall?"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn local_jobs(laptop: &Node, teller: &mut Teller) -> Result<(), Failure> {
    teller.step("laptop runs its own jobs itself")?;
    for command in [["echo", "hello from my own queue"], ["uname", "-s"]] {
        let mut spec = JobSpec::new(command[0], process(&command));
        spec.scope = Scope::Local;
        let job = submit(laptop, spec).await?;
        teller.lines(&format!("job {}: {}", job.number, words::command(&command.map(str::to_owned))))?;
        completed(&follow(laptop, &job, teller).await?)?;
        let output = output(laptop, &job).await?;
        teller.lines(&format!("output: {}", clean(&output)))?;
    }
    Ok(())
}

/// Submits the job that no node can run yet, and shows why it waits.
async fn far_job(laptop: &Node, teller: &mut Teller) -> Result<Submitted, Failure> {
    teller.step(&format!("laptop gets a job that needs {CAPABILITY}, which no node has"))?;
    let mut process = ProcessTask::new(["tr", "a-z", "A-Z"].map(str::to_owned).to_vec());
    process.stdin = Some(laptop.client.upload(INPUT).await?);
    let mut spec = JobSpec::new("render", Task::Process(process));
    spec.requirements = vec![Requirement::Has(tag()?)];
    let job = submit(laptop, spec).await?;
    teller.lines(&format!("job {}: tr a-z A-Z, with {} bytes of input", job.number, INPUT.len()))?;
    let path = format!("/v1/jobs/{}/explain", JobRef::of(job.id));
    let explanation: Explanation = laptop.client.get(&path).await?;
    teller.lines(&explain::text(&explanation, time_words::now(), Colour::Off))?;
    Ok(job)
}

async fn proof(laptop: &Node, job: &Submitted, detail: &JobDetail, teller: &mut Teller) -> Result<(), Failure> {
    teller.step("the result came with a receipt, signed by the node that ran the job")?;
    let name = JobRef::of(job.id);
    let view: ReceiptView = laptop.client.get(&format!("/v1/jobs/{name}/receipt")).await?;
    teller.lines(&receipt::text(&view, detail, Colour::Off))?;
    let verified = verify::of_job(&laptop.client, &name, None, Files::default()).await?;
    teller.step("laptop checks the receipt")?;
    teller.lines(&verify::text(&verified))
}

async fn submit(node: &Node, spec: JobSpec) -> Result<Submitted, Failure> {
    Ok(node.client.post("/v1/jobs", &SubmitRequest::new(spec)).await?)
}

/// Tells every transition of a job and returns it when it has ended.
async fn follow(node: &Node, job: &Submitted, teller: &Teller) -> Result<JobDetail, Failure> {
    let name = JobRef::of(job.id);
    let mut changes = node.client.events(&format!("/v1/jobs/{name}/watch")).await?;
    while let Some(change) = changes.next::<Change>(CHANGE_EVENT).await? {
        let what = words::happened(change.cause, change.state, change.node.as_ref());
        teller.lines(&format!("job {}: {}", change.number, clean(&what)))?;
    }
    Ok(node.client.get(&format!("/v1/jobs/{name}/wait")).await?)
}

fn completed(detail: &JobDetail) -> Result<(), Failure> {
    let job = &detail.job;
    if job.state == JobState::Completed {
        return Ok(());
    }
    let why = job.message.clone().unwrap_or_else(|| "no reason was given".to_owned());
    Err(Failure::new(Kind::Internal, format!("job {} of the demo is {}: {why}", job.number, job.state)))
}

async fn output(node: &Node, job: &Submitted) -> Result<String, Failure> {
    let mut answer = node.client.bytes(&format!("/v1/jobs/{}/logs?stream=stdout", JobRef::of(job.id))).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

fn process(command: &[&str]) -> Task {
    Task::Process(ProcessTask::new(command.iter().map(|word| (*word).to_owned()).collect()))
}

fn tag() -> Result<Tag, Failure> {
    CAPABILITY.parse().map_err(|error| Failure::of(Kind::Internal, &error))
}

/// Says what to type next.
pub(super) fn what_next(teller: &Teller) -> Result<(), Failure> {
    let program = std::env::current_exe().map_or_else(|_| "jobmesh".to_owned(), |path| path.display().to_string());
    teller.lines(&format!(
        "\n\
         Now with your own machines (the program is {program}):\n\
         \n\
         jobmesh run -- echo hello            run a job; starts the node of this machine\n\
         jobmesh invite                       make a string that lets another machine in\n\
         jobmesh up -d && jobmesh join STRING on the other machine\n\
         jobmesh capability add tool:ffmpeg   there: say what it can do\n\
         jobmesh run --require tool:ffmpeg -- ffmpeg -version\n\
         jobmesh ls                           and `jobmesh --help` for everything else"
    ))
}
