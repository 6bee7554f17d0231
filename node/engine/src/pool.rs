//! What this node has to give to jobs, exactly: which processor, which device, how much memory.
//!
//! A pool is either a number of indices, each with an identity and in groups ([`PoolKind::Indices`]), or a sum
//! ([`PoolKind::Sum`]). [`Pools::allocate`] takes everything of a request or nothing, and the same requests in the
//! same order get the same indices on every run. A fraction comes from one index, whole units take whole ones.
//!
//! The hard case is a restart while jobs run: what they hold was recorded as labels, by the rules of the daemon
//! that is gone, and the machine may have changed since. [`Pools::claim`] takes exactly what was recorded or says
//! why it can't, and never moves a running job to another index.

mod allocation;
mod indices;
mod kind;
mod label;
mod place;
mod shortage;
mod sum;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::resource::{Amount, Demand, NAMES_MAX, Name, Offered, Quantity, Request, Requests};

pub use allocation::{Allocation, Piece, Share, Taken};
use indices::Indices;
pub use kind::{GROUPS_MAX, INDICES_MAX, PoolKind, PoolTextError};
pub use label::{LABEL_BYTES_MAX, Label, LabelError};
pub use shortage::{Cause, Lack, Shortage};
use sum::Sum;

/// Everything a node gives to jobs, and who has not got it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// In the order of their names.
    pools: Vec<Pool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pool {
    name: Name,
    stock: Stock,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stock {
    Indices(Indices),
    Sum(Sum),
}

impl Pool {
    fn free(&self) -> Amount {
        match &self.stock {
            Stock::Indices(indices) => indices.free(),
            Stock::Sum(sum) => sum.free(),
        }
    }

    fn total(&self) -> Amount {
        match &self.stock {
            Stock::Indices(indices) => indices.total(),
            Stock::Sum(sum) => sum.total(),
        }
    }

    fn take(&mut self, demand: &Demand) -> Option<Share> {
        let taken = match &mut self.stock {
            Stock::Indices(indices) => Taken::Indices(indices.take(demand.quantity, demand.policy)?),
            Stock::Sum(sum) => Taken::Sum(sum.take(demand.quantity)?),
        };
        Some(Share { pool: self.name.clone(), taken })
    }

    fn claim(&mut self, taken: &Taken) -> Result<(), ClaimError> {
        match (&mut self.stock, taken) {
            (Stock::Indices(indices), Taken::Indices(pieces)) => indices.claim(&self.name, pieces),
            (Stock::Sum(sum), Taken::Sum(amount)) => sum.claim(&self.name, *amount),
            (Stock::Indices(_), Taken::Sum(_)) | (Stock::Sum(_), Taken::Indices(_)) => {
                Err(ClaimError::OtherKind { name: self.name.clone() })
            }
        }
    }

    fn give_back(&mut self, taken: &Taken) {
        match (&mut self.stock, taken) {
            (Stock::Indices(indices), Taken::Indices(pieces)) => indices.give_back(pieces),
            (Stock::Sum(sum), Taken::Sum(amount)) => sum.give_back(*amount),
            (Stock::Indices(_), Taken::Sum(_)) | (Stock::Sum(_), Taken::Indices(_)) => {
                debug_assert!(false, "{} was not taken from this pool", self.name);
            }
        }
    }

    /// Whether `demand` could be met if nothing were taken.
    fn holds(&self, demand: &Demand) -> bool {
        match (&self.stock, demand.quantity) {
            (_, Quantity::All) => true,
            (Stock::Indices(indices), Quantity::Amount(amount)) => indices.holds(amount),
            (Stock::Sum(sum), Quantity::Amount(amount)) => amount <= sum.total(),
        }
    }

    /// Why `demand` can't be met now.
    fn cause(&self, demand: &Demand) -> Option<Cause> {
        if !self.holds(demand) {
            return Some(Cause::TooMuch);
        }
        match &self.stock {
            Stock::Indices(indices) => indices.cause(demand.quantity, demand.policy),
            Stock::Sum(sum) => sum.cause(demand.quantity),
        }
    }
}

impl Pools {
    /// Makes pools of what a node has, all of it free.
    ///
    /// # Errors
    /// [`PoolError`] names the pool that is empty, too large, or not to be told from another.
    pub fn new(kinds: BTreeMap<Name, PoolKind>) -> Result<Self, PoolError> {
        if kinds.len() > NAMES_MAX {
            return Err(PoolError::TooMany { count: kinds.len() });
        }
        let mut variables = BTreeSet::new();
        let mut pools = Vec::with_capacity(kinds.len());
        for (name, kind) in kinds {
            kind.check(&name)?;
            if !variables.insert(name.variable()) {
                return Err(PoolError::SameVariable { name });
            }
            let stock = match kind {
                PoolKind::Indices { groups } => Stock::Indices(Indices::new(groups)),
                PoolKind::Sum(total) => Stock::Sum(Sum::new(total)),
            };
            pools.push(Pool { name, stock });
        }
        Ok(Self { pools })
    }

    fn pool(&self, name: &Name) -> Option<&Pool> {
        self.pools.binary_search_by(|pool| pool.name.cmp(name)).ok().and_then(|at| self.pools.get(at))
    }

    fn pool_mut(&mut self, name: &Name) -> Option<&mut Pool> {
        self.pools.binary_search_by(|pool| pool.name.cmp(name)).ok().and_then(|at| self.pools.get_mut(at))
    }

    /// Takes everything that `request` demands, or nothing.
    #[must_use]
    pub fn allocate(&mut self, request: &Request) -> Option<Allocation> {
        self.allocate_variant(0, request)
    }

    /// Takes what the first request that fits now demands.
    #[must_use]
    pub fn allocate_any(&mut self, requests: &Requests) -> Option<Allocation> {
        requests.iter().find_map(|(variant, request)| self.allocate_variant(variant, request))
    }

    fn allocate_variant(&mut self, variant: usize, request: &Request) -> Option<Allocation> {
        let mut shares = Vec::with_capacity(request.demands().len());
        for demand in request.demands() {
            let Some(share) = self.pool_mut(&demand.name).and_then(|pool| pool.take(demand)) else {
                self.give_back(&shares);
                return None;
            };
            shares.push(share);
        }
        Some(Allocation { variant, shares })
    }

    /// Gives back what [`Self::allocate`] or [`Self::claim`] of these pools took.
    pub fn release(&mut self, allocation: &Allocation) {
        self.give_back(&allocation.shares);
    }

    fn give_back(&mut self, shares: &[Share]) {
        for share in shares {
            let pool = self.pool_mut(&share.pool);
            debug_assert!(pool.is_some(), "{} is no pool of these", share.pool);
            if let Some(pool) = pool {
                pool.give_back(&share.taken);
            }
        }
    }

    /// Takes again what a job that still runs was given before a restart: all of it or nothing.
    ///
    /// # Errors
    /// [`ClaimError`] if that is not there any more, or has been taken.
    pub fn claim(&mut self, allocation: &Allocation) -> Result<(), ClaimError> {
        // Restarts are rare and pools are small, so a copy is the plainest way to take all or nothing.
        let mut tried = self.clone();
        for share in &allocation.shares {
            let pool = tried.pool_mut(&share.pool).ok_or_else(|| ClaimError::NoPool { name: share.pool.clone() })?;
            pool.claim(&share.taken)?;
        }
        *self = tried;
        Ok(())
    }

    /// Checks that `request` would be given what it demands if nothing were taken.
    ///
    /// # Errors
    /// [`Lack`] names the first resource that this node has not, or not enough of.
    pub fn could_ever(&self, request: &Request) -> Result<(), Lack> {
        request.demands().iter().try_for_each(|demand| {
            let pool = self.pool(&demand.name).ok_or_else(|| Lack::NoPool { name: demand.name.clone() })?;
            if pool.holds(demand) {
                return Ok(());
            }
            Err(Lack::TooMuch { demand: demand.clone(), total: pool.total() })
        })
    }

    /// Every resource for which `request` would wait if it were allocated now, in the order of their names.
    #[must_use]
    pub fn why_not(&self, request: &Request) -> Vec<Shortage> {
        let shortage = |demand: &Demand| {
            let pool = self.pool(&demand.name);
            let cause = pool.map_or(Some(Cause::NoPool), |pool| pool.cause(demand))?;
            let free = pool.map_or(Amount::ZERO, Pool::free);
            let total = pool.map_or(Amount::ZERO, Pool::total);
            Some(Shortage { demand: demand.clone(), free, total, cause })
        };
        request.demands().iter().filter_map(shortage).collect()
    }

    /// What nobody has taken, by sums.
    #[must_use]
    pub fn free(&self) -> Offered {
        self.sums(Pool::free)
    }

    /// What there is in all, by sums.
    #[must_use]
    pub fn total(&self) -> Offered {
        self.sums(Pool::total)
    }

    fn sums(&self, amount: impl Fn(&Pool) -> Amount) -> Offered {
        let amounts = self.pools.iter().map(|pool| (pool.name.clone(), amount(pool))).collect();
        let offered = Offered::new(amounts);
        debug_assert!(offered.is_ok(), "there are never more pools than names in an offer");
        offered.unwrap_or_default()
    }
}

/// Why pools can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More pools than can be told to others.
    #[error("{count} resource pools are more than the {NAMES_MAX} that a node may have")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A pool or one of its groups has nothing in it.
    #[error("the pool of {name} has nothing in it: leave it out, or leave out the group that is empty")]
    Empty {
        /// The pool.
        name: Name,
    },
    /// More indices than a pool may have.
    #[error("the pool of {name} has more than {INDICES_MAX} indices: make it a sum")]
    TooManyIndices {
        /// The pool.
        name: Name,
    },
    /// More groups than a pool may have.
    #[error("the pool of {name} has more than {GROUPS_MAX} groups: join some of them")]
    TooManyGroups {
        /// The pool.
        name: Name,
    },
    /// An index is there twice.
    #[error("the pool of {name} has the index {label} twice: name each once")]
    Twice {
        /// The pool.
        name: Name,
        /// The index.
        label: Label,
    },
    /// Jobs would be told of two pools in the same variable.
    #[error("{name} and another pool have the variable {} in common: rename one", name.variable())]
    SameVariable {
        /// The second of them.
        name: Name,
    },
}

/// Why a recorded allocation can't be taken again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The node has no such pool any more.
    #[error("this node has no pool of {name} any more")]
    NoPool {
        /// The pool.
        name: Name,
    },
    /// The pool was of indices and is a sum now, or the other way round.
    #[error("the pool of {name} is of another kind than it was")]
    OtherKind {
        /// The pool.
        name: Name,
    },
    /// The index is gone.
    #[error("the pool of {name} has no index {label} any more")]
    NoIndex {
        /// The pool.
        name: Name,
        /// The index.
        label: Label,
    },
    /// The index has less left than was recorded.
    #[error("{wanted} of the index {label} of {name} is claimed, but {free} of it is free")]
    IndexTaken {
        /// The pool.
        name: Name,
        /// The index.
        label: Label,
        /// What was recorded.
        wanted: Amount,
        /// What is left.
        free: Amount,
    },
    /// The sum has less left than was recorded.
    #[error("{} of {name} is claimed, but {} is free", name.amount_text(*wanted), name.amount_text(*free))]
    SumTaken {
        /// The pool.
        name: Name,
        /// What was recorded.
        wanted: Amount,
        /// What is left.
        free: Amount,
    },
}
