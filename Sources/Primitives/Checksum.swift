internal import CXXHash

/// An XXH3 hash of 128 bits.
public struct Hash128: Hashable, Sendable, CustomStringConvertible {
    public var high: UInt64
    public var low: UInt64
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    public static let zero = Hash128(high: 0, low: 0)
    public var description: String { hexadecimal(high) + hexadecimal(low) }

    /// Reads 32 lower-case hexadecimal digits.
    public init?(_ text: String) {
        guard text.utf8.count == 32,
            let high = UInt64(text.prefix(16), radix: 16), let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
        if description != text { return nil }
    }
}

/// XXH3_64bits_withSeed over `bytes` (xxhash.h), by the variant that this processor runs fastest.
@inline(__always)
public func hash64(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
    rs_xxh3_64(bytes.baseAddress, bytes.count, seed)
}

/// XXH3_128bits_withSeed over `bytes` (xxhash.h).
@inline(__always)
public func hash128(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> Hash128 {
    let value = rs_xxh3_128(bytes.baseAddress, bytes.count, seed)
    return Hash128(high: value.high64, low: value.low64)
}

/// The checksums of one volume's blocks.
///
/// A block's sum is XXH3-64 with a seed mixed from the volume's identifier and the block's place, so that right bytes
/// at a wrong place do not verify. 0 stands for an absent block and all ones for one that was lost, so a sum never has
/// either value: its neighbour stands for it.
public struct BlockHasher: Sendable, Hashable {
    private let seed: UInt64

    public init(volume: Identifier) { seed = volume.high ^ (volume.low &* 0x9E37_79B9_7F4A_7C15) }

    /// The sum of the 4096 bytes at `bytes` as block number `block`; never 0 and never `lostSum`.
    @inline(__always)
    public func sum(_ bytes: UnsafeRawPointer, block: UInt64) -> UInt64 {
        // The finaliser of splitmix64 spreads neighbouring numbers over all bits of the seed.
        var mixed = seed &+ block &* 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        mixed ^= mixed >> 31
        let value = hash64(UnsafeRawBufferPointer(start: bytes, count: blockSize), seed: mixed)
        return usableSum(value)
    }
}

/// The entry of a map for a block whose content is lost: it is present, and never verifies.
public let lostSum = UInt64.max

/// `value` as the entry of a map: neither 0 nor `lostSum`.
@inline(__always)
public func usableSum(_ value: UInt64) -> UInt64 {
    value == 0 ? 1 : value == lostSum ? lostSum - 1 : value
}
