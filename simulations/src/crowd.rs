//! Worlds of very many nodes, and what they cost: the commands `mass` and `wide`.
//!
//! Clocks and memory of the real world are looked at here only, from outside: nothing that a node or the world does
//! depends on them.

use std::time::{Duration, Instant};

use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{Draw, Report, Tier, run};

use crate::say;

/// How long faults and work go on.
const FAULTY: DurationMillis = DurationMillis::from_secs(120);
/// How long the world is watched at the end.
const IDLE: DurationMillis = DurationMillis::from_secs(10);
/// How long the choice of those who are asked for a job may take.
const DECISION_MAX: Duration = Duration::from_millis(1);

/// What is said of a world of many nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct CrowdArgs {
    /// The number that everything random grows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes: 1,000 in the mass, 100 otherwise.
    #[arg(long, value_parser = clap::value_parser!(u64).range(50..=2_000))]
    nodes: Option<u64>,
    /// How many jobs; one for each node, or two where they are few, if left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Virtual milliseconds of faults and work.
    #[arg(long, default_value_t = FAULTY.0)]
    millis: u64,
}

impl CrowdArgs {
    fn nodes(&self, tier: Tier) -> u64 {
        self.nodes.unwrap_or(match tier {
            Tier::Mass => 1_000,
            Tier::Wide | Tier::Full => 100,
        })
    }

    /// Runs the world and says what came of it. False if a promise broke, or if most choices took too long.
    pub(crate) fn run(&self, tier: Tier) -> bool {
        let nodes = self.nodes(tier);
        let mut draw = Draw::new(self.seed);
        draw.tier = tier;
        draw.nodes = usize::try_from(nodes).ok();
        draw.jobs = self.jobs;
        draw.faulty = DurationMillis(self.millis);
        draw.idle = IDLE;
        let began = Instant::now();
        match run(&draw.plan()) {
            Ok(report) => {
                say(&report.to_string());
                tell(&report, nodes, began.elapsed())
            }
            Err(failure) => {
                say(&failure.to_string());
                false
            }
        }
    }
}

/// Says what a run cost. False if most choices took too long.
fn tell(report: &Report, nodes: u64, took: Duration) -> bool {
    let lasted = Duration::from_millis(report.lasted.0);
    let (frames, bytes) = report.traffic.of_tickets();
    let jobs = (report.jobs as u64).max(1);
    say(&format!("lost      none of {} jobs that were acknowledged, and no promise was broken", report.jobs));
    say(&format!("messages  {} frames and {} bytes of tickets a job, faults included", frames / jobs, bytes / jobs));
    let each = report.bytes / nodes.max(1) / lasted.as_secs().max(1);
    say(&format!("talk      {each} bytes a second and node in sessions, of jobs and all else"));
    say(&format!("memory    {} a node at most", memory(nodes)));
    let many = u32::try_from(nodes * 9 / 10).unwrap_or(u32::MAX);
    let among = report.pace.among(many);
    if !among.is_empty() {
        say(&format!("of these  among {many} records or more: {among}"));
    }
    let (median, most) =
        (report.pace.within(500).max(among.within(500)), report.pace.within(990).max(among.within(990)));
    let word = |is_met| if is_met { "met" } else { "MISSED" };
    let (is_met, are_met) = (median <= DECISION_MAX, most <= DECISION_MAX);
    say(&format!(
        "promise   a choice takes less than {DECISION_MAX:?}: half {}, 99 of 100 {}",
        word(is_met),
        word(are_met)
    ));
    say(&format!("took      {:.1} s for {} s of virtual time", took.as_secs_f64(), lasted.as_secs()));
    is_met
}

/// The most memory that this process ever had, for each node, where the system says it.
fn memory(nodes: u64) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{} KiB", kib / nodes.max(1)))
}
