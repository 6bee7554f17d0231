//! What people ask: who submits what, where and when, and what they take back.

use std::collections::BTreeMap;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Effects, Scope};

use super::{Draw, HUBS, Tier};
use crate::executor::{Ending, Writes};
use crate::random::Stream;
use crate::workload::{Act, LATE_TOOL, NOBODYS_TOOL, Operation, SHARED_TOOL, Work, own_tool};

/// Jobs of every run, however short.
const JOBS_BASE: u64 = 8;
/// Jobs for every ten virtual minutes of faults.
const JOBS_PER_TEN_MINUTES: u64 = 8;

/// Longest job of a burst.
const BURST_TAKES_MAX: DurationMillis = DurationMillis::from_secs(6);

/// Draws the jobs and what is done with them.
pub(super) fn draw(draw: &Draw, nodes: usize) -> (BTreeMap<usize, Work>, Vec<Operation>) {
    let (mut stream, faulty) = (Stream::new(draw.seed, "workload"), draw.faulty);
    let jobs = match draw.tier {
        Tier::Full => JOBS_BASE + stream.below(6) + faulty.0 * JOBS_PER_TEN_MINUTES / 600_000,
        Tier::Wide => nodes as u64 * 2,
        Tier::Mass => nodes as u64,
    };
    let jobs = draw.jobs.map_or(jobs, |jobs| jobs as u64);
    // The last fifth of the time stays free of new work, so that faults also meet jobs that have waited long.
    let last = (faulty.0 * 4 / 5).max(2_000);
    let (mut works, mut operations) = (BTreeMap::new(), Vec::new());
    for job in 0..usize::try_from(jobs).unwrap_or(usize::MAX) {
        let mut work = draw_work(&mut stream, nodes);
        if draw.tier == Tier::Mass {
            suit_many(&mut stream, &mut work, nodes);
        }
        let at = DurationMillis(stream.between(2_000, last));
        operations.push(Operation { at, act: Act::Submit, job });
        if stream.chance(150) {
            let later = DurationMillis(stream.between(50, 90_000));
            operations.push(Operation { at: at.plus(later), act: Act::Cancel, job });
        }
        // What runs once is tried again by nobody: only a person could say that this is safe.
        if stream.chance(150) && work.effects != Effects::Once {
            let later = DurationMillis(stream.between(5_000, 240_000));
            operations.push(Operation { at: at.plus(later), act: Act::Retry, job });
        }
        works.insert(job, work);
    }
    draw_burst(draw, nodes, &mut works, &mut operations);
    // Nobody asks for anything once the world heals, or its jobs would never be done.
    operations.retain(|operation| operation.at.0 < faulty.0);
    operations.sort_by_key(|operation| operation.at);
    (works, operations)
}

/// At times many jobs that differ in nothing are submitted at once: then one auction is for many of them.
fn draw_burst(draw: &Draw, nodes: usize, works: &mut BTreeMap<usize, Work>, operations: &mut Vec<Operation>) {
    let mut stream = Stream::new(draw.seed, "burst");
    if !stream.chance(500) || draw.tier != Tier::Full {
        return;
    }
    let mut work = draw_work(&mut stream, nodes);
    work.tool = Some(SHARED_TOOL.to_owned());
    (work.scope, work.ending) = (Scope::Network, Ending::OkAfter(0));
    // One slot may have to do with all of them.
    work.takes = work.takes.min(BURST_TAKES_MAX);
    let (first, count) = (works.len(), stream.between(4, 16));
    let at = DurationMillis(stream.between(2_000, (draw.faulty.0 / 2).max(2_001)));
    for job in first..first + usize::try_from(count).unwrap_or(0) {
        works.insert(job, work.clone());
        let later = DurationMillis(stream.between(0, 400));
        operations.push(Operation { at: at.plus(later), act: Act::Submit, job });
        if stream.chance(100) {
            let later = DurationMillis(stream.between(50, 20_000));
            operations.push(Operation { at: at.plus(later), act: Act::Cancel, job });
        }
    }
}

/// Makes a job one of a world of very many: half of all are asked for at the hubs, which have everyone to choose from,
/// most of the others at a few nodes, and none takes long.
fn suit_many(stream: &mut Stream, work: &mut Work, nodes: usize) {
    work.home = match stream.below(10) {
        0..5 => stream.index(HUBS),
        5..9 => stream.index((nodes / 20).max(1)),
        _ => work.home,
    }
    .min(nodes - 1);
    // One node alone gets the tool that appears late, and must be done with all that waits for it in the time to heal.
    let is_scarce = work.tool.as_deref().is_some_and(|tool| [LATE_TOOL, NOBODYS_TOOL].contains(&tool));
    if is_scarce && stream.chance(800) {
        work.tool = Some(SHARED_TOOL.to_owned());
    }
    work.takes = work.takes.min(DurationMillis::from_secs(10));
    work.timeout = work.timeout.map(|timeout| timeout.min(DurationMillis::from_secs(20)));
    work.attempts_max = work.attempts_max.min(2);
}

fn draw_work(stream: &mut Stream, nodes: usize) -> Work {
    let home = stream.index(nodes);
    let longest = if stream.chance(300) { 90_000 } else { 8_000 };
    let takes = DurationMillis(stream.between(20, longest));
    let ending = match stream.below(20) {
        0..12 => Ending::OkAfter(0),
        12..16 => Ending::OkAfter(u32::try_from(stream.between(1, 3)).unwrap_or(1)),
        16..18 => Ending::Permanent,
        _ => Ending::Never,
    };
    let writes = match stream.below(4) {
        0 => Writes::Nothing,
        1 => Writes::Much,
        _ => Writes::Little,
    };
    let has_input = stream.chance(250);
    let scope = match stream.below(10) {
        0..2 => Scope::Local,
        2..4 => Scope::Network,
        _ => Scope::Hybrid,
    };
    let effects = match stream.below(10) {
        0..3 => Effects::Once,
        3..5 => Effects::Pure,
        _ => Effects::Idempotent,
    };
    let tool = draw_tool(stream, nodes).filter(|_| scope != Scope::Local);
    let attempts_max = u32::try_from(stream.between(1, 4)).unwrap_or(1);
    let needs_timeout = ending == Ending::Never || stream.chance(200);
    let timeout = needs_timeout.then(|| DurationMillis(stream.between(1_000, 60_000)));
    Work { home, takes, ending, writes, has_input, scope, effects, tool, attempts_max, timeout }
}

/// Mostly a tool that one node has; at times one that appears late, or never.
fn draw_tool(stream: &mut Stream, nodes: usize) -> Option<String> {
    match stream.below(20) {
        0..7 => None,
        7..15 => Some(own_tool(stream.index(nodes))),
        15..18 => Some(SHARED_TOOL.to_owned()),
        18 => Some(LATE_TOOL.to_owned()),
        _ => Some(NOBODYS_TOOL.to_owned()),
    }
}
