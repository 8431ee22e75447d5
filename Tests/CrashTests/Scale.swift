import Glibc

/// How much of a random test is run.
///
/// `REPLICA_STORE_TEST_SCALE` multiplies the number of seeds (1 if it is not set, as on each push);
/// `REPLICA_STORE_TEST_SEED` runs one seed and no other.
enum Scale {
    static let factor: Double = value("REPLICA_STORE_TEST_SCALE").flatMap(Double.init) ?? 1

    /// `count` seeds from `first` on at scale 1, or the one that is asked for.
    static func seeds(_ first: UInt64, _ count: Int) -> [UInt64] {
        if let only = value("REPLICA_STORE_TEST_SEED").flatMap({ UInt64($0) }) { return [only] }
        return (0..<max(1, Int(Double(count) * factor))).map { first + UInt64($0) }
    }

    private static func value(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }
}
