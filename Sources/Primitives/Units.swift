/// The unit of presence, checksum and repair: 4096 bytes of the volume.
public let blockSize = 4096

/// The same, where offsets are computed.
public let blockSize64: UInt64 = 4096

/// A block's place in the volume, counted in blocks of `blockSize` bytes.
public struct BlockIndex: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }
    /// The block that holds the volume's byte at `offset`.
    public init(containing offset: UInt64) { value = offset / blockSize64 }
    /// The offset of the block's first byte.
    public var offset: UInt64 { value * blockSize64 }
    public var description: String { String(value) }
    public static func < (left: BlockIndex, right: BlockIndex) -> Bool { left.value < right.value }
}

/// A run of blocks.
public struct BlockRange: Hashable, Sendable, CustomStringConvertible {
    /// The first block.
    public var start: UInt64
    /// How many blocks; 0 for an empty run.
    public var count: UInt64
    public init(start: UInt64, count: UInt64) {
        self.start = start
        self.count = count
    }
    /// The first block behind the run.
    public var end: UInt64 { start + count }
    public var offset: UInt64 { start * blockSize64 }
    public var byteCount: UInt64 { count * blockSize64 }
    public var description: String { "blocks \(start)+\(count)" }

    /// The blocks that both runs hold, or nil.
    public func intersection(_ other: BlockRange) -> BlockRange? {
        let low = max(start, other.start)
        let high = min(end, other.end)
        return low < high ? BlockRange(start: low, count: high - low) : nil
    }
}

/// The number of one volume operation: contiguous, rising, the same on every replica.
public struct Revision: Hashable, Comparable, Sendable, CustomStringConvertible {
    public var value: UInt64
    public init(_ value: UInt64) { self.value = value }
    public static let zero = Revision(0)
    public var next: Revision { Revision(value + 1) }
    public var description: String { String(value) }
    public static func < (left: Revision, right: Revision) -> Bool { left.value < right.value }
}

/// `value` rounded down to a multiple of `unit`, a power of two.
@inline(__always)
public func roundedDown(_ value: UInt64, to unit: UInt64) -> UInt64 { value & ~(unit - 1) }

/// `value` rounded up to a multiple of `unit`, a power of two.
@inline(__always)
public func roundedUp(_ value: UInt64, to unit: UInt64) -> UInt64 { (value + unit - 1) & ~(unit - 1) }
