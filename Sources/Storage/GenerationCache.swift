/// A bounded cache that forgets what was not asked for lately.
///
/// Values live in a young and an old half. A hit in the old half moves to the young one; when the young half is full,
/// the old one is dropped and the young one takes its place. Nothing is sorted and nothing is linked.
struct GenerationCache<Key: Hashable, Value> {
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]
    private let halfLimit: Int

    init(limit: Int) { halfLimit = max(1, limit / 2) }

    mutating func find(_ key: Key) -> Value? {
        if let value = young[key] { return value }
        guard let value = old[key] else { return nil }
        insert(key, value)
        return value
    }

    mutating func insert(_ key: Key, _ value: Value) {
        if young.count >= halfLimit {
            old = young
            young = [:]
            young.reserveCapacity(min(halfLimit, 1024))
        }
        young[key] = value
    }

    mutating func remove(_ key: Key) {
        young[key] = nil
        old[key] = nil
    }

    mutating func removeAll() {
        young = [:]
        old = [:]
    }
}
