//! The job database on a real disk: opening it, transactions, queries, damage, and files of released schemas.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod damage;
mod dependencies;
mod fixture;
mod groups;
mod jobs;
mod links;
mod migration;
mod opening;
mod queries;
mod retention;
mod samples;
mod selection;
mod settings;
mod transactions;
mod upkeep;
