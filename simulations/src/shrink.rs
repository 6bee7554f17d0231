//! A plan that fails is made as small as it can be while it fails in the same way.
//!
//! Delta debugging (Zeller and Hildebrandt, TSE 2002) over nodes, faults and operations, then over lengths. It works
//! because an entry that is taken out does not shift what the others draw: see the module `plan`.

use std::collections::BTreeSet;

use jobmesh_protocol::DurationMillis;

use crate::fault::{LinkFault, What};
use crate::plan::Plan;
use crate::report::{Failure, run};

/// Shortest time that faults are cut down to.
const FAULTY_MIN_MS: u64 = 1_000;

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// How the smallest plan fails.
    pub failure: Box<Failure>,
    /// How many plans were tried.
    pub runs: u64,
}

/// Makes a plan smaller for as long as the same invariant fails, trying at most `runs_max` plans. `None` if it holds.
#[must_use]
pub fn shrink(plan: &Plan, runs_max: u64) -> Option<Shrunk> {
    let failure = run(plan).err()?;
    let invariant = failure.violation.invariant;
    let mut hunt = Hunt { invariant, best: failure, runs: 1, runs_max };
    loop {
        let before = hunt.best.plan.clone();
        hunt.end_sooner();
        hunt.drop_nodes();
        hunt.drop_faults();
        hunt.drop_operations();
        hunt.shorten();
        hunt.tidy();
        if hunt.best.plan == before || hunt.is_over() {
            return Some(Shrunk { failure: hunt.best, runs: hunt.runs });
        }
    }
}

struct Hunt {
    invariant: &'static str,
    /// The smallest plan that fails, and how.
    best: Box<Failure>,
    runs: u64,
    runs_max: u64,
}

impl Hunt {
    const fn is_over(&self) -> bool {
        self.runs >= self.runs_max
    }

    /// Runs a smaller plan, and goes on with it if it fails in the same way.
    fn fails(&mut self, plan: Plan) -> bool {
        if self.is_over() || plan.check().is_err() {
            return false;
        }
        self.runs += 1;
        match run(&Plan { drawn: None, ..plan }) {
            Err(failure) if failure.violation.invariant == self.invariant => {
                self.best = failure;
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Nothing that is planned for later than the failure has led to it.
    fn end_sooner(&mut self) {
        let at = DurationMillis(self.best.at.0 + 1);
        if at.0 < self.best.plan.faulty.0 {
            let mut plan = self.best.plan.clone();
            plan.faulty = at;
            plan.faults.retain(|fault| fault.at < at);
            plan.operations.retain(|operation| operation.at < at);
            self.fails(plan);
        }
    }

    fn drop_nodes(&mut self) {
        let seats: Vec<usize> = self.best.plan.nodes.iter().map(|node| node.seat).collect();
        for seat in seats.into_iter().rev() {
            let plan = without_seat(&self.best.plan, seat);
            self.fails(plan);
        }
    }

    fn drop_faults(&mut self) {
        let count = self.best.plan.faults.len();
        self.thin_out(count, |plan, out| {
            let mut place = 0..;
            plan.faults.retain(|_| place.next().is_none_or(|place: usize| !out.contains(&place)));
        });
    }

    fn drop_operations(&mut self) {
        let count = self.best.plan.operations.len();
        self.thin_out(count, |plan, out| {
            let mut place = 0..;
            plan.operations.retain(|_| place.next().is_none_or(|place: usize| !out.contains(&place)));
        });
    }

    /// Takes out halves, then quarters, and at last single entries.
    fn thin_out(&mut self, mut count: usize, take_out: impl Fn(&mut Plan, &BTreeSet<usize>)) {
        let mut size = count.div_ceil(2);
        while size > 0 && !self.is_over() {
            let mut from = 0;
            while from < count {
                let out: BTreeSet<usize> = (from..(from + size).min(count)).collect();
                let mut plan = self.best.plan.clone();
                take_out(&mut plan, &out);
                if self.fails(plan) {
                    count -= out.len();
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    /// Halves how long faults last and the world is faulty.
    fn shorten(&mut self) {
        for place in 0..self.best.plan.faults.len() {
            let mut plan = self.best.plan.clone();
            let Some(fault) = plan.faults.get_mut(place).filter(|fault| fault.length.0 > 1_000) else { continue };
            fault.length = DurationMillis(fault.length.0 / 2);
            self.fails(plan);
        }
        while self.best.plan.faulty.0 > FAULTY_MIN_MS {
            let mut plan = self.best.plan.clone();
            plan.faulty = DurationMillis(plan.faulty.0 / 2);
            if !self.fails(plan) {
                return;
            }
        }
    }

    /// Leaves out what is no longer used: jobs that nobody submits, homes of nodes that are gone.
    fn tidy(&mut self) {
        let mut plan = self.best.plan.clone();
        let used: BTreeSet<usize> = plan.operations.iter().map(|operation| operation.job).collect();
        plan.works.retain(|number, _| used.contains(number));
        let seats: BTreeSet<usize> = plan.nodes.iter().map(|node| node.seat).collect();
        plan.homes.retain(|(one, other)| seats.contains(one) && seats.contains(other));
        if plan != self.best.plan {
            self.fails(plan);
        }
    }
}

/// The plan without a node, what is asked of it and what goes wrong with it.
fn without_seat(plan: &Plan, seat: usize) -> Plan {
    let mut plan = plan.clone();
    plan.nodes.retain(|node| node.seat != seat);
    let works = &plan.works;
    plan.operations.retain(|operation| works.get(&operation.job).is_some_and(|work| work.home != seat));
    for fault in &mut plan.faults {
        if let What::Links(LinkFault::Cut { ways, .. }) = &mut fault.what {
            ways.retain(|(from, to)| *from != seat && *to != seat);
        }
        if let What::Links(LinkFault::Split { seats }) = &mut fault.what {
            seats.retain(|inside| *inside != seat);
        }
        if let What::Links(LinkFault::Swizzle { clogs }) = &mut fault.what {
            clogs.retain(|clog| clog.seat != seat);
        }
    }
    plan.faults.retain(|fault| match &fault.what {
        What::Frames(_) | What::Runs(_) | What::Forger => true,
        What::Links(_) | What::Node { .. } => {
            let seats = fault.what.seats();
            !seats.is_empty() && !seats.contains(&seat)
        }
    });
    if let Some(core) = &mut plan.core {
        core.retain(|healed| *healed != seat);
    }
    plan
}
