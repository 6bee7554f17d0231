//! The simulator's command line: one seed with a report, or many with a summary.

mod twice;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{Drive, FaultKind, NODES_MAX, NODES_MIN, Plan, PowerPlan, Report, Watch, cut_power, run};

/// Runs many jobmesh nodes in virtual time, from one seed.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one seed and reports on it. Exits with 1 if an invariant breaks.
    Run(RunArgs),
    /// Runs seed after seed. Exits with 1 if the invariants of any break.
    Seeds(SeedsArgs),
    /// Cuts the power of single nodes and looks at what they still know. Exits with 1 if a promise breaks.
    PowerCuts(PowerArgs),
    /// Shows how many seeds it takes to find each of the engine's seeded bugs. Exits with 1 if one is missed.
    #[cfg(feature = "mutants")]
    Mutants {
        /// Seeds to try for each.
        #[arg(long, default_value_t = 500)]
        seeds: u64,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The number that everything random grows from.
    #[arg(long)]
    seed: u64,
    /// How many nodes; drawn from the seed if left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(NODES_MIN as u64..=NODES_MAX as u64))]
    nodes: Option<u64>,
    /// Virtual hours of faults before the world heals; ten minutes if left out.
    #[arg(long)]
    hours: Option<u64>,
    /// The same in milliseconds.
    #[arg(long, conflicts_with = "hours")]
    millis: Option<u64>,
    /// Lines of the trace to show after a failure.
    #[arg(long)]
    lines: Option<usize>,
    /// Run on disks that never fail.
    #[arg(long)]
    sound_disks: bool,
    /// Also watch an invariant that must fail.
    #[arg(long)]
    canary: bool,
    /// Run with one of the engine's seeded bugs.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = mutant)]
    mutant: Option<jobmesh_simulations::Mutant>,
}

#[derive(Debug, clap::Args)]
struct SeedsArgs {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long)]
    count: u64,
    /// Virtual minutes of faults for each.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Go on after a failure and name every seed that fails, in one line each.
    #[arg(long)]
    keep_going: bool,
    /// Run each seed in two processes and compare the hashes of traces and databases.
    #[arg(long)]
    twice: bool,
}

#[derive(Debug, clap::Args)]
struct PowerArgs {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long)]
    count: u64,
    /// What kind of drive: honest, lying, rotten or old-backup. Only an honest one must keep every promise.
    #[arg(long, default_value = "honest", value_parser = drive)]
    drive: Drive,
    /// Run with one of the seeded bugs.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = mutant)]
    mutant: Option<jobmesh_simulations::Mutant>,
}

fn drive(word: &str) -> Result<Drive, &'static str> {
    match word {
        "honest" => Ok(Drive::Honest),
        "lying" => Ok(Drive::Lying),
        "rotten" => Ok(Drive::Rotten),
        "old-backup" => Ok(Drive::OldBackup),
        _ => Err("drives are honest, lying, rotten or old-backup"),
    }
}

fn main() -> ExitCode {
    let good = match Args::parse().command {
        Command::Run(args) => one(&args.plan()),
        Command::Seeds(args) if args.twice => doubled(&args),
        Command::Seeds(args) => many(&args),
        Command::PowerCuts(args) => power_cuts(&args),
        #[cfg(feature = "mutants")]
        Command::Mutants { seeds } => hunt(seeds),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl RunArgs {
    fn plan(&self) -> Plan {
        let mut plan = Plan::new(self.seed);
        if let Some(nodes) = self.nodes {
            plan = plan.with_nodes(usize::try_from(nodes).unwrap_or(NODES_MAX));
        }
        let hours = self.hours.map(|hours| DurationMillis::from_secs(hours.saturating_mul(3600)));
        if let Some(faulty) = hours.or(self.millis.map(DurationMillis)) {
            plan = plan.with_faults_for(faulty);
        }
        plan.tail_lines = self.lines.unwrap_or(plan.tail_lines);
        if self.sound_disks {
            plan = plan.with_sound_disks();
        }
        if self.canary {
            plan.watch = Watch::Canary;
        }
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.mutant {
            plan = plan.with_mutant(mutant);
        }
        plan
    }
}

fn one(plan: &Plan) -> bool {
    match run(plan) {
        Ok(report) => {
            say(&report.to_string());
            true
        }
        Err(failure) => {
            say(&failure.to_string());
            false
        }
    }
}

/// What many seeds did together.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    virtual_secs: u64,
    jobs: usize,
    runs: usize,
    steps: u64,
    frames: u64,
    attempts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<FaultKind, u64>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.virtual_secs += report.lasted.0 / 1000;
        self.jobs += report.jobs;
        self.runs += report.runs;
        self.steps += report.steps;
        self.frames += report.frames;
        for (state, count) in &report.attempts {
            *self.attempts.entry(state).or_default() += count;
        }
        for (kind, count) in &report.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }

    fn show(&self, real_secs: f64) {
        let hours = self.virtual_secs / 3600;
        say(&format!("seeds     {} good, {hours} virtual hours in {real_secs:.1} s", self.seeds));
        say(&format!("jobs      {} acknowledged, {} runs", self.jobs, self.runs));
        say(&format!("work      {} steps, {} frames", self.steps, self.frames));
        let attempts: Vec<String> = self.attempts.iter().map(|(state, count)| format!("{state} {count}")).collect();
        say(&format!("attempts  {}", attempts.join(" ")));
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{} {count}", kind.word())).collect();
        say(&format!("faults    {}", faults.join(" ")));
    }
}

fn many(args: &SeedsArgs) -> bool {
    let began = std::time::Instant::now();
    let mut sum = Sum::default();
    let mut failures = 0_u64;
    for seed in args.from..args.from.saturating_add(args.count) {
        let plan = Plan::new(seed).with_faults_for(DurationMillis::from_secs(args.minutes.saturating_mul(60)));
        match run(&plan) {
            Ok(report) => sum.add(&report),
            Err(failure) if args.keep_going => {
                failures += 1;
                say(&format!("FAILED    seed {seed}: {}", failure.violation));
            }
            Err(failure) => {
                say(&failure.to_string());
                return false;
            }
        }
    }
    sum.show(began.elapsed().as_secs_f64());
    if failures > 0 {
        say(&format!("FAILED    {failures} seeds"));
    }
    failures == 0
}

fn doubled(args: &SeedsArgs) -> bool {
    let millis = args.minutes.saturating_mul(60_000);
    let mut is_good = true;
    for seed in args.from..args.from.saturating_add(args.count) {
        match twice::twice(seed, millis) {
            Ok((first, second)) if first == second && first.is_good() => {}
            Ok((first, second)) => {
                say(&format!("FAILED    seed {seed} is not the same twice\n{first}\n{second}"));
                is_good = false;
            }
            Err(error) => {
                say(&format!("FAILED    no process for seed {seed}: {error}"));
                return false;
            }
        }
    }
    if is_good {
        say(&format!("twice     {} seeds, with the same traces and databases in both processes", args.count));
    }
    is_good
}

fn power_cuts(args: &PowerArgs) -> bool {
    let began = std::time::Instant::now();
    let plan = PowerPlan {
        from: args.from,
        count: args.count,
        drive: args.drive,
        #[cfg(feature = "mutants")]
        mutant: args.mutant,
    };
    match cut_power(&plan) {
        Ok(report) => {
            say(&report.to_string());
            say(&format!("took      {:.1} s", began.elapsed().as_secs_f64()));
            true
        }
        Err(failure) => {
            say(&failure.to_string());
            false
        }
    }
}

#[cfg(feature = "mutants")]
const MUTANTS: [jobmesh_simulations::Mutant; 4] = {
    use jobmesh_simulations::Mutant;
    [Mutant::SendBeforeCommit, Mutant::AcceptStaleEpoch, Mutant::ForgetOutbox, Mutant::SkipSignatureCheck]
};

/// Those that a power cut shows.
#[cfg(feature = "mutants")]
const POWER_MUTANTS: [jobmesh_simulations::Mutant; 3] = {
    use jobmesh_simulations::Mutant;
    [Mutant::SyncNormal, Mutant::IgnoreSyncError, Mutant::BelieveLog]
};

#[cfg(feature = "mutants")]
fn mutant(name: &str) -> Result<jobmesh_simulations::Mutant, String> {
    let found = MUTANTS.into_iter().chain(POWER_MUTANTS).find(|mutant| format!("{mutant:?}") == name);
    found.ok_or_else(|| format!("no such mutant; there are {MUTANTS:?} and {POWER_MUTANTS:?}"))
}

#[cfg(feature = "mutants")]
fn hunt(seeds: u64) -> bool {
    let mut all_found = true;
    for mutant in MUTANTS {
        // A seed that fails without the bug says nothing about it.
        let is_healthy = |seed| run(&Plan::new(seed)).is_ok();
        let broken = |seed| run(&Plan::new(seed).with_mutant(mutant)).err().filter(|_| is_healthy(seed));
        let found = (0..seeds).find_map(broken);
        match found {
            Some(failure) => {
                say(&format!("{mutant:?}: seed {} finds it by {}", failure.plan.seed, failure.violation.invariant));
            }
            None => {
                all_found = false;
                say(&format!("{mutant:?}: MISSED by {seeds} seeds"));
            }
        }
    }
    for mutant in POWER_MUTANTS {
        let plan = PowerPlan { from: 0, count: seeds, drive: Drive::Honest, mutant: Some(mutant) };
        match cut_power(&plan) {
            Err(failure) => {
                say(&format!("{mutant:?}: power cut {} finds it by {}", failure.seed, failure.violation.invariant));
            }
            Ok(_) => {
                all_found = false;
                say(&format!("{mutant:?}: MISSED by {seeds} power cuts"));
            }
        }
    }
    all_found
}

/// Prints a line. A reader that has gone away is no failure of the run.
fn say(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}
