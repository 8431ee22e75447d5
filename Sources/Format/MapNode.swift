public import Primitives

/// Where the pages of a checksum map stand in a `.sums` file.
///
/// The map of a layer is a tree of 4096-byte pages with 504 entries each. A leaf's entries are the sums of 504 blocks
/// (2,016 KiB of the volume), an inner page's entries are the hashes of 504 pages below it. Four levels reach 240 TiB.
/// Each page has two slots side by side. Pages stand in depth-first order, so a place never depends on the volume's
/// size and a sparse layer has a sparse map:
///
///     level 3, then for each child: level 2, then for each child: level 1, then its 504 leaves
public enum MapGeometry {
    public static let entries = 504
    public static let entries64: UInt64 = 504
    public static let headerBytes = 64
    public static let pageBytes = 4096
    public static let rootLevel = 3
    /// Page pairs of a whole subtree whose top is at level 0, 1, 2.
    private static let spans: [UInt64] = [1, 1 + 504, 1 + 504 * 505]

    /// The leaf that holds `block`.
    @inline(__always)
    public static func leaf(of block: UInt64) -> UInt64 { block / entries64 }

    /// The first block of leaf `index`.
    @inline(__always)
    public static func firstBlock(ofLeaf index: UInt64) -> UInt64 { index * entries64 }

    /// The byte offset of a page's slot in the file.
    public static func offset(level: Int, index: UInt64, slot: Int) -> UInt64 {
        var pair: UInt64
        switch level {
        case 3: pair = 0
        case 2: pair = 1 + index * spans[2]
        case 1: pair = 1 + (index / 504) * spans[2] + 1 + (index % 504) * spans[1]
        default:
            let parent = index / 504
            pair = 1 + (parent / 504) * spans[2] + 1 + (parent % 504) * spans[1] + 1 + index % 504
        }
        pair *= 2
        return (pair + UInt64(slot)) * UInt64(pageBytes)
    }

    /// Leaves of a volume of `size` bytes.
    public static func leafCount(volumeSize size: UInt64) -> UInt64 {
        (size / blockSize64 + entries64 - 1) / entries64
    }

    /// How many pages of `level` stand above `leaves` leaves.
    public static func nodeCount(level: Int, leaves: UInt64) -> UInt64 {
        var count = leaves
        for _ in 0..<level { count = (count + entries64 - 1) / entries64 }
        return count
    }
}

/// One page of a checksum map.
///
///     0   magic "RSMP"   4 version u16   6 level u8   7 zero       8 index u64
///     16  checkpoint sequence u64        24 last revision u64      32 layer id   48 XXH3-128 (of all other bytes)
///     64  504 entries u64
///
/// The entry of an absent block or an empty page is 0, that of a lost block or page all ones. A page is found by its content: the page above holds the hash
/// of the 504 entries, so a page that was lost, torn, rotten, or is an older version is never taken for the right one.
/// That hash depends on the content only, so equal content has equal roots on every replica.
public struct MapNode: Sendable {
    public var level: Int
    public var index: UInt64
    public var checkpoint: UInt64
    public var lastRevision: UInt64
    public var layer: Identifier

    public init(level: Int, index: UInt64, checkpoint: UInt64, lastRevision: UInt64, layer: Identifier) {
        self.level = level
        self.index = index
        self.checkpoint = checkpoint
        self.lastRevision = lastRevision
        self.layer = layer
    }

    private static let magic: UInt32 = 0x504D_5352  // "RSMP"

    /// The hash by which the page above knows a page with these 504 entries: never 0, and 0 if all are 0.
    public static func contentHash(entries: UnsafeRawBufferPointer, level: Int, index: UInt64) -> UInt64 {
        invariant(entries.count == MapGeometry.entries * 8, "a map page of \(entries.count) bytes of entries")
        if entries.isZero { return 0 }
        return usableSum(hash64(entries, seed: index &* 8 &+ UInt64(level) &+ 0x4D41_5050))
    }

    /// Completes `page`, whose entries are in place, with its header.
    public func seal(_ page: UnsafeMutableRawBufferPointer) {
        invariant(page.count == MapGeometry.pageBytes, "a map page of \(page.count) bytes")
        page.store(Self.magic, at: 0)
        page.store(UInt16(formatVersion), at: 4)
        page[6] = UInt8(level)
        page[7] = 0
        page.store(index, at: 8)
        page.store(checkpoint, at: 16)
        page.store(lastRevision, at: 24)
        page.store(layer, at: 32)
        page.store(Hash128.zero, at: 48)
        page.store(hash128(UnsafeRawBufferPointer(page)), at: 48)
    }

    /// Reads the header of `page`, whose checksum field is zeroed while it is verified and put back.
    /// - Throws: `notThis` for a page that was never written, `damaged`, `newer`.
    public init(
        decoding page: UnsafeMutableRawBufferPointer, level: Int, index: UInt64, layer: Identifier
    ) throws(FormatError) {
        let bytes = UnsafeRawBufferPointer(page)
        guard bytes.integer(at: 0, as: UInt32.self) == Self.magic else {
            throw FormatError(.notThis, "no map page")
        }
        let stored = bytes.hash128(at: 48)
        page.store(Hash128.zero, at: 48)
        let computed = hash128(bytes)
        page.store(stored, at: 48)
        guard stored == computed else { throw FormatError(.damaged, "the map page does not match its checksum") }
        let version = bytes.integer(at: 4, as: UInt16.self)
        guard version == UInt16(formatVersion) else { throw FormatError(.newer, "map page of version \(version)") }
        guard Int(bytes[6]) == level, bytes.integer(at: 8, as: UInt64.self) == index,
            bytes.identifier(at: 32) == layer
        else { throw FormatError(.damaged, "the map page belongs to another place") }
        self.level = level
        self.index = index
        self.layer = layer
        checkpoint = bytes.integer(at: 16)
        lastRevision = bytes.integer(at: 24)
    }
}
