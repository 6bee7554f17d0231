//! What a pool is made of, and how its owner writes it down: the notation of HyperQueue.

use std::collections::BTreeSet;
use std::fmt;

use jobmesh_protocol::resource::{Amount, AmountError, Name, NameError};

use super::{Label, LabelError, PoolError};

/// Most indices of one pool: the processors that a Linux kernel can be built for.
pub const INDICES_MAX: usize = 8192;
/// Most groups of one pool. A set of groups fits a machine word, and no machine in sale has as many NUMA nodes.
pub const GROUPS_MAX: usize = 64;
/// Bytes of a refused text that an error repeats.
const SHOWN_BYTES_MAX: usize = 64;

/// What a pool is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Things that can be told apart, in groups of things that are near each other. The order is that in which they
    /// are given out.
    Indices {
        /// The groups; none is empty.
        groups: Vec<Vec<Label>>,
    },
    /// So much of something, such as bytes of memory.
    Sum(Amount),
}

impl PoolKind {
    /// A pool of one group with the indices from 0 up to `count`.
    #[must_use]
    pub fn numbered(count: u32) -> Self {
        Self::Indices { groups: vec![(0..count).map(Label::from).collect()] }
    }

    /// Reads the pool of `name`: `range(1-3)`, `[a,b]`, `[[0,1],[2,3]]`, `2x3`, `sum(100)`.
    ///
    /// `2x3` is two groups of three, numbered from 0. Processors may be a plain count, memory a plain size.
    ///
    /// # Errors
    /// [`PoolTextError`] says what of it can't be read, or which limit it exceeds.
    pub fn parse(name: &Name, text: &str) -> Result<Self, PoolTextError> {
        let text = text.trim();
        let amount = |text: &str| name.parse_amount(text.trim()).map(Self::Sum).map_err(PoolTextError::Amount);
        let kind = if let Some(inside) = within(text, "range(", ")") {
            range(inside).ok_or_else(|| form(name, text))?.bounded(name)?
        } else if let Some(inside) = within(text, "sum(", ")") {
            amount(inside)?
        } else if let Some(inside) = within(text, "[", "]") {
            Self::Indices { groups: listed(inside).ok_or_else(|| form(name, text))?? }
        } else if *name == Name::MEM {
            amount(text)?
        } else if let Some((groups, size)) = text.split_once('x') {
            grid(groups, size).ok_or_else(|| form(name, text))?.bounded(name)?
        } else if *name == Name::CPUS {
            Numbers { first: 0, groups: 1, size: number(text).ok_or_else(|| form(name, text))? }.bounded(name)?
        } else {
            return Err(form(name, text));
        };
        kind.check(name)?;
        Ok(kind)
    }

    /// Reads a pool with its name: `fpga=[a,b]`.
    ///
    /// # Errors
    /// [`PoolTextError`] as for [`Self::parse`].
    pub fn parse_named(text: &str) -> Result<(Name, Self), PoolTextError> {
        let unnamed = || PoolTextError::NoName { text: text.chars().take(SHOWN_BYTES_MAX).collect() };
        let (name, kind) = text.split_once('=').ok_or_else(unnamed)?;
        let name: Name = name.trim().parse()?;
        let kind = Self::parse(&name, kind)?;
        Ok((name, kind))
    }

    /// Checks that a pool of `name` can be made of it.
    pub(super) fn check(&self, name: &Name) -> Result<(), PoolError> {
        let groups = match self {
            Self::Sum(total) if total.is_zero() => return Err(PoolError::Empty { name: name.clone() }),
            Self::Sum(_) => return Ok(()),
            Self::Indices { groups } => groups,
        };
        if groups.is_empty() || groups.iter().any(Vec::is_empty) {
            return Err(PoolError::Empty { name: name.clone() });
        }
        if groups.len() > GROUPS_MAX {
            return Err(PoolError::TooManyGroups { name: name.clone() });
        }
        if groups.iter().map(Vec::len).sum::<usize>() > INDICES_MAX {
            return Err(PoolError::TooManyIndices { name: name.clone() });
        }
        let mut seen = BTreeSet::new();
        match groups.iter().flatten().find(|label| !seen.insert(*label)) {
            Some(label) => Err(PoolError::Twice { name: name.clone(), label: label.clone() }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for PoolKind {
    /// Writes the pool so that [`Self::parse`] reads it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |group: &Vec<Label>| {
            let labels: Vec<&str> = group.iter().map(Label::as_str).collect();
            format!("[{}]", labels.join(","))
        };
        match self {
            Self::Sum(total) => write!(f, "sum({total})"),
            Self::Indices { groups } => match groups.as_slice() {
                [group] => f.write_str(&list(group)),
                groups => write!(f, "[{}]", groups.iter().map(list).collect::<Vec<_>>().join(",")),
            },
        }
    }
}

/// Consecutive numbers in groups of one size.
struct Numbers {
    first: u32,
    groups: u32,
    size: u32,
}

impl Numbers {
    /// The pool of these numbers, made only if it keeps to the limits.
    fn bounded(&self, name: &Name) -> Result<PoolKind, PoolError> {
        let exceeds = |count: u64, limit: usize| usize::try_from(count).map_or(true, |count| count > limit);
        if exceeds(u64::from(self.groups), GROUPS_MAX) {
            return Err(PoolError::TooManyGroups { name: name.clone() });
        }
        if exceeds(u64::from(self.groups) * u64::from(self.size), INDICES_MAX) {
            return Err(PoolError::TooManyIndices { name: name.clone() });
        }
        let label = |group: u32, at: u32| Label::from(self.first.saturating_add(group * self.size + at));
        let groups = (0..self.groups).map(|group| (0..self.size).map(|at| label(group, at)).collect()).collect();
        Ok(PoolKind::Indices { groups })
    }
}

fn within<'t>(text: &'t str, front: &str, back: &str) -> Option<&'t str> {
    text.strip_prefix(front)?.strip_suffix(back)
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn range(text: &str) -> Option<Numbers> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    Some(Numbers { first, groups: 1, size: last.checked_sub(first)?.checked_add(1)? })
}

fn grid(groups: &str, size: &str) -> Option<Numbers> {
    Some(Numbers { first: 0, groups: number(groups)?, size: number(size)? })
}

/// Reads what is between the outer brackets: labels, or groups of them. `None` if the brackets don't match.
fn listed(inside: &str) -> Option<Result<Vec<Vec<Label>>, LabelError>> {
    let mut rest = inside.trim();
    if !rest.starts_with('[') {
        return Some(labels(rest).map(|group| vec![group]));
    }
    let mut groups = Vec::new();
    loop {
        let (group, after) = rest.strip_prefix('[')?.split_once(']')?;
        match labels(group) {
            Ok(group) => groups.push(group),
            Err(error) => return Some(Err(error)),
        }
        rest = after.trim_start();
        if rest.is_empty() {
            return Some(Ok(groups));
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// Reads labels with commas between them, each in quotes or not.
fn labels(text: &str) -> Result<Vec<Label>, LabelError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let bare = |label: &'_ str| -> Result<Label, LabelError> { label.parse() };
    text.split(',').map(str::trim).map(|label| bare(within(label, "\"", "\"").unwrap_or(label))).collect()
}

fn form(name: &Name, text: &str) -> PoolTextError {
    PoolTextError::Form { name: name.clone(), text: text.chars().take(SHOWN_BYTES_MAX).collect() }
}

/// Why a text describes no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolTextError {
    /// Nothing says what it is a pool of.
    #[error("{text:?} names no resource: write it like fpga=[a,b]")]
    NoName {
        /// The text, cut to size.
        text: String,
    },
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None of the known forms.
    #[error("{text:?} is no pool of {name}: write range(0-3), [a,b], [[0,1],[2,3]], 2x3 or sum(100)")]
    Form {
        /// The resource.
        name: Name,
        /// The text, cut to size.
        text: String,
    },
    /// The sum is none.
    #[error(transparent)]
    Amount(AmountError),
    /// The name of an index is none.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// It can be read, but no pool can be made of it.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn shown(text: &str) -> String {
        let (_, kind) = PoolKind::parse_named(text).unwrap();
        kind.to_string()
    }

    #[test]
    fn pools_are_read_as_hyperqueue_writes_them() {
        let cases = [
            ("x=range(1-3)", "[1,2,3]"),
            ("x=range( 5 - 5 )", "[5]"),
            ("x=[a,b]", "[a,b]"),
            ("x=[ \"a\" , GPU-5f/1 ]", "[a,GPU-5f/1]"),
            ("x=[[0,1],[2,3]]", "[[0,1],[2,3]]"),
            ("x= [ [0, 1] , [2] ] ", "[[0,1],[2]]"),
            ("x=[[0]]", "[0]"),
            ("x=2x3", "[[0,1,2],[3,4,5]]"),
            ("x=sum(100)", "sum(100)"),
            ("x=sum(0.5)", "sum(0.5)"),
            ("cpus=3", "[0,1,2]"),
            ("cpus=2x2", "[[0,1],[2,3]]"),
            ("mem=sum(1K)", "sum(1024)"),
            ("mem=1K", "sum(1024)"),
        ];
        for (text, expected) in cases {
            assert_eq!(shown(text), expected, "{text}");
            let name = text.split_once('=').unwrap().0;
            assert_eq!(shown(&format!("{name}={expected}")), expected, "what is shown is read again");
        }
    }

    #[test]
    fn what_is_no_pool_is_refused() {
        let texts = [
            "x",
            "X=[a]",
            "x=",
            "x=3",
            "x=range(3-1)",
            "x=range(3)",
            "x=range(0-4294967295)",
            "x=range(-1-2)",
            "x=[",
            "x=[]",
            "x=[[]]",
            "x=[[a],[]]",
            "x=[[a]",
            "x=[[a]b]",
            "x=[[a][b]]",
            "x=[a,a]",
            "x=[[a],[a]]",
            "x=[a,,b]",
            "x=[a b]",
            "x=[\"a,b\"]",
            "x=0x4",
            "x=4x0",
            "x=axb",
            "x=+1x2",
            "x=65x1",
            "x=1x8193",
            "x=64x4294967295",
            "x=sum(0)",
            "x=sum()",
            "x=sum(1K)",
            "x=sum(-1)",
            "cpus=0",
            "cpus=many",
            "mem=0",
            "mem=2x2",
        ];
        for text in texts {
            assert!(PoolKind::parse_named(text).is_err(), "{text}");
        }
        assert!(PoolKind::parse_named("x=64x128").is_ok());
    }
}
