internal import Format
internal import HostIO
internal import Primitives

/// A layer that records of the journal still belong to: the live head, and heads frozen by a snapshot that are not
/// drained yet. Guarded by the replica's state lock.
///
/// Looked up from the top: `active`, then `frozen`, then the map.
final class Tier: @unchecked Sendable {
    /// The layer as of the last checkpoint. Replaced as a whole by a commit.
    private(set) var layer: Layer
    /// Records since the running or last checkpoint froze the older ones.
    var active = Overlay()
    /// Records that the running checkpoint applies; they never change.
    var frozen: Overlay?
    /// For a sealed tier: what the SNAPSHOT record said.
    var seal: Seal?
    /// Direct writes that no flush has covered yet.
    var hasUnflushedDirect = false
    /// Blocks that the layer's map holds.
    var present: UInt64
    /// Counts commits, so that a page read under an older map is not kept.
    private(set) var version: UInt64 = 0
    private var pages = GenerationCache<UInt64, MapPage>(limit: tierPageLimit)

    struct Seal {
        var record: SnapshotRecord
        var revision: UInt64
        var historyHash: Hash128
        var size: UInt64
    }

    init(layer: Layer, present: UInt64) {
        self.layer = layer
        self.present = present
    }

    /// The newest record of `block` in this tier's journal part.
    @inline(__always)
    func record(of block: UInt64) -> Overlay.Entry? {
        if let entry = active.find(block) { return entry }
        return frozen?.find(block)
    }

    @inline(__always)
    func cachedPage(_ leaf: UInt64) -> MapPage? {
        if layer.root == 0 { return .empty }
        return pages.find(leaf)
    }

    /// Keeps a page that was read while the map had `version`.
    func keep(_ leaf: UInt64, _ page: MapPage, version: UInt64) {
        if version == self.version { pages.insert(leaf, page) }
    }

    /// Takes over a committed map. Pages that changed are forgotten; the next read finds them in the kernel's cache.
    func commit(_ layer: Layer, changed leaves: [UInt64]) {
        invariant(layer.identifier == self.layer.identifier, "a commit of layer \(layer.identifier)")
        self.layer = layer
        version += 1
        for leaf in leaves { pages.remove(leaf) }
    }

    var overlayCount: Int { active.count + active.ranges.count + (frozen.map { $0.count + $0.ranges.count } ?? 0) }
    var isDrained: Bool { active.isEmpty && (frozen?.isEmpty ?? true) }
}

extension Layer {
    /// Leaf `index`; an empty one if the layer holds nothing there, a lost one if its map is damaged.
    func leafOrLost(_ index: UInt64) -> MapPage {
        do throws(MapDamage) {
            return try page(level: 0, index: index) ?? .empty
        } catch {
            return .lost()
        }
    }
}

/// Leaves of a tier kept in memory: 4,096 of 4 KiB.
private let tierPageLimit = 4096
