//! How long something takes, for benchmarks.

use std::time::{Duration, Instant};

/// How long this takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// The middle one, or the later of the two in the middle.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A length of time with three digits.
#[must_use]
pub fn words(length: Duration) -> String {
    let micros = length.as_secs_f64() * 1e6;
    match micros {
        ..1e1 => format!("{micros:.2} µs"),
        ..1e2 => format!("{micros:.1} µs"),
        ..1e3 => format!("{micros:.0} µs"),
        ..1e4 => format!("{:.2} ms", micros / 1e3),
        ..1e5 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.0} ms", micros / 1e3),
    }
}

/// Which machine this is, and what was built.
#[must_use]
pub fn machine() -> String {
    let uname = rustix::system::uname();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let build = if cfg!(debug_assertions) { "unoptimised build" } else { "optimised build" };
    format!(
        "{processors} × {}, {} {}, {build}",
        model.unwrap_or(std::env::consts::ARCH),
        uname.sysname().to_string_lossy(),
        uname.release().to_string_lossy(),
    )
}
