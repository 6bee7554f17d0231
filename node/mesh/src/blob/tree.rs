//! The shape of a blob's BLAKE3 tree: which bytes are verified together, and which travel together.

use std::ops::Range;

use bao_tree::io::sync::{DecodeResponseIter, Outboard, ReadAt, encode_ranges_validated};
use bao_tree::io::{BaoContentItem, EncodeError, round_up_to_chunks};
use bao_tree::{BaoTree, BlockSize, ByteRanges, ChunkRanges, blake3};
use jobmesh_protocol::{BlobRef, Hash};

/// Groups of 64 KiB: the hashes of a file take a thousandth of it, and that much at most is sent for nothing.
const BLOCK: BlockSize = BlockSize::from_chunk_log(6);

/// Bytes of a group.
pub(super) const GROUP_BYTES: u64 = 64 << 10;

/// Bytes of a segment: four groups. A sender and a receiver hold one each, and 20 s for a quarter of it is a slow line.
pub(super) const SEGMENT_BYTES: u64 = 4 * GROUP_BYTES;

/// Longest encoded segment: its bytes, and a pair of hashes for each level of the tree above and inside of it.
pub(super) const ENCODED_BYTES_MAX: usize = (256 << 10) + 64 * 64;

/// The tree of a blob of this size.
pub(super) fn of(size: u64) -> BaoTree {
    BaoTree::new(size, BLOCK)
}

/// The hash as the tree's library has it.
pub(super) fn root(hash: Hash) -> blake3::Hash {
    blake3::Hash::from_bytes(*hash.as_bytes())
}

/// The bytes that travel together from `offset` on: up to the next border of segments, or the end.
pub(super) fn segment(offset: u64, size: u64) -> Range<u64> {
    let end = (offset / SEGMENT_BYTES).saturating_add(1).saturating_mul(SEGMENT_BYTES);
    offset..end.min(size)
}

/// How many of so many bytes are whole groups, or the whole blob.
pub(super) fn whole_groups(found: u64, size: u64) -> u64 {
    if found >= size { size } else { found - found % GROUP_BYTES }
}

/// Encodes the bytes of `range` with the hashes above them. What is encoded was verified.
pub(super) fn encode(data: impl ReadAt, outboard: impl Outboard, range: Range<u64>) -> Result<Vec<u8>, EncodeError> {
    let mut encoded = Vec::with_capacity(ENCODED_BYTES_MAX);
    encode_ranges_validated(data, outboard, &chunks(range), &mut encoded)?;
    Ok(encoded)
}

/// Verifies an encoded segment. Returns the bytes up to the first group that is not the blob's: all, if all are.
pub(super) fn decode(blob: BlobRef, range: Range<u64>, mut encoded: &[u8]) -> Vec<u8> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(length.min(ENCODED_BYTES_MAX));
    let ranges = chunks(range);
    for item in DecodeResponseIter::new(root(blob.hash), of(blob.size), &mut encoded, &ranges) {
        match item {
            Ok(BaoContentItem::Leaf(leaf)) => bytes.extend_from_slice(&leaf.data),
            Ok(BaoContentItem::Parent(_)) => {}
            Err(_wrong) => return bytes,
        }
    }
    // What follows the last hash was asked for by nobody.
    if !encoded.is_empty() {
        bytes.clear();
    }
    bytes
}

fn chunks(range: Range<u64>) -> ChunkRanges {
    round_up_to_chunks(&ByteRanges::from(range))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use bao_tree::io::outboard::PreOrderMemOutboard;

    use super::*;

    fn bytes(count: u32) -> Vec<u8> {
        (0..count).map(|index| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
    }

    fn encoded(bytes: &[u8], range: Range<u64>) -> Vec<u8> {
        encode(bytes, PreOrderMemOutboard::create(bytes, BLOCK), range).unwrap()
    }

    #[test]
    fn every_segment_of_every_size_comes_back() {
        for size in [1, 1024, 65_535, 65_536, 65_537, 262_144, 262_145, 1_000_001] {
            let bytes = bytes(size);
            let blob = BlobRef::of(&bytes);
            let mut offset = 0;
            while offset < blob.size {
                let range = segment(offset, blob.size);
                let encoded = encoded(&bytes, range.clone());
                assert!(encoded.len() <= ENCODED_BYTES_MAX);
                let found = decode(blob, range.clone(), &encoded);
                let places = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                assert_eq!(found, &bytes[places], "{size} from {offset}");
                offset = range.end;
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_found_in_its_group_and_what_is_before_it_counts() {
        let bytes = bytes(1_000_000);
        let blob = BlobRef::of(&bytes);
        let range = segment(262_144, blob.size);
        let good = encoded(&bytes, range.clone());
        // The last byte belongs to the last of the four groups.
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(decode(blob, range.clone(), &wrong).len(), 3 * 65_536);
        let mut wrong = good.clone();
        wrong[0] ^= 1;
        assert_eq!(decode(blob, range.clone(), &wrong).len(), 0, "a wrong hash at the top");
        assert!(decode(blob, range.clone(), &good[..good.len() - 1]).len() <= 3 * 65_536, "too short");
        let long = [good.as_slice(), b"x"].concat();
        assert_eq!(decode(blob, range.clone(), &long).len(), 0, "too long");
        for size in [500_000, 1 << 60, u64::MAX] {
            assert_eq!(decode(BlobRef { size, ..blob }, range.clone(), &good).len(), 0, "as one of {size} bytes");
        }
        // A blob that is a byte shorter has a tree of the same shape: only its last group tells the two apart.
        let (less, range) = (BlobRef { size: 999_999, ..blob }, segment(786_432, 999_999));
        let last = encoded(&bytes, segment(786_432, blob.size));
        assert_eq!(decode(less, range, &last).len(), 3 * 65_536);
    }

    #[test]
    fn what_was_begun_is_resumed_at_a_group() {
        assert_eq!(whole_groups(100_000, 1_000_000), 65_536);
        assert_eq!(whole_groups(65_536, 1_000_000), 65_536);
        assert_eq!(whole_groups(1_000_000, 1_000_000), 1_000_000);
        assert_eq!(segment(65_536, 1_000_000), 65_536..262_144);
        assert_eq!(segment(983_040, 1_000_000), 983_040..1_000_000);
        assert_eq!(segment(u64::MAX - 1, u64::MAX), u64::MAX - 1..u64::MAX);
    }
}
