internal import Format
internal import HostIO
internal import Primitives

extension Replica {
    /// One layer's share of a checkpoint.
    private struct Applied {
        var tier: Tier
        var writer: MapWriter
        var layer: Layer
        var leaves: [UInt64]
        var present: UInt64
    }

    /// Moves everything that the journal holds now into the layers, and gives the ring free. In the lane.
    ///
    /// 1. Freeze: the records published so far, up to revision C. New ones go into fresh overlays.
    /// 2. Flush. C is durable; until the commit a crash replays the same records.
    /// 3. Write the frozen blocks into the images, in order of their place; fdatasync. A crash leaves blocks that
    ///    the journal overrides.
    /// 4. Write the changed map pages beside the valid ones; fdatasync. A crash leaves the old map, and the journal.
    /// 5. For each head that a snapshot has sealed: manifest and chain document, durable. A crash leaves files that
    ///    nothing names.
    /// 6. Super block, both slots: the commit. A crash between them leaves either state, both whole.
    /// 7. Forget the frozen overlays, give the ring free, write the second copies of the map pages.
    ///
    /// - Returns: whether there was anything to do.
    @discardableResult
    func checkpoint() throws(StoreError) -> Bool {
        do throws(StoreError) {
            return try checkpointOnce()
        } catch {
            guard case .noSpace(let cause) = error else { throw error }
            // The reserve was kept for this: it goes, and the journal can be drained.
            guard giveUpReserve() else {
                journal.setFull(true)
                throw error
            }
            do throws(StoreError) {
                return try checkpointOnce()
            } catch {
                journal.setFull(true)
                throw .noSpace(cause)
            }
        }
    }

    private func checkpointOnce() throws(StoreError) -> Bool {
        if let failure = journal.failure { throw failure }
        let plan = state.withLock { state -> (boundary: Boundary, tiers: [Tier], base: ChainView)? in
            if state.frozen == nil || state.isFull {
                if state.tiers.count == 1 && state.tiers[0].isDrained { return nil }
                // What a full disk left frozen goes on together with all that came since: a discard among it may free
                // the very room that was missing.
                for tier in state.tiers {
                    if let frozen = tier.frozen { frozen.absorb(tier.active) } else { tier.frozen = tier.active }
                    tier.active = Overlay()
                }
                state.frozen = (state.boundary, state.tiers.count)
                state.emptiedBlocks = 0
            }
            guard let frozen = state.frozen else { return nil }
            return (frozen.boundary, Array(state.tiers[0..<frozen.tierCount]), state.base)
        }
        guard let (boundary, tiers, base) = plan else { return false }
        try journal.flush(upTo: boundary.revision)

        var applied: [Applied] = []
        for index in tiers.indices {
            do throws(IOError) {
                applied.append(try apply(tiers[index], above: applied, base: base, revision: boundary.revision))
            } catch {
                throw storeError(error)
            }
        }
        for index in applied.indices { applied[index].layer = try applied[index].writer.finish() }
        do throws(IOError) {
            for item in applied where !item.writer.isEmpty { try item.layer.files.sums.syncData() }
        } catch {
            throw storeError(error)
        }

        // The document changes only if a snapshot sealed something.
        var document = state.withLock { $0.document }
        for index in 0..<(applied.count - 1) { seal(applied[index], next: applied[index + 1], in: &document) }
        let head = applied[applied.count - 1]
        try commit(document, isChanged: applied.count > 1) { slot in
            slot.checkpointRevision = boundary.revision
            slot.historyHash = boundary.historyHash
            slot.tailOffset = boundary.position % self.journal.capacity * blockSize64
            slot.tailSequence = boundary.sequence
            slot.previousBatchHash = boundary.previousHash
            slot.flushedRevision = max(slot.flushedRevision, boundary.revision)
            slot.groupFlushedRevision = slot.flushedRevision
            slot.headLayer = head.tier.layer.identifier
            slot.headRoot = head.layer.root
            slot.headPresent = head.present
        }

        state.withLock { state in
            var layers = state.base.layers
            for (index, item) in applied.enumerated() {
                item.tier.commit(item.layer, changed: item.leaves)
                item.tier.present = item.present
                item.tier.frozen = nil
                if index < applied.count - 1 {
                    layers.append(item.layer)
                    state.sealed[item.layer.identifier] = item.layer
                }
            }
            if applied.count > 1 {
                state.base = ChainView(layers: layers)
                state.tiers.removeFirst(applied.count - 1)
                state.tierFiles.removeFirst(applied.count - 1)
            }
            state.frozen = nil
            state.counters.checkpoints += 1
        }
        journal.release(to: boundary.position)
        state.wakeAll()
        for index in applied.indices { applied[index].writer.mirror() }
        return true
    }

    /// Writes one tier's frozen blocks into its image and map pages.
    private func apply(
        _ tier: Tier, above older: [Applied], base: ChainView, revision: UInt64
    ) throws(IOError) -> Applied {
        guard let frozen = tier.frozen else { invariantFailed("a tier without a frozen overlay") }
        let layer = tier.layer
        var writer = MapWriter(layer: layer, checkpoint: superStore.current.sequence + 1)
        let entries = frozen.sortedEntries()
        var stager = ImageStager(image: layer.files.image)
        let olderLayers = older.map { $0.tier.layer }
        let leaves = touchedLeaves(entries, frozen.ranges, layer: layer, older: older, base: base)
        var present = tier.present
        var position = 0
        var rangePosition = 0
        if state.withLock({ $0.isFull }) {
            try freeFirst(tier, leaves, older: older, olderLayers: olderLayers, base: base, &stager)
        }
        for leaf in leaves {
            let firstBlock = MapGeometry.firstBlock(ofLeaf: leaf)
            let whole = BlockRange(start: firstBlock, count: MapGeometry.entries64)
            let old = layer.leafOrLost(leaf)
            let page = MapPage(copying: old)
            page.lastRevision = revision
            // Emptied ranges first: single blocks win over them.
            while rangePosition < frozen.ranges.count && frozen.ranges[rangePosition].end <= firstBlock {
                rangePosition += 1
            }
            var hidden: HiddenLeaf?
            var probe = rangePosition
            var emptied: [BlockRange] = []
            while probe < frozen.ranges.count, frozen.ranges[probe].start < whole.end {
                if let part = frozen.ranges[probe].intersection(whole) { emptied.append(part) }
                probe += 1
            }
            let first = position
            while position < entries.count && entries[position].block < whole.end { position += 1 }
            for part in emptied {
                if hidden == nil { hidden = self.hidden(leaf, older: older, olderLayers: olderLayers, base: base) }
                try empty(part, except: entries[first..<position], page, hidden, isImageUnknown: false, &stager)
            }
            var index = first
            while index < position {
                let entry = entries[index]
                let slot = Int(entry.block - firstBlock)
                if entry.place.isImage {
                    page.entries[slot] = entry.sum
                    index += 1
                } else if entry.place.isRing {
                    index += try copyFromRing(entries, index, limit: position, page, firstBlock, &stager)
                } else {
                    if hidden == nil { hidden = self.hidden(leaf, older: older, olderLayers: olderLayers, base: base) }
                    // The image may hold a direct write that came before, of which no map page ever knew.
                    let block = BlockRange(start: entry.block, count: 1)
                    try empty(block, except: [], page, hidden, isImageUnknown: true, &stager)
                    index += 1
                }
            }
            try writer.put(leaf, page)
            // A lost page counts as full, so the sum may pass below what is counted.
            present = present + page.presentCount
            present -= min(present, old.presentCount)
        }
        try stager.flush()
        if stager.hasChanged { try layer.files.image.syncData() }
        let bytes = stager.writtenBytes
        state.withLock { $0.counters.checkpointBytes += bytes }
        return Applied(tier: tier, writer: writer, layer: layer, leaves: leaves, present: present)
    }

    /// On a full disk: punches what is emptied before anything is written.
    private func freeFirst(
        _ tier: Tier, _ leaves: [UInt64], older: [Applied], olderLayers: [Layer], base: ChainView,
        _ stager: inout ImageStager
    ) throws(IOError) {
        guard let frozen = tier.frozen else { return }
        for leaf in leaves {
            let first = MapGeometry.firstBlock(ofLeaf: leaf)
            let hidden = self.hidden(leaf, older: older, olderLayers: olderLayers, base: base)
            var start: Int?
            for index in 0...MapGeometry.entries {
                let isFree =
                    index < MapGeometry.entries && !hidden.isPresent[index]
                    && frozen.find(first + UInt64(index))?.place.isNowhere == true
                if isFree && start == nil { start = index }
                if !isFree, let from = start {
                    try stager.punch(BlockRange(start: first + UInt64(from), count: UInt64(index - from)))
                    start = nil
                }
            }
        }
    }

    /// Copies blocks from the ring into the image, as many as stand side by side in both; gives their number.
    ///
    /// A block that no longer matches its sum is copied as it is, with the sum that it should have: it stays damaged.
    private func copyFromRing(
        _ entries: [Overlay.Entry], _ index: Int, limit: Int, _ page: MapPage, _ firstBlock: UInt64,
        _ stager: inout ImageStager
    ) throws(IOError) -> Int {
        var length = 1
        while index + length < limit, entries[index + length].block == entries[index].block + UInt64(length),
            entries[index + length].place.isRing,
            entries[index + length].place.number == entries[index].place.number + UInt64(length)
        {
            length += 1
        }
        let room = try stager.room(at: entries[index].block, wanted: length)
        let given = room.count / blockSize
        try journal.file.readPadded(into: room, at: entries[index].place.number * blockSize64)
        for offset in 0..<given {
            let entry = entries[index + offset]
            page.entries[Int(entry.block - firstBlock)] = entry.sum
        }
        return given
    }

    /// What lies under a tier in one leaf: for each block whether any older layer holds it.
    private struct HiddenLeaf {
        var isPresent: [Bool]
    }

    private func hidden(_ leaf: UInt64, older: [Applied], olderLayers: [Layer], base: ChainView) -> HiddenLeaf {
        var isPresent = [Bool](repeating: false, count: MapGeometry.entries)
        let below = base.leaf(leaf)
        for index in 0..<MapGeometry.entries where below.sums[index] != 0 { isPresent[index] = true }
        for (position, layer) in olderLayers.enumerated() {
            // What this checkpoint gives an older tier counts: it is below as soon as both are committed.
            let page = layer.leafOrLost(leaf)
            for index in 0..<MapGeometry.entries where page.entries[index] != 0 { isPresent[index] = true }
            guard let frozen = older[position].tier.frozen else { continue }
            let firstBlock = MapGeometry.firstBlock(ofLeaf: leaf)
            for index in 0..<MapGeometry.entries {
                // An emptied block of an older tier may stand there as zeros; then zeros here are only superfluous.
                if frozen.find(firstBlock + UInt64(index)) != nil { isPresent[index] = true }
            }
        }
        return HiddenLeaf(isPresent: isPresent)
    }

    /// Makes blocks read as zeros: absent where nothing lies below, real zeros where something does.
    ///
    /// Real zeros, and not a mark in the map, because a reader without the map sees only data and holes; and not
    /// FALLOC_FL_ZERO_RANGE, which leaves a hole for SEEK_DATA, through which the layer below would show.
    /// - Parameter isImageUnknown: whether the image may hold bytes at a block that is absent in the map.
    private func empty(
        _ range: BlockRange, except entries: ArraySlice<Overlay.Entry>, _ page: MapPage, _ hidden: HiddenLeaf?,
        isImageUnknown: Bool, _ stager: inout ImageStager
    ) throws(IOError) {
        guard let hidden else { invariantFailed("emptying without a look below") }
        let firstBlock = roundedToLeaf(range.start)
        var next = entries.startIndex
        var punchStart: UInt64?
        for block in range.start..<range.end {
            while next < entries.endIndex && entries[next].block < block { next += 1 }
            let isOverridden = next < entries.endIndex && entries[next].block == block && !entries[next].place.isNowhere
            let slot = Int(block - firstBlock)
            let isHidden = hidden.isPresent[slot]
            if isOverridden || isHidden {
                if let start = punchStart { try stager.punch(BlockRange(start: start, count: block - start)) }
                punchStart = nil
            }
            if isOverridden { continue }
            if isHidden {
                let zeroSum = hasher.sum(zeroBlock.base, block: block)
                if page.entries[slot] != zeroSum {
                    let room = try stager.room(at: block, wanted: 1)
                    room.initializeMemory(as: UInt8.self, repeating: 0)
                    page.entries[slot] = zeroSum
                }
            } else {
                if punchStart == nil && (isImageUnknown || page.entries[slot] != 0) { punchStart = block }
                page.entries[slot] = 0
            }
        }
        if let start = punchStart { try stager.punch(BlockRange(start: start, count: range.end - start)) }
    }

    private func roundedToLeaf(_ block: UInt64) -> UInt64 {
        MapGeometry.firstBlock(ofLeaf: MapGeometry.leaf(of: block))
    }

    /// Every leaf that the overlay changes, rising. An emptied range counts only where something is to be emptied.
    private func touchedLeaves(
        _ entries: [Overlay.Entry], _ ranges: [BlockRange], layer: Layer, older: [Applied], base: ChainView
    ) -> [UInt64] {
        var leaves: [UInt64] = []
        for entry in entries {
            let leaf = MapGeometry.leaf(of: entry.block)
            if leaves.last != leaf { leaves.append(leaf) }
        }
        if ranges.isEmpty { return leaves }
        var all = Set(leaves)
        let olderLeaves = older.flatMap { $0.leaves }
        for range in ranges {
            let limit = MapGeometry.leaf(of: range.end - 1) + 1
            let start = MapGeometry.leaf(of: range.start)
            for leaf in olderLeaves where leaf >= start && leaf < limit { all.insert(leaf) }
            for source in [layer] + older.map({ $0.tier.layer }) {
                var leaf = start
                while leaf < limit {
                    do throws(MapDamage) {
                        guard let next = try source.nextLeaf(from: leaf, limit: limit) else { break }
                        all.insert(next)
                        leaf = next + 1
                    } catch {
                        // Nothing is known here: every leaf of the range may be touched.
                        for leaf in leaf..<limit { all.insert(leaf) }
                        break
                    }
                }
            }
            var leaf = start
            while let next = base.nextLeaf(from: leaf, limit: limit) {
                all.insert(next)
                leaf = next + 1
            }
        }
        return all.sorted()
    }

    /// Enters a sealed tier and the head above it into the document.
    private func seal(_ item: Applied, next: Applied, in document: inout ChainDocument) {
        guard let seal = item.tier.seal else { invariantFailed("a tier below another without a seal") }
        let uuid = item.layer.identifier.description
        guard let index = document.layers.firstIndex(where: { $0.uuid == uuid }) else {
            invariantFailed("layer \(uuid) is not in the chain")
        }
        document.layers[index].snapshot = ChainDocument.Snapshot(
            name: seal.record.name, createdSeconds: seal.record.createdSeconds,
            createdNanoseconds: seal.record.createdNanoseconds, labels: seal.record.labels, protected: false,
            revision: seal.revision, historyHash: seal.historyHash.description, size: seal.size)
        document.layers[index].root = String(item.layer.root, radix: 16)
        document.layers[index].present = item.present
        let head = next.layer.identifier.description
        document.layers.append(
            ChainDocument.Layer(uuid: head, parent: uuid, snapshot: nil, root: "0", present: 0, removed: false))
        document.head = head
    }

    /// Makes a new chain document and super block durable, and takes them over. In the lane.
    func commit(
        _ document: ChainDocument, isChanged: Bool, _ change: (inout SuperSlot) -> Void
    ) throws(StoreError) {
        var document = document
        let previous = superStore.current.chainNumber
        do throws(IOError) {
            if isChanged {
                document.number = previous + 1
                let known = Dictionary(
                    uniqueKeysWithValues: state.withLock { $0.document }.layers.map { ($0.uuid, $0) })
                var wroteManifest = false
                for layer in document.layers where layer.uuid != document.head && known[layer.uuid] != layer {
                    try chain.writeManifest(volume: volume, layer)
                    wroteManifest = true
                }
                if wroteManifest { try chain.layers.sync() }
                let hash = try chain.write(document)
                let number = document.number
                try superStore.commit { slot in
                    slot.chainNumber = number
                    slot.chainHash = hash
                    change(&slot)
                }
                chain.removeDocument(previous)
            } else {
                try superStore.commit(change)
            }
        } catch {
            throw storeError(error)
        }
        if isChanged {
            let taken = document
            state.withLock { state in
                state.document = taken
                state.snapshotVersion += 1
            }
        }
    }

    /// Gives the reserve to the file system; false if there is none left to give.
    private func giveUpReserve() -> Bool {
        let wasFull = state.withLock { state in
            defer { state.isFull = true }
            return state.isFull
        }
        guard !wasFull, let ballast = try? directory.open(ReplicaFiles.ballast, .readWrite),
            let size = try? ballast.allocated(), size > 0
        else { return false }
        return (try? ballast.truncate(to: 0)) != nil
    }
}

/// A block of zeros, never written.
let zeroBlock = ByteBuffer(count: blockSize)
