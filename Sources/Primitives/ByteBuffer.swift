internal import Glibc

/// Page-aligned raw memory of a fixed size, zeroed at first.
///
/// The owner shares it by reference; whoever holds it alone may write it. Aligned to 4096 bytes, as O_DIRECT wants.
public final class ByteBuffer: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let count: Int

    public init(count: Int) {
        invariant(count >= 0, "a buffer of \(count) bytes")
        base = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 4096)
        memset(base, 0, max(count, 1))
        self.count = count
    }

    deinit { base.deallocate() }

    public var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: count) }
    public var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Sets every byte to 0.
    public func zero() { memset(base, 0, count) }

    /// The `count` bytes from `offset`.
    public func part(_ offset: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
        invariant(
            offset >= 0 && count >= 0 && offset + count <= self.count, "bytes \(offset)+\(count) of \(self.count)")
        return UnsafeMutableRawBufferPointer(start: base + offset, count: count)
    }
}

extension UnsafeRawBufferPointer {
    /// A little-endian integer at `offset`, which must lie inside.
    @inline(__always)
    public func integer<Integer: FixedWidthInteger>(at offset: Int, as type: Integer.Type = Integer.self) -> Integer {
        Integer(littleEndian: loadUnaligned(fromByteOffset: offset, as: Integer.self))
    }

    /// An identifier at `offset`: two little-endian words, the higher first.
    public func identifier(at offset: Int) -> Identifier {
        Identifier(high: integer(at: offset), low: integer(at: offset + 8))
    }

    /// A hash at `offset`: two little-endian words, the higher first.
    public func hash128(at offset: Int) -> Hash128 {
        Hash128(high: integer(at: offset), low: integer(at: offset + 8))
    }

    /// Whether every byte is 0.
    public var isZero: Bool {
        guard let base = baseAddress else { return true }
        var offset = 0
        while offset + 32 <= count {
            let words = (base + offset).loadUnaligned(as: SIMD4<UInt64>.self)
            if words != SIMD4<UInt64>(repeating: 0) { return false }
            offset += 32
        }
        while offset < count {
            if (base + offset).load(as: UInt8.self) != 0 { return false }
            offset += 1
        }
        return true
    }
}

extension UnsafeMutableRawBufferPointer {
    /// Stores `value` at `offset`, little-endian.
    @inline(__always)
    public func store<Integer: FixedWidthInteger>(_ value: Integer, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Integer.self)
    }

    /// Stores `value` at `offset` as `identifier(at:)` reads it.
    public func store(_ value: Identifier, at offset: Int) {
        store(value.high, at: offset)
        store(value.low, at: offset + 8)
    }

    /// Stores `value` at `offset` as `hash128(at:)` reads it.
    public func store(_ value: Hash128, at offset: Int) {
        store(value.high, at: offset)
        store(value.low, at: offset + 8)
    }

    /// Sets every byte to 0.
    @inline(__always)
    public func zero() {
        if let base = baseAddress { zeroBytes(base, count) }
    }
}

/// memset(3). A generic initialization of raw memory goes byte by byte in builds that are not optimized.
@usableFromInline
func zeroBytes(_ base: UnsafeMutableRawPointer, _ count: Int) { memset(base, 0, count) }
