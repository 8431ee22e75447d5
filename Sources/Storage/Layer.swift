internal import Format
internal import HostIO
internal import Primitives

/// The two files of a layer, open.
final class LayerFiles: Sendable {
    let identifier: Identifier
    /// Blocks at the volume's own offsets; a hole means: look in the layer below.
    let image: any File
    /// The checksum map.
    let sums: any File
    /// Whether second copies of map pages may be written and not durable: true for files of an earlier life.
    private let hasLooseCopies = Guarded(true)

    init(identifier: Identifier, image: any File, sums: any File) {
        self.identifier = identifier
        self.image = image
        self.sums = sums
    }

    /// Second copies of map pages were written without a flush.
    func loosenCopies() { hasLooseCopies.withLock { $0 = true } }

    /// Makes second copies durable before a slot is written again.
    ///
    /// Which slot holds a page is read from the file, and memory shows both copies. If only one of them is durable and
    /// the new version of the page goes over that one, a power cut leaves neither.
    func settleCopies() throws(IOError) {
        if !hasLooseCopies.withLock({ $0 }) { return }
        try sums.syncData()
        hasLooseCopies.withLock { $0 = false }
    }

    static func imageName(_ identifier: Identifier) -> String { "\(identifier).img" }
    static func sumsName(_ identifier: Identifier) -> String { "\(identifier).sums" }
    static func manifestName(_ identifier: Identifier) -> String { "\(identifier).json" }
}

/// A map page that cannot be read as it was written.
struct MapDamage: Error, Sendable {
    var level: Int
    var index: UInt64
    var path: String
    /// errno if the read itself failed.
    var cause: IOError?

    /// The blocks whose state is unknown because of it.
    var blocks: BlockRange {
        var span = MapGeometry.entries64
        for _ in 0..<level { span *= MapGeometry.entries64 }
        return BlockRange(start: index * span, count: span)
    }
}

/// One layer as of one moment: its files and the root of its map.
///
/// A commit that changes the map makes a new value over the same files; who still holds the old one reads old pages as
/// long as their slots last, finds a mismatch after that, and looks again.
final class Layer: Sendable {
    let files: LayerFiles
    /// The content hash of the map's root page, 0 for an empty map.
    let root: UInt64
    /// Pages of levels 1 to 3 that were read, by level and index.
    private let inner: Guarded<GenerationCache<UInt64, MapPage>>

    var identifier: Identifier { files.identifier }

    init(files: LayerFiles, root: UInt64) {
        self.files = files
        self.root = root
        inner = Guarded(GenerationCache(limit: innerPageLimit))
    }

    /// The same, starting with inner pages that are known.
    init(files: LayerFiles, root: UInt64, innerPages: [(level: Int, index: UInt64, page: MapPage)], of previous: Layer)
    {
        self.files = files
        self.root = root
        var cache = previous.inner.withLock { $0 }
        for item in innerPages { cache.insert(Self.key(item.level, item.index), item.page) }
        inner = Guarded(cache)
    }

    private static func key(_ level: Int, _ index: UInt64) -> UInt64 { UInt64(level) << 60 | index }

    /// The page of `level` at `index`, or nil if it is empty.
    func page(level: Int, index: UInt64) throws(MapDamage) -> MapPage? {
        if root == 0 { return nil }
        let expected: UInt64
        if level == MapGeometry.rootLevel {
            invariant(index == 0, "root page \(index)")
            expected = root
        } else {
            guard let parent = try innerPage(level: level + 1, index: index / MapGeometry.entries64) else { return nil }
            expected = parent.entries[Int(index % MapGeometry.entries64)]
        }
        return try load(level: level, index: index, expected: expected)
    }

    private func innerPage(level: Int, index: UInt64) throws(MapDamage) -> MapPage? {
        if let known = inner.withLock({ $0.find(Self.key(level, index)) }) { return known }
        guard let page = try page(level: level, index: index) else { return nil }
        inner.withLock { $0.insert(Self.key(level, index), page) }
        return page
    }

    /// As `page`, for levels 1 to 3, kept in memory.
    func keptPage(level: Int, index: UInt64) throws(MapDamage) -> MapPage? { try innerPage(level: level, index: index) }

    /// Reads a page whose content hash is known; nil if that is 0.
    func load(level: Int, index: UInt64, expected: UInt64) throws(MapDamage) -> MapPage? {
        if expected == 0 { return nil }
        let path = files.sums.path
        let page = MapPage()
        var failure: IOError?
        let found = withUnsafeTemporaryAllocation(byteCount: MapGeometry.pageBytes, alignment: 4096) { buffer -> Bool in
            for slot in 0..<2 {
                let offset = MapGeometry.offset(level: level, index: index, slot: slot)
                do throws(IOError) {
                    try files.sums.readPadded(into: buffer, at: offset)
                } catch {
                    failure = error
                    continue
                }
                let content = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(buffer)[MapGeometry.headerBytes...])
                guard MapNode.contentHash(entries: content, level: level, index: index) == expected else { continue }
                // The entries are right; the header is asked only for the revision, which a damaged one does not give.
                if let node = try? MapNode(decoding: buffer, level: level, index: index, layer: identifier) {
                    page.lastRevision = node.lastRevision
                } else {
                    page.lastRevision = UInt64.max
                }
                UnsafeMutableRawPointer(page.entries).copyMemory(
                    from: UnsafeRawPointer(buffer.baseAddress! + MapGeometry.headerBytes),
                    byteCount: MapGeometry.entries * 8)
                page.slots = slot == 0 ? 1 : 2
                return true
            }
            return false
        }
        if found { return page }
        throw MapDamage(level: level, index: index, path: path, cause: failure)
    }

    /// The first leaf at or behind `start` that is not empty, below `limit`; nil if there is none.
    func nextLeaf(from start: UInt64, limit: UInt64) throws(MapDamage) -> UInt64? {
        if root == 0 { return nil }
        let fan = MapGeometry.entries64
        var leaf = start
        while leaf < limit {
            guard let third = try innerPage(level: 3, index: 0) else { return nil }
            if third.entries[Int(leaf / (fan * fan))] == 0 {
                leaf = (leaf / (fan * fan) + 1) * fan * fan
                continue
            }
            guard let second = try innerPage(level: 2, index: leaf / (fan * fan)),
                second.entries[Int(leaf / fan % fan)] != 0
            else {
                leaf = (leaf / fan + 1) * fan
                continue
            }
            guard let first = try innerPage(level: 1, index: leaf / fan) else {
                leaf = (leaf / fan + 1) * fan
                continue
            }
            if first.entries[Int(leaf % fan)] != 0 { return leaf }
            leaf += 1
        }
        return nil
    }
}

/// Inner pages kept for a layer: 512 of 4 KiB reach half a TiB of a full one.
private let innerPageLimit = 512
