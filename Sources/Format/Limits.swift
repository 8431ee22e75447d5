internal import Primitives

/// The limits of the format. A length that comes from a disk is compared with its limit before it is used.
public enum FormatLimit {
    /// The largest volume: 64 TiB, a quarter of what four levels of map pages reach.
    public static let volumeSize: UInt64 = 64 << 40
    /// The smallest volume: one block.
    public static let volumeSizeMin: UInt64 = blockSize64
    /// Layers of a replica, the head among them. The place of a layer in a chain fits 16 bits with room for marks.
    public static let layers = 4096
    /// Bytes of a chain document: 4,096 layers of at most 1.5 KiB, and their labels.
    public static let chainDocumentBytes = 16 << 20
    /// Bytes of a layer's manifest.
    public static let manifestBytes = 1 << 20
    /// Bytes of a snapshot's name.
    public static let snapshotNameBytes = 128
    /// Bytes of all labels of a snapshot together. A snapshot's record must fit one block of the journal.
    public static let labelBytes = 2048
    /// Blocks of one write operation: 1 MiB and one more for a write that is not aligned.
    public static let operationBlocks = 257
    /// Blocks of metadata of one journal batch.
    public static let batchMetaBlocks = 16
    /// Payload blocks of one journal batch.
    public static let batchPayloadBlocks = 512
    /// Bytes of the smallest journal: four batches of the largest size fit.
    public static let journalSizeMin: UInt64 = 4 << 20
    /// Bytes of the largest journal.
    public static let journalSizeMax: UInt64 = 4 << 30
    /// Bytes of the journal of a large volume.
    public static let journalSizeDefault: UInt64 = 128 << 20

    /// The journal of a volume of `size` bytes when none is asked for: an eighth, between 4 MiB and 128 MiB.
    public static func journalSize(forVolume size: UInt64) -> UInt64 {
        min(journalSizeDefault, max(journalSizeMin, roundedUp(size / 8, to: 1 << 20)))
    }

    /// The reserve beside a journal: what draining a full one can need at most, and an eighth for maps.
    public static func ballastSize(forJournal size: UInt64) -> UInt64 { size + size / 8 }
}

/// The version that this code writes, and the only one that it reads.
public let formatVersion: UInt32 = 1

/// Why bytes of a disk are not what they should be.
public struct FormatError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of wrong they are.
    public enum Cause: Sendable, Hashable {
        /// Other bytes than the format's: never written, or of something else.
        case notThis
        /// Written by a newer version.
        case newer
        /// Of this format, but it does not verify.
        case damaged
    }
    public var cause: Cause
    public var what: String
    public init(_ cause: Cause, _ what: String) {
        self.cause = cause
        self.what = what
    }
    public var description: String { what }
}
