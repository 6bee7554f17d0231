//! Everything that a job takes while it runs, and the choices it leaves to the node.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::amount::Amount;
use super::demand::{Demand, DemandError, Policy, Quantity};
use super::name::Name;

/// Most demands of one request: a node has at most four times as many pools, and nobody needs a quarter of them.
pub const DEMANDS_MAX: usize = 16;
/// Most requests of one job, each of which is tried at every look for room.
pub const VARIANTS_MAX: usize = 8;
/// How a request for nothing at all is written.
const NOTHING: &str = "none";

/// What a job takes while it runs: demands on different resources, in the order of their names.
///
/// Written `cpus=8,mem=4G`, in CBOR and JSON too; `none` takes nothing but a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Request {
    demands: Vec<Demand>,
}

impl Request {
    /// Makes a request of `demands` in any order.
    ///
    /// # Errors
    /// [`RequestError`] if there are too many, two on one resource, or one for nothing.
    pub fn new(mut demands: Vec<Demand>) -> Result<Self, RequestError> {
        if demands.len() > DEMANDS_MAX {
            return Err(RequestError::TooMany);
        }
        if let Some(empty) = demands.iter().find(|demand| demand.quantity == Quantity::Amount(Amount::ZERO)) {
            return Err(RequestError::Zero { name: empty.name.clone() });
        }
        demands.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let twice = demands.iter().zip(demands.iter().skip(1)).find(|(a, b)| a.name == b.name);
        match twice {
            Some((demand, _)) => Err(RequestError::Twice { name: demand.name.clone() }),
            None => Ok(Self { demands }),
        }
    }

    /// A request for nothing but a slot.
    #[must_use]
    pub const fn none() -> Self {
        Self { demands: Vec::new() }
    }

    /// The demands, in the order of their names.
    #[must_use]
    pub fn demands(&self) -> &[Demand] {
        &self.demands
    }
}

impl Default for Request {
    /// One processor: what a plain command takes.
    fn default() -> Self {
        let cpu = Demand { name: Name::CPUS, quantity: Quantity::Amount(Amount::ONE), policy: Policy::Compact };
        Self { demands: vec![cpu] }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.demands.split_first() else { return f.write_str(NOTHING) };
        first.fmt(f)?;
        rest.iter().try_for_each(|demand| write!(f, ",{demand}"))
    }
}

impl FromStr for Request {
    type Err = RequestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == NOTHING {
            return Ok(Self::none());
        }
        // One too many is enough to be refused for it.
        let demands: Result<Vec<Demand>, DemandError> = text.split(',').take(DEMANDS_MAX + 1).map(str::parse).collect();
        Self::new(demands?)
    }
}

impl TryFrom<String> for Request {
    type Error = RequestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why demands make no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More demands than a request may have.
    #[error("a request names at most {DEMANDS_MAX} resources")]
    TooMany,
    /// Two demands on one resource.
    #[error("{name} is demanded twice: say once how much of it the job takes")]
    Twice {
        /// The resource.
        name: Name,
    },
    /// A demand for nothing.
    #[error("{name} is demanded with 0: leave it out")]
    Zero {
        /// The resource.
        name: Name,
    },
    /// One of the demands can't be read.
    #[error(transparent)]
    Demand(#[from] DemandError),
}

/// The requests of one job, tried in order: the first that fits is what it runs with. At least one, at most eight.
///
/// Written `cpus=1,gpus/nvidia=1 | cpus=8`; in CBOR and JSON it is a list of such texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "Vec<Request>")]
pub struct Requests {
    variants: Vec<Request>,
}

impl Requests {
    /// Makes the requests of a job, best first.
    ///
    /// # Errors
    /// [`RequestsError`] if there are none or too many.
    pub fn new(variants: Vec<Request>) -> Result<Self, RequestsError> {
        match variants.len() {
            0 => Err(RequestsError::Empty),
            1..=VARIANTS_MAX => Ok(Self { variants }),
            _ => Err(RequestsError::TooMany),
        }
    }

    /// Whether they ask for one processor, like a job that asks for nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The requests, best first; never empty.
    #[must_use]
    pub fn variants(&self) -> &[Request] {
        &self.variants
    }

    /// The requests with their numbers, best first.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Request)> {
        self.variants.iter().enumerate()
    }
}

impl Default for Requests {
    /// One processor.
    fn default() -> Self {
        Request::default().into()
    }
}

impl From<Request> for Requests {
    fn from(request: Request) -> Self {
        Self { variants: vec![request] }
    }
}

impl TryFrom<Vec<Request>> for Requests {
    type Error = RequestsError;

    fn try_from(variants: Vec<Request>) -> Result<Self, Self::Error> {
        Self::new(variants)
    }
}

impl fmt::Display for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(number, request)| {
            f.write_str(if number == 0 { "" } else { " | " })?;
            request.fmt(f)
        })
    }
}

impl FromStr for Requests {
    type Err = RequestsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let variants: Result<Vec<Request>, RequestError> =
            text.split('|').take(VARIANTS_MAX + 1).map(str::parse).collect();
        Self::new(variants?)
    }
}

impl Serialize for Requests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.variants.serialize(serializer)
    }
}

/// Why requests are not those of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestsError {
    /// Not one.
    #[error("a job has at least one request: write none for one that takes nothing")]
    Empty,
    /// More than are tried.
    #[error("a job has at most {VARIANTS_MAX} requests to choose from")]
    TooMany,
    /// One of them can't be read.
    #[error(transparent)]
    Request(#[from] RequestError),
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;
    use crate::cbor;

    #[test]
    fn a_request_is_sorted_and_shown() {
        let request: Request = "mem=4G, cpus=8 tight".parse().unwrap();
        assert_eq!(request.to_string(), "cpus=8 tight,mem=4G");
        assert_eq!(Request::default().to_string(), "cpus=1");
        assert_eq!("none".parse::<Request>().unwrap(), Request::none());
        assert_eq!(Request::none().to_string(), "none");
    }

    #[test]
    fn a_request_keeps_to_its_limits() {
        assert_eq!("cpus=1,cpus=2".parse::<Request>(), Err(RequestError::Twice { name: Name::CPUS }));
        assert_eq!("cpus=0.0".parse::<Request>(), Err(RequestError::Zero { name: Name::CPUS }));
        let many = |count: usize| (0..count).map(|number| format!("r{number}=1")).collect::<Vec<_>>().join(",");
        assert!(many(DEMANDS_MAX).parse::<Request>().is_ok());
        assert_eq!(many(DEMANDS_MAX + 1).parse::<Request>(), Err(RequestError::TooMany));
        for text in ["", ",", "cpus=1,", "none,cpus=1"] {
            assert!(matches!(text.parse::<Request>(), Err(RequestError::Demand(_))), "{text}");
        }
    }

    #[test]
    fn a_job_has_one_to_eight_requests() {
        let requests: Requests = "cpus=1,gpus/nvidia=1 | cpus=8".parse().unwrap();
        assert_eq!(requests.to_string(), "cpus=1,gpus/nvidia=1 | cpus=8");
        assert_eq!(requests.variants().len(), 2);
        assert_eq!(Requests::new(vec![]), Err(RequestsError::Empty));
        assert_eq!(Requests::new(vec![Request::none(); VARIANTS_MAX + 1]), Err(RequestsError::TooMany));
        assert_eq!(["none"; VARIANTS_MAX + 1].join("|").parse::<Requests>(), Err(RequestsError::TooMany));
    }

    #[test]
    fn requests_are_texts_in_json_and_cbor() {
        let requests: Requests = "cpus=0.5,mem=8G | cpus=all".parse().unwrap();
        let json = serde_json::to_string(&requests).unwrap();
        assert_eq!(json, r#"["cpus=0.5,mem=8G","cpus=all"]"#);
        assert_eq!(serde_json::from_str::<Requests>(&json).unwrap(), requests);
        assert_eq!(cbor::decode::<Requests>(&cbor::encode(&requests), 100).unwrap(), requests);
        assert!(serde_json::from_str::<Requests>("[]").is_err());
        assert!(serde_json::from_str::<Requests>(r#"["cpus=1,cpus=1"]"#).is_err());
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        let quantity = prop_oneof![
            (1u64..1 << 50).prop_map(|parts| Quantity::Amount(Amount::from_parts(parts))),
            Just(Quantity::All)
        ];
        let policy = prop_oneof![
            Just(Policy::Compact),
            Just(Policy::ForceCompact),
            Just(Policy::Tight),
            Just(Policy::ForceTight),
            Just(Policy::Scatter)
        ];
        ("[a-z][a-z0-9_/.-]{0,8}", quantity, policy).prop_filter_map("a name", |(name, quantity, policy)| {
            Some(Demand { name: name.parse().ok().filter(|name| *name != Name::MEM)?, quantity, policy })
        })
    }

    proptest! {
        #[test]
        fn text_and_request_say_the_same(demands in proptest::collection::vec(any_demand(), 0..6)) {
            if let Ok(request) = Request::new(demands) {
                prop_assert_eq!(request.to_string().parse::<Request>().unwrap(), request);
            }
        }

        #[test]
        fn no_text_breaks_the_reader(text: String) {
            let _ = text.parse::<Requests>();
        }
    }
}
