//! A sender that lies, breaks off or falls silent, as the bytes that it sends.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use bao_tree::io::outboard::PreOrderOutboard;
use bao_tree::io::sync::CreateOutboard as _;
use futures::io::Cursor;
use jobmesh_protocol::Hash;

use super::*;
use crate::blob::{DAMAGED, WAIT};

fn content() -> Vec<u8> {
    (0..1_000_000_u32).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// What an honest sender sends from `offset` on, in frames.
fn frames(bytes: &[u8], mut offset: u64) -> Vec<Vec<u8>> {
    let size = bytes.len() as u64;
    let mut outboard = PreOrderOutboard { tree: tree::of(size), ..PreOrderOutboard::<Vec<u8>>::default() };
    outboard.init_from(bytes).unwrap();
    let mut frames = Vec::new();
    while offset < size {
        let range = tree::segment(offset, size);
        let encoded = tree::encode(bytes, &outboard, range.clone()).unwrap();
        let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
        frames.push([length.as_slice(), &encoded].concat());
        offset = range.end;
    }
    frames
}

/// A destination, and what was counted.
struct Place {
    folder: tempfile::TempDir,
    counters: Counters,
    told: AtomicU64,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), counters: Counters::default(), told: AtomicU64::new(0) }
    }

    fn whole(&self) -> PathBuf {
        self.folder.path().join("blob")
    }

    fn part(&self, blob: BlobRef) -> PathBuf {
        part_path(&self.whole(), blob)
    }

    /// Receives from a stream; returns at which offset it began, and what came of it.
    async fn receive<S: AsyncRead + Unpin>(
        &self,
        blob: BlobRef,
        make: impl FnOnce(u64) -> S,
    ) -> (u64, Result<(), FetchError>) {
        let into = self.whole();
        let on_bytes = |count| {
            self.told.fetch_add(count, Ordering::Relaxed);
        };
        let from = NodeId::from_bytes([1; 32]);
        let mut transfer = Transfer::new((from, blob.into()), &into, &self.counters, on_bytes);
        transfer.incoming.silence_max = Duration::from_millis(20);
        let (mut file, offset) = transfer.open_part().await.unwrap();
        let mut stream = make(offset);
        let received = transfer.receive(&mut stream, &mut file, offset).await;
        let finished = match received {
            Ok(()) => transfer.finish(file, offset > 0).await,
            Err(error) => Err(error),
        };
        (offset, finished)
    }

    fn counted(&self, what: &str) -> u64 {
        self.counters.all().get(what).copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn a_wrong_chunk_is_refused_at_that_chunk_and_the_rest_resumes_there() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    let mut wrong = frames(&bytes, 0);
    // The last byte of the second segment: the group from 458752 on.
    *wrong[1].last_mut().unwrap() ^= 1;
    let (offset, received) = place.receive(blob, |_| Cursor::new(wrong.concat())).await;
    assert!(offset == 0 && matches!(received, Err(FetchError::WrongBytes { offset: 458_752, .. })), "{received:?}");
    assert_eq!(std::fs::read(place.part(blob)).unwrap(), &bytes[..458_752], "what was verified is kept");
    assert_eq!((place.counted("blob_wrong_bytes"), place.told.load(Ordering::Relaxed)), (1, 458_752));
    let (offset, received) = place.receive(blob, |offset| Cursor::new(frames(&bytes, offset).concat())).await;
    assert!(offset == 458_752 && received.is_ok(), "{offset} {received:?}");
    assert_eq!(std::fs::read(place.whole()).unwrap(), bytes);
    assert_eq!(place.counted("blob_bytes_received"), bytes.len() as u64, "nothing came twice");
    assert!(!place.part(blob).exists());
}

#[tokio::test]
async fn a_sender_that_breaks_off_anywhere_is_resumed_at_a_segment() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    let all = frames(&bytes, 0).concat();
    for cut in [0, 3, 4, 70_000, 270_000, 600_000] {
        let (_, received) = place.receive(blob, |_| Cursor::new(all[..cut].to_vec())).await;
        let Err(FetchError::Interrupted { source, .. }) = received else { panic!("{cut}: {received:?}") };
        assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
        std::fs::remove_file(place.part(blob)).unwrap();
    }
    let (_, received) = place.receive(blob, |_| Cursor::new(all[..600_000].to_vec())).await;
    assert!(received.is_err());
    let (offset, received) = place.receive(blob, |offset| Cursor::new(frames(&bytes, offset).concat())).await;
    assert!(offset == 524_288 && received.is_ok(), "{offset} {received:?}");
    assert_eq!(std::fs::read(place.whole()).unwrap(), bytes);
}

/// A power cut may leave a part with the right length and other bytes.
#[tokio::test]
async fn a_start_that_the_disk_lost_is_found_out_and_not_resumed_again() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    std::fs::write(place.part(blob), vec![0; 300_000]).unwrap();
    let (offset, received) = place.receive(blob, |offset| Cursor::new(frames(&bytes, offset).concat())).await;
    assert!(offset == 262_144 && matches!(received, Err(FetchError::WrongStart { .. })), "{offset} {received:?}");
    assert!(!place.whole().exists() && !place.part(blob).exists());
    let (offset, received) = place.receive(blob, |offset| Cursor::new(frames(&bytes, offset).concat())).await;
    assert!(offset == 0 && received.is_ok(), "{received:?}");
}

#[tokio::test]
async fn no_size_and_no_length_is_believed() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    for (size, kept) in [(1 << 60, 0), (u64::MAX, 0), (500_000, 0), (999_999, 983_040)] {
        let lie = BlobRef { size, ..blob };
        let (_, received) = place.receive(lie, |_| Cursor::new(frames(&bytes, 0).concat())).await;
        let Err(FetchError::WrongBytes { offset, .. }) = received else { panic!("{size}: {received:?}") };
        assert_eq!((offset, std::fs::metadata(place.part(lie)).unwrap().len()), (kept, kept), "{size}");
    }
    let long = [u32::MAX - 1, 1 << 30].map(u32::to_be_bytes).concat();
    let (_, received) = place.receive(blob, |_| Cursor::new(long)).await;
    assert!(matches!(received, Err(FetchError::WrongBytes { offset: 0, .. })), "{received:?}");
    let empty = BlobRef { hash: Hash::of(b"not empty"), size: 0 };
    let (_, received) = place.receive(empty, |_| Cursor::new(Vec::new())).await;
    assert!(matches!(received, Err(FetchError::WrongBytes { offset: 0, .. })), "{received:?}");
    let (_, received) = place.receive(BlobRef::of(b""), |_| Cursor::new(Vec::new())).await;
    assert!(received.is_ok(), "{received:?}");
}

#[tokio::test]
async fn a_sender_may_hash_its_file_for_a_while_or_find_it_damaged() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    let damaged = [WAIT, WAIT, DAMAGED].map(u32::to_be_bytes).concat();
    let (_, received) = place.receive(blob, |_| Cursor::new(damaged)).await;
    assert!(matches!(received, Err(FetchError::Damaged { .. })), "{received:?}");
    let (_, received) = place.receive(blob, |_| Cursor::new(vec![0; 100_000])).await;
    assert!(matches!(received, Err(FetchError::WrongBytes { offset: 0, .. })), "no wait is for ever: {received:?}");
    let slow = [vec![0; 12], frames(&bytes, 0).concat()].concat();
    let (_, received) = place.receive(blob, |_| Cursor::new(slow)).await;
    assert!(received.is_ok(), "{received:?}");
}

/// Says what it has, and then nothing any more.
struct Silent(Cursor<Vec<u8>>);

impl AsyncRead for Silent {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        match Pin::new(&mut stream.0).poll_read(cx, into) {
            Poll::Ready(Ok(0)) => Poll::Pending,
            told @ (Poll::Ready(_) | Poll::Pending) => told,
        }
    }
}

/// A peer that gives a few bytes at a time, each well in time.
struct Slow(Cursor<Vec<u8>>, Cell<usize>);

impl AsyncRead for Slow {
    fn poll_read(self: Pin<&mut Self>, cx: &mut task::Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        stream.1.set(stream.1.get() + 1);
        let few = into.len().min(1013);
        Pin::new(&mut stream.0).poll_read(cx, &mut into[..few])
    }
}

#[tokio::test]
async fn a_slow_peer_is_waited_for_and_a_silent_one_is_not() {
    let (place, bytes) = (Place::new(), content());
    let blob = BlobRef::of(&bytes);
    let some = frames(&bytes, 0).concat()[..300_000].to_vec();
    let (_, received) = place.receive(blob, |_| Silent(Cursor::new(some))).await;
    let Err(FetchError::Interrupted { source, .. }) = received else { panic!("{received:?}") };
    assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    let slow = |offset| Slow(Cursor::new(frames(&bytes, offset).concat()), Cell::new(0));
    let (offset, received) = place.receive(blob, slow).await;
    assert!(offset == 262_144 && received.is_ok(), "{offset} {received:?}");
    assert_eq!(std::fs::read(place.whole()).unwrap(), bytes);
}
