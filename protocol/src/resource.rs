//! What a job takes of a node while it runs, in the node's own pools: processors, memory, devices, anything counted.
//!
//! A [`Request`] is a list of [`Demand`]s, written `cpus=4,gpus/nvidia=0.5,mem=8G`; a job has one or several
//! ([`Requests`]) and runs with the first that fits. Which indices it gets is decided where the pools are, in the
//! engine; what travels between nodes is [`Offered`], the sums alone.
//!
//! The hard case is a sum that misleads: two devices of which three quarters are taken offer a half in all, and
//! neither can give it. So sums say who is worth asking, and only the node itself knows what it can give.

mod amount;
mod demand;
mod name;
mod offered;
mod request;

pub use amount::{Amount, AmountError};
pub use demand::{Demand, DemandError, Policy, Quantity};
pub use name::{NAME_BYTES_MAX, Name, NameError};
pub use offered::{NAMES_MAX, Offered, OfferedError};
pub use request::{DEMANDS_MAX, Request, RequestError, Requests, RequestsError, VARIANTS_MAX};
