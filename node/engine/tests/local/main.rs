//! One node and what it promises of its own jobs, with no peer in sight.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test says which answer is right, and all others are wrong")]

mod desk;
mod executor;
mod node;

mod alterations;
mod arrays;
mod bounds;
mod children;
mod clocks;
mod dependencies;
mod explanations;
mod groups;
mod pruning;
mod queues;
mod reports;
mod restarts;
mod retries;
mod schedules;
mod successors;
mod times;
mod uniqueness;
