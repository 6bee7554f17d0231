//! What a receiver reads of one blob: the announcement, and the segments or the proof behind it.

use std::io;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _};
use jobmesh_keys::NodeId;
use jobmesh_protocol::{BlobRef, cbor};
use tokio::time::timeout;

use super::{Answer, Challenge, DAMAGED, FetchError, HEADER_BYTES_MAX, Request, Requested, SILENCE_MAX, WAIT, tree};
use crate::counters::Counters;
use crate::question::AskError;

/// How often a sender may say that it has to read its file first: every five seconds for ten minutes.
const WAITS_MAX: u32 = 120;

/// A blob that is on its way here, or is being shown.
pub(super) struct Incoming<'a, P> {
    pub(super) from: NodeId,
    pub(super) wanted: Requested,
    pub(super) counters: &'a Counters,
    /// Told of every step forward, with the number of bytes that came.
    pub(super) on_bytes: P,
    pub(super) silence_max: Duration,
    waits: u32,
}

impl<'a, P: Fn(u64) + Send + Sync> Incoming<'a, P> {
    pub(super) const fn new((from, wanted): (NodeId, Requested), counters: &'a Counters, on_bytes: P) -> Self {
        Self { from, wanted, counters, on_bytes, silence_max: SILENCE_MAX, waits: 0 }
    }

    /// The question for the bytes from `offset` on, or with a challenge, for a proof.
    pub(super) fn question(&self, offset: u64, challenge: Option<Challenge>) -> Vec<u8> {
        let Requested { blob, within } = self.wanted;
        cbor::encode(&Request { hash: blob.hash, offset, within, challenge })
    }

    /// Checks what is announced.
    pub(super) fn check(&self, answer: &[u8]) -> Result<(), FetchError> {
        let BlobRef { hash, size: expected } = self.wanted.blob;
        let answer: Answer =
            cbor::decode(answer, HEADER_BYTES_MAX).map_err(|error| self.interrupted(io::Error::other(error)))?;
        match answer.size {
            None => Err(FetchError::NotProvided { node: self.from, hash }),
            Some(found) if found == expected => Ok(()),
            Some(found) => {
                self.counters.add("blob_wrong_size");
                Err(FetchError::WrongSize { hash, expected, found })
            }
        }
    }

    /// Reads the segment that begins at `offset`, by way of `encoded`. Returns the bytes of it that are the blob's: fewer
    /// than a segment if what follows them is wrong.
    pub(super) async fn segment<S>(
        &mut self,
        stream: &mut S,
        encoded: &mut [u8],
        offset: u64,
    ) -> Result<Vec<u8>, FetchError>
    where
        S: AsyncRead + Unpin,
    {
        let blob = self.wanted.blob;
        let length = self.length(stream).await?;
        if length == DAMAGED {
            return Err(FetchError::Damaged { node: self.from, hash: blob.hash });
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(room) = encoded.get_mut(..length).filter(|room| !room.is_empty()) else {
            return Err(self.wrong(offset));
        };
        self.read_all(stream, room).await?;
        let bytes = tree::decode(blob, tree::segment(offset, blob.size), room);
        self.counters.add_many("blob_bytes_received", bytes.len() as u64);
        Ok(bytes)
    }

    /// Reads a length. Waits while the sender says so, but not for ever: then it is that word.
    pub(super) async fn length<S: AsyncRead + Unpin>(&mut self, stream: &mut S) -> Result<u32, FetchError> {
        loop {
            let mut prefix = [0; 4];
            self.read_all(stream, &mut prefix).await?;
            let length = u32::from_be_bytes(prefix);
            if length != WAIT || self.waits >= WAITS_MAX {
                return Ok(length);
            }
            self.waits += 1;
            (self.on_bytes)(0);
        }
    }

    /// Fills `room`, of which some must come again and again.
    pub(super) async fn read_all<S: AsyncRead + Unpin>(
        &self,
        stream: &mut S,
        room: &mut [u8],
    ) -> Result<(), FetchError> {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = timeout(self.silence_max, stream.read(rest)).await;
            let read = read.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
            match read.map_err(|error| self.interrupted(error))? {
                0 => return Err(self.interrupted(io::ErrorKind::UnexpectedEof.into())),
                count => filled += count,
            }
        }
        Ok(())
    }

    pub(super) fn wrong(&self, offset: u64) -> FetchError {
        self.counters.add("blob_wrong_bytes");
        FetchError::WrongBytes { node: self.from, hash: self.wanted.blob.hash, offset }
    }

    pub(super) fn unanswered(&self, error: AskError) -> FetchError {
        match error {
            AskError::NotConnected => FetchError::NotConnected { node: self.from },
            AskError::Broken(source) => self.interrupted(source),
        }
    }

    pub(super) const fn interrupted(&self, source: io::Error) -> FetchError {
        FetchError::Interrupted { node: self.from, hash: self.wanted.blob.hash, source }
    }
}
