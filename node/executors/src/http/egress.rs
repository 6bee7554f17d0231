//! Where the jobs of others, and own ones that are kept apart, may connect to: nowhere that only this machine or its
//! network can reach.
//!
//! The rule is about addresses, not names, and holds at three places: for the host of an address as it was written, for
//! every address that its name resolves to, and again at each redirect.
//!
//! **The hard case** is a name whose answer changes between the look and the connection. So the names are resolved by a
//! resolver of our own ([`Guard`]), inside the client: what it hands out is what is connected to, and it hands out nothing
//! that it has not judged.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::settings::{Reach, Settings};

/// Why an address is kept from the jobs of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This machine.
    Loopback,
    /// The network that it is plugged into: also where clouds answer questions about the machine.
    LinkLocal,
    /// A network that is not the internet.
    Private,
    /// No single host: unspecified, multicast, broadcast, reserved.
    Special,
    /// This machine, by an address of its own that others know, too.
    Own,
    /// Public, but its owner lets the jobs of others reach nothing that is not named.
    Unnamed,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::Special => "a reserved address",
            Self::Own => "an address of this node itself",
            Self::Unnamed => "an address that this node's owner has not allowed",
        }
    }
}

/// An address that the job of a peer may not reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
    kind: Kind,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, kind } = self;
        let host: String = host.chars().take(256).collect();
        let shown = if host == address.to_string() { host } else { format!("{host} ({address})") };
        write!(f, "{shown} is {}, which a peer's job may not reach here, nor one that is kept apart", kind.word())
    }
}

impl std::error::Error for Refused {}

/// The rules for the jobs of others.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    settings: Settings,
}

impl Rules {
    pub(crate) const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Judges one address of a host.
    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Refused> {
        let is_allowed = |address| self.settings.allow.iter().any(|it| it.has_host(host) || it.has_address(address));
        if is_allowed(address) || is_allowed(address.to_canonical()) {
            return Ok(());
        }
        let unnamed = || (self.settings.peers == Reach::None).then_some(Kind::Unnamed);
        match judge(address).or_else(|| is_own(address).then_some(Kind::Own)).or_else(unnamed) {
            None => Ok(()),
            Some(kind) => Err(Refused { host: host.to_owned(), address, kind }),
        }
    }

    /// Judges the host of an address before anything is resolved: an address in numbers is never resolved.
    pub(crate) fn check_host(&self, host: &str) -> Result<(), Refused> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare.parse().map_or(Ok(()), |address| self.check(bare, address))
    }
}

/// Says why an address is none of the internet, if it isn't.
///
/// Source: the IANA registries of special-purpose addresses for IPv4 and IPv6.
pub(crate) fn judge(address: IpAddr) -> Option<Kind> {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => judge_v6(address),
    }
}

fn judge_v4(address: Ipv4Addr) -> Option<Kind> {
    match address.octets() {
        [127, ..] => Some(Kind::Loopback),
        [169, 254, ..] => Some(Kind::LinkLocal),
        // The last of these is shared by the customers of one provider.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Kind::Private),
        // This network; protocol assignments; documentation; relays; benchmarks; multicast, reserved and broadcast.
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [224..=255, ..] => Some(Kind::Special),
        _ => None,
    }
}

fn judge_v6(address: Ipv6Addr) -> Option<Kind> {
    let low = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Kind::Loopback),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Kind::Special),
        // An IPv4 address in another dress: mapped, compatible, translated by the network, tunnelled.
        [0, 0, 0, 0, 0, 0xffff | 0, a, b] | [0, 0, 0, 0, 0xffff, 0, a, b] | [0x64, 0xff9b, 0, 0, 0, 0, a, b] => {
            judge_v4(low(a, b))
        }
        [0x2002, a, b, ..] => judge_v4(low(a, b)),
        [0xfe80..=0xfebf, ..] => Some(Kind::LinkLocal),
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Some(Kind::Private),
        // Protocol assignments with Teredo, and documentation, inside what is the internet otherwise.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some(Kind::Special),
        [0x2000..=0x3fff, ..] => None,
        _ => Some(Kind::Special),
    }
}

/// Whether this machine has the address: only then can something be bound to it.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// How the names of hosts are looked up for the jobs of others.
#[derive(Clone)]
pub struct Names(Arc<Lookup>);

impl Names {
    /// By this. The port of what it answers means nothing.
    pub fn new(
        look_up: impl Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(look_up))
    }
}

impl Default for Names {
    /// As every program of this machine does.
    fn default() -> Self {
        Self::new(|host| Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.collect()) }))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

/// A resolver that hands out only addresses that may be connected to.
pub(crate) struct Guard {
    rules: Rules,
    names: Names,
}

impl Guard {
    pub(crate) const fn new(rules: Rules, names: Names) -> Self {
        Self { rules, names }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        let host = name.as_str().to_owned();
        let found = (self.names.0)(host.clone());
        Box::pin(async move {
            let (mut good, mut refused) = (Vec::new(), None);
            for address in found.await? {
                match rules.check(&host, address.ip()) {
                    Ok(()) => good.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if good.is_empty() => Err(error.into()),
                Some(_) | None => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::str::FromStr as _;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::http::settings::Allowed;

    fn word(address: &str) -> Option<Kind> {
        judge(address.parse().unwrap())
    }

    /// This machine, in every form that hides one address in another.
    const LOOPBACK: [&str; 6] = ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "2002:7f00:1::"];

    /// The wire that it is on, and what clouds answer there.
    const LINK_LOCAL: [&str; 5] =
        ["169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"];

    /// Its own network.
    const PRIVATE: [&str; 13] = [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.9.9",
        "fc00::1",
        "fdff::1",
        "fec0::1",
        "::ffff:10.1.2.3",
        "64:ff9b::a00:1",
        "2002:c0a8:101::1",
        "::ffff:0:a00:1",
    ];

    /// What leads to nobody, to many, or to examples.
    const SPECIAL: [&str; 24] = [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "192.88.99.1",
        "::",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2001:20::1",
        "3fff::1",
        "64:ff9b:1::1",
        "100::1",
        "5f00::1",
        "4000::1",
        "::ffff:0.0.0.0",
    ];

    /// What anybody reaches, also right beside the others.
    const PUBLIC: [&str; 12] = [
        "1.1.1.1",
        "8.8.8.8",
        "172.32.0.1",
        "100.128.0.1",
        "192.0.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ];

    #[test]
    fn what_only_this_machine_or_its_network_reaches_is_told_apart() {
        let table: [(Option<Kind>, &[&str]); 5] = [
            (Some(Kind::Loopback), &LOOPBACK),
            (Some(Kind::LinkLocal), &LINK_LOCAL),
            (Some(Kind::Private), &PRIVATE),
            (Some(Kind::Special), &SPECIAL),
            (None, &PUBLIC),
        ];
        for (kind, addresses) in table {
            for address in addresses {
                assert_eq!(word(address), kind, "{address}");
            }
        }
    }

    #[test]
    fn hosts_in_numbers_are_judged_as_the_client_reads_them() {
        let rules = Rules::new(Settings::default());
        // Every spelling of an address that an address of the web allows.
        for url in [
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/",
            "http://0/",
            "http://[fe80::1]/",
        ] {
            let url = reqwest::Url::from_str(url).unwrap();
            assert!(rules.check_host(url.host_str().unwrap()).is_err(), "{url}");
        }
        rules.check_host("example.org").unwrap();
        rules.check_host("1.1.1.1").unwrap();
    }

    #[test]
    fn what_the_owner_allows_is_reached_and_nothing_else_if_so_told() {
        let allow = ["10.0.0.5", "intranet.example"].map(|text| Allowed::from_str(text).unwrap()).to_vec();
        let rules = Rules::new(Settings { allow, peers: Reach::None, ..Settings::default() });
        rules.check("x", "10.0.0.5".parse().unwrap()).unwrap();
        rules.check("x", "::ffff:10.0.0.5".parse().unwrap()).unwrap();
        rules.check("intranet.example", "192.168.7.7".parse().unwrap()).unwrap();
        assert_eq!(rules.check("x", "10.0.0.6".parse().unwrap()).unwrap_err().kind, Kind::Private);
        assert_eq!(rules.check("x", "1.1.1.1".parse().unwrap()).unwrap_err().kind, Kind::Unnamed);
    }

    /// A name that is public when it is looked at and loopback when it is connected to.
    #[tokio::test]
    async fn an_answer_that_changes_never_leads_to_a_refused_address() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let names = Names::new(move |_| {
            let first = counter.fetch_add(1, Ordering::Relaxed) == 0;
            let answer: &[&str] = if first { &["8.8.8.8:0", "127.0.0.1:0"] } else { &["127.0.0.1:0", "[::1]:0"] };
            let answer = answer.iter().map(|address| address.parse().unwrap()).collect();
            Box::pin(std::future::ready(Ok(answer)))
        });
        let guard = Guard::new(Rules::new(Settings::default()), names);
        let name = || Name::from_str("rebind.example").unwrap();
        let found: Vec<SocketAddr> = guard.resolve(name()).await.unwrap().collect();
        assert_eq!(found, ["8.8.8.8:0".parse().unwrap()]);
        let Err(error) = guard.resolve(name()).await else { panic!("loopback was handed out") };
        assert_eq!(
            error.to_string(),
            "rebind.example (::1) is a loopback address, which a peer's job may not reach here, nor one that is kept apart"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
