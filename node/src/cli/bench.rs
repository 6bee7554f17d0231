//! `jobmesh bench`: measure what this machine and this program reach.

use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::bench::{self, BenchError, Course, MeshPart, Part, Plan, Scale, Stop};
use crate::cli::{Context, Exit, Failure, Kind, note};

#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure one node on this machine, beside what the machine itself allows
    #[command(after_help = "Starts nodes of its own in a temporary folder in the data directory and removes them \
                            again; your own node goes on, but disturbs the figures if it is busy.")]
    Local(Local),
    /// Measure jobs that one node submits and others run, beside the same jobs on one node
    #[command(
        after_help = "Starts two nodes of its own in a temporary folder in the data directory, has one join the \
                            other by an invite, later a third, and removes them again. They meet on this machine's \
                            loopback and sync to its disk, as nodes on machines of their own would."
    )]
    Mesh(Mesh),
}

#[derive(Args, Debug)]
struct Mesh {
    #[command(flatten)]
    amount: Amount,
    /// Only this part: one job at a time, or many
    #[arg(long, value_name = "PART", num_args = 1.., value_delimiter = ',')]
    only: Vec<MeshPart>,
}

#[derive(Args, Debug)]
struct Local {
    #[command(flatten)]
    amount: Amount,
    /// Only these parts (may be repeated)
    #[arg(long, value_name = "PART", num_args = 1.., value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Args, Debug)]
struct Amount {
    /// Little of everything: to see that it works, within 20 seconds
    #[arg(long)]
    quick: bool,
    /// More of what is rare: idle for a minute, thousands of latencies
    #[arg(long, conflicts_with = "quick")]
    long: bool,
}

impl Amount {
    const fn scale(&self) -> Scale {
        match (self.quick, self.long) {
            (true, _) => Scale::Quick,
            (false, true) => Scale::Long,
            (false, false) => Scale::Normal,
        }
    }
}

impl Action {
    fn plan(self) -> Plan {
        match self {
            Self::Local(local) => Plan { course: Course::Local, scale: local.amount.scale(), only: local.only },
            Self::Mesh(mesh) => {
                let only = mesh.only.into_iter().map(Part::from).collect();
                Plan { course: Course::Mesh, scale: mesh.amount.scale(), only }
            }
        }
    }
}

impl Bench {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let fault = |error: std::io::Error| Failure::of(Kind::Internal, &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
        let (plan, home, stop) = (self.action.plan(), context.home.clone(), Stop::default());
        let say = if context.output.is_json() { |_: &str| {} } else { note };
        let mut work = JoinSet::new();
        let until = stop.clone();
        work.spawn_blocking(move || bench::measure(&plan, &home, until, say));
        // The work ends by itself soon after it was told to stop, when it has cleaned up; so it is waited for.
        let measured = loop {
            tokio::select! {
                biased;
                ended = work.join_next() => break ended,
                Some(()) = interrupt.recv() => stop.stop(),
                Some(()) = terminate.recv() => stop.stop(),
            }
        };
        match measured {
            Some(Ok(Ok(report))) => {
                context.output.show(&report, |colour| report.text(colour))?;
                Ok(Exit::OK)
            }
            Some(Ok(Err(BenchError::Interrupted))) => Ok(Exit::INTERRUPTED),
            Some(Ok(Err(error))) => {
                let hint = "give a data directory that can be written to with --home";
                Err(Failure::of(Kind::File, &error).hint(hint))
            }
            Some(Err(error)) => Err(Failure::of(Kind::Internal, &error)),
            None => Err(Failure::new(Kind::Internal, "the measurement was lost; this is a bug")),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    fn plan_of(course: &str, words: &str) -> Option<Plan> {
        let line = Line::try_parse_from(["bench", course].into_iter().chain(words.split_whitespace())).ok()?;
        Some(line.bench.action.plan())
    }

    fn plan(words: &str) -> Option<Plan> {
        plan_of("local", words)
    }

    #[test]
    fn each_course_has_parts_of_its_own() {
        let mesh = plan_of("mesh", "--quick --only spread");
        assert!(mesh.is_some_and(|plan| plan.only == [Part::Spread] && plan.course == Course::Mesh));
        assert!(plan_of("mesh", "--only idle").is_none() && plan("--only spread").is_none());
    }

    #[test]
    fn everything_is_measured_unless_told_otherwise() {
        assert!(plan("").is_some_and(|plan| plan.only.is_empty() && plan.scale == Scale::Normal));
        assert!(plan("--long").is_some_and(|plan| plan.scale == Scale::Long));
    }

    #[test]
    fn parts_are_named_one_by_one_or_together() {
        let wanted = [Part::Enqueue, Part::Idle];
        for words in ["--quick --only enqueue idle", "--only enqueue,idle", "--only enqueue --only idle"] {
            assert!(plan(words).is_some_and(|plan| plan.only == wanted), "{words}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in ["--quick --long", "--only everything", "--only", "more"] {
            assert!(plan(words).is_none(), "{words}");
        }
    }
}
