//! A pool of indices: things with an identity, given out whole or one of them in part.

use std::ops::Range;

use jobmesh_protocol::resource::{Amount, Name, Policy, Quantity};

use super::place::{self, Count};
use super::{Cause, ClaimError, Label, Piece};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Indices {
    /// The indices, those of a group next to each other.
    cells: Vec<Cell>,
    /// Where each group's cells are.
    groups: Vec<Range<usize>>,
    /// How many of each group's cells nobody has any of.
    untouched: Vec<usize>,
    /// How many indices the largest groups have together, by their number.
    largest_sums: Vec<usize>,
    /// The positions of the cells, in the order of their labels.
    by_label: Vec<usize>,
    free: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Cell {
    label: Label,
    group: usize,
    free: Amount,
}

/// A part of one cell.
#[derive(Clone, Copy)]
struct Place {
    cell: usize,
    amount: Amount,
}

/// The groups that are taken from, and where the fraction comes from.
struct Plan {
    groups: Vec<usize>,
    fraction: Fraction,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fraction {
    /// None is wanted.
    None,
    /// A cell that others have a part of.
    Shared(usize),
    /// One more untouched cell, the last that is taken.
    Untouched,
}

impl Indices {
    /// Makes a pool of `groups` that passed [`super::PoolKind::check`].
    pub(super) fn new(groups: Vec<Vec<Label>>) -> Self {
        let untouched: Vec<usize> = groups.iter().map(Vec::len).collect();
        let mut cells = Vec::with_capacity(untouched.iter().sum());
        let mut ranges = Vec::with_capacity(groups.len());
        for (group, labels) in groups.into_iter().enumerate() {
            let start = cells.len();
            cells.extend(labels.into_iter().map(|label| Cell { label, group, free: Amount::ONE }));
            ranges.push(start..cells.len());
        }
        let label = |position: &usize| cells.get(*position).map(|cell| cell.label.clone());
        let mut by_label: Vec<usize> = (0..cells.len()).collect();
        by_label.sort_by_cached_key(label);
        let free = Amount::whole(cells.len() as u64);
        let largest_sums = place::largest_sums(&untouched);
        Self { cells, groups: ranges, untouched, largest_sums, by_label, free }
    }

    pub(super) const fn free(&self) -> Amount {
        self.free
    }

    pub(super) fn total(&self) -> Amount {
        Amount::whole(self.cells.len() as u64)
    }

    /// Whether so much could be taken if nothing were.
    pub(super) fn holds(&self, amount: Amount) -> bool {
        self.groups_when_idle(amount).is_some()
    }

    /// How many groups so much would come from if nothing were taken; `None` if there is not so much.
    fn groups_when_idle(&self, amount: Amount) -> Option<usize> {
        let whole = amount.floor() + u64::from(!amount.fraction().is_zero());
        let need = usize::try_from(whole).ok()?;
        self.largest_sums.iter().position(|sum| *sum >= need).map(|position| position + 1)
    }

    pub(super) fn take(&mut self, quantity: Quantity, policy: Policy) -> Option<Vec<Piece>> {
        let places = self.places(quantity, policy).ok()?;
        let mut pieces = Vec::with_capacity(places.len());
        for Place { cell, amount } in places {
            self.take_from(cell, amount);
            pieces.extend(self.cells.get(cell).map(|cell| Piece { label: cell.label.clone(), amount }));
        }
        Some(pieces)
    }

    /// Why so much can't be taken now, if it could be taken from an idle pool.
    pub(super) fn cause(&self, quantity: Quantity, policy: Policy) -> Option<Cause> {
        self.places(quantity, policy).err()
    }

    pub(super) fn claim(&mut self, name: &Name, pieces: &[Piece]) -> Result<(), ClaimError> {
        for Piece { label, amount } in pieces {
            let gone = || ClaimError::NoIndex { name: name.clone(), label: label.clone() };
            let position = self.position(label).ok_or_else(gone)?;
            let free = self.cells.get(position).ok_or_else(gone)?.free;
            if *amount > free {
                return Err(ClaimError::IndexTaken { name: name.clone(), label: label.clone(), wanted: *amount, free });
            }
            self.take_from(position, *amount);
        }
        Ok(())
    }

    pub(super) fn give_back(&mut self, pieces: &[Piece]) {
        for Piece { label, amount } in pieces {
            let cell = self.position(label).and_then(|position| self.cells.get_mut(position));
            debug_assert!(cell.is_some(), "{label} is no index of this pool");
            let Some(cell) = cell else { continue };
            let before = cell.free;
            debug_assert!(before.plus(*amount) <= Amount::ONE, "more of {label} was given back than taken");
            cell.free = before.plus(*amount).min(Amount::ONE);
            self.free = self.free.plus(cell.free.less(before));
            if before < Amount::ONE && cell.free == Amount::ONE {
                self.untouched.iter_mut().skip(cell.group).take(1).for_each(|count| *count += 1);
            }
        }
    }

    /// Takes so much of the cell at `position`, which has it.
    fn take_from(&mut self, position: usize, amount: Amount) {
        let Some(cell) = self.cells.get_mut(position) else { return };
        debug_assert!(amount <= cell.free, "a place is chosen among what is free");
        if cell.free == Amount::ONE && !amount.is_zero() {
            self.untouched.iter_mut().skip(cell.group).take(1).for_each(|count| *count -= 1);
        }
        cell.free = cell.free.less(amount);
        self.free = self.free.less(amount);
    }

    fn position(&self, label: &Label) -> Option<usize> {
        let label_at = |position: &usize| self.cells.get(*position).map(|cell| &cell.label);
        let found = self.by_label.binary_search_by(|position| label_at(position).cmp(&Some(label))).ok()?;
        self.by_label.get(found).copied()
    }

    /// Where so much is taken from, whole indices first.
    fn places(&self, quantity: Quantity, policy: Policy) -> Result<Vec<Place>, Cause> {
        match quantity {
            Quantity::All if self.free < self.total() => Err(Cause::NotIdle),
            Quantity::All => Ok((0..self.cells.len()).map(|cell| Place { cell, amount: Amount::ONE }).collect()),
            Quantity::Amount(amount) if amount > self.free => Err(Cause::Taken),
            Quantity::Amount(amount) => {
                let plan = self.plan(amount, policy)?;
                Ok(self.carry_out(&plan, amount, policy))
            }
        }
    }

    fn plan(&self, amount: Amount, policy: Policy) -> Result<Plan, Cause> {
        let whole = usize::try_from(amount.floor()).map_err(|_| Cause::TooMuch)?;
        match policy {
            Policy::Compact | Policy::Tight => self.plan_narrow(whole, amount.fraction()).ok_or(Cause::InPieces),
            Policy::ForceCompact | Policy::ForceTight => {
                let plan = self.plan_narrow(whole, amount.fraction()).ok_or(Cause::InPieces)?;
                let limit = self.groups_when_idle(amount).ok_or(Cause::TooMuch)?;
                if plan.groups.len() <= limit { Ok(plan) } else { Err(Cause::Apart) }
            }
            Policy::Scatter => self.plan_wide(whole, amount.fraction()).ok_or(Cause::InPieces),
        }
    }

    /// As few groups as the moment allows. A shared index serves the fraction, unless one more untouched index
    /// needs fewer groups.
    fn plan_narrow(&self, whole: usize, fraction: Amount) -> Option<Plan> {
        if fraction.is_zero() {
            let groups = place::fewest(&self.untouched, whole, None)?;
            return Some(Plan { groups, fraction: Fraction::None });
        }
        let with_group = |(group, range): (usize, &Range<usize>)| {
            let (cell, free) = self.tightest_shared(range.clone(), fraction)?;
            let groups = place::fewest(&self.untouched, whole, Some(group))?;
            Some((free, Plan { groups, fraction: Fraction::Shared(cell) }))
        };
        let shared = self.groups.iter().enumerate().filter_map(with_group);
        let shared = shared.min_by_key(|(free, plan)| (plan.groups.len(), *free)).map(|(_, plan)| plan);
        let untouched = place::fewest(&self.untouched, whole + 1, None);
        let untouched = untouched.map(|groups| Plan { groups, fraction: Fraction::Untouched });
        match (shared, untouched) {
            (Some(shared), Some(untouched)) if untouched.groups.len() < shared.groups.len() => Some(untouched),
            (Some(plan), _) | (None, Some(plan)) => Some(plan),
            (None, None) => None,
        }
    }

    /// As many groups as the moment allows. A shared index serves the fraction wherever it is.
    fn plan_wide(&self, whole: usize, fraction: Amount) -> Option<Plan> {
        if fraction.is_zero() {
            let groups = place::widest(&self.untouched, whole)?;
            return Some(Plan { groups, fraction: Fraction::None });
        }
        let (fraction, need) = match self.tightest_shared(0..self.cells.len(), fraction) {
            Some((cell, _)) => (Fraction::Shared(cell), whole),
            None => (Fraction::Untouched, whole + 1),
        };
        Some(Plan { groups: place::widest(&self.untouched, need)?, fraction })
    }

    /// The shared cell in `range` that has the least left among those that have `fraction`, and what it has.
    fn tightest_shared(&self, range: Range<usize>, fraction: Amount) -> Option<(usize, Amount)> {
        let cells = self.cells.get(range.clone())?.iter();
        let fitting = range.zip(cells).filter(|(_, cell)| fraction <= cell.free && cell.free < Amount::ONE);
        fitting.map(|(position, cell)| (position, cell.free)).min_by_key(|(_, free)| *free)
    }

    fn carry_out(&self, plan: &Plan, amount: Amount, policy: Policy) -> Vec<Place> {
        let whole = usize::try_from(amount.floor()).unwrap_or(usize::MAX);
        let need = if plan.fraction == Fraction::Untouched { whole + 1 } else { whole };
        let counts = match policy {
            Policy::Compact | Policy::ForceCompact | Policy::Scatter => {
                place::evenly(&plan.groups, &self.untouched, need)
            }
            Policy::Tight | Policy::ForceTight => place::packed(&plan.groups, &self.untouched, need),
        };
        let mut cells = self.untouched_cells(&counts, need);
        cells.sort_unstable();
        let mut places: Vec<Place> = cells.into_iter().map(|cell| Place { cell, amount: Amount::ONE }).collect();
        match plan.fraction {
            Fraction::None => {}
            Fraction::Shared(cell) => places.push(Place { cell, amount: amount.fraction() }),
            Fraction::Untouched => {
                if let Some(last) = places.last_mut() {
                    last.amount = amount.fraction();
                }
            }
        }
        places
    }

    /// The first untouched cells of each group, as many as are counted.
    fn untouched_cells(&self, counts: &[Count], need: usize) -> Vec<usize> {
        let mut found = Vec::with_capacity(need);
        for (group, count) in counts {
            let range = self.groups.get(*group).cloned().unwrap_or_default();
            let cells = self.cells.get(range.clone()).unwrap_or_default();
            let untouched = range.zip(cells).filter(|(_, cell)| cell.free == Amount::ONE);
            found.extend(untouched.map(|(position, _)| position).take(*count));
        }
        debug_assert_eq!(found.len(), need, "as many cells are untouched as were counted");
        found
    }
}
