//! What one job was given, as it is recorded with its attempt and told to the job.

use std::collections::BTreeMap;

use jobmesh_protocol::resource::{Amount, Name};
use serde::{Deserialize, Serialize};

use super::Label;

/// What one attempt holds of the pools. Kept in the database, so that a restart can give it back to a job that
/// still runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocation {
    /// Which of the job's requests it answers, from 0.
    pub variant: usize,
    /// One share for each demand, in the order of their names.
    pub shares: Vec<Share>,
}

/// What an attempt holds of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The pool.
    pub pool: Name,
    /// What was taken from it.
    pub taken: Taken,
}

/// Indices or an amount, after the kind of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// Indices in the order of the pool; one that was taken in part is the last.
    Indices(Vec<Piece>),
    /// So much of a sum.
    Sum(Amount),
}

/// One index, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The index.
    pub label: Label,
    /// How much of it, more than nothing and at most one.
    pub amount: Amount,
}

impl Allocation {
    /// How much it holds of `pool` in all.
    #[must_use]
    pub fn amount(&self, pool: &Name) -> Amount {
        self.shares.iter().find(|share| share.pool == *pool).map_or(Amount::ZERO, Share::amount)
    }

    /// What the job is told of it, as environment variables.
    ///
    /// `JOBMESH_RESOURCE_<NAME>` is the list of indices or the amount, `JOBMESH_RESOURCE_VARIANT` the number of the
    /// request. Processors are in `JOBMESH_CPUS` too, and in `OMP_NUM_THREADS` if they are whole ones. Devices are
    /// also in the variable by which their vendor's libraries find them.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::from([("JOBMESH_RESOURCE_VARIANT".to_owned(), self.variant.to_string())]);
        for share in &self.shares {
            let value = match &share.taken {
                Taken::Sum(amount) => amount.to_string(),
                Taken::Indices(pieces) => {
                    let list = joined(pieces);
                    variables.extend(special(share, &list));
                    list
                }
            };
            variables.insert(format!("JOBMESH_RESOURCE_{}", share.pool.variable()), value);
        }
        variables
    }
}

impl Share {
    /// How much it is in all.
    #[must_use]
    pub fn amount(&self) -> Amount {
        match &self.taken {
            Taken::Sum(amount) => *amount,
            Taken::Indices(pieces) => pieces.iter().fold(Amount::ZERO, |sum, piece| sum.plus(piece.amount)),
        }
    }
}

fn joined(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| piece.label.as_str()).collect::<Vec<_>>().join(",")
}

/// The variables that other programs know `share` by, if its indices are `list`.
fn special(share: &Share, list: &str) -> Vec<(String, String)> {
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    if share.pool == Name::CPUS {
        let amount = share.amount();
        let threads = amount.fraction().is_zero().then(|| variable("OMP_NUM_THREADS", &amount.to_string()));
        return std::iter::once(variable("JOBMESH_CPUS", list)).chain(threads).collect();
    }
    if share.pool == Name::GPUS_NVIDIA {
        // By itself CUDA counts from the fastest device; ours are counted as the bus has them.
        return vec![variable("CUDA_VISIBLE_DEVICES", list), variable("CUDA_DEVICE_ORDER", "PCI_BUS_ID")];
    }
    if share.pool == Name::GPUS_AMD {
        return vec![variable("ROCR_VISIBLE_DEVICES", list)];
    }
    Vec::new()
}
