//! The job database on a real disk: opening it, transactions, queries, and files of released schemas.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixture;
mod opening;
mod queries;
mod samples;
mod transactions;
