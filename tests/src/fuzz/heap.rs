//! An allocator that counts what each thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted. A test binary that tries decoders makes it its own with `#[global_allocator]`.
#[derive(Debug)]
pub struct Heap;

/// Signed, since a thread may free what another one reserved.
struct Meter {
    held: Cell<isize>,
    peak: Cell<isize>,
}

thread_local! {
    static METER: Meter = const { Meter { held: Cell::new(0), peak: Cell::new(0) } };
}

impl Heap {
    /// Runs `act` and returns the most that this thread held at a time beyond what it held before, in bytes.
    pub fn measure<T>(act: impl FnOnce() -> T) -> (T, usize) {
        let before = METER.with(|meter| {
            meter.peak.set(meter.held.get());
            meter.held.get()
        });
        let done = act();
        let peak = METER.with(|meter| meter.peak.get());
        (done, usize::try_from(peak - before).unwrap_or(0))
    }

    /// Whether the allocator of this program is this one.
    #[must_use]
    pub fn is_installed() -> bool {
        let (text, held) = Self::measure(|| "counted".repeat(100));
        held >= text.len()
    }
}

/// Counts bytes that were reserved, or freed if there are less than none.
fn count(bytes: isize) {
    // A thread that is ending has no meter any more.
    let _ = METER.try_with(|meter| {
        let held = meter.held.get().wrapping_add(bytes);
        meter.held.set(held);
        meter.peak.set(meter.peak.get().max(held));
    });
}

#[expect(unsafe_code, reason = "the trait of allocators is unsafe; every call is the system's with the same arguments")]
// SAFETY: all of it is what `System` does. Counting reserves nothing: the meter is a constant without a destructor.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
