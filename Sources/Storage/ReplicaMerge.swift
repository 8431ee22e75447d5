internal import Format
internal import HostIO
internal import Primitives

extension Replica {
    /// Deletes a snapshot: it is gone from view with the first commit; its blocks then move into the layer above.
    ///
    /// The move goes on in steps of at most `mergeStepBlocks`, each committed for itself, so it needs no more room than
    /// one step and goes on after a crash where it was. It returns when the space is given back.
    /// - Parameter rate: bytes a second, nil for as fast as it goes.
    /// - Throws: `notFound`, `refused` for a protected one, `inUse` while it is open, `noSpace`, `io`, `cancelled`.
    public func deleteSnapshot(name: String, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) {
        let layer = try withSealedChain("delete") { () throws(StoreError) -> Identifier in
            var document = state.withLock { $0.document }
            let index = try layerIndex(of: name, in: document)
            if document.layers[index].snapshot?.protected == true {
                throw .refused("snapshot '\(name)' is protected; unprotect it first")
            }
            guard let identifier = Identifier(document.layers[index].uuid) else { invariantFailed("a layer's name") }
            if state.withLock({ $0.viewUsers[identifier, default: 0] > 0 }) {
                throw .inUse("snapshot '\(name)' is open; close it first")
            }
            document.layers[index].removed = true
            try commit(document, isChanged: true) { _ in }
            return identifier
        }
        try dissolve(layer, rate: rate, progress: progress)
    }

    /// Goes on with merges that a crash or a second branch interrupted.
    func resumeMerges() throws(StoreError) {
        while true {
            let waiting = state.withLock { state -> Identifier? in
                for layer in state.document.layers where layer.removed {
                    guard let identifier = Identifier(layer.uuid), !state.dissolving.contains(identifier) else {
                        continue
                    }
                    if Self.children(of: layer.uuid, state.document).count <= 1 { return identifier }
                }
                return nil
            }
            guard let waiting else { return }
            try dissolve(waiting, rate: nil, progress: nil)
        }
    }

    static func children(of uuid: String, _ document: ChainDocument) -> [ChainDocument.Layer] {
        document.layers.filter { $0.parent == uuid }
    }

    /// What is done with a removed layer, by what stands on it.
    private enum Way {
        /// Nothing stands on it: its files go.
        case drop
        /// Its blocks move up into the only layer that stands on it.
        case up(Identifier)
        /// The layer that stands on it is smaller and moves down into it; then it takes that one's place.
        case down(Identifier)
        /// Several stand on it: it stays until one is left.
        case wait
        case gone
    }

    private func way(of layer: Identifier) -> Way {
        state.withLock { state in
            guard let entry = state.document.layers.first(where: { $0.uuid == layer.description }), entry.removed else {
                return .gone
            }
            let children = Self.children(of: entry.uuid, state.document)
            guard let child = children.first, let identifier = Identifier(child.uuid) else { return .drop }
            if children.count > 1 { return .wait }
            if child.uuid == state.document.head || entry.present <= child.present { return .up(identifier) }
            // An open view of the child, or a started move upwards, keeps the direction.
            return .down(identifier)
        }
    }

    private func dissolve(_ layer: Identifier, rate: UInt64?, progress: ProgressHandler?) throws(StoreError) {
        state.withLock { _ = $0.dissolving.insert(layer) }
        defer { state.withLock { _ = $0.dissolving.remove(layer) } }
        let pacer = Pacer(host: host, rate: rate)
        let total = state.withLock { state in
            (state.document.layers.first { $0.uuid == layer.description }?.present ?? 0) * blockSize64
        }
        var done: UInt64 = 0
        // Into the live head only with its writers told: see `split`.
        if case .up(let child) = way(of: layer), isHead(child) {
            try barringWrites { () throws(StoreError) in state.withLock { $0.mergeSource = layer } }
            do throws(StoreError) {
                try withLane("merge") { () throws(StoreError) in
                    try sealAll()
                    _ = try checkpoint()
                }
            } catch {
                state.withLock { $0.mergeSource = nil }
                throw error
            }
        }
        defer { state.withLock { if $0.mergeSource == layer { $0.mergeSource = nil } } }
        while true {
            let moved = try withLane("merge") { () throws(StoreError) -> UInt64? in
                if state.withLock({ $0.isClosing }) { throw .closed }
                // Writers must not wait for a long merge: the journal is drained between its steps. So is what a
                // snapshot sealed meanwhile, or a full disk left frozen; then the way is looked up.
                if journal.isHalfFull { _ = try checkpoint() }
                if state.withLock({ $0.mergeSource == layer && ($0.tiers.count > 1 || $0.frozen != nil) }) {
                    try sealAll()
                }
                switch way(of: layer) {
                case .gone, .wait: return nil
                case .drop:
                    try drop(layer)
                    return nil
                case .up(let child):
                    if isHead(child) {
                        if state.withLock({ $0.mergeSource != layer }) { throw .refused("the chain changed meanwhile") }
                        return try moveIntoHead(from: layer)
                    }
                    return try moveUp(from: layer, to: child)
                case .down(let child): return try moveDown(from: child, to: layer)
                }
            }
            guard let moved else { break }
            done += moved
            if let progress, progress(Progress(doneBytes: min(done, total), totalBytes: total)) { throw .cancelled }
            pacer.pace(moved)
        }
        if let progress { _ = progress(Progress(doneBytes: total, totalBytes: total)) }
    }

    private func isHead(_ layer: Identifier) -> Bool {
        state.withLock { $0.document.head == layer.description }
    }

    /// Removes a layer that nothing stands on.
    private func drop(_ layer: Identifier) throws(StoreError) {
        var document = state.withLock { $0.document }
        document.layers.removeAll { $0.uuid == layer.description }
        try commit(document, isChanged: true) { _ in }
        state.withLock { state in
            state.sealed[layer] = nil
            state.views[layer] = nil
        }
        chain.removeLayer(layer)
    }

    // MARK: Steps

    /// Blocks that one step takes from a layer: for each leaf its page, in order.
    private struct Portion {
        var leaves: [(index: UInt64, page: MapPage)] = []
        var blocks: UInt64 = 0
    }

    /// The next leaves of `layer`, at most a step's worth.
    private func portion(of layer: Layer) -> Portion {
        var portion = Portion()
        let limit = MapGeometry.leafCount(volumeSize: FormatLimit.volumeSize)
        var leaf: UInt64 = 0
        while portion.blocks < mergeStepBlocks {
            do throws(MapDamage) {
                guard let next = try layer.nextLeaf(from: leaf, limit: limit) else { break }
                let page = layer.leafOrLost(next)
                portion.leaves.append((next, page))
                portion.blocks += page.presentCount
                leaf = next + 1
            } catch {
                // An inner page is lost: every leaf below it is, and moves as lost blocks.
                let damaged = error.blocks
                let first = max(leaf, MapGeometry.leaf(of: damaged.start))
                let end = min(limit, MapGeometry.leaf(of: damaged.end - 1) + 1)
                for index in first..<min(end, first + 64) { portion.leaves.append((index, .lost())) }
                portion.blocks = mergeStepBlocks
            }
        }
        return portion
    }

    /// Copies the blocks of `portion` that `target` lacks into its image, and gives the target's new pages.
    ///
    /// A block that does not verify is copied as it is, with the sum that it should have: it stays damaged.
    private func copy(
        _ portion: Portion, from source: Layer, to target: Layer
    ) throws(IOError) -> (pages: [(index: UInt64, page: MapPage)], added: UInt64) {
        var stager = ImageStager(image: target.files.image)
        var pages: [(index: UInt64, page: MapPage)] = []
        var added: UInt64 = 0
        for item in portion.leaves {
            let page = MapPage(copying: target.leafOrLost(item.index))
            let first = MapGeometry.firstBlock(ofLeaf: item.index)
            var slot = 0
            var changed = false
            while slot < MapGeometry.entries {
                guard item.page.entries[slot] != 0, page.entries[slot] == 0 else {
                    slot += 1
                    continue
                }
                var length = 1
                while slot + length < MapGeometry.entries, item.page.entries[slot + length] != 0,
                    page.entries[slot + length] == 0
                {
                    length += 1
                }
                var done = 0
                while done < length {
                    let block = first + UInt64(slot + done)
                    let room = try stager.room(at: block, wanted: length - done)
                    try readForCopy(source, block: block, room)
                    done += room.count / blockSize
                }
                for index in slot..<(slot + length) { page.entries[index] = item.page.entries[index] }
                added += UInt64(length)
                slot += length
                changed = true
            }
            if changed {
                page.lastRevision = max(page.lastRevision, item.page.lastRevision)
                pages.append((item.index, page))
            }
        }
        try stager.flush()
        if stager.hasChanged { try target.files.image.syncData() }
        return (pages, added)
    }

    /// Reads blocks for a copy; one that the device refuses is copied as zeros, which its sum does not match.
    private func readForCopy(_ source: Layer, block: UInt64, _ room: UnsafeMutableRawBufferPointer) throws(IOError) {
        do throws(IOError) {
            try source.files.image.readPadded(into: room, at: block * blockSize64)
        } catch {
            for index in 0..<(room.count / blockSize) {
                let one = UnsafeMutableRawBufferPointer(
                    rebasing: room[(index * blockSize)..<((index + 1) * blockSize)])
                do throws(IOError) {
                    try source.files.image.readPadded(into: one, at: (block + UInt64(index)) * blockSize64)
                } catch {
                    one.initializeMemory(as: UInt8.self, repeating: 0)
                }
            }
        }
    }

    private func put(
        _ pages: [(index: UInt64, page: MapPage)], into layer: Layer
    ) throws(StoreError) -> (writer: MapWriter, layer: Layer) {
        var writer = MapWriter(layer: layer, checkpoint: superStore.current.sequence + 1)
        do throws(IOError) {
            for item in pages { try writer.put(item.index, item.page) }
        } catch {
            throw storeError(error)
        }
        let changed = try writer.finish()
        do throws(IOError) {
            if !writer.isEmpty { try changed.files.sums.syncData() }
        } catch {
            throw storeError(error)
        }
        return (writer, changed)
    }

    /// The pages of `portion` without their blocks.
    private func emptied(_ portion: Portion) -> [(index: UInt64, page: MapPage)] {
        portion.leaves.map { item in
            let page = MapPage()
            page.slots = item.page.slots
            return (item.index, page)
        }
    }

    /// Gives the space of moved blocks back. After the commit: a crash before it leaves blocks that nothing names.
    private func punch(_ portion: Portion, of layer: Layer) {
        for item in portion.leaves {
            try? layer.files.image.punch(
                offset: MapGeometry.firstBlock(ofLeaf: item.index) * blockSize64,
                count: MapGeometry.entries64 * blockSize64)
        }
    }

    private func layer(_ identifier: Identifier) throws(StoreError) -> Layer {
        guard let layer = state.withLock({ $0.sealed[identifier] }) else { throw .notFound("layer \(identifier)") }
        return layer
    }

    /// Takes over new versions of sealed layers, and a changed tree, for readers.
    private func takeOver(_ layers: [Layer], without gone: Identifier? = nil, movedTo target: Identifier? = nil) {
        state.withLock { state in
            for layer in layers { state.sealed[layer.identifier] = layer }
            if let gone {
                state.sealed[gone] = nil
                if let target {
                    state.moved[gone] = target
                    if let users = state.viewUsers.removeValue(forKey: gone) {
                        state.viewUsers[target, default: 0] += users
                    }
                }
            }
            state.views = [:]
            let bottom = state.tiers[0].layer.identifier.description
            let parent = state.document.layers.first { $0.uuid == bottom }?.parent
            state.base = ChainView(
                layers: parent.flatMap { Identifier($0) }.flatMap { Self.ancestry(of: $0, state) } ?? [])
        }
    }

    /// One step of a move into the sealed layer above.
    ///
    /// 1. Copy the blocks that it lacks; fdatasync. A crash leaves bytes in its holes that no map names.
    /// 2. Write its new map pages, and those of the source without the portion, beside the valid ones; fdatasync.
    /// 3. Chain document with both roots, super block: the commit. Every view reads the same before and after.
    /// 4. Punch the portion out of the source.
    private func moveUp(from source: Identifier, to target: Identifier) throws(StoreError) -> UInt64 {
        let (lower, upper) = (try layer(source), try layer(target))
        let portion = portion(of: lower)
        var document = state.withLock { $0.document }
        if portion.leaves.isEmpty { return try retire(lower, document) }
        var (toUpper, toLower) = try movePortion(portion, from: lower, to: upper, &document)
        try commit(document, isChanged: true) { _ in }
        takeOver([toUpper.layer, toLower.layer])
        punch(portion, of: lower)
        toUpper.writer.mirror()
        toLower.writer.mirror()
        return portion.blocks * blockSize64
    }

    /// The last step of a move: the source holds nothing any more and leaves the tree.
    private func retire(_ source: Layer, _ document: ChainDocument) throws(StoreError) -> UInt64 {
        var document = document
        remove(source, from: &document)
        try commit(document, isChanged: true) { _ in }
        takeOver([], without: source.identifier)
        chain.removeLayer(source.identifier)
        return 0
    }

    private func movePortion(
        _ portion: Portion, from source: Layer, to target: Layer, _ document: inout ChainDocument
    ) throws(StoreError) -> (target: (writer: MapWriter, layer: Layer), source: (writer: MapWriter, layer: Layer)) {
        let copied: (pages: [(index: UInt64, page: MapPage)], added: UInt64)
        do throws(IOError) {
            copied = try copy(portion, from: source, to: target)
        } catch {
            throw storeError(error)
        }
        let toTarget = try put(copied.pages, into: target)
        let toSource = try put(emptied(portion), into: source)
        for index in document.layers.indices {
            if document.layers[index].uuid == target.identifier.description {
                document.layers[index].root = String(toTarget.layer.root, radix: 16)
                document.layers[index].present += copied.added
            } else if document.layers[index].uuid == source.identifier.description {
                document.layers[index].root = String(toSource.layer.root, radix: 16)
                document.layers[index].present -= min(document.layers[index].present, portion.blocks)
            }
        }
        return (toTarget, toSource)
    }

    /// Takes a layer out of the tree: what stood on it stands on its parent.
    private func remove(_ layer: Layer, from document: inout ChainDocument) {
        let uuid = layer.identifier.description
        guard let index = document.layers.firstIndex(where: { $0.uuid == uuid }) else { return }
        let parent = document.layers[index].parent
        document.layers.remove(at: index)
        for position in document.layers.indices where document.layers[position].parent == uuid {
            document.layers[position].parent = parent
        }
    }

    /// One step of a move of a small layer down into the removed one below it.
    ///
    /// Blocks of the lower layer that the upper one covers are dropped from its map first: nobody sees them. Then the
    /// steps are those of `moveUp` the other way. At the end the lower layer takes the upper one's place in the tree.
    private func moveDown(from source: Identifier, to target: Identifier) throws(StoreError) -> UInt64 {
        let (upper, lower) = (try layer(source), try layer(target))
        let portion = portion(of: upper)
        var document = state.withLock { $0.document }
        if portion.leaves.isEmpty {
            guard let upperIndex = document.layers.firstIndex(where: { $0.uuid == source.description }),
                let lowerIndex = document.layers.firstIndex(where: { $0.uuid == target.description })
            else { throw .notFound("layer \(source)") }
            document.layers[lowerIndex].snapshot = document.layers[upperIndex].snapshot
            document.layers[lowerIndex].removed = document.layers[upperIndex].removed
            remove(upper, from: &document)
            try commit(document, isChanged: true) { _ in }
            takeOver([], without: source, movedTo: target)
            chain.removeLayer(source)
            return 0
        }
        // Covered blocks of this portion go out of the lower map, in a commit of their own: only then may the bytes
        // under them be overwritten.
        var covered: [(index: UInt64, page: MapPage)] = []
        var dropped: UInt64 = 0
        for item in portion.leaves {
            let page = MapPage(copying: lower.leafOrLost(item.index))
            var changed: UInt64 = 0
            for slot in 0..<MapGeometry.entries where item.page.entries[slot] != 0 && page.entries[slot] != 0 {
                page.entries[slot] = 0
                changed += 1
            }
            if changed > 0 { covered.append((item.index, page)) }
            dropped += changed
        }
        var target = lower
        if !covered.isEmpty {
            var (writer, layer) = try put(covered, into: lower)
            for index in document.layers.indices where document.layers[index].uuid == lower.identifier.description {
                document.layers[index].root = String(layer.root, radix: 16)
                document.layers[index].present -= min(document.layers[index].present, dropped)
            }
            try commit(document, isChanged: true) { _ in }
            takeOver([layer])
            writer.mirror()
            target = layer
            document = state.withLock { $0.document }
        }
        var (toLower, toUpper) = try movePortion(portion, from: upper, to: target, &document)
        try commit(document, isChanged: true) { _ in }
        takeOver([toLower.layer, toUpper.layer])
        punch(portion, of: upper)
        toLower.writer.mirror()
        toUpper.writer.mirror()
        return portion.blocks * blockSize64
    }

    /// One step of a move into the live head, while it is written.
    ///
    /// In the lane, so no checkpoint writes the same places meanwhile. Writers know of the merge (`State.mergeSource`)
    /// and put blocks that the source holds into the journal, never straight into the image: their bytes reach it only
    /// with a checkpoint, whose records are durable. Blocks with records keep them: they override the map.
    ///
    /// The steps are those of `moveUp`, with the head's root in the super block.
    private func moveIntoHead(from source: Identifier) throws(StoreError) -> UInt64 {
        let lower = try layer(source)
        let portion = portion(of: lower)
        var document = state.withLock { $0.document }
        // A snapshot may be taken at any moment: the oldest tier is the head of the chain document all the same, until
        // a checkpoint seals it.
        let tier = state.withLock { $0.tiers[0] }
        invariant(tier.layer.identifier.description == document.head, "the oldest tier is not the head")
        if portion.leaves.isEmpty { return try retire(lower, document) }
        let head = tier.layer
        var (toHead, toLower) = try movePortion(portion, from: lower, to: head, &document)
        // The head's own root and count stand in the super block.
        guard let index = document.layers.firstIndex(where: { $0.uuid == document.head }) else {
            invariantFailed("the head is not in the chain")
        }
        let present = tier.present + document.layers[index].present
        document.layers[index].present = 0
        document.layers[index].root = "0"
        try commit(document, isChanged: true) { slot in
            slot.headRoot = toHead.layer.root
            slot.headPresent = present
        }
        state.withLock { _ in
            tier.commit(toHead.layer, changed: portion.leaves.map { $0.index })
            tier.present = present
        }
        takeOver([toLower.layer])
        punch(portion, of: lower)
        toHead.writer.mirror()
        toLower.writer.mirror()
        return portion.blocks * blockSize64
    }
}

/// Keeps long work at a rate.
struct Pacer {
    private let host: any Host
    private let rate: UInt64?
    private let waiter = Guarded(0)

    init(host: any Host, rate: UInt64?) {
        self.host = host
        self.rate = rate
    }

    /// Waits as long as `bytes` take at the rate.
    func pace(_ bytes: UInt64) {
        guard let rate, rate > 0 else { return }
        let nanoseconds = UInt64(Double(bytes) / Double(rate) * 1e9)
        let none: Bool? = waiter.wait(forNs: nanoseconds) { _ in nil }
        _ = none
    }
}

/// 64 MiB: what one step of a merge moves, and the room that it needs beside what the layers have.
private let mergeStepBlocks: UInt64 = 16384
