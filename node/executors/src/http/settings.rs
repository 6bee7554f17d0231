//! What the owner of a node says of requests to web servers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// What the owner of a node says of requests to web servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Most bytes of an answer.
    pub response_bytes_max: u64,
    /// Where the jobs of peers may go.
    pub peers: Reach,
    /// What they may reach beside that; at most [`ALLOWED_MAX`].
    pub allow: Vec<Allowed>,
}

/// Most entries of [`Settings::allow`]: every connection is compared with all of them.
pub const ALLOWED_MAX: usize = 256;

impl Default for Settings {
    /// 1 GiB an answer, like the logs that it is written to. Peers reach what anybody can reach from anywhere.
    fn default() -> Self {
        Self { response_bytes_max: 1 << 30, peers: Reach::Public, allow: Vec::new() }
    }
}

/// Where the jobs of peers may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To public addresses.
    Public,
    /// Only to what is allowed by name or range.
    None,
}

/// A host or a range of addresses that the jobs of peers may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A name, in lower case; all of its addresses.
    Host(String),
    /// Addresses that share so many leading bits with this one.
    Range(IpAddr, u8),
}

/// Why a text names no host and no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither a host such as db.example.org nor addresses such as 10.0.0.5 or 10.1.0.0/16")]
pub struct AllowedError {
    text: String,
}

impl Allowed {
    /// Whether requests to a host of this name are allowed.
    #[must_use]
    pub fn has_host(&self, name: &str) -> bool {
        match self {
            Self::Host(host) => host.eq_ignore_ascii_case(name.trim_end_matches('.')),
            Self::Range(..) => false,
        }
    }

    /// Whether this address is in the range.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Range(IpAddr::V4(first), bits), IpAddr::V4(address)) => {
                shares(first.to_bits().into(), address.to_bits().into(), 32, *bits)
            }
            (Self::Range(IpAddr::V6(first), bits), IpAddr::V6(address)) => {
                shares(first.to_bits(), address.to_bits(), 128, *bits)
            }
            (Self::Host(_) | Self::Range(..), _) => false,
        }
    }
}

/// Whether two numbers of `width` bits begin with the same `bits`.
fn shares(one: u128, other: u128, width: u8, bits: u8) -> bool {
    let rest = u32::from(width.saturating_sub(bits));
    one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
}

impl FromStr for Allowed {
    type Err = AllowedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AllowedError { text: text.chars().take(64).collect() };
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let width = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
            return if bits <= width { Ok(Self::Range(address, bits)) } else { Err(wrong()) };
        }
        let host = text.strip_suffix('.').unwrap_or(text);
        if bits.is_none() && is_host(host) { Ok(Self::Host(host.to_ascii_lowercase())) } else { Err(wrong()) }
    }
}

/// Whether a text can be the name of a host. One whose last part is a number is an address that is cut or mistyped, and
/// no client would look it up. Source: RFC 1123, and the URL standard for numbers.
fn is_host(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(is_legal)
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= 253 && text.split('.').all(is_part) && !is_number
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => f.write_str(name),
            Self::Range(address, bits) => write!(f, "{address}/{bits}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn hosts_and_ranges_are_read_and_compared() {
        let range: Allowed = "10.1.0.0/16".parse().unwrap();
        assert!(range.has_address("10.1.200.3".parse().unwrap()));
        assert!(!range.has_address("10.2.0.0".parse().unwrap()));
        let one: Allowed = "10.0.0.5".parse().unwrap();
        assert!(one.has_address("10.0.0.5".parse().unwrap()) && !one.has_address("10.0.0.4".parse().unwrap()));
        let all: Allowed = "::/0".parse().unwrap();
        assert!(all.has_address("fd00::1".parse().unwrap()) && !all.has_address("10.0.0.4".parse().unwrap()));
        let host: Allowed = "DB.example.org.".parse().unwrap();
        assert!(host.has_host("db.Example.org") && !host.has_host("other.example.org"));
        assert_eq!(host.to_string(), "db.example.org");
        let nonsense = ["**", "*.example.org", ".", "a..b", "-a.org", "10.0.0", "10.0.0.256", "a.0x7f", "db/8"];
        for wrong in ["", "10.0.0.0/33", "a b", "http://x/", "10.0.0.0/"].into_iter().chain(nonsense) {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }
}
