//! One file as an operating system keeps it: what programs see, what is on the drive, and what lies between the two.

use serde::{Deserialize, Serialize};

use crate::random::Stream;

/// What the system writes at a time: a page of its cache.
const PAGE: usize = 4096;

/// What a power cut does to the writes that no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// They had all arrived.
    Kept,
    /// Those from some moment on are gone.
    Lost,
    /// So they are, and the last one that arrived did so in part.
    Torn,
    /// Any of their sectors arrived, whatever the order of the writes.
    Reordered,
}

/// Something that was done to a file.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What programs see.
    cache: Vec<u8>,
    /// What the drive has.
    durable: Vec<u8>,
    /// What was done since the last good sync, in order.
    unsynced: Vec<Change>,
}

impl File {
    pub(super) const fn len(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.cache
    }

    /// How many changes a power cut could undo.
    pub(super) const fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Copies what is there at a place and returns how much that was.
    pub(super) fn read(&self, at: usize, buffer: &mut [u8]) -> usize {
        let found = self.cache.get(at..).unwrap_or_default();
        let length = found.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(found) {
            *to = *from;
        }
        length
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.cache, at, bytes);
        self.unsynced.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(super) fn resize(&mut self, length: usize) {
        self.cache.resize(length, 0);
        self.unsynced.push(Change::Resize(length));
    }

    /// Brings everything to the drive. A page goes there whole, with whatever else the cache has of it.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { at, bytes } => {
                    let end = (at + bytes.len()).next_multiple_of(PAGE).min(self.cache.len());
                    let start = (at / PAGE * PAGE).min(end);
                    put(&mut self.durable, start, self.cache.get(start..end).unwrap_or_default());
                }
                Change::Resize(length) => self.durable.resize(length, 0),
            }
        }
        self.durable.resize(self.cache.len(), 0);
    }

    /// A sync that fails: some of it arrives, and the system then takes every page for clean, so that no later sync
    /// brings the rest (Rebello et al., USENIX ATC 2020).
    pub(super) fn fail_sync(&mut self, stream: &mut Stream) {
        for change in std::mem::take(&mut self.unsynced) {
            if stream.chance(500) {
                apply(&mut self.durable, &change);
            }
        }
    }

    /// The machine loses power: what programs see from now on is what the drive has. Returns how many changes did not
    /// arrive whole.
    pub(super) fn cut(&mut self, loss: Loss, sector: usize, stream: &mut Stream) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        let arrived = stream.index(unsynced.len() + 1);
        let mut missing = 0;
        for (place, change) in unsynced.iter().enumerate() {
            let is_whole = match loss {
                Loss::Kept => true,
                Loss::Lost | Loss::Torn if place < arrived => true,
                Loss::Torn if place == arrived => {
                    self.tear(change, sector, stream);
                    false
                }
                Loss::Lost | Loss::Torn => false,
                Loss::Reordered => self.scatter(change, sector, stream),
            };
            if is_whole && loss != Loss::Reordered {
                apply(&mut self.durable, change);
            }
            missing += u64::from(!is_whole);
        }
        self.cache.clone_from(&self.durable);
        missing
    }

    /// The first sectors of a write arrive.
    fn tear(&mut self, change: &Change, sector: usize, stream: &mut Stream) {
        if let Change::Write { at, bytes } = change {
            let pieces = sectors(*at, bytes, sector);
            let arrived = stream.index(pieces.len());
            for (at, piece) in pieces.into_iter().take(arrived) {
                put(&mut self.durable, at, piece);
            }
        }
    }

    /// Any of the sectors of a change arrive. Returns whether all did.
    fn scatter(&mut self, change: &Change, sector: usize, stream: &mut Stream) -> bool {
        match change {
            Change::Write { at, bytes } => {
                let mut is_whole = true;
                for (at, piece) in sectors(*at, bytes, sector) {
                    if stream.chance(500) {
                        put(&mut self.durable, at, piece);
                    } else {
                        is_whole = false;
                    }
                }
                is_whole
            }
            Change::Resize(_) => {
                let is_whole = stream.chance(500);
                if is_whole {
                    apply(&mut self.durable, change);
                }
                is_whole
            }
        }
    }

    /// Flips a bit on the drive and in every copy of it.
    pub(super) fn rot(&mut self, place: usize, bit: u64) {
        for image in [&mut self.cache, &mut self.durable] {
            if let Some(byte) = image.get_mut(place) {
                *byte ^= 1_u8 << (bit % 8);
            }
        }
    }
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => put(image, *at, bytes),
        Change::Resize(length) => image.resize(*length, 0),
    }
}

/// Writes into an image, which grows by zeros to where the bytes begin.
fn put(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    if let Some(room) = image.get_mut(at..end) {
        room.copy_from_slice(bytes);
    }
}

/// The parts of a write by the sectors that they lie in.
fn sectors(at: usize, bytes: &[u8], sector: usize) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (at, bytes);
    while !rest.is_empty() {
        let room = sector - at % sector;
        let (piece, after) = rest.split_at(room.min(rest.len()));
        pieces.push((at, piece));
        at += piece.len();
        rest = after;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> File {
        let mut file = File::default();
        file.write(0, &[1; 1024]);
        file.sync();
        file.write(100, &[2; 1000]);
        file.write(1100, &[3; 900]);
        file
    }

    #[test]
    fn a_sync_covers_what_came_before_it() {
        let mut file = written();
        file.sync();
        let seen = file.cache.clone();
        assert_eq!(file.cut(Loss::Lost, 512, &mut Stream::new(1, "test")), 0);
        assert_eq!(file.cache, seen);
    }

    #[test]
    fn what_no_sync_covered_is_lost_from_some_moment_on() {
        for seed in 0..20 {
            let mut file = written();
            let missing = file.cut(Loss::Lost, 512, &mut Stream::new(seed, "test"));
            let length = match missing {
                0 => 2000,
                1 => 1100,
                _ => 1024,
            };
            assert_eq!(file.len(), length, "{missing} writes are missing");
            assert_eq!(file.cache[0], 1, "what was synced is there");
        }
    }

    #[test]
    fn a_torn_write_ends_at_a_sector() {
        let mut ends = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut file = written();
            file.cut(Loss::Torn, 512, &mut Stream::new(seed, "test"));
            ends.insert(file.cache.iter().rposition(|byte| *byte == 2).map_or(0, |last| last + 1));
        }
        assert_eq!(ends.into_iter().collect::<Vec<_>>(), [0, 512, 1024, 1100]);
    }

    #[test]
    fn sectors_arrive_in_any_order() {
        let is_later_alone = |seed| {
            let mut file = written();
            file.cut(Loss::Reordered, 512, &mut Stream::new(seed, "test"));
            file.cache.contains(&3) && !file.cache.contains(&2)
        };
        assert!((0..100).any(is_later_alone));
    }

    #[test]
    fn a_failed_sync_is_not_made_good_by_the_next() {
        let is_lost = |seed| {
            let mut file = written();
            file.fail_sync(&mut Stream::new(seed, "test"));
            assert_eq!(file.cache[100], 2, "programs still see it");
            file.write(PAGE, &[4]);
            file.sync();
            file.cut(Loss::Kept, 512, &mut Stream::new(seed, "test"));
            file.cache[100] != 2
        };
        assert!((0..20).any(is_lost) && !(0..20).all(is_lost));
    }
}
