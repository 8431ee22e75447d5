internal import Format
internal import Primitives

/// The sealed layers below a head, or of a snapshot, read as one map.
///
/// For each leaf of 504 blocks it keeps which layer holds each block and the block's sum, so that a read costs the same
/// whatever the depth. Filling a leaf asks only the layers that hold it: an index of 504 leaves (992 MiB of the volume)
/// is made with one page of each layer. Both are bounded caches. A view never changes; a commit makes a new one.
final class ChainView: Sendable {
    /// What one leaf holds when all layers are laid over each other.
    final class Leaf: @unchecked Sendable {
        let sums: UnsafeMutablePointer<UInt64>
        /// The place of the layer in `layers`, for blocks that are present; `lost` where a page of a map is damaged.
        let owners: UnsafeMutablePointer<UInt16>

        static let lost = UInt16.max

        init() {
            sums = .allocate(capacity: MapGeometry.entries)
            sums.initialize(repeating: 0, count: MapGeometry.entries)
            owners = .allocate(capacity: MapGeometry.entries)
            owners.initialize(repeating: 0, count: MapGeometry.entries)
        }

        deinit {
            sums.deallocate()
            owners.deallocate()
        }

        static let empty = Leaf()
    }

    /// For 504 leaves: which layers hold each, newest first.
    private final class Region: Sendable {
        struct Holder: Sendable {
            var layer: UInt16
            /// The leaf's content hash; `lostSum` where the map of the layer is damaged above the leaf.
            var hash: UInt64
        }
        let starts: [UInt32]
        let holders: [Holder]
        init(starts: [UInt32], holders: [Holder]) {
            self.starts = starts
            self.holders = holders
        }
        func holders(of leaf: Int) -> ArraySlice<Holder> { holders[Int(starts[leaf])..<Int(starts[leaf + 1])] }
        static let empty = Region(starts: [UInt32](repeating: 0, count: 505), holders: [])
    }

    private struct Caches {
        var leaves = GenerationCache<UInt64, Leaf>(limit: leafCacheLimit)
        var regions = GenerationCache<UInt64, Region>(limit: regionCacheLimit)
    }

    /// Oldest first.
    let layers: [Layer]
    private let caches: Guarded<Caches>

    init(layers: [Layer]) {
        self.layers = layers
        caches = Guarded(Caches())
    }

    var isEmpty: Bool { layers.isEmpty }

    /// The leaf if it is in memory.
    @inline(__always)
    func cachedLeaf(_ index: UInt64) -> Leaf? {
        if layers.isEmpty { return .empty }
        return caches.withLock { $0.leaves.find(index) }
    }

    /// The leaf, read if need be. It never fails: what a damaged map does not tell is marked lost.
    func leaf(_ index: UInt64) -> Leaf {
        if let known = cachedLeaf(index) { return known }
        let built = build(index)
        caches.withLock { $0.leaves.insert(index, built) }
        return built
    }

    private func build(_ index: UInt64) -> Leaf {
        let fan = MapGeometry.entries64
        let holders = region(index / fan).holders(of: Int(index % fan))
        if holders.isEmpty { return .empty }
        let leaf = Leaf()
        var unresolved = MapGeometry.entries
        for holder in holders {
            guard let page = try? layers[Int(holder.layer)].load(level: 0, index: index, expected: holder.hash) else {
                // Only the newer layers are known: what they do not hold may be here.
                for block in 0..<MapGeometry.entries where leaf.sums[block] == 0 {
                    leaf.sums[block] = lostSum
                    leaf.owners[block] = Leaf.lost
                }
                break
            }
            for block in 0..<MapGeometry.entries where leaf.sums[block] == 0 && page.entries[block] != 0 {
                leaf.sums[block] = page.entries[block]
                leaf.owners[block] = holder.layer
                unresolved -= 1
            }
            if unresolved == 0 { break }
        }
        return leaf
    }

    private func region(_ index: UInt64) -> Region {
        if let known = caches.withLock({ $0.regions.find(index) }) { return known }
        var found: [(leaf: Int, holder: Region.Holder)] = []
        for position in stride(from: layers.count - 1, through: 0, by: -1) {
            do throws(MapDamage) {
                guard let second = try layers[position].keptPage(level: 2, index: index / MapGeometry.entries64) else {
                    continue
                }
                let hash = second.entries[Int(index % MapGeometry.entries64)]
                guard let first = try layers[position].load(level: 1, index: index, expected: hash) else { continue }
                for leaf in 0..<MapGeometry.entries where first.entries[leaf] != 0 {
                    found.append((leaf, Region.Holder(layer: UInt16(position), hash: first.entries[leaf])))
                }
            } catch {
                for leaf in 0..<MapGeometry.entries {
                    found.append((leaf, Region.Holder(layer: UInt16(position), hash: lostSum)))
                }
            }
        }
        let made: Region
        if found.isEmpty {
            made = .empty
        } else {
            // A counting sort by leaf keeps the order of layers.
            var starts = [UInt32](repeating: 0, count: MapGeometry.entries + 1)
            for item in found { starts[item.leaf + 1] += 1 }
            for leaf in 0..<MapGeometry.entries { starts[leaf + 1] += starts[leaf] }
            var next = starts
            var holders = [Region.Holder](repeating: Region.Holder(layer: 0, hash: 0), count: found.count)
            for item in found {
                holders[Int(next[item.leaf])] = item.holder
                next[item.leaf] += 1
            }
            made = Region(starts: starts, holders: holders)
        }
        caches.withLock { $0.regions.insert(index, made) }
        return made
    }

    /// The first leaf at or behind `start` and below `limit` that any layer holds.
    func nextLeaf(from start: UInt64, limit: UInt64) -> UInt64? {
        let fan = MapGeometry.entries64
        var leaf = start
        while leaf < limit && !layers.isEmpty {
            let index = leaf / fan
            if !mayHold(region: index) {
                leaf = (index + 1) * fan
                continue
            }
            let region = region(index)
            while leaf / fan == index && leaf < limit {
                if !region.holders(of: Int(leaf % fan)).isEmpty { return leaf }
                leaf += 1
            }
        }
        return nil
    }

    /// Whether any layer holds something in the region; a damaged map may.
    private func mayHold(region index: UInt64) -> Bool {
        for layer in layers {
            do throws(MapDamage) {
                guard let second = try layer.keptPage(level: 2, index: index / MapGeometry.entries64) else { continue }
                if second.entries[Int(index % MapGeometry.entries64)] != 0 { return true }
            } catch {
                return true
            }
        }
        return false
    }
}

/// Leaves kept in memory: 4,096 of 5 KiB cover 8 GiB of the volume in 20 MiB.
private let leafCacheLimit = 4096
/// Regions kept in memory: 64 cover 62 GiB of the volume.
private let regionCacheLimit = 64
