import Testing

/// A small generator (SplitMix64): the same seed gives the same run, here and anywhere.
struct Random: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }

    /// A number below `limit`.
    mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
    /// True once in `count` times.
    mutating func once(in count: Int) -> Bool { below(count) == 0 }

    mutating func bytes(_ count: Int) -> [UInt8] {
        var result = [UInt8](repeating: 0, count: count)
        result.withUnsafeMutableBytes { buffer in
            var offset = 0
            while offset < count {
                withUnsafeBytes(of: next()) { word in
                    for index in 0..<min(8, count - offset) { buffer[offset + index] = word[index] }
                }
                offset += 8
            }
        }
        return result
    }
}
