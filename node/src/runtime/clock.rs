//! The node's clocks: the only place outside the mesh that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use jobmesh_protocol::{MonoMillis, Now, UnixMillis};
use rustix::time::{ClockId, clock_gettime};

/// The clock that runs on while the machine sleeps, so that a lease ends for a sleeping laptop as for its origin.
#[cfg(any(target_os = "linux", target_os = "android"))]
const STEADY: ClockId = ClockId::Boottime;
/// On macOS the monotonic clock counts sleep, too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const STEADY: ClockId = ClockId::Monotonic;

/// Reads both clocks.
pub(crate) fn now() -> Now {
    let steady = clock_gettime(STEADY);
    let seconds = u64::try_from(steady.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(steady.tv_nsec).unwrap_or(0);
    Now { mono: MonoMillis(seconds.saturating_mul(1000) + nanos / 1_000_000), wall: wall() }
}

/// Reads the clock for dates.
pub(crate) fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
