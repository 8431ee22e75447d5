/// A small seeded source of random numbers (the mixing steps of splitmix64): equal seeds give equal sequences.
public struct Generator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, or 0 if `limit` is 0.
    public mutating func below(_ limit: UInt64) -> UInt64 { limit == 0 ? 0 : next() % limit }

    /// A number below `limit`, or 0 if `limit` is 0.
    public mutating func below(_ limit: Int) -> Int { Int(below(UInt64(max(limit, 0)))) }

    /// True `percent` times in a hundred.
    public mutating func chance(_ percent: Int) -> Bool { below(100) < percent }

    /// Fills `bytes` with random ones.
    public mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        var offset = 0
        while offset + 8 <= bytes.count {
            bytes.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
            offset += 8
        }
        while offset < bytes.count {
            bytes[offset] = UInt8(truncatingIfNeeded: next())
            offset += 1
        }
    }
}
