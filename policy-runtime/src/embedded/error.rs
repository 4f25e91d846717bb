//! Why a blob was refused: one byte that a microcontroller can send or blink.

/// Why a blob was refused. The number is stable: it goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
#[non_exhaustive]
pub enum BlobError {
    /// Fewer bytes than the blob says that it has, or than any blob has.
    #[error("the blob is cut short, or its sizes contradict each other")]
    Size = 1,
    /// The first bytes are not a blob's.
    #[error("this is no policy blob")]
    Magic = 2,
    /// Written for another reader: another version, or bytes that this one leaves zero.
    #[error("the blob has another format version")]
    Version = 3,
    /// The memory that it lies in does not start at a multiple of 16, or a section does not.
    #[error("the blob or a section of it is not aligned to 16 bytes")]
    Alignment = 4,
    /// The first 64 bytes were altered.
    #[error("the blob's first bytes were altered")]
    PrefixDigest = 5,
    /// Header or channel names were altered.
    #[error("the blob's header was altered")]
    HeaderDigest = 6,
    /// The data section was altered.
    #[error("the blob's weights were altered")]
    DataDigest = 7,
    /// The header cannot be decoded, or lacks what the fallback needs.
    #[error("the blob's header cannot be decoded, or lacks what the fallback needs")]
    Header = 8,
    /// Widths are zero, do not follow from each other, or do not fill the data section.
    #[error("the blob's shapes contradict each other")]
    Shape = 9,
    /// The policy is larger than the bounds that this program was compiled with.
    #[error("the policy is larger than this program was compiled for")]
    TooLarge = 10,
    /// A number is NaN, infinite where it must not be, or out of order.
    #[error("a number in the blob is not usable")]
    Number = 11,
    /// A golden vector gave other bits than the host recorded.
    #[error("a golden vector does not reproduce")]
    Golden = 12,
    /// Weights are little-endian and used in place.
    #[error("this machine is not little-endian")]
    Endianness = 13,
    /// A loop at the policy's rate would be taken for one that hangs.
    #[error("the policy's control period is longer than the board's watchdog allows")]
    Period = 14,
}

impl BlobError {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}
