/// A histogram of durations: 64 steps for each doubling, so a percentile is right to 1.6 %.
struct Latencies: Sendable {
    private static let steps: UInt64 = 64
    private var counts = [UInt64](repeating: 0, count: 64 * 60)
    private(set) var count: UInt64 = 0
    private(set) var maxNs: UInt64 = 0
    private var sumNs: UInt64 = 0

    mutating func add(_ nanoseconds: UInt64) {
        counts[min(Latencies.bucket(nanoseconds), counts.count - 1)] += 1
        count += 1
        sumNs &+= nanoseconds
        maxNs = max(maxNs, nanoseconds)
    }

    mutating func merge(_ other: Latencies) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        sumNs &+= other.sumNs
        maxNs = max(maxNs, other.maxNs)
    }

    var meanNs: UInt64 { count == 0 ? 0 : sumNs / count }

    /// The duration that the given share of all did not exceed.
    func percentile(_ share: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let wanted = UInt64((Double(count) * share).rounded(.up))
        var seen: UInt64 = 0
        for (index, value) in counts.enumerated() {
            seen += value
            if seen >= max(1, wanted) { return min(Latencies.upperNs(index), maxNs) }
        }
        return maxNs
    }

    /// Values below 64 have a bucket each; above, the six bits behind the highest decide.
    private static func bucket(_ value: UInt64) -> Int {
        if value < steps { return Int(value) }
        let shift = 63 - value.leadingZeroBitCount - 6
        return (shift + 1) * Int(steps) + Int((value >> UInt64(shift)) & (steps - 1))
    }

    private static func upperNs(_ bucket: Int) -> UInt64 {
        if bucket < Int(steps) { return UInt64(bucket) }
        let shift = UInt64(bucket / Int(steps) - 1)
        return ((steps + UInt64(bucket % Int(steps)) + 1) << shift) - 1
    }
}
