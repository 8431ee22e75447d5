import Primitives
import Testing

@testable import Storage

@Suite struct `The overlay` {
    @Test(arguments: [UInt64(1), 2, 3, 4])
    func `answers like a dictionary after any sequence of blocks and emptied ranges`(seed: UInt64) {
        var random = SplitMix(seed)
        let overlay = Overlay()
        var model: [UInt64: (Place, UInt64)] = [:]
        for step in 0..<3000 {
            if random.below(20) == 0 {
                let range = BlockRange(start: random.below(4000), count: 1 + random.below(300))
                overlay.empty(range)
                for block in range.start..<range.end { model[block] = (.nowhere, 0) }
            } else {
                let block = random.below(4000)
                let place: Place = random.below(3) == 0 ? .direct : .ring(UInt64(step))
                overlay.insert(block, place, sum: UInt64(step) + 1)
                model[block] = (place, UInt64(step) + 1)
            }
        }
        for block in 0..<UInt64(5000) {
            let found = overlay.find(block)
            #expect(found?.place == model[block]?.0, "block \(block), seed \(seed)")
            if found?.place != .nowhere { #expect(found?.sum == model[block]?.1) }
        }
        #expect(overlay.directCount == UInt64(model.values.filter { $0.0 == .direct }.count))
        for index in overlay.ranges.indices.dropFirst() {
            #expect(overlay.ranges[index - 1].end < overlay.ranges[index].start)
        }
    }
}

/// splitmix64: small, seeded, the same everywhere.
struct SplitMix {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
    mutating func below(_ limit: UInt64) -> UInt64 { next() % limit }
}
