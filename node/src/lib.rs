//! The node as a program: what `jobmesh up` starts, and what every other command talks to.
//!
//! [`runtime`] wires the engine to the mesh and the executors and is the one place where their events become its
//! inputs and its outputs become their commands. [`control`] is the door for people and programs on this machine,
//! [`api`] what passes through it. [`daemon`] starts and stops it all.

pub mod causes;
pub mod config;
pub mod home;
pub mod job_types;
pub mod secrets;

pub mod blobs;
pub mod detect;
pub mod gather;
pub mod import;
mod listener;
pub mod runtime;

pub mod api;
pub mod control;
pub mod daemon;
