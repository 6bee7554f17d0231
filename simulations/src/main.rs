//! The simulator's command line: one seed with a report, or many with a summary.

mod crowd;
mod twice;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use clap::{Parser, Subcommand};
use crowd::CrowdArgs;
use jobmesh_protocol::DurationMillis;
use jobmesh_simulations::{
    AUCTIONED_MAX, Bug, Cost, Disks, Draw, Drive, End, Failure, FaultKind, LEASED_MAX, Pace, Plan, PlanError,
    PowerPlan, Report, Tier, Watch, auctioned, cut_power, leased, missing, run, search, shrink,
};
#[cfg(feature = "mutants")]
use jobmesh_simulations::{MUTANTS, MutantName, POWER_MUTANTS};

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
    /// Runs a plan that was saved. Exits with 1 if an invariant breaks.
    Replay(ReplayArgs),
    /// Makes a plan that fails as small as it can be, and writes it in its place.
    Shrink(ShrinkArgs),
    /// Runs every past failure again. Exits with 1 if one is back.
    Bugs {
        /// Where they are.
        #[arg(default_value = "simulations/bugs")]
        folder: PathBuf,
    },
    /// Runs seed after seed. Exits with 1 if the invariants of any break.
    Seeds(SeedsArgs),
    /// Tells every story of one job between two nodes in which faults strike. Exits with 1 if a promise breaks.
    Scope {
        /// Faults in a story at most.
        #[arg(long, default_value_t = 2)]
        faults: u32,
        /// Stories that are told at the same time; as many as there are processors if left out.
        #[arg(long)]
        threads: Option<usize>,
        /// Write the plan of a story that fails here.
        #[arg(long)]
        save: Option<PathBuf>,
    },
    /// Runs a thousand nodes and measures how they get on. Exits with 1 if a promise breaks or a choice takes too long.
    Mass(CrowdArgs),
    /// The same with some hundred nodes on disks that fail.
    Wide(CrowdArgs),
    /// Says what a job costs in messages and bytes. Exits with 1 if it is more than it may be.
    Cost,
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
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=2_000))]
    nodes: Option<u64>,
    /// How many jobs; drawn from the seed if left out.
    #[arg(long)]
    jobs: Option<usize>,
    /// Virtual hours of faults before the world heals; ten minutes if left out.
    #[arg(long)]
    hours: Option<u64>,
    /// The same in milliseconds.
    #[arg(long, conflicts_with = "hours")]
    millis: Option<u64>,
    /// Virtual milliseconds for which the world is watched at the end, when nobody should be busy.
    #[arg(long)]
    idle: Option<u64>,
    /// Lines of the trace to show after a failure.
    #[arg(long)]
    lines: Option<usize>,
    /// Run on disks that never fail.
    #[arg(long)]
    sound_disks: bool,
    /// When the faults end, heal some nodes only.
    #[arg(long)]
    core: bool,
    /// How large the world is: full, wide or mass.
    #[arg(long, default_value = "full", value_parser = tier)]
    tier: Tier,
    /// Also watch an invariant that must fail.
    #[arg(long)]
    canary: bool,
    /// Write the plan here.
    #[arg(long)]
    save: Option<PathBuf>,
    /// Run with one of the engine's seeded bugs.
    #[cfg(feature = "mutants")]
    #[arg(long, value_parser = mutant)]
    mutant: Option<jobmesh_simulations::Mutant>,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The plan, or a past failure.
    file: PathBuf,
    /// Lines of the trace to show after a failure.
    #[arg(long)]
    lines: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct ShrinkArgs {
    /// The plan.
    file: PathBuf,
    /// Plans to try at most.
    #[arg(long, default_value_t = 2000)]
    runs: u64,
    /// Write it as a past failure, with this story.
    #[arg(long)]
    story: Option<String>,
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
    /// Virtual minutes for which each is watched at the end, when nobody should be busy.
    #[arg(long, default_value_t = 2)]
    idle: u64,
    /// Go on after a failure and name every seed that fails, in one line each.
    #[arg(long)]
    keep_going: bool,
    /// Worlds that run at the same time; as many as there are processors if left out.
    #[arg(long)]
    threads: Option<usize>,
    /// How large the worlds are: full, wide or mass.
    #[arg(long, default_value = "full", value_parser = tier)]
    tier: Tier,
    /// Fail if a kind of fault, a rare branch or a case of a promise never came up.
    #[arg(long)]
    all_marks: bool,
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

fn tier(word: &str) -> Result<Tier, &'static str> {
    let tiers = [Tier::Full, Tier::Wide, Tier::Mass];
    tiers.into_iter().find(|tier| tier.word() == word).ok_or("tiers are full, wide or mass")
}

fn main() -> ExitCode {
    let good = match Args::parse().command {
        Command::Run(args) => args.run(),
        Command::Replay(args) => replay(&args),
        Command::Shrink(args) => smaller(&args),
        Command::Bugs { folder } => bugs(&folder),
        Command::Seeds(args) if args.twice => doubled(&args),
        Command::Seeds(args) => many(&args),
        Command::Scope { faults, threads, save } => scope(faults, threads, save.as_deref()),
        Command::Mass(args) => args.run(Tier::Mass),
        Command::Wide(args) => args.run(Tier::Wide),
        Command::Cost => cost(),
        Command::PowerCuts(args) => power_cuts(&args),
        #[cfg(feature = "mutants")]
        Command::Mutants { seeds } => hunt(seeds),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl RunArgs {
    fn plan(&self) -> Plan {
        let mut draw = Draw::new(self.seed);
        draw.nodes = self.nodes.map(|nodes| usize::try_from(nodes).unwrap_or(usize::MAX));
        draw.jobs = self.jobs;
        let hours = self.hours.map(|hours| DurationMillis::from_secs(hours.saturating_mul(3600)));
        draw.faulty = hours.or(self.millis.map(DurationMillis)).unwrap_or(draw.faulty);
        draw.idle = self.idle.map_or(draw.idle, DurationMillis);
        draw.disks = if self.sound_disks { Disks::Sound } else { Disks::Honest };
        draw.end = if self.core { End::CoreHeals } else { End::Heals };
        draw.tier = self.tier;
        let mut plan = draw.plan();
        plan.tail_lines = self.lines.unwrap_or(plan.tail_lines);
        if self.canary {
            plan.watch = Watch::Canary;
        }
        #[cfg(feature = "mutants")]
        if let Some(mutant) = self.mutant {
            plan = plan.with_mutant(mutant);
        }
        plan
    }

    fn run(&self) -> bool {
        let plan = self.plan();
        match &self.save {
            Some(path) if !save(path, plan.write()) => false,
            Some(_) | None => one(&plan),
        }
    }
}

/// Writes a file, or says why not.
fn save(path: &Path, text: Result<String, PlanError>) -> bool {
    let written = text.map_err(|error| error.to_string());
    let written = written.and_then(|text| std::fs::write(path, text).map_err(|error| error.to_string()));
    if let Err(error) = &written {
        say(&format!("FAILED    to write {}: {error}", path.display()));
    }
    written.is_ok()
}

/// Reads a plan, or that of a past failure.
fn load(path: &Path) -> Option<Plan> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            say(&format!("FAILED    to read {}: {error}", path.display()));
            return None;
        }
    };
    let bug = serde_json::from_str::<Bug>(&text).map(|bug| bug.plan);
    match bug.ok().map_or_else(|| Plan::read(&text), |plan| plan.check().map(|()| plan)) {
        Ok(plan) => Some(plan),
        Err(error) => {
            say(&format!("FAILED    {}: {error}", path.display()));
            None
        }
    }
}

fn replay(args: &ReplayArgs) -> bool {
    let Some(mut plan) = load(&args.file) else { return false };
    plan.tail_lines = args.lines.unwrap_or(plan.tail_lines);
    one(&plan)
}

fn smaller(args: &ShrinkArgs) -> bool {
    let Some(plan) = load(&args.file) else { return false };
    let Some(shrunk) = shrink(&plan, args.runs) else {
        say("FAILED    the plan holds, so there is nothing to shrink");
        return false;
    };
    let failure = &shrunk.failure;
    say(&format!("was       {plan}\nis        {}\nbreaks    {}", failure.plan, failure.violation));
    say(&format!("tried     {} plans", shrunk.runs));
    let text = match &args.story {
        None => failure.plan.write(),
        Some(story) => {
            let broke = failure.violation.invariant.to_owned();
            let bug = Bug { story: story.clone(), broke, plan: failure.plan.clone() };
            serde_json::to_string_pretty(&bug).map(|text| text + "\n").map_err(PlanError::from)
        }
    };
    save(&args.file, text)
}

fn bugs(folder: &Path) -> bool {
    let all = match Bug::read_all(folder) {
        Ok(all) => all,
        Err(error) => {
            say(&format!("FAILED    {error}"));
            return false;
        }
    };
    let mut are_good = true;
    for (path, bug) in &all {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        match bug.check() {
            Ok(kept) => say(&format!("{name}: {kept:?}")),
            Err(error) => {
                say(&format!("FAILED    {name}: {error}"));
                are_good = false;
            }
        }
    }
    say(&format!("bugs      {} past failures", all.len()));
    are_good
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
    marks: BTreeMap<String, u64>,
    met: BTreeMap<&'static str, u64>,
    pace: Pace,
    failures: u64,
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
        self.pace.merge(&report.pace);
        for (mark, count) in &report.marks {
            *self.marks.entry(mark.clone()).or_default() += count;
        }
        for (promise, count) in &report.met {
            *self.met.entry(promise).or_default() += count;
        }
    }

    fn show(&self, real_secs: f64) {
        let hours = self.virtual_secs / 3600;
        say(&format!("seeds     {} good, {hours} virtual hours in {real_secs:.1} s", self.seeds));
        say(&format!("jobs      {} acknowledged, {} runs", self.jobs, self.runs));
        say(&format!("work      {} steps, {} frames", self.steps, self.frames));
        say(&format!("routing   {}", self.pace));
        let attempts: Vec<String> = self.attempts.iter().map(|(state, count)| format!("{state} {count}")).collect();
        say(&format!("attempts  {}", attempts.join(" ")));
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{} {count}", kind.word())).collect();
        say(&format!("faults    {}", faults.join(" ")));
        let marks: Vec<String> =
            self.marks.iter().map(|(mark, count)| format!("{} {count}", mark.replace(' ', ":"))).collect();
        say(&format!("marks     {}", marks.join(" ")));
        for (promise, count) in &self.met {
            say(&format!("met       {count} times: {promise}"));
        }
    }
}

/// The plan of a seed among many. In every fourth only some nodes heal.
fn plan_of(args: &SeedsArgs, seed: u64) -> Plan {
    let mut draw = Draw::new(seed);
    draw.faulty = DurationMillis::from_secs(args.minutes.saturating_mul(60));
    draw.idle = DurationMillis::from_secs(args.idle.saturating_mul(60));
    draw.end = if seed % 4 == 3 { End::CoreHeals } else { End::Heals };
    draw.tier = args.tier;
    draw.plan()
}

fn many(args: &SeedsArgs) -> bool {
    let began = std::time::Instant::now();
    let (sum, next, stops) = (Mutex::new(Sum::default()), AtomicU64::new(args.from), AtomicBool::new(false));
    let end = args.from.saturating_add(args.count);
    let work = || {
        while !stops.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let ran = run(&plan_of(args, seed));
            let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match ran {
                Ok(report) => sum.add(&report),
                Err(failure) => {
                    sum.failures += 1;
                    stops.store(!args.keep_going, Ordering::Relaxed);
                    let brief = format!("FAILED    seed {seed}: {}", failure.violation);
                    say(&if args.keep_going { brief } else { failure.to_string() });
                }
            }
        }
    };
    let threads = args.threads.unwrap_or_else(processors);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let sum = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sum.show(began.elapsed().as_secs_f64());
    let unmet = if args.all_marks { missing(&sum.marks, &sum.faults, &sum.met) } else { Vec::new() };
    for mark in &unmet {
        say(&format!("FAILED    never came up: {mark}"));
    }
    if sum.failures > 0 {
        say(&format!("FAILED    {} seeds", sum.failures));
    }
    sum.failures == 0 && unmet.is_empty()
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

/// Says what was found, and how long that took.
fn say_report(report: &impl std::fmt::Display, began: std::time::Instant) {
    say(&report.to_string());
    say(&format!("took      {:.1} s", began.elapsed().as_secs_f64()));
}

fn scope(faults: u32, threads: Option<usize>, path: Option<&Path>) -> bool {
    let began = std::time::Instant::now();
    match search(faults, threads.unwrap_or_else(processors)) {
        Ok(report) => {
            say_report(&report, began);
            true
        }
        Err(failure) => {
            say(&failure.to_string());
            say(&format!("script    {:?}", failure.plan.script));
            if let Some(path) = path {
                save(path, failure.plan.write());
            }
            false
        }
    }
}

fn cost() -> bool {
    let auctioned = say_cost("auctioned", auctioned(), AUCTIONED_MAX);
    let leased = say_cost("leased", leased(), LEASED_MAX);
    auctioned && leased
}

/// Prints what a job costs. Returns whether it is no more than it may be.
fn say_cost(name: &str, cost: Result<Cost, Box<Failure>>, (messages_max, bytes_max): (f64, f64)) -> bool {
    let cost = match cost {
        Ok(cost) => cost,
        Err(failure) => {
            say(&failure.to_string());
            return false;
        }
    };
    let Cost { messages, acks, bytes, payload, .. } = cost;
    let beside = format!("{bytes:.0} bytes a job beside {payload:.0} of payload");
    say(&format!("{name:<9} {messages:.1} messages and acknowledgements {acks:.1}, {beside}"));
    for (kind, each) in &cost.kinds {
        say(&format!("{kind:>16} {:.2} of {:.0} bytes each", each.0, each.1));
    }
    let is_low = messages <= messages_max && bytes <= bytes_max;
    if !is_low {
        say(&format!("FAILED    {messages_max} messages and {bytes_max} bytes are enough"));
    }
    is_low
}

fn processors() -> usize {
    thread::available_parallelism().map(usize::from).unwrap_or(1)
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
            say_report(&report, began);
            true
        }
        Err(failure) => {
            say(&failure.to_string());
            false
        }
    }
}

#[cfg(feature = "mutants")]
fn mutant(name: &str) -> Result<jobmesh_simulations::Mutant, String> {
    MutantName::try_from(name.to_owned()).map(|name| name.0)
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
