//! What goes wrong with a disk.

use super::file::Loss;

/// One way in which a disk, or the power that it needs, fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// The machine loses power in the middle of an operation on a file.
    PowerCut,
    /// A power cut takes the writes that no sync had covered.
    Lost,
    /// It also leaves one of them half done.
    Torn,
    /// It leaves any of their sectors, whatever their order was.
    Reordered,
    /// The daemon is killed in the middle of an operation on a file; the system lives on with all that was written.
    Kill,
    /// Reads or writes fail.
    Io,
    /// A sync fails, once.
    Sync,
    /// The disk is full for a while.
    Full,
    /// Syncs succeed and do nothing.
    LyingSync,
    /// A bit changes on the drive.
    BitRot,
    /// The files of an earlier time are put back.
    OldBackup,
}

impl DiskFault {
    /// What a good drive may do: what a sync covered stays. Every promise must hold under all of them.
    pub const HONEST: [Self; 8] =
        [Self::PowerCut, Self::Lost, Self::Torn, Self::Reordered, Self::Kill, Self::Io, Self::Sync, Self::Full];

    /// The word for it in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PowerCut => "power-cut",
            Self::Lost => "writes-lost",
            Self::Torn => "writes-torn",
            Self::Reordered => "writes-reordered",
            Self::Kill => "killed-in-operation",
            Self::Io => "io-error",
            Self::Sync => "sync-error",
            Self::Full => "disk-full",
            Self::LyingSync => "sync-lied",
            Self::BitRot => "bit-rot",
            Self::OldBackup => "old-backup",
        }
    }

    /// What it makes of the unsynced writes when the power is cut, if it is about that.
    pub(crate) const fn loss(self) -> Option<Loss> {
        match self {
            Self::Lost => Some(Loss::Lost),
            Self::Torn => Some(Loss::Torn),
            Self::Reordered => Some(Loss::Reordered),
            Self::PowerCut
            | Self::Kill
            | Self::Io
            | Self::Sync
            | Self::Full
            | Self::LyingSync
            | Self::BitRot
            | Self::OldBackup => None,
        }
    }

    /// Whether it strikes at times of its own, rather than with a power cut.
    pub(crate) const fn is_scheduled(self) -> bool {
        match self {
            Self::PowerCut | Self::Kill | Self::Io | Self::Sync | Self::Full | Self::BitRot | Self::OldBackup => true,
            Self::Lost | Self::Torn | Self::Reordered | Self::LyingSync => false,
        }
    }
}
