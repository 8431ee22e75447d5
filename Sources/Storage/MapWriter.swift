internal import Format
internal import HostIO
internal import Primitives

/// Writes changed pages of one layer's map beside the valid ones, and gives the root of the new tree.
///
/// 0. Second copies that an earlier `mirror` wrote are made durable: each page may stand in both slots from here on.
/// 1. `put` writes each changed leaf into a slot that the committed tree does not use. A crash leaves the old tree.
/// 2. `finish` writes the pages above, up to the root. A crash leaves the old tree.
/// 3. The caller makes the file durable and commits the root elsewhere. A crash after that leaves the new tree.
/// 4. `mirror` copies each new page into its other slot, so that one rotten page costs nothing. A crash leaves pages
///    that stand once.
struct MapWriter {
    private struct Change {
        var index: UInt64
        var hash: UInt64
    }
    private struct Written {
        var level: UInt8
        /// The slot that was written; nil for a page that became empty.
        var slot: UInt8?
        var index: UInt64
    }

    private let layer: Layer
    private let checkpoint: UInt64
    private var changes: [Change] = []
    private var written: [Written] = []
    private var inner: [(level: Int, index: UInt64, page: MapPage)] = []
    private let buffer = ByteBuffer(count: MapGeometry.pageBytes)

    init(layer: Layer, checkpoint: UInt64) {
        self.layer = layer
        self.checkpoint = checkpoint
    }

    var isEmpty: Bool { changes.isEmpty }

    /// Writes leaf `index`. Leaves come by rising index.
    mutating func put(_ index: UInt64, _ page: MapPage) throws(IOError) {
        if let last = changes.last {
            invariant(last.index < index, "leaf \(index) behind leaf \(last.index)")
        } else {
            try layer.files.settleCopies()
        }
        let hash = try write(level: 0, index: index, page)
        changes.append(Change(index: index, hash: hash))
    }

    private mutating func write(level: Int, index: UInt64, _ page: MapPage) throws(IOError) -> UInt64 {
        let hash = MapNode.contentHash(entries: page.bytes, level: level, index: index)
        if hash == 0 {
            written.append(Written(level: UInt8(level), slot: nil, index: index))
            page.slots = 0
            return 0
        }
        // `slots` says where the committed version is: the other slot is free.
        let slot = page.slots & 1 != 0 ? 1 : 0
        (buffer.base + MapGeometry.headerBytes).copyMemory(from: page.entries, byteCount: MapGeometry.entries * 8)
        MapNode(
            level: level, index: index, checkpoint: checkpoint, lastRevision: page.lastRevision,
            layer: layer.identifier
        ).seal(buffer.bytes)
        try layer.files.sums.write(buffer.readable, at: MapGeometry.offset(level: level, index: index, slot: slot))
        page.slots = slot == 0 ? 1 : 2
        written.append(Written(level: UInt8(level), slot: UInt8(slot), index: index))
        return hash
    }

    /// Writes the pages above the leaves and gives the layer with its new root.
    mutating func finish() throws(StoreError) -> Layer {
        if changes.isEmpty { return layer }
        var below = changes
        for level in 1...MapGeometry.rootLevel {
            var here: [Change] = []
            var position = 0
            while position < below.count {
                let index = below[position].index / MapGeometry.entries64
                // A lost page stays lost but for what is put into it now: its other entries never verify.
                let old: MapPage
                do {
                    old = try layer.keptPage(level: level, index: index) ?? .empty
                } catch {
                    old = .lost()
                }
                let page = MapPage(copying: old)
                page.lastRevision = 0
                while position < below.count && below[position].index / MapGeometry.entries64 == index {
                    page.entries[Int(below[position].index % MapGeometry.entries64)] = below[position].hash
                    position += 1
                }
                do {
                    here.append(Change(index: index, hash: try write(level: level, index: index, page)))
                } catch {
                    throw error.isNoSpace ? StoreError.noSpace(error) : .io(error)
                }
                inner.append((level, index, page))
            }
            below = here
        }
        invariant(below.count == 1 && below[0].index == 0, "\(below.count) root pages")
        return Layer(files: layer.files, root: below[0].hash, innerPages: inner, of: layer)
    }

    /// Copies the committed pages into their other slots and frees the places of pages that became empty.
    ///
    /// It comes after the commit, in no order and without a flush of its own. A failure is left for `verify` to tell:
    /// each page stands once already.
    mutating func mirror() {
        let file = layer.files.sums
        layer.files.loosenCopies()
        for item in written {
            let first = MapGeometry.offset(level: Int(item.level), index: item.index, slot: 0)
            do throws(IOError) {
                if let slot = item.slot {
                    let bytes = UInt64(MapGeometry.pageBytes)
                    try file.readPadded(into: buffer.bytes, at: first + UInt64(slot) * bytes)
                    try file.write(buffer.readable, at: first + UInt64(1 - slot) * bytes)
                } else {
                    try file.punch(offset: first, count: 2 * UInt64(MapGeometry.pageBytes))
                }
            } catch {
                continue
            }
        }
        written = []
    }
}
