//! What a job needs of a node, what it takes while it runs, and where it may.

use clap::{Args, ValueEnum};
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::resource::{Demand, Name, Request, Requests};
use jobmesh_protocol::{Isolation, Requirement};

use super::Draft;
use crate::cli::failure::{Failure, Kind};
use crate::cli::words::not_below_zero;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Where, and with what")]
pub(super) struct NeedsOptions {
    /// What a node must have to run it, such as `tool:gzip`, `os=linux` or `memory>=8GiB` (may be repeated)
    #[arg(long = "require", value_name = "REQUIREMENT")]
    requirements: Vec<Requirement>,
    /// Where it may run [default: any with --require, else local]
    #[arg(long = "where", value_name = "PLACE")]
    place: Option<Place>,
    /// How well it is kept apart from the rest of the machine at least: contained, sandboxed or untrusted; where that
    /// can't be had, it does not run [default: up to the node]
    #[arg(long, value_name = "LEVEL", value_parser = parse_isolation)]
    isolation: Option<Isolation>,
    /// Let it use the network on another node, too; here it may anyway
    #[arg(long)]
    network: bool,
    /// How many processors it takes, such as 4, 0.5, "8 compact", all or none [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_cpus, allow_hyphen_values = true)]
    cpus: Option<Share>,
    /// How much memory it takes, such as 512M, 8G or none [default: not stated]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, allow_hyphen_values = true)]
    mem: Option<Share>,
    /// How many graphics processors it takes: 1, 0.5, amd:1 or none [default: none]
    #[arg(long, value_name = "[KIND:]N", value_parser = parse_gpus, allow_hyphen_values = true)]
    gpus: Option<Share>,
    /// How much of another resource it takes, such as licences=2 or gpus/nvidia=0.5 (may be repeated)
    #[arg(long = "resource", value_name = "NAME=N", value_parser = parse_demand)]
    others: Vec<Demand>,
    /// What it takes if there is no room for that, such as cpus=8,mem=4G (may be repeated; tried in order)
    #[arg(long = "or", value_name = "RESOURCES", value_parser = parse_request)]
    variants: Vec<Request>,
}

/// Where a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// On this node only
    Local,
    /// On another node of the mesh
    Mesh,
    /// Here if this node can and is free, else on another one
    Any,
}

impl From<Place> for Scope {
    fn from(place: Place) -> Self {
        match place {
            Place::Local => Self::Local,
            Place::Mesh => Self::Network,
            Place::Any => Self::Hybrid,
        }
    }
}

/// What a job takes of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Share {
    None,
    Some(Demand),
}

impl Share {
    fn demand(self) -> Option<Demand> {
        match self {
            Self::None => None,
            Self::Some(demand) => Some(demand),
        }
    }
}

impl NeedsOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let spec = &mut draft.submission.spec;
        spec.requirements.extend(self.requirements);
        if let Some(place) = self.place {
            spec.scope = place.into();
            draft.is_place_said = true;
        }
        spec.isolation = self.isolation.or(spec.isolation);
        spec.network |= self.network;
        let is_said = self.cpus.is_some() || self.mem.is_some() || self.gpus.is_some();
        if !is_said && self.others.is_empty() && self.variants.is_empty() {
            return Ok(());
        }
        let takes = [self.mem, self.gpus].into_iter().flatten().filter_map(Share::demand).chain(self.others).collect();
        let request = request(self.cpus, takes)?;
        let requests = Requests::new(std::iter::once(request).chain(self.variants).collect());
        spec.resources = requests.map_err(|error| Failure::of(Kind::Usage, &error))?;
        Ok(())
    }
}

/// All demands as one request; of processors one, if nothing is said of them.
fn request(cpus: Option<Share>, mut demands: Vec<Demand>) -> Result<Request, Failure> {
    match cpus {
        Some(Share::Some(demand)) => demands.push(demand),
        Some(Share::None) => {}
        None if demands.iter().any(|demand| demand.name == Name::CPUS) => {}
        None => demands.extend(Request::default().demands().iter().cloned()),
    }
    Request::new(demands).map_err(|error| Failure::of(Kind::Usage, &error))
}

fn parse_isolation(word: &str) -> Result<Isolation, String> {
    let level = Isolation::from_word(word).filter(|level| *level != Isolation::None);
    level.ok_or_else(|| "write contained, sandboxed or untrusted".to_owned())
}

fn parse_cpus(text: &str) -> Result<Share, String> {
    parse_share(Name::CPUS, text, "a number such as 4, 0.5 or \"8 compact\", or none")
}

fn parse_memory(text: &str) -> Result<Share, String> {
    parse_share(Name::MEM, text, "a size such as 512M or 8G, or none")
}

fn parse_share(name: Name, text: &str, form: &str) -> Result<Share, String> {
    if text == "none" {
        return Ok(Share::None);
    }
    not_below_zero(text).map_err(|error| format!("{error}; write {form}"))?;
    Demand::parse(name, text).map(Share::Some).map_err(|error| format!("{error}; write {form}"))
}

fn parse_gpus(text: &str) -> Result<Share, String> {
    let (name, amount) = match text.split_once(':') {
        None => (Name::GPUS_NVIDIA, text),
        Some(("nvidia", amount)) => (Name::GPUS_NVIDIA, amount),
        Some(("amd", amount)) => (Name::GPUS_AMD, amount),
        Some((kind, _)) => {
            return Err(format!("{kind:?} is neither nvidia nor amd; for others write --resource gpus/{kind}=1"));
        }
    };
    parse_share(name, amount, "a number such as 1 or 0.5, or none")
}

fn parse_demand(text: &str) -> Result<Demand, String> {
    text.parse().map_err(|error| format!("{error}; write it as NAME=N, such as licences=2"))
}

fn parse_request(text: &str) -> Result<Request, String> {
    text.parse().map_err(|error| format!("{error}; write it as cpus=8,mem=4G"))
}
