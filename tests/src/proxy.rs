//! A wire between two nodes that a test can cut: connections to it go on to a node, and what passes can be held up,
//! cut off, or let through in one direction only.
//!
//! Nodes tell each other where they listen and would go round the proxy. They believe such an address on loopback only if
//! they met on loopback, so the proxy keeps to an address of this machine that is not: it listens there, and comes from
//! there to the node that it leads to. What each of the two then knows of the other is the proxy or nothing.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What the wire does with bytes and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Lets everything through.
    Open,
    /// Keeps connections, and what is sent on them until it is open again.
    Stalled,
    /// Ends every new connection at once.
    Shut,
}

/// A proxy in front of one node.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listens: SocketAddrV4,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    host: Ipv4Addr,
    target: SocketAddrV4,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wire: Wire,
    is_over: bool,
    /// The two ends of each connection, as long as it lasts.
    connections: Vec<(TcpStream, TcpStream)>,
    passed: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Leads to a node on loopback; none where this machine has no address but loopback.
    ///
    /// # Panics
    /// If no port can be had.
    #[must_use]
    pub fn to(port: u16) -> Option<Self> {
        let host = own_address()?;
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let Ok(SocketAddr::V4(listens)) = listener.local_addr() else { return None };
        let state = State { wire: Wire::Open, is_over: false, connections: Vec::new(), passed: 0 };
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let shared = Arc::new(Shared { host, target, state: Mutex::new(state), changed: Condvar::new() });
        let serving = Arc::clone(&shared);
        let listener = std::thread::spawn(move || serve(&serving, &listener));
        Some(Self { shared, listens, listener: Some(listener) })
    }

    /// Where it listens, as a multiaddress.
    #[must_use]
    pub fn address(&self) -> String {
        format!("/ip4/{}/tcp/{}", self.listens.ip(), self.listens.port())
    }

    /// Changes what it does from now on.
    pub fn set(&self, wire: Wire) {
        self.shared.state().wire = wire;
        self.shared.changed.notify_all();
    }

    /// Ends every connection, as a cable that is pulled at both ends. Returns how many there were.
    pub fn cut(&self) -> usize {
        let connections = std::mem::take(&mut self.shared.state().connections);
        for (from, to) in &connections {
            // They may have ended by themselves.
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        }
        connections.len()
    }

    /// Ends one direction of every connection: the dialled node hears nothing more, and may still speak.
    pub fn half_close(&self) -> usize {
        let state = self.shared.state();
        for (from, to) in &state.connections {
            let _ = (from.shutdown(Shutdown::Read), to.shutdown(Shutdown::Write));
        }
        state.connections.len()
    }

    /// How many bytes went through, both ways.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.state().passed
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_all();
        self.cut();
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.listens);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// An address of this machine that is not loopback. Nothing is sent to find it.
fn own_address() -> Option<Ipv4Addr> {
    let probe = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // TEST-NET-3 of RFC 5737: routed like any other, and nobody is there.
    probe.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    match probe.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn serve(shared: &Arc<Shared>, listener: &TcpListener) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for from in listener.incoming() {
        let (wire, is_over) = {
            let state = shared.state();
            (state.wire, state.is_over)
        };
        if is_over {
            break;
        }
        pumps.retain(|pump| !pump.is_finished());
        let Ok(from) = from else { continue };
        // A connection that is dropped here ends at once: nobody listens behind the proxy, or it is shut.
        if wire != Wire::Shut {
            pumps.extend(join(shared, from).unwrap_or_default());
        }
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

/// Connects to the node behind and passes bytes both ways.
fn join(shared: &Arc<Shared>, from: TcpStream) -> io::Result<Vec<JoinHandle<()>>> {
    let descriptor = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&descriptor, &SocketAddrV4::new(shared.host, 0))?;
    connect(&descriptor, &shared.target)?;
    let to = TcpStream::from(descriptor);
    for end in [&from, &to] {
        end.set_nodelay(true)?;
    }
    let pairs = [(from.try_clone()?, to.try_clone()?), (to.try_clone()?, from.try_clone()?)];
    shared.state().connections.push((from, to));
    let pump = |(source, sink)| {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pump(&shared, source, sink))
    };
    Ok(pairs.into_iter().map(pump).collect())
}

/// Passes bytes from one end to the other until either is gone.
fn pump(shared: &Shared, mut source: TcpStream, mut sink: TcpStream) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = match source.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let mut state = shared.state();
        while state.wire == Wire::Stalled && !state.is_over {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.passed += count as u64;
        drop(state);
        if sink.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
    // What one side has ended, the other hears of; the way back stays until that side ends it, too.
    let _ = (source.shutdown(Shutdown::Read), sink.shutdown(Shutdown::Write));
}
