//! Why a request has to wait, or would wait for ever: what `explain` says of resources.

use std::fmt;

use jobmesh_protocol::resource::{Amount, Demand, Name, Quantity};

/// What this node can't give even when it is idle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// There is no such pool.
    #[error("this node has no {name}")]
    NoPool {
        /// The resource.
        name: Name,
    },
    /// The pool is smaller than what is demanded.
    #[error("{demand} is wanted, but this node has {} in all", demand.name.amount_text(*total))]
    TooMuch {
        /// What is demanded.
        demand: Demand,
        /// What there is.
        total: Amount,
    },
}

/// Why one demand can't be met now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What is demanded.
    pub demand: Demand,
    /// What nobody has taken.
    pub free: Amount,
    /// What there is in all.
    pub total: Amount,
    /// Why that is not enough.
    pub cause: Cause,
}

/// Why what is free is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// There is no such pool, now or later.
    NoPool,
    /// The pool is too small, now and later.
    TooMuch,
    /// Other jobs have taken too much of it.
    Taken,
    /// Enough is free in all, but not as whole indices, or not on one index for the fraction.
    InPieces,
    /// Enough is free, but in more groups than the policy allows.
    Apart,
    /// All of it is demanded, and other jobs have some.
    NotIdle,
}

impl Cause {
    /// Whether it passes when other jobs end.
    #[must_use]
    pub const fn passes(self) -> bool {
        match self {
            Self::NoPool | Self::TooMuch => false,
            Self::Taken | Self::InPieces | Self::Apart | Self::NotIdle => true,
        }
    }
}

impl Shortage {
    /// How much more would have to be free, at least; nothing where it is a question of where, not of how much.
    #[must_use]
    pub fn missing(&self) -> Amount {
        match self.demand.quantity {
            Quantity::Amount(amount) => amount.less(self.free),
            Quantity::All => self.total.less(self.free),
        }
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { demand, free, total, cause } = self;
        let (free, total) = (demand.name.amount_text(*free), demand.name.amount_text(*total));
        match cause {
            Cause::NoPool => write!(f, "{demand} is wanted, and there is no {} here", demand.name),
            Cause::TooMuch => write!(f, "{demand} is wanted, and there is {total} in all"),
            Cause::Taken | Cause::NotIdle => write!(f, "{demand} is wanted, and {free} of {total} is free"),
            Cause::InPieces => {
                write!(f, "{demand} is wanted, and {free} of {total} is free, but as parts of several indices")
            }
            Cause::Apart => write!(f, "{demand} is wanted, and {free} of {total} is free, but in too many groups"),
        }
    }
}
